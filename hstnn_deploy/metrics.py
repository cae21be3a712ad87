"""For each metric: whether higher is better, and how to print it. Does not need torch."""

import math
from collections.abc import Iterable

ACCURACY, PERPLEXITY, RMSE = "accuracy", "perplexity", "rmse"
"""Correct answers in percent, e to the mean loss per word, and the root of the mean squared error."""


def shown(metric: str, value: float, sign: bool = False) -> str:
    """Return a value as text: with two decimals, or four significant digits for an rmse, which has a unit."""
    how = ".4g" if metric == RMSE else ".2f"
    return format(value, f"+{how}" if sign else how)


def titled(metric: str) -> str:
    """Return a metric's name for the beginning of a sentence."""
    return metric.upper() if metric == RMSE else metric.capitalize()


def ends(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """Return the best and the worst of some values."""
    low, *_, high = sorted([*values] * 2)
    return (high, low) if metric == ACCURACY else (low, high)


def worse(metric: str, before: float, after: float) -> float:
    """Return how much worse a value is than an earlier one: in points of the metric, or in percent for an rmse."""
    if metric == ACCURACY:
        return before - after
    lost = after - before
    return lost if metric != RMSE else 100 * lost / before if before else math.inf if lost else 0.0


def points(metric: str) -> str:
    """Return the unit of `worse`."""
    return "%" if metric == RMSE else "points"
