"""The forms of a network's ONNX graph: a window with time inside, a single step, and a window unrolled.

    window    x[T, B, …] and states -> logits and states; a scan steps through time, so T and B are free
    step      x[B, …] and states -> logits and states; and of a network with an exit, whether the answer may be given
    unrolled  x[T, B, …] of one fixed T, and states -> logits and states; every step has nodes of its own

A window, unrolled or not, may have its states inside: it then takes x alone, begins at zeros that it makes for as many
samples as x has, and gives the logits alone. The states after it are still values of the graph, under the same names.

Fully connected layers run one after another, each over all the time there is, their input products taken at once.
Convolutional layers run together step by step, so that memory does not grow with time. The last layer's spikes are
summed up for the readout as they come.

Every layer's spikes and h are values of the graph; `engines.opened_up` finds them by the names that are given here.
Shapes: T time, B batch.
"""

from typing import Literal, get_args

import onnx
from onnx import TensorProto, helper

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.interface import Interface, interface, state_after
from hstnn_deploy.export.graph.nodes import OPSET, Nodes, Opset
from hstnn_deploy.export.graph.reading import Onnx, Scanned, Unrolled
from hstnn_deploy.models.exits import EXIT, EXIT_MEANING
from hstnn_deploy.models.network import Network, Tap

Form = Literal["window", "step", "unrolled"]
FORMS: tuple[Form, ...] = get_args(Form)

States = Literal["named", "inside"]
"""Whether a graph takes its states by name and returns them, or makes its zeros itself."""

_HAS_INSIDE = "use a window graph with states inside: --form window, or unrolled"


def time_axis(form: Form, steps: int | None) -> list[int | str]:
    """Return the axis of time of a graph's x, if it has one; `steps` is T of an unrolled graph."""
    if form == "step":
        return []
    return ["T"] if form == "window" else [steps or 1]


def at_single_step(tap: Tap, face: Interface) -> str:
    """Return the name of what is handed out at a single step, [B, n, …]; over a window it is the tap's own."""
    state = f"{tap.name}{tap.layer}"
    return state_after(state) if any(each.name == state for each in face.states) else str(tap)


def build(
    network: Network,
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
        raise ExportError("a step graph passes its states from step to step, so they are never inside it", _HAS_INSIDE)
    network.check_steps("an ONNX graph")
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
    match form:
        case "step":
            o = Onnx(g, network, face)
            logits, after = network.step(o, x, state)
            if face.leaves:
                network.may_leave(o, logits, after)
        case "window":
            network.window(Scanned(g, network, face), x, state)
        case "unrolled":
            network.window(Unrolled(g, network, face, steps or 1), x, state)
    g.output("logits", [*(time if face.every_step else []), "B", face.classes], face.logits_meaning)
    for each in face.states if states == "named" else ():
        g.output(state_after(each.name), ["B", *each.shape], f"{each.meaning}, after")
    if form == "step" and face.leaves:
        g.output(EXIT, ["B"], EXIT_MEANING)
    return g.model(f"{form} graph", facts, opset)


def _zeros(g: Nodes, face: Interface) -> dict[str, str]:
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
