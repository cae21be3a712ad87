"""Convert a NIR graph to a stack: the table FROM. A node that a stack cannot express is refused by name.

NIR's neurons are differential equations. They are read for a step and a method: those that are given, or that the
graph's metadata name. Spikes are those of the recurrence that `recurrence_of` gives. Where a node multiplies its input
by a number above 0, threshold, rest and reset are divided by it instead, unit by unit, so that weights stay as they are
to the bit; by another number, a layer `scale` stands before the neurons.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from hstnn_deploy.errors import DataError, ExportError, HstnnError
from hstnn_deploy.export.graph.nir_apart import read_apart
from hstnn_deploy.export.graph.nir_file import Array, Graph, Node, graph_of
from hstnn_deploy.export.graph.nir_graph import Branches, Order, in_order
from hstnn_deploy.export.graph.nir_neurons import Method, Numbers, recurrence_of, scaled
from hstnn_deploy.foreign import brief, rule_broken
from hstnn_deploy.models.layers import LAYERS, MOST_LAYERS, WIDEST, Shape
from hstnn_deploy.models.layers.readouts import Readout
from hstnn_deploy.models.stack import Stack, StackConfig

Weights = dict[str, Tensor]
Layers = list[tuple[dict[str, Any], Weights]]
"""Layers as a recipe has them, each with its weights: what a node becomes."""

NO_DT = "give the length of a step with --dt SECONDS, or dt=…; ask the file's author (snnTorch writes for 1e-4)"


class At(NamedTuple):
    """The context of a node."""

    shape: Shape
    """Of what comes in."""
    dt: float | None
    method: Method
    seen: Node | None = None
    """Through which node neurons see their own spikes."""
    sees: bool = False
    """Whether they do; without a node, as they are."""

    @property
    def step(self) -> float:
        """Seconds of a step.

        Raises:
            ExportError: it is unknown.
        """
        if self.dt is None:
            raise ExportError("it depends on the length of a step, which the file does not state", NO_DT)
        return self.dt


def read_nir(
    path: Path | str, dt: float | None = None, method: Method | None = None, readout: Readout = "every"
) -> Stack:
    """Return the network of a NIR file, in evaluation mode.

    Args:
        path: the file.
        dt: seconds of a step; None: what the graph's metadata say.
        method: how a step is taken; None: what the metadata say, else euler.
        readout: what of the output over time is the answer; NIR does not say.

    Raises:
        DataError: the file is missing, damaged or no NIR graph, or claims more than it holds.
        ExportError: the graph holds what a stack cannot; or it depends on the length of a step, which is not given.
    """
    path = Path(path)
    try:
        network = _stack(read_apart(path), dt, method, readout)
        network.origin = {"source": path.name, "format": "NIR"}
        return network
    except DataError as error:
        said = (
            error.message if str(path) in error.message else f"{path} is damaged, or not a NIR graph: {error.message}"
        )
        raise DataError(said, error.hint) from error


def stack_of(graph: Any, dt: float | None = None, method: Method | None = None, readout: Readout = "every") -> Stack:
    """Return the network of a `nir.NIRGraph`; see `read_nir`."""
    return _stack(graph_of(graph), dt, method, readout)


def _stack(graph: Graph, dt: float | None, method: Method | None, readout: Readout) -> Stack:
    step, how = _how(graph, dt, method)
    order = in_order(graph)
    if len(order.nodes) > 2 * MOST_LAYERS:
        raise ExportError(f"the graph has {len(order.nodes)} nodes; a stack has {MOST_LAYERS} layers")
    shapes: dict[str, Shape] = {}
    found: dict[str, Layers] = {}
    for name in order.before:
        try:
            found[name], shapes[name] = _read(order, name, shapes, step, how)
        except HstnnError as error:
            raise type(error)(f"node {brief(name)}: {error.message}", error.hint) from error
    layers, weights = _listed(order.steps, found, "layers")
    if not layers:
        raise ExportError("the graph has no layer between its input and its output")
    try:
        network = StackConfig(input=list(shapes[order.source]), layers=layers, readout=readout).build([])
    except (HstnnError, ValidationError) as error:
        message = error.message if isinstance(error, HstnnError) else rule_broken(error.errors()[0]["msg"])
        raise ExportError(f"the graph is not a stack: {message}", getattr(error, "hint", "")) from error
    network.load_state_dict(network.state_dict() | weights)
    return network.eval()


def _how(graph: Graph, dt: float | None, method: Method | None) -> tuple[float | None, Method]:
    """Return the length of a step and the method, as given or as the metadata say."""
    told = Node("NIRGraph", graph.told)
    if dt is None and "dt" in graph.told:
        found = np.ravel(told.array("dt"))
        dt = float(found[0]) if found.size == 1 else math.nan
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        raise ExportError(f"dt is {dt:g}; it must be above 0 s")
    name = method or told.text("method") or "euler"
    if name not in ("euler", "exponential"):
        raise ExportError(f"the method is {brief(name)}; hstnn reads euler and exponential")
    return dt, "exponential" if name == "exponential" else "euler"


def _read(order: Order, name: str, shapes: dict[str, Shape], dt: float | None, method: Method) -> tuple[Layers, Shape]:
    """Return the layers of a node, and the shape of what they give."""
    node = order.nodes[name]
    if name == order.source:
        return [], tuple(node.whole("shape", 1))
    shape = shapes[order.before[name][0]]
    for other in order.before[name][1:]:
        if shapes[other] != shape:
            one = f"{list(shape)} from {brief(order.before[name][0])}"
            raise ExportError(f"it adds {one} and {list(shapes[other])} from {brief(other)}")
    if name == order.sink:
        if "shape" in node.fields and tuple(node.whole("shape", 1)) != shape:
            raise ExportError(f"it states the output {node.whole('shape')}, but its input is {list(shape)}")
        return [], shape
    if node.kind == "pass":
        return [], shape
    read = FROM.get(node.kind)
    if read is None:
        raise ExportError(f"its type {brief(node.kind)} has no layer in a stack")
    through = order.seen.get(name)
    at = At(shape, dt, method, order.nodes[through] if through else None, name in order.seen)
    layers = read(node, at)
    for config, weights in layers:
        shape = _after(config, weights, shape)
    return layers, shape


def _after(config: dict[str, Any], weights: Weights, shape: Shape) -> Shape:
    """Return the shape after a layer.

    Raises:
        ExportError: it does not take what comes in, or its weights are of another shape.
    """
    kind = next(iter(config))
    try:
        with torch.device("meta"):
            layer, after = LAYERS[kind].model_validate(config).build(shape)  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        said = rule_broken(first["msg"])
        raise ExportError(f"{key} of layer {kind} is {brief(first['input'])}: {said}") from error
    except (ValueError, RuntimeError) as error:
        raise ExportError(str(error)) from error
    if math.prod(after) > WIDEST:
        raise ExportError(f"it gives {list(after)}: more than {WIDEST} values")
    for key, value in layer.state_dict().items():
        given = weights.get(key)
        if given is None or given.shape != value.shape:
            what = "none" if given is None else list(given.shape)
            raise ExportError(f"{key} has shape {what}, but its input {list(shape)} needs {list(value.shape)}")
    return tuple(after)


def _listed(steps: list[str | Branches], found: dict[str, Layers], place: str) -> tuple[list[dict[str, Any]], Weights]:
    """Return layers as a recipe lists them, and their weights under the stack's names."""
    layers: list[dict[str, Any]] = []
    weights: Weights = {}
    for step in steps:
        if isinstance(step, Branches):
            here = f"{place}.{len(layers)}"
            body, own = _listed(step.body, found, f"{here}.body")
            shortcut, beside = _listed(step.shortcut, found, f"{here}.shortcut")
            if not body:
                body, own, shortcut, beside = *_listed(step.shortcut, found, f"{here}.body"), [], {}
            if not body:
                raise ExportError("the graph adds one output to itself")
            layers.append({"residual": body} | ({"shortcut": shortcut} if shortcut else {}))
            weights |= own | beside
            continue
        for config, own in found[step]:
            weights |= {f"{place}.{len(layers)}.{key}": value for key, value in own.items()}
            layers.append(config)
    return layers, weights


