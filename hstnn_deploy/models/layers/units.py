"""Layers of neurons: alone, or so that they see their own spikes."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.models import kernels
from hstnn_deploy.models.algebra import Algebra, Strand, V
from hstnn_deploy.models.eager import Eager, Fast
from hstnn_deploy.models.layers.base import Layer, Shape, watched
from hstnn_deploy.models.layers.maps import Pool
from hstnn_deploy.models.network import SPIKES, State, Tap
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif, Neuron
from hstnn_deploy.models.neurons.numbers import RATE, with_own


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LifConfig(_Config):
    """`{lif: {tau: 2.0, …}}`: a leaky integrate-and-fire neuron for each value."""

    lif: Lif = Lif()

    def build(self, shape: Shape) -> tuple["Spiking", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Spiking(self.lif, shape), shape


class AdaptiveConfig(_Config):
    """`{adaptive: {…}}`: a neuron whose threshold grows with each spike, for each value."""

    adaptive: AdaptiveLif = AdaptiveLif()

    def build(self, shape: Shape) -> tuple["Spiking", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Spiking(self.adaptive, shape), shape


class IntegratorConfig(_Config):
    """`{integrator: {decay: 0.9}}`: a leaky membrane for each value, which never fires and is handed on."""

    integrator: Integrator = Integrator()

    def build(self, shape: Shape) -> tuple["Spiking", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Spiking(self.integrator, shape), shape


class UnitLayer(Layer):
    """Units that step through time; a fast kernel runs their windows where there is one."""

    tap: str
    units: int

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of what its units carry."""
        return tuple(self.carries)

    def drive(self, o: Algebra[V], x: V) -> V:
        """Return what of a step depends on the input alone."""
        return x

    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step of the units alone."""
        raise NotImplementedError

    def ranked(self) -> list[nn.Parameter]:
        """Return the weights, those on the input first."""
        return []

    def biases(self) -> list[nn.Parameter]:
        """Return what is added to the sums: beside the input, then beside the state before."""
        return []

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return o.whole_step(self, x, state) or self.cell(o, self.drive(o, x), state)

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        if whole := o.whole(self, x, state, True):
            return whole
        strand = Strand("units_drive", self.drive(o, x), self.cell, self.state_names, self.tap, True)
        (row,), after = o.loop([strand], state)
        assert row is not None
        return row, after

    @override
    def taps(self) -> dict[Tap, nn.Module]:
        return {Tap(self.number, self.tap): self}

    @override
    def membranes(self) -> set[str]:
        return set(self.carries) if self.tap == SPIKES else set()


def hold(layer: nn.Module, fresh: Mapping[str, Tensor]) -> None:
    """Give a layer the numbers of its neurons, see `Lif.fresh`: parameters, where they learn, or buffers."""
    for name, value in fresh.items():
        if isinstance(value, nn.Parameter):
            layer.register_parameter(name, value)
        else:
            layer.register_buffer(name, value)


def give(layer: nn.Module, neuron: Neuron, name: str, value: Tensor) -> Neuron:
    """Give a layer other numbers of its neurons, in the place of what it held; return what its neurons are then."""
    for old in (name, RATE) if name == "decay" else (name,):
        if hasattr(layer, old):
            delattr(layer, old)
    layer.register_buffer(name, value)
    changed: Neuron = with_own(neuron, name)
    return changed


def held(layer: nn.Module) -> dict[str, Tensor]:
    """Return what `hold` gave a layer."""
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


class Spiking(UnitLayer):
    """Neurons, one for each value of x."""

    def __init__(self, neuron: Neuron, shape: Shape) -> None:
        super().__init__()
        self.neuron, self.tap, self.units = neuron, neuron.tap, shape[0] if shape else 1
        self.carries = {name: (shape, meaning) for name, meaning in neuron.states.items()}
        hold(self, neuron.fresh(shape))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The neuron's type."""
        return self.neuron.type

    @property
    def own(self) -> dict[str, Tensor]:
        """The numbers of the neurons that the layer holds itself, by name."""
        return held(self)

    def give(self, name: str, value: Tensor) -> None:
        """Let each neuron have a number of its own, such as its threshold; value has the layer's shape."""
        self.neuron = give(self, self.neuron, name, value)

    @override
    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return self.neuron.step(o, drive, state, self.own)

    @override
    def with_next(
        self, o: Algebra[V], x: V, own: Mapping[str, V], following: Layer, theirs: Mapping[str, V]
    ) -> tuple[V, dict[str, V], dict[str, V]] | None:
        """Spikes in maps, handed on as mean or maximum of each 2x2, unless a hook looks at the spikes themselves."""
        if not (isinstance(o, Fast) and isinstance(following, Pool) and self.tap == SPIKES) or watched(self, following):
            return None
        if following.how == "sum" or following.padding or not following.size == following.stride == (2, 2):
            return None
        maps, state = cast(Any, x), cast(Any, dict(own))
        pooled, after = kernels.spiking_pooled(maps, state, self.neuron, o.lengths, self.own, following.how)
        return cast(Any, pooled), cast(Any, after), {}

    def forward(
        self, x: Tensor, state: State, lengths: Tensor | None, norms: kernels.StepNorms | None = None
    ) -> tuple[Tensor, State]:
        """Run a window x[T, B, …] by the fast kernels; return what is handed out, and the state after it.

        Where `norms` are given, x is normalised by them first.
        """
        if norms is not None:
            return kernels.spiking_normed(x, state, self.neuron, norms, self.own)
        return kernels.spiking(x, state, self.neuron, lengths, self.own)


