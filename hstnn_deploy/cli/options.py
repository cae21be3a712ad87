"""Options that several commands share, so that they read the same everywhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SplitChoice(StrEnum):
    """Splits of a data set."""

    train = "train"
    valid = "valid"
    test = "test"


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Data folder (default: HSTNN_DATA, else the user's cache)."),
]


class CacheChoice(StrEnum):
    """Where computed samples are kept."""

    none = "none"
    disk = "disk"
    memory = "memory"
    device = "device"


CacheOption = Annotated[
    CacheChoice,
    typer.Option("--cache", help="Where event recordings, once transformed, are kept; the result is the same."),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda[:n]", help="Where to run.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result to standard output as JSON.")]
Ckpt = Annotated[Path, typer.Option("--ckpt", metavar="FILE", help="A checkpoint, such as best.pt of a run folder.")]
WholeTest = Annotated[
    bool,
    typer.Option("--whole-test", help="Ask each file the whole test split, of a large network too, however long."),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
]


def words(text: str) -> list[str]:
    """Return the words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