def _tensor(value: Any) -> Tensor:
    with np.errstate(over="ignore"):
        found = np.array(value, np.float32)
    if not np.isfinite(found).all():
        raise ExportError("it contains a number that is too large for float32")
    return torch.from_numpy(found)


def _weights(node: Node, axes: int) -> Weights:
    weight = node.array("weight")
    if weight.ndim != axes:
        raise ExportError(f"weight has shape {list(weight.shape)}; hstnn reads {axes} axes")
    found = {"weight": _tensor(weight)}
    return found | ({"bias": _tensor(node.array("bias"))} if "bias" in node.fields else {})


def _linear(node: Node, _at: At) -> Layers:
    weights = _weights(node, 2)
    return [({"linear": len(weights["weight"]), "bias": "bias" in weights}, weights)]


def _one_or_all(value: list[int]) -> Any:
    return value[0] if len(set(value)) == 1 else value


def _conv(axes: int) -> Callable[[Node, At], Layers]:
    def read(node: Node, at: At) -> Layers:
        weights = _weights(node, axes + 2)
        kernel, stride, dilation = list(weights["weight"].shape[2:]), node.whole("stride", 1), node.whole("dilation", 1)
        found = {
            "conv": len(weights["weight"]),
            "kernel": _one_or_all(kernel),
            "stride": _one_or_all(stride),
            "padding": _padding(node, kernel, stride, dilation),
            "dilation": _one_or_all(dilation),
            "groups": node.whole("groups", 1)[0],
            "bias": "bias" in weights,
        }
        if len(at.shape) != axes + 1:
            raise ExportError(f"it takes {axes + 1} axes, but its input is {list(at.shape)}")
        return [(found, weights)]

    return read


