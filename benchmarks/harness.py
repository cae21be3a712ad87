"""How every benchmark measures: candidates in turns, ratios within a round, medians with their spread.

The machine's speed drifts (clock, neighbours), so times taken minutes apart do not compare. Here every round times each
candidate once, one after another, and a ratio is taken within its round. A round in which other processes computed too
is measured again: that is decided by their processor time, never by the times measured.
"""

import contextlib
import ctypes
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

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
class Times:
    """What turns have measured."""

    seconds: dict[str, list[float]]
    """Per candidate, one time per round; `ours` and `baseline` always, `floor` where there is one."""
    repeated: int
    """Rounds thrown away because other processes computed during them."""
    disturbed: int
    """Rounds kept although they did, since patience had run out."""

    def ratio(self, above: str, below: str) -> Spread:
        """Return the spread over rounds of one candidate's time over another's."""
        return Spread.of([a / b for a, b in zip(self.seconds[above], self.seconds[below], strict=True)])

    def median(self, candidate: str) -> float:
        """Return a candidate's median time in seconds."""
        return statistics.median(self.seconds[candidate])


@dataclass(frozen=True)
class Result:
    """One line of the report: ours against a baseline, and against the floor."""

    benchmark: str
    case: str
    times: Times
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping: sizes, FLOPs, errors against the baseline."""
    note: str = ""
    """What a reader of the table must know besides."""

    def plain(self) -> dict[str, Any]:
        """Return plain data: everything measured, and the summary."""
        speedup = asdict(self.times.ratio("baseline", "ours"))
        floor = asdict(self.times.ratio("floor", "ours")) if "floor" in self.times.seconds else None
        return asdict(self) | {"speedup": speedup, "floor_share": floor}


def wall(run: Callable[[], object]) -> Measure:
    """Return a measure of the wall-clock time of `run`."""

    def measure() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return measure


def turns(candidates: Mapping[str, Measure], rounds: int, warm_up: int = 2, patience: float = 120) -> Times:
    """Measure every candidate once per round, in turns, for so many rounds.

    After `patience` seconds spent on rounds that were disturbed, such rounds are kept, and counted.
    """
    for _ in range(warm_up):
        for measure in candidates.values():
            measure()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    repeated = disturbed = number = 0
    while number < rounds:
        # Every other round runs backwards, so that no candidate always follows the same neighbour.
        order = list(candidates.items())
        start, others = time.perf_counter(), _processor_time_of_others()
        found = {name: measure() for name, measure in (order if number % 2 == 0 else reversed(order))}
        took, others = time.perf_counter() - start, _processor_time_of_others() - others
        # The system counts in ticks of 10 ms.
        if others > 0.05 * took + 0.02:
            patience -= took
            if patience > 0:
                repeated += 1
                continue
            disturbed += 1
        number += 1
        for name, value in found.items():
            seconds[name].append(value)
    return Times(seconds, repeated, disturbed)


def keep_heap() -> None:
    """Have glibc keep what is freed, here and in processes started from here; elsewhere it does nothing.

    Else it gives large tensors back to Linux between steps, and the next step pays for touching new pages: more or less
    of that by how the heap happens to lie, which moved a ratio of 3 to 1 between two versions with the same kernels.
    """
    trim, pad, mmap = 2**31 - 1, 2**28, 2**30
    os.environ |= {
        "MALLOC_TRIM_THRESHOLD_": str(trim),
        "MALLOC_TOP_PAD_": str(pad),
        "MALLOC_MMAP_THRESHOLD_": str(mmap),
    }
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-1, trim), (-2, pad), (-3, mmap)):  # M_TRIM_THRESHOLD and so on, of malloc.h
            mallopt(option, value)


def _processor_time_of_others() -> float:
    """Return the processor seconds that processes of this machine have used so far, but for this one and its own."""
    everyone = psutil.cpu_times()
    busy = everyone.user + everyone.system + getattr(everyone, "nice", 0)
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            used = worker.cpu_times()
            mine += used.user + used.system
    return float(busy - mine)


def environment() -> dict[str, Any]:
    """Return where this runs: versions, processor, threads, git state, and how busy the machine is just now."""
    return describe("cpu") | {"load_average": [round(load, 2) for load in os.getloadavg()]}
