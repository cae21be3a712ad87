"""A kind of file: a valid one, and the command that reads it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.attacks.box import Box
from tests.attacks.mutate import Inside
from tests.attacks.worker import Call, Place, Words
from tests.attacks.yard import resealed


class Kind(NamedTuple):
    """A sort of file."""

    name: str
    content: bytes
    """A valid one."""
    place: Place
    form: str = "bytes"
    """bytes, json, yaml, lines (of JSON), or torch."""
    inside: Inside | None = None
    must_answer: bool = False
    """Whether a damaged one must not stop the command, because it can be made anew."""
    weight: float = 1.0
    """How often it is damaged, beside the others: slow commands less."""

    def __repr__(self) -> str:
        """Return its name: what it holds is long."""
        return f"<{self.name}>"


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_by(name: str, *words: str | Path, then: Words | None = None) -> Place:
    """Return a place for one file, which the command names after `words`."""

    def place(box: Box, content: bytes) -> Call:
        return [*words, write(box.given / name, content), *(then or [])]

    return place


def copied(folder: Path, name: str, words: Callable[[Path], Words], repair: bool = False, out: bool = False) -> Place:
    """Return a place for a file of a folder, which is copied; with `repair`, a bundle that fits the file."""

    def place(box: Box, content: bytes) -> Call:
        copy = shutil.copytree(folder, (box.out if out else box.given) / folder.name)
        write(copy / name, content)
        if repair:
            resealed(copy, name)
        return words(copy)

    return place
