"""The layers of a stack as nodes of NIR: the table TO. What NIR has no node for is refused by the layer's name."""

from collections.abc import Callable, Iterator
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
    package,
    refuse_neuron,
)
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.layers.maps import Delay, Dropout, Flatten, Pool, Scale, Vote
from hstnn_deploy.models.layers.norm import Norm
from hstnn_deploy.models.layers.units import Spiking
from hstnn_deploy.models.layers.weights import Embedding, Linear, Maps, Rows
from hstnn_deploy.models.neurons import Integrator, Lif
from hstnn_deploy.models.stack import Stack

Step = tuple[float, Method, NirForm]
"""dt, and how neurons are written."""


class At(NamedTuple):
    """A layer, and what its node depends on beside it."""

    layer: Any
    shape: Shape
    """Of what comes in."""
    step: Step
    norm: Norm | None
    """What is folded into it."""


def nodes_of(network: Stack, step: Step) -> Iterator[tuple[str, Any]]:
    """Yield the nodes of a stack in order, named by the layer.

    Raises:
        ExportError: a layer that NIR cannot hold.
    """
    shape = network.input_shape
    layers = network.layers.layers
    for place, layer in enumerate(layers):
        behind = layers[place + 1] if place + 1 < len(layers) else None
        norm = behind if isinstance(behind, Norm) and type(layer) in _FOLDED else None
        if isinstance(layer, Norm) and place and type(layers[place - 1]) in _FOLDED:
            continue
        write = TO.get(type(layer))
        if write is None:
            raise ExportError(f"NIR has no node for layer {layer.number}, {layer.kind}", _WHY.get(layer.kind, ""))
        node = write(At(layer, shape, step, norm))
        if node is not None:
            yield f"layer{layer.number}", node
        shape = layer.output


_WHY = {
    "norm": "a normalisation is folded into the linear layer or convolution right before it; this one has none there",
    "residual": "blocks are not written yet",
    "parallel": "blocks are not written yet",
    "rnn": "it holds spiking units only",
    "lstm": "it holds spiking units only",
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


def _linear(at: At) -> Any:
    weight, bias = _weights(at.layer, at.norm)
    return package().Affine(weight=weight, bias=bias)


def _maps(at: At) -> Any:
    weight, bias = _weights(at.layer, at.norm)
    return package().Conv2d(
        input_shape=at.shape[1:],
        weight=weight,
        stride=at.layer.stride,
        padding=at.layer.padding,
        dilation=at.layer.dilation,
        groups=at.layer.groups,
        bias=bias,
    )


def _rows(at: At) -> Any:
    weight, bias = _weights(at.layer, at.norm)
    return package().Conv1d(
        input_shape=at.shape[1],
        weight=weight,
        stride=at.layer.stride[0],
        padding=int(at.layer.padding[0]),
        dilation=at.layer.dilation[0],
        groups=at.layer.groups,
        bias=bias,
    )


def _embedding(at: At) -> Any:
    return package().Affine(weight=_array(at.layer.weight).T.copy(), bias=np.zeros(at.layer.embedding_dim, np.float32))


def _pool(at: At) -> Any:
    nir = package()
    if at.layer.how == "max" or len(at.layer.size) != 2:
        what = f"a {at.layer.how} pool of {len(at.layer.size)} axes"
        raise ExportError(f"NIR has no node for layer {at.layer.number}, {what}")
    kind = nir.AvgPool2d if at.layer.how == "mean" else nir.SumPool2d
    return kind(kernel_size=np.array(at.layer.size), stride=np.array(at.layer.stride), padding=np.array([0, 0]))


def _flatten(at: At) -> Any:
    return package().Flatten(input_type=np.array(at.shape), start_dim=0, end_dim=-1)


def _vote(at: At) -> Any:
    rows = np.kron(np.eye(at.shape[0] // at.layer.voters), np.full((1, at.layer.voters), 1 / at.layer.voters))
    return package().Affine(weight=rows.astype(np.float32), bias=np.zeros(len(rows), np.float32))


def _scale(at: At) -> Any:
    if at.layer.factors is not None:
        raise ExportError(f"layer {at.layer.number}, scale, has a factor for each {at.layer.each}: not written yet")
    return package().Scale(scale=np.full(at.shape, at.layer.factor, np.float32))


def _delay(at: At) -> Any:
    return package().Delay(delay=np.full(at.shape, len(at.layer.names) * at.step[0]))


def _neurons(at: At) -> Any:
    dt, method, form = at.step
    if isinstance(at.layer.neuron, Integrator):
        return integrator_node(at.layer.neuron, at.shape, dt, method)
    refuse_neuron(at.layer.neuron, method)
    assert isinstance(at.layer.neuron, Lif)
    return neuron_node(learned(at.layer), at.shape, dt, method, form)


def learned(layer: Spiking) -> Lif:
    """Return a layer's neuron with what it has learned as constants."""
    assert isinstance(layer.neuron, Lif)
    changes: dict[str, Any] = {"learn": []}
    if "rate" in layer.own:
        changes["decay"] = 1 - float(torch.sigmoid(layer.own["rate"].detach().double()))
    if "threshold" in layer.own:
        changes["threshold"] = float(layer.own["threshold"])
    return layer.neuron.model_copy(update=changes)


def _nothing(_at: At) -> None:
    """A layer that does nothing once it is trained, or is in the one before it."""


_FOLDED: tuple[type[Layer], ...] = (Linear, Maps, Rows)
TO: dict[type[Layer], Callable[[At], Any]] = {
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
    Dropout: _nothing,
}
"""The node of each kind of layer; `Norm` is folded into the one before it."""
