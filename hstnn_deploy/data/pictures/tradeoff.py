"""Draw accuracy, robustness and cost of networks: who is not beaten stands on a line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hstnn_deploy.data.pictures.figure import INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = {"snn": "o", "rnn": "s", "lstm": "D", "ffs": "^", "hybrid": "P", "plain": "X"}


class Point(NamedTuple):
    """One network."""

    name: str
    kind: str
    cost: float
    figure: float
    robustness: float | None
    undominated: bool


def draw_tradeoff(points: Sequence[Point], metric: str, cost: str) -> "Figure":
    """Return the metric against a cost, robustness as colour; unbeaten networks are named and dark-rimmed."""
    figure = new_figure(8.5, 5.2)
    axes = figure.add_subplot()
    known = [point.robustness for point in points if point.robustness is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    drawn = None
    for kind in dict.fromkeys(point.kind for point in points):
        for measured in (True, False):
            some = [point for point in points if point.kind == kind and (point.robustness is not None) == measured]
            if not some:
                continue
            colours: Any = [point.robustness for point in some] if measured else PALE
            rims = [INK if point.undominated else PALE for point in some]
            dots = axes.scatter(
                [point.cost for point in some],
                [point.figure for point in some],
                c=colours,
                vmin=low if measured else None,
                vmax=max(high, low + 1e-9) if measured else None,
                cmap="viridis" if measured else None,
                marker=_MARKERS.get(kind, "o"),
                s=70,
                edgecolors=rims,
                linewidths=1.4,
                label=kind if measured else f"{kind}, robustness not measured",
                zorder=3,
            )
            drawn = dots if measured else drawn
    for point in points:
        if point.undominated:
            axes.annotate(
                point.name, (point.cost, point.figure), xytext=(6, 5), textcoords="offset points", fontsize=7, color=INK
            )
    if all(point.cost > 0 for point in points):
        from matplotlib.ticker import LogFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(LogFormatter())
        axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    title = "A name and a dark rim: no other network is at least as good in accuracy, robustness and cost"
    axes.set(xlabel=cost, ylabel=metric, title=title)
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, label=f"robustness: mean {metric} over all levels of the disturbances")
    return figure
