"""Draw how networks with weights on devices do against the variation, and against memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hstnn_deploy.data.pictures.figure import INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"baseline": "#7f7f7f", "vat": "#2471a3", "recover": "#c0392b", "prune": "#1e8449"}
_MARKERS = {"baseline": "s", "vat": "o", "recover": "^", "prune": "D"}
_LINES = ("-", "--", ":", "-.")
"""By step of training; of several networks at a step each has another line."""
_ABREAST = 3
"""Panels in a row."""


class Measured(Protocol):
    """The metric of some draws."""

    @property
    def mean(self) -> float:
        """Their mean, in percent."""

    @property
    def half_width(self) -> float | None:
        """Half the width of its 95 % interval; None where that is not known."""


class Memory(Protocol):
    """What a network takes."""

    @property
    def devices(self) -> int:
        """Bits of RRAM and SRAM."""


class Network(Protocol):
    """A network that was measured."""

    @property
    def name(self) -> str:
        """Of its recipe."""

    @property
    def seed(self) -> int:
        """Of its training."""

    @property
    def step(self) -> str:
        """Of its training."""

    @property
    def bits(self) -> int:
        """Of a weight in RRAM."""

    @property
    def metric(self) -> str:
        """What was measured."""

    @property
    def clean(self) -> float:
        """The metric without variation."""

    @property
    def scales(self) -> Mapping[float, Measured]:
        """By what sigma was multiplied with, in order."""

    @property
    def nominal(self) -> float | None:
        """The scale to compare networks at."""

    @property
    def memory(self) -> Memory:
        """What it takes."""


def draw_variation(networks: Sequence[Network]) -> "Figure":
    """Return the metric against the variation: a panel for each number of bits, a line for each network."""
    bits = sorted({each.bits for each in networks})
    columns = 2 if len(bits) == 4 else min(len(bits), _ABREAST)
    rows = -(-len(bits) // columns)
    figure = new_figure(1.6 + 3.9 * columns, 0.5 + 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    names: dict[str, Any] = {}
    for panel, count in zip(panels, bits, strict=False):
        own = [each for each in networks if each.bits == count]
        for each in own:
            like = [other for other in own if other.step == each.step]
            _line(panel, each, _LINES[like.index(each) % len(_LINES)], label(each, like))
        panel.set_title(f"{count} bit{'' if count == 1 else 's'} of RRAM", fontsize=10, color=INK)
        panel.set_xlabel("variation (times sigma)")
        _plain(panel)
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            names.setdefault(name, handle)
    for panel in panels[len(bits) :]:
        panel.set_visible(False)
    for row in range(rows):
        panels[row * columns].set_ylabel(_named(networks))
    if len(names) > len(_COLOURS) and len(bits) > 1:
        # The networks of a panel are its own.
        for panel in panels[: len(bits)]:
            panel.legend(frameon=False, fontsize=7)
    else:
        figure.legend(
            list(names.values()), list(names), loc="outside right center", frameon=False, title="mean, 95 % interval"
        )
    return figure


def draw_memory(networks: Sequence[Network]) -> "Figure":
    """Return the metric against bits of RRAM and SRAM: a point for each network, its 95 % interval beside."""
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    for step in dict.fromkeys(each.step for each in networks):
        own = sorted((each for each in networks if each.step == step), key=lambda each: each.memory.devices)
        x, y, widths = [], [], []
        for each in own:
            measured = None if each.nominal is None else each.scales[each.nominal]
            x.append(each.memory.devices / 1000)
            y.append(each.clean if measured is None else measured.mean)
            widths.append(0.0 if measured is None else measured.half_width or 0.0)
        colour, marker = _COLOURS[step], _MARKERS[step]
        axes.errorbar(x, y, yerr=widths, fmt=marker, color=colour, markersize=6, capsize=3, linewidth=1, label=step)
        for each, left, up in zip(own, x, y, strict=True):
            axes.annotate(f"{each.bits}", (left, up), (6, 5), textcoords="offset points", fontsize=8, color=colour)
    at = {each.nominal for each in networks}
    scale = at.pop() if len(at) == 1 else None
    how = "" if scale is None else f" under {scale:g} times sigma"
    axes.set(xlabel="RRAM and SRAM of the convolutions (1000 bits)", ylabel=f"{_named(networks)}{how}")
    _plain(axes)
    axes.legend(frameon=False, title="step; number: bits of RRAM", loc="best")
    return figure


def _line(axes: "Axes", network: Network, style: str, name: str) -> None:
    colour = _COLOURS[network.step]
    scales = [0.0, *network.scales]
    means = [network.clean, *(each.mean for each in network.scales.values())]
    known = [each.half_width for each in network.scales.values() if each.half_width is not None]
    axes.plot(
        scales, means, style, marker=_MARKERS[network.step], color=colour, markersize=4, linewidth=1.2, label=name
    )
    if len(known) == len(network.scales):
        widths = [0.0, *known]
        low, high = ([mean + sign * width for mean, width in zip(means, widths, strict=True)] for sign in (-1, 1))
        axes.fill_between(scales, low, high, color=colour, alpha=0.15, linewidth=0)


def label(network: Network, like: Sequence[Network]) -> str:
    """Return the step, with what tells the network from others of the step.

    Args:
        network: which one.
        like: all of the step, it among them.
    """
    parts = [network.step]
    if len({each.name for each in like}) > 1:
        parts.append(network.name)
    if len({each.seed for each in like}) > 1:
        parts.append(f"seed {network.seed}")
    return ", ".join(parts)


def _named(networks: Sequence[Network]) -> str:
    metric = networks[0].metric
    return f"{metric} (%)" if metric == "accuracy" else metric


def _plain(axes: "Axes") -> None:
    axes.grid(color=PALE, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
