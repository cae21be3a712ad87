"""How every benchmark measures: candidates in turns, ratios within a round, medians with their spread.

The machine's speed drifts (clock, neighbours), so times taken minutes apart do not compare. Here every round times each
candidate once, one after another, and a ratio is taken within its round.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hstnn_deploy.environment import describe

Measure = Callable[[], float]
"""Runs a candidate once; returns seconds."""


@dataclass(frozen=True)
class Spread:
    """The quartiles of a series."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the quartiles of at least two values."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def show(self, digits: int = 2) -> str:
        """Return "median (low to high)"."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Result:
    """One line of the report: ours against a baseline, and against the floor."""

    benchmark: str
    case: str
    seconds: dict[str, list[float]]
    """Per candidate, one time per round; `ours` and `baseline` always, `floor` where there is one."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping: sizes, FLOPs, errors against the baseline."""

    def ratio(self, above: str, below: str) -> Spread:
        """Return the spread over rounds of one candidate's time over another's."""
        return Spread.of([a / b for a, b in zip(self.seconds[above], self.seconds[below], strict=True)])

    def median(self, candidate: str) -> float:
        """Return a candidate's median time in seconds."""
        return statistics.median(self.seconds[candidate])

    def plain(self) -> dict[str, Any]:
        """Return plain data: everything measured, and the summary."""
        speedup = asdict(self.ratio("baseline", "ours"))
        floor = asdict(self.ratio("floor", "ours")) if "floor" in self.seconds else None
        return asdict(self) | {"speedup": speedup, "floor_share": floor}


def wall(run: Callable[[], object]) -> Measure:
    """Return a measure of the wall-clock time of `run`."""

    def measure() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return measure


def turns(candidates: Mapping[str, Measure], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Measure every candidate once per round, in turns; return the times per candidate, one per round."""
    for _ in range(warm_up):
        for measure in candidates.values():
            measure()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        # Every other round runs backwards, so that no candidate always follows the same neighbour.
        order = list(candidates.items())
        for name, measure in order if number % 2 == 0 else reversed(order):
            times[name].append(measure())
    return times


def environment() -> dict[str, Any]:
    """Return where this runs: versions, processor, threads, git state, and how busy the machine is just now."""
    return describe("cpu") | {"load_average": [round(load, 2) for load in os.getloadavg()]}
