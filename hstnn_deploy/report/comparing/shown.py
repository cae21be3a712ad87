"""A comparison as a table, and as plain data."""

import math
from statistics import median
from typing import Any

from hstnn_deploy.report.comparing import over_processes
from hstnn_deploy.report.comparing.comparison import Comparison
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet


def sheet(comparison: Comparison) -> Sheet:
    """Return a comparison as a table. What is the same in all rows stands above it (its name) or below (the test)."""
    several = len(comparison.rows) > 1
    names = list(dict.fromkeys(row.name for row in comparison.rows))
    methods = list(dict.fromkeys(row.test.method for row in comparison.rows))
    columns = [
        *(Column(name, numeric=False) for name in (["what"] if len(names) > 1 else []) + ["metric"]),
        *(Column(name) for name in ("A", "B", "B - A", "± 95 %", "B / A", "p", *(["p, Holm"] if several else []))),
        *([Column("test", numeric=False)] if len(methods) > 1 else []),
    ]
    rows = []
    for row in comparison.rows:
        a, b = row.means
        entries = [Entry(row.name)] if len(names) > 1 else []
        entries += [Entry(row.full_metric), _number(a), _number(b)]
        entries += [_number(row.test.difference, "+.3g"), _number(row.test.half, ".3g")]
        entries += [_number(b / a if a else None, ".4g"), _number(row.test.p, ".2g")]
        entries += [_number(row.adjusted, ".2g")] if several else []
        rows.append([*entries, *([Entry(row.test.method)] if len(methods) > 1 else [])])
    notes = [*comparison.notes, *([f"p: {methods[0]}."] if len(methods) == 1 else [])]
    if several and any(row.test.p is not None for row in comparison.rows):
        notes.append("p tests each row alone; Holm's p is adjusted for the number of rows.")
    tested = [row.counts for row in comparison.rows if row.processes and row.test.p is not None]
    if tested and (said := over_processes.said(tested)):
        notes.append(said.text)
    doubts = list(dict.fromkeys(each for row in comparison.rows for each in row.caveats))
    if doubts:
        notes.append(f"Doubtful times: {'; '.join(doubts)}.")
    of = f": {names[0]}" if len(names) == 1 else ""
    return Sheet(f"A and B compared{of}", columns, rows, notes, drop=("test", "p", "± 95 %", "B / A"))


def _number(value: float | None, form: str = ".5g") -> Entry:
    return Entry(NONE) if value is None else Entry(format(value, form), value)


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data; None stands for what is not known."""
    return {
        "rows": [
            {
                "name": row.name,
                "metric": row.metric,
                "unit": row.unit or None,
                "a": _side(row.first),
                "b": _side(row.second),
                "difference": row.test.difference,
                "half_width_95": row.test.half,
                "p": row.test.p,
                "p_holm": row.adjusted,
                "p_least": over_processes.least_p(*row.counts) if row.processes and row.test.p is not None else None,
                "test": row.test.method,
                "unjudged": over_processes.too_few(*row.counts) if row.processes and min(row.counts) < 2 else None,
                "caveats": list(row.caveats),
            }
            for row in comparison.rows
        ],
        "conditions": [
            {
                "condition": verdict.condition.text,
                "name": verdict.row.name,
                "change": verdict.change,
                "p_holm": verdict.p,
                "failed": verdict.failed,
                "unjudged": verdict.why or None,
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
