"""Two groups of runs, side by side: a row for each network and figure, by seed."""

from collections.abc import Sequence
from pathlib import Path

from hstnn_deploy.errors import ReportError, RunError, UsageError, nearest
from hstnn_deploy.report.aggregate import Cell, Study, described, studies
from hstnn_deploy.report.collect import Run, differing
from hstnn_deploy.report.comparing.pairing import Row, by_process, by_seed, paired

_UNITS = {"train_seconds": "s", "valid_seconds": "s"}
"""Figures of a run that a clock measured, each run in a process of its own; the others repeat exactly under a seed."""


def rows_of(
    first: Path, second: Path, sides: Sequence[Sequence[Run]], chosen: bool, wanted: Sequence[str], redundant: bool
) -> tuple[list[Row], list[str]]:
    """Return a row for each network that both sides have and each figure, and notes.

    Args:
        first: where A was read.
        second: where B was read.
        sides: the runs of A and of B.
        chosen: whether `wanted` alone is compared; else the task's metric too.
        wanted: names of figures.
        redundant: whether hybrids are compared before their selection, each side that has any; else, where no network
            has its like on the other side, as they are after their restoration.

    Raises:
        RunError: a side has runs of several recipes.
        ReportError: the two are of other data or have nothing in common.
        UsageError: a figure that neither side has.
    """
    a, b = (_study(path, runs) for path, runs in zip((first, second), sides, strict=True))
    for what, mine, theirs in (
        ("of the data set", a.runs[0].recipe.data.name, b.runs[0].recipe.data.name),
        ("under the protocol", a.protocol, b.protocol),
        ("measured in", a.task.metric, b.task.metric),
    ):
        if mine != theirs:
            raise ReportError(f"{first} is {what} {mine}, {second} {what} {theirs}", "these figures cannot be compared")
    notes = [f"A is {first}, B is {second}; difference: B - A, with its 95 % confidence interval."]
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
        _finished(a, redundant),
        _finished(b, redundant),
        [lambda cell: (cell.network, cell.stage == "adapt"), lambda cell: (cell.network.ratio, cell.stage == "adapt")],
        _name,
        notes,
        f"no finished network of {first} has a counterpart in {second}",
        lambda cell: "--redundant compares hybrids before their selection" if cell.stage == "adapt" else "",
    )
    known = {name for study in (a, b) for run in study.runs for name in run.figures}
    if not known:
        raise ReportError(f"there is no finished run in {first}", "a comparison needs finished runs")
    if unknown := next((name for name in wanted if name not in known), None):
        raise UsageError(f"unknown metric {unknown!r}", nearest(unknown, known))
    rows = []
    for name in wanted if chosen else dict.fromkeys([a.task.metric, *wanted]):
        for one, other in pairs:
            names = " : ".join(dict.fromkeys((_name(one), _name(other))))
            values, others = _figures(one, name), _figures(other, name)
            if name in _UNITS:
                rows += by_process(names, name, values, others, _UNITS[name])
            else:
                rows += by_seed(names, name, values, others)
    return rows, notes


def _study(path: Path, runs: Sequence[Run]) -> Study:
    found = studies(runs)
    if len(found) > 1:
        names = "; ".join(study.title for study in found[:4])
        raise RunError(f"{path} has runs of {len(found)} recipes: {names}", "name a folder with runs of one recipe")
    return found[0]


def _finished(study: Study, redundant: bool) -> list[Cell]:
    """Return the cells that have a result; of a study with redundant ones, those alone if they are wanted."""
    finished = [cell for cell in study.cells if cell.runs]
    return ([cell for cell in study.redundant if cell.runs] if redundant else []) or finished


def _figures(cell: Cell, metric: str) -> dict[int, float]:
    return {seed: run.figures[metric] for seed, run in cell.runs.items() if metric in run.figures}


def _name(cell: Cell) -> str:
    return f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network)
