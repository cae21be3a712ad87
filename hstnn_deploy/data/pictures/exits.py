"""Draw what an early exit saves and costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hstnn_deploy.data.pictures.figure import PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(Protocol):
    """What a rule comes to at a threshold."""

    @property
    def rule(self) -> str:
        """Its name."""

    @property
    def mean_steps(self) -> float:
        """Steps of a sample on average."""

    @property
    def accuracy(self) -> float:
        """In percent."""


def draw_exits(points: Sequence[Point]) -> "Figure":
    """Return accuracy against mean steps, a line for each rule."""
    figure = new_figure(6.5, 4)
    axes = figure.subplots()
    for rule in dict.fromkeys(point.rule for point in points):
        own = sorted((point.mean_steps, point.accuracy) for point in points if point.rule == rule)
        axes.plot(*zip(*own, strict=True), "o-", markersize=4, linewidth=1.2, label=rule)
    axes.set(xlabel="mean steps", ylabel="accuracy (%)")
    axes.grid(color=PALE, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="exit by")
    return figure
