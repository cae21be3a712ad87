"""Figures for papers: PDF and SVG of a column's width, letters of 7 and 8 points, fonts within the files."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from hstnn_deploy import files
from hstnn_deploy.data.pictures.figure import new_figure
from hstnn_deploy.report.paper.plots import Plot, Series, as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.5
"""Inches: the width of a column of IEEE's and of many other journals (88 to 89 mm)."""
NARROWEST, WIDEST = 1.5, 20.0
"""Inches: what a figure may be as wide as."""

_INK, _RULE = "#222222", "#d8d8d8"
_COLOURS = {
    "ffs": "#0072b2", "hybrid": "#c2410c", "rnn": "#00775a", "lstm": "#7a5c00", "snn": "#a3357a", "plain": "#0072b2",
    "ffs-lstm": "#4b5fc0", "hybrid-lstm": "#8f5a00", "baseline": "#59636e", "vat": "#0072b2", "recover": "#c2410c",
    "prune": "#00775a",
}  # fmt: skip
"""As on the page. They differ in lightness too, and for most people who tell red and green apart badly."""
_DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (3, 1)), (0, (8, 2))]
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    # Letters as outlines of TrueType fonts in the file: Type 3 fonts are refused by many publishers.
    "pdf.fonttype": 42,
    # Letters as shapes: an SVG has no fonts, and looks the same on systems with other fonts.
    "svg.fonttype": "path",
    # The same bytes each time.
    "svg.hashsalt": "hstnn",
}


def write(plots: Sequence[Plot], folder: Path, width: float = COLUMN) -> list[Path]:
    """Write each figure as PDF, SVG and CSV.

    Args:
        plots: the figures.
        folder: where to; it is made.
        width: of each figure, in inches.

    Returns:
        The files, in order.

    Raises:
        RunError: a file cannot be written.
    """
    import matplotlib as mpl

    written = []
    files.make_folder(folder)
    for plot in plots:
        with mpl.rc_context(_STYLE):
            picture = draw(plot, width)
            for kind, facts in (("pdf", {"CreationDate": None}), ("svg", {"Date": None})):
                written.append(folder / f"{plot.name}.{kind}")
                with files.atomic(written[-1]) as temporary:
                    picture.savefig(temporary, format=kind, metadata=facts)
        written.append(folder / f"{plot.name}.csv")
        files.write_text(written[-1], as_csv(plot))
    return written


def draw(plot: Plot, width: float = COLUMN) -> "Figure":
    """Return the picture of a figure; matplotlib's settings in force are kept."""
    looks = _looks(plot.series)
    named = [each for each in plot.series if each.name]
    # As many columns as fit: a letter of the legend takes about 0.055 inches.
    columns = max(1, int(width / (0.5 + 0.055 * max((len(each.name) for each in named), default=1))))
    rows = -(-len(named) // columns) if len(named) > 1 else 0
    figure = new_figure(width, round(0.62 * min(width, 6) + 0.135 * rows, 2))
    axes = figure.add_subplot()
    bottoms: dict[float, float] = {}
    for series, (colour, dash) in zip(plot.series, looks, strict=True):
        _series(axes, series, colour, dash, bottoms)
    _dress(axes, plot, width)
    if len(named) > 1:
        figure.legend(
            loc="outside upper left", ncols=min(columns, len(named)), frameon=False, borderaxespad=0.1,
            handlelength=1.8, columnspacing=1.0, labelspacing=0.25, handletextpad=0.5,
        )  # fmt: skip
    return figure


def _looks(series: Sequence[Series]) -> list[tuple[Any, Any]]:
    """Return a colour and a dash for each series: a family has a colour, and within it shades and dashes."""
    from matplotlib.colors import to_rgb

    looks: list[tuple[Any, Any]] = []
    for each in series:
        same = list(dict.fromkeys(one.name for one in series if one.family == each.family and not one.published))
        place = same.index(each.name) if each.name in same else 0
        shade = 0.0 if len(same) < 2 else 0.55 * place / (len(same) - 1)
        known = _COLOURS.get(each.family)
        colour = known or f"C{list(dict.fromkeys(one.family for one in series)).index(each.family) % 10}"
        mixed = tuple((1 - shade) * part + shade * 0.1 for part in to_rgb(colour))
        looks.append((mixed, ":" if each.published else _DASHES[place % len(_DASHES)]))
    return looks


def _series(axes: "Axes", series: Series, colour: Any, dash: Any, bottoms: dict[float, float]) -> None:
    from matplotlib.transforms import ScaledTranslation

    label = series.name or "_"
    if series.kind == "bars":
        below = [bottoms.get(x, 0.0) for x in series.x]
        axes.barh(series.x, series.y, left=below, color=colour, label=label, height=0.72)
        for x, y, start in zip(series.x, series.y, below, strict=True):
            bottoms[x] = start + y
        return
    if series.kind == "level":
        if series.low is not None and series.high is not None:
            axes.axhspan(series.low[0], series.high[0], color=colour, alpha=0.12, linewidth=0)
        axes.axhline(series.y[0], color=colour, linestyle=dash, label=label)
    else:
        marker = "o" if series.marker or len(series.x) == 1 else ""
        face = "white" if series.published else colour
        line = "" if series.kind == "points" else dash
        axes.plot(
            series.x, series.y, color=colour, linestyle=line, marker=marker, markerfacecolor=face, label=label,
            markersize=2.2 if series.area else 3.5, zorder=3,
        )  # fmt: skip
        if series.low is not None and series.high is not None and series.area:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.1, linewidth=0)
        elif series.low is not None and series.high is not None:
            axes.vlines(series.x, series.low, series.high, color=colour, linewidth=0.9)
    if series.seeds:
        places, _, values = zip(*series.seeds, strict=True)
        beside = 0.0 if series.kind == "level" else 4 / 72
        moved = axes.transData + ScaledTranslation(beside, 0, axes.figure.dpi_scale_trans)
        axes.plot(places, values, ".", color=colour, markersize=2.5, alpha=0.7, zorder=2, transform=moved)
    for x, y, name in zip(series.x, series.y, series.labels, strict=False):
        if name:
            axes.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6, color=_INK)


def _dress(axes: "Axes", plot: Plot, width: float) -> None:
    lying = any(each.kind == "bars" for each in plot.series)
    # A letter of 8 points is about 0.062 inches wide.
    letters = int(0.8 * width / 0.062)
    axes.set(xlabel="\n".join(wrap(plot.y if lying else plot.x, letters)), ylabel="" if lying else plot.y)
    if plot.log:
        from matplotlib.ticker import LogLocator

        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    if plot.limits:
        axes.set_xlim(*plot.limits)
    if plot.ticks:
        places = [place for place, _ in plot.ticks]
        if lying:
            axes.set_yticks(places, [name for _, name in plot.ticks])
            axes.invert_yaxis()
        else:
            axes.set_xticks(*_clear(plot.ticks))
    axes.grid(axis="x" if lying else "y", color=_RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _clear(ticks: Sequence[tuple[float, str]]) -> tuple[list[float], list[str]]:
    """Return the ticks whose names do not touch that of the one before."""
    span = ticks[-1][0] - ticks[0][0] or 1.0
    kept = [ticks[0]]
    for tick in ticks[1:]:
        if tick[0] - kept[-1][0] > 0.07 * span:
            kept.append(tick)
    return [place for place, _ in kept], [name for _, name in kept]
