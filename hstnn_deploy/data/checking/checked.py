"""What a check found: for a person, as plain data, and for a picture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking.notes import Notes, shown
from hstnn_deploy.data.own.config import Kind, Own
from hstnn_deploy.data.own.parts import SPLITS


class Measure(NamedTuple):
    """A number of each sample that was read, to be drawn by class."""

    name: str
    """What it is, with its unit."""
    values: NDArray[np.float64]
    """[n]"""
    labels: NDArray[np.int32]
    """[n]"""


class Example(NamedTuple):
    """One sample of a class, to be drawn."""

    label: int
    name: str
    form: Literal["image", "events", "series", "map"]
    """image [H, W] or [H, W, 3] of 0 to 255; events counts [P, H, W] or [P, T, I]; series [T, I]; map [H, W]."""
    values: NDArray[Any]


@dataclass
class Checked:
    """What was found of data of one's own, and what is odd."""

    path: str
    kind: Kind
    why: str
    """What the kind was recognised by."""
    config: Own
    notes: Notes = field(default_factory=Notes)
    classes: tuple[str, ...] = ()
    counts: dict[str, list[int]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    """Samples of each class in each split; of values one number each; of text words."""
    how: str = ""
    """Where the classes and splits come from."""
    unit: str = "samples"
    total: int = 0
    """Samples there are."""
    read: int = 0
    """Samples that were read."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Files that are no samples, by how their names end."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was measured, as plain data."""
    lines: list[str] = field(default_factory=list)
    """The same for a person."""
    measures: list[Measure] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)
    """Of a text, those that were read."""

    @property
    def extent(self) -> str:
        """How much was read, in words, and whether it was a random part."""
        if self.read >= self.total:
            return f"all {self.total} {self.unit} were read"
        return (
            f"{self.read} of {self.total} {self.unit} were read, drawn with a fixed seed; all figures describe these "
            "(--whole reads all)"
        )

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "path": shown(self.path),
            "kind": self.kind,
            "why": shown(self.why),
            "total": self.total,
            "read": self.read,
            "unit": self.unit,
            "classes": [shown(name) for name in self.classes],
            "splits": self.counts,
            "splits_from": self.how,
            "left_out": {shown(name): count for name, count in self.left_out.items()},
            "facts": self.facts,
            "trainable": not self.notes.refused,
            "notes": [note.plain() for note in self.notes.found],
        }


def spread(values: NDArray[Any], digits: int = 3) -> dict[str, float]:
    """Return least, middle and most of numbers as plain data."""
    if not len(values):
        return {}
    found = {"min": values.min(), "median": np.median(values), "max": values.max()}
    return {name: float(f"{float(value):.{digits + 3}g}") for name, value in found.items()}


def told(values: Mapping[str, float], unit: str = "") -> str:
    """Return a spread in words."""
    if not values:
        return "n/a: nothing was read"
    behind = f" {unit}" if unit else ""
    if values["min"] == values["max"]:
        return f"{values['min']:.4g}{behind}"
    return f"{values['min']:.4g} to {values['max']:.4g}{behind}, median {values['median']:.4g}"
