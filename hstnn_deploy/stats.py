"""Means over seeds and their uncertainty. A value that one seed cannot give is None with a reason, never 0."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

LEVEL = 0.95
ONE = "one seed only: spread unknown"


class Summary(NamedTuple):
    """Several values of the same quantity."""

    number: int
    mean: float | None
    """None if there is no value."""
    sd: float | None
    """The sample standard deviation (n - 1); None with fewer than two values."""
    half: float | None
    """Half the width of the 95 % confidence interval of the mean, by Student's t; None with fewer than two values."""


class Contrast(NamedTuple):
    """How two groups of values differ."""

    difference: float
    """The mean of the second minus that of the first."""
    half: float | None
    """Half the width of the difference's 95 % confidence interval; None if it cannot be computed."""
    p: float | None
    """The p-value of the two-sided test of no difference; None if it cannot be computed."""
    method: str
    """The test, or the reason why there is none."""


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and interval of some values."""
    if len(values) < 2:
        return Summary(len(values), values[0] if values else None, None, None)
    sd = stdev(values)
    return Summary(len(values), fmean(values), sd, _quantile(len(values) - 1) * sd / math.sqrt(len(values)))


def compare(first: dict[int, float], second: dict[int, float], paired: bool = True) -> Contrast:
    """Test whether two groups of values, by seed, differ: paired where the seeds are the same, else Welch's test.

    Args:
        first: values by seed, or by any number where `paired` is not set; at least one.
        second: as `first`.
        paired: whether equal numbers belong together.
    """
    difference = fmean(second.values()) - fmean(first.values())
    if min(len(first), len(second)) < 2:
        counts = "one value" if len(first) == len(second) == 1 else "fewer than two values"
        return Contrast(difference, None, None, f"no test: {counts} on {'each' if counts == 'one value' else 'a'} side")
    if paired and first.keys() == second.keys():
        changes = [second[key] - first[key] for key in sorted(first)]
        spread, freedom = stdev(changes) / math.sqrt(len(changes)), float(len(changes) - 1)
        method = f"paired t-test, {len(changes)} seeds"
    else:
        parts = [stdev(group.values()) ** 2 / len(group) for group in (first, second)]
        spread = math.sqrt(sum(parts))
        # Welch's and Satterthwaite's degrees of freedom.
        below = sum(part**2 / (len(group) - 1) for part, group in zip(parts, (first, second), strict=True))
        freedom = sum(parts) ** 2 / below if below else math.nan
        method = f"Welch's t-test, {len(first)} and {len(second)} values"
    # Differences that come from rounding alone are not a spread.
    scale = max(map(abs, [*first.values(), *second.values()]))
    if spread <= 1e-12 * scale:
        return Contrast(difference, None, None, "no test: the difference does not vary")
    return Contrast(difference, _quantile(freedom) * spread, _p(difference / spread, freedom), method)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number (Holm 1979); None stays None."""
    there = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    worst = 0.0
    for rank, (p, place) in enumerate(there):
        worst = max(worst, min(1.0, (len(there) - rank) * p))
        adjusted[place] = worst
    return adjusted


def _quantile(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))


def _p(statistic: float, freedom: float) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(statistic), freedom))
