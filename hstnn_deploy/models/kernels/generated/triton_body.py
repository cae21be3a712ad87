"""The operations of a step in Triton's language, on a block of units at one step."""

from collections.abc import Callable, Sequence

from hstnn_deploy.models.kernels.generated.graph import Node
from hstnn_deploy.models.kernels.generated.reverse import reached

_WRITTEN = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "exp": "tl.exp({0})",
    "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
    "below": "tl.where({0} < {1}, 1.0, 0.0)",
    # Of what is not a number, what is not a number: as torch's threshold and clamp have it.
    "at_least": "tl.where({0} <= {1}, {1}, {0})",
    "at_most": "tl.where({0} >= {1}, {1}, {0})",
    "where_above": "tl.where({1} <= {2}, 0.0, {0})",
    "where_below": "tl.where({1} >= {2}, 0.0, {0})",
    "fixed": "{0}",
}
_FIRES = {
    "above": "tl.where({0} > {1}, 1.0, 0.0)",
    "at": "tl.where({0} >= {1}, 1.0, 0.0)",
    # Rounded as IEEE has it: Triton's own division is off by up to two units in the last place.
    "several": "tl.where(tl.floor(tl.div_rn({0}, {1})) < 0.0, 0.0, tl.floor(tl.div_rn({0}, {1})))",
}
_VARIES = frozenset({"drive", "state", "given", "later"})


class Body:
    """Statements on a block of units at one step, in an order in which they can be computed."""

    def __init__(self, nodes: tuple[Node, ...], each: Sequence[bool]) -> None:
        self.nodes, self._each = nodes, each
        self.numbers: list[float] = []
        self.operands: list[int] = []
        self.lines: list[str] = []
        self._names: dict[tuple[str, int], str] = {}

    def number(self, number: float) -> str:
        """Return the name of a constant, or what is written for it."""
        if repr(number) in ("0.0", "1.0"):
            return repr(number)
        if repr(number) not in map(repr, self.numbers):
            self.numbers.append(number)
        return f"k{[repr(each) for each in self.numbers].index(repr(number))}"

    def operand(self, which: int, part: str) -> str:
        """Return the name of what the layer has of its own, at each unit of a part or of all."""
        if which not in self.operands:
            self.operands.append(which)
        return f"p{which}{part}" if self._each[which] else f"p{which}"

    def write(self, place: int, leaf: Callable[[int, Node], str | None], part: str, when: str = "") -> str:
        """Write what computes a node, and return its name.

        Args:
            place: the node.
            leaf: returns the expression of what is there already, or None.
            part: which units, behind every name.
            when: the step that the nodes belong to, before every name.
        """
        node, behind = self.nodes[place], when + part
        if (behind, place) in self._names:
            return self._names[behind, place]
        if node.op == "const":
            return self.number(node.what)
        if node.op == "operand":
            return self.operand(node.what, part)
        expression = leaf(place, node)
        if expression is None:
            expression = _FIRES[node.what[0]] if node.op == "spike" else _WRITTEN[node.op]
            expression = expression.format(*[self.write(each, leaf, part, when) for each in node.args])
        name = self._names[behind, place] = f"{when}{node.op}{place}{part}"
        self.lines.append(f"{name} = {expression}")
        return name

    def whole(self, place: int, name: str, part: str) -> str:
        """Return a node's value as a block of units, where it is one number for all."""
        if any(self.nodes[n].op in _VARIES for n in reached(self.nodes, [place], ())):
            return name
        return f"tl.where(here{part}, {name}, 0.0)"

    def load(self, parts: Sequence[str]) -> list[str]:
        """Return statements that load all operands."""
        lines = []
        for which in self.operands:
            if self._each[which]:
                lines += [
                    f"p{which}{part} = tl.load(operand{which} + n{part} % units, mask=here{part}, other=0.0)"
                    for part in parts
                ]
            else:
                lines.append(f"p{which} = tl.load(operand{which})")
        return lines
