"""A step backward: the graph of its gradients, and which values of the way there are kept for it.

Gradients are those of torch for the same operations, term by term; where a value goes to two places their sum has the
same bits, and where it goes to more the same up to the order of additions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hstnn_deploy.models.kernels.generated.graph import Graph, Node, Nodes

LEAVES = frozenset({"const", "operand", "drive", "state", "given", "later"})

_MANY = 64
"""Values of a step up to which every three of them are tried as what is kept; of more, every two."""


@dataclass(frozen=True)
class Backward:
    """One step backward."""

    nodes: tuple[Node, ...]
    """Those of the step, and those of its gradients."""
    drive: int | None
    """The gradient of the input; None: it has none."""
    states: tuple[tuple[str, int | None], ...]
    """Those of the states before the step."""
    operands: tuple[tuple[int, int], ...]
    """Those of what is learned: which, and the gradient at one unit."""
    kept: tuple[int, ...]
    """What forward keeps of every step."""


def backward(graph: Graph, learned: Iterable[int], packed: bool = False) -> Backward:
    """Return a step backward.

    Args:
        graph: the step.
        learned: which operands have a gradient.
        packed: whether what is 0 or 1 is kept as a bit; see `bits`.
    """
    learned = frozenset(learned)
    ends = [(place, Node("later", what=name)) for name, place in graph.after] + [(graph.emitted, Node("given"))]
    nodes, gradients = gradients_of(graph, ends, learned)
    by_node = {(node.op, node.what): gradients.get(place) for place, node in enumerate(graph.nodes)}
    states = tuple((name, by_node.get(("state", name))) for name in graph.states)
    operands = tuple((n, found) for n in sorted(learned) if (found := by_node.get(("operand", n))) is not None)
    result = Backward(tuple(nodes.all), by_node[("drive", None)], states, operands, ())
    kept = _kept_packed(graph, result) if packed else _kept(graph, result)
    return Backward(result.nodes, result.drive, states, operands, kept)


def gradients_of(
    graph: Graph, ends: Iterable[tuple[int, Node]], learned: frozenset[int]
) -> tuple[Nodes, dict[int, int]]:
    """Return the nodes of a step and of its gradients, and where the gradient of each node is that has one.

    Args:
        graph: the step.
        ends: nodes to which gradients come from outside, and from where.
        learned: which operands have a gradient.
    """
    nodes, moves = Nodes(graph.nodes), _moving(graph, learned)
    gradients: dict[int, int] = {}

    def give(place: int, gradient: Callable[[], int]) -> None:
        if place in moves:
            found = gradient()
            gradients[place] = nodes.add("add", gradients[place], found) if place in gradients else found

    for place, source in ends:
        give(place, lambda source=source: nodes.add(source.op, *source.args, what=source.what))  # type: ignore[misc]
    for place in range(len(graph.nodes) - 1, -1, -1):
        if place in gradients:
            _through(nodes, graph.nodes[place], gradients[place], give)
    return nodes, gradients


def _moving(graph: Graph, learned: frozenset[int]) -> set[int]:
    """Return the nodes to which a gradient goes."""
    found: set[int] = set()
    for place, node in enumerate(graph.nodes):
        is_leaf = node.op in ("drive", "state") or (node.op == "operand" and node.what in learned)
        if is_leaf or (node.op != "fixed" and not found.isdisjoint(node.args)):
            found.add(place)
    return found


def _through(nodes: Nodes, node: Node, g: int, give: Callable[[int, Callable[[], int]], None]) -> None:
    """Give the gradient of a node to its arguments."""
    match node.op, node.args:
        case "add", (a, b):
            give(a, lambda: g)
            give(b, lambda: g)
        case "sub", (a, b):
            give(a, lambda: g)
            give(b, lambda: nodes.add("neg", g))
        case "mul", (a, b):
            give(a, lambda: nodes.add("mul", g, b))
            give(b, lambda: nodes.add("mul", g, a))
        case ("at_least" | "at_most") as op, (a, bound):
            give(a, lambda: nodes.add("where_above" if op == "at_least" else "where_below", g, a, bound))
        case "sigmoid", (a,):
            y = nodes.add("sigmoid", a)
            give(a, lambda: nodes.add("mul", g, nodes.add("mul", nodes.add("sub", nodes.const(1.0), y), y)))
        case "tanh", (a,):
            y = nodes.add("tanh", a)
            give(a, lambda: nodes.add("mul", g, nodes.add("sub", nodes.const(1.0), nodes.add("mul", y, y))))
        case "spike", (m, threshold):
            distance = Slope(nodes, nodes.add("sub", m, threshold))
            _, surrogate = node.what
            slope: Any = surrogate.times(Slope(nodes, g), distance)
            give(m, lambda: slope.place)
            give(threshold, lambda: nodes.add("neg", slope.place))


class Slope:
    """What a surrogate sees in the place of tensors, so that its one definition writes its slope here too."""

    dtype = None

    def __init__(self, nodes: Nodes, place: int) -> None:
        self._nodes, self.place = nodes, place

    def _other(self, other: Any) -> int:
        return other.place if isinstance(other, Slope) else self._nodes.const(other)

    def _do(self, op: str, *args: int) -> "Slope":
        return Slope(self._nodes, self._nodes.add(op, *args))

    def __add__(self, other: Any) -> "Slope":
        return self._do("add", self.place, self._other(other))

    def __radd__(self, other: Any) -> "Slope":
        return self._do("add", self._other(other), self.place)

    def __rsub__(self, other: Any) -> "Slope":
        return self._do("sub", self._other(other), self.place)

    def __mul__(self, other: Any) -> "Slope":
        return self._do("mul", self.place, self._other(other))

    def __rmul__(self, other: Any) -> "Slope":
        return self._do("mul", self._other(other), self.place)

    def __truediv__(self, other: Any) -> "Slope":
        return self._do("div", self.place, self._other(other))

    def __neg__(self) -> "Slope":
        return self._do("neg", self.place)

    def __lt__(self, other: Any) -> "Slope":
        return self._do("below", self.place, self._other(other))

    def abs(self) -> "Slope":
        """Return |a|."""
        return self._do("abs", self.place)

    def exp(self) -> "Slope":
        """Return e^a."""
        return self._do("exp", self.place)

    def sigmoid(self) -> "Slope":
        """Return 1 / (1 + e^-a)."""
        return self._do("sigmoid", self.place)

    def square(self) -> "Slope":
        """Return a^2."""
        return self._do("mul", self.place, self.place)

    def clamp(self, min: float) -> "Slope":
        """Return the larger of a and a number."""
        return self._do("at_least", self.place, self._nodes.const(min))

    def detach(self) -> "Slope":
        """Return a: it is a number here."""
        return self

    def to(self, _: None) -> "Slope":
        """Return a: what compares gives numbers here."""
        return self


def roots(step: Backward) -> list[int]:
    """Return what is computed on the way back."""
    found = [step.drive, *(place for _, place in step.states), *(place for _, place in step.operands)]
    return [place for place in found if place is not None]


def reached(nodes: tuple[Node, ...], places: Iterable[int], known: Iterable[int]) -> Iterator[int]:
    """Yield the nodes that are needed to compute some, those that are known among them, and none behind these."""
    seen: set[int] = set()
    stack, known = list(places), frozenset(known)
    while stack:
        place = stack.pop()
        if place not in seen:
            seen.add(place)
            yield place
            stack += () if place in known else nodes[place].args


def wanted_before(graph: Graph, step: Backward, kept: Iterable[int]) -> dict[str, int]:
    """Return the states before the step that are needed on the way back, and where each was made the step before."""
    after: Mapping[str, int] = dict(graph.after)
    kept = frozenset(kept)
    names = [
        step.nodes[place].what
        for place in reached(step.nodes, roots(step), kept)
        if step.nodes[place].op == "state" and place not in kept
    ]
    return {name: after[name] for name in sorted(names)}


def _enough(graph: Graph, step: Backward, kept: tuple[int, ...]) -> bool:
    """Whether the way back can be computed from what is kept of this step and of the one before."""
    gone = frozenset({"drive", "state"})
    for place in reached(step.nodes, roots(step), kept):
        if step.nodes[place].op == "drive" and place not in kept:
            return False
    before = wanted_before(graph, step, kept).values()
    return not any(step.nodes[place].op in gone and place not in kept for place in reached(step.nodes, before, kept))


def _kept(graph: Graph, step: Backward) -> tuple[int, ...]:
    """Return what moves the fewest bytes: what is handed out is there anyway, all else is written and read."""
    candidates = [n for n, node in enumerate(graph.nodes) if node.op not in ("const", "operand", "fixed")]
    everything = tuple(n for n in candidates if graph.nodes[n].op in ("drive", "state"))

    def cost(kept: tuple[int, ...]) -> tuple[int, int]:
        return sum(1 if place == graph.emitted else 2 for place in kept), len(kept)

    found = (
        kept
        for size in range(min(4, len(everything)))
        for kept in combinations(candidates, size)
        if _enough(graph, step, kept)
    )
    return min(found, key=cost, default=everything)


def bits(step: Backward, places: Iterable[int]) -> tuple[int, ...]:
    """Return those of some nodes that are 0 or 1: whether a neuron fires, and whether a slope is one or none."""
    return tuple(place for place in places if _is_bit(step.nodes[place]))


def _is_bit(node: Node) -> bool:
    return node.op == "below" or (node.op == "spike" and node.what[0] != "several")


def _kept_packed(graph: Graph, step: Backward) -> tuple[int, ...]:
    """Return what moves the fewest bits, where a bit is kept as one.

    The input and what is handed out are there anyway, and are read; all else is written and read, in single precision.
    """
    there = [n for n, node in enumerate(graph.nodes) if node.op not in ("const", "operand", "fixed")]
    slopes = [n for n in bits(step, range(len(graph.nodes), len(step.nodes))) if _there_before(step.nodes, n)]
    everything = tuple(n for n in there if graph.nodes[n].op in ("drive", "state"))

    def cost(kept: tuple[int, ...]) -> tuple[int, int]:
        anyway = {graph.emitted, *(n for n in kept if step.nodes[n].op == "drive")}
        each = (2 if _is_bit(step.nodes[n]) else 32 if n in anyway else 64 for n in kept)
        return sum(each), len(kept)

    candidates = [*there, *slopes]
    best, least = everything, cost(everything)
    for size in range(4 if len(candidates) <= _MANY else 3):
        for kept in combinations(candidates, size):
            if (price := cost(kept)) < least and _enough(graph, step, kept):
                best, least = kept, price
    return best


def _there_before(nodes: tuple[Node, ...], place: int) -> bool:
    """Whether a node can be computed on the way forward."""
    return all(nodes[n].op not in ("given", "later") for n in reached(nodes, [place], ()))
