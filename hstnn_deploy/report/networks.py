"""One row for each network: what it takes and what it does; its classes, and the spikes of its layers."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hstnn_deploy.report.aggregate import Cell, Study
from hstnn_deploy.report.collect import Collected, Run
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet, figure
from hstnn_deploy.report.tradeoff import Candidate, candidates
from hstnn_deploy.stats import summarise
from hstnn_deploy.train.doubts import RATE

_SHOWN_CLASSES = 40
"""Rows of a table of classes, at most."""
DRAWN_CLASSES = 50
"""Of a confusion matrix that is drawn, at most: a page has to stay small."""

EVALUATE = "hstnn evaluate --ckpt RUN/best.pt --save"
PROFILE = "hstnn profile --ckpt RUN/best.pt --phases work,infer"


def sheet(collected: Collected) -> Sheet | None:
    """Return a row for each network: accuracy beside parameters, work, spikes and time; None without a finished run."""
    found = candidates(collected.runs, collected.profiles, []).networks
    if not found:
        return None
    several = len({each.recipe for each in found}) > 1 or len({each.metric for each in found}) > 1
    metric = "test" if len({each.metric for each in found}) > 1 else f"test {found[0].metric}"
    columns = [
        Column("network", numeric=False),
        Column("seeds"),
        Column(metric),
        Column("± 95 %"),
        Column("parameters"),
        Column("MACs", "per sample"),
        Column("ACs", "per sample"),
        Column("spikes", "per sample"),
        Column("energy, nJ", "per sample"),
        Column("one call, ms", "time"),
    ]
    rows = [_row(each, several) for each in found]
    notes = [
        "Means over seeds. MACs, ACs and energy: counted arithmetic of one sample; the energy"
        " is an estimate. One call: median at the smallest measured batch.",
    ]
    if any(entry.text == NONE for row in rows for entry in (row[7],)):
        notes.append(f"Spikes n/a: not counted yet; run {EVALUATE}.")
    if any(entry.text == NONE for row in rows for entry in (*row[5:7], *row[8:])):
        notes.append(f"MACs, ACs, energy and time n/a: not measured yet; run {PROFILE}.")
    if any(row[4].text == NONE for row in rows):
        notes.append("Parameters n/a: either of these commands counts them.")
    return Sheet("Networks: accuracy, size, work and time", columns, rows, notes)


def _row(each: Candidate, several: bool) -> list[Entry]:
    seen = [run.behaviour for run in each.runs if run.behaviour is not None]
    counts = [float(one.parameters) for one in seen] or ([] if each.parameters is None else [each.parameters])
    # A network without spiking units has no spikes, and says so where it was looked at.
    spikes = fmean(one.spikes for one in seen) if seen else None
    return [
        Entry(each.name if several else each.network),
        Entry(str(len(each.figures)), len(each.figures)),
        figure(each.figure, metric=each.metric),
        figure(summarise(list(each.figures.values())).half, metric=each.metric),
        _whole(fmean(counts) if counts else None),
        _whole(each.costs.get("macs")),
        _whole(each.costs.get("acs")),
        _whole(spikes),
        _short(each.costs.get("energy")),
        _short(each.costs.get("latency")),
    ]


def _whole(value: float | None) -> Entry:
    return Entry(NONE) if value is None else Entry(f"{value:.0f}" if value >= 100 else f"{value:.3g}", value)


def _short(value: float | None) -> Entry:
    return Entry(NONE) if value is None else Entry(f"{value:.4g}" if value < 1000 else f"{value:.0f}", value)


def rates(study: Study) -> Sheet | None:
    """Return how often the spiking units of each layer fire; None where no run says it."""
    layers = sorted(
        {key for cell in study.cells for run in cell.runs.values() for key in _best(run) if key.startswith(RATE)},
        key=lambda key: (len(key), key),
    )
    if not layers:
        return None
    columns = [
        Column("network", numeric=False),
        *(Column(f"layer {key.removeprefix(RATE)}", "spikes per unit and step, %") for key in layers),
    ]
    rows = []
    for cell in study.cells:
        rows.append([Entry(_name(cell)), *(_rate(cell, key) for key in layers)])
    notes = [
        "Of the best epoch, on the split that chose it; mean over seeds. n/a: the layer has no spiking units, or an"
        " older version trained the run."
    ]
    return Sheet(f"{study.title}: spike rates", columns, rows, notes)


def _name(cell: Cell) -> str:
    return f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network)


def _best(run: Run) -> dict[str, Any]:
    """Return the row of the epoch that was kept."""
    at = run.figures.get("best_epoch")
    return next((row for row in run.curve if row.get("epoch") == at), {})


def _rate(cell: Cell, key: str) -> Entry:
    values = [value for run in cell.runs.values() if isinstance(value := _best(run).get(key), int | float)]
    return Entry(f"{100 * fmean(values):.3g}", 100 * fmean(values)) if values else Entry(NONE)


def seen(study: Study) -> list[tuple[str, list[Run]]]:
    """Return the networks of a study that were evaluated with --save, each with those of its runs."""
    found = []
    for cell in study.cells:
        runs = [run for run in cell.runs.values() if run.behaviour is not None]
        if runs:
            found.append((_name(cell), runs))
    return found


def confusion(runs: Sequence[Run]) -> list[list[int]]:
    """Return the sum of some runs' confusion matrices; empty where they have none, or not all have as many classes."""
    found = [run.behaviour.confusion for run in runs if run.behaviour is not None and run.behaviour.confusion]
    if not found or len({len(each) for each in found}) > 1:
        return []
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]


