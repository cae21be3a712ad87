"""A comparison as a table, and as plain data."""

import math
from statistics import median
from typing import Any

from hstnn_deploy.report.comparing import over_processes
from hstnn_deploy.report.comparing.comparison import Comparison
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet


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
        entries = [Entry(row.name), Entry(row.full_metric), _number(a), _number(b)]
        entries += [_number(row.test.difference, sign=True), _number(row.test.half)]
        entries += [_number(b / a if a else None), _number(row.test.p)]
        entries += [_number(row.adjusted)] if several else []
        rows.append([*entries, *([Entry(row.test.method)] if len(methods) > 1 else [])])
    notes = [*comparison.notes, *([f"p: {methods[0]}."] if len(methods) == 1 else [])]
    if several and any(row.test.p is not None for row in comparison.rows):
        notes.append("p is of each row by itself; Holm's is adjusted for the number of rows.")
    tested = [row.counts for row in comparison.rows if row.processes and row.test.p is not None]
    if tested and (said := over_processes.said(tested)):
        notes.append(said.text)
    doubts = list(dict.fromkeys(each for row in comparison.rows for each in row.caveats))
    if doubts:
        notes.append(f"Doubtful times: {'; '.join(doubts)}.")
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
                "unit": row.unit or None,
                "a": _side(row.first),
                "b": _side(row.second),
                "difference": row.test.difference,
                "half_width_95": row.test.half,
                "p": row.test.p,
                "p_holm": row.adjusted,
                "p_least": over_processes.least_p(*row.counts) if row.processes and row.test.p is not None else None,
                "test": row.test.method,
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
