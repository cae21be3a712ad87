"""What lies in a folder of one's own: files, their classes, splits and groups. No file is opened but labels.csv.

    DIR/cat/1.png, DIR/dog/2.png                   a folder for each class
    DIR/train/cat/…, DIR/valid/…, DIR/test/…       the same in each split; valid (val) and test may lack
    DIR/labels.csv                                 file,label and perhaps split and group, a sample a line

A listing holds a name of some tens of bytes for each file and a few numbers; what it takes of a million is in
docs/own-data.md. Shapes: N files.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.own.labels import LABELS, read_labels
from hstnn_deploy.data.own.names import class_names, natural
from hstnn_deploy.data.own.parts import SAID, SPLITS, Samples, group_of
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, brief, visible

Tell = Callable[[DataError, str], None]
"""Is told what is wrong with one file or class, and its name; the listing then goes on without it."""

MOST_FILES = 5_000_000
"""Files of a folder at most."""

AGAIN_LISTED = "folders that a link leads back to"
"""What `Listing.left_out` calls folders that were listed already."""

_DEEPEST = 10
"""Folders within folders."""

IMAGES = frozenset({".png", ".jpg", ".jpeg"})
ARRAYS = frozenset({".npy"})
_OTHER_IMAGES = frozenset({".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".heic", ".ppm", ".pgm"})


class File(NamedTuple):
    """A file as a folder lists it."""

    name: str
    """Its path below the folder that is listed, with / between its parts."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Listing:
    """The samples of a folder, in order of their names."""

    folder: Path
    names: Sequence[str]
    """[N], with / between their parts."""
    sizes: NDArray[np.int64]
    """Bytes, [N]."""
    labels: NDArray[np.int32]
    """The class of each, [N]."""
    classes: tuple[str, ...]
    split: NDArray[np.int8] | None
    """See `parts.Samples`."""
    groups: Sequence[str] | None
    left_out: Mapping[str, int]
    """Files that are no samples, by how their names end."""
    how: str
    """What says the classes, in words."""

    def path(self, number: int) -> Path:
        """Return the file of a sample."""
        return self.folder / self.names[number]

    @property
    def paths(self) -> Iterator[Path]:
        """The files of all samples."""
        return (self.folder / name for name in self.names)

    @property
    def samples(self) -> Samples:
        """What is known of the samples before they are divided."""
        return Samples(
            self.labels, self.classes, lambda number: self.names[number], self.split, self.groups, self.folder
        )

    @property
    def digest(self) -> str:
        """The SHA-256 of names, sizes, classes, splits and groups."""
        found = hashlib.sha256()
        for number, name in enumerate(self.names):
            split = -1 if self.split is None else int(self.split[number])
            group = "" if self.groups is None else self.groups[number]
            label = self.classes[self.labels[number]]
            line = f"{name}\n{self.sizes[number]} {split} {label}\n{group}\n"
            found.update(line.encode("utf-8", "surrogateescape"))
        return found.hexdigest()


def list_folder(
    folder: Path,
    suffixes: Collection[str],
    known: Sequence[str] = (),
    group: str | None = None,
    ignore: bool = False,
    tell: Tell | None = None,
) -> Listing:
    """Return the samples of a folder.

    Args:
        folder: which.
        suffixes: how the names of samples end, in small letters; others are left out and counted.
        known: the names of classes that a network was trained on; none: those found.
        group: the text up to which a name says its group; None: none, or as labels.csv says.
        ignore: whether files that labels.csv does not name are left out, instead of being refused.
        tell: told what would be refused, where the listing is to go on without it; None: it is refused.

    Raises:
        DataError: it is not there or empty; it says of a file not which class it has; one class only; an empty file; a
            list that is damaged or names what is not there; or too many files.
    """
    check_folder(folder)
    if (folder / LABELS).is_file():
        return _by_list(folder, suffixes, known, group, ignore, tell or _refuse)
    return _by_folders(folder, suffixes, known, group, tell or _refuse)


