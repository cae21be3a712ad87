"""The table of a network's layers, the same wherever one is shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hstnn_deploy.cli import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from hstnn_deploy.models.layers.base import Layer
    from hstnn_deploy.models.network import Network
    from hstnn_deploy.models.overview import Part

_MOST_STATES = 4
"""Of a layer, in the table; JSON names all."""
_OF_TRAINING = {"lens", "surrogate", "surrogate_scale", "detach_reset", "learn", "type"}
"""Constants of neurons that say nothing of what they compute."""


def layer_table(parts: "Sequence[Part]", title: str = "", neurons: dict[int, str] | None = None) -> "Table":
    """Return a table of layers: number, kind, parameters, output, states, and the constants of neurons if given."""
    rows = [
        (
            "" if part.layer is None else part.layer,
            part.kind,
            f"{part.parameters:,}" if part.parameters else "",
            "" if part.output is None else part.output,
            _states(part.states),
            *([] if neurons is None else [neurons.get(part.layer or 0, "")]),
        )
        for part in parts
    ]
    columns = [">layer", "kind", ">parameters", "output", "states", *([] if neurons is None else ["neurons"])]
    return console.table(title, columns, rows)


def print_network(network: "Network", title: str, neurons: dict[int, str] | None = None) -> None:
    """Print a network's layers and what they come to."""
    from hstnn_deploy.models import overview

    parts = overview.parts(network)
    console.out.print(title, markup=False, soft_wrap=True)
    console.out.print(layer_table(parts, neurons=neurons))
    facts = overview.plain(parts)
    console.out.print(
        f"{facts['parameters']:,} parameters; {facts['carried']:,} values carried from step to step for each sample",
        markup=False,
    )


def neurons_of(network: "Network", hybrid: object = None) -> dict[int, dict[str, object]]:
    """Return the constants of each layer's neurons, by the layer's number; what is learned, as it is now.

    Args:
        network: which one.
        hybrid: of a hybrid network, the neuron that all its spiking units are.
    """
    from hstnn_deploy.models.network import SPIKES
    from hstnn_deploy.models.stack import Stack

    if not isinstance(network, Stack):
        plain = hybrid.model_dump(mode="json") if hasattr(hybrid, "model_dump") else {}
        return {tap.layer: plain for tap in network.taps if tap.name == SPIKES and plain}
    found = {}
    for layer in network.leaves():
        neuron = getattr(layer, "neuron", None)
        if neuron is not None:
            told = {key: value for key, value in neuron.model_dump(mode="json").items() if key != "type"}
            for name in getattr(neuron, "learn", []):
                # The value that it began with says nothing of what it is now.
                told[name] = _learned(layer, name)
            found[layer.number] = told
    return found


def _learned(layer: "Layer", name: str) -> object:
    """Return a learned constant: the number, or the range of several."""
    import torch

    from hstnn_deploy.models.neurons.lif import RATE, THRESHOLD

    own = dict(layer.named_parameters(recurse=False))
    value = own[THRESHOLD] if name == THRESHOLD else 1 - torch.sigmoid(own[RATE])
    if value.is_meta:
        return "learned"
    return float(value) if value.numel() == 1 else f"{float(value.min()):.6g} to {float(value.max()):.6g}"


def neuron_text(constants: "Mapping[str, object]") -> str:
    """Return in one line what a layer's neurons compute with; JSON holds what counts in training alone as well."""
    kept = {key: value for key, value in constants.items() if key not in _OF_TRAINING}
    return ", ".join(
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}" for key, value in kept.items()
    )


def _states(states: dict[str, list[int]]) -> str:
    """Return states with their shapes, one a line; of very many, the first and the last."""
    told = [f"{name} {shape}" for name, shape in states.items()]
    if len(told) > _MOST_STATES:
        told = [told[0], f"… {len(told) - 2} more", told[-1]]
    return "\n".join(told)
