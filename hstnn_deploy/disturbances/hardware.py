"""Disturbances of a network as hardware has them: of its weights, its neurons' constants, and its spikes on their way.

Each returns a copy of the network, or changes nothing of it but what is sent from layer to layer. Which parameters are
weights says `weights_of`.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hstnn_deploy.disturbances.disturbance import BOUNDLESS, Disturbance, Draw, stream
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.layers.weights import weights_of
from hstnn_deploy.models.network import SPIKES, Network
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.neurons.numbers import RATE

_LEAST = 0.01
"""Of its threshold, what a neuron keeps at least, however far a draw takes it down."""


def gaussian(weight: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    """Return w + level * max|w| * z, z normal."""
    return weight + level * weight.abs().max() * _normal(weight, draw)


def lognormal(weight: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    """Return w * exp(level * z), z normal."""
    return weight * torch.exp(level * _normal(weight, draw))


def stuck(weight: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    """Return w with each weight, with probability `level`, 0."""
    kept = torch.from_numpy(draw.random(tuple(weight.shape)) >= level).to(weight.device)
    return weight * kept


def quantised(weight: Tensor, bits: float, _draw: np.random.Generator) -> Tensor:
    """Return w rounded to the multiples of max|w| / (2^(bits - 1) - 1), one step for the whole tensor."""
    step = weight.abs().max() / (2 ** (int(bits) - 1) - 1)
    return weight if step == 0 else torch.round(weight / step) * step


def halved(weight: Tensor, _level: float, _draw: np.random.Generator) -> Tensor:
    """Return w rounded to float16; what is computed with it stays float32."""
    return weight.half().to(weight.dtype)


def _normal(like: Tensor, draw: np.random.Generator) -> Tensor:
    return torch.from_numpy(draw.standard_normal(tuple(like.shape), np.float32)).to(like)


def _of(
    name: str, about: str, unit: str, levels: tuple[float, ...], most: float = BOUNDLESS, whole: bool = False
) -> Disturbance:
    return Disturbance(name, about, unit, "weights", levels, most, whole)


ApplyWeight = Callable[[Tensor, float, np.random.Generator], Tensor]
"""A weight, the level, what is drawn from -> the weight in its place."""

_SPREADS = (0.02, 0.05, 0.1, 0.2)

WEIGHTS: dict[str, tuple[Disturbance, ApplyWeight]] = {
    each.name: (each, apply)
    for each, apply in (
        (
            _of("weight-gaussian", "weights + normal noise", "standard deviation as a share of max|w|", _SPREADS),
            gaussian,
        ),
        (
            _of(
                "weight-lognormal",
                "weights times log-normal noise",
                "standard deviation of the logarithm",
                (0.1, 0.2, 0.4, 0.8),
                10,
            ),
            lognormal,
        ),
        (_of("weight-stuck", "weights stuck at 0", "share of the weights", (0.01, 0.05, 0.1, 0.2), 1), stuck),
        (
            Disturbance("weight-bits", "weights of few bits", "bits", "weights", (8, 6, 5, 4, 3, 2), 16, True, True),
            quantised,
        ),
        (_of("float16", "weights rounded to float16", "1: rounded", (1,), 1, True), halved),
    )
}
"""By name: what they are, and what they do."""

NEURONS: dict[str, Disturbance] = {
    each.name: each
    for each in (
        Disturbance(
            "threshold-mismatch",
            "thresholds that differ",
            "standard deviation as a share of the threshold",
            "neurons",
            (0.05, 0.1, 0.2, 0.4),
        ),
        Disturbance(
            "leak-mismatch",
            "leaks that differ",
            "standard deviation as a share of 1 - decay",
            "neurons",
            (0.05, 0.1, 0.2, 0.4),
        ),
    )
}
"""Of each LIF neuron: its own threshold or leak, times 1 + level * z, z normal."""

TRANSMISSION: dict[str, Disturbance] = {
    each.name: each
    for each in (
        Disturbance(
            "spike-loss", "spikes lost between layers", "share of the spikes", "spikes", (0.05, 0.1, 0.2, 0.4), 1
        ),
        Disturbance("spike-delay", "spikes late between layers", "time steps", "spikes", (1, 2, 4), 1e6, True),
    )
}
"""Of what spiking layers send up; the spikes that a layer feeds back to itself are on time and whole."""


def disturbed_weights(network: Network, name: str, level: float, draw: int) -> Network:
    """Return a copy of a network with disturbed weights."""
    _, apply = WEIGHTS[name]
    changed = copy.deepcopy(network)
    with torch.no_grad():
        for number, weight in enumerate(weights_of(changed)):
            weight.copy_(apply(weight, level, stream(name, draw, number)))
    return changed


def disturbed_neurons(network: Network, name: str, level: float, draw: int) -> Network:
    """Return a copy of a network whose LIF neurons have each a threshold or a leak of its own.

    Raises:
        UsageError: it has no LIF neurons.
    """
    changed = copy.deepcopy(network).eval()
    layers: list[Any] = [each for each in changed.taps.values() if isinstance(getattr(each, "neuron", None), Lif)]
    if not layers:
        raise UsageError(f"--disturb {name} needs LIF neurons, but this network has none")
    shapes = _shapes(changed, layers)
    for number, layer in enumerate(layers):
        neuron: Any = layer.neuron
        drawn = stream(name, draw, number).standard_normal(shapes[number], np.float32)
        device = changed.device
        factor = torch.from_numpy(1 + np.float32(level) * drawn).to(device)
        own = {key: value.detach() for key, value in layer.own.items()}
        if name == "threshold-mismatch":
            value = own.get("threshold", torch.tensor(neuron.threshold, device=device)) * factor.clamp(min=_LEAST)
            layer.give("threshold", value)
        else:
            layer.give("decay", (1 - (1 - _decay(neuron, own, device)) * factor).clamp(0, 1))
    return changed


def _decay(neuron: Lif, own: dict[str, Tensor], device: torch.device) -> Tensor:
    if RATE in own:
        return 1 - torch.sigmoid(own[RATE])
    return own.get("decay", torch.tensor(neuron.decay, device=device))


def _shapes(network: Network, layers: list[nn.Module]) -> list[tuple[int, ...]]:
    """Return the shape of each layer's neurons of one sample, from a step of zeros."""
    found: dict[int, tuple[int, ...]] = {}

    def hook(module: nn.Module, inputs: Any) -> None:
        found[id(module)] = tuple(inputs[1]["v"].shape[1:])

    handles = [each.register_forward_pre_hook(hook) for each in layers]
    dtype = torch.int64 if network.tokens else next((each.dtype for each in network.parameters()), torch.float32)
    with torch.no_grad():
        network(torch.zeros((1, 1, *network.input_shape), dtype=dtype, device=network.device))
    for handle in handles:
        handle.remove()
    return [found[id(each)] for each in layers]