def check_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises:
        DataError: it is not there, or a file.
    """
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"the folder of your own data {folder} {state}",
            "data.path says where it is; --data-dir DIR says so where it has moved",
        )


def _refuse(error: DataError, _: str) -> None:
    raise error


def _by_folders(
    folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, tell: Tell
) -> Listing:
    tops, loose = _top(folder)
    splits = {top: SAID[top.lower()] for top in tops if top.lower() in SAID}
    if 0 in splits.values():
        for strange in (top for top in tops if top not in splits):
            error = DataError(
                f"{folder} holds {brief(strange)} beside its split folders {', '.join(splits)}",
                "take it out, or bring it into one of them",
            )
            tell(error, strange)
        if len(set(splits.values())) < len(splits):
            raise DataError(f"{folder} holds {' and '.join(splits)}, two of which mean the same split", "keep one")
        places = [(f"{top}/", place) for top, place in splits.items()]
    else:
        places = [("", -1)]
    left_out: Counter[str] = Counter()
    names: list[str] = []
    sizes: list[int] = []
    sides: list[int] = []
    owners: list[str] = []
    for start, side in places:
        classes, beside = _top(folder / start) if start else (tops, loose)
        loose += [start + name for name in beside] if start else []
        for each in sorted(classes):
            count = len(names)
            for file in _walk(folder, f"{start}{each}/", suffixes, left_out, tell):
                names.append(file.name)
                sizes.append(file.size)
                owners.append(each)
                sides.append(side)
                _check_count(folder, len(names))
            if len(names) == count:
                error = DataError(
                    f"{folder / start / each} holds no {_kinds(suffixes)} file, and is taken as the folder of a class",
                    "take it out, or put its samples in",
                )
                tell(error, start + each)
    for name in loose:
        if _suffix(name) in suffixes:
            error = DataError(
                f"{folder / name} lies beside the folders of classes, so nothing says which class it has",
                f"put it into a folder of its class, or write {folder / LABELS} with the columns file and label",
            )
            tell(error, name)
            continue
        left_out[_suffix(name)] += 1
    if not names:
        raise _empty(folder, suffixes, left_out)
    classes_ = _class_names(set(owners), folder, known, tell)
    place = {name: number for number, name in enumerate(classes_)}
    labels = np.fromiter((place[each] for each in owners), np.int32, len(owners))
    said = np.array(sides, np.int8) if places[0][1] >= 0 else None
    how = "subfolders of " + " and ".join(splits) if said is not None else "subfolders"
    return _ordered(folder, names, sizes, labels, classes_, said, None, group, left_out, how, tell)


def _class_names(found: Collection[str], where: Path, known: Sequence[str], tell: Tell) -> tuple[str, ...]:
    try:
        return class_names(found, where, known)
    except DataError as error:
        tell(error, "")
        return tuple(sorted(found, key=natural))


def _by_list(
    folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, ignore: bool, tell: Tell
) -> Listing:
    table = folder / LABELS
    rows = read_labels(table, MOST_FILES)
    left_out: Counter[str] = Counter()
    there = {file.name: file.size for file in _walk(folder, "", suffixes, left_out, tell) if file.name != LABELS}
    _check_count(folder, len(there))
    absent = [number for number, name in enumerate(rows.files) if name not in there]
    for number in absent:
        name = rows.files[number]
        there_, suffix = (folder / name).exists(), _suffix(name)
        what = f"which is no {_kinds(suffixes)} file ({suffix or 'no suffix'})" if there_ else "which is not there"
        error = DataError(
            f"{table}: line {rows.lines[number]} names {brief(name)}, {what}",
            "the column file says paths below the folder of the list; take the line out, or put the file there",
        )
        tell(error, name)
    if absent:
        rows = rows.without(absent)
    if len(rows.files) < len(there):
        spare = sorted(there.keys() - set(rows.files))
        if not ignore:
            error = DataError(
                f"{table} does not say which class {brief(spare[0])} has ({len(spare)} files without a label)",
                "add lines for them, take them out, or leave them out: --set data.unlabelled=ignore",
            )
            tell(error, spare[0])
        for name in spare:
            left_out[_suffix(name)] += 1
    if not rows.files:
        raise _empty(folder, suffixes, left_out)
    classes = _class_names(set(rows.labels), table, known, tell)
    place = {name: number for number, name in enumerate(classes)}
    labels = np.fromiter((place[each] for each in rows.labels), np.int32, len(rows.labels))
    split = None if rows.splits is None else np.array(rows.splits, np.int8)
    sizes = [there[name] for name in rows.files]
    return _ordered(
        folder, rows.files, sizes, labels, classes, split, rows.groups, group if rows.groups is None else None,
        left_out, LABELS, tell,
    )  # fmt: skip


def _ordered(
    folder: Path,
    names: Sequence[str],
    sizes: Sequence[int],
    labels: NDArray[np.int32],
    classes: tuple[str, ...],
    split: NDArray[np.int8] | None,
    groups: Sequence[str] | None,
    group: str | None,
    left_out: Mapping[str, int],
    how: str,
    tell: Tell,
) -> Listing:
    """Return a listing in order of names, whatever order the disk had."""
    order = sorted(range(len(names)), key=names.__getitem__)
    for number in (number for number in order if sizes[number] == 0):
        tell(DataError(f"{folder / names[number]} is empty", f"{AGAIN}, or take it out"), names[number])
    order = [number for number in order if sizes[number]]
    sorted_names = [names[number] for number in order]
    found = None if groups is None else [groups[number] for number in order]
    if group is not None:
        found = [_group_of(name, group, tell) for name in sorted_names]
    return Listing(
        folder,
        sorted_names,
        np.array(sizes, np.int64)[order],
        labels[order],
        classes,
        None if split is None else split[order],
        found,
        dict(left_out),
        how,
    )


def _group_of(name: str, text: str, tell: Tell) -> str:
    try:
        return group_of(name, text)
    except DataError as error:
        tell(error, name)
        return ""


def _top(folder: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files that lie in a folder, hidden ones left out."""
    folders, loose = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _hidden(entry.name):
                    continue
                (folders if _is_folder(entry) else loose).append(entry.name)
                _check_count(folder, len(loose))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(folders, key=natural), loose


