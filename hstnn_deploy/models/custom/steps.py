"""A `step` that a user wrote, in any reading: named, noted operation by operation, and refused where it cannot be read.

The readings of the package's own layers rely on names that its steps give with care: no name twice, what is handed out
and carried under its own. A user's step need not know of that. Outside of torch it sees values that only the operations
of `o` take, and each result gets a name of its own.
"""

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import HstnnError, UsageError
from hstnn_deploy.foreign import first_line
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

SIGNATURES = {each: inspect.signature(getattr(Algebra, each)) for each in OPERATIONS}
_TAKES_TENSORS = ("parameter", "product")
_USE = f"write it in the operations of o: {', '.join(OPERATIONS)}"

VALUES = "out"
"""The tap of what hands out other values than spikes."""

Step = Callable[[Any, Any, Mapping[str, Any]], Any]
"""A step as the user wrote it: from a reading, what comes in, and the states, to what goes out, and the states."""


class Shown(nn.Module):
    """Marks a state as an output at every step, so that a proof can read it from an engine.

    How an equation treats an error is unknown: bounds carried from step to step could grow without end.
    """

    def forward(self, rows: Tensor) -> tuple[Tensor]:
        """Return what the state was after each step, [T, B, …], to whoever listens."""
        return (rows,)


def shown(layer: Layer) -> nn.ModuleDict:
    """Return a `Shown` module for each state of a layer."""
    return nn.ModuleDict({f"state_{name}": Shown() for name in layer.carries})


