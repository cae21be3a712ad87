"""Modules as chains of layers: by their class, one behind the other, or by their own forward, traced by torch.fx.

Sums and concatenations become branches.

What is traced is one step, or one window where layers take time too. States of neurons that a forward takes and gives
back are left to the stack, which carries them itself.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries.of_snntorch import GIVEN
from hstnn_deploy.importing.loops import ZEROS, Loop, index_of, loop_of, repeat_of
from hstnn_deploy.importing.operations import OPERATIONS, argument
from hstnn_deploy.importing.parts import FOLDED, Chain, configs
from hstnn_deploy.importing.tracing import graph_of, whole_name
from hstnn_deploy.importing.tree import (
    MEMBRANES,
    after,
    is_bare,
    is_container,
    is_neuron,
    kind_of,
    library,
    named,
    not_taken,
    rule_of,
    taken,
)
from hstnn_deploy.importing.values import State, Value, between
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.readouts import Readout


@dataclass
class Read:
    """What the forward of a whole network is read as."""

    chain: Chain
    readout: Readout | None = None
    """What it makes of its outputs over time itself; None: it gives one at every step."""
    loop: Loop | None = None
    beside: int = 0
    """How many values it gives beside the answer."""
    turned: bool = False
    """Whether it takes a window [B, T, …] and gives [T, B, …]."""
    fixed: bool = False
    """Whether it takes as many steps of a longer window too, or none such."""


def take(module: nn.Module, path: str, shape: Shape, axes: int) -> Chain:
    """Return what a module is taken as.

    Args:
        module: the module, in evaluation mode.
        path: its name within the whole.
        shape: what comes in at a step of a sample.
        axes: how many axes stand before it: 1 the batch, 2 time too.

    Raises:
        ImportRefused: a module that is not taken, by its path and why.
    """
    if rule := rule_of(module):
        return taken(rule, module, path, shape, axes).chain
    if is_container(module):
        chain: Chain = []
        axes = _WITHIN.get(kind_of(module), axes) if axes == 2 and library(module) else axes
        for name, child in module._modules.items():
            assert child is not None
            inside = take(child, f"{path}.{name}" if path else name, shape, axes)
            chain += inside
            shape = after(inside, shape, path)
        return chain
    if library(module):
        raise not_taken(module, path)
    return traced(module, path, shape, axes)


_WITHIN = {"SeqToANNContainer": FOLDED, "Repeat": FOLDED, "MultiStepContainer": 1, "StepModeContainer": 1, "Lift": 1}
"""How many axes stand before what a sample has at a step, within what takes a window and hands it on otherwise."""


def traced(module: nn.Module, path: str, shape: Shape, axes: int) -> Chain:
    """Return the chain of a module of another class than those known; see `tree.take`.

    Raises:
        ImportRefused: its forward cannot be traced, or does what no layer does; says where.
    """
    return _Reader(module, path, axes).read(graph_of(module, path, ()), shape)


def whole(module: nn.Module, sizes: tuple[int, ...], axes: int, time_axis: int | None) -> Read:
    """Return what a whole network of another class than those known is read as: it may go through time itself.

    Args:
        module: the network.
        sizes: of the example that it takes.
        axes: how many axes stand before what a sample has at a step.
        time_axis: which of them is time; None: it takes one step.

    Raises:
        ImportRefused: see `traced`.
    """
    reader = _read_whole(module, sizes, axes, time_axis)
    loop = Loop(reader.steps, None) if reader.steps else reader.loop
    time = time_axis if loop is None else loop.axis
    fixed = time is not None and _is_for_its_steps(reader, sizes, axes, time_axis, time)
    return Read(reader.chain, reader.readout, loop, reader.beside, reader.turned, fixed)


def _is_for_its_steps(reader: "_Reader", sizes: tuple[int, ...], axes: int, time_axis: int | None, time: int) -> bool:
    """Whether a loop takes no more steps of a window that has one more.

    Raises:
        ImportRefused: what a network computes depends on how many there are: so does a sum divided by a number.
    """
    longer = tuple(size + (axis == time) for axis, size in enumerate(sizes))
    try:
        again = _read_whole(reader.module, longer, axes, time_axis)
    except ImportRefused:
        if reader.divides:
            raise
        return reader.loop is not None
    if configs(again.chain) != configs(reader.chain):
        raise ImportRefused(
            f"{whole_name('', reader.module)}: what its layers compute depends on the number of steps in its window",
            "for a mean over time, divide a sum: torch.stack(out).sum(0) / len(out)",
        )
    return reader.loop is not None and again.loop is not None and again.loop.steps == reader.loop.steps


def _read_whole(module: nn.Module, sizes: tuple[int, ...], axes: int, time_axis: int | None) -> "_Reader":
    graph = graph_of(module, "", sizes)
    loop = loop_of(graph, module)
    if loop is not None:
        axes = 1 if loop.axis is None else 2
    reader = _Reader(module, "", 1 if loop else axes, time_axis, loop)
    if loop is None and (repeat := repeat_of(graph)):
        axes, reader.axes, reader.time_axis = 1, 2, 0
        reader.steps, reader.same = repeat
    reader.chain = reader.read(graph, tuple(sizes[axes:]))
    return reader


def repeats(module: nn.Module, sizes: tuple[int, ...]) -> bool:
    """Whether the forward of a whole network repeats its input as a window, before all else."""
    if rule_of(module) or is_container(module) or library(module):
        return False
    return repeat_of(graph_of(module, "", sizes)) is not None


class _Reader:
    """Reads a graph's nodes in their order."""

    def __init__(
        self, module: nn.Module, path: str, axes: int, time_axis: int | None = None, loop: Loop | None = None
    ) -> None:
        self.module, self.path, self.axes, self.time_axis, self.loop = module, path, axes, time_axis, loop
        self.readout: Readout | None = None
        self.beside = 0
        self.turned = False
        self.divides = False
        self.chain: Chain = []
        # How often the input is repeated as a window, and the nodes that do it.
        self.steps = 0
        self.same: set[fx.Node] = set()
        self.answering: set[fx.Node] = set()
        self.calls: set[str] = set()
        self.found: dict[fx.Node, Value | State | Any] = {}

    def refused(self, node: fx.Node, what: str, hint: str = "") -> ImportRefused:
        """Return an error that says where in the forward it is."""
        where = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        return ImportRefused(f"{whole_name(self.path, self.module)}: {where} in its forward {what}", hint)

    def read(self, graph: fx.Graph, shape: Shape) -> Chain:
        """Return the chain from the first input to the (first) output."""
        start: Value | None = None
        self.answering = _answering(graph)
        for node in graph.nodes:
            if node.op == "placeholder":
                if start is None:
                    start = Value(node, shape, [])
                    self.found[node] = start
                else:
                    self.found[node] = State()
            elif node.op == "output":
                answer = self._answer(node)
                assert start is not None
                return between(start, answer, self.path, self.refused)
            elif self.loop is not None and self.loop.label.get(node, 0):
                # A later step: as the first one, which is read.
                self.found[node] = self.found[self.loop.first[node]]
            elif self.loop is not None and node in self.loop.within:
                self.found[node] = State()
            elif node in self.same or (
                self.loop is not None and self.loop.axis is not None and _takes_step(node, start)
            ):
                assert start is not None
                self.found[node] = Value(node, shape, [start])
            else:
                self.found[node] = self._value(node)
        raise ImportRefused(f"{whole_name(self.path, self.module)}: its forward returns nothing")

    def _answer(self, node: fx.Node) -> Value:
        given: Any = node.args[0]
        if isinstance(given, tuple | list):
            values = [self.found[each] for each in given if isinstance(each, fx.Node)]
            if not values or not all(self._is_beside(each) for each in values[1:]):
                raise self.refused(node, "returns several values that are not states of neurons")
            given, self.beside = given[0], len(given) - 1
        found = self.found.get(given) if isinstance(given, fx.Node) else None
        if isinstance(found, State):
            if found.membrane_of is None:
                raise self.refused(node, "returns what neurons carry (currents, or sizes) first, not their output")
            found = self._membrane(found.membrane_of)
        if not isinstance(found, Value):
            raise self.refused(node, "returns nothing that depends on its input")
        if self.loop is not None and self.readout is None and given in self.loop.label:
            if self.loop.label[given] != self.loop.steps - 1:
                raise self.refused(node, f"returns only the output of step {self.loop.label[given] + 1}")
            self.readout = "last"
        if self.loop is not None and self.readout is None:
            self.turned = self.time_axis != (self.loop.axis or 0)
            if self.turned and self.time_axis != 0:
                raise self.refused(node, "returns [B, T, ...] for a window [T, B, ...]")
        return found

    def _is_beside(self, value: Any) -> bool:
        """Whether a value that is given beside the answer is one that leads to it, or a state."""
        while isinstance(value, Value) and value.how == "chain" and not value.chain and value.before:
            value = value.before[0]
        return not isinstance(value, Value) or value.node in self.answering

    # ------------------------------------------------------------------------------------------------- a node's value

    def _value(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self._stored(node)
        if node.op == "call_module":
            return self._of_module(node)
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        if node in self.answering:
            self._see_membranes(node)
        values = [each for each in self._inputs(node) if isinstance(each, Value)]
        if name == "getitem" and isinstance(held := self.found[node.all_input_nodes[0]], State) and held.last_of:
            return self._held(node, held)
        if not values or name in ZEROS or (name == "getattr" and node.args[1] in ("device", "dtype")):
            # Sizes, zeros, and what is made of states alone.
            return State()
        if self.loop is not None and node in self.loop.sums:
            return self._summed(node)
        if name == "getitem":
            return self._piece(node, values[0])
        if name == "stack" and self.loop is not None:
            return self._stacked(node)
        if name in _OVER_TIME and (gathered := self._gathered(node, values[0], str(name))):
            return gathered
        if name == "getattr" and node.args[1] == "values" and values[0].largest:
            return Value(node, values[0].shape, [values[0]])
        if name in ("truediv", "div") and self._divides_sum(node):
            self.readout, self.divides = "mean", True
            return Value(node, values[0].shape, [values[0]])
        if self.readout not in (None, "last"):
            raise self.refused(node, f"comes after the {self.readout} over time, which must be last")
        rule = OPERATIONS.get(str(name).removesuffix("_"))
        if rule is None or any(each.pieces for each in values):
            raise self.refused(node, "is not a layer of a stack", _HINTS.get(str(name), ""))
        return rule(self, node, values[0])

    def _inputs(self, node: fx.Node) -> list[Any]:
        return [self.found[each] for each in node.all_input_nodes]

    def _stored(self, node: fx.Node) -> Any:
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, Tensor) and not value.any():
            return State()
        raise self.refused(node, "uses a parameter or buffer outside any layer")

    def _of_module(self, node: fx.Node) -> Value:
        name = str(node.target)
        inner = self.module.get_submodule(name)
        if name in self.calls and not is_bare(inner):
            raise self.refused(node, "runs more than once per step")
        self.calls.add(name)
        if self.readout is not None and (self.readout != "last" or _carries_on(inner)):
            raise self.refused(node, f"comes after the {self.readout} over time, where nothing may have a state")
        first = self.found.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        if not isinstance(first, Value) or first.pieces:
            raise self.refused(node, "does not take one value that comes from the input")
        others = [self.found[each] for each in node.all_input_nodes[1:]]
        if not all(isinstance(each, State) for each in others):
            raise self.refused(node, "takes values beside its input that are not states of neurons")
        path = f"{self.path}.{name}" if self.path else name
        chain = take(inner, path, first.shape, self.axes)
        tuples = _gives_tuple(inner)
        return Value(node, after(chain, first.shape, path), [first], chain=chain, pieces=tuples)

    def _piece(self, node: fx.Node, value: Value) -> Any:
        if not value.pieces:
            if self.time_axis is not None and index_of(node, value.node) == (-1, self.time_axis):
                self.readout, self.axes = "last", 1
                return Value(node, value.shape, [value])
            raise self.refused(node, "takes a part of a value (a loop over time needs at least two steps)")
        if node.args[1] == 0:
            return Value(node, value.shape, [value])
        if value.largest:
            return State()
        module = self.module.get_submodule(str(value.node.target))
        if isinstance(module, nn.RNNBase):
            return State(last_of=value, paired=isinstance(module, nn.LSTM))
        last = GIVEN.get(kind_of(module), 0) - 1 if library(module) == "snntorch" else 0
        return State(value if last > 0 and node.args[1] in (last, -1) else None)

    def _held(self, node: fx.Node, state: State) -> Any:
        """Return a part of what a recurrent layer holds behind a window: of the last layer, its output at the end."""
        given = state.last_of
        assert given is not None
        layers: Any = self.module.get_submodule(str(given.node.target))
        if state.paired:
            return State(last_of=given) if node.args[1] == 0 else State()
        if node.args[1] not in (-1, layers.num_layers - 1) or node not in self.answering:
            return State()
        if self.time_axis is None or self.loop is not None or self.readout is not None:
            raise self.refused(node, "takes a recurrent layer's final state together with other steps")
        self.readout, self.axes = "last", 1
        return Value(node, given.shape, [given])

    def _see_membranes(self, node: fx.Node) -> None:
        """Take as values the membranes that a node on the way to the answer computes with."""
        for each in node.all_input_nodes:
            found = self.found[each]
            if isinstance(found, State) and found.membrane_of is not None:
                value = self._membrane(found.membrane_of)
                for other, same in list(self.found.items()):
                    if same is found:
                        self.found[other] = value

    def _membrane(self, given: Value) -> Value:
        """Return the membrane of what neurons give."""
        inner = self.module.get_submodule(str(given.node.target))
        path = f"{self.path}.{given.node.target}" if self.path else str(given.node.target)
        (before,) = given.before
        rule = rule_of(inner, membrane=True)
        if rule is None:
            raise ImportRefused(
                f"{named(path)} ({kind_of(inner)}): its membrane is the answer, which hstnn supports for "
                f"{', '.join(sorted(MEMBRANES[library(inner)]))} only",
                "give its spikes, or put a Leaky(…, reset_mechanism='none') at the end",
            )
        return Value(
            given.node, given.shape, [before], chain=taken(rule, inner, path, before.shape, self.axes, True).chain
        )

    def _stacked(self, node: fx.Node) -> Value | State:
        """Return what a forward collects of all its steps."""
        assert self.loop is not None
        rows: Any = node.args[0]
        labels = [self.loop.label.get(each) for each in rows]
        axis = argument(node, 1, "dim", 0)
        if labels != list(range(self.loop.steps)) or axis not in (0, 1):
            raise self.refused(node, "must stack one value of every step in order, along axis 0 or 1")
        found = self.found[rows[0]]
        if isinstance(found, State):
            return found
        self.time_axis = axis
        return Value(node, found.shape, [found])

    def _summed(self, node: fx.Node) -> Value | State:
        """Return what a forward adds up over all its steps."""
        assert self.loop is not None
        found = self.found[self.loop.sums[node][0]]
        if isinstance(found, State) or node not in self.answering:
            return State()
        if self.readout is not None:
            raise self.refused(node, "comes after another readout over time")
        self.readout, self.time_axis = "sum", 0
        return Value(node, found.shape, [found])

    def _divides_sum(self, node: fx.Node) -> bool:
        """Whether a node makes the mean of a sum over the steps of a loop, or of an input that is repeated."""
        steps = self.loop.steps if self.loop is not None else self.steps
        by: Any = node.args[1] if len(node.args) == 2 and not node.kwargs else None
        return self.readout == "sum" and bool(steps) and isinstance(by, int | float) and by == steps

    def _gathered(self, node: fx.Node, value: Value, name: str) -> Value | State | None:
        if node not in self.answering and self.time_axis is not None:
            return State()
        axis = argument(node, 1, "dim", node.kwargs.get("axis"))
        # Within a loop there is no time but for what is stacked.
        rank = (self.axes if self.loop is None else 2) + len(value.shape)
        if self.time_axis is None or axis not in (self.time_axis, self.time_axis - rank):
            return None
        if self.readout is not None or argument(node, 2, "keepdim", False):
            raise self.refused(node, "comes after another readout over time, or keeps its axis")
        self.readout = _OVER_TIME[name]
        return Value(node, value.shape, [value], largest=name == "max", pieces=name == "max")


