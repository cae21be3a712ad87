"""Hybrid convolutional layers and their classifier (docs/mathematics.md, sections 1 and 2).

A unit is a channel: a map of H x W neurons that share one filter. Every group emits its maps average-pooled 2x2, while
its state stays unpooled. Shapes: T time, B batch, n channels of a group, frames x[T, B, 2, H, W], H = W.
"""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import ClassVar, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationInfo, field_validator
from torch import Tensor, nn

from hstnn_deploy.models import cells, kernels
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.cells import MapForm
from hstnn_deploy.models.eager import Fast, channels_last
from hstnn_deploy.models.hybrid.groups import Emitted, Group, H, HybridLayer, UnitKind
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.network import LossName, State
from hstnn_deploy.models.neurons import Lif, SpikingNeuron
from hstnn_deploy.models.neurons.numbers import with_own
from hstnn_deploy.models.sizes import Sizes

Form = MapForm
"""The two published forms: how a recurrent unit adds up, and whether the first layer pads its input."""

CHUNK = 8
"""Time steps that go through all layers together: all at once takes more memory and more time, one by one more time."""

_KERNEL = 3


def _convolution(inputs: int, units: int, padding: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, units, _KERNEL, padding=padding)


def _taken(convolution: nn.Conv2d, inputs: Tensor | None, units: Tensor) -> nn.Conv2d:
    """Return the convolution of some channels from some channels (None: all of them)."""
    old, bias = convolution.weight, convolution.bias
    assert bias is not None
    seen = old.shape[1] if inputs is None else len(inputs)
    padding = int(convolution.padding[0])
    new = _convolution(seen, len(units), padding).to(old)
    assert new.bias is not None
    with torch.no_grad():
        new.weight.copy_((old if inputs is None else old[:, inputs])[units])
        new.bias.copy_(bias[units])
    return new


