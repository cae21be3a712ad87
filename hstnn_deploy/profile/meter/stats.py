"""Statistics of repeated measurements: when they are steady, where they lie, and how sure that is.

Standard library only, as every measured process uses it.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hstnn_deploy.profile.values import Measured, NotMeasured, Value

_WINDOW, _TOLERANCE = 3, 0.05
_LEAST_SECONDS = 0.5
_SHARES = (50, 90, 95, 99)

WARM_UP_RULE = (
    f"at least {_LEAST_SECONDS:g} s, until the median of the last {_WINDOW} times is within {100 * _TOLERANCE:g} % of"
    f" the median of the {_WINDOW} before, or until its time runs out"
)


class WarmUp(NamedTuple):
    """What was done before anything was measured."""

    seconds: list[float]
    """Of each run."""
    steady: bool
    """Whether the rule was met; else the time for it was over."""

    def facts(self) -> dict[str, object]:
        """Return what a record says of it."""
        runs = len(self.seconds)
        return {"runs": runs, "seconds": sum(self.seconds), "steady": self.steady, "rule": WARM_UP_RULE}


def warm_up(run: Callable[[], float], seconds: float, least: int = _WINDOW, most: int = 10**6) -> WarmUp:
    """Run until steady: see `WARM_UP_RULE`.

    Args:
        run: runs once; returns seconds.
        seconds: the time for it. It is exceeded by as much as `least` runs need.
        least: runs that are done whatever the time.
        most: runs that are enough however unsteady; more than fit into the time, so that short calls have all of it.
    """
    done: list[float] = []
    begin = time.perf_counter()
    while len(done) < most:
        done.append(run())
        if len(done) >= max(least, 2 * _WINDOW):
            before, last = (statistics.median(done[-k * _WINDOW :][:_WINDOW]) for k in (2, 1))
            if abs(last - before) <= _TOLERANCE * before and time.perf_counter() - begin >= min(
                seconds, _LEAST_SECONDS
            ):
                return WarmUp(done, True)
        if len(done) >= least and time.perf_counter() - begin >= seconds:
            break
    return WarmUp(done, False)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the percentile of ascending numbers, interpolated linearly (numpy's default)."""
    place = (len(ordered) - 1) * share / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median_interval(ordered: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return an interval that contains the median with at least this confidence, from ascending numbers.

    Order statistics k and n+1-k, k the largest with P(Binomial(n, 1/2) < k) <= (1 - level) / 2: whatever the
    distribution (David and Nagaraja, Order Statistics, 2003, section 7.1). None where there are too few for any.
    """
    count = len(ordered)
    tail, k = 0.0, 0
    # In logarithms: 2^-n is no number of a float's beyond n = 1074.
    while k < count // 2:
        term = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        tail += math.exp(term)
        if tail > (1 - level) / 2:
            break
        k += 1
    return (ordered[k - 1], ordered[count - k]) if k > 0 else None


def mean_interval(numbers: Sequence[float]) -> tuple[float, float] | None:
    """Return the mean's 95 % interval by the normal distribution; None of fewer than eight numbers."""
    if len(numbers) < 8:
        return None
    mean = statistics.fmean(numbers)
    reach = statistics.NormalDist().inv_cdf(0.975) * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return mean - reach, mean + reach


def distribution(name: str, seconds: Sequence[float], source: str, what: str) -> list[Value]:
    """Return median, percentiles, spread, and the median's confidence interval, of single measurements.

    Args:
        name: the values are called NAME_p50, …, NAME_iqr, NAME_p50_low, NAME_p50_high.
        seconds: the measurements.
        source: what they were read from.
        what: one of them, in the plural: "calls".
    """
    ordered = sorted(seconds)
    source = f"{source}, {len(ordered)} {what}"
    found: list[Value] = []
    for share in _SHARES:
        # With fewer, none of them lies beyond the percentile.
        few = len(ordered) < 100 / (100 - share)
        note = f"of only {len(ordered)} {what}: at most the slowest of them" if few else ""
        found.append(Measured(f"{name}_p{share}", percentile(ordered, share), "s", source, note))
    spread = percentile(ordered, 75) - percentile(ordered, 25)
    found.append(Measured(f"{name}_iqr", spread, "s", source))
    interval = median_interval(ordered)
    for end, place in (("low", 0), ("high", 1)):
        if interval is None:
            found.append(NotMeasured(f"{name}_p50_{end}", f"{len(ordered)} {what} are too few for an interval"))
        else:
            how = f"{source}: order statistics, 95 %"
            found.append(Measured(f"{name}_p50_{end}", interval[place], "s", how))
    return found
