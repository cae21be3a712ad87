"""Check a user's definition when a network is made from it, on tensors without numbers."""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.errors import HstnnError, RecipeError, UsageError, nearest
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.algebra import Algebra
from hstnn_deploy.models.custom.steps import OPERATIONS, SIGNATURES, VALUES, Step, dry, zeros
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.network import SPIKES
from hstnn_deploy.models.surrogates import Surrogate

_STATE = re.compile(r"[a-z]{1,20}")
_TAKEN = {SPIKES, VALUES, "fires", "floor", "multiple", "total", "steps", "latest", "largest", "exit", "x", "logits"}
"""Names that values of a graph have already."""


class _Watched(Eager):
    """Tensors without numbers; counts spikes, and offers only the operations of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[Tensor] = []

    def __getattribute__(self, name: str) -> Any:
        if name in _FORBIDDEN:
            raise AttributeError(f"o has no operation {name!r} for a step")
        return super().__getattribute__(name)

    @override
    def spike(self, *given: Any, **named: Any) -> Tensor:
        surrogate = SIGNATURES["spike"].bind(None, *given, **named).arguments["surrogate"]
        if not isinstance(surrogate, Surrogate):
            raise UsageError(f"o.spike has the surrogate {brief(surrogate)}", 'give hd.custom.Surrogate("arctan", 0.5)')
        self.fired.append(super().spike(*given, **named))
        return self.fired[-1]

    @override
    def exceeds(self, *given: Any, **named: Any) -> Tensor:
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
            raise UsageError(f"{what} has a state {brief(name)}", "use lowercase letters, such as v or trace")
        if re.search(r"[{}]", meaning.replace("{layer}", "")):
            raise UsageError(f"{what} describes a state as {brief(meaning)}", "use braces only for {layer}")


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
    o, states = _Watched(), zeros(layer)
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
            refuse(f"gives {got} for {told}, which must have shape {list(wanted)}")
    if not spiking and o.fired:
        refuse("calls o.spike, but it hands out no spikes", "set spikes = True; o.exceeds compares without spiking")
    if spiking and len(o.fired) != 1:
        refuse(f"calls o.spike {len(o.fired)} times, not once", "set spikes = False where it hands out other values")
    if spiking and y is not o.fired[0]:
        refuse("hands out other values than its spikes", "hand out what o.spike returned, as it is")
    try:  # what is not made of the operations of o is trained, and export refuses it
        differs = dry(layer, step, shape) != dry(layer, step, shape)
    except HstnnError as error:
        refuse(f"is invalid: {error.message}", error.hint)
    except Exception:
        differs = False
    if differs:
        refuse("computes something else each time", "it may depend only on its input, its states and its options")


def check_made_alike(what: str, one: Any, other: Any, shape: Shape) -> None:
    """Check that two layers of the same options compute the same but for what a checkpoint holds.

    Args:
        what: it is called.
        one: a layer with a `_step`.
        other: one that was made once more.
        shape: of what comes in.

    Raises:
        RecipeError: a number differs that is neither a parameter nor a buffer.
    """
    try:
        alike = dry(one, one._step, shape) == dry(other, other._step, shape)
    except Exception:  # see `check`
        return
    if not alike:
        hint = "store random numbers as a parameter or a buffer"
        raise RecipeError(f"{what} differs each time it is made, and no checkpoint would store how", hint)


def _kept(layer: Layer) -> dict[str, tuple[int, int]]:
    """Return which objects a layer itself holds, and how often the tensors among them were written."""
    held = {**vars(layer), **layer._parameters, **layer._buffers, **layer._modules}
    return {name: (id(each), each._version if isinstance(each, Tensor) else 0) for name, each in held.items()}
