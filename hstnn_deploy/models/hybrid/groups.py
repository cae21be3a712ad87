"""Hybrid layers: a group of spiking and a group of recurrent units that see the same input.

Shapes: T time, B batch, I inputs, n units of a group. A layer emits [spikes, recurrent] concatenated, spiking first.
A group is one module per kind of unit. It knows which of its weights selection ranks, and how to be cut down to some
of its units; stages never look inside it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from hstnn_deploy.models import cells, kernels
from hstnn_deploy.models.algebra import Algebra, Strand, V
from hstnn_deploy.models.network import State
from hstnn_deploy.models.neurons import SpikingNeuron
from hstnn_deploy.models.neurons.numbers import with_own
from hstnn_deploy.models.sizes import Sizes

UnitKind = Literal["snn", "rnn"]
Outputs = dict[UnitKind, Tensor]
"""What a layer emits, [T, B, n] for each kind of unit it has, spiking first."""


H: dict[str, str] = {"h": "output of layer {layer}'s recurrent units"}
H_AND_C: dict[str, str] = H | {"c": "cell of layer {layer}'s LSTM units"}
"""What recurrent units carry from step to step, and its meaning."""


class Group(nn.Module, ABC):
    """Units of one kind within a layer."""

    kind: ClassVar[UnitKind]
    states: Mapping[str, str]
    """What its units carry from step to step, and its meaning; `{layer}` stands for the layer's number."""
    tap: ClassVar[str]
    """The name of what its units hand out at every step."""
    unit_axis: ClassVar[int] = -1
    """The axis of each ranked weight that runs over the units."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of what its units carry from step to step."""
        return tuple(self.states)

    @property
    @abstractmethod
    def units(self) -> int:
        """The number of units n."""

    @property
    def inputs(self) -> int:
        """The number of inputs I that the group sees."""
        return self.ranked()[0].shape[0]

    @abstractmethod
    def drive(self, o: Algebra[V], x: V) -> V:
        """Return what of a step depends on the input alone, of x[B, I] or of every step of x[T, B, I]."""

    @abstractmethod
    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step: from a drive and the states before it to what the units hand out, and the states after it."""

    def upwards(self, o: Algebra[V], handed: V) -> V:
        """Return what the layer above sees of what the units hand out."""
        return handed

    @abstractmethod
    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, I] from `state` by the fast kernels.

        Returns:
            What goes up, [T, B, n], and the state after the window.
        """

    @abstractmethod
    def ranked(self) -> list[nn.Parameter]:
        """Return the weights that selection ranks; `unit_axis` of each runs over the units."""

    def biases(self) -> list[nn.Parameter]:
        """Return []: units of hybrid layers have no bias."""
        return []

    @abstractmethod
    def take(self, inputs: Tensor | None, units: Tensor) -> "Group":
        """Return a new group of the units `units` that sees the inputs `inputs` (indices; None: all of them)."""


def initial_weight(inputs: int, units: int) -> nn.Parameter:
    """Return a fresh weight (inputs, units), kaiming-uniform."""
    # Applied to the (in, out) matrix as it stands, so the fan-in it computes is the number of outputs.
    return nn.Parameter(nn.init.kaiming_uniform_(torch.empty(inputs, units)))


def _taken(weight: Tensor, rows: Tensor | None, columns: Tensor) -> nn.Parameter:
    seen = weight.detach() if rows is None else weight.detach()[rows]
    return nn.Parameter(seen[..., columns].contiguous())


