"""The forms of a network's ONNX graph: a window with time inside, a single step, and a window unrolled.

    window    x[T, B, …] and states -> logits and states; a scan steps through time, so T and B are free
    step      x[B, …] and states -> logits and states
    unrolled  x[T, B, …] of one fixed T, and states -> logits and states; every step has nodes of its own

A window, unrolled or not, may have its states inside: it then takes x alone, begins at zeros that it makes for as many
samples as x has, and gives the logits alone. The states after it are still values of the graph, under the same names.

Fully connected layers run one after another, each over all the time there is, their input products taken at once.
Convolutional layers run together step by step, so that memory does not grow with time. The last layer's spikes are
summed up for the readout as they come.

Every layer's spikes and h are values of the graph; `engines.opened_up` finds them by the names that are given here.
Shapes: T time, B batch.
"""

from collections.abc import Callable
from typing import Literal, get_args

import onnx
from onnx import TensorProto, helper

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export import equations
from hstnn_deploy.export.equations import Values, array
from hstnn_deploy.export.interface import Interface, interface, state_after
from hstnn_deploy.export.nodes import CONSTANT, OPSET, Nodes, Opset
from hstnn_deploy.models.convolutional import ConvClassifier
from hstnn_deploy.models.language import LanguageModel
from hstnn_deploy.models.layers import Group, HybridLayer, LstmGroup, UnitKind
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceClassifier

Form = Literal["window", "step", "unrolled"]
FORMS: tuple[Form, ...] = get_args(Form)

States = Literal["named", "inside"]
"""Whether a graph takes its states by name and returns them, or makes its zeros itself."""

_HAS_INSIDE = "a window graph can have them inside: --form window, or unrolled"

NOW = "_now"
"""What the names of values inside a scan end with."""

Emitted = dict[UnitKind, str]
"""What a layer's groups emit, by kind."""

Loop = Callable[[Nodes, int, list[Group], Values, Values, set[UnitKind]], tuple[Emitted, Values]]
"""Runs a layer's groups over their drives: how time is written."""


def time_axis(form: Form, steps: int | None) -> list[int | str]:
    """Return the axis of time of a graph's x, if it has one; `steps` is T of an unrolled graph."""
    if form == "step":
        return []
    return ["T"] if form == "window" else [steps or 1]


def at_step(name: str, step: int) -> str:
    """Return the name of a value at one step of an unrolled graph."""
    return f"{name}_t{step}"


def layer_values(layer: int) -> dict[UnitKind, str]:
    """Return the names of what a layer's groups emit over a window, [T, B, n, …]."""
    return {"snn": f"layer{layer}_spikes", "rnn": f"layer{layer}_h"}


def step_values(layer: int) -> dict[UnitKind, str]:
    """Return the names of what a layer's groups emit at a single step, [B, n, …]."""
    return {"snn": f"layer{layer}_spikes", "rnn": state_after(f"h{layer}")}


def build(
    network: HybridNetwork,
    form: Form,
    facts: dict[str, str],
    steps: int | None = None,
    opset: Opset = OPSET,
    states: States = "named",
) -> onnx.ModelProto:
    """Return a network's graph in a form.

    Args:
        network: the network.
        form: which form.
        facts: what is stored beside the graph.
        steps: T of an unrolled graph.
        opset: the version of ONNX's operators.
        states: whether a graph of a window takes its states by name, or has them inside.

    Raises:
        ExportError: the network computes what no graph is written of, or a step graph with its states inside.
    """
    if form == "step" and states == "inside":
        raise ExportError("a step graph hands its states from step to step: they cannot be inside it", _HAS_INSIDE)
    face = interface(network)
    g = Nodes()
    time = time_axis(form, steps)
    dtype = TensorProto.INT64 if face.tokens else TensorProto.FLOAT
    x = g.input("x", [*time, "B", *face.step], dtype, face.x_meaning)
    if states == "inside":
        state = _zeros(g, face)
    else:
        state = {
            each.name: g.input(each.name, ["B", *each.shape], meaning=f"{each.meaning}, before") for each in face.states
        }
    if isinstance(network, LanguageModel):
        x = g.add("Gather", [g.weight("embedding.weight", array(network.embedding.weight)), x], "embedded")
    if form == "step":
        last, after = _one_step(g, network, x, state)
    elif isinstance(network, ConvClassifier):
        last, after = {}, _together(g, network, x, state, face, steps if form == "unrolled" else None)
    else:
        loop = _scanned if form == "window" else _unrolled(steps or 1)
        last, after = _layer_by_layer(g, network, x, state, loop)
        if not isinstance(network, LanguageModel):
            after |= _summed(g, x, last, state, steps if form == "unrolled" else None)
    _read_out(g, network, last, after)
    g.output("logits", [*(time if face.every_step else []), "B", face.classes], face.logits_meaning)
    for each in face.states if states == "named" else ():
        g.output(state_after(each.name), ["B", *each.shape], f"{each.meaning}, after")
    return g.model(f"{form} graph", facts, opset)