def _over_time(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve every step at once: [T, B, inputs, …] to [T, B, n, …]."""
    maps: Tensor = convolution(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return maps


class ConvolutionalGroup(Group):
    """What both kinds share: an input convolution, whose filters selection ranks."""

    unit_axis = 0
    drive_name: ClassVar[str]

    def __init__(self, conv_input: nn.Conv2d) -> None:
        super().__init__()
        self.conv_input = conv_input

    @property
    def units(self) -> int:
        """The number of channels n."""
        return self.conv_input.out_channels

    @property
    def inputs(self) -> int:
        """The number of channels the group sees."""
        return self.conv_input.in_channels

    def drive(self, o: Algebra[V], x: V) -> V:
        """Return the input convolution of x."""
        return o.convolve(x, self.conv_input, self.drive_name)

    def upwards(self, o: Algebra[V], handed: V) -> V:
        """Return the maps, average-pooled 2x2."""
        return o.mean_pool(handed, f"{self.kind}_pooled")

    def map_size(self, size: int) -> int:
        """Return the height of the group's maps where its input is `size` high."""
        return size + 2 * int(self.conv_input.padding[0]) - (_KERNEL - 1)

    def ranked(self) -> list[nn.Parameter]:
        """Return the input filter (n, inputs, 3, 3); neither a bias nor the recurrent filter is ranked."""
        return [cast(nn.Parameter, self.conv_input.weight)]


class SpikingConvolution(ConvolutionalGroup):
    """Spiking units with I_t = conv(x_t) + bias. State: their neuron's, each [B, n, H, W]."""

    kind = "snn"
    tap = "spikes"
    drive_name = "current"

    def __init__(self, conv_input: nn.Conv2d, neuron: SpikingNeuron) -> None:
        super().__init__(conv_input)
        self.neuron = neuron
        self.states = neuron.states
        self.own: dict[str, Tensor] = {}
        """Numbers that each neuron has for itself; no trained network has any. See `give`."""

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run the neurons; see the neuron's `step`."""
        return self.neuron.step(o, drive, state, self.own)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window; return pooled spikes [T, B, n, H / 2, W / 2] and the state."""
        return kernels.spiking_pooled(_over_time(self.conv_input, x), state, self.neuron, lengths, self.own)

    def give(self, name: str, value: Tensor) -> None:
        """Let each neuron have a number of its own, such as its threshold, [n, H, W]."""
        self.neuron, self.own = with_own(self.neuron, name), {**self.own, name: value}

    def take(self, inputs: Tensor | None, units: Tensor) -> "SpikingConvolution":
        """Return the group of some units; see `Group`."""
        return SpikingConvolution(_taken(self.conv_input, inputs, units), self.neuron)


class RecurrentConvolution(ConvolutionalGroup):
    """Recurrent units over maps, see `cells.conv_rnn`. State: h, [B, n, H, W]."""

    kind = "rnn"
    states: Mapping[str, str] = H
    tap = "h"
    drive_name = "drive"

    def __init__(self, conv_input: nn.Conv2d, conv_recurrent: nn.Conv2d, form: Form) -> None:
        super().__init__(conv_input)
        self.conv_recurrent = conv_recurrent
        self.form = form

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run the units; see `cells.conv_rnn`."""
        return cells.conv_rnn(o, drive, state, self.conv_recurrent, self.form)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window; return pooled h [T, B, n, H / 2, W / 2] and the state."""
        drives = _over_time(self.conv_input, x)
        pooled, h = kernels.conv_rnn_pooled(drives, state["h"], self.conv_recurrent, self.form, lengths)
        return pooled, {"h": h}

    def take(self, inputs: Tensor | None, units: Tensor) -> "RecurrentConvolution":
        """Return the group of some units; see `Group`."""
        return RecurrentConvolution(
            _taken(self.conv_input, inputs, units), _taken(self.conv_recurrent, units, units), self.form
        )


class ConvolutionalConfig(BaseModel):
    """A convolutional classifier's keys in a recipe."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    usual_loss: ClassVar[LossName] = "mse"
    """The default task of its networks."""
    data_keys: ClassVar[dict[str, str]] = {"inputs": "inputs", "classes": "classes", "size": "size"}
    """The property of a data set that each of these keys must equal."""

    family: Literal["convolutional"] = "convolutional"
    form: Form = "dvs"
    inputs: int = Field(2, gt=0)
    """Channels of a frame: the polarities of an event camera."""
    classes: int = Field(gt=0)
    """Number of classes; for a regression, number of values (1 is only for a regression)."""
    units: list[PositiveInt] = Field(min_length=1)
    """Channels per layer: of the only kind, of both kinds together (ffs), or of each kind (hybrid)."""
    size: int = Field(gt=0)
    """Height and width of a frame."""
    hidden: int = Field(256, gt=0)
    """Width of the readout's hidden layer."""
    neuron: SpikingNeuron = Lif(decay=0.3, threshold=0.5, lens=0.5)
    recurrent: Literal["rnn"] = "rnn"
    """The type of the recurrent units; only fully connected networks have others."""

    @field_validator("size")
    @classmethod
    def _halved_by_every_layer(cls, size: int, info: ValidationInfo) -> int:
        if {"form", "units"} <= info.data.keys():
            cls._sizes(size, info.data["form"], len(info.data["units"]))
        return size

    @staticmethod
    def _sizes(size: int, form: Form, layers: int) -> list[int]:
        """Return the size of each layer's maps before pooling, and last of all that of what the readout sees.

        Raises:
            ValueError: a layer's maps cannot be halved.
        """
        sizes = [size - (_KERNEL - 1) if form == "nmnist" else size]
        for layer in range(1, layers + 1):
            if sizes[-1] < 2 or sizes[-1] % 2:
                raise ValueError(f"the maps of layer {layer} would be {sizes[-1]} high, too small or odd to halve")
            sizes.append(sizes[-1] // 2)
        return sizes

    def build(self, sizes: Sequence[Sizes]) -> "ConvClassifier":
        """Return a freshly initialised network with the given channels per layer; it starts as torch's own layers."""
        layers = []
        inputs = self.inputs
        for number, size in enumerate(sizes):
            padding = 0 if self.form == "nmnist" and number == 0 else 1
            groups: list[Group] = []
            if size.snn:
                groups.append(SpikingConvolution(_convolution(inputs, size.snn, padding), self.neuron))
            if size.rnn:
                first, own = _convolution(inputs, size.rnn, padding), _convolution(size.rnn, size.rnn, 1)
                groups.append(RecurrentConvolution(first, own, self.form))
            layers.append(HybridLayer(groups))
            inputs = layers[-1].units
        last = self._sizes(self.size, self.form, len(sizes))[-1]
        return ConvClassifier(layers, nn.Linear(inputs * last**2, self.hidden), nn.Linear(self.hidden, self.classes))


class ConvClassifier(HybridNetwork):
    """Two linear layers read out [sum over time of the last layer's pooled spikes, its pooled h at the last step].

    State: that of the layers, maps [B, n, H, W], and, where the last layer spikes, `spike_sum` [B, n, H / 2, W / 2].
    """

    together = True
    gathered: ClassVar[dict[str, str]] = {
        "spike_sum": "spikes of the last layer's spiking units, summed over the steps seen"
    }

    def __init__(self, layers: Sequence[HybridLayer], hidden: nn.Linear, readout: nn.Linear) -> None:
        super().__init__(layers)
        self.hidden = hidden
        self.readout = readout

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame: what a network knows is how large the maps are that it reads out."""
        size = isqrt(self.hidden.in_features // self.stack[-1].units)
        for layer in reversed(self.stack):
            group = next(iter(layer.groups.values()))
            assert isinstance(group, ConvolutionalGroup)
            # `map_size` is how much a convolution takes off; it is the same whatever the size.
            size = 2 * size - group.map_size(0)
        return self.stack[0].input_size, size, size

    @property
    def outputs(self) -> int:
        """The number of classes."""
        return self.readout.out_features

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, inputs, H, W]."""
        batch, size = like.shape[1], like.shape[-1]
        state = {}
        for number, layer in enumerate(self.stack, 1):
            for group in layer.groups.values():
                assert isinstance(group, ConvolutionalGroup)
                maps = group.map_size(size)
                for name in group.state_names:
                    state[f"{name}{number}"] = like.new_zeros(batch, group.units, maps, maps)
            size = maps // 2
        if spiking := self.sizes[-1].snn:
            state["spike_sum"] = like.new_zeros(batch, spiking, size, size)
        return state

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window; see `HybridNetwork.forward`. The output is a score [B, C] per class of everything seen so far.

        The window goes through the layers in chunks of `CHUNK` steps that carry the state.
        """
        after: State = self.initial_state(x) if state is None else state
        if x.dtype == torch.float32:  # in double precision, as selection has it, torch's own convolutions run
            x = channels_last(x)
        last: Emitted[Tensor] = {}
        for start, part in zip(range(0, len(x), CHUNK), x.split(CHUNK), strict=True):
            left = None if lengths is None else (lengths - start).clamp(0, len(part))
            last, after = self.layer_by_layer(Fast(left), part, after)
        return self.answer(Fast(), last, after), after

    def needed(self, layer: int) -> set[UnitKind]:
        """Return all kinds; of the last layer's recurrent units, only the state after everything is read."""
        return {"snn"} if layer == len(self.layers) else {"snn", "rnn"}

    def gather(self, o: Algebra[V], x: V, last: Emitted[V], state: Mapping[str, V], window: bool) -> dict[str, V]:
        """Add up the last layer's pooled spikes."""
        if "snn" not in last:
            return {}
        spikes = o.total(last["snn"], "spikes_in_window") if window else last["snn"]
        return {"spike_sum": o.add(state["spike_sum"], spikes, "spike_sum")}

    def answer(self, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
        """Return the scores of the sum of the last layer's pooled spikes, and its last pooled h."""
        features = [state["spike_sum"]] if "spike_sum" in state else []
        if (h := f"h{len(self.layers)}") in state:
            features.append(o.mean_pool(state[h], "h_pooled"))
        seen = features[0] if len(features) == 1 else o.concat(features, 1, "seen")
        hidden = o.linear(o.flatten(seen, "seen_flat"), self.hidden, "hidden_total")
        return o.linear(o.relu(hidden, "hidden"), self.readout, "logits")

    def _units_axis(self, window: bool) -> int:
        return 2 if window else 1

    def with_layers(self, layers: Sequence[HybridLayer], outputs: Tensor) -> "ConvClassifier":
        """Return a classifier over `layers` whose readout sees the last layer's channels `outputs` (indices)."""
        old, channels = self.hidden, self.stack[-1].units
        columns = old.weight.unflatten(1, (channels, -1))[:, outputs].flatten(1)
        hidden = nn.Linear(columns.shape[1], old.out_features).to(columns)
        readout = nn.Linear(self.readout.in_features, self.readout.out_features).to(columns)
        with torch.no_grad():
            hidden.weight.copy_(columns)
            hidden.bias.copy_(old.bias)
        readout.load_state_dict(self.readout.state_dict())
        return ConvClassifier(layers, hidden, readout)
