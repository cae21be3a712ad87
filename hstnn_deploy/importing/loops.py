"""A forward that goes through time itself, traced for a number of steps: its first step, and whether all are alike."""

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.tree import is_bare, is_neuron

STEP = (
    "give a module whose forward takes one step: x[B, ...] in, what the last layer gives out; neurons keep their "
    "states themselves (snnTorch: init_hidden=True) or take and return them: forward(x, mem1, mem2) -> (y, mem1, mem2)"
)


@dataclass
class Loop:
    """What belongs to which step."""

    steps: int
    axis: int | None
    """Of time, where it takes steps of a window: x[t] of x[T, B, …], or x[:, t] of x[B, T, …]; None: it takes the same
    x[B, …] at every step."""
    label: dict[fx.Node, int] = field(default_factory=dict)
    """The step, from 0; what belongs to none is left out."""
    first: dict[fx.Node, fx.Node] = field(default_factory=dict)
    """Of a node, its counterpart at the first step."""
    sums: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)
    """Of a node that adds up one value of every step, those values in order."""
    within: set[fx.Node] = field(default_factory=set)
    """The additions of such sums before the last."""


def loop_of(graph: fx.Graph, module: nn.Module) -> Loop | None:
    """Return how a traced forward goes through time, or None where it runs each layer of neurons once.

    Raises:
        ImportRefused: its steps are not alike.
    """
    neurons = {name for name, each in module.named_modules() if name and any(map(is_neuron, each.modules()))}
    start = next(node for node in graph.nodes if node.op == "placeholder")
    found = Loop(1, None)
    counts = _label(found, graph, module, start)
    if max((counts.get(name, 0) for name in neurons), default=0) <= 1:
        return None
    found.steps = max(found.label.values()) + 1
    _find_sums(found)
    if found.sums:
        _label(found, graph, module, start)
    found.steps = max(found.label.values()) + 1
    if min(found.label.values()) < 0:
        raise ImportRefused("its forward counts the steps of its input from the end", STEP)
    steps: list[list[fx.Node]] = [[] for _ in range(found.steps)]
    for node, label in found.label.items():
        steps[label].append(node)
    for number, nodes in enumerate(steps):
        if [_kind(node) for node in nodes] != [_kind(node) for node in steps[0]]:
            raise ImportRefused(f"its forward loops over time, but step {number + 1} differs from the first", STEP)
        found.first |= dict(zip(nodes, steps[0], strict=True))
    _check_links(found, steps, start)
    return found


def _label(loop: Loop, graph: fx.Graph, module: nn.Module, start: fx.Node) -> dict[Any, int]:
    """Give nodes the step that they belong to; return how often each module is run."""
    counts: dict[Any, int] = {}
    loop.label = {}
    # What takes the values of all steps belongs to none.
    gathered = {*loop.sums, *loop.within}
    for node in graph.nodes:
        labels = [loop.label[each] for each in node.all_input_nodes if each in loop.label]
        if node.op == "call_module" and not (labels and is_bare(module.get_submodule(str(node.target)))):
            loop.label[node] = counts.get(node.target, 0)
            counts[node.target] = loop.label[node] + 1
        elif (step := index_of(node, start)) is not None:
            loop.label[node], axis = step
            if loop.axis not in (None, axis):
                raise ImportRefused("its forward takes steps along both of the first axes of its input", STEP)
            loop.axis = axis
        elif node in gathered or _named(node) == "stack" or any(each in gathered for each in node.all_input_nodes):
            gathered.add(node)
        elif labels and node.op != "output" and _named(node) not in ZEROS:
            loop.label[node] = max(labels)
    return counts


def _find_sums(loop: Loop) -> None:
    """Find what adds up one value of every step, as `y = y + now` does, from 0 or from the first value on."""
    for last in [node for node, step in loop.label.items() if step == loop.steps - 1]:
        node, terms, within = last, [], []
        for step in range(loop.steps - 1, 0, -1):
            if (parted := _parted(node, step, loop)) is None:
                break
            before, now = parted
            terms.append(now)
            within.append(node)
            node = before
        else:
            begun = _begun(node, loop)
            if begun is not None and len(node.users) == 1:
                within.append(node)
            loop.sums[last] = [node if begun is None else begun, *terms[::-1]]
            loop.within.update(within[1:])


