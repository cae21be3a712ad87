"""What the pictures of a page are drawn from, as plain data: short, because the page contains all of it."""

from collections.abc import Sequence
from typing import Any

from hstnn_deploy.profile.values import Measured
from hstnn_deploy.report import costs, networks, robust
from hstnn_deploy.report.aggregate import Study
from hstnn_deploy.report.collect import Collected, Run
from hstnn_deploy.report.formats import plain_cell
from hstnn_deploy.report.tradeoff import COSTS, undominated
from hstnn_deploy.robustness.pictures import panels
from hstnn_deploy.robustness.record import Measured as Disturbed

_DIGITS = 4
"""Significant digits of what is only drawn."""
_CALLS = 150
"""Points of the distribution of a record's calls."""


def of_disturbed(measured: Sequence[Disturbed]) -> dict[str, Any]:
    """Return the panels of networks of one data set and metric under disturbances.

    A line leaves out its lowest and highest where one draw of one seed was measured, and its axis where it is the
    panel's.
    """
    found = panels(measured)
    kinds = {line.name: line.kind for panel in found for line in panel.lines}
    places = {name: place for place, name in enumerate(kinds)}
    made = []
    for panel in found:
        axis = panel.lines[0].axis
        lines = []
        for line in panel.lines:
            one: dict[str, Any] = {"network": places[line.name], "means": _all(line.means)}
            if line.lows != line.highs:
                one |= {"lows": _all(line.lows), "highs": _all(line.highs)}
            if line.axis != axis:
                one["axis"] = _all(line.axis)
            if line.dashed:
                one["dashed"] = True
            lines.append(one)
        names = {f"{_rounded(place):g}": name for place, name in panel.ticks}
        made.append({"title": panel.title, "unit": panel.unit, "axis": _all(axis), "names": names, "lines": lines})
    first = measured[0]
    return {"metric": first.metric, "unit": first.unit.strip(), "networks": list(kinds.items()), "panels": made}


def of_tradeoff(collected: Collected) -> list[dict[str, Any]]:
    """Return accuracy, robustness and costs of networks; nothing where they have several metrics, or no costs."""
    found = robust.compared(collected)
    there = [name for name in COSTS if any(name in each.costs for each in found)]
    if len({each.metric for each in found}) != 1 or not there:
        return []
    fronts = {name: {each.name for each in undominated(found, name)} for name in there}
    several = len({each.recipe for each in found}) > 1
    # Energy is what the table compares by: it is drawn first.
    there.sort(key=lambda name: name != robust.COST)
    points = [
        {
            "name": each.name if several else each.network,
            "family": each.kind,
            "figure": _rounded(each.figure),
            "robustness": _rounded(each.robustness),
            "costs": {name: _rounded(each.costs[name]) for name in there if name in each.costs},
            "front": [name for name in there if each.name in fronts[name]],
        }
        for each in found
    ]
    unit = "%" if found[0].metric == "accuracy" else ""
    about = [{"name": name, "unit": COSTS[name].unit, "about": COSTS[name].about} for name in there]
    return [{"metric": found[0].metric, "unit": unit, "points": points, "costs": about}]


def of_study(study: Study) -> dict[str, Any]:
    """Return the cells, learning curves and selections of a study."""
    published = study.published
    order = [f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network) for cell in study.cells]
    return {
        "title": study.title,
        "metric": study.task.metric,
        "unit": study.task.unit.strip(),
        "cells": [plain_cell(cell) | {"runs": [_run_data(run) for run in cell.runs.values()]} for cell in study.cells],
        "published": published and published.model_dump(mode="json"),
        "curves": [
            {"network": _name(run), "family": run.network.family, "seed": run.recipe.seed, "rows": _curve(run)}
            for run in sorted(study.runs, key=lambda run: (order.index(_name(run)), run.recipe.seed))
            if run.curve
        ],
        **_selections(study),
        "seen": [_seen(name, runs) for name, runs in networks.seen(study)],
    }


