"""Custom layers: options, weights and one `step`; see docs/python.md."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.errors import HstnnError, RecipeError, UsageError
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.custom import checks, steps
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers import base
from hstnn_deploy.models.layers.base import Shape, stepped
from hstnn_deploy.models.network import SPIKES, State, Tap
from hstnn_deploy.plugins import registry as plugins


class Options(BaseModel):
    """A layer's keys in a recipe: the fields of a subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Layer(base.Layer):
    """A layer. `__init__` makes its weights, as modules and parameters, and says in `carries` what it carries.

    Args:
        options: what the recipe says, an object of the class's own `Options`.
        shape: of what comes in at a step of one sample: (n,), (C, L) or (C, H, W).
    """

    Options: ClassVar[type[BaseModel]] = Options
    """The class of its options."""
    spikes: ClassVar[bool] = False
    """Whether it hands out what `o.spike` gives."""
    over_time = False

    def __init__(self, options: Any, shape: Shape) -> None:
        super().__init__()

    shown: nn.ModuleDict
    """What stands for its states; made when the layer is."""

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape of what goes out; unless written, that of what comes in.

        Raises:
            ValueError: the layer does not take the shape; says why.
        """
        return shape

    @abstractmethod
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step x[B, …], the only place with the equation; return what goes out, and every state.

        Weights are given to the operations of `o`: `o.linear(x, self.weights)` of an `nn.Linear`, `o.convolve`,
        `o.parameter(self.gain)` of a parameter or buffer.
        """

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Tensors only, step by step."""
        assert isinstance(o, Eager)
        found: tuple[V, dict[str, V]] = self(x, dict(state), o.lengths)
        return found

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, …] of tensors; return what goes out, and the state after it."""
        noting = steps.Noting(self, self.step, self.shown)
        found: tuple[Tensor, State] = stepped(noting, Eager(lengths), x, state)
        noting.tell()
        return found


class _Own(Layer):
    """A layer inside a network: its step in any reading. Each registered class gets a subclass of this and itself."""

    tap: str
    written: ClassVar[Any]
    """The step as the user wrote it."""

    def _step(self, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
        return self.written(o, x, state)

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        found: tuple[V, dict[str, V]] = steps.run(self, self.tap, self._step, o, x, state)
        return found

    @override
    def taps(self) -> dict[Tap, nn.Module]:
        """Empty for a layer without states."""
        states = {Tap(self.number, name): self.shown[f"state_{name}"] for name in self.carries}
        return {Tap(self.number, self.tap): self, **states} if self.tap else {}

    @override
    def membranes(self) -> set[str]:
        return set(self.carries) if self.spikes else set()

    @override
    def check_reading(self, reads: str) -> None:
        steps.check_reading(reads, self, self._step, self.input_shape)

    def equation(self) -> str:
        """Return a hash of what its step does, for comparing checkpoints; see `steps.equation`."""
        return steps.equation(self, self.tap, self._step, type(self).written, self.input_shape)

    input_shape: Shape = ()


_OURS = {
    name
    for each in (_Own, Layer, base.Layer)
    for name in (*vars(each), *each.__annotations__)
    if not name.startswith(("__", "_abc_"))
} - {"Options", "spikes", "carries", "step", "shape_after"}
"""Names that every layer already has; a user's attribute must not replace them."""


class _Config(BaseModel):
    """What a list of layers has of such a layer, under its name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    made: ClassVar[type[_Own]]

    own: BaseModel

    def build(self, shape: Shape) -> tuple[_Own, Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            RecipeError: the definition is wrong; see `checks.check`.
            ValueError: it does not take the shape.
        """
        what = f"layer {self.made.kind}"
        try:
            with their_code(f"{what} raises when it is made"):
                layer = self.made(self.own, shape)
                after = layer.shape_after(shape)
        except UsageError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from error
            raise
        held = {*vars(layer), *layer._parameters, *layer._buffers, *layer._modules}
        _refuse_ours(what, held, RecipeError)
        if not _is_shape(after):
            raise RecipeError(f"{what} gives the shape {brief(after)}", "a tuple of sizes above 0, such as (64,)")
        if not isinstance(layer.carries, Mapping):
            raise RecipeError(f"{what} carries {brief(layer.carries)}", 'give {"h": ((64,), "what it means")}')
        checks.check_states(what, {name: _meaning(what, each) for name, each in layer.carries.items()})
        layer.input_shape, layer.shown = shape, steps.shown(layer)
        layer.tap = SPIKES if layer.spikes else steps.VALUES if layer.carries else ""
        for name, module in layer.named_modules():
            if lost := sorted(module._non_persistent_buffers_set):
                place = ".".join(filter(None, (name, lost[0])))
                raise RecipeError(
                    f"{what} has the buffer {place}, which no checkpoint would store", "make it persistent"
                )
        checks.check(what, layer, layer.spikes, layer._step, shape, after)
        if torch.empty(0).is_meta:
            with their_code(f"{what} raises when it is made"):
                again = self.made(self.own, shape)
            checks.check_made_alike(what, layer, again, shape)
        return layer, after


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(type(each) is int and each > 0 for each in value)


def _meaning(what: str, carried: Any) -> str:
    match carried:
        case (shape, str() as meaning) if _is_shape(shape):
            return meaning
    hint = 'give a shape of sizes above 0 and the meaning: {"h": ((64,), "what it means")}'
    raise RecipeError(f"{what} carries {brief(carried)}", hint)


def _refuse_ours(what: str, names: Iterable[str], kind: type[HstnnError]) -> None:
    if taken := sorted(_OURS.intersection(names)):
        raise kind(f"{what} defines {taken[0]!r}, a name that every layer already has", "rename it")


L = TypeVar("L", bound=Layer)


def layer(name: str) -> Callable[[type[L]], type[L]]:
    """Return a decorator that registers a layer under a name, by which lists of layers have it: `{name: {…}}`.

    Raises:
        UsageError: another part has the name, or the class is not a `Layer`.
    """

    def registered(defined: type[L]) -> type[L]:
        if not (isinstance(defined, type) and issubclass(defined, Layer)):
            raise UsageError(f"{name} is {brief(defined)}, not a layer", "derive its class from hd.custom.Layer")
        if getattr(defined.step, "__isabstractmethod__", False):
            raise UsageError(f"layer {name} has no step", "write def step(self, o, x, state)")
        for each in defined.__mro__:
            if each not in Layer.__mro__:
                _refuse_ours(f"layer {name}", vars(each), UsageError)
        options = defined.Options
        if not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise UsageError(f"the Options of layer {name} are {brief(options)}", "derive them from hd.custom.Options")
        made = type(defined.__name__, (_Own, defined), {"written": defined.step, "kind": name})
        default: Any = Field(alias=name)
        # Unless an option without a default must be given.
        with suppress(ValidationError):
            default = Field(options(), alias=name)
        config: Any = create_model(f"{defined.__name__}Config", __base__=_Config, own=(options, default))
        config.made = made
        plugins.register("layers", name, config, defined)
        return defined

    return registered