class Noting:
    """A step that reports states to listeners."""

    def __init__(self, layer: Layer, step: Step, states: nn.ModuleDict) -> None:
        self._step, self._states = step, states
        self._rows: dict[str, list[Tensor]] = {
            name: [] for name in layer.carries if states[f"state_{name}"]._forward_hooks
        }

    @property
    def listened_to(self) -> bool:
        """Whether anybody wants to know a state."""
        return bool(self._rows)

    def step(self, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
        """Run a step."""
        y, after = self._step(o, x, state)
        for name, rows in self._rows.items():
            rows.append(after[name])
        return y, after

    def tell(self) -> None:
        """Report the states to listeners, after the last step."""
        for name, rows in self._rows.items():
            self._states[f"state_{name}"](torch.stack(rows))


class Boxed:
    """A value that only the operations of `o` take: Python's and torch's own operators raise.

    Python compares any objects and treats them as true; such an answer would hold for every sample.
    """

    __slots__ = ("number", "value")

    def __init__(self, value: Any, number: int) -> None:
        self.value, self.number = value, number

    def __repr__(self) -> str:
        """Return what an error calls it."""
        return f"value {self.number}"

    def __bool__(self) -> NoReturn:
        raise TypeError("if, and, or, not need numbers, but a graph has none yet; use o.exceeds")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("== and != need numbers, but a graph has none yet; use o.exceeds")

    def __hash__(self) -> NoReturn:
        raise TypeError("a value cannot be a key: a graph has no numbers yet")


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
        if operation not in SIGNATURES:
            raise AttributeError(f"o has no operation {operation!r} for a step")
        return partial(self._do, operation)

    def box(self, value: Any) -> Boxed:
        """Return a value as a step sees it."""
        self._count += 1
        return Boxed(value, self._count)

    def _do(self, operation: str, *given: Any, **named: Any) -> Any:
        bound = SIGNATURES[operation].bind(None, *given, **named)
        arguments = {key: value for key, value in bound.arguments.items() if key != "self"}
        if operation == "fixed":
            a = arguments["a"]
            # No line of the equation: what it computes is its argument.
            return Boxed(self._o.fixed(a.value), a.number) if isinstance(a, Boxed) else a
        told = {key: self._told(value) for key, value in arguments.items() if key not in ("name", "surrogate")}
        if "name" in SIGNATURES[operation].parameters:
            # Never a state's name, which is one word and the layer's number.
            arguments["name"] = SPIKES if operation == "spike" else f"{operation}_{self._count}"
        for value in arguments.values():
            if isinstance(value, float) and math.isnan(value):
                raise UsageError(f"o.{operation} is given {value}, which is not a number", "leave it out")
            if isinstance(value, Tensor) and operation in _TAKES_TENSORS and value.dtype != torch.get_default_dtype():
                given_type = str(value.dtype).removeprefix("torch.")
                raise UsageError(
                    f"o.{operation} is given numbers of type {given_type}",
                    "store them as float32: torch.ones(shape), or value.float()",
                )
            if isinstance(value, Tensor | nn.Module) and id(value) not in self._held:
                raise TypeError(f"o.{operation} takes parameters, buffers and modules of the layer, as they are")
            if isinstance(value, nn.Module):
                _check_module(operation, value)
            # A graph would have to hold it as an array of its own.
            if isinstance(value, np.generic) or (isinstance(value, Tensor) and operation not in _TAKES_TENSORS):
                raise TypeError(
                    f"o.{operation} does not take {type(value).__name__}: give a number, float(…), or o.parameter(…)"
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


def _check_module(operation: str, module: nn.Module) -> None:
    """Refuse a module that does more than a graph would express from its weights."""
    if type(module) not in (nn.Linear, nn.Conv1d, nn.Conv2d):
        raise TypeError(
            f"o.{operation} takes an nn.Linear, nn.Conv1d or nn.Conv2d as torch defines it, not {type(module).__name__}"
        )
    if isinstance(module, nn.Conv1d | nn.Conv2d) and (
        module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        raise TypeError(f"o.{operation} takes zero padding, given as numbers")


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
        tap: the name of what it hands out at every step; "" to keep that inside.
        step: what the user wrote.
        o: the reading.
        x: what comes in, [B, …].
        state: what it carries.

    Returns:
        What goes out, and the states.

    Raises:
        Unreadable: the reading cannot express the step; says why.
    """
    if isinstance(o, Eager):
        y, after = step(o, x, state)
        return (o.tap(y, tap) if tap else y), {name: o.tap(value, name) for name, value in after.items()}
    boxing = Boxing(o, layer)
    try:
        given, before = boxing.box(x), {name: boxing.box(value) for name, value in state.items()}
        y, after = step(boxing, given, before)
        made, rows = _unboxed(y), {name: _unboxed(after[name]) for name in layer.carries}
    except HstnnError:
        raise
    except Exception as error:
        _refuse(o.reads, layer, error)
    handed = o.mul(made, 1.0, tap) if tap and tap != SPIKES else made
    if tap:
        handed = o.tap(handed, tap)
    # What is handed out and carried is one value, which a proof takes from the engine.
    rows = {name: handed if row is made else row for name, row in rows.items()}
    # Values of their own: a graph may not hand out one twice.
    return handed, {name: o.tap(o.mul(row, 1.0, name), name) for name, row in rows.items()}


def _refuse(reads: str, layer: Layer, error: Exception) -> NoReturn:
    if isinstance(error, MemoryError):
        raise error
    raise Unreadable(
        f"{reads} cannot express the step of layer {layer.number}, {layer.kind}: {first_line(error)}", _USE
    ) from error


def check_reading(reads: str, layer: Layer, step: Step, shape: Shape) -> None:
    """Refuse a step that is not made of the operations of `o`, or computes something else where it sees them alone.

    It is run on random numbers both ways. A proof compares a file with the step as the file was written of it.

    Args:
        reads: what the reading gives, for the error.
        layer: whose it is.
        step: runs what the user wrote.
        shape: of what comes in.

    Raises:
        Unreadable: it does something else; says what.
    """
    try:
        for name, module in layer.named_modules():
            if name and (module._forward_hooks or module._forward_pre_hooks):
                raise TypeError(f"its {name} has a hook, which only torch would call")
        if _differs(layer, step, shape):
            raise TypeError("it computes something else there than in torch, because it checks the type of its values")
    except HstnnError:
        raise
    except Exception as error:
        _refuse(reads, layer, error)


def dry(layer: Layer, step: Step, shape: Shape) -> list[str]:
    """Run a step on zeros; return each operation, what goes out, and the states."""
    device = _device(layer)
    boxing, y, after = _boxed(layer, step, torch.zeros(2, *shape, device=device), zeros(layer, device))
    return [*boxing.written, repr(y), *(f"{name} {after[name]!r}" for name in layer.carries)]


def _boxed(layer: Layer, step: Step, x: Tensor, state: Mapping[str, Tensor]) -> tuple[Boxing, Any, Any]:
    """Run a step on boxed tensors, as in an evaluation; return what noted it, what goes out, and the states."""
    boxing = Boxing(Eager(), layer)
    with _evaluating(layer):
        y, after = step(boxing, boxing.box(x), {name: boxing.box(value) for name, value in state.items()})
    return boxing, y, after


@contextmanager
def _evaluating(layer: Layer) -> Iterator[None]:
    training = layer.training
    layer.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        layer.train(training)


def _device(layer: Layer) -> torch.device:
    return next((each.device for each in (*layer.parameters(), *layer.buffers())), torch.empty(0).device)


def _differs(layer: Layer, step: Step, shape: Shape) -> bool:
    """Whether a step computes something else from tensors than from values that only the operations of `o` take."""
    device, draw = _device(layer), torch.Generator().manual_seed(0)
    for batch in (1, 3):
        x = 2 * torch.randn(batch, *shape, generator=draw)
        state = {
            name: torch.randn(batch, *each, generator=draw).to(device) for name, (each, _) in layer.carries.items()
        }
        with _evaluating(layer):
            y, after = step(Eager(), x.to(device), dict(state))
        _, boxed, boxed_after = _boxed(layer, step, x.to(device), state)
        pairs = [(y, boxed), *((after[name], boxed_after[name]) for name in state)]
        if not all(_equal(one, _unboxed(other)) for one, other in pairs):
            return True
    return False


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))


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
        told = [*dry(layer, step, shape), tap]
    except Exception:
        try:
            told = [inspect.getsource(written)]
        except (OSError, TypeError):
            return ""
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def zeros(layer: Layer, device: torch.device | str = "meta") -> dict[str, Tensor]:
    """Return what a layer carries before the first step of two samples."""
    return {name: torch.zeros(2, *shape, device=device) for name, (shape, _) in layer.carries.items()}