def _seen(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the confusion matrix of a network's seeds together, and the raster of its first seed."""
    found: dict[str, Any] = {"network": name, "seeds": len(runs)}
    counts = networks.confusion(runs)
    if counts and len(counts) <= networks.DRAWN_CLASSES:
        found |= {"confusion": counts, "names": networks.class_names(runs)}
    first = runs[0].behaviour
    if first is not None and first.layers and first.steps:
        layers = [
            {
                "layer": layer.layer,
                "units": layer.units,
                "shown": layer.shown,
                "rate": _rounded(layer.rate),
                # A number for each spike: its step times the units that are shown, and its unit.
                "places": [step * layer.shown + unit for step, unit in layer.raster],
            }
            for layer in first.layers
        ]
        found["raster"] = {"steps": first.steps, "seed": runs[0].recipe.seed, "layers": layers}
    return found


def _name(run: Run) -> str:
    return f"{run.network} redundant" if run.stage == "adapt" else str(run.network)


def _run_data(run: Run) -> dict[str, Any]:
    return {"seed": run.recipe.seed, "value": run.value, "units": [list(size) for size in run.sizes]}


def _curve(run: Run) -> dict[str, list[float | None]]:
    """Return the quantities of metrics.jsonl as columns."""
    names = [name for name in run.curve[0] if name.startswith(("train_", "valid_")) and not name.endswith("_seconds")]
    return {name: [_rounded(row.get(name)) for row in run.curve] for name in ("epoch", *names)}


def _selections(study: Study) -> dict[str, Any]:
    """Return importances once per adapted network, and per ratio what was kept and how often again."""
    importances: dict[str, Any] = {}
    selections = []
    for run in study.runs:
        if run.selection is None:
            continue
        key = f"{run.network.family} {run.recipe.seed}"
        importances[key] = [
            {
                "layer": group.layer,
                "kind": group.kind,
                "importance": [_rounded(value) for value in group.importance],
                "error": [_rounded(value) for value in group.standard_error],
            }
            for group in run.selection.units
        ]
        selections.append(
            {
                "of": key,
                "network": str(run.network),
                "seed": run.recipe.seed,
                "mean": run.selection.mean_stability_of_kept,
                "groups": [
                    {"kept": group.kept, "stability": [_rounded(value) for value in group.stability]}
                    for group in run.selection.units
                ],
            }
        )
    return {"importances": importances, "selections": selections}


def _rounded(value: float | None) -> float | None:
    if value is None:
        return None
    short = float(f"{value:.{_DIGITS}g}")
    # Of JSON, 80 is two letters shorter than 80.0.
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def of_record(record: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """Return what is drawn of a profile record; `plain` is everything in its line."""
    kind, ratio = costs.network(record)
    asked = record.configuration
    return {
        "title": costs.title(record),
        "series": f"{kind} {asked.phase}, {asked.engine}, batch {asked.batch}, {asked.device}",
        "kind": kind,
        "ratio": ratio,
        "phase": asked.phase,
        "values": {
            value.name: {"number": _rounded(value.number), "unit": value.unit}
            for value in record.values
            if isinstance(value, Measured)
        },
        "latencies": _thinned(costs.latencies(plain)),
        "timeline": _shortened(costs.timeline(plain)),
    }


def _thinned(pairs: list[list[float]]) -> list[list[float | None]]:
    """Return as many of the calls' times as a picture can show, and all of the slowest."""
    last = len(pairs) - 1
    if last < _CALLS:
        return [_all(pair) for pair in pairs]
    # Half of the points lie even over all calls, half over the slowest tenth.
    half = _CALLS // 2
    even = {round(last * place / (half - 1)) for place in range(half)}
    slow = {round(last - 0.1 * last * place / (half - 1)) for place in range(half)}
    return [_all(pairs[place]) for place in sorted(even | slow)]


def _shortened(timeline: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a timeline whose columns have the digits that a picture shows."""
    if timeline is None:
        return None
    columns = {name: _all(values) for name, values in timeline["columns"].items()}
    return {**timeline, "t": _all(timeline["t"]), "columns": columns}


def _all(values: Sequence[float | None]) -> list[float | None]:
    return [_rounded(value) for value in values]