class FeedbackConfig(_Config):
    """`{feedback: {…}}`: neurons that see their own spikes of the step before, through a weight."""

    feedback: Lif = Lif()
    bias: bool = False
    through: Literal["all", "own"] = "all"
    """What a unit sees: the spikes of all units, or only its own."""
    kernel: PositiveInt | None = None
    """Of maps: the size of the convolution through which they see the spikes; an odd number."""

    def build(self, shape: Shape) -> tuple["Feedback", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are maps and there is no kernel, or the other way round; or the kernel is even.
        """
        if self.through == "own" and (self.bias or self.kernel):
            raise ValueError("through: own has one weight for each unit: no bias and no kernel")
        if self.through == "all" and (len(shape) == 1) != (self.kernel is None):
            what = "give kernel, such as 3, or put flatten before it" if len(shape) > 1 else "kernel is for maps"
            raise ValueError(f"feedback over the shape {list(shape)}: {what}")
        if self.kernel is not None and (self.kernel % 2 == 0 or len(shape) != 3):
            raise ValueError(f"kernel is {self.kernel} over the shape {list(shape)}: an odd size, over maps [C, H, W]")
        return Feedback(self, shape), shape


class Feedback(UnitLayer):
    """Neurons with I_t = x_t + W s_{t-1} (+ b). State: the neurons', and their spikes.

    Weights (units, units) in `recurrent`; over maps those of a convolution. Where a unit sees its own
    spike alone, `own_weight` has the layer's shape.
    """

    kind = "feedback"
    tap = SPIKES

    def __init__(self, config: FeedbackConfig, shape: Shape) -> None:
        super().__init__()
        self.neuron, self.units = config.feedback, shape[0]
        self.recurrent: nn.Linear | nn.Conv2d | None = None
        if config.through == "own":
            self.own_weight = nn.Parameter(torch.zeros(shape))
        elif config.kernel is None:
            self.recurrent = nn.Linear(shape[0], shape[0], config.bias)
        else:
            size = config.kernel
            self.recurrent = nn.Conv2d(shape[0], shape[0], size, padding=size // 2, bias=config.bias)
        self.carries = {name: (shape, meaning) for name, meaning in self.neuron.states.items()}
        self.carries["fired"] = (shape, "spikes of layer {layer}'s units at the step before, which they see")
        hold(self, self.neuron.fresh(shape))

    @property
    def own(self) -> dict[str, Tensor]:
        """The numbers of the neurons that the layer holds itself, by name."""
        return held(self)

    def give(self, name: str, value: Tensor) -> None:
        """Let each neuron have a number of its own; see `Spiking.give`."""
        self.neuron = give(self, self.neuron, name, value)  # type: ignore[assignment]

    def _seen(self, o: Algebra[V], fired: V) -> V:
        match self.recurrent:
            case nn.Linear():
                return o.linear_at_each(fired, self.recurrent, "own")
            case nn.Conv2d():
                return o.convolve(fired, self.recurrent, "own")
            case _:
                return o.mul(fired, o.parameter(self.own_weight), "own")

    @override
    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        current = o.add(drive, self._seen(o, state["fired"]), "current")
        spikes, after = self.neuron.step(o, current, state, held(self))
        # A value of its own: a graph may not hand out one twice.
        return spikes, after | {"fired": o.mul(spikes, 1.0, "fired")}

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, …], step by step; return the spikes, and the state after it."""
        strand = Strand("current", x, self.cell, self.state_names, SPIKES, True)
        (spikes,), after = Eager(lengths).loop([strand], state)
        assert spikes is not None
        return spikes, after
