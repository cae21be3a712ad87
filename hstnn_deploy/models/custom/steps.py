"""A `step` that a user wrote, in any reading: named, checked when it is defined, and refused where it cannot be read.

The readings of the package's own layers rely on names that its steps give with care: no name twice, what is handed out
and carried under its own. A user's step need not know of that. Outside of torch it sees values that only the operations
of `o` take, and each result gets a name of its own.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import HstnnError, RecipeError, UsageError, nearest
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief, first_line
from hstnn_deploy.models.algebra import Algebra, Unreadable
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.network import SPIKES
from hstnn_deploy.models.surrogates import Surrogate

OPERATIONS = (
    *("add", "sub", "mul", "share", "sigmoid", "tanh", "relu", "clip", "parameter", "spike", "exceeds", "fixed"),
    *("product", "linear", "linear_at_each", "convolve", "parts", "concat", "pool", "mean_pool", "flatten", "vote"),
)
"""What a step may do: operations of `Algebra` on one time step. `tap` may be called, and does nothing."""

_SIGNATURES = {each: inspect.signature(getattr(Algebra, each)) for each in OPERATIONS}
_TAKES_TENSORS = ("parameter", "product")
_USE = f"write it in the operations of o: {', '.join(OPERATIONS)}"

VALUES = "out"
"""The tap of what hands out other values than spikes."""

_STATE = re.compile(r"[a-z]{1,20}")
_TAKEN = {SPIKES, VALUES, "fires", "floor", "multiple", "total", "steps", "latest", "largest", "exit", "x", "logits"}
"""Names that values of a graph have already."""

Step = Callable[[Any, Any, Mapping[str, Any]], Any]
"""A step as the user wrote it: from a reading, what comes in, and the states, to what goes out, and the states."""


class Shown(nn.Module):
    """Stands for a state that is handed out at every step, so that a proof can take it from an engine.

    Nobody knows how an equation treats an error: bounds that went on from step to step could grow without end.
    """

    def forward(self, rows: Tensor) -> tuple[Tensor]:
        """Return what the state was after each step, [T, B, …], to whoever listens."""
        return (rows,)


def shown(layer: Layer) -> nn.ModuleDict:
    """Return what stands for each state of a layer."""
    return nn.ModuleDict({f"state_{name}": Shown() for name in layer.carries})


class Noting:
    """A step that notes states for those who listen to them."""

    def __init__(self, layer: Layer, step: Step, states: nn.ModuleDict) -> None:
        self._step, self._states = step, states
        self._rows: dict[str, list[Tensor]] = {
            name: [] for name in layer.carries if states[f"state_{name}"]._forward_hooks
        }

    def step(self, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
        """Run a step."""
        y, after = self._step(o, x, state)
        for name, rows in self._rows.items():
            rows.append(after[name])
        return y, after

    def tell(self) -> None:
        """Tell those who listen, after the last step."""
        for name, rows in self._rows.items():
            self._states[f"state_{name}"](torch.stack(rows))


class Boxed:
    """A value that only the operations of `o` take: Python's and torch's own operators raise.

    Python compares all objects and takes all for true; an answer to that would be one for every sample.
    """

    __slots__ = ("number", "value")

    def __init__(self, value: Any, number: int) -> None:
        self.value, self.number = value, number

    def __repr__(self) -> str:
        """Return what an error calls it."""
        return f"value {self.number}"

    def __bool__(self) -> NoReturn:
        raise TypeError("if, and, or, not decide about numbers, and a graph has none yet; o.exceeds compares")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("== and != compare numbers, and a graph has none yet; o.exceeds compares")

    def __hash__(self) -> NoReturn:
        raise TypeError("a value is no key: a graph has no numbers yet")


class Boxing:
    """A reading as a user's step sees it, where the reading is another than torch.

    Args:
        o: the reading.
        layer: whose step it is; for the names of what it holds.
    """

    def __init__(self, o: Algebra[Any], layer: nn.Module) -> None:
        self._o, self._count = o, 0
        self._held = {id(each): name for name, each in (*layer.named_parameters(), *layer.named_buffers())}
        self._held |= {id(each): name for name, each in layer.named_modules()}
        self.written: list[str] = []
        """What was done, line by line: the equation."""

    def __getattr__(self, operation: str) -> Any:
        if operation == "tap":
            return lambda a, *_: a
        if operation not in _SIGNATURES:
            raise AttributeError(f"o has no operation {operation!r} for a step")
        return partial(self._do, operation)

    def box(self, value: Any) -> Boxed:
        """Return a value as a step sees it."""
        self._count += 1
        return Boxed(value, self._count)

    def _do(self, operation: str, *given: Any, **named: Any) -> Any:
        bound = _SIGNATURES[operation].bind(None, *given, **named)
        arguments = {key: value for key, value in bound.arguments.items() if key != "self"}
        if operation == "fixed":
            return given[0] if given else named["a"]
        told = {key: self._told(value) for key, value in arguments.items() if key not in ("name", "surrogate")}
        if "name" in _SIGNATURES[operation].parameters:
            # Never a state's name, which is one word and the layer's number.
            arguments["name"] = SPIKES if operation == "spike" else f"{operation}_{self._count}"
        for value in arguments.values():
            # A graph would have to hold it as an array of its own.
            if isinstance(value, np.generic) or (isinstance(value, Tensor) and operation not in _TAKES_TENSORS):
                raise TypeError(
                    f"o.{operation} takes no {type(value).__name__}: give a number, float(…), or o.parameter(…)"
                )
        plain = {key: _unboxed(value) for key, value in arguments.items()}
        result = getattr(self._o, operation)(**plain)
        boxed = [self.box(each) for each in result] if isinstance(result, list) else self.box(result)
        self.written.append(f"{self._told(boxed)} = {operation} {told}")
        return boxed

    def _told(self, value: Any) -> str:
        match value:
            case Boxed():
                return f"%{value.number}"
            case list() | tuple() if not isinstance(value, Surrogate):
                return f"[{', '.join(map(self._told, value))}]"
            case nn.Module():
                return f"{self._held.get(id(value), '?')}: {value!r}"
            case Tensor():
                return f"{self._held.get(id(value), '?')}: {list(value.shape)}"
            case _:
                return repr(value)


def _unboxed(value: Any) -> Any:
    if isinstance(value, Boxed):
        return value.value
    if isinstance(value, list | tuple) and not isinstance(value, Surrogate):
        return type(value)(_unboxed(each) for each in value)
    return value


def run(layer: Layer, tap: str, step: Step, o: Algebra[Any], x: Any, state: Mapping[str, Any]) -> Any:
    """Run a user's step in a reading.

    Args:
        layer: whose it is.
        tap: the name of what it hands out at every step; "" where that is nobody's business.
        step: what the user wrote.
        o: the reading.
        x: what comes in, [B, …].
        state: what it carries.

    Returns:
        What goes out, and the states.

    Raises:
        Unreadable: the reading cannot hold the step; says why.
    """
    if isinstance(o, Eager):
        y, after = step(o, x, state)
        return (o.tap(y, tap) if tap else y), {name: o.tap(value, name) for name, value in after.items()}
    boxing = Boxing(o, layer)
    try:
        given, before = boxing.box(x), {name: boxing.box(value) for name, value in state.items()}
        y, after = step(boxing, given, before)
        handed, rows = _unboxed(y), {name: _unboxed(after[name]) for name in layer.carries}
    except HstnnError:
        raise
    except Exception as error:
        _refuse(o.reads, layer, error)
    if tap and tap != SPIKES:
        handed = o.mul(handed, 1.0, tap)
    if tap:
        handed = o.tap(handed, tap)
    # What is handed out and carried is one value, which a proof takes from the engine.
    rows = {name: handed if after[name] is y else row for name, row in rows.items()}
    # Values of their own: a graph may not hand out one twice.
    return handed, {name: o.tap(o.mul(row, 1.0, name), name) for name, row in rows.items()}


def _refuse(reads: str, layer: Layer, error: Exception) -> NoReturn:
    if isinstance(error, MemoryError):
        raise error
    raise Unreadable(
        f"{reads} cannot hold the step of layer {layer.number}, {layer.kind}: {first_line(error)}", _USE
    ) from error


def check_reading(reads: str, layer: Layer, step: Step, shape: Shape) -> None:
    """Refuse a step that is not made of the operations of `o`, where a reading would take it as torch does.

    Args:
        reads: what the reading gives, for the error.
        layer: whose it is.
        step: runs what the user wrote.
        shape: of what comes in.

    Raises:
        Unreadable: it does something else; says what.
    """
    try:
        _dry(layer, step, shape)
    except HstnnError:
        raise
    except Exception as error:
        _refuse(reads, layer, error)


def _dry(layer: Layer, step: Step, shape: Shape) -> list[str]:
    """Run a step on zeros, as in an evaluation; return each operation, what goes out, and the states."""
    boxing, training = Boxing(Eager(), layer), layer.training
    held = next((each.device for each in (*layer.parameters(), *layer.buffers())), torch.empty(0).device)
    try:
        layer.eval()
        with torch.no_grad():
            given = boxing.box(torch.zeros(2, *shape, device=held))
            before = {name: boxing.box(value) for name, value in _zeros(layer, held).items()}
            y, after = step(boxing, given, before)
    finally:
        layer.train(training)
    return [*boxing.written, repr(y), *(f"{name} {after[name]!r}" for name in layer.carries)]


def equation(layer: Layer, tap: str, step: Step, written: Any, shape: Shape) -> str:
    """Return the SHA-256 of what a step does, operation by operation; of one that is not made of them, of its text.

    Args:
        layer: whose it is, on the device that holds no numbers.
        tap: see `run`.
        step: runs what the user wrote.
        written: what the user wrote, for its text.
        shape: of what comes in.
    """
    try:
        told = [*_dry(layer, step, shape), tap]
    except Exception:
        try:
            told = [inspect.getsource(written)]
        except (OSError, TypeError):
            return ""
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _zeros(layer: Layer, device: torch.device | str = "meta") -> dict[str, Tensor]:
    return {name: torch.zeros(2, *shape, device=device) for name, (shape, _) in layer.carries.items()}


class _Watched(Eager):
    """Tensors without numbers; counts spikes, and has the operations of a step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[Tensor] = []

    def __getattribute__(self, name: str) -> Any:
        if name in _FORBIDDEN:
            raise AttributeError(f"o has no operation {name!r} for a step")
        return super().__getattribute__(name)

    def spike(self, *given: Any, **named: Any) -> Tensor:
        """See `Algebra`."""
        self.fired.append(super().spike(*given, **named))
        return self.fired[-1]

    def exceeds(self, *given: Any, **named: Any) -> Tensor:
        """See `Algebra`."""
        return Eager().exceeds(*given, **named)


