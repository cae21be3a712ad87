"""labels.csv: a list of samples, their classes, and perhaps their splits and groups.

file,label,split,group
takes/s01_wave.aedat4,wave,train,s01
"""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from hstnn_deploy.data.own.parts import SAID
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief, reading

LABELS = "labels.csv"

_Value = TypeVar("_Value")

_KNOWN = ("file", "label", "split", "group")
_NAMES = {"filename": "file", "path": "file", "class": "label", "subject": "group"}
"""Other names of the columns."""
_LARGEST = 2**31
"""Bytes of the list at most."""
_LINE = 2**16


class Rows(NamedTuple):
    """The lines of a list."""

    files: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[int] | None
    """The split of each line as in `parts.Samples`; None if there is no such column."""
    groups: Sequence[str] | None
    lines: Sequence[int]
    """The number of each line in the file."""

    def without(self, numbers: Collection[int]) -> "Rows":
        """Return the lines but for some, by their place in these."""
        gone = set(numbers)

        def kept(values: Sequence[_Value]) -> list[_Value]:
            return [value for place, value in enumerate(values) if place not in gone]

        return Rows(
            kept(self.files),
            kept(self.labels),
            None if self.splits is None else kept(self.splits),
            None if self.groups is None else kept(self.groups),
            kept(self.lines),
        )


def read_labels(path: Path, most: int) -> Rows:
    """Return the lines of a list.

    Args:
        path: the list.
        most: lines at most.

    Raises:
        DataError: it is damaged, lacks a column, or a line lacks a value, names a file for the second time or one
            outside of the folder, or gives a number with fractions where a class is to be.
    """
    files: dict[str, int] = {}
    labels, groups = list[str](), list[str]()
    splits, lines = list[int](), list[int]()
    with reading(path, "a list of files and labels"):
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST} bytes")
        with path.open(encoding="utf-8-sig", newline="") as text:
            first = text.readline(_LINE)
            delimiter = max(",;\t", key=first.count)
            columns = _columns(path, next(csv.reader([first], delimiter=delimiter), []))
            reader = csv.reader(text, delimiter=delimiter)
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                number = reader.line_num + 1
                cell = _cells(path, number, columns, row)
                name = _inside(path, number, cell["file"])
                if name in files:
                    raise DataError(
                        f"{path}: line {number} repeats {brief(name)} (line {files[name]})",
                        "give each sample one line",
                    )
                if len(files) >= most:
                    raise DataError(f"{path} has more than {most} lines", "train on a part of them")
                files[name] = number
                lines.append(number)
                labels.append(_label(path, number, cell["label"]))
                groups.append(cell.get("group", ""))
                splits.append(_split(path, number, cell["split"]) if "split" in cell else 0)
    if not files:
        raise DataError(f"{path} lists no files", "write a line for each sample: file,label")
    return Rows(
        list(files),
        labels,
        splits if "split" in columns else None,
        groups if "group" in columns else None,
        lines,
    )


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for place, given in enumerate(header):
        name = given.strip().lower()
        name = _NAMES.get(name, name)
        if name in columns:
            raise DataError(f"{path}: its first line names the column {name} twice", "keep one of them")
        if name in _KNOWN:
            columns[name] = place
    if missing := [name for name in ("file", "label") if name not in columns]:
        raise DataError(
            f"{path}: its first line lacks the column {missing[0]}: {brief(','.join(header)[:80])}",
            "it must be file,label and perhaps split and group",
        )
    return columns


def _cells(path: Path, number: int, columns: dict[str, int], row: Sequence[str]) -> dict[str, str]:
    cells = {name: row[place].strip() if place < len(row) else "" for name, place in columns.items()}
    if lacking := next((name for name, value in cells.items() if not value), None):
        raise DataError(f"{path}: line {number} has no {lacking}: {brief(','.join(row)[:80])}", "add it")
    return cells


def _inside(path: Path, number: int, name: str) -> str:
    """Return a path below the folder of the list, with / between its parts and nothing else."""
    given = PurePosixPath(name.replace("\\", "/"))
    if given.is_absolute() or ".." in given.parts or (given.parts and given.parts[0].endswith(":")):
        raise DataError(
            f"{path}: line {number} names {brief(name)}, which is not below the folder of the list",
            "write paths relative to it, such as takes/1.png",
        )
    return str(given)


def _label(path: Path, number: int, label: str) -> str:
    try:
        fraction = not float(label).is_integer()
    except ValueError:
        fraction = False
    if fraction:
        raise DataError(
            f"{path}: line {number} has the label {brief(label)}, a number instead of the name of a class",
            "to learn numbers, save arrays x.npy and y.npy (kind arrays)",
        )
    return label


def _split(path: Path, number: int, word: str) -> int:
    if (found := SAID.get(word.lower())) is None:
        raise DataError(f"{path}: line {number} has the split {brief(word)}", "use train, valid or test")
    return found
