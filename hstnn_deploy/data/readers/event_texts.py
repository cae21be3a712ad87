"""Recordings as texts: an event to a line, its numbers apart by blanks, tabs, commas or semicolons."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_fields import WIDTHS, letter, named, plain
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

_HEAD = 4096
"""Bytes of a text that are looked at."""
_MARKS = re.compile(r"[,;\t]")
_COMMENT = "#%/"
_GEOMETRY = re.compile(r"geometry[ :=]+(\d{1,5}) *[x, ] *(\d{1,5})", re.IGNORECASE)
"""As Metavision's tools write the size of the sensor into a comment."""


def read_text(path: Path, options: EventOptions) -> Found:
    """Return the events of a text; lines that begin with #, % or / are comments.

    The first line may name the columns, as may the last comment before the numbers; a first line of two numbers is the
    size of the sensor.

    Raises:
        DataError: a line holds something else, or the numbers are too few or too many.
    """
    with reading(path, "a text of numbers"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        start, names = _beginning(lines, options)
        comments = [line for line in lines[:start] if line.lstrip()[:1] in tuple(_COMMENT)]
        size = next((stated for line in comments if (stated := _GEOMETRY.search(line))), None)
        sensor = (int(size[1]), int(size[2])) if size else None
        two = not names and len(options.order or "txyp") > 2
        if two and start < len(lines) and len(first := _words(lines[start])) == 2 and all(map(str.isdecimal, first)):
            sensor, start = (int(first[0]), int(first[1])), start + 1
        body = [line for line in lines[start:] if line.strip() and line.lstrip()[0] not in _COMMENT]
        if not body:
            raise DataError(f"{path} contains no events", "there is nothing for the network to see")
        blank = str.maketrans(",;", "  ")
        rows = np.loadtxt((line.translate(blank) for line in body), dtype=np.float64, ndmin=2)
    if names:
        if rows.shape[1] != len(names):
            raise DataError(f"{path} names {len(names)} columns but has {rows.shape[1]}", "fix its first line")
        if len(set(names)) < len(names):
            raise DataError(f"{path} has two columns with the same name: {', '.join(names)}", "fix its first line")
        found = named(path, "a text with names", dict(zip(names, rows.T, strict=True)), options)
    else:
        found = plain(path, rows, options, "a text")
    return replace(found, sensor=sensor)


def is_text_of_events(path: Path, step: tuple[int, ...]) -> bool:
    """Return whether a text holds an event to a line, and not a time step of the shape `step`."""
    with reading(path, "a text of numbers"), path.open("rb") as file:
        lines = file.read(_HEAD).decode("utf-8-sig", errors="replace").splitlines()
    start, names = _beginning(lines, EventOptions())
    words = [_words(line) for line in lines[start:] if line.strip()][:2]
    return bool(names) or any(len(each) in (3, *WIDTHS) and len(each) != int(np.prod(step)) for each in words)


def _beginning(lines: list[str], options: EventOptions) -> tuple[int, list[str]]:
    """Return the number of the first line of numbers, and the names of the columns where there are such."""
    names: list[str] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        commented = line.lstrip()[0] in _COMMENT
        words = _words(line.lstrip().lstrip(_COMMENT) if commented else line)
        known = {letter(word, options) for word in words}
        if commented:
            names = words if {"t", "x", "y"} <= known else names
        elif len(words) >= 3 and not any(_is_number(word) for word in words):
            return number + 1, words
        else:
            return number, names
    return len(lines), names


def _words(line: str) -> list[str]:
    """Return the words of a line: apart by marks where there are some, so that names may hold blanks."""
    words = _MARKS.split(line.strip().rstrip(",;")) if _MARKS.search(line) else line.split()
    return [word.strip().strip("\"'").strip() for word in words]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
