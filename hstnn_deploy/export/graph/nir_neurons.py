"""Neurons in NIR's constants and ours, both ways; docs/neuromorphic.md and `graph.neuromorphic` give the equations."""

import math
import re
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from hstnn_deploy.errors import ExportError
from hstnn_deploy.models.neurons import Integrator, Lif

Method = Literal["euler", "exponential"]
"""How the simulator that the graph is for takes a step."""

NirForm = Literal["plain", "full"]
"""Where the factor on the input goes: into the threshold (plain, without v_reset), or into r (full, with v_reset)."""

OLDEST = (1, 0, 7)
"""The first version of nir that holds v_reset and writes what this module writes."""

DT = 1e-4
"""Seconds of a step unless another is asked for: what snnTorch, which cannot be told, takes."""


def refuse_neuron(neuron: Any, method: Method) -> None:
    """Refuse a neuron that NIR has no node for.

    Raises:
        ExportError: see the message.
    """
    if not isinstance(neuron, Lif):
        raise ExportError(f"NIR has no node for neurons of type {neuron.type}", "it holds those of type lif")
    if neuron.reset == "none":
        raise ExportError("a neuron that is never reset has no NIR form", "network.neuron.reset=zero has one")
    if neuron.reset != "zero":
        raise ExportError("a reset by subtraction has no NIR form yet", "network.neuron.reset=zero has one")
    for key, there, what in (
        ("fires", neuron.fires != "above", "NIR's neurons fire above the threshold, once a step"),
        ("delayed_reset", neuron.delayed_reset, "NIR's neurons are reset in the step of the spike"),
        ("reset_to", neuron.reset_to != 0, "other values than 0 are not written"),
        ("lowest", neuron.lowest is not None, "NIR's membranes have no lower bound"),
        ("current_decay", neuron.current_decay is not None, "synaptic currents are not written yet"),
        ("rest", neuron.rest != 0, "a membrane that leaks towards another value than 0 is not written yet"),
        ("each", bool(neuron.each), "numbers that differ from unit to unit are not written yet"),
    ):
        if there:
            raise ExportError(f"a neuron with {key} {getattr(neuron, key)} has no NIR form: {what}")
    if method == "exponential" and neuron.decay == 0:
        raise ExportError("a neuron of decay 0 has no exponential form: its tau would be 0", "use the method euler")


def neuron_node(neuron: Lif, shape: tuple[int, ...], dt: float, method: Method, form: NirForm) -> Any:
    """Return the node of spiking neurons of a shape."""
    nir = package()
    threshold, zero = np.full(shape, neuron.threshold), np.zeros(shape)
    gain = (1 - neuron.decay) if neuron.input_decay else 1.0
    if neuron.decay == 1:
        return nir.IF(r=np.full(shape, 1 / dt), v_threshold=threshold, v_reset=zero)
    tau = dt / (1 - neuron.decay) if method == "euler" else -dt / math.log(neuron.decay)
    r = gain * (tau / dt if method == "euler" else 1 / (1 - neuron.decay))
    if form == "plain":
        r, threshold = 1.0, threshold if neuron.input_decay else threshold * (1 - neuron.decay)
    return nir.LIF(tau=np.full(shape, tau), r=np.full(shape, r), v_leak=zero, v_threshold=threshold, v_reset=zero)


def integrator_node(neuron: Integrator, shape: tuple[int, ...], dt: float, method: Method) -> Any:
    """Return the node of membranes of a shape that never fire.

    Raises:
        ExportError: see the message.
    """
    nir = package()
    for key in ("current_decay", "rest", "each"):
        if getattr(neuron, key):
            raise ExportError(f"an integrator with {key} {getattr(neuron, key)} is not written as NIR yet")
    gain = (1 - neuron.decay) if neuron.input_decay else 1.0
    if neuron.decay == 1:
        return nir.I(r=np.full(shape, gain / dt))
    if method == "exponential" and neuron.decay == 0:
        raise ExportError(
            "an integrator of decay 0 has no exponential form: its tau would be 0", "use the method euler"
        )
    tau = dt / (1 - neuron.decay) if method == "euler" else -dt / math.log(neuron.decay)
    r = gain * (tau / dt if method == "euler" else 1 / (1 - neuron.decay))
    return nir.LI(tau=np.full(shape, tau), r=np.full(shape, r), v_leak=np.zeros(shape))


def constants_of(node: Any, dt: float, method: Method) -> tuple[float, float, float]:
    """Return decay, the factor on the input, and threshold (infinite where it never fires) of a node at a step dt.

    Raises:
        ExportError: its units differ, or they are reset to another value than 0.
    """
    names = [name for name in ("r", "v_threshold", "v_reset", "tau", "v_leak") if hasattr(node, name)]
    values = {name: np.unique(getattr(node, name)) for name in names}
    if several := next((name for name, found in values.items() if found.size != 1), None):
        raise ExportError(f"{several} differs from unit to unit")
    found = {name: float(value[0]) for name, value in values.items()}
    if found.get("v_reset") or found.get("v_leak"):
        raise ExportError("v_reset or v_leak is not 0")
    threshold = found.get("v_threshold", math.inf)
    if "tau" not in found:
        return 1.0, dt * found["r"], threshold
    passed = dt / found["tau"]
    decay, gain = (1 - passed, passed) if method == "euler" else (math.exp(-passed), -math.expm1(-passed))
    return decay, found["r"] * gain, threshold


def neuron_of(node: Any, dt: float, method: Method) -> tuple[float, float]:
    """Return decay and threshold, in our membrane's units, of the recurrence that a neuron node gives at a step dt.

    Raises:
        ExportError: see `constants_of`.
    """
    decay, gain, threshold = constants_of(node, dt, method)
    return decay, threshold / gain


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
            f"NIR needs the package nir {wanted} or newer, and {found} is installed",
            f"pip install 'nir>={wanted}'; a simulator that needs an older one can have an environment of its own",
        )
    return nir