def _walk(folder: Path, start: str, suffixes: Collection[str], left_out: Counter[str], tell: Tell) -> Iterator[File]:
    """Yield the samples below a folder of the folder, none twice where links lead back; others are counted."""
    # A link to a folder above would bring all other classes into this one.
    above = [folder / part for part in ("", *(start[:at] for at, letter in enumerate(start[:-1]) if letter == "/"))]
    seen = {(status.st_dev, status.st_ino) for status in (each.stat() for each in above)} if start else set()
    waiting = [(start, 0)]
    while waiting:
        below, depth = waiting.pop()
        try:
            status = (folder / below).stat()
            if (status.st_dev, status.st_ino) in seen:
                left_out[AGAIN_LISTED] += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            if depth > _DEEPEST:
                error = DataError(f"{folder / below} lies more than {_DEEPEST} folders deep", "bring its files up")
                tell(error, below)
                continue
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if _is_folder(entry):
                        waiting.append((f"{below}{entry.name}/", depth + 1))
                        continue
                    suffix = _suffix(entry.name)
                    if suffix in suffixes:
                        if (size := _size(entry, below, tell)) is not None:
                            yield File(below + entry.name, size)
                    elif suffix in _OTHER_IMAGES and suffixes == IMAGES:
                        error = DataError(f"{folder / below / entry.name} is no PNG or JPEG image", "save it as .png")
                        tell(error, below + entry.name)
                    elif entry.name != LABELS:
                        left_out[suffix] += 1
        except OSError as error:
            tell(
                DataError(f"{folder / below} cannot be read: {error.strerror}", "take it out, or mend its rights"),
                below,
            )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _size(entry: "os.DirEntry[str]", below: str, tell: Tell) -> int | None:
    try:
        return entry.stat().st_size
    except OSError as error:
        state = "leads nowhere, or was just now removed" if isinstance(error, FileNotFoundError) else error.strerror
        tell(DataError(f"{entry.path} {state}", "take it out"), below + entry.name)
        return None


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in {"thumbs.db", "desktop.ini"}


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a million names


def _check_count(folder: Path, count: int) -> None:
    if count > MOST_FILES:
        raise DataError(f"{folder} holds more than {MOST_FILES} files", "train on a part of them")


def _kinds(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def _empty(folder: Path, suffixes: Collection[str], left_out: Mapping[str, int]) -> DataError:
    others = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(left_out.items())[:6])
    return DataError(
        f"{folder} holds no {_kinds(suffixes)} file" + (f"; it holds {visible(others)}" if others else ": it is empty"),
        "give a folder with a folder of samples for each class, or with labels.csv",
    )


def counts(listing: Listing, parts: Mapping[str, NDArray[np.int64]]) -> dict[str, list[int]]:
    """Return how many samples of each class each split has."""
    return {name: np.bincount(listing.labels[parts[name]], minlength=len(listing.classes)).tolist() for name in SPLITS}
