"""Synaptic operations: the reading of a network's equations that counts what it computes on given inputs.

An input of a product may hold spikes and numbers side by side (a layer emits [spikes, recurrent]): where it is a spike,
a weight is accumulated (AC); where it is a number, it is multiplied and accumulated (MAC).

    dense MACs       what a processor computes that takes no notice of zeros: every input times every weight
    effective MACs   those of inputs that are numbers and not zero
    ACs              one for each spike and each weight that it meets. An average-pooled spike is a quarter of a weight
                     added: pooling is folded into the weights, so four spikes pooled are four ACs. Inputs of a network
                     whose data set says that they count events are one AC for each event.

Products with weights are counted, whatever their kernel, stride or groups; activation functions, membranes' decay, and
biases are not. What a value is, is known from where it comes, never from its numbers.
Shapes: T time, B batch, I inputs, n units of a group.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, Convolution, Fires, Normed, Pooling, Sizes, Strand
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.surrogates import Surrogate


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
def count(network: Network, x: Tensor, events: bool) -> list[Operations]:
    """Run a network in evaluation mode on x[T, B, …] and count what every part of it does.

    Args:
        network: the network.
        x: inputs.
        events: whether they count events, see `data.preprocessing.counts_events`; else they are numbers.
    """
    was_training = network.training
    network.eval()
    try:
        counted = Counted(network)
        # Zeros, which are no spikes either.
        state = {name: _spikes(value) for name, value in network.initial_state(x).items()}
        network.window(counted, _spikes(x) if events else _numbers(x), state)
    finally:
        network.train(was_training)
    return list(counted.found.values())


class Value(NamedTuple):
    """Numbers, and what they are made of."""

    v: Tensor
    spikes: Tensor
    """How many spikes or events each one stands for; 0 of a number."""
    numbers: Tensor
    """1 where it is a number and not zero, else 0."""
    whole: Tensor
    """1 where it is a sum of spikes that no factor has scaled, else 0."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Value":
        """Return what a function that only moves values makes of each part."""
        return Value(*(function(part) for part in self))


class Stored(Value):
    """Numbers stored in a layer: constants to what flows through it."""


def _numbers(v: Tensor) -> Value:
    return Value(v, torch.zeros_like(v), (v != 0).to(v.dtype), torch.zeros_like(v))


def _spikes(v: Tensor) -> Value:
    """Return spikes, or events; an event may count as -1."""
    return Value(v, v.abs(), torch.zeros_like(v), torch.ones_like(v))


