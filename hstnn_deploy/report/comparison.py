"""Two groups of runs or of records, side by side: differences, intervals, tests, and conditions on them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from hstnn_deploy import stats
from hstnn_deploy.errors import ReportError, RunError, UsageError, nearest
from hstnn_deploy.report import comparing_robustness, costs, robust
from hstnn_deploy.report.aggregate import Cell, Study, described, studies
from hstnn_deploy.report.collect import Collected, Profiled, collect, differing
from hstnn_deploy.report.conditions import Condition
from hstnn_deploy.report.pairing import Row, once, paired, row_of
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet

COSTS = ("epoch", "p50_ms", "p99_ms", "throughput", "host_ram_peak_mb", "cuda_allocated_peak_mb", "cuda_process_mb")
"""What is compared of profile records where no metric is named, as far as both sides have measured it."""

ONE_PROCESS = "one process on a side cannot be judged: its calls share one start, so they are not independent samples"
"""Why there is neither interval nor p-value where a side has been measured once."""

_WALL_TIMES = ("train_seconds", "valid_seconds")
"""Figures of a run that a clock measured; the others repeat exactly under the same seed."""


@dataclass(frozen=True)
class Verdict:
    """What came of a condition on one row."""

    condition: Condition
    row: Row
    change: float
    failed: bool | None
    """None where the row cannot be judged; `row.unjudged` says why."""

    @property
    def shown(self) -> str:
        """The change in words, such as "-0.5", "a factor of 1.2" or "+10 %"."""
        unit = self.condition.unit
        return f"a factor of {self.change:.4g}" if unit == "x" else f"{self.change:+.4g}{' %' if unit else ''}"


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


def compare(first: Path, second: Path, metrics: Sequence[str], conditions: Sequence[Condition]) -> Comparison:
    """Compare what two paths hold.

    Args:
        first: A, a folder of runs, or a folder or file of profile or robustness records.
        second: B, of the same sort.
        metrics: which metrics; none for the usual ones.
        conditions: each names a metric, which is compared too.

    Raises:
        RunError: a path holds nothing, damaged runs, or runs of several recipes.
        UsageError: a metric that there is not.
        ReportError: the two cannot be compared, or a condition cannot be judged.
    """
    sides = [collect([path]) for path in (first, second)]
    for side in sides:
        if side.problems:
            more = f" (and {len(side.problems) - 1} more)" if len(side.problems) > 1 else ""
            raise RunError(
                f"{side.problems[0].removeprefix('left out: ')}{more}",
                "a comparison needs every run: mend or remove it",
            )
    wanted = list(dict.fromkeys([*metrics, *(condition.metric for condition in conditions)]))
    sorts = [_sort(path, side) for path, side in zip((first, second), sides, strict=True)]
    if sorts[0] != sorts[1]:
        raise ReportError(
            f"{first} holds {sorts[0]}, and {second} holds {sorts[1]}",
            "compare runs with runs, and records with records of the same sort",
        )
    if sorts[0] == "robustness records":
        mine, theirs = (robust.networks(side) for side in sides)
        rows, notes = comparing_robustness.rows_of(first, second, mine, theirs, wanted)
    elif sorts[0] == "runs":
        a, b = (_study(path, side) for path, side in zip((first, second), sides, strict=True))
        rows, notes = _runs(first, second, a, b, bool(metrics), wanted)
    else:
        rows, notes = _records(sides[0].profiles, sides[1].profiles, bool(metrics), wanted)
    adjusted = stats.holm([row.test.p for row in rows])
    rows = [replace(row, adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    return Comparison(rows, notes, [verdict for condition in conditions for verdict in _judged(condition, rows)])


def _sort(path: Path, side: Collected) -> str:
    held = {"runs": side.runs, "profile records": side.profiles, "robustness records": side.robustness}
    found = [sort for sort, those in held.items() if those]
    if side.runs:
        # What `hstnn sweep --then` measured lies beside the runs; it is compared by the name of its file.
        return "runs"
    if len(found) > 1:
        raise ReportError(f"{path} holds {' and '.join(found)}", "name the file, or a folder with records of one sort")
    if not found:
        raise ReportError(
            f"{path} holds nothing that is compared", "compare runs, profile records, or robustness records"
        )
    return found[0]


def _study(path: Path, side: Collected) -> Study:
    found = studies(side.runs)
    if len(found) > 1:
        names = "; ".join(study.title for study in found[:4])
        raise RunError(f"{path} holds runs of {len(found)} recipes: {names}", "name a folder with runs of one recipe")
    return found[0]


def _runs(
    first: Path, second: Path, a: Study, b: Study, chosen: bool, wanted: Sequence[str]
) -> tuple[list[Row], list[str]]:
    for what, mine, theirs in (
        ("of the data set", a.runs[0].recipe.data.name, b.runs[0].recipe.data.name),
        ("under the protocol", a.protocol, b.protocol),
        ("measured in", a.task.metric, b.task.metric),
    ):
        if mine != theirs:
            raise ReportError(f"{first} is {what} {mine}, {second} {what} {theirs}", "such figures cannot be compared")
    notes = [f"A is {first}, B is {second}; difference: B less A, with its 95 % confidence interval."]
    if keys := differing(described(study.runs) for study in (a, b)):
        notes.append(f"The recipes of A and B differ in {', '.join(keys)}.")
    for side, study in zip("AB", (a, b), strict=True):
        notes += [f"{side}: {note}" for note in study.notes]
        notes += [
            f"{side}: {cell.network} is incomplete: "
            + "; ".join(f"seed {seed} {why}" for seed, why in cell.missing.items())
            for cell in study.cells
            if cell.missing
        ]
    pairs = paired(
        [cell for cell in a.cells if cell.runs],
        [cell for cell in b.cells if cell.runs],
        [lambda cell: (cell.network, cell.stage == "adapt"), lambda cell: (cell.network.ratio, cell.stage == "adapt")],
        _cell_name,
        notes,
        f"no finished network of {first} has its like in {second}",
    )
    known = {name for study in (a, b) for run in study.runs for name in run.figures}
    if not known:
        raise ReportError(f"there is no finished run in {first}", "a comparison needs finished runs")
    if unknown := next((name for name in wanted if name not in known), None):
        raise UsageError(f"unknown metric {unknown!r}", nearest(unknown, known))
    rows = []
    for name in wanted if chosen else dict.fromkeys([a.task.metric, *wanted]):
        for one, other in pairs:
            names = dict.fromkeys((_cell_name(one), _cell_name(other)))
            rows += [
                replace(row, unjudged=ONE_PROCESS) if name in _WALL_TIMES and once(row) else row
                for row in row_of(" : ".join(names), name, _by_seed(one, name), _by_seed(other, name), seeds=True)
            ]
    return rows, notes


def _by_seed(cell: Cell, metric: str) -> dict[int, float]:
    return {seed: run.figures[metric] for seed, run in cell.runs.items() if metric in run.figures}


def _cell_name(cell: Cell) -> str:
    return f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network)


def _records(
    first: Sequence[Profiled], second: Sequence[Profiled], chosen: bool, wanted: Sequence[str]
) -> tuple[list[Row], list[str]]:
    notes = [
        "Difference: B less A. Values of one side are its records of the same configuration, one for each process; "
        "processes that ran at the same time count as one."
    ]
    pairs = paired(
        _measured(first, "A", notes),
        _measured(second, "B", notes),
        [lambda group: costs.identity(group[0].record)],
        lambda group: costs.title(group[0].record),
        notes,
        "no measured configuration of A has its like in B",
    )
    every = [one.record for one in (*first, *second)]
    usual = {} if chosen else {name: costs.metric(name, every) for name in COSTS}
    metrics = {name: metric for name, metric in usual.items() if metric is not None}
    if not chosen and any(each.configuration.phase == "step" for each in every):
        metrics["step_p50_ms"] = costs.find_metric("step_p50_ms", every)
    metrics |= {name: costs.find_metric(name, every) for name in wanted}
    rows = []
    for group, like in pairs:
        title = costs.title(group[0].record)
        # What is counted is the same in every process; what is measured is not.
        counted = group[0].record.configuration.phase == "work"
        for name, metric in metrics.items():
            for row in row_of(title, name, _numbers(metric, group), _numbers(metric, like), seeds=False):
                rows.append(row if counted or not once(row) else _not_judged(row))
    return rows, notes


def _not_judged(row: Row) -> Row:
    return replace(row, test=row.test._replace(method=f"n/a: {ONE_PROCESS}"), unjudged=ONE_PROCESS)


def _measured(profiles: Sequence[Profiled], side: str, notes: list[str]) -> list[list[Profiled]]:
    """Gather the records of each configuration; note those that failed."""
    groups: dict[Hashable, list[Profiled]] = {}
    for one in profiles:
        if one.record.status == "measured":
            groups.setdefault(costs.identity(one.record), []).append(one)
        else:
            notes.append(f"{side}: {costs.title(one.record)} {one.record.status}: {one.record.reason}")
    return list(groups.values())


def _numbers(metric: costs.Metric, group: Iterable[Profiled]) -> dict[int, float]:
    """Return a value for each measurement: of processes that ran at the same time, the mean."""
    values: dict[int, list[float]] = {}
    turns: Counter[int] = Counter()
    for one in group:
        instance = one.record.configuration.instance
        turns[instance] += 1
        if (number := metric.of(one.record)) is not None:
            values.setdefault(turns[instance], []).append(number)
    return {turn: math.fsum(numbers) / len(numbers) for turn, numbers in values.items()}


def _judged(condition: Condition, rows: Sequence[Row]) -> list[Verdict]:
    mine = [row for row in rows if row.metric == condition.metric]
    if not mine:
        raise ReportError(
            f"--fail-if {condition.text!r} cannot be judged: {condition.metric} was not measured on both sides",
            "see `hstnn report` for why",
        )
    verdicts = []
    for row in mine:
        change = condition.change(*row.means)
        if change is None:
            raise ReportError(f"--fail-if {condition.text!r} cannot be judged: {row.metric} of {row.name} is 0 in A")
        verdicts.append(Verdict(condition, row, change, None if row.unjudged else condition.holds(change)))
    return verdicts


def sheet(comparison: Comparison) -> Sheet:
    """Return a comparison as a table. A test that is the same in all rows stands below."""
    several = len(comparison.rows) > 1
    methods = list(dict.fromkeys(row.test.method for row in comparison.rows))
    columns = [
        *(Column(name, numeric=False) for name in ("what", "metric")),
        *(Column(name) for name in ("A", "B", "difference", "± 95 %", "B / A", "p", *(["p, Holm"] if several else []))),
        *([Column("test", numeric=False)] if len(methods) > 1 else []),
    ]
    rows = []
    for row in comparison.rows:
        a, b = row.means
        entries = [Entry(row.name), Entry(row.metric), _number(a), _number(b), _number(row.test.difference, sign=True)]
        entries += [_number(row.test.half), _number(b / a if a else None), _number(row.test.p)]
        entries += [_number(row.adjusted)] if several else []
        rows.append([*entries, *([Entry(row.test.method)] if len(methods) > 1 else [])])
    notes = [*comparison.notes, *([f"p: {methods[0]}."] if len(methods) == 1 else [])]
    if several and any(row.test.p is not None for row in comparison.rows):
        notes.append("p is of each row by itself; Holm's is adjusted for the number of rows.")
    return Sheet("Comparison of A and B", columns, rows, notes)


def _number(value: float | None, sign: bool = False) -> Entry:
    return Entry(NONE) if value is None else Entry(f"{value:{'+' if sign else ''}.5g}", value)


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data; None stands for what is not known."""
    return {
        "rows": [
            {
                "name": row.name,
                "metric": row.metric,
                "a": _side(row.first),
                "b": _side(row.second),
                "difference": row.test.difference,
                "half_width_95": row.test.half,
                "p": row.test.p,
                "p_holm": row.adjusted,
                "test": row.test.method,
                "unjudged": row.unjudged or None,
            }
            for row in comparison.rows
        ],
        "conditions": [
            {
                "condition": verdict.condition.text,
                "name": verdict.row.name,
                "change": verdict.change,
                "failed": verdict.failed,
                "unjudged": verdict.row.unjudged or None,
            }
            for verdict in comparison.verdicts
        ],
        "notes": comparison.notes,
    }


def _side(values: dict[int, float]) -> dict[str, Any]:
    return {
        "mean": math.fsum(values.values()) / len(values),
        "median": median(values.values()),
        "values": {str(key): value for key, value in values.items()},
    }
