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
from collections.abc import Collection, Iterator, Mapping, Sequence
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

MOST_FILES = 5_000_000
"""Files of a folder at most."""

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
) -> Listing:
    """Return the samples of a folder.

    Args:
        folder: which.
        suffixes: how the names of samples end, in small letters; others are left out and counted.
        known: the names of classes that a network was trained on; none: those found.
        group: the text up to which a name says its group; None: none, or as labels.csv says.
        ignore: whether files that labels.csv does not name are left out, instead of being refused.

    Raises:
        DataError: it is not there or empty; it says of a file not which class it has; one class only; an empty file; a
            list that is damaged or names what is not there; or too many files.
    """
    check_folder(folder)
    if (folder / LABELS).is_file():
        return _by_list(folder, suffixes, known, group, ignore)
    return _by_folders(folder, suffixes, known, group)


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


def _by_folders(folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None) -> Listing:
    tops, loose = _top(folder)
    splits = {top: SAID[top.lower()] for top in tops if top.lower() in SAID}
    if 0 in splits.values():
        if strange := [top for top in tops if top not in splits]:
            raise DataError(
                f"{folder} holds {brief(strange[0])} beside its split folders {', '.join(splits)}",
                "take it out, or bring it into one of them",
            )
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
        classes, beside = _top(folder / start)
        loose += [start + name for name in beside] if start else []
        for each in sorted(classes):
            count = len(names)
            for file in _walk(folder, f"{start}{each}/", suffixes, left_out):
                names.append(file.name)
                sizes.append(file.size)
                owners.append(each)
                sides.append(side)
                _check_count(folder, len(names))
            if len(names) == count:
                raise DataError(
                    f"{folder / start / each} holds no {_kinds(suffixes)} file, and is taken as the folder of a class",
                    "take it out, or put its samples in",
                )
    for name in loose:
        if _suffix(name) in suffixes:
            raise DataError(
                f"{folder / name} lies beside the folders of classes, so nothing says which class it has",
                f"put it into a folder of its class, or write {folder / LABELS} with the columns file and label",
            )
        left_out[_suffix(name)] += 1
    if not names:
        raise _empty(folder, suffixes, left_out)
    classes_ = class_names(set(owners), folder, known)
    place = {name: number for number, name in enumerate(classes_)}
    labels = np.fromiter((place[each] for each in owners), np.int32, len(owners))
    said = np.array(sides, np.int8) if places[0][1] >= 0 else None
    how = "subfolders of " + " and ".join(splits) if said is not None else "subfolders"
    return _ordered(folder, names, sizes, labels, classes_, said, None, group, left_out, how)


def _by_list(folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, ignore: bool) -> Listing:
    table = folder / LABELS
    rows = read_labels(table, MOST_FILES)
    left_out: Counter[str] = Counter()
    there = {file.name: file.size for file in _walk(folder, "", suffixes, left_out) if file.name != LABELS}
    _check_count(folder, len(there))
    absent = next((number for number, name in enumerate(rows.files) if name not in there), None)
    if absent is not None:
        name = rows.files[absent]
        there_, suffix = (folder / name).exists(), _suffix(name)
        what = f"which is no {_kinds(suffixes)} file ({suffix or 'no suffix'})" if there_ else "which is not there"
        raise DataError(
            f"{table}: line {rows.lines[absent]} names {brief(name)}, {what}",
            "the column file says paths below the folder of the list; take the line out, or put the file there",
        )
    if len(rows.files) < len(there):
        spare = sorted(there.keys() - set(rows.files))
        if not ignore:
            raise DataError(
                f"{table} does not say which class {brief(spare[0])} has ({len(spare)} files without a label)",
                "add lines for them, take them out, or leave them out: --set data.unlabelled=ignore",
            )
        for name in spare:
            left_out[_suffix(name)] += 1
    if not rows.files:
        raise _empty(folder, suffixes, left_out)
    classes = class_names(set(rows.labels), table, known)
    place = {name: number for number, name in enumerate(classes)}
    labels = np.fromiter((place[each] for each in rows.labels), np.int32, len(rows.labels))
    split = None if rows.splits is None else np.array(rows.splits, np.int8)
    sizes = [there[name] for name in rows.files]
    return _ordered(
        folder, rows.files, sizes, labels, classes, split, rows.groups, group if rows.groups is None else None,
        left_out, LABELS,
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
) -> Listing:
    """Return a listing in order of names, whatever order the disk had."""
    order = sorted(range(len(names)), key=names.__getitem__)
    if (empty := next((number for number in order if sizes[number] == 0), None)) is not None:
        raise DataError(f"{folder / names[empty]} is empty", f"{AGAIN}, or take it out")
    sorted_names = [names[number] for number in order]
    found = None if groups is None else [groups[number] for number in order]
    if group is not None:
        found = [group_of(name, group) for name in sorted_names]
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


def _top(folder: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files that lie in a folder, hidden ones left out."""
    folders, loose = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _hidden(entry.name):
                    continue
                (folders if entry.is_dir() else loose).append(entry.name)
                _check_count(folder, len(loose))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(folders, key=natural), loose


def _walk(folder: Path, start: str, suffixes: Collection[str], left_out: Counter[str]) -> Iterator[File]:
    """Yield the samples below a folder of the folder, none twice where links lead back; others are counted."""
    seen: set[tuple[int, int]] = set()
    waiting = [(start, 0)]
    while waiting:
        below, depth = waiting.pop()
        try:
            status = (folder / below).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if depth > _DEEPEST:
                raise DataError(f"{folder / below} lies more than {_DEEPEST} folders deep", "bring its files up")
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if entry.is_dir():
                        waiting.append((f"{below}{entry.name}/", depth + 1))
                        continue
                    suffix = _suffix(entry.name)
                    if suffix in suffixes:
                        yield File(below + entry.name, _size(entry))
                    elif suffix in _OTHER_IMAGES and suffixes == IMAGES:
                        raise DataError(f"{folder / below / entry.name} is no PNG or JPEG image", "save it as .png")
                    elif entry.name != LABELS:
                        left_out[suffix] += 1
        except OSError as error:
            raise DataError(f"{folder / below} cannot be read: {error.strerror}") from error


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"{entry.path} leads nowhere, or was just now removed", "take it out") from error


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
