"""Tables as every format takes them: titles, columns, and entries that know the number behind their text."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hstnn_deploy.metrics import shown, titled
from hstnn_deploy.report.aggregate import ABSENT, Cell, Study
from hstnn_deploy.stats import ONE
from hstnn_deploy.train.evaluation import PROTOCOLS

NONE = "n/a"


class Entry(NamedTuple):
    """A cell of a table: its text, and the number to sort by if there is one."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Column:
    """A column; neighbours with the same group share a heading above."""

    name: str
    group: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table."""

    title: str
    columns: list[Column]
    rows: list[list[Entry]]
    notes: list[str] = field(default_factory=list)
    """Footnotes and remarks, each a sentence."""
    drop: tuple[str, ...] = ()
    """Columns that a narrow screen leaves out first, in this order."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns, with the number of columns below each; one empty one where there are none."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def figure(value: float | None, sign: bool = False, metric: str = "") -> Entry:
    """Return a figure of a metric as it is shown (`metrics.shown`), or n/a."""
    return Entry(NONE) if value is None else Entry(shown(metric, value, sign), value)


def summary(study: Study) -> Sheet:
    """Return the aggregate: a row per pure network and ratio; ffs and hybrid side by side, the published beside."""
    families = study.families or [""]
    figures = [_columns(study, family) for family in families]
    columns = [
        Column("network", numeric=False),
        *(Column(name, family) for family, names in zip(families, figures, strict=True) for name in names),
    ]
    rows = []
    for label in study.rows:
        row = study.row(label)
        entries = [Entry(label)]
        for family, names in zip(families, figures, strict=True):
            # A pure network is the end of every column.
            cell = row.get(family) or next((one for one in row.values() if one.network.ratio is None), None)
            entries += [_entry(cell, name, study.task.metric) for name in names]
        rows.append(entries)
    task = study.task
    title = f"{study.title}: test {task.metric}{task.unit}, mean over seeds {', '.join(map(str, study.seeds))}"
    return Sheet(title, columns, rows, _notes(study, len(families) > 1))


def _columns(study: Study, family: str) -> list[str]:
    pure_or = {"", family}
    compared = any(
        cell.published is not None
        for cell in study.cells
        if cell.network.family in pure_or or (cell.network.ratio is None and cell.stage != "adapt")
    )
    return ["mean", "sd", "± 95 %", *(["published", "difference"] if compared else [])]


def _entry(cell: Cell | None, name: str, metric: str) -> Entry:
    if cell is None:
        return Entry("")
    mean, sd, half = cell.summary[1:]
    match name:
        case "mean":
            found = figure(mean, metric=metric)
            return found if cell.whole else Entry(f"{found.text} *", found.number)
        case "sd":
            return figure(sd, metric=metric)
        case "± 95 %":
            return figure(half, metric=metric)
        case "published":
            return Entry("") if cell.published is None else figure(cell.published, metric=metric)
        case _:
            return Entry("") if cell.published is None else figure(cell.difference, sign=True, metric=metric)


def by_seed(study: Study) -> Sheet:
    """Return every result: a row per network, a column per seed."""
    columns = [
        Column("network", numeric=False),
        *(Column(str(seed), "seed") for seed in study.seeds),
        *(Column(name, "over the seeds") for name in ("mean", "sd", "± 95 %")),
    ]
    task, rows = study.task, []
    for cell in study.cells:
        name = f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network)
        seeds = [
            figure(cell.values[seed], metric=task.metric) if seed in cell.runs else _short(cell.missing[seed])
            for seed in study.seeds
        ]
        rows.append([Entry(name), *seeds, *(_entry(cell, column, task.metric) for column in ("mean", "sd", "± 95 %"))])
    notes = []
    if study.redundant:
        notes.append("Redundant: the adapted network before selection, with all units of both kinds.")
    return Sheet(
        f"{study.title}: test {task.metric}{task.unit} of each seed", columns, rows, notes + incomplete(study.cells)
    )


def _short(reason: str) -> Entry:
    """Return the first word of why there is no result: running, interrupted, failed; the footnote has the rest."""
    return Entry("–" if reason in {ABSENT, "not begun"} else re.split("[ :,]", reason)[0])


