"""What the tests of a check share: a check of a folder, and whether its lines say something."""

from pathlib import Path
from typing import Any

from hstnn_deploy.data.checking.check import check
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.data.checking.listed import Asked


def checked(folder: Path, most: int | None = None, **data: Any) -> Checked:
    return check({"name": "own", "path": str(folder), **data}, Asked(most))


def said(found: Checked, *words: str, refused: bool = False) -> None:
    """Assert that one line holds all words, and is of its sort."""
    lines = [note.line() for note in found.notes.found if note.refused == refused]
    assert any(all(word in line for word in words) for line in lines), (words, lines)


def clean(found: Checked) -> None:
    assert [note.line() for note in found.notes.found] == []
