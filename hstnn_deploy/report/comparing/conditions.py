"""Conditions on a comparison, such as `accuracy < -0.5` or `p99 > 10ms`: what makes `hstnn compare` fail."""

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from hstnn_deploy.errors import UsageError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FORM = re.compile(
    r"\s*([A-Za-z][\w.]*(?:-[A-Za-z][\w.]*)*)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"\s*(x|%|[A-Za-z\u00b5\u03bc][A-Za-z0-9/]*|)\s*"
)
_RELATIVE = ("x", "%")

_UNITS: tuple[dict[str, float], ...] = (
    {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0},
    {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    {"nJ": 1e-9, "uJ": 1e-6, "mJ": 1e-3, "J": 1.0},
    {"mW": 1e-3, "W": 1.0},
)
"""Units that can be turned into one another, each with its size."""


class Condition(NamedTuple):
    """A bound that a change from A to B must not reach."""

    text: str
    metric: str
    compares: str
    """One of < <= > >=."""
    bound: float
    unit: str
    """`x`: bounds the ratio B / A; `%`: the change relative to A; else the difference B - A, in this unit."""

    @property
    def relative(self) -> bool:
        """Whether it bounds a ratio or a share, and no difference."""
        return self.unit in _RELATIVE

    def change(self, first: float, second: float) -> float | None:
        """Return what the condition bounds, of a value of A and one of B; None where A is 0 and B / A is asked for."""
        if not self.relative:
            return second - first
        if first == 0:
            return None
        return second / first if self.unit == "x" else 100 * (second - first) / abs(first)

    def holds(self, change: float) -> bool:
        """Whether a change fulfils the condition, so that the comparison fails."""
        return _OPERATORS[self.compares](change, self.bound)

    def moved(self, value: float) -> float:
        """Return where a value of A would be if it had changed by the bound."""
        if self.unit == "x":
            return value * self.bound
        return value + (abs(value) * self.bound / 100 if self.unit == "%" else self.bound)

    def size_in(self, unit: str) -> float:
        """Return how much of the metric's unit one of the condition's is, such as 1000 of MB in kB; else 1.

        Args:
            unit: the metric's, such as "ms"; empty where it has none.

        Raises:
            UsageError: the bound lacks a unit, or has one that the metric does not have.
        """
        if self.relative:
            return 1.0
        how = f"{self.metric} {self.compares}"
        if not unit:
            if self.unit:
                raise UsageError(f"--fail-if {self.text!r}: {self.metric} has no unit", f"write {how} {self.bound:g}")
            return 1.0
        share = f"for a change relative to A, {how} 10%"
        if not self.unit:
            raise UsageError(
                f"--fail-if {self.text!r} has no unit: {self.metric} is in {unit}",
                f"write '{how} {self.bound:g}{unit}'; {share}",
            )
        sizes = next((table for table in _UNITS if unit in table), {unit: 1.0})
        given = self.unit if self.unit in sizes else _like(self.unit, sizes)
        if given is None:
            raise UsageError(
                f"--fail-if {self.text!r}: {self.metric} is in {unit}, not in {self.unit}",
                f"known: {', '.join(dict.fromkeys(each.replace(chr(0x3BC), chr(0xB5)) for each in sizes))}; {share}",
            )
        return sizes[given] / sizes[unit]


def _like(given: str, known: dict[str, float]) -> str | None:
    """Return the one unit that differs from what was given in capitals alone."""
    close = [each for each in known if each.casefold() == given.casefold()]
    return close[0] if len(close) == 1 else None


def parse(text: str) -> Condition:
    """Return the condition that a text says. Its unit is checked when the metric is known: see `Condition.size_in`.

    Raises:
        UsageError: it says none.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--fail-if {text!r} does not have the form METRIC < NUMBER with a unit",
            "for example 'accuracy < -0.5', 'p99 > 10ms', 'p99 > 1.1x' (B / A) or 'epoch > 10%' (relative to A)",
        )
    metric, compares, bound, unit = found.groups()
    return Condition(text.strip(), metric, compares, float(bound), unit)
