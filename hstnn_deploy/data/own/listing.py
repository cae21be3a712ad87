"""What lies in a folder of one's own: files, their classes, splits and groups. No file is opened but labels.csv.

    DIR/cat/1.png, DIR/dog/2.png                   a folder for each class
    DIR/train/cat/…, DIR/valid/…, DIR/test/…       the same in each split; valid (val) and test may lack
    DIR/labels.csv                                 file,label and perhaps split and group, a sample a line

A listing holds a name of some tens of bytes for each file and a few numbers; what it takes of a million is in
docs/own-data.md. Shapes: N files.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.own.files import place
from hstnn_deploy.data.own.labels import LABELS, read_labels
from hstnn_deploy.data.own.names import class_names, natural
from hstnn_deploy.data.own.parts import SAID, SPLITS, Samples, group_of
from hstnn_deploy.data.own.walk import (
    AGAIN_LISTED,
    MOST_FILES,
    Files,
    Tell,
    check_count,
    suffix,
    tell_linked,
    top,
    walk,
)
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, brief, visible

ARRAYS = frozenset({".npy"})


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
    """As in `parts.Samples`."""
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
        """Say which files are not samples, behind a semicolon; empty if all are."""
        links = self.left_out.get(AGAIN_LISTED, 0)
        again = f"; {links} links to folders that are listed already left out" if links else ""
        kinds = sorted((-number, end) for end, number in self.left_out.items() if end != AGAIN_LISTED)
        if not kinds:
            return again
        told = ", ".join(f"{-number} {visible(end) or 'without suffix'}" for number, end in kinds[:4])
        count = -sum(number for number, _ in kinds)
        return f"; {count} other file{'' if count == 1 else 's'} left out ({told}){again}"

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
        tell: told what would be refused, if the listing is to continue without it; None: it is refused.

    Raises:
        DataError: it is not there or empty; it says of a file not which class it has; one class only; an empty file; a
            list that is damaged or names what is not there; or too many files.
    """
    check_folder(folder)
    listed = _list_in(folder)
    if listed is None:
        return _by_folders(folder, suffixes, known, group, tell or _refuse)
    if listed != LABELS:
        error = DataError(f"{folder / listed} has the wrong name", f"rename it to {LABELS}")
        (tell or _refuse)(error, listed)
    return _by_list(folder / listed, suffixes, known, group, ignore, tell or _refuse)


def list_own(
    config: Any,
    suffixes: Collection[str],
    given: Path | None = None,
    known: Sequence[str] = (),
    tell: Tell | None = None,
) -> Listing:
    """Return the samples of a configuration whose samples are files; see `list_folder`.

    Args:
        config: which.
        suffixes: how the names of samples end.
        given: where the data has moved; see `files.place`.
        known: the names of classes that a network was trained on.
        tell: see `list_folder`.
    """
    ignore = config.unlabelled == "ignore"
    return list_folder(place(config, given), suffixes, known, config.split.group, ignore, tell)


def _list_in(folder: Path) -> str | None:
    """Return how the list of a folder is called, in whatever letters, or None."""
    if (folder / LABELS).is_file():
        return LABELS
    try:
        return min((path.name for path in folder.iterdir() if path.name.lower() == LABELS), default=None)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error


