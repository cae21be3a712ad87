"""A network part by part, for people: parameters, shapes, and what is carried from step to step."""

from typing import Any

import torch
from pydantic import BaseModel

from hstnn_deploy.models.layers.base import Layer
from hstnn_deploy.models.layers.units import held
from hstnn_deploy.models.network import SPIKES, Network, Part
from hstnn_deploy.models.neurons.numbers import RATE
from hstnn_deploy.models.stack import Stack


def parts(network: Network) -> list[Part]:
    """Return the layers in the order of their numbers, then the rest; a readout that carries something is one."""
    return network.parts()


def plain(found: list[Part]) -> dict[str, Any]:
    """Return parts and their totals as plain data."""
    return {
        "layers": [each._asdict() for each in found if each.layer is not None],
        "others": [each._asdict() for each in found if each.layer is None],
        "parameters": sum(each.parameters for each in found),
        "carried": sum(each.values for each in found),
    }


def neurons(network: Network, hybrid: BaseModel | None = None) -> dict[int, dict[str, Any]]:
    """Return the constants of each layer's neurons as plain data, by its number; what is learned, as it is now.

    Args:
        network: which one.
        hybrid: of a hybrid network, the neuron that all its spiking units are.
    """
    if not isinstance(network, Stack):
        told = hybrid.model_dump(mode="json") if hybrid is not None else {}
        return {tap.layer: told for tap in network.taps if tap.name == SPIKES and told}
    found = {}
    for layer in network.leaves():
        if (neuron := getattr(layer, "neuron", None)) is not None:
            told = {key: value for key, value in neuron.model_dump(mode="json").items() if key != "type"}
            # Its initial value says nothing about its value now.
            own = {*getattr(neuron, "learn", []), *getattr(neuron, "each", {})}
            found[layer.number] = told | {name: _own(layer, name) for name in sorted(own)}
    return found


def _own(layer: Layer, name: str) -> float | str:
    """Return a number that a layer holds itself: the number, or the range of several."""
    own = held(layer)
    value = (own[name] if name in own else 1 - torch.sigmoid(own[RATE])).detach()
    if value.is_meta:
        return "its own"
    return float(value) if value.numel() == 1 else f"{float(value.min()):.6g} to {float(value.max()):.6g}"
