"""A network part by part, for people: parameters, shapes, and what is carried from step to step."""

import re
from math import prod
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel

from hstnn_deploy.models.layers.base import Layer
from hstnn_deploy.models.layers.units import held
from hstnn_deploy.models.network import SPIKES, Network
from hstnn_deploy.models.neurons.numbers import RATE
from hstnn_deploy.models.stack import Stack


class Part(NamedTuple):
    """A layer, or what stands before or behind the layers."""

    layer: int | None
    """The layer's number, from 1; None of an embedding, a readout and the like."""
    kind: str
    parameters: int
    output: list[int] | None
    """The shape of what it gives at a step of one sample; None where it is not said."""
    states: dict[str, list[int]]
    """What it carries from step to step: name in the network's state, and shape for one sample."""

    @property
    def values(self) -> int:
        """How many numbers it carries for one sample."""
        return sum(prod(shape) for shape in self.states.values())


def parts(network: Network) -> list[Part]:
    """Return the layers in the order of their numbers, then the rest; a readout that carries something is one."""
    return _of_stack(network) if isinstance(network, Stack) else _of_hybrid(network)


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
            # The value that it began with says nothing of what it is now.
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


def _of_stack(network: Stack) -> list[Part]:
    left = {name: list(shape) for name, shape in network.state_shapes().items()}
    found = []
    for layer, told in zip(network.leaves(), network.described(), strict=True):
        states = {name: left.pop(name) for name in (f"{name}{layer.number}" for name in layer.carries)}
        found.append(Part(*told, states))
    return [*found, Part(None, f"readout: {network.readout}", 0, [network.outputs], left)]


def _of_hybrid(network: Network) -> list[Part]:
    like = torch.zeros(1, 1, *network.input_shape, device="meta", dtype=torch.int64 if network.tokens else None)
    states = {name: list(value.shape[1:]) for name, value in network.initial_state(like).items()}
    parameters: dict[str, int] = {}
    for name, value in network.named_parameters():
        part = network.part_of(name).partition(".")[0]
        parameters[part] = parameters.get(part, 0) + value.numel()
    found = []
    for number, size in enumerate(network.sizes, 1):
        # The names of what a layer carries end with its number: v1, h1, c1.
        own = [name for name in states if (last := re.search(r"\d+$", name)) and int(last[0]) == number]
        kind = " + ".join(
            f"{count} {name}" for count, name in zip(size, ("spiking", "recurrent"), strict=True) if count
        )
        carried = {name: states.pop(name) for name in own}
        found.append(Part(number, kind, parameters.pop(f"layer{number}"), [sum(size)], carried))
    others = [Part(None, name, count, None, {}) for name, count in parameters.items()]
    return [*found, *others, *([Part(None, "gathered over time", 0, None, states)] if states else [])]
