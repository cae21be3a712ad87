"""The layers of a stack as nodes of NIR: the table TO. A layer without a NIR node is refused by name.

Neurons that see their own spikes are a sub-graph of `lif` and `w_rec`, as snnTorch writes it; it is what all simulators
that were tried read. What a residual block adds comes together in the node behind it: edges that meet are added.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.nir_neurons import (
    Method,
    NirForm,
    integrator_node,
    neuron_node,
    numbers_of,
    package,
    refuse_neuron,
)
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.layers.blocks import Residual
from hstnn_deploy.models.layers.maps import Delay, Dropout, Flatten, Pool, Scale, Vote
from hstnn_deploy.models.layers.norm import Norm
from hstnn_deploy.models.layers.units import Feedback, Spiking
from hstnn_deploy.models.layers.weights import Embedding, Linear, Maps, Rows
from hstnn_deploy.models.neurons import Integrator

Step = tuple[float, Method, NirForm]
"""dt, and how neurons are written."""


class Written:
    """Nodes and edges, written one behind the other."""

    def __init__(self, step: Step, name: str, node: Any) -> None:
        self.step, self.nodes, self.edges = step, {name: node}, list[tuple[str, str]]()
        self.heads = [name]
        """What comes into the next node, added up."""

    def add(self, name: str, node: Any) -> None:
        """Put a node behind what there is."""
        self.nodes[name] = node
        self.edges += [(head, name) for head in self.heads]
        self.heads = [name]

    def chain(self, layers: Sequence[Layer], shape: Shape) -> Shape:
        """Put layers behind what there is, and return the shape after them.

        Raises:
            ExportError: a layer that NIR cannot hold.
        """
        for place, layer in enumerate(layers):
            behind = layers[place + 1] if place + 1 < len(layers) else None
            norm = behind if isinstance(behind, Norm) and type(layer) in _FOLDED else None
            if isinstance(layer, Norm) and place and type(layers[place - 1]) in _FOLDED:
                continue
            write = TO.get(type(layer))
            if write is None:
                raise ExportError(f"NIR has no node for layer {layer.number}, {layer.kind}", _WHY.get(layer.kind, ""))
            write(At(layer, shape, self.step, norm, self))
            shape = layer.output
        return shape


class At(NamedTuple):
    """A layer, and what its node depends on beside it."""

    layer: Any
    shape: Shape
    """Of what comes in."""
    step: Step
    norm: Norm | None
    """What is folded into it."""
    written: Written

    def put(self, node: Any) -> None:
        """Write a node in the layer's name."""
        self.written.add(f"layer{self.layer.number}", node)


_WHY = {
    "norm": "a normalisation is folded into the linear layer or convolution right before it, which is missing here",
    "parallel": "NIR adds edges that meet; it does not join outputs side by side",
    **dict.fromkeys(("rnn", "lstm", "gru"), "it has spiking units only"),
}


def _array(value: Tensor) -> NDArray[np.float32]:
    return value.detach().cpu().numpy().astype(np.float32)