@contextmanager
def disturbed_spikes(network: Network, name: str, level: float, draw: Draw) -> Iterator[Network]:
    """Lose or delay the spikes between a network's layers within the block; see `TRANSMISSION`."""
    device = network.device
    layers = [module for tap, module in network.taps.items() if tap.name == SPIKES]
    if not layers:
        raise UsageError(f"--disturb {name} needs spiking layers, but this network has none")

    under_way: dict[int, Tensor] = {}

    def hook(number: int) -> Any:
        generator = torch.Generator(device).manual_seed(int(stream(name, draw, number).integers(2**62)))

        def change(_module: nn.Module, _inputs: Any, result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
            spikes, after = result
            if name == "spike-loss":
                kept = torch.rand(spikes.shape, generator=generator, device=device) >= level
                return spikes * kept, after
            # A window may come in parts: delayed spikes continue into the next one.
            earlier = under_way.get(number, spikes.new_zeros((int(level), *spikes.shape[1:])))
            sent = torch.cat([earlier, spikes])
            under_way[number] = sent[len(spikes) :]
            return sent[: len(spikes)], after

        return change

    handles = [layer.register_forward_hook(hook(number)) for number, layer in enumerate(layers)]
    handles.append(network.register_forward_pre_hook(lambda *_: under_way.clear()))
    try:
        yield network
    finally:
        for handle in handles:
            handle.remove()
