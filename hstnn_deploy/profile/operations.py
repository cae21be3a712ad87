"""Synaptic operations: what a network computes on given inputs, group by group of units.

A group's input is [spikes, recurrent] of the layer below, so both kinds of operation occur in one input: where the
input is a spike, a weight is accumulated (AC); where it is a number, it is multiplied and accumulated (MAC).

    dense MACs       what a processor computes that takes no notice of zeros: every input times every weight
    effective MACs   those of inputs that are numbers and not zero
    ACs              one for each spike and each weight that it meets. An average-pooled spike is a quarter of a weight
                     added: pooling is folded into the weights, so four spikes pooled are four ACs. Inputs of a network
                     whose data set says that they count events are one AC for each event.

Input products, recurrent products and readouts are counted; activation functions, membranes' decay, and biases are not.
Shapes: T time, B batch, I inputs, n units of a group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.models.convolutional import ConvolutionalGroup, RecurrentConvolution
from hstnn_deploy.models.language import LanguageModel
from hstnn_deploy.models.layers import Group, LstmGroup, RnnGroup, SpikingGroup
from hstnn_deploy.models.network import HybridNetwork

_POOLED = 4
"""Spikes that an average-pooled value of 1 stands for."""


@dataclass
class Operations:
    """Of one group of units, or of one readout, summed over all samples and steps."""

    name: str
    """Such as "layer1.snn", "layer2.rnn", "readout"."""
    dense: float = 0.0
    macs: float = 0.0
    acs: float = 0.0
    spikes: float = 0.0
    """What the group emitted, before pooling."""
    sites: float = 0.0
    """Where it could have: neurons times steps."""

    @property
    def rate(self) -> float | None:
        """Spikes per neuron and step; None of units that do not spike."""
        return self.spikes / self.sites if self.sites else None


@torch.no_grad()
def count(network: HybridNetwork, x: Tensor, events: bool) -> list[Operations]:
    """Run a network in evaluation mode on x[T, B, …] and count what every part of it does.

    Args:
        network: the network.
        x: inputs.
        events: whether they count events, see `data.preprocessing.counts_events`; else they are numbers.

    Raises:
        ProfileError: units for which there is no rule.
    """
    found: list[Operations] = []
    handles = []
    below = 0
    for number, layer in enumerate(network.stack, 1):
        for kind, group in layer.groups.items():
            operations = Operations(f"layer{number}.{kind}")
            found.append(operations)
            spiking = below if number > 1 else group.inputs if events else 0
            handles += _watch(group, operations, spiking, pooled=number > 1)
        below = layer.count("snn")
    for name, module in network.named_children():
        if isinstance(module, nn.Linear):
            operations = Operations(name)
            found.append(operations)
            # Only a language model reads out every step's spikes; elsewhere their sum, a number, is read out once.
            spiking = below if isinstance(network, LanguageModel) else 0
            handles.append(module.register_forward_hook(_linear(operations, spiking)))
    was_training = network.training
    network.eval()
    try:
        network(x)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def _watch(group: Group, operations: Operations, spiking: int, pooled: bool) -> list[Any]:
    """Let a group's calls be counted; `spiking` of its inputs are spikes, the first ones, `pooled` in maps."""
    if isinstance(group, ConvolutionalGroup):
        handles = [group.register_forward_hook(_convolution(operations, spiking, _POOLED if pooled else 1))]
        if isinstance(group, RecurrentConvolution):
            handles.append(group.conv_recurrent.register_forward_hook(_recurrent_convolution(operations)))
        return handles
    if isinstance(group, SpikingGroup | RnnGroup | LstmGroup):
        return [group.register_forward_hook(_fully_connected(operations, spiking))]
    raise ProfileError(f"there is no rule for the operations of {type(group).__name__}")


def split_input(x: Tensor, spiking: int) -> tuple[Tensor, Tensor]:
    """Return the first `spiking` of an input [T, B, I, …], spikes or events, and the rest, numbers, each in x's shape.

    One of the two is zero wherever the other is not.
    """
    spikes = x.clone()
    spikes[:, :, spiking:] = 0
    numbers = x.clone()
    numbers[:, :, :spiking] = 0
    return spikes, numbers


def _fully_connected(operations: Operations, spiking: int) -> Callable[..., None]:
    def hook(group: Group, inputs: tuple[Any, ...], result: tuple[Tensor, dict[str, Tensor]]) -> None:
        x, state = inputs[0], inputs[1]
        output = result[0]
        gates = 4 if isinstance(group, LstmGroup) else 1
        fan_out = group.units * gates
        spikes, numbers = split_input(x, spiking)
        operations.dense += x.numel() * fan_out
        operations.acs += float(spikes.sum(dtype=torch.float64)) * fan_out
        operations.macs += int(numbers.count_nonzero()) * fan_out
        if isinstance(group, SpikingGroup):
            operations.spikes += float(output.sum(dtype=torch.float64))
            operations.sites += output.numel()
        else:
            before = torch.cat((state["h"][None], output[:-1]))
            operations.dense += before.numel() * fan_out
            operations.macs += int(before.count_nonzero()) * fan_out

    return hook


def reach(counts: Tensor, padding: int) -> float:
    """Return the sum over inputs [N, C, H, W] of each one's count times the outputs of a 3x3 convolution it meets."""
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64, device=counts.device)
    return float(functional.conv2d(counts.double().sum(1, keepdim=True), kernel, padding=padding).sum())


def _convolution(operations: Operations, spiking: int, each: int) -> Callable[..., None]:
    """Count a convolution; a whole input that is a spike stands for `each` of them."""

    def hook(group: ConvolutionalGroup, inputs: tuple[Any, ...], result: tuple[Tensor, dict[str, Tensor]]) -> None:
        x, output = inputs[0], result[0]
        padding = int(group.conv_input.padding[0])
        spikes, numbers = (part.flatten(0, 1) for part in split_input(x, spiking))
        maps = group.map_size(x.shape[-1]) ** 2
        operations.dense += x.shape[0] * x.shape[1] * maps * 9 * group.inputs * group.units
        operations.acs += reach(spikes * each, padding) * group.units
        operations.macs += reach(numbers != 0, padding) * group.units
        if group.kind == "snn":
            operations.spikes += float(output.sum(dtype=torch.float64)) * _POOLED
            operations.sites += output.numel() * _POOLED

    return hook


def _recurrent_convolution(operations: Operations) -> Callable[..., None]:
    def hook(convolution: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        h = inputs[0]
        operations.dense += output.numel() * 9 * convolution.in_channels
        operations.macs += reach(h != 0, cast(int, convolution.padding[0])) * convolution.out_channels

    return hook


def _linear(operations: Operations, spiking: int) -> Callable[..., None]:
    def hook(linear: nn.Linear, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        x = inputs[0]
        spikes, numbers = x[..., :spiking], x[..., spiking:]
        operations.dense += x.numel() * linear.out_features
        operations.acs += float(spikes.sum(dtype=torch.float64)) * linear.out_features
        operations.macs += int(numbers.count_nonzero()) * linear.out_features

    return hook