def _weights(layer: Any, norm: Norm | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias, a normalisation behind them folded in (float64, rounded once)."""
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    if getattr(layer, "groups", 1) != 1:
        raise ExportError(f"layer {layer.number} is a convolution in {layer.groups} groups, which nir itself refuses")
    if norm is not None:
        if norm.options.steps is not None:
            raise ExportError(
                f"NIR has no node for layer {norm.number}, norm: each step has a normalisation of its own"
            )
        factor = (norm.variance.double() + norm.eps).rsqrt()
        factor = factor if norm.scale is None else factor * norm.scale.detach().double()
        bias = (bias - norm.mean.double()) * factor
        bias = bias if norm.shift is None else bias + norm.shift.detach().double()
        weight = weight * factor.view(-1, *[1] * (weight.ndim - 1))
    return _array(weight), _array(bias)


def _linear(at: At) -> None:
    weight, bias = _weights(at.layer, at.norm)
    at.put(package().Affine(weight=weight, bias=bias))


def _maps(at: At) -> None:
    weight, bias = _weights(at.layer, at.norm)
    node = package().Conv2d(
        input_shape=at.shape[1:],
        weight=weight,
        stride=at.layer.stride,
        padding=at.layer.padding,
        dilation=at.layer.dilation,
        groups=at.layer.groups,
        bias=bias,
    )
    at.put(node)


def _rows(at: At) -> None:
    weight, bias = _weights(at.layer, at.norm)
    node = package().Conv1d(
        input_shape=at.shape[1],
        weight=weight,
        stride=at.layer.stride[0],
        padding=int(at.layer.padding[0]),
        dilation=at.layer.dilation[0],
        groups=at.layer.groups,
        bias=bias,
    )
    at.put(node)


def _embedding(at: At) -> None:
    at.put(package().Affine(weight=_array(at.layer.weight).T.copy(), bias=np.zeros(at.layer.embedding_dim, np.float32)))


def _pool(at: At) -> None:
    nir = package()
    if at.layer.how == "max" or len(at.layer.size) != 2:
        what = f"a {at.layer.how} pool of {len(at.layer.size)} axes"
        raise ExportError(f"NIR has no node for layer {at.layer.number}, {what}")
    if at.layer.padding:
        raise ExportError(f"NIR does not say what layer {at.layer.number}, a pool with padding, counts")
    kind = nir.AvgPool2d if at.layer.how == "mean" else nir.SumPool2d
    size, stride = np.array(at.layer.size), np.array(at.layer.stride)
    at.put(kind(kernel_size=size, stride=stride, padding=np.array([0, 0])))


def _flatten(at: At) -> None:
    at.put(package().Flatten(input_type=np.array(at.shape), start_dim=0, end_dim=-1))


def _vote(at: At) -> None:
    rows = np.kron(np.eye(at.shape[0] // at.layer.voters), np.full((1, at.layer.voters), 1 / at.layer.voters))
    at.put(package().Affine(weight=rows.astype(np.float32), bias=np.zeros(len(rows), np.float32)))


def _scale(at: At) -> None:
    factors = at.layer.factor if at.layer.factors is None else _array(at.layer.factors)
    at.put(package().Scale(scale=np.broadcast_to(np.asarray(factors, np.float32), at.shape).copy()))


def _delay(at: At) -> None:
    at.put(package().Delay(delay=np.full(at.shape, len(at.layer.names) * at.step[0])))


def _neurons(at: At) -> None:
    at.put(_node(at))


def _node(at: At) -> Any:
    """Return the node of a layer's neurons."""
    dt, method, form = at.step
    neuron = at.layer.neuron
    try:
        own = numbers_of(at.layer, neuron) if neuron.type != "adaptive-lif" else None
        if isinstance(neuron, Integrator):
            assert own is not None
            if neuron.threshold is not None:
                raise ExportError("a membrane that is reset, without spikes, has no NIR form", "leave out --nir")
            return integrator_node(own, at.shape, dt, method)
        refuse_neuron(neuron, method)
        return neuron_node(neuron, at.shape, dt, method, form, own)
    except ExportError as error:
        raise ExportError(f"layer {at.layer.number}, {at.layer.kind}: {error.message}", error.hint) from error


def _feedback(at: At) -> None:
    nir = package()
    shape = np.array(at.shape)
    nodes = {"input": nir.Input(shape), "lif": _node(at), "output": nir.Output(shape), "w_rec": _seen(at)}
    at.put(nir.NIRGraph(nodes, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]))


def _seen(at: At) -> Any:
    """Return the node through which neurons see their own spikes."""
    nir, layer, plain = package(), at.layer, at.step[2] == "plain"
    recurrent = layer.recurrent
    if recurrent is None and len(at.shape) > 1:
        return nir.Scale(scale=_array(layer.own_weight))
    # Units that see themselves alone as a diagonal: so snnTorch writes and reads them.
    weight = np.diag(_array(layer.own_weight)).copy() if recurrent is None else _array(recurrent.weight)
    bias = None if recurrent is None or recurrent.bias is None else _array(recurrent.bias)
    some = np.zeros(len(weight), np.float32) if bias is None else bias
    if weight.ndim == 2:
        return nir.Affine(weight, some) if plain or bias is not None else nir.Linear(weight)
    return nir.Conv2d(
        input_shape=at.shape[1:],
        weight=weight,
        stride=recurrent.stride,
        padding=recurrent.padding,
        dilation=recurrent.dilation,
        groups=1,
        bias=some,
    )


def _residual(at: At) -> None:
    written, begin = at.written, at.written.heads
    written.chain(at.layer.body.layers, at.shape)
    body, written.heads = written.heads, begin
    if len(at.layer.chains) > 1:
        written.chain(at.layer.shortcut.layers, at.shape)
    written.heads = body + written.heads
    if len(set(written.heads)) < len(written.heads) or len(written.heads) > _MOST_ADDED:
        what = "adds one output to itself" if len(written.heads) <= _MOST_ADDED else f"adds over {_MOST_ADDED} outputs"
        raise ExportError(f"layer {at.layer.number}, residual, {what}: NIR has no node for that")


_MOST_ADDED = 64
"""Outputs that come together in one node."""


def _nothing(_at: At) -> None:
    """A layer that does nothing once it is trained, or is in the one before it."""


_FOLDED: tuple[type[Layer], ...] = (Linear, Maps, Rows)
TO: dict[type[Layer], Callable[[At], None]] = {
    Linear: _linear,
    Maps: _maps,
    Rows: _rows,
    Embedding: _embedding,
    Pool: _pool,
    Flatten: _flatten,
    Vote: _vote,
    Scale: _scale,
    Delay: _delay,
    Spiking: _neurons,
    Feedback: _feedback,
    Residual: _residual,
    Dropout: _nothing,
}
"""What writes each kind of layer; `Norm` is folded into the one before it."""
