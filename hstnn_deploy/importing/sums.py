"""Sums over time that a forward adds up step by step, as the sum of a stack that they are."""

from typing import Any

import torch
from torch import Tensor, fx, nn

_ADDS = ("add", "iadd", "add_", "__add__", "__iadd__", "__radd__")


def name_of(node: fx.Node) -> str:
    """Return the name of the function, method or module that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def with_sums(graph: fx.Graph, root: nn.Module) -> None:
    """Write y = 0; y = y + f(x[0]); y = y + f(x[1]); … as sum(stack([f(x[0]), f(x[1]), …]), 0), in place.

    Only where all that is added is given by one and the same module, as at the steps of a loop.
    """
    for node in reversed(list(graph.nodes)):
        terms = _terms(node, root)
        if len(terms) < 2 or len({_origin(each) for each in terms}) > 1 or not _origin(terms[0]):
            continue
        with graph.inserting_before(node):
            rows = graph.call_function(torch.stack, (terms,))
            total = graph.call_function(torch.sum, (rows, 0))
        node.replace_all_uses_with(total)
        last: Any = node
        while isinstance(last, fx.Node) and _adds(last) and not last.users:
            before = last.args[0]
            graph.erase_node(last)
            last = before


def _terms(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    """Return what a node adds up, in order; empty: it is no such sum."""
    found: list[fx.Node] = []
    last: Any = node
    while isinstance(last, fx.Node) and _adds(last) and (last is node or len(last.users) == 1):
        term = last.args[1]
        if not isinstance(term, fx.Node):
            return []
        found.insert(0, term)
        last = last.args[0]
    if not found:
        return []
    if isinstance(last, int | float):
        return found if last == 0 else []
    return found if _is_zero(last, root) else [last, *found]


def _adds(node: fx.Node) -> bool:
    return node.op != "call_module" and name_of(node) in _ADDS and len(node.args) == 2 and not node.kwargs


def _is_zero(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node is a tensor of zeros."""
    if node.op != "get_attr":
        return node.op == "call_function" and name_of(node) in ("zeros", "zeros_like")
    value: Any = root
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return isinstance(value, Tensor) and not bool(value.any())


def _origin(node: fx.Node) -> str:
    """Return the module whose output, or the first part of it, a node is; empty: of none."""
    while name_of(node) == "getitem" and node.args[1] == 0 and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return str(node.target) if node.op == "call_module" else ""
