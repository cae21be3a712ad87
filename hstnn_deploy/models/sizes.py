"""How many units of each kind: from a kind, a ratio and the units per layer. One rule: round, never truncate."""

import math
from typing import Literal, NamedTuple

from hstnn_deploy.errors import UsageError

Kind = Literal["rnn", "lstm", "snn", "ffs", "hybrid", "plain"]
"""What the units of a network are; `plain`: a stack of layers, which says so itself."""
KINDS: tuple[Kind, ...] = ("rnn", "lstm", "snn", "ffs", "hybrid")
"""Those that a recipe of the method hybrid may ask for."""


class Sizes(NamedTuple):
    """Units of one layer."""

    snn: int
    rnn: int


def check_ratio(ratio: float) -> None:
    """Refuse a ratio that is not strictly between 0 and 1."""
    if not 0 < ratio < 1:
        raise UsageError(
            f"ratio {ratio:g} is not between 0 and 1",
            "the ratio is the spiking share of the units, such as 0.5; for a pure network use --kind snn or --kind rnn",
        )


def split(ratio: float, total: int, least: int, what: str) -> Sizes:
    """Split `total` units into spiking and recurrent, at least `least` of each.

    Raises:
        UsageError: a kind would be left with fewer than `least` units; the hint says which ratios work.
    """
    check_ratio(ratio)
    sizes = Sizes(round(ratio * total), total - round(ratio * total))
    if min(sizes) < least:
        short, units = ("spiking", sizes.snn) if sizes.snn < least else ("recurrent", sizes.rnn)
        if total < 2 * least:
            hint = f"{total} units are too few for both kinds: give the layers more units"
        else:
            low, high = _workable(total, least)
            hint = f"the smallest ratio that works is {low:g}, the largest {high:g}"
        raise UsageError(f"ratio {ratio:g} leaves {units} {short} units for {what}, which needs {least}", hint)
    return sizes


def _workable(total: int, least: int) -> tuple[float, float]:
    """Return the smallest and largest ratio, to four decimals, that leave `least` units of each kind."""
    low = math.floor((least - 0.5) / total * 1e4)
    while round(low / 1e4 * total) < least:
        low += 1
    high = math.ceil((total - least + 0.5) / total * 1e4)
    while total - round(high / 1e4 * total) < least:
        high -= 1
    return low / 1e4, high / 1e4


def layer_sizes(kind: Kind, units: list[int], ratio: float) -> list[Sizes]:
    """Return the units of each layer of a network as it is *trained first* (docs/mathematics.md, section 2).

    A hybrid network starts redundant, n units of each kind; its ratio comes in at selection.
    """
    match kind:
        case "rnn" | "lstm":
            return [Sizes(0, n) for n in units]
        case "snn":
            return [Sizes(n, 0) for n in units]
        case "hybrid":
            return [Sizes(n, n) for n in units]
        case "plain":
            return []
        case "ffs":
            return [split(ratio, n, 1, f"layer {layer}") for layer, n in enumerate(units, 1)]


def kept_counts(units: list[int], ratio: float) -> Sizes:
    """Return how many units of each kind selection keeps over all layers (docs/mathematics.md, section 3)."""
    return split(ratio, sum(units), len(units), f"{len(units)} layers")


def selected_sizes(kind: Kind, units: list[int], ratio: float) -> list[Sizes]:
    """Return sizes like those of the network that is deployed: for a hybrid, an even spread of the kept units."""
    if kind != "hybrid":
        return layer_sizes(kind, units, ratio)
    kept_counts(units, ratio)
    return layer_sizes("ffs", units, ratio)
