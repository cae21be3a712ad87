"""What flows through a traced forward: values of the network, states of neurons, and the chain between two values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from hstnn_deploy.importing.parts import Branches, Chain, Part
from hstnn_deploy.models.layers.base import Shape


@dataclass(eq=False)
class State:
    """What neurons carry: given back to them at the next step."""

    membrane_of: "Value | None" = None
    """What neurons give whose membrane it is; None: it is something else, or the sizes of a value."""
    last_of: "Value | None" = None
    """What a recurrent layer gives whose last step it holds, layer by layer; None: it is something else."""
    paired: bool = False
    """Whether that comes together with the cell, as an LSTM gives them."""


@dataclass
class Value:
    """A value that flows through the network."""

    node: fx.Node
    shape: Shape
    before: list["Value"]
    how: str = "chain"
    chain: Chain = field(default_factory=list)
    """Behind the value before, of `chain`."""
    pieces: bool = False
    """Whether it is still a tuple: what neurons give, and their states; or the largest values, and where they are."""
    largest: bool = False
    """Whether it is those largest values."""


def between(start: Value, end: Value, path: str, refused: Callable[[fx.Node, str], Exception]) -> Chain:
    """Return the chain from one value to another.

    Args:
        start: what the chain takes.
        end: what it gives.
        path: of the module whose forward it is.
        refused: gives an error that says where in that forward it is.

    Raises:
        ImportRefused: branches cross each other.
    """
    used: set[int] = set()

    def chain_to(end: Value, start: Value) -> Chain:
        if end is start:
            return []
        if id(end) in used:
            raise refused(end.node, "is used in two places whose branches cross")
        if end.chain or end.how != "chain":
            used.add(id(end))
        if end.how == "chain":
            return [*chain_to(end.before[0], start), *end.chain]
        fork = _meeting(end.before)
        if fork is None:
            raise refused(end.node, "joins values that have nothing in common")
        branches = [chain_to(each, fork) for each in end.before]
        if end.how == "residual":
            branches.sort(key=len, reverse=True)
            if not branches[0]:
                return [*chain_to(fork, start), Part({"scale": 2.0})]
        elif not all(branches):
            branches = [branch or [Part({"scale": 1.0})] for branch in branches]
        how: Any = end.how
        return [*chain_to(fork, start), Branches(how, branches, path)]

    return chain_to(end, start)


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
