"""Layers of units: neurons, recurrent units, and neurons that see their own spikes."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

from hstnn_deploy.models import cells, kernels
from hstnn_deploy.models.algebra import Algebra, Strand, V
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.hybrid.groups import Group, LstmGroup, RnnGroup, fresh_recurrent
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.network import SPIKES, State, Tap
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif, Neuron


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


class _Units(Layer):
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

    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """See `Layer`."""
        return o.whole_step(self, x, state) or self.cell(o, self.drive(o, x), state)

    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """See `Layer`."""
        if whole := o.whole(self, x, state, True):
            return whole
        strand = Strand("units_drive", self.drive(o, x), self.cell, self.state_names, self.tap, True)
        (row,), after = o.loop([strand], state)
        assert row is not None
        return row, after

    def taps(self) -> dict[Tap, nn.Module]:
        """See `Layer`."""
        return {Tap(self.number, self.tap): self}

    def membranes(self) -> set[str]:
        """See `Layer`."""
        return set(self.carries) if self.tap == SPIKES else set()


class Spiking(_Units):
    """Neurons, one for each value of x."""

    def __init__(self, neuron: Neuron, shape: Shape) -> None:
        super().__init__()
        self.neuron, self.tap, self.units = neuron, neuron.tap, shape[0] if shape else 1
        self.carries = {name: (shape, meaning) for name, meaning in neuron.states.items()}
        for name, value in neuron.fresh().items():
            self.register_parameter(name, nn.Parameter(value))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The neuron's type."""
        return self.neuron.type

    @property
    def own(self) -> dict[str, Tensor]:
        """What the neurons have learned."""
        return dict(self.named_parameters(recurse=False))

    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """See `_Units`."""
        return self.neuron.step(o, drive, state, self.own)

    def forward(
        self, x: Tensor, state: State, lengths: Tensor | None, norms: kernels.StepNorms | None = None
    ) -> tuple[Tensor, State]:
        """Run a window x[T, B, …] by the fast kernels; return what is handed out, and the state after it.

        Where `norms` are given, x is normalised by them first.
        """
        if norms is not None:
            return kernels.spiking_normed(x, state, self.neuron, norms)
        return kernels.spiking(x, state, self.neuron, lengths, self.own)


class RecurrentConfig(_Config):
    """`{rnn: 100}`: sigmoid recurrent units; `{lstm: 100}`: LSTM units. Both without bias."""

    rnn: PositiveInt | None = None
    lstm: PositiveInt | None = None

    def build(self, shape: Shape) -> tuple["Recurrent", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are maps.
        """
        if len(shape) != 1:
            raise ValueError(f"recurrent units take units, not the shape {list(shape)}: put flatten before them")
        units = self.rnn or self.lstm
        if units is None:
            raise ValueError("it must say how many units there are")
        return Recurrent(fresh_recurrent("lstm" if self.rnn is None else "rnn", shape[0], units)), (units,)


class Recurrent(_Units):
    """Recurrent units: see `cells.rnn` and `cells.lstm`."""

    tap = "h"

    def __init__(self, group: Group) -> None:
        super().__init__()
        assert isinstance(group, RnnGroup | LstmGroup)
        self.weight_input, self.weight_recurrent = group.weight_input, group.weight_recurrent
        self.units, self._gated = group.units, isinstance(group, LstmGroup)
        self.carries = {name: ((group.units,), meaning) for name, meaning in group.states.items()}

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What the units are."""
        return "lstm" if self._gated else "rnn"

    def ranked(self) -> list[nn.Parameter]:
        """See `_Units`."""
        return [self.weight_input, self.weight_recurrent]

    def drive(self, o: Algebra[V], x: V) -> V:
        """See `_Units`."""
        return o.product(x, self.weight_input, "drive")

    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """See `_Units`."""
        return (cells.lstm if self._gated else cells.rnn)(o, drive, state, self.weight_recurrent)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, I] by the fast kernels; return h, and the state after it."""
        if self._gated:
            h, *after = kernels.lstm(x, self.weight_input, state["h"], state["c"], self.weight_recurrent, lengths)
            return h, dict(zip("hc", after, strict=True))
        h, last = kernels.rnn(x, self.weight_input, state["h"], self.weight_recurrent, lengths)
        return h, {"h": last}


class FeedbackConfig(_Config):
    """`{feedback: {…}}`: neurons that see their own spikes of the step before, through a weight."""

    feedback: Lif = Lif()
    bias: bool = False

    def build(self, shape: Shape) -> tuple["Feedback", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are maps.
        """
        if len(shape) != 1:
            raise ValueError(f"feedback is between units, not over the shape {list(shape)}: put flatten before it")
        return Feedback(self.feedback, shape[0], self.bias), shape


class Feedback(_Units):
    """Neurons with I_t = x_t + s_{t-1} W^T (+ b). Weights (units, units); state: the neurons', and their spikes."""

    kind = "feedback"
    tap = SPIKES

    def __init__(self, neuron: Lif, units: int, bias: bool) -> None:
        super().__init__()
        self.neuron, self.units = neuron, units
        self.recurrent = nn.Linear(units, units, bias)
        self.carries = {name: ((units,), meaning) for name, meaning in neuron.states.items()}
        self.carries["fired"] = ((units,), "spikes of layer {layer}'s units at the step before, which they see")
        for name, value in neuron.fresh().items():
            self.register_parameter(name, nn.Parameter(value))

    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """See `_Units`."""
        own = dict(self.named_parameters(recurse=False))
        current = o.add(drive, o.linear_at_each(state["fired"], self.recurrent, "own"), "current")
        spikes, after = self.neuron.step(o, current, state, own)
        # A value of its own: a graph may not hand out one twice.
        return spikes, after | {"fired": o.mul(spikes, 1.0, "fired")}

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, n], step by step; return the spikes, and the state after it."""
        strand = Strand("current", x, self.cell, self.state_names, SPIKES, True)
        (spikes,), after = Eager(lengths).loop([strand], state)
        assert spikes is not None
        return spikes, after
