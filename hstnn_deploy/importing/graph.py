"""Modules as chains of layers: by their class, one behind the other, or by their own forward, traced by torch.fx.

Sums and concatenations become branches.

What is traced is one step, or one window where layers take time too. States of neurons that a forward takes and gives
back are left to the stack, which carries them itself.
"""

import inspect
import operator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.loops import STEP, Loop, index_of, loop_of
from hstnn_deploy.importing.operations import OPERATIONS, argument
from hstnn_deploy.importing.parts import FOLDED, Branches, Chain, Part
from hstnn_deploy.importing.sums import with_sums
from hstnn_deploy.importing.tree import (
    after,
    derived_from,
    is_bare,
    is_container,
    is_neuron,
    kind_of,
    library,
    not_taken,
    rule_of,
    taken,
)
from hstnn_deploy.importing.values import State, Value
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.readouts import Readout


class _Window(fx.Proxy):
    """The input, whose sizes are known: a loop over its steps can be traced."""

    def size(self, axis: int | None = None) -> Any:
        """Return its sizes, or one of them."""
        return self.tracer.sizes if axis is None else self.tracer.sizes[axis]  # type: ignore[attr-defined]

    @property
    def shape(self) -> Any:
        """Its sizes."""
        return self.size()

    def __len__(self) -> int:
        return int(self.size(0))

    def dim(self) -> int:
        """Return how many axes it has."""
        return len(self.size())

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.dim()

    def __iter__(self) -> Any:
        return (operator.getitem(self, step) for step in range(len(self)))


class _Tracer(fx.Tracer):
    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.sizes = sizes
        self._begun = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for a value; the first input knows its sizes, where they were given."""
        if node.op == "placeholder" and not self._begun and self.sizes:
            self._begun = True
            return _Window(node, self)
        return super().proxy(node)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is taken as a whole."""
        return rule_of(m) is not None or is_container(m) or bool(library(m))


@dataclass
class Read:
    """What the forward of a whole network is read as."""

    chain: Chain
    readout: Readout | None = None
    """What it makes of its outputs over time itself; None: it gives one at every step."""
    loop: Loop | None = None
    turned: bool = False
    """Whether it takes a window [B, T, …] and gives [T, B, …]."""


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
    return _Reader(module, path, axes).read(_graph(module, path, ()), shape)


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
    graph = _graph(module, "", sizes)
    with_sums(graph, module)
    loop = loop_of(graph, module)
    if loop is not None:
        axes = 1 if loop.axis is None else 2
    reader = _Reader(module, "", 1 if loop else axes, time_axis, loop)
    chain = reader.read(graph, tuple(sizes[axes:]))
    return Read(chain, reader.readout, loop, reader.turned)


