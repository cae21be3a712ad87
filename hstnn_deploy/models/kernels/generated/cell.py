"""One step of recurrent units as a graph: what `graph` is to neurons, with the product of a state and one weight.

Gates are told apart by their number: a drive [B, gates, n] is one node a gate, and so is a product.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.models.kernels.generated.graph import Graph, Node, Noted, Operand, Value
from hstnn_deploy.models.kernels.generated.reverse import gradients_of, reached

Step = Callable[..., Any]
"""A cell: from a reading, a drive, the states, a weight and perhaps a bias to what is handed out and the states."""


class _Gates(Value):
    """A value of each gate."""

    __slots__ = ("each",)

    def __init__(self, each: Sequence[Value]) -> None:
        super().__init__()
        self.each = list(each)


class _NotedCell(Noted):
    """See above. Sums and gates differ from torch's in the last bits, as its own do from one size to another."""

    def __init__(self, gates: int | None, weight: Tensor) -> None:
        super().__init__()
        self._gates, self._weight = gates, weight

    def gated(self, op: str, *args: int) -> Value:
        """Return a value that each gate has."""
        if self._gates is None:
            return Value(self.nodes.add(op, *args, what=0))
        return _Gates([Value(self.nodes.add(op, *args, what=gate)) for gate in range(self._gates)])

    @override
    def add(self, a: Operand, b: Operand, name: str = "") -> Value:
        if isinstance(a, _Gates) and isinstance(b, _Gates):
            return _Gates([self.add(one, other) for one, other in zip(a.each, b.each, strict=True)])
        return super().add(a, b, name)

    @override
    def sigmoid(self, a: Value, name: str = "") -> Value:
        return Value(self.nodes.add("sigmoid", a.place))

    @override
    def tanh(self, a: Value, name: str = "") -> Value:
        return Value(self.nodes.add("tanh", a.place))

    def product(self, x: Value, weight: Tensor, name: str = "") -> Value:  # type: ignore[override]
        """See `Algebra`: of a state and the cell's own weight."""
        assert weight is self._weight
        return self.gated("product", x.place)

    def parts(self, x: Value, count: int, name: str = "") -> list[Value]:  # type: ignore[override]
        """See `Algebra`."""
        assert isinstance(x, _Gates)
        return x.each


@functools.lru_cache(64)
def noted(step: Step, gates: int | None, states: tuple[str, ...], bias: bool | None) -> Graph:
    """Return one step of recurrent units; their one operand is the bias.

    Args:
        step: the cell.
        gates: how many its drive [B, gates, n] and weight [n, gates, n] have; None: [B, n] and [n, n].
        states: what it carries, first what it hands out.
        bias: whether it is given one; None: it takes none.
    """
    # Two: of one number, a graph would think that all units share it.
    weight, own = torch.empty(0), () if bias is None else (torch.empty(2) if bias else None,)
    o = _NotedCell(gates, weight)
    before = {name: Value(o.nodes.add("state", what=name)) for name in states}
    _, after = step(o, o.gated("drive"), before, weight, *own)
    places = tuple((name, after[name].place) for name in states)
    return Graph(tuple(o.nodes.all), places[0][1], places, (True,) * len(o.operands))


@dataclass(frozen=True)
class Back:
    """One step of recurrent units backward."""

    nodes: tuple[Node, ...]
    """Those of the step, and those of its gradients."""
    drives: tuple[int, ...]
    """The gradient of each gate's drive."""
    products: tuple[int, ...]
    """That of each gate's product."""
    states: tuple[tuple[str, int | None], ...]
    """Those of the states before the step, but for what comes through the product."""
    operands: tuple[tuple[int, int], ...]
    """Those of what is learned: which, and the gradient at one unit."""
    multiplied: str
    """The state that is multiplied."""
    kept: tuple[int, ...]
    """What forward keeps of every step, beside the states."""

    @property
    def apart(self) -> bool:
        """Whether the gradients of products are not those of the drive."""
        return self.drives != self.products


@functools.lru_cache(64)
def back(graph: Graph, learned: tuple[int, ...]) -> Back:
    """Return the step backward; `learned`: which operands have a gradient."""
    ends = [(place, Node("later", what=name)) for name, place in graph.after]
    nodes, found = gradients_of(graph, ends, frozenset(learned))
    all_ = tuple(nodes.all)

    def of(op: str) -> list[tuple[Any, int]]:
        return [(node.what, place) for place, node in enumerate(graph.nodes) if node.op == op]

    drives, products = (tuple(found[place] for _, place in of(op)) for op in ("drive", "product"))
    states = tuple((name, found.get(place)) for name, place in of("state"))
    operands = tuple((n, found[place]) for n, place in of("operand") if n in learned)
    ((multiplied,),) = {graph.nodes[place].args for _, place in of("product")}
    roots = (*drives, *products, *(place for _, place in states if place is not None), *(g for _, g in operands))
    kept = _kept(graph, all_, roots)
    return Back(all_, drives, products, states, operands, graph.nodes[multiplied].what, kept)


def _kept(graph: Graph, nodes: tuple[Node, ...], roots: Iterable[int]) -> tuple[int, ...]:
    """Return the values that gradients are computed from, but those that others and the states give."""
    there = {place for _, place in graph.after} | {n for n, node in enumerate(graph.nodes) if node.op == "state"}
    step = range(len(graph.nodes))
    wanted = [place for place in reached(nodes, roots, {*step}) if place in step and place not in there]
    kept = [place for place in wanted if nodes[place].op not in ("const", "operand")]
    for place in sorted(kept, reverse=True):
        known = there.union(kept) - {place}
        if all(nodes[n].op not in ("drive", "product") for n in reached(nodes, [place], known)):
            kept.remove(place)
    return tuple(sorted(kept))