def _padding(node: Node, kernel: list[int], stride: list[int], dilation: list[int]) -> Any:
    text = node.text("padding")
    if text is None:
        return _one_or_all(node.whole("padding"))
    if text == "valid":
        return 0
    if text != "same":
        raise ExportError(f"unknown padding {brief(text)}; use numbers, valid or same")
    if set(stride) != {1}:
        raise ExportError(f"padding same needs a stride of 1, but this one is {stride}")
    around = [each * (size - 1) for each, size in zip(dilation * (len(kernel) // len(dilation)), kernel, strict=True)]
    if any(each % 2 for each in around):
        raise ExportError(
            f"padding same of a kernel {kernel} would be {around} in all, which differs between the sides"
        )
    return _one_or_all([each // 2 for each in around])


def _pool(how: str) -> Callable[[Node, At], Layers]:
    def read(node: Node, at: At) -> Layers:
        if any(node.whole("padding")):
            raise ExportError("it pads its input, and NIR does not say whether the padding counts")
        if len(at.shape) != 3:
            raise ExportError(f"it takes maps [C, H, W], but its input is {list(at.shape)}")
        size, stride = _one_or_all(node.whole("kernel_size", 1)), _one_or_all(node.whole("stride", 1))
        return [({"pool": how, "size": size, "stride": stride}, {})]

    return read


def _flatten(node: Node, at: At) -> Layers:
    axes = len(at.shape)
    first, last = (int(np.ravel(node.array(name))[0]) for name in ("start_dim", "end_dim"))
    begin, end = (each + axes if each < 0 else each for each in (first, last))
    if begin == end and 0 <= begin < axes and axes > 1:
        return []
    if (begin, end) != (0, axes - 1):
        raise ExportError(f"it flattens axes {first} to {last} of {list(at.shape)}; it must flatten all of them")
    return [({"flatten": True}, {})] if axes > 1 else []


def _each(numbers: dict[str, Array | None], shape: Shape) -> tuple[dict[str, Any], Weights]:
    """Return numbers as a neuron's keys: one that is the same for all units as it is, others by unit or channel."""
    keys: dict[str, Any] = {}
    each: dict[str, str] = {}
    weights: Weights = {}
    for name, found in numbers.items():
        if found is None:
            continue
        values = np.broadcast_to(found, shape)
        first = float(values.flat[0])
        if (values == values.flat[0]).all():
            keys |= {name: first} if first or name not in _ZERO else {}
            continue
        channels = values[(slice(None), *[slice(0, 1)] * (len(shape) - 1))]
        by_channel = len(shape) > 1 and bool((values == channels).all())
        each[name] = "channel" if by_channel else "unit"
        keys[name], weights[name] = first, _tensor(channels if by_channel else values)
    return keys | ({"each": each} if each else {}), weights


_ZERO = ("rest", "reset_to")
"""Keys that mean 0 where they are left out."""


def _spiking(node: Node, at: At) -> Layers:
    own = recurrence_of(node, at.shape, at.step, at.method)
    fires = scaled(own)
    if fires is None and at.sees:
        raise ExportError("it multiplies its input, including its own spikes, by 0 or less")
    before = [] if fires else [_factor(own.gain, at.shape)]
    return [*before, _fires(fires or own, "zero", at)]


def _threshold(node: Node, at: At) -> Layers:
    zero, one = np.asarray(0.0), np.asarray(1.0)
    threshold = node.array("threshold")
    if threshold.size > 1 and threshold.shape != at.shape:
        raise ExportError(f"threshold has shape {list(threshold.shape)}, but its input is {list(at.shape)}")
    threshold = threshold if threshold.size > 1 else threshold.reshape(())
    return [_fires(Numbers(zero, one, threshold, zero, zero, None), "none", at)]


def _fires(own: Numbers, reset: str, at: At) -> tuple[dict[str, Any], Weights]:
    """Return spiking neurons as a layer, with what they see of themselves."""
    assert own.threshold is not None
    if (own.threshold <= 0).any():
        raise ExportError(f"its threshold is {float(own.threshold.min()):g}; a stack needs one above 0")
    named = {"decay": own.decay, "threshold": own.threshold, "current_decay": own.current_decay}
    rest = None if (own.decay == 1).all() else own.rest
    keys, weights = _each({**named, "rest": rest, "reset_to": own.reset_to}, at.shape)
    keys["reset"] = reset
    if not at.sees:
        return {"lif": keys}, weights
    found, seen = _seen(at)
    return {"feedback": keys, **found}, weights | seen


def _seen(at: At) -> tuple[dict[str, Any], Weights]:
    """Return through which weights neurons see their own spikes."""
    node, shape = at.seen, at.shape
    if node is None:
        return {"through": "own"}, {"own_weight": torch.ones(shape)}
    match node.kind:
        case "Scale":
            return {"through": "own"}, {"own_weight": _tensor(_factors(node.array("scale"), shape))}
        case "Affine" | "Linear":
            weights = _weights(node, 2)
            weight, bias = weights["weight"], weights.get("bias")
            plain = bias is None or not bias.any()
            if plain and weight.shape == (*shape, *shape) and torch.equal(weight, weight.diagonal().diag()):
                return {"through": "own"}, {"own_weight": weight.diagonal().clone()}
            found: dict[str, Any] = {"bias": not plain}
        case _:
            if node.kind != "Conv2d":
                raise ExportError(f"it sees its own spikes through a {node.kind}, which hstnn does not read")
            (config, weights), *_ = _conv(2)(node, at)
            plain = "bias" not in weights or not weights["bias"].any()
            size, rest = config["kernel"], [config[key] for key in ("stride", "dilation", "groups")]
            if not isinstance(size, int) or size % 2 == 0 or config["padding"] != size // 2 or rest != [1, 1, 1]:
                raise ExportError(
                    "it sees its own spikes through a convolution that is not square, odd and padded to the same size"
                )
            found = {"kernel": size, "bias": not plain}
    return found, {f"recurrent.{key}": value for key, value in weights.items() if key != "bias" or found["bias"]}


def _integrator(node: Node, at: At) -> Layers:
    own = recurrence_of(node, at.shape, at.step, at.method)
    left, rest = own.decay, None if (own.decay == 1).all() else own.rest
    keys, weights = _each({"decay": left, "current_decay": own.current_decay, "rest": rest}, at.shape)
    # Of an integrator that keeps all, 1 - decay is 0: what comes in would be lost.
    passes = bool((own.gain == 1 - left.astype(np.float64)).all() and (left < 1).all())
    before = [] if passes or (own.gain == 1).all() else [_factor(own.gain, at.shape)]
    return [*before, ({"integrator": keys | {"input_decay": passes}}, weights)]


def _factors(found: Array, shape: Shape) -> Array:
    if found.size > 1 and found.shape != shape:
        raise ExportError(f"scale has shape {list(found.shape)}, but its input is {list(shape)}")
    return np.broadcast_to(found.reshape(()) if found.size == 1 else found, shape)


def _factor(found: Array, shape: Shape) -> tuple[dict[str, Any], Weights]:
    keys, weights = _each({"scale": np.broadcast_to(found, shape)}, shape)
    if each := keys.pop("each", None):
        return {"scale": keys["scale"], "each": each["scale"]}, {"factors": weights["scale"]}
    return {"scale": keys["scale"]}, {}


def _scale(node: Node, at: At) -> Layers:
    return [_factor(_factors(node.array("scale"), at.shape), at.shape)]


def _delay(node: Node, at: At) -> Layers:
    delays = np.unique(node.array("delay"))
    if delays.size != 1:
        raise ExportError("delay differs from unit to unit; hstnn reads one delay for all")
    if not delays[0]:
        return []
    steps = round(float(delays[0]) / at.step) if float(delays[0]) / at.step < 2**31 else -1
    if steps < 1 or not math.isclose(steps * at.step, float(delays[0]), rel_tol=1e-6):
        raise ExportError(f"its delay of {float(delays[0]):g} s is not a whole number of steps of {at.step:g} s")
    return [({"delay": steps}, {})]


FROM: dict[str, Callable[[Node, At], Layers]] = {
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "AvgPool2d": _pool("mean"),
    "SumPool2d": _pool("sum"),
    "Flatten": _flatten,
    "LIF": _spiking,
    "IF": _spiking,
    "CubaLIF": _spiking,
    "Threshold": _threshold,
    "LI": _integrator,
    "I": _integrator,
    "CubaLI": _integrator,
    "Scale": _scale,
    "Delay": _delay,
}
"""The layers of each type of node."""
