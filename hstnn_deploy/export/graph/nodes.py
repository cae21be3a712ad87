"""A small builder of ONNX graphs: nodes are added one by one, every value under a name that explains it.

The graphs are written by hand, not traced: then no size of an example can get into them, a scan holds exactly what it
needs, and the names in a file are the ones documented here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Opset = Literal[17, 18, 20, 21]
"""The versions of ONNX's operators that graphs are written in; what a graph holds means the same in all of them."""
OPSETS: tuple[Opset, ...] = get_args(Opset)
OPSET: Opset = 20
"""What is written unless another is asked for."""

BUILDER = 2
"""Of how graphs are written. Raise it where the same network would get other nodes or names: `hstnn verify` builds each
graph again, and can compare only what the same builder wrote. Bundles of manifest version 2 have builder 1."""

CONSTANT = "constant/"
"""What the name of a stored number begins with that is not a weight of the network."""

Dimensions = Sequence[int | str]


def array(weight: Tensor) -> NDArray[Any]:
    """Return a weight as an array."""
    values: NDArray[Any] = weight.detach().cpu().numpy()
    return values


class Nodes:
    """The nodes of one graph, or of the body of a scan, with the weights and numbers that they use.

    A body holds what it uses itself: tools that rename a graph's values, or cut a part out of it, do not look for what
    a body takes from around it.

    Args:
        suffix: what the name of every value in this graph ends with: no name may be used twice, bodies included.
        constants: what the names of stored numbers begin with.
    """

    def __init__(self, suffix: str = "", constants: str = CONSTANT) -> None:
        self.suffix = suffix
        self._constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.add_many(op, inputs, [output + self.suffix], **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with the given outputs, by their full names; it is called by the first."""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return list(outputs)

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """Store an array under its name.

        Raises:
            ValueError: another array has that name.
        """
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        if self._initializers.setdefault(name, tensor) != tensor:
            raise ValueError(f"two different values are called {name}")
        return name

    def number(self, value: float) -> str:
        """Store a float32 scalar; its name has all the digits that tell it from every other."""
        single = np.float32(value)
        return self._constant(str(single), np.array(single))

    def axes(self, *values: int) -> str:
        """Store a list of axes."""
        return self._constant("axes_" + "_".join(map(str, values)), np.array(values, np.int64))

    def index(self, value: int) -> str:
        """Store a place along an axis."""
        return self._constant(f"index_{value}", np.array(value, np.int64))

    def filled(self, value: float, count: int) -> str:
        """Store a row of one float32 number."""
        return self._constant(f"{np.float32(value)}_x{count}", np.full(count, value, np.float32))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        return self.weight(f"{self._constants}{name}", value)

    def input(self, name: str, shape: Dimensions | None, dtype: int = TensorProto.FLOAT, meaning: str = "") -> str:
        """Declare an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape, meaning))
        return name

    def output(self, name: str, shape: Dimensions | None, meaning: str = "", dtype: int = TensorProto.FLOAT) -> None:
        """Declare a value as an output of the graph."""
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape, meaning))

    def scan(self, body: "Nodes", states: Sequence[str], over: Sequence[str], outputs: Sequence[str]) -> None:
        """Add a scan of `body` over the first axis of `over`.

        Args:
            body: its inputs are the states, then one step of each of `over`; its outputs the states after the step,
                then what is emitted at each step.
            states: values the states start from.
            over: values to step through.
            outputs: names for the states at the end, then for the stacked emissions.
        """
        inside = helper.make_graph(body.nodes, "step" + body.suffix, body.inputs, body.outputs, body.stored)
        self.add_many("Scan", [*states, *over], outputs, body=inside, num_scan_inputs=len(over))

    @property
    def stored(self) -> list[onnx.TensorProto]:
        """The weights and numbers of the graph."""
        return list(self._initializers.values())

    def model(self, name: str, facts: dict[str, str], opset: Opset = OPSET) -> onnx.ModelProto:
        """Return the whole model."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.stored)
        versions = [helper.make_opsetid("", opset)]
        model = helper.make_model(
            graph,
            producer_name="hstnn-deploy",
            # The oldest that knows the operators: so the oldest engines read it.
            ir_version=helper.find_min_ir_version_for(versions),
            opset_imports=versions,
        )
        helper.set_model_props(model, facts)
        return model


def stored_in(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the weights and numbers of a graph, those inside scans too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from stored_in(attribute.g)
