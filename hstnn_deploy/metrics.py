"""For each metric: which figures are better, and how to write them. Needs no torch."""

import math
from collections.abc import Iterable

ACCURACY, PERPLEXITY, RMSE = "accuracy", "perplexity", "rmse"
"""The share of right answers in percent, e to the mean loss of words, and the root of a mean squared error."""


def shown(metric: str, value: float, sign: bool = False) -> str:
    """Return a figure as text: with two decimals, or with four digits for an error, whose size depends on its unit."""
    how = ".4g" if metric == RMSE else ".2f"
    return format(value, f"+{how}" if sign else how)


def titled(metric: str) -> str:
    """Return a metric's name at the beginning of a sentence."""
    return metric.upper() if metric == RMSE else metric.capitalize()


def ends(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """Return the best and the worst of some figures."""
    low, *_, high = sorted([*values] * 2)
    return (high, low) if metric == ACCURACY else (low, high)


def worse(metric: str, before: float, after: float) -> float:
    """Return how much worse a figure is than an earlier one: in the metric's own points, or for an error in percent."""
    if metric == ACCURACY:
        return before - after
    lost = after - before
    return lost if metric != RMSE else 100 * lost / before if before else math.inf if lost else 0.0


def points(metric: str) -> str:
    """Return the unit of `worse`."""
    return "%" if metric == RMSE else "points"
