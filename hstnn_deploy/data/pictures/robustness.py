"""Draw how networks do under disturbances: a panel for each, a line for each network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hstnn_deploy.data.pictures.figure import INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABREAST = 4
"""Panels in a row."""
_TEN = [f"C{number}" for number in range(10)]
_MAPS = ("Blues", "Purples", "Oranges", "Greens", "Reds", "Greys")
_CLOSE = 0.06
"""Of the axis: ticks nearer to each other would hide their names."""


class Line(NamedTuple):
    """One network under one disturbance."""

    name: str
    """Of the network."""
    kind: str
    """Of the network: networks of a kind have shades of a colour."""
    axis: list[float]
    """From 0."""
    means: list[float]
    lows: list[float]
    highs: list[float]
    """The lowest and the highest of all draws and seeds."""
    dashed: bool = False
    """Of an attack that was made on another network."""


class Panel(NamedTuple):
    """One disturbance."""

    title: str
    unit: str
    ticks: list[tuple[float, str]]
    """Where the levels lie, and what they are called."""
    lines: list[Line]


def draw_robustness(panels: Sequence[Panel], metric: str) -> "Figure":
    """Return a panel for each disturbance: means over draws and seeds, and from the lowest to the highest, shaded."""
    from matplotlib.lines import Line2D

    colours = _colours(panels)
    columns = min(len(panels), _ABREAST)
    rows = -(-len(panels) // columns)
    figure = new_figure(1.2 + 3.1 * columns, 0.6 + 2.7 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    names: dict[str, Artist] = {}
    for place, panel in zip(axes, panels, strict=False):
        _draw(place, panel, colours)
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            names.setdefault(label, handle)
    if any(line.dashed for panel in panels for line in panel.lines):
        names["dashed: attack made on another seed"] = Line2D([], [], color=INK, linestyle="--", linewidth=1.3)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel(metric)
    if len(names) > 1:
        # As many columns as fit: names of this size take about a twelfth of an inch a letter.
        fits = max(1, int(figure.get_figwidth() / (0.7 + 0.083 * max(map(len, names)))))
        figure.legend(
            list(names.values()), list(names), loc="outside lower center", ncols=min(fits, len(names)), frameon=False
        )
    return figure


def _colours(panels: Sequence[Panel]) -> "dict[str, Any]":
    """Return a colour for each network: ten that differ, or where they do not suffice, shades of one for each kind."""
    from matplotlib import colormaps

    kinds: dict[str, list[str]] = {}
    for line in (line for panel in panels for line in panel.lines):
        names = kinds.setdefault(line.kind, [])
        if line.name not in names:
            names.append(line.name)
    every = [name for names in kinds.values() for name in names]
    if len(every) <= len(_TEN):
        return dict(zip(every, _TEN, strict=False))
    found = {}
    for place, names in enumerate(kinds.values()):
        shades = colormaps[_MAPS[place % len(_MAPS)]]
        for number, name in enumerate(names, 1):
            found[name] = shades(0.3 + 0.65 * number / len(names))
    return found


def _draw(axes: "Axes", panel: Panel, colours: "dict[str, Any]") -> None:
    for line in panel.lines:
        colour = colours[line.name]
        axes.plot(
            line.axis,
            line.means,
            "--" if line.dashed else "-",
            color=colour,
            marker="o",
            markersize=2.5,
            linewidth=1.3,
            label="_" if line.dashed else line.name,
        )
        axes.fill_between(line.axis, line.lows, line.highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(panel.title, fontsize=10, color=INK)
    axes.set_xlabel(panel.unit, fontsize=8)
    last = panel.ticks[-1][0]
    ticks = [panel.ticks[0]]
    for place, name in panel.ticks[1:]:
        if place - ticks[-1][0] > _CLOSE * last:
            ticks.append((place, name))
    axes.set_xticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=7)
    axes.tick_params(labelsize=7, color=PALE)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