def _answering(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose values lead to the (first) output; states that neurons are given do not."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    given: Any = output.args[0]
    left = [given[0] if isinstance(given, tuple | list) and given else given]
    found: set[fx.Node] = set()
    while left:
        node = left.pop()
        if isinstance(node, fx.Node) and node not in found:
            found.add(node)
            left += [node.args[0]] if node.op == "call_module" and node.args else node.all_input_nodes
    return found


_OVER_TIME: dict[str, Readout] = {"sum": "sum", "mean": "mean", "amax": "max", "max": "max"}
"""Functions and methods over the axis of time, and the readouts that they are."""
_LATER = "give the network without it, and apply it in the loss or to the answer"
_REPEAT = "x[B, ...] may be repeated as a window [T, B, ...] before all else; or give the part that takes a window"
_HINTS = dict.fromkeys(("softmax", "log_softmax"), _LATER) | dict.fromkeys(("unsqueeze", "repeat", "expand"), _REPEAT)


def _takes_step(node: fx.Node, start: Value | None) -> bool:
    """Whether a node takes a step of the input, in a forward that goes through time itself."""
    name = getattr(node.target, "__name__", "")
    return name == "getitem" and start is not None and node.args[0] is start.node


def _carries_on(module: nn.Module) -> bool:
    """Whether a module carries something from step to step."""
    recurrent = (nn.RNNBase,)
    return any(is_neuron(each) or isinstance(each, recurrent) for each in module.modules())


def _gives_tuple(module: nn.Module) -> bool:
    """Whether a call of a module gives a tuple: its output, and states."""
    package, name = library(module), kind_of(module)
    if package == "snntorch":
        return bool(getattr(module, "output", False)) or not getattr(module, "init_hidden", False)
    if package == "norse":
        return is_neuron(module) or name == "SequentialState"
    return package == "torch" and name in {"RNN", "LSTM", "GRU"}
