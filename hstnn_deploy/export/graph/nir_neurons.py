"""Neurons in NIR's constants and ours, both ways; docs/neuromorphic.md and `graph.neuromorphic` give the equations.

A neuron of NIR is a recurrence at a step dt: i_t = current_decay i_{t-1} + x_t where it has a synaptic current, else
i_t = x_t; m_t = decay v_{t-1} + gain i_t + (1 - decay) rest; a spike where m_t > threshold sets v_t to reset_to.
"""

import re
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.nir_file import Array, Node, node_of
from hstnn_deploy.models.layers.units import held
from hstnn_deploy.models.neurons import Integrator, Lif

Method = Literal["euler", "exponential"]
"""How the simulator that the graph is for takes a step."""

NirForm = Literal["plain", "full"]
"""Where the factor on the input goes: into the threshold (plain, without v_reset), or into r (full, with v_reset)."""

OLDEST = (1, 0, 7)
"""The first version of nir that holds v_reset and writes what this module writes."""

DT = 1e-4
"""Seconds of a step that is written unless another is asked for: what snnTorch, which cannot be told, takes."""

_ULPS = 8
"""How many roundings of the file's own precision a factor may be off 1 to count as 1."""


class Numbers(NamedTuple):
    """The numbers of a recurrence, each one for all units, or an array of the layer's shape."""

    decay: Array
    gain: Array
    """The factor on the input."""
    threshold: Array | None
    """None: it never fires."""
    rest: Array
    reset_to: Array
    current_decay: Array | None


def refuse_neuron(neuron: Any, method: Method) -> None:
    """Refuse a neuron that NIR has no node for.

    Raises:
        ExportError: see the message.
    """
    if not isinstance(neuron, Lif):
        raise ExportError(f"NIR has no node for neurons of type {neuron.type}", "it has neurons of type lif")
    if neuron.reset == "none" and not is_threshold(neuron):
        raise ExportError("a neuron that is never reset has no NIR form", "use network.neuron.reset=zero")
    if neuron.reset == "subtract":
        raise ExportError("a reset by subtraction has no NIR form", "leave out --nir, or use reset zero")
    for key, there, what in (
        ("fires", neuron.fires != "above", "NIR's neurons fire above the threshold, once a step"),
        ("delayed_reset", neuron.delayed_reset, "NIR's neurons are reset in the step of the spike"),
        ("lowest", neuron.lowest is not None, "NIR's membranes have no lower bound"),
    ):
        if there:
            raise ExportError(f"a neuron with {key} {getattr(neuron, key)} has no NIR form: {what}")
    if method == "exponential" and neuron.decay == 0 and "decay" not in neuron.each and not is_threshold(neuron):
        raise ExportError("a neuron of decay 0 has no exponential form: its tau would be 0", "use the method euler")


def is_threshold(neuron: Lif) -> bool:
    """Whether neurons are NIR's Threshold: they fire where their input is above it, and remember nothing."""
    forgets = neuron.decay == 0 and "decay" not in (*neuron.each, *neuron.learn)
    rests = neuron.rest == 0 and "rest" not in neuron.each
    return forgets and rests and neuron.reset == "none" and neuron.current_decay is None


def numbers_of(layer: nn.Module, neuron: Lif | Integrator) -> Numbers:
    """Return the numbers of a layer of ours, with what it has learned as constants, in float64."""
    own = {name: value.detach().double() for name, value in held(layer).items()}

    def number(name: str) -> Array:
        return own[name].numpy() if name in own else np.asarray(float(getattr(neuron, name) or 0))

    def left(name: str) -> Array:
        # What is learned as it is, may be anything: see `share_left`.
        return np.clip(number(name), 0, 1) if name in neuron.learn else number(name)

    decay = 1 - torch.sigmoid(own["rate"]).numpy() if "rate" in own else left("decay")
    gain = 1 - decay if neuron.input_decay else np.asarray(1.0)
    current = None if neuron.current_decay is None else left("current_decay")
    if isinstance(neuron, Integrator):
        return Numbers(decay, gain, None, number("rest"), np.asarray(0.0), current)
    return Numbers(decay, gain, number("threshold"), number("rest"), number("reset_to"), current)