def _zeros(g: Nodes, face: Interface) -> Values:
    """Add the states of samples that have seen nothing, as many as x has."""
    batch = g.add("Shape", ["x"], "batch", start=1, end=2)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    found = {}
    for each in face.states:
        shape = batch
        if each.shape:
            shape = g.add("Concat", [batch, g.axes(*each.shape)], f"{each.name}_shape", axis=0)
        found[each.name] = g.add("ConstantOfShape", [shape], each.name, value=zero)
    return found


# ---------------------------------------------------------------------------------------------- one step of all layers


def _one_step(g: Nodes, network: HybridNetwork, x: str, state: Values) -> tuple[Emitted, Values]:
    """Add one step of all layers, and of what the readout sums up; return what the last layer emits, and the states."""
    after: Values = {}
    emitted: Emitted = {}
    for number, layer in enumerate(network.stack, 1):
        emitted, new = _layer_step(g, number, layer, x, state)
        after |= new
        if number < len(network.stack):
            x = _joined(g, network, number, _pooled(g, network, number, emitted))
    if "spike_sum" in state:
        spikes = _pooled(g, network, len(network.stack), {"snn": emitted["snn"]})["snn"]
        after["spike_sum"] = g.add("Add", [state["spike_sum"], spikes], state_after("spike_sum"))
    if "steps" in state:
        after["steps"] = g.add("Add", [state["steps"], g.number(1.0)], state_after("steps"))
    return emitted, after


def _layer_step(g: Nodes, number: int, layer: HybridLayer, x: str, state: Values) -> tuple[Emitted, Values]:
    emitted: Emitted = {}
    after: Values = {}
    for kind, group in layer.groups.items():
        if isinstance(group, LstmGroup):
            row = g.add("Unsqueeze", [x, g.axes(0)], f"layer{number}_x_row")
            _, new = equations.lstm(g, number, group, row, state, "")
            emitted[kind] = new[f"h{number}"]
        else:
            emitted[kind], new = equations.advance(g, number, group, equations.drive(g, number, group, x), state)
        after |= new
    return emitted, after


def _joined(g: Nodes, network: HybridNetwork, number: int, emitted: Emitted) -> str:
    """Add what the next layer sees: the groups' outputs side by side, spiking first."""
    if len(emitted) == 1:
        return next(iter(emitted.values()))
    # Of maps [B, n, H, W] at one step, or of vectors [..., n].
    axis = 1 if isinstance(network, ConvClassifier) else -1
    return g.add("Concat", list(emitted.values()), f"layer{number}_output", axis=axis)


def _pooled(g: Nodes, network: HybridNetwork, number: int, emitted: Emitted) -> Emitted:
    """Add the pooling on the way up, of convolutional layers."""
    if not isinstance(network, ConvClassifier):
        return emitted
    return {kind: _pool(g, value, f"layer{number}_{kind}_pooled") for kind, value in emitted.items()}


def _pool(g: Nodes, maps: str, name: str) -> str:
    return g.add("AveragePool", [maps], name, kernel_shape=[2, 2], strides=[2, 2])


# ------------------------------------------------------------------------------------- a window, layer after layer


def _layer_by_layer(g: Nodes, network: HybridNetwork, x: str, state: Values, loop: Loop) -> tuple[Emitted, Values]:
    after: Values = {}
    emitted: Emitted = {}
    for number, layer in enumerate(network.stack, 1):
        last = number == len(network.stack)
        # A classifier reads of its last layer only the state of the recurrent units.
        needed: set[UnitKind] = {"snn"} if last and isinstance(network, SequenceClassifier) else {"snn", "rnn"}
        emitted = {}
        stepped: list[Group] = []
        for kind, group in layer.groups.items():
            if isinstance(group, LstmGroup):
                name = layer_values(number)[kind] if kind in needed else ""
                emitted[kind], new = equations.lstm(g, number, group, x, state, name)
                after |= new
            else:
                stepped.append(group)
        if stepped:
            drives: Values = {group.kind: equations.drive(g, number, group, x) for group in stepped}
            values, new = loop(g, number, stepped, drives, state, needed)
            # Spiking first, whichever was added first.
            emitted = values | emitted
            after |= new
        if not last:
            x = _joined(g, network, number, emitted)
    return emitted, after


def _scanned(
    g: Nodes, number: int, groups: list[Group], drives: Values, state: Values, needed: set[UnitKind]
) -> tuple[Emitted, Values]:
    """Step through time in a scan."""
    body = Nodes(NOW, f"{CONSTANT}layer{number}/")
    names = [f"{name}{number}" for group in groups for name in group.state_names]
    now = {name: body.input(name + NOW, None) for name in names}
    drives_now = {kind: body.input(f"layer{number}_{kind}_drive{NOW}", None) for kind in drives}
    after: Values = {}
    emitted: Emitted = {}
    for group in groups:
        emitted[group.kind], new = equations.advance(body, number, group, drives_now[group.kind], now)
        after |= new
    emitted = {kind: value for kind, value in emitted.items() if kind in needed}
    if "rnn" in emitted:
        # A body may not hand out one value twice, and h is a state too.
        emitted["rnn"] = body.add("Identity", [emitted["rnn"]], f"layer{number}_h")
    for value in (*after.values(), *emitted.values()):
        body.output(value, None)
    stacked = {kind: layer_values(number)[kind] for kind in emitted}
    outputs = [state_after(name) for name in names]
    g.scan(body, [state[name] for name in names], list(drives.values()), [*outputs, *stacked.values()])
    return stacked, dict(zip(names, outputs, strict=True))