class SpikingGroup(Group):
    """Spiking units without bias or recurrent weight: I_t = x_t @ W. State: their neuron's, each [B, n]."""

    kind = "snn"
    tap = "spikes"

    def __init__(self, weight: nn.Parameter, neuron: SpikingNeuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.states = neuron.states
        self.weight = weight
        self.own: dict[str, Tensor] = {}
        """Numbers that each neuron has of its own; no trained network has any. See `give`."""

    @property
    def units(self) -> int:
        """The number of units."""
        return self.weight.shape[1]

    def drive(self, o: Algebra[V], x: V) -> V:
        """Return x @ W."""
        return o.product(x, self.weight, "current")

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run the neurons; see the neuron's `step`."""
        return self.neuron.step(o, drive, state, self.own)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window; see `Group`."""
        return kernels.spiking(x @ self.weight, state, self.neuron, lengths, self.own, spare=True)

    def give(self, name: str, value: Tensor) -> None:
        """Let each neuron have a number of its own, such as its threshold, [n]."""
        self.neuron, self.own = with_own(self.neuron, name), {**self.own, name: value}

    def ranked(self) -> list[nn.Parameter]:
        """Return W."""
        return [self.weight]

    def take(self, inputs: Tensor | None, units: Tensor) -> "SpikingGroup":
        """Return the group of some units; see `Group`."""
        return SpikingGroup(_taken(self.weight, inputs, units), self.neuron)


class RnnGroup(Group):
    """Sigmoid recurrent units without bias: h_t = sigmoid(x_t @ W_i + h_{t-1} @ W_h). State: h, [B, n]."""

    kind = "rnn"
    states: Mapping[str, str] = H
    tap = "h"

    def __init__(self, weight_input: nn.Parameter, weight_recurrent: nn.Parameter) -> None:
        super().__init__()
        self.weight_input = weight_input
        self.weight_recurrent = weight_recurrent

    @property
    def units(self) -> int:
        """The number of units."""
        return self.weight_input.shape[1]

    def drive(self, o: Algebra[V], x: V) -> V:
        """Return x @ W_i."""
        return o.product(x, self.weight_input, "drive")

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run the units; see `cells.rnn`."""
        return cells.rnn(o, drive, state, self.weight_recurrent)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window; see `Group`."""
        h, after = kernels.rnn(x, self.weight_input, state["h"], self.weight_recurrent, lengths)
        return h, {"h": after}

    def ranked(self) -> list[nn.Parameter]:
        """Return W_i and W_h: a unit's column of the stacked [W_i; W_h]."""
        return [self.weight_input, self.weight_recurrent]

    def take(self, inputs: Tensor | None, units: Tensor) -> "RnnGroup":
        """Return the group of some units; see `Group`."""
        return RnnGroup(_taken(self.weight_input, inputs, units), _taken(self.weight_recurrent, units, units))


class LstmGroup(Group):
    """LSTM units without bias, in the place of the recurrent ones. State: h and c, each [B, n].

    Weights W_i (inputs, 4, n) and W_h (n, 4, n), gates in the order i, f, g, o: a unit owns a column of every gate.
    """

    kind = "rnn"
    states: Mapping[str, str] = H_AND_C
    tap = "h"

    def __init__(self, weight_input: nn.Parameter, weight_recurrent: nn.Parameter) -> None:
        super().__init__()
        self.weight_input = weight_input
        self.weight_recurrent = weight_recurrent

    @property
    def units(self) -> int:
        """The number of units."""
        return self.weight_input.shape[-1]

    def drive(self, o: Algebra[V], x: V) -> V:
        """Return x @ W_i of the four gates."""
        return o.product(x, self.weight_input, "drive")

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run the units; see `cells.lstm`."""
        return cells.lstm(o, drive, state, self.weight_recurrent)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window; see `Group`."""
        h, *after = kernels.lstm(x, self.weight_input, state["h"], state["c"], self.weight_recurrent, lengths)
        return h, dict(zip(self.state_names, after, strict=True))

    def ranked(self) -> list[nn.Parameter]:
        """Return W_i and W_h: a unit's columns of all four gates."""
        return [self.weight_input, self.weight_recurrent]

    def take(self, inputs: Tensor | None, units: Tensor) -> "LstmGroup":
        """Return the group of some units; see `Group`."""
        return LstmGroup(_taken(self.weight_input, inputs, units), _taken(self.weight_recurrent, units, units))


RecurrentUnit = Literal["rnn", "lstm"]
"""What the recurrent units of a network are: sigmoid recurrent units or LSTM units."""


def fresh_recurrent(unit: RecurrentUnit, inputs: int, units: int) -> Group:
    """Return freshly initialised recurrent units: kaiming-uniform, or as `torch.nn.LSTM` starts."""
    if unit == "rnn":
        return RnnGroup(initial_weight(inputs, units), initial_weight(units, units))
    bound = units**-0.5
    shapes = ((inputs, 4, units), (units, 4, units))
    return LstmGroup(*(nn.Parameter(torch.empty(shape).uniform_(-bound, bound)) for shape in shapes))


def fresh_layers(
    inputs: int, sizes: Sequence[Sizes], neuron: SpikingNeuron, recurrent: RecurrentUnit
) -> "list[HybridLayer]":
    """Return freshly initialised layers, one on the other, with the given units per layer."""
    layers: list[HybridLayer] = []
    for size in sizes:
        groups: list[Group] = []
        if size.snn:
            groups.append(SpikingGroup(initial_weight(inputs, size.snn), neuron))
        if size.rnn:
            groups.append(fresh_recurrent(recurrent, inputs, size.rnn))
        layers.append(HybridLayer(groups))
        inputs = layers[-1].units
    return layers


def joined(outputs: Outputs) -> Tensor:
    """Return what a layer emits as the next one sees it, [T, B, units, …], spiking first."""
    parts = list(outputs.values())
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


Emitted = dict[UnitKind, V]
"""What goes up from a layer, by kind, in a reading: the kinds that are needed above, spiking first."""


class HybridLayer(nn.Module):
    """Groups side by side, spiking first; a kind without units has no group."""

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__()
        self.groups: dict[UnitKind, Group] = {group.kind: group for group in groups}
        for group in groups:
            self.add_module(group.kind, group)

    def count(self, kind: UnitKind) -> int:
        """Return the number of units of a kind."""
        return self.groups[kind].units if kind in self.groups else 0

    @property
    def units(self) -> int:
        """The number of units of both kinds: the width of the layer's output."""
        return sum(group.units for group in self.groups.values())

    @property
    def input_size(self) -> int:
        """The number of inputs I that every group of the layer sees."""
        return next(iter(self.groups.values())).inputs

    @property
    def state_sizes(self) -> dict[str, int]:
        """The name and width of each state of the layer."""
        return {name: group.units for group in self.groups.values() for name in group.state_names}

    def step(
        self, o: Algebra[V], x: V, state: Mapping[str, V], needed: Collection[UnitKind]
    ) -> tuple[Emitted[V], dict[str, V]]:
        """Run one step x[B, I] in a reading; return what goes up of the kinds that are needed, and the states."""
        handed: Emitted[V] = {}
        after: dict[str, V] = {}
        for kind, group in self.groups.items():
            whole = o.whole_step(group, x, state)
            handed[kind], new = whole or group.step(o, group.drive(o, x), state)
            after |= new
        return {kind: self.groups[kind].upwards(o, each) for kind, each in handed.items() if kind in needed}, after

    def window(
        self, o: Algebra[V], x: V, state: Mapping[str, V], needed: Collection[UnitKind]
    ) -> tuple[Emitted[V], dict[str, V]]:
        """Run a window x[T, B, I] in a reading: drives of all steps at once, then step by step; see `step`."""
        emitted: Emitted[V] = {}
        after: dict[str, V] = {}
        stepped: list[Group] = []
        for kind, group in self.groups.items():
            if whole := o.whole(group, x, state, kind in needed):
                emitted[kind], new = whole
                after |= new
            else:
                stepped.append(group)
        if stepped:
            strands = [
                Strand(
                    f"{group.kind}_drive",
                    group.drive(o, x),
                    group.step,
                    group.state_names,
                    group.tap,
                    group.kind in needed,
                )
                for group in stepped
            ]
            rows, new = o.loop(strands, state)
            for group, row in zip(stepped, rows, strict=True):
                if row is not None:
                    emitted[group.kind] = group.upwards(o, row)
            after |= new
        return {kind: emitted[kind] for kind in self.groups if kind in emitted and kind in needed}, after

    def forward(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Outputs, State]:
        """Run a window x[T, B, I]; return what each kind emits, and the state after the window."""
        outputs: Outputs = {}
        after: State = {}
        for kind, group in self.groups.items():
            outputs[kind], new = group(x, state, lengths)
            after |= new
        return outputs, after

    def take(self, inputs: Tensor | None, kept: dict[UnitKind, Tensor]) -> "HybridLayer":
        """Return the layer of some of its units, seeing some of its inputs (None: all).

        A kind without a kept unit is left out.
        """
        return HybridLayer([group.take(inputs, kept[kind]) for kind, group in self.groups.items() if len(kept[kind])])
