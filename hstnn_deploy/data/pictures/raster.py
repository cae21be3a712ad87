"""Draw what the layers of a network do with one sample: spikes as a raster, membranes and other values as maps.

Shapes: T time, n units.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.pictures.figure import INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNITS = 200
"""Units of a layer that are drawn; of more, as many at equal distances."""
_LAYERS = 24
"""Layers that are drawn; a picture of more has no room for what is in them."""


def draw_raster(title: str, shown: Sequence[tuple[str, Mapping[str, NDArray[Any]]]]) -> tuple["Figure", list[str]]:
    """Return a picture and what it leaves out.

    Args:
        title: what stands above it.
        shown: of each layer its name, and what is drawn of it side by side: `spikes` [T, …] as dots, others as maps.
    """
    drawn, notes = list(shown[:_LAYERS]), []
    if len(shown) > _LAYERS:
        notes.append(f"the picture shows {_LAYERS} of {len(shown)} layers; --npz contains all")
    width = max((len(values) for _, values in drawn), default=1)
    figure = new_figure(2 + 4.2 * width, 0.8 + 1.7 * len(drawn))
    figure.suptitle(title, fontsize=11, color=INK)
    grid: Any = figure.subplots(len(drawn), width, squeeze=False)
    for row, (name, values) in zip(grid, drawn, strict=True):
        for axes, (what, value) in zip(row, values.items(), strict=False):
            units = value.reshape(len(value), -1)
            picked = np.unique(np.linspace(0, units.shape[1] - 1, min(_UNITS, units.shape[1])).astype(int))
            left = f", {len(picked)} of {units.shape[1]} units" if len(picked) < units.shape[1] else ""
            _draw(figure, axes, what, units[:, picked], picked, units.shape[1])
            axes.set_title(f"{name}: {what}{left}", fontsize=8.5, color=INK, loc="left")
            axes.tick_params(labelsize=7)
        for axes in row[len(values) :]:
            axes.set_axis_off()
    for column in grid.T:
        [*_, lowest] = [axes for axes in column if axes.axison] or column
        lowest.set_xlabel("step", fontsize=8)
    return figure, notes


def _draw(figure: "Figure", axes: Any, what: str, units: NDArray[Any], numbers: NDArray[Any], count: int) -> None:
    """Draw values [T, n] of the units of these numbers out of a total, units upward."""
    steps, drawn = units.shape
    if what == "spikes":
        at, unit = np.nonzero(units)
        size = min(14.0, max(1.5, 700.0 / drawn))
        axes.scatter(at, numbers[unit], s=size, marker="|" if drawn <= 60 else ".", color=INK, linewidths=0.9)
        axes.set(xlim=(-0.5, steps - 0.5), ylim=(-0.5, count - 0.5))
        axes.grid(axis="x", color=PALE, linewidth=0.3, alpha=0.5)
        if len(at) == 0:
            axes.text(0.5, 0.5, "no spikes", transform=axes.transAxes, ha="center", va="center", color=PALE)
    else:
        most = float(np.abs(units).max()) or 1.0
        image = axes.imshow(
            units.T,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            cmap="RdBu_r",
            vmin=-most,
            vmax=most,
            extent=(-0.5, steps - 0.5, -0.5, count - 0.5),
        )
        bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
        bar.ax.tick_params(labelsize=6)
    axes.set_ylabel("unit", fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