def check_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises:
        DataError: it is not there, or a file.
    """
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"your own data: {folder} {state}",
            "set data.path to it; if it has moved, give --data-dir DIR",
        )


def _refuse(error: DataError, _: str) -> None:
    raise error


def _by_folders(
    folder: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, tell: Tell
) -> Listing:
    tops, loose = top(folder)
    splits = {each: SAID[each.lower()] for each in tops if each.lower() in SAID}
    alone = len(splits) == len(tops) > 0
    if alone and 0 not in splits.values() and not known:
        raise DataError(
            f"{folder} contains {', '.join(splits)} but no train",
            f"put the training samples into {folder / 'train'}; if these are names of classes, write a {LABELS}",
        )
    if 0 in splits.values() or (alone and not splits.keys() & set(known)):
        for strange in (each for each in tops if each not in splits):
            error = DataError(
                f"{folder} contains {brief(strange)} next to its split folders {', '.join(splits)}",
                "remove it, or move it into one of them",
            )
            tell(error, strange)
        if len(set(splits.values())) < len(splits):
            raise DataError(f"{folder} contains {' and '.join(splits)}; two of them mean the same split", "keep one")
        places = [(f"{each}/", side) for each, side in splits.items()]
    else:
        places = [("", -1)]
    left_out: Counter[str] = Counter()
    files = Files()
    sides: list[int] = []
    owners: list[str] = []
    for start, side in places:
        classes, beside = top(folder / start) if start else (tops, loose)
        loose += [start + name for name in beside] if start else []
        for each in sorted(classes):
            count = len(files.names)
            for file in walk(folder, f"{start}{each}/", suffixes, left_out, tell):
                files.add(file)
                owners.append(each)
                sides.append(side)
                check_count(folder, len(files.names))
            if len(files.names) == count:
                error = DataError(
                    f"{folder / start / each} contains no {_kinds(suffixes)} file, but hstnn takes it as a class",
                    "remove it, or put its samples in",
                )
                tell(error, start + each)
    for name in loose:
        if suffix(name) in suffixes:
            error = DataError(
                f"{folder / name} is next to the folders of classes, so its class is unknown",
                f"put it into the folder of its class, or write {folder / LABELS} with the columns file and label",
            )
            tell(error, name)
            continue
        left_out[suffix(name)] += 1
    if not files.names:
        raise _empty(folder, suffixes, left_out)
    classes_ = _class_names(set(owners), folder, known, tell)
    order = {name: number for number, name in enumerate(classes_)}
    labels = np.fromiter((order[each] for each in owners), np.int32, len(owners))
    said = np.array(sides, np.int8) if places[0][1] >= 0 else None
    how = "subfolders of " + " and ".join(splits) if said is not None else "subfolders"
    there = range(len(files.names))
    return _ordered(folder, files, there, labels, classes_, said, None, group, left_out, how, tell)


def _class_names(found: Collection[str], where: Path, known: Sequence[str], tell: Tell) -> tuple[str, ...]:
    try:
        return class_names(found, where, known)
    except DataError as error:
        tell(error, "")
        return tuple(sorted(found, key=natural))


def _by_list(
    table: Path, suffixes: Collection[str], known: Sequence[str], group: str | None, ignore: bool, tell: Tell
) -> Listing:
    folder = table.parent
    rows = read_labels(table, MOST_FILES)
    left_out: Counter[str] = Counter()
    files = Files()
    for file in walk(folder, "", suffixes, left_out, tell, table.name):
        if file.name != table.name:
            files.add(file)
    there = {name: number for number, name in enumerate(files.names)}
    check_count(folder, len(there))
    absent = [number for number, name in enumerate(rows.files) if name not in there]
    for number in absent:
        name = rows.files[number]
        there_, end = (folder / name).exists(), suffix(name)
        what = f"which is no {_kinds(suffixes)} file ({end or 'no suffix'})" if there_ else "which does not exist"
        error = DataError(
            f"{table}: line {rows.lines[number]} names {brief(name)}, {what}",
            "the column file has paths relative to the list's folder; remove the line, or put the file there",
        )
        tell(error, name)
    if absent:
        rows = rows.without(absent)
    if len(rows.files) < len(there):
        spare = sorted(there.keys() - set(rows.files))
        if not ignore:
            error = DataError(
                f"{table} does not give the class of {brief(spare[0])} ({len(spare)} files without a label)",
                "add lines for them, remove them, or ignore them: --set data.unlabelled=ignore",
            )
            tell(error, spare[0])
        for name in spare:
            left_out[suffix(name)] += 1
    if not rows.files:
        raise _empty(folder, suffixes, left_out)
    classes = _class_names(set(rows.labels), table, known, tell)
    order = {name: number for number, name in enumerate(classes)}
    labels = np.fromiter((order[each] for each in rows.labels), np.int32, len(rows.labels))
    split = None if rows.splits is None else np.array(rows.splits, np.int8)
    if split is None:
        _check_no_splits(table, rows.files, tell)
    named = [there[name] for name in rows.files]
    by_name = group if rows.groups is None else None
    return _ordered(folder, files, named, labels, classes, split, rows.groups, by_name, left_out, LABELS, tell)


def _check_no_splits(table: Path, names: Sequence[str], tell: Tell) -> None:
    """Tell of a list without splits of files that lie in split folders: which of the two is meant is not clear."""
    tops = {name.partition("/")[0] for name in names}
    splits = sorted(each for each in tops if each.lower() in SAID)
    if len(splits) == len(tops) > 1:
        error = DataError(
            f"{table} has no column split, and its files lie in {', '.join(splits)}",
            "add the column split: train, valid or test; or rename these folders, to draw the splits instead",
        )
        tell(error, "")


def _ordered(
    folder: Path,
    files: Files,
    places: Sequence[int],
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
    names = [files.names[number] for number in places]
    order = sorted(range(len(names)), key=names.__getitem__)
    sizes = files.sizes(np.asarray(places, np.int64))
    for number in (number for number in order if sizes[number] == 0):
        tell(DataError(f"{folder / names[number]} is empty", f"{AGAIN}, or remove it"), names[number])
    order = [number for number in order if sizes[number]]
    sorted_split = None if split is None else split[order]
    tell_linked(folder, files, np.asarray(places, np.int64)[order], labels[order], sorted_split, tell)
    sorted_names = [names[number] for number in order]
    found = None if groups is None else [groups[number] for number in order]
    if group is not None:
        found = [_group_of(name, group, tell) for name in sorted_names]
    return Listing(
        folder,
        sorted_names,
        sizes[order],
        labels[order],
        classes,
        sorted_split,
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


def _kinds(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def _empty(folder: Path, suffixes: Collection[str], left_out: Mapping[str, int]) -> DataError:
    others = ", ".join(f"{count} {end or 'without suffix'}" for end, count in sorted(left_out.items())[:6])
    return DataError(
        f"{folder} contains no {_kinds(suffixes)} file"
        + (f"; it contains {visible(others)}" if others else ": it is empty"),
        "give a folder with a folder of samples for each class, or with labels.csv",
    )


def counts(listing: Listing, parts: Mapping[str, NDArray[np.int64]]) -> dict[str, list[int]]:
    """Return how many samples of each class each split has."""
    return {name: np.bincount(listing.labels[parts[name]], minlength=len(listing.classes)).tolist() for name in SPLITS}