def _unrolled(steps: int) -> Loop:
    """Return the loop that gives every step nodes of its own."""

    def loop(
        g: Nodes, number: int, groups: list[Group], drives: Values, state: Values, needed: set[UnitKind]
    ) -> tuple[Emitted, Values]:
        now = dict(state)
        emitted: dict[UnitKind, list[str]] = {group.kind: [] for group in groups}
        for t in range(steps):
            g.suffix = at_step("", t)
            for group in groups:
                kind = group.kind
                drive = g.add("Gather", [drives[kind], g.index(t)], f"layer{number}_{kind}_drive", axis=0)
                value, new = equations.advance(g, number, group, drive, now)
                now |= new
                if kind in needed:
                    emitted[kind].append(g.add("Unsqueeze", [value, g.axes(0)], f"layer{number}_{kind}_row"))
        g.suffix = ""
        names = [f"{name}{number}" for group in groups for name in group.state_names]
        after = {name: g.add("Identity", [now[name]], state_after(name)) for name in names}
        stacked = {
            kind: g.add("Concat", rows, layer_values(number)[kind], axis=0) for kind, rows in emitted.items() if rows
        }
        return stacked, after

    return loop


def _summed(g: Nodes, x: str, last: Emitted, state: Values, steps: int | None) -> Values:
    """Add what a sequence classifier's readout sums up over a window."""
    if "snn" not in last:
        return {}
    spikes = g.add("ReduceSum", [last["snn"], g.axes(0)], "spikes_in_window", keepdims=0)
    if steps is None:
        shape = g.add("Shape", [x], "window_length", start=0, end=1)
        length = g.add("Cast", [shape], "window_steps", to=1)
    else:
        length = g.number(float(steps))
    return {
        "spike_sum": g.add("Add", [state["spike_sum"], spikes], state_after("spike_sum")),
        "steps": g.add("Add", [state["steps"], length], state_after("steps")),
    }


# ------------------------------------------------------------------------------- a window, all layers step by step


def _together(g: Nodes, network: HybridNetwork, x: str, state: Values, face: Interface, steps: int | None) -> Values:
    """Run all layers together, step by step: in a scan, or unrolled over `steps`; return the states after."""
    now: Values
    if steps is not None:
        now = dict(state)
        for t in range(steps):
            g.suffix = at_step("", t)
            x_now = g.add("Gather", [x, g.index(t)], "x", axis=0)
            _, now = _one_step(g, network, x_now, now)
        g.suffix = ""
        return {name: g.add("Identity", [value], state_after(name)) for name, value in now.items()}
    body = Nodes(NOW, f"{CONSTANT}step/")
    now = {each.name: body.input(each.name + NOW, ["B", *each.shape], meaning=each.meaning) for each in face.states}
    x_now = body.input(f"x{NOW}", ["B", *face.step], meaning=face.x_meaning)
    _, after = _one_step(body, network, x_now, now)
    for name in state:
        body.output(after[name], None)
    outputs = {name: state_after(name) for name in state}
    g.scan(body, list(state.values()), [x], list(outputs.values()))
    return outputs


# ----------------------------------------------------------------------------------------------------------- readouts


def _read_out(g: Nodes, network: HybridNetwork, last: Emitted, after: Values) -> None:
    """Add the readout: from what the last layer emits at every step, or from the states."""
    h = after.get(f"h{len(network.layers)}")
    match network:
        case LanguageModel():
            seen = _joined(g, network, len(network.layers), last)
            equations.linear_over_time(g, "decoder", network.decoder, seen, "logits")
        case SequenceClassifier():
            features = []
            if "spike_sum" in after:
                features.append(g.add("Div", [after["spike_sum"], after["steps"]], "spike_rate"))
            features += [h] if h else []
            equations.linear(g, "readout", network.readout, _features(g, features), "logits")
        case ConvClassifier():
            features = [after["spike_sum"]] if "spike_sum" in after else []
            if h:
                features.append(_pool(g, h, "h_pooled"))
            flat = g.add("Flatten", [_features(g, features)], "seen_flat", axis=1)
            hidden = equations.linear(g, "hidden", network.hidden, flat, "hidden_total")
            equations.linear(g, "readout", network.readout, g.add("Relu", [hidden], "hidden"), "logits")


def _features(g: Nodes, features: list[str]) -> str:
    return features[0] if len(features) == 1 else g.add("Concat", features, "seen", axis=1)
