"""Conditions on a comparison, such as `accuracy < -0.5` or `p99_ms > 1.1x`: what makes `hstnn compare` fail."""

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from hstnn_deploy.errors import UsageError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FORM = re.compile(
    r"\s*([A-Za-z][\w.]*(?:-[A-Za-z][\w.]*)*)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(x|%?)\s*"
)


class Condition(NamedTuple):
    """A bound that a change from A to B must not reach."""

    text: str
    metric: str
    compares: str
    """One of < <= > >=."""
    bound: float
    unit: str
    """Nothing: bounds the difference B - A; `x`: the ratio B / A; `%`: the change relative to A."""

    def change(self, first: float, second: float) -> float | None:
        """Return what the condition bounds, of a value of A and one of B; None where A is 0 and B / A is asked for."""
        if not self.unit:
            return second - first
        if first == 0:
            return None
        return second / first if self.unit == "x" else 100 * (second - first) / abs(first)

    def holds(self, change: float) -> bool:
        """Whether a change fulfils the condition, so that the comparison fails."""
        return _OPERATORS[self.compares](change, self.bound)


def parse(text: str) -> Condition:
    """Return the condition that a text says.

    Raises:
        UsageError: it says none.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--fail-if {text!r} is not METRIC < NUMBER",
            "for example 'accuracy < -0.5' (B - A), 'p99_ms > 1.1x' (B / A) or 'epoch > 10%' (relative to A)",
        )
    metric, compares, bound, unit = found.groups()
    return Condition(text.strip(), metric, compares, float(bound), unit)
