"""Two groups of runs or of records, side by side: differences, intervals, tests, and conditions on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hstnn_deploy import stats
from hstnn_deploy.errors import ReportError, RunError, UsageError
from hstnn_deploy.profile.record import Record
from hstnn_deploy.report import robust
from hstnn_deploy.report.collect import Collected, collect
from hstnn_deploy.report.comparing import disturbed, measured, runs
from hstnn_deploy.report.comparing.conditions import Condition
from hstnn_deploy.report.comparing.pairing import Row
from hstnn_deploy.report.comparing.verdicts import Verdict, judged


@dataclass(frozen=True)
class Comparison:
    """All rows of two groups."""

    rows: list[Row]
    notes: list[str]
    verdicts: list[Verdict]

    @property
    def failures(self) -> list[Verdict]:
        """The conditions that were met."""
        return [verdict for verdict in self.verdicts if verdict.failed]

    @property
    def unjudged(self) -> list[Verdict]:
        """The conditions that could not be judged."""
        return [verdict for verdict in self.verdicts if verdict.failed is None]


def compare(
    first: Path,
    second: Path,
    metrics: Sequence[str],
    conditions: Sequence[Condition],
    despite: bool = False,
    redundant: bool = False,
) -> Comparison:
    """Compare what two paths hold.

    Args:
        first: A, a folder of runs, the best.pt of one, or a folder or file of profile or robustness records.
        second: B, of the same sort.
        metrics: which metrics; none for the usual ones.
        conditions: each names a metric, which is compared too.
        despite: whether conditions are judged by doubtful measurements too, such as on a busy machine.
        redundant: whether hybrids are compared as they are before their selection.

    Raises:
        RunError: a path has nothing, damaged runs, or runs of several recipes.
        UsageError: an unknown metric, a bound without its unit, or `redundant` where there is no such run.
        ReportError: the two cannot be compared, or a condition cannot be evaluated.
    """
    sides = [collect([path]) for path in (first, second)]
    for side in sides:
        if side.problems:
            more = f" (and {len(side.problems) - 1} more)" if len(side.problems) > 1 else ""
            raise RunError(
                f"{side.problems[0].removeprefix('left out: ')}{more}",
                "a comparison needs every run: repair or remove it",
            )
    wanted = _wanted(metrics, conditions)
    sorts = [_sort(path, side) for path, side in zip((first, second), sides, strict=True)]
    if sorts[0] != sorts[1]:
        raise ReportError(
            f"{first} contains {sorts[0]}, but {second} contains {sorts[1]}",
            "compare runs with runs, and records with records of the same kind",
        )
    if redundant and not any(run.stage == "adapt" for side in sides for run in side.runs):
        raise UsageError(
            f"--redundant compares hybrids before their selection, and neither {first} nor {second} has one",
            "leave it out, or name a folder with a run of stage adapt",
        )
    if sorts[0] == "robustness records":
        mine, theirs = (robust.networks(side) for side in sides)
        rows, notes = disturbed.rows_of(first, second, mine, theirs, wanted)
    elif sorts[0] == "runs":
        rows, notes = runs.rows_of(first, second, [side.runs for side in sides], bool(metrics), wanted, redundant)
    else:
        a, b = ([profiled.record for profiled in side.profiles] for side in sides)
        return compare_records(a, b, (str(first), str(second)), metrics, conditions, despite)
    return _whole(rows, notes, conditions, despite)


def compare_records(
    first: Sequence[Record],
    second: Sequence[Record],
    names: tuple[str, str],
    metrics: Sequence[str],
    conditions: Sequence[Condition],
    despite: bool = False,
) -> Comparison:
    """Compare profile records of two sources of these names; see `compare`."""
    rows, notes = measured.rows_of(first, second, bool(metrics), _wanted(metrics, conditions))
    return _whole(rows, [f"A is {names[0]}, B is {names[1]}.", *notes], conditions, despite)


def _wanted(metrics: Sequence[str], conditions: Sequence[Condition]) -> list[str]:
    return list(dict.fromkeys([*metrics, *(condition.metric for condition in conditions)]))


def _whole(rows: Sequence[Row], notes: list[str], conditions: Sequence[Condition], despite: bool) -> Comparison:
    adjusted = stats.holm([row.test.p for row in rows])
    rows = [replace(row, adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    return Comparison(rows, notes, judged(conditions, rows, despite))


def _sort(path: Path, side: Collected) -> str:
    held = {"runs": side.runs, "profile records": side.profiles, "robustness records": side.robustness}
    found = [sort for sort, those in held.items() if those]
    if side.runs:
        # What `hstnn sweep --then` measured lies beside the runs; it is compared by the name of its file.
        return "runs"
    if len(found) > 1:
        raise ReportError(f"{path} contains {' and '.join(found)}", "name a file, or a folder with records of one kind")
    if not found:
        raise ReportError(f"{path} contains nothing to compare", "compare runs, profile records, or robustness records")
    return found[0]
