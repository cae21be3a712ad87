"""The equations of every kind of unit as ONNX nodes (docs/mathematics.md, section 1).

A group of units has a *drive*, the product of its weights with the input, and an *advance*, one step of its recurrence.
Layers count from 1 and are part of every name. Shapes: B batch, I inputs, n units of a group.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.interface import state_after
from hstnn_deploy.export.nodes import Nodes
from hstnn_deploy.models.convolutional import RecurrentConvolution, SpikingConvolution
from hstnn_deploy.models.layers import Group, LstmGroup, RnnGroup, SpikingGroup
from hstnn_deploy.models.neurons import Lif

Values = dict[str, str]
"""From the name of a state to the value that holds it now."""

TRANSPOSED, IOFC = ".transposed", ".iofc"
"""What a weight's name ends with where ONNX wants it in another layout: see `weights.py`."""


def array(weight: Tensor) -> NDArray[Any]:
    """Return a weight as an array."""
    values: NDArray[Any] = weight.detach().cpu().numpy()
    return values


def drive(g: Nodes, layer: int, group: Group, x: str) -> str:
    """Add a group's input product with x: [..., I] of fully connected units, one step of convolutional ones."""
    key = f"layers.{layer - 1}.{group.kind}"
    name = f"layer{layer}_{'current' if group.kind == 'snn' else 'drive'}"
    match group:
        case SpikingGroup():
            return g.add("MatMul", [x, g.weight(f"{key}.weight", array(group.weight))], name)
        case RnnGroup():
            return g.add("MatMul", [x, g.weight(f"{key}.weight_input", array(group.weight_input))], name)
        case SpikingConvolution() | RecurrentConvolution():
            return convolution(g, f"{key}.conv_input", group.conv_input, x, name)
        case _:
            raise TypeError(f"{type(group).__name__} has no drive of its own")


def advance(g: Nodes, layer: int, group: Group, drive: str, state: Values) -> tuple[str, Values]:
    """Add one step of a group's recurrence; return what it emits, [B, n, …], and its states after the step.

    Raises:
        ExportError: the neuron resets by subtraction.
    """
    key = f"layers.{layer - 1}.{group.kind}"
    match group:
        case SpikingGroup() | SpikingConvolution():
            return _lif(g, layer, group.neuron, drive, state[f"v{layer}"])
        case RnnGroup():
            weight = g.weight(f"{key}.weight_recurrent", array(group.weight_recurrent))
            own = g.add("MatMul", [state[f"h{layer}"], weight], f"layer{layer}_own")
            total, squash = g.add("Add", [drive, own], f"layer{layer}_total"), "Sigmoid"
        case RecurrentConvolution():
            own = convolution(g, f"{key}.conv_recurrent", group.conv_recurrent, state[f"h{layer}"], f"layer{layer}_own")
            if group.form == "dvs":
                own, squash = g.add("Relu", [own], f"layer{layer}_rectified"), "Tanh"
            else:
                squash = "Relu"
            total = g.add("Add", [drive, own], f"layer{layer}_total")
        case _:
            raise TypeError(f"{type(group).__name__} has no recurrence of its own")
    h = g.add(squash, [total], state_after(f"h{layer}"))
    return h, {f"h{layer}": h}


def check_neuron(neuron: Lif) -> None:
    """Refuse a neuron whose equation is not written here.

    Raises:
        ExportError: it resets by subtraction.
    """
    if neuron.reset != "zero":
        raise ExportError("a reset by subtraction has no export form yet", "network.neuron.reset=zero has one")


def _lif(g: Nodes, layer: int, neuron: Lif, current: str, v: str) -> tuple[str, Values]:
    check_neuron(neuron)
    left = g.add("Mul", [v, g.number(neuron.decay)], f"layer{layer}_left")
    membrane = g.add("Add", [left, current], f"layer{layer}_membrane")
    fires = g.add("Greater", [membrane, g.number(neuron.threshold)], f"layer{layer}_fires")
    spikes = g.add("Cast", [fires], f"layer{layer}_spikes", to=1)
    silent = g.add("Sub", [g.number(1.0), spikes], f"layer{layer}_silent")
    return spikes, {f"v{layer}": g.add("Mul", [membrane, silent], state_after(f"v{layer}"))}


def lstm(g: Nodes, layer: int, group: LstmGroup, x: str, state: Values, output: str) -> tuple[str, Values]:
    """Add LSTM units over a window x[T, B, I] as one node.

    Returns:
        h at every step under the name `output`, [T, B, n], unless that is empty; and the states after the window.
    """
    key = f"layers.{layer - 1}.rnn"
    first = g.axes(0)
    weights = [
        g.weight(f"{key}.{name}{IOFC}", _to_iofc(array(weight)))
        for name, weight in (("weight_input", group.weight_input), ("weight_recurrent", group.weight_recurrent))
    ]
    before = [g.add("Unsqueeze", [state[f"{name}{layer}"], first], f"{name}{layer}_row") for name in "hc"]
    names = [f"layer{layer}_h_rows" if output else "", f"h{layer}_next_row", f"c{layer}_next_row"]
    rows, *after = g.add_many(
        "LSTM",
        [x, *weights, "", "", *before],
        [name and name + g.suffix for name in names],
        hidden_size=group.units,
    )
    h = g.add("Squeeze", [rows, g.axes(1)], output) if output else ""
    return h, {
        f"{name}{layer}": g.add("Squeeze", [row, first], state_after(f"{name}{layer}"))
        for name, row in zip("hc", after, strict=True)
    }


def convolution(g: Nodes, key: str, layer: nn.Conv2d, x: str, name: str) -> str:
    """Add a convolution of x[B, …] under its parameters' names."""
    assert layer.bias is not None
    inputs = [x, g.weight(f"{key}.weight", array(layer.weight)), g.weight(f"{key}.bias", array(layer.bias))]
    return g.add("Conv", inputs, name, kernel_shape=layer.kernel_size, pads=[int(layer.padding[0])] * 4)


def linear(g: Nodes, key: str, layer: nn.Linear, x: str, name: str) -> str:
    """Add a linear layer with bias over x[B, I]."""
    inputs = [x, g.weight(f"{key}.weight", array(layer.weight)), g.weight(f"{key}.bias", array(layer.bias))]
    return g.add("Gemm", inputs, name, transB=1)


def linear_over_time(g: Nodes, key: str, layer: nn.Linear, x: str, name: str) -> str:
    """Add a linear layer with bias over x[…, I]; its weight is stored transposed."""
    weight = g.weight(f"{key}.weight{TRANSPOSED}", array(layer.weight).T)
    product = g.add("MatMul", [x, weight], f"{name}_product")
    return g.add("Add", [product, g.weight(f"{key}.bias", array(layer.bias))], name)


def _to_iofc(weight: NDArray[Any]) -> NDArray[Any]:
    """From (I, 4, n), gates i, f, g, o, to ONNX's [1, 4 * n, I], gates i, o, f, c."""
    gates = weight.transpose(1, 2, 0)[[0, 3, 1, 2]]
    return gates.reshape(1, -1, weight.shape[0])


def _from_iofc(weight: NDArray[Any]) -> NDArray[Any]:
    gates = weight.reshape(4, -1, weight.shape[-1])[[0, 2, 3, 1]]
    return gates.transpose(2, 0, 1)


LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {TRANSPOSED: np.transpose, IOFC: _from_iofc}
"""How a weight is brought back into the network's own layout, by the end of its name."""
