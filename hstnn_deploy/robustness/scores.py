"""Scores of a curve of a metric over levels: the area under it, the level where a tenth is lost, and the worst value.

Every score is taken of each series of values alone (of one seed and one draw), and then summarised over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hstnn_deploy.stats import Summary, summarise

LOST = 0.1
"""The share of the undisturbed metric whose loss is looked for: accuracy at 0.9 of it, perplexity at 1 / 0.9 of it."""


@dataclass(frozen=True)
class Scores:
    """Of one network under one disturbance."""

    area: Summary
    """The mean metric over the axis from 0 to the strongest level (trapezoids), in the metric's unit."""
    tolerated: Summary
    """The level at which a tenth is lost, interpolated between those that were measured; of the series that lose it."""
    beyond: int
    """Of how many series a tenth is not lost even at the strongest level."""
    worst: float
    """The worst value of any level and series."""

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "area": self.area._asdict(),
            "tolerated": self.tolerated._asdict(),
            "beyond": self.beyond,
            "worst": self.worst,
        }


def score(axis: Sequence[float], series: Sequence[Sequence[float]], higher_is_better: bool) -> Scores:
    """Return the scores of some series.

    Args:
        axis: where the levels lie, ascending from 0.
        series: of each, the metric at every level, the undisturbed one first.
        higher_is_better: of the metric.
    """
    areas = [_area(axis, values) for values in series]
    crossed = [_crossing(axis, values, higher_is_better) for values in series]
    there = [level for level in crossed if level is not None]
    everything = [value for values in series for value in values]
    worst = min(everything) if higher_is_better else max(everything)
    return Scores(summarise(areas), summarise(there), len(crossed) - len(there), worst)


def _area(axis: Sequence[float], values: Sequence[float]) -> float:
    pieces = zip(axis[:-1], axis[1:], values[:-1], values[1:], strict=True)
    return sum((b - a) * (first + second) / 2 for a, b, first, second in pieces) / (axis[-1] - axis[0])


def _crossing(axis: Sequence[float], values: Sequence[float], higher_is_better: bool) -> float | None:
    """Return where a tenth is lost for the first time, or None where it is not."""
    bound = values[0] * (1 - LOST) if higher_is_better else values[0] / (1 - LOST)
    sign = 1 if higher_is_better else -1
    for a, b, first, second in zip(axis[:-1], axis[1:], values[:-1], values[1:], strict=True):
        if sign * second < sign * bound:
            return a + (b - a) * (first - bound) / (first - second)
    return None