def neuron_node(
    neuron: Lif,
    shape: tuple[int, ...],
    dt: float,
    method: Method,
    form: NirForm,
    numbers: Numbers | None = None,
) -> Any:
    """Return the node of spiking neurons of a shape.

    Raises:
        ExportError: a unit that never leaks beside others that do, or one that forgets all by the exponential method.
    """
    nir, own = package(), numbers or numbers_of(nn.Module(), neuron)
    assert own.threshold is not None
    if is_threshold(neuron):
        return nir.Threshold(threshold=_full(shape, own.threshold / own.gain))
    passed = 1 - own.decay
    if (own.decay == 1).all() and own.current_decay is None:
        r, threshold, reset = own.gain / dt, own.threshold, own.reset_to
        return nir.IF(r=_full(shape, r), v_threshold=_full(shape, threshold), v_reset=_full(shape, reset))
    tau = _tau(own.decay, dt, method, "decay")
    if own.current_decay is not None:
        tau_syn = _tau(own.current_decay, dt, method, "current_decay")
        return nir.CubaLIF(
            tau_mem=_full(shape, tau),
            tau_syn=_full(shape, tau_syn),
            r=_full(shape, own.gain / passed),
            w_in=_full(shape, 1 / (1 - own.current_decay)),
            v_leak=_full(shape, own.rest),
            v_threshold=_full(shape, own.threshold),
            v_reset=_full(shape, own.reset_to),
        )
    # The plain form's membrane is ours times this.
    factor = passed / own.gain if form == "plain" else np.asarray(1.0)
    r = np.asarray(1.0) if form == "plain" else own.gain / passed
    return nir.LIF(
        tau=_full(shape, tau),
        r=_full(shape, r),
        v_leak=_full(shape, own.rest * factor),
        v_threshold=_full(shape, own.threshold * factor),
        v_reset=_full(shape, own.reset_to * factor),
    )


def integrator_node(own: Numbers, shape: tuple[int, ...], dt: float, method: Method) -> Any:
    """Return the node of membranes of a shape that never fire.

    Raises:
        ExportError: see `neuron_node`.
    """
    nir = package()
    if (own.decay == 1).all() and own.current_decay is None:
        return nir.I(r=_full(shape, own.gain / dt))
    tau, r, rest = _tau(own.decay, dt, method, "decay"), own.gain / (1 - own.decay), _full(shape, own.rest)
    if own.current_decay is None:
        return nir.LI(tau=_full(shape, tau), r=_full(shape, r), v_leak=rest)
    return nir.CubaLI(
        tau_mem=_full(shape, tau),
        tau_syn=_full(shape, _tau(own.current_decay, dt, method, "current_decay")),
        r=_full(shape, r),
        w_in=_full(shape, 1 / (1 - own.current_decay)),
        v_leak=rest,
    )


def _full(shape: tuple[int, ...], value: Array) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(value, np.float64), shape).copy()


def _tau(left: Array, dt: float, method: Method, name: str) -> Array:
    """Return the time constant of what is left after a step."""
    if (left < 0).any() or (left > 1).any():
        raise ExportError(f"a neuron of {name} {float(left.max()):.6g} has no NIR form: 0 to 1 is left after a step")
    if (left == 1).any():
        raise ExportError(f"a neuron of {name} 1 has no NIR form beside others, or beside a synaptic current")
    if method == "euler":
        return dt / (1 - left)
    if (left == 0).any():
        raise ExportError(f"a neuron of {name} 0 has no exponential form: its tau would be 0", "use the method euler")
    return -dt / np.log(left)


