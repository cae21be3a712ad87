"""The reading of a network's equations that writes nodes of an ONNX graph (see `models.algebra`).

Values are names. A value of layer l is called `layer<l>_<name>`, a state after a step `<state><l>_next`, and what the
readout computes by its name alone. How time is written is the form's: a scan, or nodes of its own for every step.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.export.graph.interface import Interface, state_after
from hstnn_deploy.export.graph.nodes import CONSTANT, Nodes, array
from hstnn_deploy.models.algebra import Algebra, Comparison, Convolution, Fires, Normed, Pooling, Sizes, Strand, Units
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.surrogates import Surrogate

NOW = "_now"
"""What the names of values inside a scan end with."""

TRANSPOSED, IOFC, ZRH, BIAS = ".transposed", ".iofc", ".zrh", ".bias"
"""What a weight's name ends with where ONNX wants it in another layout: see `weights.py`."""


def at_step(name: str, step: int) -> str:
    """Return the name of a value at one step of an unrolled graph."""
    return f"{name}_t{step}"


class Onnx(Algebra[str]):
    """Nodes of one step; the forms with time inside extend it.

    Args:
        g: where nodes go.
        network: for the names of its weights.
        face: its inputs and outputs.
    """

    reads = "an ONNX graph"

    def __init__(self, g: Nodes, network: Network, face: Interface) -> None:
        self.g, self.network, self.face = g, network, face
        self._names = {id(value): name for name, value in (*network.named_parameters(), *network.named_buffers())}
        self._states = {state.name for state in face.states}

    def named(self, name: str) -> str:
        """Return what a value is called in the graph."""
        state = f"{name}{self.layer}" if self.layer else name
        if state in self._states:
            return state_after(state)
        return f"layer{self.layer}_{name}" if self.layer else name

    def row(self, tap: str) -> str:
        """Return what a tap's values at all steps are called."""
        return f"layer{self.layer}_{tap}"

    def _operand(self, value: str | float) -> str:
        return value if isinstance(value, str) else self.g.number(value)

    def _node(self, op: str, name: str, *inputs: str | float, **attributes: Any) -> str:
        return self.g.add(op, [self._operand(each) for each in inputs], self.named(name), **attributes)

    def _weight(self, value: Tensor, ending: str = "", layout: NDArray[Any] | None = None) -> str:
        return self.g.weight(self._names[id(value)] + ending, array(value) if layout is None else layout)

    # ------------------------------------------------------------------------------------------------- arithmetic

    @override
    def add(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._node("Add", name, a, b)

    @override
    def sub(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._node("Sub", name, a, b)

    @override
    def mul(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._node("Mul", name, a, b)

    @override
    def sigmoid(self, a: str, name: str = "") -> str:
        return self._node("Sigmoid", name, a)

    @override
    def tanh(self, a: str, name: str = "") -> str:
        return self._node("Tanh", name, a)

    @override
    def relu(self, a: str, name: str = "") -> str:
        return self._node("Relu", name, a)

    @override
    def clip(self, a: str, low: float | None, high: float | None, name: str = "") -> str:
        return self._node("Clip", name, a, *("" if each is None else self.g.number(each) for each in (low, high)))

    @override
    def parameter(self, value: Tensor) -> str:
        return self._weight(value)

    @override
    def share(self, total: str, count: str, name: str = "") -> str:
        """A graph has always seen a step."""
        return self._node("Div", name, total, count)

    @override
    def spike(
        self, membrane: str, threshold: str | float, surrogate: Surrogate, name: str = "spikes", fires: Fires = "above"
    ) -> str:
        if fires == "several":
            whole = self._node("Floor", "floor", self._node("Div", "multiple", membrane, threshold))
            return self._node("Relu", name, whole)
        operator = "Greater" if fires == "above" else "GreaterOrEqual"
        return self._node("Cast", name, self._node(operator, "fires", membrane, threshold), to=1)

    @override
    def exceeds(self, a: str, threshold: str | float, name: str = "exceeds") -> str:
        return self._node("Cast", name, self._node("Greater", f"{name}_above", a, threshold), to=1)

    # --------------------------------------------------------------------------------------------------------- weights

    @override
    def product(self, x: str, weight: Tensor, name: str = "") -> str:
        if weight.ndim != 2:
            self.lacks("a product with several weights at once")
        return self._node("MatMul", name, x, self._weight(weight))

    @override
    def linear(self, x: str, layer: nn.Linear, name: str = "") -> str:
        weights = [self._weight(each) for each in (layer.weight, layer.bias) if each is not None]
        return self._node("Gemm", name, x, *weights, transB=1)

    @override
    def linear_at_each(self, x: str, layer: nn.Linear, name: str = "") -> str:
        """The weight is stored transposed."""
        weight = self._weight(layer.weight, TRANSPOSED, array(layer.weight).T)
        if layer.bias is None:
            return self._node("MatMul", name, x, weight)
        return self._node("Add", name, self._node("MatMul", f"{name}_product", x, weight), self._weight(layer.bias))

    @override
    def convolve(self, x: str, layer: Convolution, name: str = "") -> str:
        inputs = [x, self._weight(layer.weight)]
        if layer.bias is not None:
            inputs.append(self._weight(layer.bias))
        how: dict[str, Any] = {"kernel_shape": layer.kernel_size, "pads": [int(each) for each in layer.padding] * 2}
        if set(layer.stride) != {1}:
            how["strides"] = layer.stride
        if set(layer.dilation) != {1}:
            how["dilations"] = layer.dilation
        if layer.groups != 1:
            how["group"] = layer.groups
        return self._node("Conv", name, *inputs, **how)

    @override
    def normalise(self, x: str, norm: Normed, step: str | None = None, name: str = "") -> str:
        """One that has no scale or shift of its own takes ones or zeros."""
        channels = norm.mean.shape[-1]
        held = [
            self._weight(value) if value is not None else self.g.filled(number, channels)
            for value, number in zip(
                (norm.scale, norm.shift, norm.mean, norm.variance), (1.0, 0.0, 0.0, 0.0), strict=True
            )
        ]
        if step is None:
            return self._node("BatchNormalization", name, x, *held, epsilon=norm.eps)
        return self._of_this_step(x, norm, step, name)

    def _of_this_step(self, x: str, norm: Normed, step: str, name: str) -> str:
        """Add the normalisation of a step that has its own numbers: an engine refuses to gather past the last row."""
        number = self._node("Cast", f"{name}_number", step, to=7)
        place = self._node("Squeeze", f"{name}_place", number, self.g.axes(1))

        def row(what: str, table: Tensor) -> str:
            found = self._node("Gather", f"{name}_{what}", self._weight(table), place, axis=0)
            beside = self.g.axes(*range(2, 2 + norm.maps)) if norm.maps else ""
            return self._node("Unsqueeze", f"{name}_{what}_beside", found, beside) if beside else found

        spread = self._node("Add", f"{name}_spread", row("variance", norm.variance), norm.eps)
        factor = self._node("Reciprocal", f"{name}_factor", self._node("Sqrt", f"{name}_deviation", spread))
        if norm.scale is not None:
            factor = self._node("Mul", f"{name}_scaled", factor, row("scale", norm.scale))
        centred = self._node("Sub", f"{name}_centred", x, row("mean", norm.mean))
        if norm.shift is None:
            return self._node("Mul", name, centred, factor)
        return self._node("Add", name, self._node("Mul", f"{name}_product", centred, factor), row("shift", norm.shift))

    @override
    def embed(self, tokens: str, layer: nn.Embedding, name: str = "") -> str:
        return self._node("Gather", name, self._weight(layer.weight), tokens)

    # ---------------------------------------------------------------------------------------------------------- shapes

    @override
    def likeliest(self, logits: str, name: str = "") -> str:
        chances = self._node("Softmax", f"{name}_chances", logits, axis=-1)
        # A maximum has its axis as an attribute up to version 17, as an input from 18 on; this has it always as one.
        best, at = (f"{self.named(f'{name}_{what}')}{self.g.suffix}" for what in ("best", "at"))
        self.g.add_many("TopK", [chances, self.g.axes(1)], [best, at], axis=-1)
        return self._node("Squeeze", name, best, self.g.axes(1))

    @override
    def mean_scale(self, norm: Normed, step: str, name: str = "") -> str:
        assert norm.scale is not None
        place = self._node("Squeeze", f"{name}_place", self._node("Cast", f"{name}_number", step, to=7), self.g.axes(1))
        row = self._node("Gather", f"{name}_row", self._weight(norm.scale), place, axis=0)
        total = self._node(
            "ReduceSum", f"{name}_total", self._node("Abs", f"{name}_sizes", row), self.g.axes(1), keepdims=0
        )
        return self._node("Div", name, total, float(norm.scale.shape[1]))

    @override
    def compared(self, a: str, how: Comparison, threshold: float, name: str = "") -> str:
        operator = "GreaterOrEqual" if how == "at least" else "Less"
        return self._node("Cast", name, self._node(operator, f"{name}_holds", a, threshold), to=1)

    @override
    def parts(self, x: str, count: int, name: str = "") -> list[str]:
        self.lacks("values cut into parts")

    @override
    def concat(self, values: Sequence[str], axis: int, name: str = "") -> str:
        return self._node("Concat", name, *values, axis=axis)

    @override
    def pool(self, x: str, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> str:
        """A sum is the mean times the number of terms, exact where the mean is."""
        if how == "sum":
            return self.mul(self.pool(x, "mean", size, stride, f"{name}_mean", padding), float(prod(size)), name)
        operator, counts = ("MaxPool", {}) if how == "max" else ("AveragePool", {"count_include_pad": 1})
        if how == "max" and padding and (len(size) == 1 or len(set(padding)) > 1):
            # onnx's reference evaluator pads rows, and axes differently, in another way than the standard.
            pads = self.g.axes(0, 0, *padding, 0, 0, *padding)
            x, padding = self._node("Pad", f"{name}_padded", x, pads, float("-inf")), ()
        around = {"pads": [*padding, *padding], **counts} if padding else {}
        return self._node(operator, name, x, kernel_shape=list(size), strides=list(stride), **around)

    @override
    def flatten(self, x: str, name: str = "") -> str:
        return self._node("Flatten", name, x, axis=1)

    @override
    def vote(self, x: str, voters: int, name: str = "") -> str:
        several = self._node("Reshape", f"{name}_several", x, self.g.axes(0, -1, voters))
        # An axis as an attribute up to version 17, as an input from 18 on: a mean over the last axis is neither.
        total = self._node("ReduceSum", f"{name}_total", several, self.g.axes(2), keepdims=0)
        return self._node("Div", name, total, float(voters))

    # ------------------------------------------------------------------------------------------------------------ time

    @override
    def total(self, x: str, name: str = "") -> str:
        return self._node("ReduceSum", name, x, self.g.axes(0), keepdims=0)

    @override
    def length(self, x: str, name: str = "") -> str:
        return self.lacks("the length of one step")

    @override
    def loop(self, strands: Sequence[Strand[str]], state: Mapping[str, str]) -> tuple[list[str | None], dict[str, str]]:
        return self.lacks("a loop within one step")

    # ------------------------------------------------------------------------------- what ONNX has an operator for

    @override
    def whole_step(self, group: Units, x: str, state: Mapping[str, str]) -> tuple[str, dict[str, str]] | None:
        if _gated(group) is None:
            return None
        _, after = self._gates(group, self._node("Unsqueeze", "x_row", x, self.g.axes(0)), state, "")
        return after["h"], after

    @override
    def whole(self, group: Units, x: str, state: Mapping[str, str], needed: bool) -> tuple[str, dict[str, str]] | None:
        return None if _gated(group) is None else self._gates(group, x, state, self.row(group.tap) if needed else "")

    def _gates(self, group: Units, x: str, state: Mapping[str, str], output: str) -> tuple[str, dict[str, str]]:
        """Add gated units over a window x[T, B, I] as one node: `cells.lstm` or `cells.gru`, in ONNX's own operator.

        Returns:
            h at every step under the name `output`, [T, B, n], unless that is empty; and the states after the window.
        """
        g, first, names = self.g, self.g.axes(0), "".join(group.state_names)
        operator, ending = _gated(group) or ("", "")
        how = {"hidden_size": group.units} | ({"linear_before_reset": 1} if operator == "GRU" else {})
        weights = [self._weight(value, ending, _TO[ending](array(value))) for value in group.ranked()]
        before = [g.add("Unsqueeze", [state[name], first], f"{name}{self.layer}_row") for name in names]
        # All outputs have names, used or not: some tools take those of no name for one and the same value.
        called = [f"layer{self.layer}_h_rows", *(f"{name}{self.layer}_next_row" for name in names)]
        rows, *after = g.add_many(
            operator,
            [x, *weights, self._gate_bias(group, ending), "", *before],
            [name + g.suffix for name in called],
            **how,
        )
        h = g.add("Squeeze", [rows, g.axes(1)], output) if output else ""
        return h, {
            name: g.add("Squeeze", [row, first], state_after(f"{name}{self.layer}"))
            for name, row in zip(names, after, strict=True)
        }

    def _gate_bias(self, group: Units, ending: str) -> str:
        """Add the bias of gated units, ONNX's [1, 2 * gates * n]: of the input, then of the state before."""
        biases = group.biases()
        if not biases:
            return ""
        parts = [self._weight(biases[0], BIAS + ending, _TO[BIAS + ending](array(biases[0])))]
        if len(biases) > 1:
            parts += [self.g.filled(0.0, 2 * group.units), self._weight(biases[1])]
        else:
            parts += [self.g.filled(0.0, biases[0].numel())]
        flat = self._node("Concat", "biases", *parts, axis=0)
        return self._node("Unsqueeze", "bias_row", flat, self.g.axes(0))


def _gated(group: Units) -> tuple[str, str] | None:
    """Return ONNX's operator for units and how it lays out their weights, or None where it has none."""
    first = next(iter(group.ranked()), None)
    gates = first.shape[1] if first is not None and first.ndim == 3 else 0
    return {4: ("LSTM", IOFC), 3: ("GRU", ZRH)}.get(gates)


class Scanned(Onnx):
    """Nodes of a window of any length: time is a scan."""

    @override
    def length(self, x: str, name: str = "") -> str:
        shape = self._node("Shape", f"{name}_length", x, start=0, end=1)
        return self._node("Cast", f"{name}_steps", shape, to=1)

    @override
    def loop(self, strands: Sequence[Strand[str]], state: Mapping[str, str]) -> tuple[list[str | None], dict[str, str]]:
        body = Nodes(NOW, f"{CONSTANT}layer{self.layer}/" if self.layer else f"{CONSTANT}step/")
        inside = self._with(g=body)
        of = {name: self._state(name) for strand in strands for name in strand.states}
        now: dict[str, str] = {}
        for name, full in of.items():
            now[name] = body.input(full + NOW, *self._declared(full))
        drives = [body.input(self.named(strand.name) + NOW, *self._declared(strand.name)) for strand in strands]
        after: dict[str, str] = {}
        handed: list[str] = []
        for strand, drive in zip(strands, drives, strict=True):
            value, new = strand.step(inside, drive, now)
            after |= new
            if strand.needed:
                handed.append(value)
        # A body may not hand out one value twice, and h is a state too.
        taps = [strand.tap for strand in strands if strand.needed]
        handed = [
            body.add("Identity", [value], self.row(tap)) if value in after.values() else value
            for value, tap in zip(handed, taps, strict=True)
        ]
        for value in (*(after[name] for name in of), *handed):
            body.output(value, None)
        rows = [self.row(tap) for tap in taps]
        outputs = [state_after(full) for full in of.values()]
        self.g.scan(body, [state[name] for name in of], [strand.over for strand in strands], [*outputs, *rows])
        found = iter(rows)
        return [next(found) if strand.needed else None for strand in strands], dict(zip(of, outputs, strict=True))

    def _state(self, name: str) -> str:
        """Return a state's full name."""
        return f"{name}{self.layer}" if self.layer else name

    def _declared(self, name: str) -> tuple[Any, ...]:
        """Return shape, type and meaning of a value inside a scan over all layers together."""
        if self.layer:
            return (None,)
        if name == "x":
            return ["B", *self.face.step], 1, self.face.x_meaning
        state = next(each for each in self.face.states if each.name == name)
        return ["B", *state.shape], 1, state.meaning


class Unrolled(Onnx):
    """Nodes of a window of one length: every step has nodes of its own."""

    def __init__(self, g: Nodes, network: Network, face: Interface, steps: int) -> None:
        super().__init__(g, network, face)
        self.steps = steps

    @override
    def length(self, x: str, name: str = "") -> str:
        return self.g.number(float(self.steps))

    @override
    def loop(self, strands: Sequence[Strand[str]], state: Mapping[str, str]) -> tuple[list[str | None], dict[str, str]]:
        g = self.g
        names = [name for strand in strands for name in strand.states]
        now = {name: state[name] for name in names}
        rows: list[list[str]] = [[] for _ in strands]
        for t in range(self.steps):
            g.suffix = at_step("", t)
            after: dict[str, str] = {}
            for strand, row in zip(strands, rows, strict=True):
                drive = self._node("Gather", strand.name, strand.over, g.index(t), axis=0)
                value, new = strand.step(self, drive, now)
                after |= new
                if strand.needed:
                    name = strand.name.removesuffix("_drive") + "_row"
                    row.append(self._node("Unsqueeze", name, value, g.axes(0)))
            now = after
        g.suffix = ""
        last = {name: self._node("Identity", name, now[name]) for name in names}
        stacked = [
            g.add("Concat", row, self.row(strand.tap), axis=0) if row else None
            for strand, row in zip(strands, rows, strict=True)
        ]
        return stacked, last


_ORDER = {IOFC: [0, 3, 1, 2], ZRH: [1, 0, 2]}
"""ONNX's gates in the order of ours: i, o, f, c of i, f, g, o; and z, r, h of r, z, n."""


def _to(order: list[int], weight: NDArray[Any]) -> NDArray[Any]:
    """From (I, gates, n) to ONNX's [1, gates * n, I]."""
    return weight.transpose(1, 2, 0)[order].reshape(1, -1, weight.shape[0])


def _back(order: list[int], weight: NDArray[Any]) -> NDArray[Any]:
    gates = weight.reshape(len(order), -1, weight.shape[-1])[np.argsort(order)]
    return gates.transpose(2, 0, 1)


def _bias_to(order: list[int], bias: NDArray[Any]) -> NDArray[Any]:
    """From (gates, n) to [gates * n]."""
    return bias[order].reshape(-1)


def _bias_back(order: list[int], bias: NDArray[Any]) -> NDArray[Any]:
    return bias.reshape(len(order), -1)[np.argsort(order)]


Change = Callable[[NDArray[Any]], NDArray[Any]]
_TO: dict[str, Change] = {ending: partial(_to, order) for ending, order in _ORDER.items()} | {
    BIAS + ending: partial(_bias_to, order) for ending, order in _ORDER.items()
}
LAYOUTS: dict[str, Change] = {
    TRANSPOSED: np.transpose,
    # A bias first: its ending ends with the other one.
    **{BIAS + ending: partial(_bias_back, order) for ending, order in _ORDER.items()},
    **{ending: partial(_back, order) for ending, order in _ORDER.items()},
}
"""How a weight is brought back into the network's own layout, by the end of its name: the first that fits."""
