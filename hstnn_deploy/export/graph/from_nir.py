"""A NIR graph as a stack: the table FROM. What a stack cannot hold is refused by the node's name.

Read are graphs whose nodes stand one behind the other. Neurons are read for the step and the method that the graph's
metadata name, or that are given: NIR holds neither. Spikes are those of our recurrence; where a node multiplies its
input, threshold and membrane are divided by that factor.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.graph.nir_neurons import DT, Method, constants_of, package
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.models.readouts import Readout
from hstnn_deploy.models.stack import Stack, StackConfig

_MOST = 2**31
"""Bytes of a graph, at most."""

Weights = dict[str, Tensor]
Read = tuple[dict[str, Any], Weights]
"""A layer as a recipe has it, and its weights."""


def read_nir(path: Path, dt: float | None = None, method: Method | None = None, readout: Readout = "every") -> Stack:
    """Return the network of a NIR file, in evaluation mode.

    Args:
        path: the file.
        dt: seconds of a step; None: what the graph's metadata say, else 1e-4.
        method: how a step is taken; None: what the metadata say, else euler.
        readout: what of the output over time is the answer; NIR does not say.

    Raises:
        DataError: the file is missing, damaged or no NIR graph.
        ExportError: the graph holds what a stack cannot, or the package nir is missing.
    """
    nir = package()
    with reading(path, "a NIR graph"):
        if path.stat().st_size > _MOST:
            raise DataError(f"{path} is larger than {_MOST} bytes")
        graph = nir.read(path)
    return stack_of(graph, dt, method, readout)


def stack_of(graph: Any, dt: float | None = None, method: Method | None = None, readout: Readout = "every") -> Stack:
    """Return the network of a `nir.NIRGraph`; see `read_nir`."""
    told = {key: value.decode() if isinstance(value, bytes) else value for key, value in graph.metadata.items()}
    step = float(told.get("dt", DT)) if dt is None else dt
    how: Method = method or ("exponential" if told.get("method") == "exponential" else "euler")
    names = _in_order(graph)
    shape = tuple(int(length) for length in np.ravel(_input_shape(graph.nodes[names[0]])))
    layers: list[dict[str, Any]] = []
    weights: Weights = {}
    for name in names[1:-1]:
        node = graph.nodes[name]
        read = FROM.get(type(node).__name__)
        if read is None:
            raise ExportError(f"node {brief(name)} is of type {type(node).__name__}, which no layer of a stack is")
        try:
            found, own = read(node, step, how)
        except ExportError as error:
            raise ExportError(f"node {brief(name)}: {error.message}") from error
        weights |= {f"layers.{len(layers)}.{key}": value for key, value in own.items()}
        layers.append(found)
    network = StackConfig(input=list(shape), layers=layers, readout=readout).build([])
    state = network.state_dict()
    for key, value in weights.items():
        if state[key].shape != value.shape:
            what = f"{key} is {list(state[key].shape)} by its neighbours"
            raise ExportError(f"weights of shape {list(value.shape)} do not fit: {what}")
    network.load_state_dict(state | weights)
    return network.eval()


def _input_shape(node: Any) -> Any:
    return next(iter(node.input_type.values()))


def _in_order(graph: Any) -> list[str]:
    """Return the names of the nodes from input to output.

    Raises:
        ExportError: they do not stand one behind the other.
    """
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        if source not in after or target not in after:
            raise ExportError(f"an edge leads from {brief(source)} to {brief(target)}, and one of them is no node")
        after[source].append(target)
    starts = [name for name, node in graph.nodes.items() if type(node).__name__ == "Input"]
    if len(starts) != 1:
        raise ExportError(f"the graph has {len(starts)} inputs; a stack has one")
    order = starts
    while type(graph.nodes[order[-1]]).__name__ != "Output":
        following = after[order[-1]]
        if len(following) != 1 or following[0] in order:
            what = "a loop" if len(following) == 1 else f"{len(following)} edges from it"
            raise ExportError(f"node {brief(order[-1])} has {what}; a stack is read of nodes one behind the other")
        order = [*order, following[0]]
    if left := set(graph.nodes) - set(order):
        raise ExportError(f"node {brief(min(left))} is not between input and output")
    return order


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.asarray(value, np.float32).copy())


def _linear(node: Any, _dt: float, _method: Method) -> Read:
    bias = getattr(node, "bias", None)
    weights = {"weight": _tensor(node.weight)} | ({} if bias is None else {"bias": _tensor(bias)})
    return {"linear": int(node.weight.shape[0]), "bias": bias is not None}, weights


def _ints(value: Any) -> Any:
    found = [int(each) for each in np.ravel(value)]
    return found[0] if len(found) == 1 else found


def _conv(node: Any, _dt: float, _method: Method) -> Read:
    padding = node.padding
    if isinstance(padding, str | bytes):
        text = padding.decode() if isinstance(padding, bytes) else padding
        if text != "valid":
            raise ExportError(f"padding {brief(text)} is not read; it may be numbers or valid")
        padding = 0
    found = {
        "conv": int(node.weight.shape[0]),
        "kernel": _ints(node.weight.shape[2:]),
        "stride": _ints(node.stride),
        "padding": _ints(padding),
        "dilation": _ints(node.dilation),
        "groups": int(node.groups),
    }
    return found, {"weight": _tensor(node.weight), "bias": _tensor(node.bias)}


def _pool(how: str) -> Callable[[Any, float, Method], Read]:
    def read(node: Any, _dt: float, _method: Method) -> Read:
        if np.any(np.asarray(node.padding)):
            raise ExportError("it pads its input, which no layer does before pooling")
        return {"pool": how, "size": _ints(node.kernel_size), "stride": _ints(node.stride)}, {}

    return read


def _flatten(node: Any, _dt: float, _method: Method) -> Read:
    if int(node.start_dim) != 0 or int(node.end_dim) != -1:
        raise ExportError(f"it flattens axes {node.start_dim} to {node.end_dim} only")
    return {"flatten": True}, {}


def _lif(node: Any, dt: float, method: Method) -> Read:
    decay, gain, threshold = constants_of(node, dt, method)
    if not 0 <= decay <= 1:
        raise ExportError(f"at a step of {dt:g} s its membrane is multiplied by {decay:.6g} a step")
    return {"lif": {"decay": decay, "threshold": threshold / gain, "reset": "zero"}}, {}


def _integrator(node: Any, dt: float, method: Method) -> Read:
    decay, gain, _ = constants_of(node, dt, method)
    scaled = math.isclose(gain, 1 - decay, rel_tol=1e-9) and decay < 1
    if not scaled and not math.isclose(gain, 1.0, rel_tol=1e-9):
        raise ExportError(f"it multiplies its input by {gain:.6g} a step; 1 or 1 - decay is read")
    return {"integrator": {"decay": decay, "input_decay": scaled}}, {}


def _scale(node: Any, _dt: float, _method: Method) -> Read:
    factors = np.unique(node.scale)
    if factors.size != 1:
        raise ExportError("scale differs from unit to unit")
    return {"scale": float(factors[0])}, {}


def _delay(node: Any, dt: float, _method: Method) -> Read:
    delays = np.unique(node.delay)
    steps = round(float(delays[0]) / dt)
    if delays.size != 1 or steps < 1 or not math.isclose(steps * dt, float(delays[0]), rel_tol=1e-6):
        raise ExportError(f"its delay is not one whole number of steps of {dt:g} s")
    return {"delay": steps}, {}


FROM: dict[str, Callable[[Any, float, Method], Read]] = {
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _pool("mean"),
    "SumPool2d": _pool("sum"),
    "Flatten": _flatten,
    "LIF": _lif,
    "IF": _lif,
    "LI": _integrator,
    "I": _integrator,
    "Scale": _scale,
    "Delay": _delay,
}
"""The layer of each type of node."""
