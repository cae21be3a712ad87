"""The reading of a step that notes it: a short graph of operations, each on single numbers of one unit.

What a layer has learned or holds itself is known before the window: operations on it alone are run by torch at once,
and only what meets the input or a state becomes part of the graph. So autograd takes its gradients the rest of the way.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

from pydantic import BaseModel
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, Fires
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.surrogates import Surrogate

Where = tuple[int, int]
"""Of a node, its operation's place among others; see `Nodes`."""


class Node(NamedTuple):
    """One operation on the values of others, which stand before it."""

    op: str
    """An operation; or where a value comes from: const, operand, drive, state, gradient of what is handed out (given),
    gradient of a state after the step (later)."""
    args: tuple[int, ...] = ()
    what: Any = None
    """A constant's number, an operand's place, a state's name, or how a neuron fires and its surrogate."""


class Nodes:
    """Nodes in an order in which they can be computed; what was noted before is not noted twice."""

    def __init__(self, nodes: tuple[Node, ...] = ()) -> None:
        self.all = list(nodes)
        # By its text: -0.0 and 0.0 are equal, and not the same.
        self._places = {repr(node): place for place, node in enumerate(nodes)}

    def add(self, op: str, *args: int, what: Any = None) -> int:
        """Return the place of an operation."""
        node = Node(op, args, what)
        place = self._places.setdefault(repr(node), len(self.all))
        if place == len(self.all):
            self.all.append(node)
        return place

    def const(self, number: float) -> int:
        """Return the place of a number."""
        return self.add("const", what=float(number))


@dataclass(frozen=True)
class Graph:
    """One step."""

    nodes: tuple[Node, ...]
    emitted: int
    """What is handed out."""
    after: tuple[tuple[str, int], ...]
    """Each state after the step."""
    operands: tuple[bool, ...]
    """What the layer has of its own: whether each unit has one of it."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once: at every call of a kernel, graphs are looked up."""
        return hash((self.nodes, self.emitted, self.after, self.operands))

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The names of what is carried."""
        return tuple(name for name, _ in self.after)


class Value:
    """A value of the graph, or one that is known before the window."""

    __slots__ = ("known", "place")

    def __init__(self, place: int = -1, known: Tensor | None = None) -> None:
        self.place, self.known = place, known


Operand = Value | float
_LACKS = "kernels that are written from a step"


class Noted(Algebra[Value]):
    """See above."""

    reads = "a kernel that is written from a step"

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.operands: list[Tensor] = []

    def _place(self, a: Operand) -> int:
        if not isinstance(a, Value):
            return self.nodes.const(a)
        if a.known is None:
            return a.place
        if not any(a.known is each for each in self.operands):
            self.operands.append(a.known)
        (number,) = (n for n, each in enumerate(self.operands) if each is a.known)
        return self.nodes.add("operand", what=number)

    def _do(self, op: str, *args: Operand, what: Any = None) -> Value:
        """Note an operation, or run it where everything is known."""
        if all(not isinstance(a, Value) or a.known is not None for a in args):
            known: Tensor | float = getattr(Eager(), op)(*(a.known if isinstance(a, Value) else a for a in args))
            return Value(known=known) if isinstance(known, Tensor) else Value(self.nodes.const(known))
        return Value(self.nodes.add(op, *map(self._place, args), what=what))

    @override
    def add(self, a: Operand, b: Operand, name: str = "") -> Value:
        return self._do("add", a, b)

    @override
    def sub(self, a: Operand, b: Operand, name: str = "") -> Value:
        return self._do("sub", a, b)

    @override
    def mul(self, a: Operand, b: Operand, name: str = "") -> Value:
        return self._do("mul", a, b)

    def mul_add(self, a: Value, b: Operand, c: Operand) -> Value:
        """Return a * b + c, rounded once where the processor can: for kernels that do what torch does so."""
        return self._do("mul_add", a, b, c)

    @override
    def sigmoid(self, a: Value, name: str = "") -> Value:
        """Of what is known alone: what a kernel could compute has other last bits than torch's."""
        return self._do("sigmoid", a) if a.known is not None else self.lacks("a sigmoid")

    @override
    def tanh(self, a: Value, name: str = "") -> Value:
        """Of what is known alone."""
        return self._do("tanh", a) if a.known is not None else self.lacks("a tanh")

    @override
    def relu(self, a: Value, name: str = "") -> Value:
        if a.known is not None:
            return self._do("relu", a)
        return Value(self.nodes.add("at_least", a.place, self.nodes.const(0.0)))

    @override
    def clip(self, a: Value, low: float | None, high: float | None, name: str = "") -> Value:
        if a.known is not None:
            return Value(known=Eager().clip(a.known, low, high))
        place = a.place
        if low is not None:
            place = self.nodes.add("at_least", place, self.nodes.const(low))
        if high is not None:
            place = self.nodes.add("at_most", place, self.nodes.const(high))
        return Value(place)

    @override
    def parameter(self, value: Tensor) -> Value:
        return Value(known=value)

    @override
    def spike(
        self,
        membrane: Value,
        threshold: Operand,
        surrogate: Surrogate,
        name: str = "spikes",
        fires: Fires = "above",
    ) -> Value:
        return Value(
            self.nodes.add("spike", self._place(membrane), self._place(threshold), what=(fires, Surrogate(*surrogate)))
        )

    @override
    def fixed(self, a: Value) -> Value:
        return Value(known=a.known.detach()) if a.known is not None else Value(self.nodes.add("fixed", a.place))

    def _no(self, *_: Any, **__: Any) -> NoReturn:
        self.lacks("an operation that takes more than single numbers of a unit")

    share = product = linear = linear_at_each = convolve = normalise = dropout = embed = _no
    parts = concat = pool = flatten = vote = total = length = loop = _no


def noted(neuron: Any, own: Mapping[str, Tensor] | None) -> tuple[Graph, list[Tensor]]:
    """Return one step of neurons, and the operands that it takes.

    Args:
        neuron: with `states` and a `step`.
        own: what the layer holds itself, see `Lif.fresh`.

    Raises:
        Unreadable: the step has an operation that a kernel does not.
    """
    o, names = Noted(), list(neuron.states)
    drive = Value(o.nodes.add("drive"))
    state = {name: Value(o.nodes.add("state", what=name)) for name in names}
    emitted, after = neuron.step(o, drive, state, own=own)
    places = tuple((name, o._place(after[name])) for name in names)
    operands = tuple(each.numel() != 1 for each in o.operands)
    return Graph(tuple(o.nodes.all), o._place(emitted), places, operands), o.operands


def remembered(neuron: Any, own: Mapping[str, Tensor] | None) -> tuple[Graph, list[Tensor]]:
    """Return what `noted` does; of a configuration whose layer holds nothing itself, noted once.

    A step that is a user's own is noted each time: it may read what has changed since.
    """
    return noted(neuron, own) if own or not isinstance(neuron, BaseModel) else (_of(_Same(neuron)), [])


class _Same:
    """A neuron's configuration, told from others by which it is: it never changes, and has no hash."""

    def __init__(self, neuron: Any) -> None:
        self.neuron = neuron

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.neuron is other.neuron

    def __hash__(self) -> int:
        return id(self.neuron)


@functools.lru_cache(256)
def _of(same: _Same) -> Graph:
    graph, _ = noted(same.neuron, None)
    return graph
