"""The files of a folder of one's own, as a system lists them: names, sizes, and which of them are one file.

No file is opened. A folder that a link leads back to is listed once.
"""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.own.labels import LABELS
from hstnn_deploy.data.own.names import natural
from hstnn_deploy.errors import DataError

Tell = Callable[[DataError, str], None]
"""Is told what is wrong with one file or class, and its name; the listing then continues, if it can without it."""

MOST_FILES = 5_000_000
"""Files of a folder at most."""

AGAIN_LISTED = "folders that a link leads back to"
"""What `Listing.left_out` calls folders that were listed already."""

IMAGES = frozenset({".png", ".jpg", ".jpeg"})
_OTHER_IMAGES = frozenset({".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".heic", ".ppm", ".pgm"})

_DEEPEST = 10
"""Folders within folders."""


class File(NamedTuple):
    """A file as a folder lists it."""

    name: str
    """Its path below the folder that is listed, with / between its parts."""
    size: int
    """Bytes."""
    device: int
    inode: int
    """What tells the file from others, whatever it is called; 0 where the system does not say."""


class Files:
    """Files of a folder, kept in little memory."""

    def __init__(self) -> None:
        """Begin without any."""
        self.names: list[str] = []
        self._sizes, self._devices, self._inodes = array("Q"), array("Q"), array("Q")

    def add(self, file: File) -> None:
        """Keep one more."""
        self.names.append(file.name)
        self._sizes.append(file.size)
        self._devices.append(file.device)
        self._inodes.append(file.inode)

    def sizes(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bytes of those at some places."""
        return np.frombuffer(self._sizes, np.uint64)[places].astype(np.int64)

    def linked(self, places: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield two that are one file, each by its number in `places`, those first that come first there."""
        devices, inodes = (np.frombuffer(each, np.uint64)[places] for each in (self._devices, self._inodes))
        order = np.lexsort((inodes, devices))  # stable: files that are one stay in the order of places
        twice = (np.diff(inodes[order]) == 0) & (np.diff(devices[order]) == 0) & (inodes[order][1:] != 0)
        one, other = order[:-1][twice], order[1:][twice]
        first = np.argsort(one)
        yield from zip(one[first].tolist(), other[first].tolist(), strict=True)


def tell_linked(
    folder: Path,
    files: Files,
    places: NDArray[np.int64],
    labels: NDArray[np.int32],
    split: NDArray[np.int8] | None,
    tell: Tell,
) -> None:
    """Tell of a file that links bring to two classes, or may bring to two splits.

    Args:
        folder: the folder that is listed.
        files: what lies there.
        places: the samples among these, [N].
        labels: their classes, [N].
        split: their splits, [N]; None: splits are drawn.
        tell: is told once, of the first two.
    """
    drawn = split is None or not {1, 2} <= set(np.unique(split).tolist())
    wrong, count = ("", ""), 0
    for one, other in files.linked(places):
        alike = labels[one] == labels[other] and split is not None and split[one] == split[other]
        if not alike or split is None or (drawn and split[one] == 0):
            wrong = wrong if count else (files.names[places[one]], files.names[places[other]])
            count += 1
    if count:
        more = f" ({count} pairs are)" if count > 1 else ""
        error = DataError(
            f"{folder / wrong[0]} and {folder / wrong[1]} are links to the same file{more}",
            "the sample would be in two classes, or in train and test: keep one of them",
        )
        tell(error, wrong[1])


def top(folder: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files that lie in a folder, hidden ones left out.

    Raises:
        DataError: it cannot be read, or holds too many files.
    """
    folders, loose = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _hidden(entry.name):
                    continue
                (folders if _is_folder(entry) else loose).append(entry.name)
                check_count(folder, len(loose))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error
    return sorted(folders, key=natural), loose


def walk(
    folder: Path,
    start: str,
    suffixes: Collection[str],
    left_out: Counter[str],
    tell: Tell,
    besides: str = LABELS,
) -> Iterator[File]:
    """Yield the samples below a folder of a folder, none twice where links lead back; others are counted.

    Args:
        folder: the folder that is listed.
        start: where in it, with / at its end; "" for all of it.
        suffixes: how the names of samples end, in small letters.
        left_out: how many others there are, by suffix; is added to.
        tell: told what is wrong with a file or folder.
        besides: the name of the list, which is no sample and not left out.
    """
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
                error = DataError(f"{folder / below} is more than {_DEEPEST} folders deep", "move its files up")
                tell(error, below)
                continue
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if _is_folder(entry):
                        waiting.append((f"{below}{entry.name}/", depth + 1))
                        continue
                    end = suffix(entry.name)
                    if end in suffixes:
                        if (file := _file(entry, below, tell)) is not None:
                            yield file
                    elif end in _OTHER_IMAGES and suffixes == IMAGES:
                        error = DataError(
                            f"{folder / below / entry.name} is not a PNG or JPEG image", "save it as .png"
                        )
                        tell(error, below + entry.name)
                    elif entry.name != besides:
                        left_out[end] += 1
        except OSError as error:
            tell(
                DataError(f"cannot read {folder / below}: {error.strerror}", "remove it, or fix its permissions"),
                below,
            )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _file(entry: "os.DirEntry[str]", below: str, tell: Tell) -> File | None:
    try:
        status = entry.stat()
    except OSError as error:
        state = "leads nowhere, or was just removed" if isinstance(error, FileNotFoundError) else error.strerror
        tell(DataError(f"{entry.path} {state}", "remove it"), below + entry.name)
        return None
    return File(below + entry.name, status.st_size, status.st_dev, status.st_ino)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in {"thumbs.db", "desktop.ini"}


def suffix(name: str) -> str:
    """Return how a name ends, in small letters."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a million names


def check_count(folder: Path, count: int) -> None:
    """Refuse more than `MOST_FILES`.

    Raises:
        DataError: there are more.
    """
    if count > MOST_FILES:
        raise DataError(f"{folder} contains more than {MOST_FILES} files", "train on a part of them")