def recurrence_of(node: Node, shape: tuple[int, ...], dt: float, method: Method) -> Numbers:
    """Return the numbers of the recurrence that a neuron node gives at a step of dt seconds.

    They are computed in the precision of the file, as those who read it do. A gain that is 1 but for the roundings of
    that precision is 1: r = tau / dt is how it is written.

    Raises:
        DataError: see `Node.array`.
        ExportError: a field does not fit the shape, or a number is invalid for neurons.
    """

    def field(name: str) -> Array:
        found = node.array(name)
        found = found if found.dtype.kind == "f" else found.astype(np.float64)
        if found.size == 1:
            return found.reshape(())
        # One for each channel stands as [C, 1, 1].
        if found.ndim == len(shape) and all(one in (1, length) for one, length in zip(found.shape, shape, strict=True)):
            return found
        raise ExportError(f"{name} has shape {list(found.shape)}, but its input is {list(shape)}")

    def share(name: str) -> tuple[Array, Array]:
        """Return what is left after a step, and what has passed."""
        tau = field(name)
        if (tau <= 0).any():
            raise ExportError(f"{name} is {float(tau.min()):g}: a time constant must be above 0")
        with np.errstate(over="ignore"):
            passed = dt / tau
        left, passed = (1 - passed, passed) if method == "euler" else (np.exp(-passed), -np.expm1(-passed))
        if (left < 0).any():
            raise ExportError(
                f"at a step of {dt:g} s its {'membrane' if name != 'tau_syn' else 'current'} is multiplied by "
                f"{float(left.min()):.6g} a step",
                "use a smaller dt or the method exponential; dt must be the one that the file was written for",
            )
        return left, passed

    zero = np.asarray(0.0)
    gain, current = field("r"), None
    if "tau" in node.fields or "tau_mem" in node.fields:
        decay, passed = share("tau" if "tau" in node.fields else "tau_mem")
        gain = gain * passed
    else:
        decay, gain = np.asarray(1.0), gain * dt
    if "tau_syn" in node.fields:
        current, passed = share("tau_syn")
        gain = gain * ((field("w_in") if "w_in" in node.fields else np.asarray(1.0)) * passed)
    near = _ULPS * float(np.finfo(gain.dtype).eps)
    gain = np.where(abs(gain - 1) <= near, 1.0, gain.astype(np.float64))
    gain = np.where(abs(gain - (1 - decay)) <= near * (1 - decay), 1.0 - decay.astype(np.float64), gain)
    threshold = field("v_threshold") if "v_threshold" in node.fields else None
    # Files of nir before 1.0.5 have no v_reset.
    reset_to = field("v_reset") if "v_reset" in node.fields else zero
    rest = field("v_leak") if "v_leak" in node.fields else zero
    return Numbers(decay, gain, threshold, rest, reset_to, current)


def scaled(own: Numbers) -> Numbers | None:
    """Return the same neurons with a gain of 1: threshold, rest and reset divided by it; None if impossible."""
    if own.threshold is None or not (own.gain > 0).all():
        return None
    threshold, rest, reset_to = (
        np.asarray(each, np.float64) / own.gain for each in (own.threshold, own.rest, own.reset_to)
    )
    return own._replace(gain=np.asarray(1.0), threshold=threshold, rest=rest, reset_to=reset_to)


def neuron_of(node: Any, dt: float, method: Method) -> tuple[float, float]:
    """Return decay and threshold, in our membrane's units, of the recurrence that a neuron node gives at a step dt.

    Of units that differ, those of the first.

    Raises:
        ExportError: see `recurrence_of`.
    """
    own = node_of(node)
    found = scaled(recurrence_of(own, own.array("v_threshold").shape, dt, method))
    if found is None or found.threshold is None:
        raise ExportError("it does not multiply its input by a number above 0")
    return float(np.ravel(found.decay)[0]), float(np.ravel(found.threshold)[0])


def package() -> Any:
    """Return the package nir.

    Raises:
        ExportError: it is missing or too old.
    """
    try:
        import nir
    except ImportError as error:
        raise ExportError(
            "NIR needs the package nir, which is not installed", "pip install 'hstnn-deploy[neuromorphic]'"
        ) from error
    found = version("nir")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise ExportError(
            f"NIR needs the package nir {wanted} or newer, but {found} is installed",
            f"pip install 'nir>={wanted}'; install a simulator that needs an older one in another environment",
        )
    return nir
