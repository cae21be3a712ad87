"""The text of a kernel: a Python function over one window that numba compiles, forward or backward.

Both walk a range of units in blocks, each through all of time. Rows of a window are [T, B * n], contiguous.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from hstnn_deploy.models.kernels.generated.graph import Graph, Node
from hstnn_deploy.models.kernels.generated.reverse import Backward, roots, wanted_before

BLOCK = 2048
"""Units of a block: a row of each of its arrays, 8 kB in float32, stays in the innermost caches."""

_WRITTEN = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "abs({0})",
    "below": "one if {0} < {1} else zero",
    # Of what is not a number, what is not a number: as torch's threshold and clamp have it.
    "at_least": "{1} if {0} <= {1} else {0}",
    "at_most": "{1} if {0} >= {1} else {0}",
    "where_above": "zero if {1} <= {2} else {0}",
    "where_below": "zero if {1} >= {2} else {0}",
    "fixed": "{0}",
}
_FIRES = {
    "above": "one if {0} - {1} > zero else zero",
    "at": "one if {0} - {1} >= zero else zero",
    "several": "zero if np.floor({0} / {1}) < zero else np.floor({0} / {1})",
}

# e^a in float32 as 2^n e^r with |r| <= ln 2 / 2, by the polynomial of the Cephes library (Moshier, 1992), to 2 units in
# the last place. The C library's takes one number after another; this takes as many as a vector holds. It is for
# slopes alone: what goes forward has torch's bits, or no kernel.
_EXP = """
{to}_a = min(max({of}, real(-87.0)), real(88.0))
{to}_n = np.floor({to}_a * real(1.44269504088896341) + real(0.5))
{to}_r = {to}_a - {to}_n * real(0.693359375) + {to}_n * real(2.12194440e-4)
{to}_p = ((real(1.9875691500e-4) * {to}_r + real(1.3981999507e-3)) * {to}_r + real(8.3334519073e-3)) * {to}_r
{to}_p = (({to}_p + real(4.1665795894e-2)) * {to}_r + real(1.6666665459e-1)) * {to}_r + real(5.0000001201e-1)
{to}_2 = np.int32((np.int32({to}_n) + np.int32(127)) << np.int32(23)).view(np.float32)
{to} = ({to}_p * {to}_r * {to}_r + {to}_r + one) * {to}_2
"""

# Blocks are whole pairs of rows; what is handed out, or its gradient, is whole in one block at one step alone.
_MEAN = """
for r in range((b - a) // (2 * width)):
    for c in range(half):
        i = 2 * (r * width + c)
        whole_sum = (whole[i] + whole[i + 1]) + (whole[i + width] + whole[i + width + 1])
        out_[r * half + c] = whole_sum * real(0.25)
""".strip().split("\n")
_SPREAD = """
for r in range((b - a) // (2 * width)):
    for c in range(half):
        i = 2 * (r * width + c)
        quarter = given_[r * half + c] * real(0.25)
        whole[i] = quarter
        whole[i + 1] = quarter
        whole[i + width] = quarter
        whole[i + width + 1] = quarter
""".strip().split("\n")


@dataclass(frozen=True)
class Text:
    """The text of a function `run`, and what it takes."""

    source: str
    signature: str
    """As numba has it."""
    numbers: tuple[float | int, ...]
    """What goes into its first argument: constants (float), and operands that all units share (int)."""
    operands: tuple[int, ...]
    """The operands that each unit has of its own, in the order of its arguments."""


class _Body:
    """Statements on one unit at one step, in an order in which they can be computed."""

    def __init__(self, nodes: Sequence[Node], each: Sequence[bool], dtype: torch.dtype) -> None:
        self._nodes, self._each, self._single = nodes, each, dtype == torch.float32
        self.numbers: list[float | int] = []
        self.operands: list[int] = []
        self.lines: list[str] = []
        self._names: dict[tuple[str, int], str] = {}

    def fresh(self) -> None:
        """Begin other statements, over the same arguments."""
        self.lines, self._names = [], {}

    def number(self, number: float | int) -> str:
        """Return the name of a constant, or of an operand that all share."""
        texts = [repr(each) for each in self.numbers]
        if repr(number) not in texts:
            self.numbers.append(number)
            texts.append(repr(number))
        return f"k{texts.index(repr(number))}"

    def write(self, place: int, leaf: Callable[[int, Node], str | None], when: str = "") -> str:
        """Write what computes a node, and return its name.

        Args:
            place: the node.
            leaf: returns the expression of what is there already, or None.
            when: of which step the nodes are.
        """
        if (when, place) in self._names:
            return self._names[when, place]
        node = self._nodes[place]
        name = f"{when}{node.op}{place}"
        expression = leaf(place, node)
        if expression is None:
            match node.op:
                case "const":
                    return self.number(node.what)
                case "operand" if not self._each[node.what]:
                    return self.number(int(node.what))
                case "operand":
                    if node.what not in self.operands:
                        self.operands.append(node.what)
                    expression = f"p{node.what}_[j]"
                case "spike":
                    expression = _FIRES[node.what[0]]
                case "exp" | "sigmoid":
                    expression = self._exp(self.write(node.args[0], leaf, when), f"e{name}", node.op == "sigmoid")
                case _:
                    expression = _WRITTEN[node.op]
        arguments = [self.write(each, leaf, when) for each in node.args] if "{0}" in expression else []
        self._names[when, place] = name
        self.lines.append(f"{name} = {expression.format(*arguments)}")
        return name

    def _exp(self, of: str, to: str, sigmoid: bool) -> str:
        """Write e^a, and return it; or 1 / (1 + e^-a)."""
        of = f"-{of}" if sigmoid else of
        if self._single:
            self.lines += _EXP.format(of=of, to=to).strip().split("\n")
        else:
            self.lines.append(f"{to} = real(math.exp({of}))")
        return f"one / (one + {to})" if sigmoid else to


def forward(graph: Graph, kept: Sequence[int], dtype: torch.dtype, lengths: bool, pooled: bool = False) -> Text:
    """Return the text of a window forward.

    run(k, x, *states, *operands, [lengths], out, *kept, start, stop): states are changed in place, out and kept are
    written. What is handed out is not kept twice. Where it is pooled, out has a quarter of the units, and `width` comes
    before start: that of the maps.
    """
    body, names = _Body(graph.nodes, graph.operands, dtype), _named("s", graph)

    def leaf(_: int, node: Node) -> str | None:
        return "x_[j]" if node.op == "drive" else f"{names[node.what]}_[j]" if node.op == "state" else None

    emitted = body.write(graph.emitted, leaf)
    after = {name: body.write(place, leaf) for name, place in graph.after}
    apart = written(graph, kept, pooled)
    stores = {f"kept{place}_": body.write(place, leaf) for place in apart}
    old = {name: body.write(place, leaf) for place, node in enumerate(graph.nodes) if (name := _state(node)) in after}
    lines = [*body.lines, f"{'whole' if pooled else 'out_'}[j] = {emitted}"]
    lines += [f"{store}[j] = {name}" for store, name in stores.items()]
    for name, new in after.items():
        stored = f"{new} if t < lengths_[j] else {old[name]}" if lengths else new
        lines.append(f"{names[name]}_[j] = {stored}")
    rows = ["x", "out", *(f"kept{place}" for place in apart)]
    slices = [_slice(row, pooled and row == "out") for row in rows]
    flat = [*names.values(), *(f"p{n}" for n in body.operands), *(["lengths"] if lengths else [])]
    walk = ["for t in range(x.shape[0]):", *(f"    {line}" for line in slices), *_each_unit(lines)]
    walk += [f"    {line}" for line in _MEAN if pooled]
    arguments = ["x", *flat, "out", *rows[2:]]
    return _text(body, arguments, rows, flat, walk, dtype, pooled)


def written(graph: Graph, kept: Sequence[int], pooled: bool) -> list[int]:
    """Return what of the kept values forward writes for the way back alone: not its input, nor what it hands out."""
    return [place for place in kept if (pooled or place != graph.emitted) and graph.nodes[place].op != "drive"]


def _slice(row: str, quarter: bool) -> str:
    return f"{row}_ = {row}[t, a // 4 : b // 4]" if quarter else f"{row}_ = {row}[t, a:b]"


def _state(node: Node) -> str:
    return str(node.what) if node.op == "state" else ""


def _named(letter: str, graph: Graph) -> dict[str, str]:
    """Return arguments for the states: their own names may be any."""
    return {name: f"{letter}{n}" for n, name in enumerate(graph.states)}


def backward(
    graph: Graph, step: Backward, dtype: torch.dtype, lengths: bool, into: int | None = None, pooled: bool = False
) -> Text:
    """Return the text of a window backward.

    run(k, given, *kept, *first states, *gradients of states, *operands, [lengths], out, *sums, start, stop): gradients
    of the states after the window become those before it; sums of the gradients of what is learned are written, one a
    unit. Where the gradient of the input goes `into` a kept value, which nobody needs again, there is no out: the
    fewest bytes, and no fresh memory. `given` is pooled as in `forward`.
    """
    body = _Body(step.nodes, graph.operands, dtype)
    before, gradients, starts = wanted_before(graph, step, step.kept), _named("g", graph), _named("first", graph)
    sums = [n for n, _ in step.operands]

    def leaf(row: str, first: bool) -> Callable[[int, Node], str | None]:
        def found(place: int, node: Node) -> str | None:
            if place in step.kept:
                return f"{row}{place}_[j]"
            match node.op:
                case "given":
                    given = "whole[j]" if pooled else "given_[j]"
                    return f"{given} if live else zero" if lengths else given
                case "later":
                    return f"{gradients[node.what]}_[j]" + (" if live else zero" if lengths else "")
                case "state" if first:
                    return f"{starts[node.what]}_[j]"
                case "state":
                    return body.write(before[node.what], leaf("then", True), "then_")
            return None

        return found

    def statements(first: bool) -> list[str]:
        body.fresh()
        names = {place: body.write(place, leaf("kept", first)) for place in roots(step)}
        later = {name: f"{gradients[name]}_[j]" for name in graph.states}
        lines = [*(["live = t < lengths_[j]"] if lengths else []), *body.lines]
        made = "zero" if step.drive is None else names[step.drive]
        out = "out" if into is None else f"kept{into}"
        lines.append(f"{out}_[j] = {made} if live else zero" if lengths else f"{out}_[j] = {made}")
        for n, place in step.operands:
            lines.append(
                f"sum{n}_[j] += {names[place]} if live else zero" if lengths else f"sum{n}_[j] += {names[place]}"
            )
        for name, before_it in step.states:
            made = "zero" if before_it is None else names[before_it]
            lines.append(f"{later[name]} = {made} if live else {later[name]}" if lengths else f"{later[name]} = {made}")
        return lines

    usual, at_first = statements(False), statements(True) if before else []
    kept = [f"kept{place}" for place in step.kept]
    outs = ["out"] if into is None else []
    rows = ["given", *kept, *outs]
    slices = [*(_slice(row, pooled and row == "given") for row in rows), *(_SPREAD if pooled else [])]
    walk = [f"for t in range(given.shape[0] - 1, {0 if before else -1}, -1):"]
    walk += [f"    {line}" for line in slices]
    walk += [f"    then{place}_ = kept{place}[t - 1, a:b]" for place in step.kept if before]
    walk += _each_unit(usual)
    if before:
        walk += ["t = 0", *slices, *(line.removeprefix("    ") for line in _each_unit(at_first))]
    firsts = [starts[name] for name in before]
    flat = [*firsts, *gradients.values(), *(f"p{n}" for n in body.operands)]
    flat += [*(["lengths"] if lengths else []), *(f"sum{n}" for n in sums)]
    read = [each for each in flat if not each.startswith("sum")]
    arguments = ["given", *kept, *read, *outs, *(f"sum{n}" for n in sums)]
    return _text(body, arguments, rows, flat, walk, dtype, pooled)


def _each_unit(lines: Iterable[str]) -> list[str]:
    return ["    for j in range(b - a):", *(f"        {line}" for line in lines)]


def _text(
    body: _Body,
    arguments: Sequence[str],
    rows: Sequence[str],
    flat: Sequence[str],
    walk: Sequence[str],
    dtype: torch.dtype,
    pooled: bool,
) -> Text:
    """Return a function's text around the statements on a block."""
    real = str(dtype).removeprefix("torch.")
    lines = ["zero, one = real(0.0), real(1.0)"]
    lines += [f"k{n} = k[{n}]" for n in range(len(body.numbers))]
    if pooled:
        lines += [
            "size = max(BLOCK // (2 * width), 1) * 2 * width",
            "half = width // 2",
            "whole = np.empty(size, real)",
        ]
    size = "size" if pooled else "BLOCK"
    lines += [f"for a in range(start, stop, {size}):", f"    b = min(a + {size}, stop)"]
    lines += [f"    {name}_ = {name}[a:b]" for name in flat]
    lines += [f"    {line}" for line in walk]
    last = ["width", "start", "stop"] if pooled else ["start", "stop"]
    head = f"def run(k, {', '.join([*arguments, *last])}):"
    source = "\n".join(
        [
            "import math",
            "",
            "import numpy as np",
            "",
            f"real, BLOCK = np.{real}, {BLOCK}",
            "",
            "",
            head,
            *(f"    {line}" for line in lines),
            "",
        ]
    )
    kinds = [f"{real}[::1]"]
    for name in arguments:
        kinds.append("int64[::1]" if name == "lengths" else f"{real}[:, ::1]" if name in rows else f"{real}[::1]")
    signature = f"void({', '.join([*kinds, *('int64' for _ in last)])})"
    return Text(source, signature, tuple(body.numbers), tuple(body.operands))