class Counted(Algebra[Value]):
    """Values with what they are made of; products are counted by the weight they take.

    Args:
        network: for the names of its weights.
    """

    reads = "the count of operations"

    def __init__(self, network: Network) -> None:
        self.found: dict[str, Operations] = {}
        self._run, self._network = Eager(), network
        self._names = {id(value): network.part_of(name) for name, value in network.named_parameters()}

    def _of(self, name: str) -> Operations:
        return self.found.setdefault(name, Operations(name))

    # ------------------------------------------------------------------------------------------------- arithmetic

    @override
    def add(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        """Branches of a network that meet: a weight behind them takes the spikes of both."""
        v = self._run.add(_of(a), _of(b))
        if not (isinstance(a, Value) and isinstance(b, Value) and self._network.joins(self.layer)):
            return _numbers(v)
        whole = a.whole * b.whole
        spikes = torch.where(whole == 1, a.spikes + b.spikes, 0)
        return Value(v, spikes, ((v != 0) & (whole == 0)).to(v.dtype), whole)

    @override
    def sub(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        return _numbers(self._run.sub(_of(a), _of(b)))

    @override
    def mul(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        """A constant factor, or one for each unit, goes into the weights behind it.

        A spike times it is still one.
        """
        v = self._run.mul(_of(a), _of(b))
        for value, factor in ((a, b), (b, a)):
            if not isinstance(value, Value) or isinstance(value, Stored):
                continue
            if isinstance(factor, Stored):
                there = factor.v != 0
                return Value(v, value.spikes * there, value.numbers * there, value.whole * (factor.v == 1))
            if not isinstance(factor, Value) and factor:
                return Value(v, value.spikes, value.numbers, value.whole * (factor == 1))
        return _numbers(v)

    @override
    def sigmoid(self, a: Value, name: str = "") -> Value:
        return _numbers(self._run.sigmoid(a.v))

    @override
    def tanh(self, a: Value, name: str = "") -> Value:
        return _numbers(self._run.tanh(a.v))

    @override
    def relu(self, a: Value, name: str = "") -> Value:
        return _numbers(self._run.relu(a.v))

    @override
    def clip(self, a: Value, low: float | None, high: float | None, name: str = "") -> Value:
        return _numbers(self._run.clip(a.v, low, high))

    @override
    def parameter(self, value: Tensor) -> Value:
        return Stored(*_numbers(value))

    @override
    def share(self, total: Value, count: Value, name: str = "") -> Value:
        return _numbers(self._run.share(total.v, count.v))

    @override
    def spike(
        self,
        membrane: Value,
        threshold: Value | float,
        surrogate: Surrogate,
        name: str = "spikes",
        fires: Fires = "above",
    ) -> Value:
        spikes = self._run.spike(membrane.v, _of(threshold), surrogate, fires=fires)
        operations = self._of(self._network.part(self.layer))
        operations.spikes += float(spikes.sum(dtype=torch.float64))
        operations.sites += spikes.numel()
        return _spikes(spikes)

    @override
    def exceeds(self, a: Value, threshold: Value | float, name: str = "exceeds") -> Value:
        """It is no spike: nothing is handed out."""
        return _numbers(self._run.exceeds(a.v, _of(threshold)))

    # --------------------------------------------------------------------------------------------------------- weights

    @override
    def product(self, x: Value, weight: Tensor, name: str = "") -> Value:
        self._fully_connected(x, weight, weight[0].numel())
        return _numbers(self._run.product(x.v, weight))

    @override
    def linear(self, x: Value, layer: nn.Linear, name: str = "") -> Value:
        self._fully_connected(x, layer.weight, layer.out_features)
        return _numbers(self._run.linear(x.v, layer))

    @override
    def linear_at_each(self, x: Value, layer: nn.Linear, name: str = "") -> Value:
        return self.linear(x, layer)

    def _fully_connected(self, x: Value, weight: Tensor, outputs: int) -> None:
        operations = self._of(self._names[id(weight)])
        operations.dense += x.v.numel() * outputs
        operations.acs += float(x.spikes.sum(dtype=torch.float64)) * outputs
        operations.macs += float(x.numbers.sum(dtype=torch.float64)) * outputs

    @override
    def convolve(self, x: Value, layer: Convolution, name: str = "") -> Value:
        maps = self._run.convolve(x.v, layer)
        operations = self._of(self._names[id(layer.weight)])
        operations.dense += maps.numel() * layer.weight[0].numel()
        operations.acs += reach(x.spikes, layer)
        operations.macs += reach(x.numbers, layer)
        return _numbers(maps)

    @override
    def normalise(self, x: Value, norm: Normed, step: Value | None = None, name: str = "") -> Value:
        """Its factors go into the weights before it, where it is not one a step."""
        return _numbers(self._run.normalise(x.v, norm, None if step is None else step.v))

    @override
    def embed(self, tokens: Value, layer: nn.Embedding, name: str = "") -> Value:
        return _numbers(self._run.embed(tokens.v, layer))

    # ---------------------------------------------------------------------------------------------------------- shapes

    @override
    def parts(self, x: Value, count: int, name: str = "") -> list[Value]:
        return [Value(*each) for each in zip(*(self._run.parts(part, count) for part in x), strict=True)]

    @override
    def concat(self, values: Sequence[Value], axis: int, name: str = "") -> Value:
        return Value(*(self._run.concat(part, axis) for part in zip(*values, strict=True)))

    @override
    def pool(self, x: Value, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> Value:
        """The largest of several spikes is one spike; of a mean or sum every spike counts."""

        def run(values: Tensor, what: Pooling) -> Tensor:
            return self._run.pool(values, what, size, stride, padding=padding)

        v = run(x.v, how)
        spikes = run(x.spikes, "max" if how == "max" else "sum")
        numbers = ((v != 0) & (run(x.numbers, "max") != 0)).to(v.dtype)
        whole = 1 - run(1 - x.whole, "max")
        return Value(v, spikes, numbers, torch.zeros_like(v) if how == "mean" else whole)

    @override
    def vote(self, x: Value, voters: int, name: str = "") -> Value:
        return _numbers(self._run.vote(x.v, voters))

    @override
    def flatten(self, x: Value, name: str = "") -> Value:
        return x.map(self._run.flatten)

    # ------------------------------------------------------------------------------------------------------------ time

    @override
    def total(self, x: Value, name: str = "") -> Value:
        return _numbers(self._run.total(x.v))

    @override
    def length(self, x: Value, name: str = "") -> Value:
        return _numbers(self._run.length(x.v))

    @override
    def loop(
        self, strands: Sequence[Strand[Value]], state: Mapping[str, Value]
    ) -> tuple[list[Value | None], dict[str, Value]]:
        rows: list[list[Value]] = [[] for _ in strands]
        now = {name: state[name] for strand in strands for name in strand.states}
        for each in zip(*(zip(*strand.over, strict=True) for strand in strands), strict=True):
            after: dict[str, Value] = {}
            for strand, x, row in zip(strands, each, rows, strict=True):
                handed, new = strand.step(self, Value(*x), now)
                after |= new
                if strand.needed:
                    row.append(handed)
            now = after
        return [Value(*map(torch.stack, zip(*row, strict=True))) if row else None for row in rows], now


def reach(counts: Tensor, layer: Convolution) -> float:
    """Return the sum over inputs [N, C, H, W] or [T, B, C, H, W] of each count times the outputs that it meets."""
    groups = layer.groups
    ones = layer.weight.new_ones(groups, *layer.weight.shape[1:], dtype=torch.float64)
    convolution: Any = functional.conv1d if layer.weight.ndim == 3 else functional.conv2d
    samples = counts.double().flatten(0, -layer.weight.ndim)
    maps = convolution(samples, ones, None, layer.stride, layer.padding, layer.dilation, groups)
    return float(maps.sum()) * layer.out_channels / groups


def _of(operand: Value | float) -> Any:
    return operand.v if isinstance(operand, Value) else operand