def _parted(node: fx.Node, step: int, loop: Loop) -> tuple[fx.Node, fx.Node] | None:
    """Return what a sum was before a step, and what the step adds to it; None where it is no such sum."""
    if _named(node) not in _ADD or loop.label.get(node) != step or len(node.args) != 2:
        return None
    for before, now in (node.args, node.args[::-1]):
        if isinstance(before, fx.Node) and loop.label.get(before) == step - 1:
            # What else takes a sum of a part of the steps, does not see a sum of all.
            alone = len(before.users) == 1 or (step == 1 and _begun(before, loop) is None)
            if alone and isinstance(now, fx.Node) and loop.label.get(now) == step:
                return before, now
    return None


def _begun(node: fx.Node, loop: Loop) -> fx.Node | None:
    """Return the first value of a sum that begins with 0; None where it begins with the value itself."""
    if _named(node) not in _ADD or len(node.args) != 2:
        return None
    for zero, now in (node.args, node.args[::-1]):
        number = isinstance(zero, int | float) and zero == 0
        # Of stored values, only zeros are read; see `graph`.
        tensor = isinstance(zero, fx.Node) and (zero.op == "get_attr" or _named(zero) in ZEROS)
        if (number or tensor) and isinstance(now, fx.Node) and loop.label.get(now) == 0:
            return now
    return None


_ADD = ("add", "iadd", "add_")
ZEROS = ("zeros_like", "new_zeros")
"""Functions and methods that give zeros of the shape, or kind, of a value."""


def _check_links(loop: Loop, steps: list[list[fx.Node]], start: fx.Node) -> None:
    """Refuse a step that takes other things than the first one, but for what the step before hands on."""
    for number, nodes in enumerate(steps):
        for node in nodes:
            for given in node.all_input_nodes:
                step = index_of(given, start)
                if step is not None and step[0] != number:
                    raise ImportRefused(
                        f"its forward takes step {loop.label[given] + 1} of its input at its own step {number + 1}",
                        STEP,
                    )
            for mine, its in zip(node.args, loop.first[node].args, strict=False):
                if not isinstance(mine, fx.Node) or mine not in loop.label:
                    continue
                if loop.label[mine] == number and loop.first[mine] is not its:
                    raise ImportRefused(
                        f"its forward loops over time, but {node} takes another value than at the first step", STEP
                    )


def _kind(node: fx.Node) -> tuple[Any, ...]:
    return node.op, node.target, len(node.args), tuple(node.kwargs)


def index_of(node: fx.Node, value: fx.Node) -> tuple[int, int] | None:
    """Return which step of a value a node takes, and along which axis, x[t] or x[:, t]; None: it does other things."""
    if getattr(node.target, "__name__", "") != "getitem" or node.args[0] is not value:
        return None
    where: Any = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    axis = next((number for number, each in enumerate(where) if each != slice(None)), 2)
    if axis > 1 or not isinstance(where[axis], int) or isinstance(where[axis], bool):
        return None
    return (where[axis], axis) if all(each in (slice(None), ...) for each in where[axis + 1 :]) else None


def repeat_of(graph: fx.Graph) -> tuple[int, set[fx.Node]] | None:
    """Return how often a forward repeats its input x[B, …] as a window [T, B, …] before all else, and by which nodes.

    That is x.unsqueeze(0).repeat(T, 1, …), x[None].expand(T, -1, …) and the like. None: it does something else.
    """
    start = next(node for node in graph.nodes if node.op == "placeholder")
    node, within, added = start, set(), 0
    while len(node.users) == 1:
        (node,) = node.users
        within.add(node)
        name, given = _named(node), node.args[1:]
        if not added and (name, given) in (("unsqueeze", (0,)), ("getitem", (None,)), ("getitem", ((None, ...),))):
            added = 1
            continue
        times: Any = given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given
        if name not in ("repeat", "expand") or not times or not all(isinstance(each, int) for each in times):
            return None
        sizes: tuple[int, ...] = start.meta.get("sizes", ())
        alike = [
            each == 1 if name == "repeat" else each in (-1, size) for each, size in zip(times[1:], sizes, strict=False)
        ]
        return (times[0], within) if len(times) == len(sizes) + 1 and all(alike) and times[0] > 0 else None
    return None


def _named(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls."""
    if node.op not in ("call_function", "call_method"):
        return ""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