def classes(study: Study) -> list[Sheet]:
    """Return a table of the classes for each network that has a confusion matrix."""
    made = []
    for name, runs in seen(study):
        counts = confusion(runs)
        if counts:
            made.append(_classes(f"{study.title}, {name}: classes", counts, class_names(runs), len(runs)))
    return made


def class_names(runs: Sequence[Run]) -> list[str]:
    """Return what the classes are called; empty where they have numbers alone."""
    return next((run.behaviour.names for run in runs if run.behaviour is not None and run.behaviour.names), [])


def _classes(title: str, counts: list[list[int]], names: list[str], seeds: int) -> Sheet:
    columns = [Column("class", numeric=False), Column("samples"), Column("recall, %"), Column("precision, %")]
    columns += [Column("F1, %"), Column("most often mistaken for", numeric=False)]
    called = [names[number] if names else str(number) for number in range(len(counts))]
    rows = []
    for number, row in enumerate(counts):
        right, there = row[number], sum(row)
        said = sum(other[number] for other in counts)
        others = [(count, place) for place, count in enumerate(row) if place != number and count]
        worst = max(others, key=lambda pair: (pair[0], -pair[1])) if others else None
        share = None if worst is None else 100 * worst[0] / there
        rows.append(
            [
                Entry(called[number]),
                Entry(str(there), there),
                _percent(right, there),
                _percent(right, said),
                _percent(2 * right, there + said),
                Entry("–" if worst is None else f"{called[worst[1]]} ({share:.1f} %)", share),
            ]
        )
    notes = [f"The test split, {'one seed' if seeds == 1 else f'{seeds} seeds together'}. n/a: no such sample."]
    if len(rows) > _SHOWN_CLASSES:
        rows.sort(key=lambda row: 101.0 if row[2].number is None else row[2].number)
        notes.append(f"The {_SHOWN_CLASSES} classes with the lowest recall, out of {len(rows)}.")
    return Sheet(title, columns, rows[:_SHOWN_CLASSES], notes)


def _percent(part: int, whole: int) -> Entry:
    return Entry(f"{100 * part / whole:.1f}", 100 * part / whole) if whole else Entry(NONE)