def _notes(study: Study, pure_repeated: bool) -> list[str]:
    better = "higher" if study.task.higher_is_better else "lower"
    notes = [
        f"Protocol: {PROTOCOLS[study.protocol]}. {titled(study.task.metric)}: {better} is better."
        f" Precision: {study.runs[0].recipe.precision}."
        + (f" Trained {study.runs[0].recipe.disturbed}." if study.runs[0].recipe.against else "")
    ]
    if any(cell.summary.number > 1 for cell in study.cells):
        notes.append(
            "sd: sample standard deviation over seeds (n - 1). ± 95 %: half width of the mean's confidence interval"
            " (Student's t)."
        )
    if any(cell.network.step not in {None, "baseline"} for cell in study.cells):
        notes.append(
            "vat, recover and prune: each batch of the test split had a new draw of the weights' variation."
            " `hstnn evaluate --draws N` measures devices: one draw for the whole split."
        )
    if len(study.seeds) == 1:
        notes.append(f"sd and ± 95 % are n/a: {ONE}.")
    if pure_repeated and any(cell.network.ratio is None and cell.stage != "adapt" for cell in study.cells):
        notes.append("A pure network is an end point of both curves, so both columns show its figure.")
    return [*notes, *published_notes(study), *study.notes, *incomplete(c for c in study.cells if c.stage != "adapt")]


def published_notes(study: Study) -> list[str]:
    """Say what the published figures are, and where their protocol is another one."""
    published = study.published
    if published is None:
        return []
    notes = [f"Published: {published.source}. Difference: mean minus published."]
    if published.protocol != study.protocol:
        notes.append(
            f"The published figures come from another protocol ({PROTOCOLS[published.protocol]}): the"
            " difference includes this."
        )
    return notes


def incomplete(cells: Iterable[Cell]) -> list[str]:
    """Say of every cell that is not whole which seeds it lacks, and why."""
    notes = []
    for cell in cells:
        if cell.missing:
            total = len(cell.runs) + len(cell.missing)
            reasons: dict[str, list[int]] = {}
            for seed, reason in cell.missing.items():
                reasons.setdefault(reason, []).append(seed)
            said = "; ".join(f"{_seeds(seeds)} {reason}" for reason, seeds in reasons.items())
            stage = " redundant" if cell.stage == "adapt" else ""
            notes.append(f"* {cell.network}{stage} is incomplete, {len(cell.runs)} of {total} seeds: {said}.")
    return notes


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def kept(study: Study) -> Sheet | None:
    """Return the units that selection kept, a row per restoration; None where nothing was selected."""
    chosen = sorted(
        (run for cell in study.cells for run in cell.runs.values() if run.selection is not None),
        key=lambda run: (run.network.ratio or 0.0, run.network.family, run.recipe.seed),
    )
    if not chosen:
        return None
    layers = range(1, len(chosen[0].sizes) + 1)
    columns = [
        Column("network", numeric=False),
        Column("seed"),
        *(Column(kind, f"layer {layer}") for layer in layers for kind in ("spiking", "recurrent")),
        Column("kept again, %", "stability"),
    ]
    rows = []
    for run in chosen:
        assert run.selection is not None
        stable = 100 * run.selection.mean_stability_of_kept
        counts = [Entry(str(count), count) for size in run.sizes for count in size]
        rows.append(
            [
                Entry(str(run.network)),
                Entry(str(run.recipe.seed), run.recipe.seed),
                *counts,
                Entry(f"{stable:.1f}", stable),
            ]
        )
    first = chosen[0].selection
    assert first is not None
    note = (
        f"Kept again: how often selection keeps a kept unit when it bootstraps the {first.probes} Hessian probes"
        f" {first.bootstraps} times; mean over the kept units."
    )
    return Sheet(f"{study.title}: units kept by selection", columns, rows, [note])


def every_run(study: Study) -> Sheet:
    """Return every run of a study, finished or not."""
    metric = study.task.metric
    columns = [
        Column("network", numeric=False),
        Column("stage", numeric=False),
        Column("seed"),
        Column("state", numeric=False),
        Column("test", metric),
        Column("validation" if study.protocol == "validation" else "chosen on", metric),
        Column("best", "epoch"),
        Column("done", "epoch"),
        Column("s/epoch", "training"),
        Column("spiking+recurrent", numeric=False),
        Column("folder", numeric=False),
    ]
    rows = []
    for run in sorted(study.runs, key=lambda run: (str(run.network.family), run.network.ratio or 0.0, run.recipe.seed)):
        known = run.figures.get
        seconds, best = known("train_seconds"), known("best_epoch")
        rows.append(
            [
                Entry(str(run.network)),
                Entry(run.stage),
                Entry(str(run.recipe.seed), run.recipe.seed),
                Entry(run.standing),
                figure(run.value, metric=metric),
                figure(known(f"valid_{metric}"), metric=metric),
                Entry(NONE) if best is None else Entry(f"{best:.0f}", best),
                Entry(f"{run.epoch} of {run.epochs}", run.epoch),
                Entry(NONE) if seconds is None else Entry(f"{seconds:.3g}", seconds),
                Entry(", ".join(f"{size.snn}+{size.rnn}" for size in run.sizes)),
                Entry(str(run.path)),
            ]
        )
    notes = ["s/epoch: recorded wall time of a training pass, mean over the epochs."]
    return Sheet(f"{study.title}: every run", columns, rows, notes)
