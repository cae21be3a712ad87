"""Custom neurons: a configuration and one `step`; see docs/python.md."""

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.errors import UsageError
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.models import kernels
from hstnn_deploy.models.algebra import Algebra, Strand, Unreadable, V
from hstnn_deploy.models.custom import checks, steps
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.units import UnitLayer, held, hold
from hstnn_deploy.models.network import SPIKES, State, Tap
from hstnn_deploy.plugins import registry as plugins


class Neuron(BaseModel):
    """A neuron, one for each value that comes in. Its fields are its configuration.

    A subclass declares its `states` and defines `step`; if it learns something, `fresh` too. Register it with
    `@neuron("name")`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    states: ClassVar[Mapping[str, str]] = {}
    """What it carries from step to step, with its meaning. Every state begins at 0 and has the layer's shape."""
    spikes: ClassVar[bool] = True
    """Whether it hands out what `o.spike` gives; False: other values, such as a membrane."""

    def fresh(self, shape: Shape) -> dict[str, Tensor]:
        """Return the numbers that a layer of a shape holds, by name: `nn.Parameter`s are learned, tensors are not."""
        return {}

    def step(
        self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor]
    ) -> tuple[V, dict[str, V]]:
        """Run one step, the only place with the equation.

        Args:
            o: the operations; values are known to them alone.
            drive: the input current, [B, n, …].
            state: the states after the step before, [B, n, …] each.
            own: what `fresh` gave, as it is now; `o.parameter` makes a value of it.

        Returns:
            What goes out, and every state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")


class OwnNeurons(UnitLayer):
    """A layer of them."""

    kind: str  # type: ignore[misc]
    """The name under which the neuron is registered."""

    def __init__(self, kind: str, neuron: Neuron, shape: Shape) -> None:
        super().__init__()
        self.kind, self.neuron, self.units = kind, neuron, shape[0] if shape else 1
        self.tap = SPIKES if neuron.spikes else steps.VALUES
        self.carries = {name: (shape, meaning) for name, meaning in neuron.states.items()}
        self.shown = steps.shown(self)
        given = neuron.fresh(shape)
        if not isinstance(given, Mapping) or not all(
            isinstance(key, str) and isinstance(each, Tensor) for key, each in given.items()
        ):
            raise UsageError(f"fresh of neuron {kind} gives {brief(given)}", 'give tensors by name: {"gain": …}')
        for name in given:
            if hasattr(self, name):
                raise UsageError(
                    f"fresh of neuron {kind} gives {brief(name)}, a name that is already in use", "give another name"
                )
        hold(self, given)

    def _step(self, o: Any, drive: Any, state: Mapping[str, Any]) -> Any:
        return self.neuron.step(o, drive, state, held(self))

    @functools.cached_property
    def _as_read(self) -> "_AsRead | None":
        """The step as a kernel is written from it; None where it does something else there than in torch."""
        try:
            self.check_reading("a kernel")
        except Unreadable:
            return None
        return _AsRead(self)

    @override
    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        found: tuple[V, dict[str, V]] = steps.run(self, self.tap, self._step, o, drive, state)
        return found

    @override
    def taps(self) -> dict[Tap, nn.Module]:
        """Its output and its states."""
        states = {Tap(self.number, name): self.shown[f"state_{name}"] for name in self.carries}
        return {Tap(self.number, self.tap): self, **states}

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, …], step by step; return what is handed out, and the state after it."""
        # Rounding errors of half precision would accumulate from step to step, and move spikes.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(next(iter(state.values())).dtype)
            noting = steps.Noting(self, self.cell, self.shown)
            # A step is read in the precision of files; in another it runs as it stands.
            usual = x.dtype == torch.get_default_dtype() and not noting.listened_to
            if usual and kernels.writes(x, state) and (read := self._as_read):
                found = kernels.by_its_step(x, state, read, lengths, held(self))
                if found:
                    return found
            strand = Strand("current", x, noting.step, self.state_names, self.tap, True)
            (rows,), after = Eager(lengths).loop([strand], state)
            noting.tell()
        assert rows is not None
        return rows, after

    @override
    def check_reading(self, reads: str) -> None:
        steps.check_reading(reads, self, self._step, self.output)

    def equation(self) -> str:
        """Return a hash of what its step does, for comparing checkpoints; see `steps.equation`."""
        return steps.equation(self, self.tap, self._step, type(self.neuron).step, self.output)


class _AsRead:
    """A step that sees values which only the operations of `o` take."""

    def __init__(self, layer: OwnNeurons) -> None:
        self._layer, self.states = layer, dict(layer.neuron.states)

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor]) -> Any:
        """See `Neuron`. What is learned is the layer's own."""
        return steps.run(self._layer, "", self._layer._step, o, drive, state)


class _Config(BaseModel):
    """What a list of layers has of such a neuron, under its name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: ClassVar[str]

    own: Neuron

    def build(self, shape: Shape) -> tuple[OwnNeurons, Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            RecipeError: the definition is wrong; see `checks.check`.
        """
        what = f"neuron {self.kind}"
        with their_code(f"{what} raises when its layer is made"):
            layer = OwnNeurons(self.kind, self.own, shape)
        checks.check(what, layer, self.own.spikes, layer._step, shape, shape)
        return layer, shape


N = TypeVar("N", bound=Neuron)


def neuron(name: str) -> Callable[[type[N]], type[N]]:
    """Return a decorator that registers a neuron under a name, by which lists of layers have it: `{name: {…}}`.

    Raises:
        UsageError: another part has the name, or the class is not a `Neuron` with states and a step.
    """

    def registered(defined: type[N]) -> type[N]:
        if not (isinstance(defined, type) and issubclass(defined, Neuron)):
            raise UsageError(f"{name} is {brief(defined)}, not a neuron", "derive its class from hd.custom.Neuron")
        if defined.step is Neuron.step:
            raise UsageError(f"neuron {name} has no step", "write def step(self, o, drive, state, own)")
        if "states" in defined.model_fields:
            raise UsageError(
                f"neuron {name} declares states as an option", 'write it without a type: states = {"v": "…"}'
            )
        checks.check_states(f"neuron {name}", defined.states)
        if not defined.states:
            raise UsageError(f"neuron {name} has no states", 'declare its states: states = {"v": "membrane"}')
        default: Any = Field(alias=name)
        # Unless an option without a default must be given.
        with suppress(ValidationError):
            default = Field(defined(), alias=name)
        config = create_model(f"{defined.__name__}Config", __base__=_Config, own=(defined, default))
        config.kind = name
        plugins.register("neurons", name, config, defined)
        return defined

    return registered
