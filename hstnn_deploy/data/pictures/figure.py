"""What the pictures of data sets share: which samples are drawn, and how a figure becomes a file."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from hstnn_deploy import files
from hstnn_deploy.data.dataset import Choice
from hstnn_deploy.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON, OFF, INK, PALE = "#c0392b", "#2471a3", "#222222", "#b0b0b0"
"""Colours: an event to brighter, one to darker, and what is written or drawn besides."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def choose(target: Tensor, choice: Choice, most: int) -> list[int]:
    """Return the numbers of the samples to draw.

    Args:
        target: [N] classes.
        choice: what was asked for; without a number or a class, the first sample of each class.
        most: how many, where that is not said.

    Raises:
        UsageError: a number or class that the split does not have.
    """
    if choice.index is not None and choice.label is not None:
        raise UsageError("--index and --label both choose samples", "give one of them")
    count = choice.count or most
    if choice.index is not None:
        if not 0 <= choice.index < len(target):
            raise UsageError(f"--index {choice.index} is not in the {choice.split} split of {len(target)} samples")
        return list(range(choice.index, min(choice.index + count, len(target))))
    if choice.label is not None:
        found: list[int] = (target == choice.label).nonzero().flatten()[:count].tolist()
        if not found:
            known = ", ".join(map(str, sorted(set(target.tolist()))))
            raise UsageError(f"no sample of the {choice.split} split has --label {choice.label}", f"there are {known}")
        return found
    first: dict[int, int] = {}
    for number, label in enumerate(target.tolist()):
        first.setdefault(label, number)
    one_each = [first[label] for label in sorted(first)][:count]
    more = (number for number in range(len(target)) if number not in set(one_each))
    return one_each + [number for number, _ in zip(more, range(count - len(one_each)), strict=False)]


def class_name(label: int, names: Sequence[str]) -> str:
    """Return what a class is called: its name where it has one, else its number."""
    return names[label] if label < len(names) else str(label)


def title(number: int, label: int, names: Sequence[str]) -> str:
    """Return what stands above a sample that is drawn."""
    return f"{names[label] if label < len(names) else f'class {label}'}, no. {number}"


def counted(target: Tensor) -> str:
    """Return how many samples there are of each class, in words: all of them up to twelve classes, else the range."""
    counts = target.bincount().tolist()
    if len(counts) > 12:
        return f"{spread(counts)} samples"
    return "samples by class: " + ", ".join(f"{label}: {count}" for label, count in enumerate(counts))


def spread(counts: Collection[int]) -> str:
    """Return the number of classes and how many samples each has, in words."""
    least, most = min(counts), max(counts)
    return f"{len(counts)} classes of {least}" + (f" to {most}" if most > least else "")


def refuse_choice_of_text(choice: Choice, name: str) -> None:
    """Refuse options that make no sense for a text.

    Raises:
        UsageError: a sample, class or count was asked for.
    """
    for option in ("index", "label", "count"):
        if getattr(choice, option) is not None:
            raise UsageError(f"--{option} is for samples, but {name} is a text", "leave it out")


def refuse_empty(count: int, what: str) -> None:
    """Refuse to draw nothing.

    Raises:
        DataError: there is nothing.
    """
    if count == 0:
        raise DataError(f"{what} is empty: there is nothing to draw")
