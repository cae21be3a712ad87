"""What is compared of two groups: what stands for what on either side, and a row for each metric of a pair."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hstnn_deploy import stats
from hstnn_deploy.errors import ReportError
from hstnn_deploy.report.comparing import over_processes
from hstnn_deploy.stats import Contrast

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One metric of one thing on both sides."""

    name: str
    """Of the network, or of the configuration measured."""
    metric: str
    first: dict[int, float]
    """Values of A: by seed of runs, counted of records."""
    second: dict[int, float]
    test: Contrast
    unit: str = ""
    """Of the values; empty where they have none."""
    processes: bool = False
    """Whether a value is of a process, and the test is over processes."""
    caveats: tuple[str, ...] = ()
    """What makes the values doubtful, each in words."""
    adjusted: float | None = None
    """The p-value adjusted for the number of rows (Holm)."""

    @property
    def means(self) -> tuple[float, float]:
        """The mean of A and that of B."""
        return math.fsum(self.first.values()) / len(self.first), math.fsum(self.second.values()) / len(self.second)

    @property
    def counts(self) -> tuple[int, int]:
        """How many values A has, and how many B."""
        return len(self.first), len(self.second)

    @property
    def full_metric(self) -> str:
        """The metric with its unit, where its name does not end in it."""
        known = not self.unit or self.metric.lower().endswith(f"_{self.unit.lower()}")
        return self.metric if known else f"{self.metric}, {self.unit}"


def by_seed(name: str, metric: str, first: dict[int, float], second: dict[int, float]) -> list[Row]:
    """Return a row, or none where a side has no value; equal seeds on both sides belong together."""
    if not first or not second:
        return []
    return [Row(name, metric, first, second, stats.compare(first, second))]


def by_process(
    name: str,
    metric: str,
    first: dict[int, float],
    second: dict[int, float],
    unit: str,
    caveats: Sequence[str] = (),
) -> list[Row]:
    """Return a row that is tested over processes, or none where a side has no value."""
    if not first or not second:
        return []
    test = over_processes.contrast(list(first.values()), list(second.values()))
    return [Row(name, metric, first, second, test, unit, True, tuple(caveats))]


def counted(name: str, metric: str, first: dict[int, float], second: dict[int, float], unit: str) -> list[Row]:
    """Return a row of what is counted and the same in every process, or none where a side has no value."""
    if not first or not second:
        return []
    difference = math.fsum(second.values()) / len(second) - math.fsum(first.values()) / len(first)
    return [Row(name, metric, first, second, Contrast(difference, None, None, "no test: counted, not measured"), unit)]


def paired(
    first: Sequence[T],
    second: Sequence[T],
    keys: Sequence[Callable[[T], Hashable]],
    name: Callable[[T], str],
    notes: list[str],
    nothing: str,
    aside: Callable[[T], str] = lambda _: "",
) -> list[tuple[T, T]]:
    """Pair what has the same key on both sides, by the first key that pairs anything.

    Where no key does, the only one of each side is paired with the other; of several, the only one that `aside` returns
    no words for, which say how the others are compared. Notes name what has no partner.
    """
    for key in keys:
        index = {key(item): item for item in second}
        if len(index) < len(second) or len({key(item) for item in first}) < len(first):
            continue
        pairs = [(item, index[key(item)]) for item in first if key(item) in index]
        if pairs:
            taken = [id(item) for pair in pairs for item in pair]
            for side, items in zip("AB", (first, second), strict=True):
                notes += [f"Only in {side}: {name(item)}." for item in items if id(item) not in taken]
            return pairs
    mine, theirs = ([item for item in side if not aside(item)] or side for side in (first, second))
    if len(mine) == len(theirs) == 1:
        for side, one, items in (("A", mine[0], first), ("B", theirs[0], second)):
            others = [item for item in items if item is not one]
            notes += [f"Of {side}, {name(one)} is compared, and not {name(item)}: {aside(item)}." for item in others]
        return [(mine[0], theirs[0])]
    sides = [f"{side} has {_listed([name(item) for item in items])}" for side, items in (("A", first), ("B", second))]
    raise ReportError(nothing, f"give one network on each side, or the same ones on both: {'; '.join(sides)}")


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most]) or 'none'}{more}"
