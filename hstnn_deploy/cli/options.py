"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Data folder (default: HSTNN_DATA, else the user's cache)."),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda[:n]", help="Where to run.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result to standard output as JSON.")]
Ckpt = Annotated[Path, typer.Option("--ckpt", metavar="FILE", help="A checkpoint, such as best.pt of a run folder.")]


def words(text: str) -> list[str]:
    """Return the words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
