"""What lies in a folder of one's own: files, their classes, splits and groups. No file is opened but labels.csv.

    DIR/cat/1.png, DIR/dog/2.png                   a folder for each class
    DIR/train/cat/…, DIR/valid/…, DIR/test/…       the same in each split; valid (val) and test may lack
    DIR/labels.csv                                 file,label and perhaps split and group, a sample a line

A listing holds a name of some tens of bytes for each file and a few numbers; what it takes of a million is in
docs/own-data.md. Shapes: N files.
"""

import hashlib
import os
from array import array
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
    device: int
    inode: int
    """What tells the file from others, whatever it is called; 0 where the system does not say."""


class _Files:
    """Files of a folder, kept in little memory."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sizes, self.devices, self.inodes = array("Q"), array("Q"), array("Q")

    def add(self, file: File) -> None:
        self.names.append(file.name)
        self.sizes.append(file.size)
        self.devices.append(file.device)
        self.inodes.append(file.inode)


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
    def beside(self) -> str:
        """Say which files are no samples, behind a semicolon; empty where there are none."""
        if not (count := sum(self.left_out.values())):
            return ""
        kinds = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))[:4]
        told = ", ".join(f"{number} {visible(suffix) or 'without suffix'}" for suffix, number in kinds)
        return f"; {count} other files left out ({told})"

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
    listed = _list_in(folder)
    if listed is not None and listed != LABELS:
        raise DataError(f"{folder / listed} is not read under this name", f"call it {LABELS}")
    if listed:
        return _by_list(folder, suffixes, known, group, ignore)
    return _by_folders(folder, suffixes, known, group)


def _list_in(folder: Path) -> str | None:
    """Return how the list of a folder is called, in whatever letters, or None."""
    if (folder / LABELS).is_file():
        return LABELS
    try:
        return min((path.name for path in folder.iterdir() if path.name.lower() == LABELS), default=None)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


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
    if splits and 0 not in splits.values() and len(splits) == len(tops) and not known:
        raise DataError(
            f"{folder} holds {', '.join(splits)} and no train",
            f"bring what is to be trained on into {folder / 'train'}; of classes that are called so, write a {LABELS}",
        )
    if 0 in splits.values() or (known and splits and len(splits) == len(tops) and not splits.keys() & set(known)):
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
    files = _Files()
    sides: list[int] = []
    owners: list[str] = []
    for start, side in places:
        classes, beside = _top(folder / start)
        loose += [start + name for name in beside] if start else []
        for each in sorted(classes):
            count = len(files.names)
            for file in _walk(folder, f"{start}{each}/", suffixes, left_out):
                files.add(file)
                owners.append(each)
                sides.append(side)
                _check_count(folder, len(files.names))
            if len(files.names) == count:
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
    if not files.names:
        raise _empty(folder, suffixes, left_out)
    classes_ = class_names(set(owners), folder, known)
    place = {name: number for number, name in enumerate(classes_)}
    labels = np.fromiter((place[each] for each in owners), np.int32, len(owners))
    said = np.array(sides, np.int8) if places[0][1] >= 0 else None
    how = "subfolders of " + " and ".join(splits) if said is not None else "subfolders"
    places_ = range(len(files.names))
    return _ordered(folder, files, places_, labels, classes_, said, None, group, left_out, how)


def _by_list(folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, ignore: bool) -> Listing:
    table = folder / LABELS
    rows = read_labels(table, MOST_FILES)
    left_out: Counter[str] = Counter()
    files = _Files()
    for file in _walk(folder, "", suffixes, left_out):
        if file.name != LABELS:
            files.add(file)
    there = {name: number for number, name in enumerate(files.names)}
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
    if split is None:
        _check_no_splits(table, rows.files)
    named = [there[name] for name in rows.files]
    by_name = group if rows.groups is None else None
    return _ordered(folder, files, named, labels, classes, split, rows.groups, by_name, left_out, LABELS)


def _check_no_splits(table: Path, names: Sequence[str]) -> None:
    """Refuse a list without splits of files that lie in split folders: which of the two is meant is not clear."""
    tops = {name.partition("/")[0] for name in names}
    splits = sorted(top for top in tops if top.lower() in SAID)
    if len(splits) == len(tops) > 1:
        raise DataError(
            f"{table} has no column split, and its files lie in {', '.join(splits)}",
            "add the column split: train, valid or test; or rename these folders, if splits are to be drawn",
        )


def _ordered(
    folder: Path,
    files: _Files,
    places: Sequence[int],
    labels: NDArray[np.int32],
    classes: tuple[str, ...],
    split: NDArray[np.int8] | None,
    groups: Sequence[str] | None,
    group: str | None,
    left_out: Mapping[str, int],
    how: str,
) -> Listing:
    """Return a listing in order of names, whatever order the disk had."""
    names = [files.names[place] for place in places]
    order = sorted(range(len(names)), key=names.__getitem__)
    sizes, devices, inodes = (
        np.frombuffer(each, np.uint64)[np.asarray(places)] for each in (files.sizes, files.devices, files.inodes)
    )
    if (empty := next((number for number in order if sizes[number] == 0), None)) is not None:
        raise DataError(f"{folder / names[empty]} is empty", f"{AGAIN}, or take it out")
    _check_once(folder, names, devices, inodes, labels, split)
    sorted_names = [names[number] for number in order]
    found = None if groups is None else [groups[number] for number in order]
    if group is not None:
        found = [group_of(name, group) for name in sorted_names]
    return Listing(
        folder,
        sorted_names,
        sizes.astype(np.int64)[order],
        labels[order],
        classes,
        None if split is None else split[order],
        found,
        dict(left_out),
        how,
    )


def _check_once(
    folder: Path,
    names: Sequence[str],
    devices: NDArray[np.uint64],
    inodes: NDArray[np.uint64],
    labels: NDArray[np.int32],
    split: NDArray[np.int8] | None,
) -> None:
    """Refuse a file that links bring to two classes, or may bring to two splits."""
    order = np.lexsort((inodes, devices))
    twice = (np.diff(inodes[order]) == 0) & (np.diff(devices[order]) == 0) & (inodes[order][1:] != 0)
    drawn = split is None or not {1, 2} <= set(np.unique(split).tolist())
    wrong: tuple[str, ...] = ()
    for place in np.flatnonzero(twice).tolist():
        one, other = int(order[place]), int(order[place + 1])
        alike = labels[one] == labels[other] and split is not None and split[one] == split[other]
        if not alike or split is None or (drawn and split[one] == 0):
            pair = tuple(sorted((names[one], names[other])))
            wrong = min(wrong or pair, pair)  # whatever order the disk had
    if wrong:
        raise DataError(
            f"{folder / wrong[0]} and {folder / wrong[1]} are links to one file",
            "it would be of two classes, or train and test: keep one of them",
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
                        yield _file(below + entry.name, entry)
                    elif suffix in _OTHER_IMAGES and suffixes == IMAGES:
                        raise DataError(f"{folder / below / entry.name} is no PNG or JPEG image", "save it as .png")
                    elif entry.name != LABELS:
                        left_out[suffix] += 1
        except OSError as error:
            raise DataError(f"{folder / below} cannot be read: {error.strerror}") from error


def _file(name: str, entry: "os.DirEntry[str]") -> File:
    try:
        status = entry.stat()
        return File(name, status.st_size, status.st_dev, status.st_ino)
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
