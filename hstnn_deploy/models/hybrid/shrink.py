"""Cut a network down to some of its units: slicing, nothing else, exact to the bit."""

from typing import TypeVar

import torch
from torch import Tensor

from hstnn_deploy.models.hybrid.groups import HybridLayer, UnitKind
from hstnn_deploy.models.hybrid.network import HybridNetwork

Kept = list[dict[UnitKind, list[int]]]
"""Per layer and kind, the indices of the kept units, ascending."""

N = TypeVar("N", bound=HybridNetwork)


def shrink(network: N, kept: Kept) -> N:
    """Return the smaller network that holds the kept units' own numbers (docs/mathematics.md, section 3).

    A kept unit's columns, the next layer's and the readout's rows for the kept inputs, the recurrent weight's rows and
    columns. The original is left as it is, and shares no memory with the result.
    """
    device = next(network.parameters()).device
    inputs: Tensor | None = None
    layers = []
    for layer, chosen in zip(network.stack, kept, strict=True):
        units = {kind: torch.tensor(chosen.get(kind, []), dtype=torch.long, device=device) for kind in layer.groups}
        layers.append(layer.take(inputs, units))
        inputs = _outputs(layer, units)
    assert inputs is not None
    return network.with_layers(layers, inputs)


def _outputs(layer: HybridLayer, units: dict[UnitKind, Tensor]) -> Tensor:
    """Return where the kept units stand in the layer's concatenated output, in order."""
    places, offset = [], 0
    for kind, group in layer.groups.items():
        places.append(offset + units[kind])
        offset += group.units
    return torch.cat(places)
