"""Learning curves as one picture: loss, metric and spike rates, epoch by epoch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from hstnn_deploy.data.pictures.figure import PALE, new_figure
from hstnn_deploy.report.aggregate import Study
from hstnn_deploy.report.collect import Run
from hstnn_deploy.train.doubts import RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST = 1e100

_MOST_NAMED = 8
"""Lines that a legend names; more would hide what it explains."""


def curves(studies: Sequence[Study]) -> "Figure | None":
    """Return a row of three charts for each study, or None where no epoch is done.

    Loss and metric: dashed of training, solid of validation, a colour for each network, a line for each seed, a circle
    for the epoch whose network is kept, and a cross for its figure on the test split. Dots are measurements within an
    epoch. Spike rates: those of each layer's units on the validation split, of the first seed of the first network.
    """
    shown = [study for study in studies if any(run.curve for run in study.runs)]
    if not shown:
        return None
    figure = new_figure(13, 3.6 * len(shown))
    for row, study in enumerate(shown):
        loss, metric, rates = (figure.add_subplot(len(shown), 3, 3 * row + place) for place in (1, 2, 3))
        runs = [run for run in study.runs if run.curve]
        names = list(dict.fromkeys(_name(run) for run in runs))
        for run in runs:
            colour, first = f"C{names.index(_name(run)) % 10}", run is _first(runs, _name(run))
            _draw(loss, run, "loss", colour, None)
            _draw(metric, run, study.task.metric, colour, _name(run) if first else None)
        unit = f" ({study.task.unit.strip()})" if study.task.unit.strip() else ""
        _dress(loss, study.title, "loss")
        chosen = "the test split" if study.protocol == "test" else "validation"
        _dress(
            metric, f"dashed training, solid {chosen}; o best epoch, x its test figure", f"{study.task.metric}{unit}"
        )
        if 1 < len(names) <= _MOST_NAMED:
            metric.legend(fontsize=8, frameon=False)
        _rates(rates, runs[0])
    return figure


def _name(run: Run) -> str:
    return f"{run.network} redundant" if run.stage == "adapt" and run.recipe.kind == "hybrid" else str(run.network)


def _first(runs: Sequence[Run], name: str) -> Run:
    return next(run for run in runs if _name(run) == name)


def _draw(axes: "Axes", run: Run, what: str, colour: str, label: str | None) -> None:
    """Draw a quantity of one run: its epochs, and what was measured within them."""
    for split, style in (("train", "--"), ("valid", "-")):
        axes.plot(*_points(run.curve, f"{split}_{what}"), style, color=colour, linewidth=1.3)
    wanted = ("epoch", "batch", "batches", f"valid_{what}")
    for epoch, batch, batches, value in ([row.get(key) for key in wanted] for row in run.steps):
        if _drawable(value) and epoch and batch and batches:
            axes.plot([epoch - 1 + batch / batches], [value], ".", color=colour, markersize=3)
    best = [row for row in run.curve if row.get("best")][-1:]
    axes.plot(*_points(best, f"valid_{what}"), "o", color=colour, markersize=5, markerfacecolor="none", label=label)
    at_end = run.figures.get(what)
    if _drawable(at_end) and best and "epoch" in best[0]:
        axes.plot([best[0]["epoch"]], [at_end], "x", color=colour, markersize=6)


def _points(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    there = [row for row in rows if "epoch" in row and _drawable(row.get(name))]
    return [row["epoch"] for row in there], [row[name] for row in there]


def _drawable(value: Any) -> TypeGuard[float]:
    """Whether a number has a place in a chart."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _rates(axes: "Axes", run: Run) -> None:
    layers = sorted({key for row in run.curve for key in row if key.startswith(RATE)}, key=lambda key: (len(key), key))
    for layer in layers:
        axes.plot(*_points(run.curve, layer), "-", linewidth=1.3, label=f"layer {layer.removeprefix(RATE)}")
    if not layers:
        axes.text(0.5, 0.5, "no spiking units", ha="center", va="center", transform=axes.transAxes)
    elif len(layers) <= _MOST_NAMED:
        axes.legend(fontsize=8, frameon=False)
    axes.set_ylim(bottom=0)
    _dress(axes, f"{_name(run)}, seed {run.recipe.seed}", "spikes per unit and step")


def _dress(axes: "Axes", title: str, what: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=9)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(what, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color=PALE, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