_FORBIDDEN = {
    name
    for name in vars(Algebra)
    if not name.startswith("_") and name not in {*OPERATIONS, "tap", "at", "lacks", "layer", "reads"}
}


def check_states(what: str, states: Any) -> None:
    """Check what a part declares to carry.

    Args:
        what: it is called, such as "neuron quadratic".
        states: names and meanings.

    Raises:
        UsageError: no names and meanings, or a name of another form.
    """
    if not isinstance(states, Mapping) or not all(isinstance(each, str) for each in states.values()):
        raise UsageError(f"the states of {what} are {brief(states)}", 'give names and meanings: {"v": "membrane"}')
    for name, meaning in states.items():
        if not isinstance(name, str) or not _STATE.fullmatch(name) or name in _TAKEN:
            raise UsageError(f"{what} has a state {brief(name)}", "name it by small letters, such as v or trace")
        if re.search(r"[{}]", meaning.replace("{layer}", "")):
            raise UsageError(f"{what} says {brief(meaning)} of a state", "braces are for {layer} alone")


def check(what: str, layer: Layer, spiking: bool, step: Step, shape: Shape, after: Shape) -> None:
    """Check what a step gives of values without numbers.

    Args:
        what: it is called, such as "neuron quadratic".
        layer: whose it is. It is checked where it was made on the device that holds no numbers.
        spiking: whether it hands out spikes.
        step: what the user wrote.
        shape: of what comes in.
        after: of what is to go out.

    Raises:
        RecipeError: it raises, or gives other shapes or states than it says.
    """
    if not torch.empty(0).is_meta:
        return  # every network is first made without numbers
    o, states = _Watched(), _zeros(layer)
    x = torch.zeros(2, *shape, device="meta")
    before = _kept(layer)
    with torch.no_grad():
        try:
            with their_code(f"the step of {what} raises"):
                given = step(o, x, dict(states))
        except HstnnError as error:
            known = nearest(error.message.split("'")[1], OPERATIONS) if "o has no operation" in error.message else ""
            raise RecipeError(error.message, known or error.hint) from error

    def refuse(message: str, hint: str = "") -> NoReturn:
        raise RecipeError(f"the step of {what} {message}", hint)

    for name, value in {"what comes in": x, **{f"the state {name!r}": value for name, value in states.items()}}.items():
        if value._version:
            refuse(f"writes into {name}", "return a new value: v + x, not v.add_(x) or v += x")
    if changed := sorted(name for name, kept in _kept(layer).items() if before.get(name) != kept):
        refuse(f"changes self.{changed[0]}", "declare what it keeps from step to step as a state, and return it")
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)):
        refuse(f"returns {brief(type(given).__name__)}, not a pair", "return what goes out, and the states by name")
    y, left = given
    if left.keys() != states.keys():
        extra, lost = sorted(map(str, left.keys() - states.keys())), sorted(states.keys() - left.keys())
        if extra:
            refuse(f"returns the state {extra[0]!r}, which it does not declare", f"declared: {', '.join(states)}")
        refuse(f"does not return the state {lost[0]!r}", "return every state that is declared, changed or not")
    for name, value, wanted in (("", y, after), *((name, left[name], states[name].shape[1:]) for name in states)):
        told = f"the state {name!r}" if name else "what goes out"
        if not isinstance(value, Tensor):
            refuse(f"gives a {type(value).__name__} for {told}", "give a value that an operation of o returned")
        if tuple(value.shape) != (2, *wanted) or not value.is_floating_point():
            got = f"{list(value.shape[1:])} of {value.dtype}" if value.ndim else "a single number"
            refuse(f"gives {got} for {told}, which has the shape {list(wanted)}")
    if not spiking and o.fired:
        refuse("calls o.spike, but it hands out no spikes", "set spikes = True; o.exceeds compares without spiking")
    if spiking and len(o.fired) != 1:
        refuse(f"calls o.spike {len(o.fired)} times, not once", "set spikes = False where it hands out other values")
    if spiking and y is not o.fired[0]:
        refuse("hands out other values than its spikes", "hand out what o.spike returned, as it is")
    differs = False
    with suppress(Exception):  # what is not made of the operations of o is trained, and export refuses it
        differs = _dry(layer, step, shape) != _dry(layer, step, shape)
    if differs:
        refuse("computes something else each time", "it may depend on what comes in, the states and its options alone")


def _kept(layer: Layer) -> dict[str, tuple[int, int]]:
    """Return which objects a layer itself holds, and how often the tensors among them were written."""
    held = {**vars(layer), **layer._parameters, **layer._buffers, **layer._modules}
    return {name: (id(each), each._version if isinstance(each, Tensor) else 0) for name, each in held.items()}