def _graph(module: nn.Module, path: str, sizes: tuple[int, ...]) -> fx.Graph:
    if base := derived_from(module):
        raise ImportRefused(
            f"{_name(path, module)} is derived from {base} and computes something of its own", f"use {base} itself"
        )
    try:
        return _Tracer(sizes).trace(module, _settings(module))
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise ImportRefused(
            f"{_name(path, module)}: its forward depends on values, or goes through time in a way not taken ({said})",
            STEP,
        ) from error


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return what a forward takes that is no tensor, such as a number of steps, with its default."""
    taken = inspect.signature(module.forward).parameters
    return {name: each.default for name, each in taken.items() if isinstance(each.default, bool | int | float | str)}


def _name(path: str, module: nn.Module) -> str:
    return f"{path} ({type(module).__name__})" if path else type(module).__name__


class _Reader:
    """Reads a graph's nodes in their order."""

    def __init__(
        self, module: nn.Module, path: str, axes: int, time_axis: int | None = None, loop: Loop | None = None
    ) -> None:
        self.module, self.path, self.axes, self.time_axis, self.loop = module, path, axes, time_axis, loop
        self.readout: Readout | None = None
        self.turned = False
        self.calls: set[str] = set()
        self.found: dict[fx.Node, Value | State | Any] = {}

    def refused(self, node: fx.Node, what: str, hint: str = "") -> ImportRefused:
        """Return an error that says where in the forward it is."""
        where = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        return ImportRefused(f"{_name(self.path, self.module)}: {where} in its forward {what}", hint)

    def read(self, graph: fx.Graph, shape: Shape) -> Chain:
        """Return the chain from the first input to the (first) output."""
        start: Value | None = None
        for node in graph.nodes:
            if node.op == "placeholder":
                if start is None:
                    start = Value(node, shape, [])
                    self.found[node] = start
                else:
                    self.found[node] = State()
            elif node.op == "output":
                return self._between(start, self._answer(node))
            elif self.loop is not None and self.loop.label.get(node, 0):
                # A later step: as the first one, which is read.
                self.found[node] = self.found[self.loop.first[node]]
            elif self.loop is not None and self.loop.axis is not None and _takes_step(node, start):
                assert start is not None
                self.found[node] = Value(node, shape, [start])
            else:
                self.found[node] = self._value(node)
        raise ImportRefused(f"{_name(self.path, self.module)}: its forward gives nothing")

    def _answer(self, node: fx.Node) -> Value:
        given: Any = node.args[0]
        if isinstance(given, tuple | list):
            values = [self.found[each] for each in given if isinstance(each, fx.Node)]
            if not values or any(isinstance(each, Value) for each in values[1:]):
                raise self.refused(node, "gives several values that are no states of neurons")
            given = given[0]
        found = self.found.get(given) if isinstance(given, fx.Node) else None
        if isinstance(found, State):
            raise self.refused(node, "gives what neurons carry (membranes, or sizes) first, not what they give")
        if not isinstance(found, Value):
            raise self.refused(node, "gives nothing that comes from its input")
        if self.loop is not None and self.readout is None and given in self.loop.label:
            if self.loop.label[given] != self.loop.steps - 1:
                raise self.refused(node, f"gives the output of step {self.loop.label[given] + 1} alone")
            self.readout = "last"
        if self.loop is not None and self.loop.axis is not None and self.readout is None:
            self.turned = self.time_axis != self.loop.axis
            if self.turned and self.time_axis != 0:
                raise self.refused(node, "gives [B, T, ...] of a window [T, B, ...]")
        return found

    # ------------------------------------------------------------------------------------------------- a node's value

    def _value(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self._stored(node)
        if node.op == "call_module":
            return self._of_module(node)
        values = [each for each in self._inputs(node) if isinstance(each, Value)]
        if not values:
            # Sizes, and what is made of states alone.
            return State()
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        if node.target is operator.getitem or name == "getitem":
            return self._piece(node, values[0])
        if name == "stack" and self.loop is not None:
            return self._stacked(node)
        if name in _OVER_TIME and (gathered := self._gathered(node, values[0], str(name))):
            return gathered
        if name == "getattr" and node.args[1] == "values" and values[0].pieces:
            return Value(node, values[0].shape, [values[0]])
        if name in ("truediv", "div") and self.loop is not None and self._divides_sum(node):
            self.readout = "mean"
            return Value(node, values[0].shape, [values[0]])
        if self.readout not in (None, "last"):
            raise self.refused(node, f"comes behind the {self.readout} over time, which must be the last")
        rule = OPERATIONS.get(str(name).removesuffix("_"))
        if rule is None or any(each.pieces for each in values):
            raise self.refused(node, "is no layer of a stack", _HINTS.get(str(name), ""))
        return rule(self, node, values[0])

    def _inputs(self, node: fx.Node) -> list[Any]:
        return [self.found[each] for each in node.all_input_nodes]

    def _stored(self, node: fx.Node) -> Any:
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, Tensor) and not value.any():
            return State()
        raise self.refused(node, "takes a parameter or buffer of its own, outside any layer")

    def _of_module(self, node: fx.Node) -> Value:
        name = str(node.target)
        inner = self.module.get_submodule(name)
        if name in self.calls and not is_bare(inner):
            raise self.refused(node, "is run more than once at a step")
        self.calls.add(name)
        if self.readout is not None and (self.readout != "last" or _carries_on(inner)):
            raise self.refused(node, f"comes behind the {self.readout} over time, where nothing may carry on")
        first = self.found.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        if not isinstance(first, Value) or first.pieces:
            raise self.refused(node, "does not take one value that comes from the input")
        others = [self.found[each] for each in node.all_input_nodes[1:]]
        if not all(isinstance(each, State) for each in others):
            raise self.refused(node, "takes other values beside its input that are no states of neurons")
        path = f"{self.path}.{name}" if self.path else name
        chain = take(inner, path, first.shape, self.axes)
        tuples = _gives_tuple(inner)
        return Value(node, after(chain, first.shape, path), [first], chain=chain, pieces=tuples)

    def _piece(self, node: fx.Node, value: Value) -> Any:
        if not value.pieces:
            if self.time_axis is not None and index_of(node, value.node) == (-1, self.time_axis):
                self.readout, self.axes = "last", 1
                return Value(node, value.shape, [value])
            raise self.refused(node, "takes a part of a value (a loop over time must have two steps or more)")
        return Value(node, value.shape, [value]) if node.args[1] == 0 else State()

    def _stacked(self, node: fx.Node) -> Value | State:
        """Return what a forward collects of all its steps."""
        assert self.loop is not None
        rows: Any = node.args[0]
        labels = [self.loop.label.get(each) for each in rows]
        axis = argument(node, 1, "dim", 0)
        if labels != list(range(self.loop.steps)) or axis not in (0, 1):
            raise self.refused(node, "stacks other values than one of every step in order, along axis 0 or 1")
        found = self.found[rows[0]]
        if isinstance(found, State):
            return found
        self.time_axis = axis
        return Value(node, found.shape, [found])

    def _divides_sum(self, node: fx.Node) -> bool:
        """Whether a node makes the mean of a sum over the steps of a loop, which are always as many."""
        steps = self.loop.steps if self.loop is not None and self.loop.axis is None else 0
        by: Any = node.args[1] if len(node.args) == 2 and not node.kwargs else None
        return self.readout == "sum" and isinstance(by, int | float) and by == steps

    def _gathered(self, node: fx.Node, value: Value, name: str) -> Value | None:
        axis = argument(node, 1, "dim", node.kwargs.get("axis"))
        if self.time_axis is None or axis not in (self.time_axis, self.time_axis - self.axes - len(value.shape)):
            return None
        if self.readout is not None or argument(node, 2, "keepdim", False):
            raise self.refused(node, "comes behind another readout over time, or keeps its axis")
        self.readout = _OVER_TIME[name]
        return Value(node, value.shape, [value], pieces=name == "max")

    # -------------------------------------------------------------------------------------- branches that come together

    def _between(self, start: Value | None, end: Value) -> Chain:
        """Return the chain from one value to another.

        Raises:
            ImportRefused: branches cross each other.
        """
        assert start is not None
        self.used: set[int] = set()
        return self._chain(start, end)

    def _chain(self, start: Value, end: Value) -> Chain:
        if end is start:
            return []
        if id(end) in self.used:
            raise self.refused(end.node, "is used in two places whose branches cross")
        if end.chain or end.how != "chain":
            self.used.add(id(end))
        if end.how == "chain":
            return [*self._chain(start, end.before[0]), *end.chain]
        fork = _meeting(end.before)
        if fork is None:
            raise self.refused(end.node, "puts together values that have nothing in common")
        branches = [self._chain(fork, each) for each in end.before]
        if end.how == "residual":
            branches.sort(key=len, reverse=True)
            if not branches[0]:
                return [*self._chain(start, fork), Part({"scale": 2.0})]
        elif not all(branches):
            branches = [branch or [Part({"scale": 1.0})] for branch in branches]
        how: Any = end.how
        return [*self._chain(start, fork), Branches(how, branches, self.path)]


_OVER_TIME: dict[str, Readout] = {"sum": "sum", "mean": "mean", "amax": "max", "max": "max"}
"""Functions that read out values over time."""
_LATER = "give the network without it, and let the loss or whoever reads the answer do it"
_REPEAT = "hand over the part that takes one step, or a window [T, B, ...], and repeat its input yourself"
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


def _ancestors(value: Value) -> list[Value]:
    """Return the values that every path from the input to this one goes through, this one first."""
    found = [value]
    while value.before:
        value = value.before[0] if len(value.before) == 1 else _must(_meeting(value.before))
        found.append(value)
    return found


def _must(value: Value | None) -> Value:
    assert value is not None
    return value


def _meeting(values: list[Value]) -> Value | None:
    """Return the last value that all paths to all of some values go through."""
    first, *others = (_ancestors(each) for each in values)
    return next((each for each in first if all(any(each is one for one in other) for other in others)), None)
