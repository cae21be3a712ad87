"""The structure of a NIR graph: which nodes follow one another, run side by side, or see their own spikes.

Sub-graphs are taken apart. A layer of spiking neurons whose spikes come back through one node of weights is a
recurrence; any other cycle is refused. What is left must be a series-parallel network: it is reduced, edge by edge, to
one edge from input to output (Valdes, Tarjan and Lawler, 1982). Where edges meet, NIR adds.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.graph.nir_file import Graph, Node
from hstnn_deploy.foreign import brief

SPIKING = ("LIF", "IF", "CubaLIF", "Threshold")
WEIGHTS = ("Affine", "Linear", "Scale", "Conv1d", "Conv2d")
"""Types of nodes through which a layer of neurons may see its own spikes."""
PASS = "pass"
"""The type of what hands on its input: the ends of a sub-graph, and where edges meet."""
_DEEPEST = 20
"""Blocks within blocks, as in a recipe."""
_MEETINGS = 256
"""Nodes that add outputs which others add as well."""

Edge = tuple[str, str]


class Branches(NamedTuple):
    """Nodes beside others, or beside nothing; their outputs are added."""

    body: "list[str | Branches]"
    shortcut: "list[str | Branches]"


class Order(NamedTuple):
    """A graph in the order in which a stack can run it."""

    nodes: dict[str, Node]
    before: dict[str, list[str]]
    """Whose outputs come into each, in an order in which all of them have run."""
    seen: dict[str, str | None]
    """Of neurons that see their own spikes: through which node; None: as they are."""
    steps: list[str | Branches]
    """Nodes and blocks one behind the other."""
    source: str
    sink: str


def in_order(graph: Graph) -> Order:
    """Return a graph as a stack can run it.

    Raises:
        DataError: an edge leads to no node, or appears twice.
        ExportError: the graph is no such stack; the message names a node.
    """
    nodes, edges = _flat(graph, "")
    source, sink = _only(graph, "Input"), _only(graph, "Output")
    edges = _without_passes(nodes, edges)
    seen, edges = _recurrences(nodes, edges)
    before = _sorted(nodes, edges, set(seen.values()))
    _check_between(nodes, edges, before, source, sink)
    steps = _reduced(_with_meetings(edges), source, sink)
    return Order(nodes, before, seen, steps, source, sink)


def _only(graph: Graph, kind: str) -> str:
    found = [name for name, node in graph.nodes.items() if isinstance(node, Node) and node.kind == kind]
    if len(found) != 1:
        named = f" ({', '.join(map(brief, sorted(found)[:4]))})" if found else ""
        raise ExportError(f"the graph has {len(found)} {kind.lower()}s{named}; a stack has one")
    return found[0]


def _flat(graph: Graph, place: str) -> tuple[dict[str, Node], list[Edge]]:
    """Return nodes and edges without sub-graphs, whose nodes are named behind them."""
    nodes: dict[str, Node] = {}
    found: dict[str, Node]
    ends: dict[str, tuple[str, str]] = {}
    inner: list[Edge] = []
    for name, node in graph.nodes.items():
        full = f"{place}{name}"
        if isinstance(node, Node):
            found = {full: node}
        else:
            found, edges = _flat(node, f"{full}.")
            try:
                first, last = (f"{full}.{_only(node, kind)}" for kind in ("Input", "Output"))
            except ExportError as error:
                raise ExportError(f"sub-graph {brief(full)}: {error.message}") from error
            found |= {end: Node(PASS, {}) for end in (first, last)}
            ends[full], inner = (first, last), inner + edges
        if both := nodes.keys() & found.keys():
            raise DataError(f"two nodes are named {brief(min(both))}, one of them in a sub-graph")
        nodes |= found
    own = []
    for a, b in graph.edges:
        source, target = (
            ends.get(f"{place}{a}", ("", f"{place}{a}"))[1],
            ends.get(f"{place}{b}", (f"{place}{b}", ""))[0],
        )
        if source not in nodes or target not in nodes:
            raise DataError(f"an edge leads from {brief(a)} to {brief(b)}, but one of them is not a node")
        own.append((source, target))
    if twice := [edge for edge, count in Counter(own).items() if count > 1]:
        raise DataError(f"the edge from {brief(twice[0][0])} to {brief(twice[0][1])} appears twice")
    return nodes, own + inner


def _around(edges: list[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return what stands before each node, and what behind it."""
    before, after = defaultdict(list), defaultdict(list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _without_passes(nodes: dict[str, Node], edges: list[Edge]) -> list[Edge]:
    """Join what stands before and behind the ends of sub-graphs, where that changes no sum."""
    for name in [name for name, node in nodes.items() if node.kind == PASS]:
        before, after = ([edge[0] for edge in edges if edge[1] == name], [edge[1] for edge in edges if edge[0] == name])
        if name in before or (len(before) != 1 and len(after) != 1):
            continue
        del nodes[name]
        # In the place of the edges that they were: the order says which branch is a block's first.
        edges = [
            new
            for edge in edges
            for new in (
                [(edge[0], target) for target in after]
                if edge[1] == name and len(before) == 1
                else [(source, edge[1]) for source in before]
                if edge[0] == name and len(before) != 1
                else [edge]
            )
            if name not in new
        ]
    return edges


def _recurrences(nodes: dict[str, Node], edges: list[Edge]) -> tuple[dict[str, str | None], list[Edge]]:
    """Return through what neurons see their own spikes, and the edges without that."""
    before, after = _around(edges)
    seen: dict[str, str | None] = {}
    for name, node in nodes.items():
        if node.kind not in SPIKING:
            continue
        loops: list[str | None] = [None] if name in before[name] else []
        loops += [
            each
            for each in before[name]
            if nodes[each].kind in WEIGHTS and before[each] == [name] and after[each] == [name]
        ]
        if len(loops) > 1:
            raise ExportError(f"node {brief(name)} sees its own spikes in {len(loops)} ways; hstnn reads one")
        if loops:
            seen[name] = loops[0]
    gone = {(name, each or name) for name, each in seen.items()} | {(each or name, name) for name, each in seen.items()}
    return seen, [edge for edge in edges if edge not in gone]


def _sorted(nodes: dict[str, Node], edges: list[Edge], weights: set[str | None]) -> dict[str, list[str]]:
    """Return what comes into each node, every node behind those."""
    before, after = _around(edges)
    left = {name: len(before[name]) for name in nodes if name not in weights}
    ready, found = [name for name, count in left.items() if not count], dict[str, list[str]]()
    while ready:
        name = ready.pop()
        found[name] = before[name]
        for each in after[name]:
            left[each] -= 1
            if not left[each]:
                ready.append(each)
    if len(found) < len(left):
        # Back along edges, until a node comes again: that one is in the cycle itself.
        name, passed = next(each for each in sorted(left) if each not in found), set[str]()
        while name not in passed:
            passed.add(name)
            name = next(each for each in before[name] if each not in found)
        raise ExportError(
            f"node {brief(name)} is in a cycle that is not a recurrence",
            "hstnn reads spiking neurons whose spikes come back to themselves through one node of weights",
        )
    return found


def _check_between(
    nodes: dict[str, Node], edges: list[Edge], order: dict[str, list[str]], source: str, sink: str
) -> None:
    """Refuse a node that the input does not reach, or that does not reach the output."""
    _, after = _around(edges)
    reached, reaching = {source}, {sink}
    for name in order:
        if name in reached:
            reached.update(after[name])
    for name in reversed(list(order)):
        if name in reaching:
            reaching.update(order[name])
    if left := sorted(set(order) - (reached & reaching)):
        several = nodes[left[0]].kind in ("Input", "Output")
        raise ExportError(f"node {brief(left[0])} is not between input and output" + several * "; a stack has one each")


def _with_meetings(edges: list[Edge]) -> list[Edge]:
    """Put a place where edges meet before nodes that add the same outputs, so that the sum is made once."""
    before, _ = _around(edges)
    sums = {name: set(found) for name, found in before.items() if len(found) > 1}
    often = Counter(each for found in sums.values() for each in found)
    sums = {name: found for name, found in sums.items() if sum(often[each] > 1 for each in found) > 1}
    if len(sums) > _MEETINGS:
        raise ExportError(
            f"node {brief(min(sums))}: edges meet there and at {len(sums) - 1} more nodes that depend on each other"
        )
    number = 0
    while True:
        shared = [
            (len(found), name, [other for other, each in sums.items() if found <= each])
            for name, found in sums.items()
            if len(found) > 1
        ]
        shared = [each for each in shared if len(each[2]) > 1]
        if not shared:
            return edges
        _, name, others = min(shared, key=lambda each: (each[0], each[1]))
        meeting, met = f"\0{number}", sums[name]
        number += 1
        for other in others:
            sums[other] = (sums[other] - met) | {meeting}
        moved = [edge for edge in edges if edge[0] in met and edge[1] in others]
        kept = [(source, meeting) for source, target in moved if target == moved[0][1]]
        at = edges.index(moved[0])
        rest = [edge for edge in edges if edge not in moved]
        edges = rest[:at] + kept + [(meeting, other) for other in others] + rest[at:]


class _Path(NamedTuple):
    steps: list[str | Branches]
    place: int
    """Of its first edge among all."""
    depth: int


def _reduced(edges: list[Edge], source: str, sink: str) -> list[str | Branches]:
    """Return nodes and blocks from source to sink, themselves left out."""
    paths: dict[Edge, _Path] = {}
    before: dict[str, set[str]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)

    def put(a: str, b: str, path: _Path) -> None:
        if (a, b) in paths:
            path = _beside(paths[a, b], path, b)
        paths[a, b] = path
        before[b].add(a)
        after[a].add(b)

    for place, (a, b) in enumerate(edges):
        put(a, b, _Path([], place, 0))
    inner = [name for name in before if name not in (source, sink)]
    while inner:
        name = inner.pop()
        if len(before[name]) != 1 or len(after[name]) != 1:
            continue
        (a,), (b,) = before.pop(name), after.pop(name)
        one, other = paths.pop((a, name)), paths.pop((name, b))
        after[a].discard(name)
        before[b].discard(name)
        own: list[str | Branches] = [] if name.startswith("\0") else [name]
        put(a, b, _Path(one.steps + own + other.steps, min(one.place, other.place), max(one.depth, other.depth)))
        inner += [each for each in (a, b) if each not in (source, sink)]
    if list(paths) != [(source, sink)]:
        left = sorted(each for each in after if after[each] and not each.startswith("\0") and each != source)
        name = left[0] if left else source
        raise ExportError(f"node {brief(name)}: the branches around it do not form nested blocks")
    return paths[source, sink].steps


def _beside(one: _Path, other: _Path, where: str) -> _Path:
    first, second = sorted((one, other), key=lambda path: path.place)
    body, shortcut = (first, second) if first.steps else (second, first)
    what = f"node {brief(where.strip(chr(0)))}"
    if not body.steps:
        raise ExportError(f"{what} adds one output to itself")
    depth = max(one.depth, other.depth) + 1
    if depth > _DEEPEST:
        raise ExportError(f"{what}: blocks are nested more than {_DEEPEST} deep")
    return _Path([Branches(body.steps, shortcut.steps)], first.place, depth)
