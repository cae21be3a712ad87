"""What comes of the conditions on a comparison: fulfilled, not fulfilled, or not to be judged, with the reason.

Figures of processes are judged by a test of the very condition: A's figures are moved by its bound, and B's must lie
beyond them (one-sided, over processes; several corrected by Holm). That B happens to lie beyond the bound is not
enough: of two measurements of one network one is always the slower. What is counted, and what runs are compared by
seed in, is judged by the difference itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hstnn_deploy import stats
from hstnn_deploy.errors import ReportError
from hstnn_deploy.report.comparing import over_processes
from hstnn_deploy.report.comparing.conditions import Condition
from hstnn_deploy.report.comparing.over_processes import LEVEL
from hstnn_deploy.report.comparing.pairing import Row

_MORE = "measure several processes of each side: hstnn profile --repeats 5 --out DIR, or hstnn compare --run A B"
_DESPITE = "measure again while the machine is idle and for longer (--seconds), or add --despite to judge anyway"


@dataclass(frozen=True)
class Verdict:
    """What came of a condition on one row."""

    condition: Condition
    row: Row
    change: float
    """In the unit of the condition."""
    failed: bool | None
    """None where the row cannot be evaluated; `why` says why."""
    p: float | None = None
    """Of the test over processes that the change is beyond the bound, corrected for the number of such tests."""
    why: str = ""
    """Why it cannot be evaluated; empty where it can."""
    hint: str = ""
    """What would work instead."""

    @property
    def shown(self) -> str:
        """The change in words, such as "-0.5", "a factor of 1.2", "+10 %" or "+3 ms"."""
        unit = self.condition.unit
        return f"a factor of {self.change:.4g}" if unit == "x" else f"{self.change:+.4g} {unit}".rstrip()

    @property
    def said(self) -> str:
        """The verdict in a line."""
        beyond = self.condition.holds(self.change)
        tested = "" if self.p is None else f", p {self.p:.2g}"
        if self.failed is None:
            return f"cannot be evaluated by {self.row.name} ({self.shown}): {self.why}"
        if self.failed:
            return f"fulfilled by {self.row.name} ({self.shown}{tested})"
        chance = ", not distinguishable from chance" if beyond else ""
        return f"not fulfilled by {self.row.name} ({self.shown}{tested}{chance})"


def judged(conditions: Sequence[Condition], rows: Sequence[Row], despite: bool) -> list[Verdict]:
    """Return the verdicts of all conditions on the rows that they are about.

    Args:
        conditions: each names a metric.
        rows: the comparison.
        despite: whether what is doubtful is judged all the same.

    Raises:
        UsageError: a bound lacks its unit, or has a wrong one.
        ReportError: a metric was not measured on both sides, or is 0 in A and the bound is relative to it.
    """
    found = [verdict for condition in conditions for verdict in _of(condition, rows, despite)]
    tested = [number for number, verdict in enumerate(found) if verdict.p is not None]
    for number, p in zip(tested, stats.holm([found[number].p for number in tested]), strict=True):
        verdict, (a, b) = found[number], found[number].row.counts
        assert p is not None
        found[number] = replace(verdict, p=p, failed=p < LEVEL and verdict.condition.holds(verdict.change))
        least = over_processes.least_p(a, b, 1) * len(tested)
        if least >= LEVEL:
            tests = "1 test" if len(tested) == 1 else f"{len(tested)} tests"
            counts = f"{a} and {b} processes and {tests}"
            why = f"with {counts}, p is at least {min(1.0, least):.2g}; it must be below {LEVEL:g}"
            found[number] = replace(verdict, p=p, failed=None, why=why, hint=_MORE)
    return found


def _of(condition: Condition, rows: Sequence[Row], despite: bool) -> list[Verdict]:
    mine = [row for row in rows if row.metric == condition.metric]
    if not mine:
        raise ReportError(
            f"--fail-if {condition.text!r} cannot be evaluated: {condition.metric} was not measured on both sides",
            "see `hstnn report` for why",
        )
    verdicts = []
    for row in mine:
        size = condition.size_in(row.unit)
        change = condition.change(*(mean / size for mean in row.means))
        if change is None:
            raise ReportError(f"--fail-if {condition.text!r} cannot be evaluated: {row.metric} of {row.name} is 0 in A")
        verdicts.append(_verdict(condition, row, size, change, despite))
    return verdicts


def _verdict(condition: Condition, row: Row, size: float, change: float, despite: bool) -> Verdict:
    if not row.processes:
        return Verdict(condition, row, change, condition.holds(change))
    if min(row.counts) < 2:
        return Verdict(condition, row, change, None, None, over_processes.too_few(*row.counts), _MORE)
    if row.caveats and not despite:
        return Verdict(condition, row, change, None, None, "; ".join(row.caveats), _DESPITE)
    moved = [condition.moved(value / size) for value in row.first.values()]
    beside = [value / size for value in row.second.values()]
    p = over_processes.beyond(moved, beside, condition.compares.startswith(">"))
    return Verdict(condition, row, change, None, p)
