"""The text of a kernel: a function of LLVM over one window, forward or backward.

Both take the units in parts, each through all of time. Rows of a window are [T, B * n], contiguous.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from hstnn_deploy.models.kernels.generated.graph import Graph, Node
from hstnn_deploy.models.kernels.generated.ir import Code
from hstnn_deploy.models.kernels.generated.reverse import Backward, roots, wanted_before

BLOCK = 2**14
"""The most units of a part: its states, 64 kB each in float32, stay in the cache of a core.

With fewer, rows are short: each begins in another page, and the processor reads ahead for each anew. LIF over
[500, 16384], one thread, took 6.2 ms forward and 7.8 backward with 2048 units at once, 4.8 and 4.1 with 8192, 4.1 and
3.5 with 16384 (the shortest of 80 on a busy machine).
"""

# e^a in float32 as 2^n e^r with |r| <= ln 2 / 2, by the polynomial of the Cephes library (Moshier, 1992), to 2 units in
# the last place. The C library's takes one number after another; this takes as many as a vector holds. It is for
# slopes and for gates: the spikes of a neuron have the bits of torch's operations, or no kernel.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LN2 = (0.693359375, -2.12194440e-4)
_LOG2E = 1.44269504088896341
_RANGE = (-87.0, 88.0)
# tanh(a) = a + a^3 p(a^2) where |a| is small, by the same library.
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_NEAR = 0.625


Kind = Literal["row", "quarter", "flat", "lengths", "gates", "states", "sums", "weight", "unit"]
"""Of an array: numbers of each step and unit, or four units; of each unit; or its valid steps (int64).

Of recurrent units there are also those of each step and gate, of each sample's units and gates, weights, and those of
a unit that samples share.
"""


class Pool(NamedTuple):
    """How what is handed out is pooled: each 2 x 2 of maps."""

    how: Literal["mean", "max"]
    deep: bool
    """Whether the channels of a pixel lie side by side, and not the pixels of a row."""


@dataclass(frozen=True)
class Text:
    """The text of a kernel, and what it takes."""

    source: str
    """A module of LLVM with a function `kernel`, see `ir.Code`."""
    numbers: tuple[float | int, ...]
    """Its numbers: constants (float), and operands that all units share (int)."""
    operands: tuple[int, ...]
    """The operands that each unit has of its own, in the order of its arrays."""
    arrays: tuple[Kind, ...]
    """What its arrays are, but for the scratch."""


class Body:
    """Statements on one unit at one step, in an order in which they can be computed."""

    def __init__(self, nodes: Sequence[Node], each: Sequence[bool], dtype: torch.dtype) -> None:
        self.code = Code(dtype)
        self._nodes, self._each = nodes, each
        self.numbers: list[float | int] = []
        self.operands: list[int] = []
        self._names: dict[tuple[str, int], str] = {}
        self.unit = ""
        """The index of the unit."""

    def fresh(self, unit: str) -> None:
        """Begin the statements of a loop over units."""
        self.unit, self._names = unit, {}

    def number(self, number: float | int) -> str:
        """Return the name of a constant, or of an operand that all share."""
        texts = [repr(each) for each in self.numbers]
        if repr(number) not in texts:
            self.numbers.append(number)
            texts.append(repr(number))
        return f"%k{texts.index(repr(number))}"

    def load(self, row: str) -> str:
        """Return the unit's number in a row."""
        return self.code.load(row, self.unit)

    def write(self, place: int, leaf: Callable[[int, Node], str | None], when: str = "") -> str:
        """Write what computes a node, and return its name.

        Args:
            place: the node.
            leaf: writes what is there already and returns its name, or None.
            when: the step that the nodes belong to.
        """
        if (when, place) in self._names:
            return self._names[when, place]
        node, code = self._nodes[place], self.code
        made = leaf(place, node)
        if made is None:
            match node.op:
                case "const":
                    return self.number(node.what)
                case "operand" if not self._each[node.what]:
                    return self.number(int(node.what))
                case "operand":
                    if node.what not in self.operands:
                        self.operands.append(node.what)
                    made = self.load(f"%p{node.what}.row")
                case op:
                    given = [self.write(each, leaf, when) for each in node.args]
                    if op == "fixed":
                        (made,) = given
                    elif op in ("exp", "sigmoid"):
                        made = self._exp(given[0], op == "sigmoid")
                    elif op == "tanh":
                        made = self._tanh(given[0])
                    else:
                        made = code.do(f"fires {node.what[0]}" if op == "spike" else op, *given, name=op)
        self._names[when, place] = made
        return made

    def _exp(self, of: str, sigmoid: bool) -> str:
        """Write e^a, and return it; or 1 / (1 + e^-a)."""
        code = self.code
        of = code.do("neg", of) if sigmoid else of
        power = self._single_exp(of) if code.kind == "f32" else code.do("exp", of)
        if not sigmoid:
            return power
        return code.do("div", "1.0", code.do("add", "1.0", power))

    def _tanh(self, of: str) -> str:
        """Write tanh(a), and return it: far from 0 by e^2a, near to it, where that would cancel, by a polynomial."""
        code = self.code
        if code.kind == "f64":
            return code.do("tanh", of)
        far = code.do("div", code.literal(2.0), code.do("add", "1.0", self._single_exp(code.do("add", of, of))))
        square = code.do("mul", of, of)
        total = code.literal(_TANH[0])
        for factor in _TANH[1:]:
            total = code.do("add", code.do("mul", total, square), code.literal(factor))
        near = code.do("add", code.do("mul", code.do("mul", total, square), of), of)
        is_near = code.make(f"fcmp olt float {code.do('abs', of)}, {code.literal(_NEAR)}")
        return code.do("where", is_near, near, code.do("sub", "1.0", far))

    def _single_exp(self, of: str) -> str:
        code = self.code
        number = code.literal
        low, high = map(number, _RANGE)
        a = code.do("at_most", code.do("at_least", of, low), high)
        n = code.do("floor", code.do("add", code.do("mul", a, number(_LOG2E)), number(0.5)))
        r = a
        for part in _LN2:
            r = code.do("sub", r, code.do("mul", n, number(part)))
        total = number(_EXP[0])
        for factor in _EXP[1:]:
            total = code.do("add", code.do("mul", total, r), number(factor))
        total = code.do("add", code.do("add", code.do("mul", code.do("mul", total, r), r), r), "1.0")
        # Of what is not a number there is no whole number; what comes of it stays none, by r.
        ordered = code.make(f"fcmp ord float {n}, 0.0")
        whole = code.make(f"fptosi float {code.do('where', ordered, n, '0.0')} to i32")
        bits = code.make(f"shl i32 {code.make(f'add i32 {whole}, 127')}, 23")
        return code.do("mul", total, code.make(f"bitcast i32 {bits} to float"))


def forward(graph: Graph, kept: Sequence[int], dtype: torch.dtype, lengths: bool, pool: Pool | None = None) -> Text:
    """Return the text of a window forward.

    Its arrays: x, *states, *operands, [lengths], out, *kept, [which], [scratch]. States are changed in place, out and
    kept are written. What is handed out is not kept twice. Where it is pooled, out has a quarter of the units; a part
    has whole pairs of rows of maps of the given width. Of a maximum, `which` says the unit that it came from.
    """
    body, names = Body(graph.nodes, graph.operands, dtype), _named("s", graph)
    code, apart, which = body.code, written(graph, kept, pool is not None), _which(pool)

    def leaf(_: int, node: Node) -> str | None:
        match node.op:
            case "drive":
                return body.load(rows["x"])
            case "state":
                return body.load(f"%{names[node.what]}.row")
        return None

    with code.loop("%steps") as t:
        rows = {name: code.row(name, t) for name in ("x", *(f"kept{place}" for place in apart))}
        out = code.row("out", t, pool is not None)
        with code.loop("%count", apart=True) as j:
            body.fresh(j)
            emitted = body.write(graph.emitted, leaf)
            after = {name: body.write(place, leaf) for name, place in graph.after}
            stores = {f"kept{place}": body.write(place, leaf) for place in apart}
            before = ((place, str(node.what)) for place, node in enumerate(graph.nodes) if node.op == "state")
            old = {name: body.write(place, leaf) for place, name in before}
            code.store("%mine" if pool else out, j, emitted)
            for name, value in stores.items():
                code.store(rows[name], j, value)
            live = _live(code, t, j) if lengths else ""
            for name, new in after.items():
                code.store(f"%{names[name]}.row", j, code.do("where", live, new, old[name]) if lengths else new)
        if pool:
            _gather(code, pool, out, *(code.row(name, t, True) for name in which))
    flat = [*names.values(), *(f"p{n}" for n in body.operands), *(["lengths"] if lengths else [])]
    arrays = ["x", *flat, "out", *(f"kept{place}" for place in apart), *which]
    return _text(body, arrays, flat, ["out", *which] if pool else [])


def written(graph: Graph, kept: Sequence[int], pooled: bool) -> list[int]:
    """Return what of the kept values forward writes for the way back alone: not its input, nor what it hands out."""
    return [place for place in kept if (pooled or place != graph.emitted) and graph.nodes[place].op != "drive"]


def _which(pool: Pool | None) -> list[str]:
    return ["which"] if pool and pool.how == "max" else []


def _named(letter: str, graph: Graph) -> dict[str, str]:
    """Return arguments for the states: their own names may be any."""
    return {name: f"{letter}{n}" for n, name in enumerate(graph.states)}


def backward(
    graph: Graph, step: Backward, dtype: torch.dtype, lengths: bool, into: int | None = None, pool: Pool | None = None
) -> Text:
    """Return the text of a window backward.

    Its arrays: given, [which], *kept, *first states, *gradients of states, *operands, [lengths], out, *sums, [scratch].
    Gradients of the states after the window become those before it; to the sums, one a unit, the gradients of what is
    learned are added. Where the gradient of the input goes `into` a kept value, which nothing needs again, there is no
    out: the fewest bytes, and no fresh memory. `given` is pooled as in `forward`.
    """
    body = Body(step.nodes, graph.operands, dtype)
    code, which = body.code, _which(pool)
    before, gradients, starts = wanted_before(graph, step, step.kept), _named("g", graph), _named("first", graph)
    sums, kept = [n for n, _ in step.operands], [f"kept{place}" for place in step.kept]

    def units(t: str, first: bool) -> None:
        """Write the loop over the units at a step."""
        rows = {place: code.row(f"kept{place}", t) for place in step.kept}
        given, out = code.row("given", t, pool is not None), code.row("out", t) if into is None else rows[into]
        earlier = {}
        if before and not first:
            earlier = {place: code.row(f"kept{place}", code.whole("sub", t, 1)) for place in step.kept}
        if pool:
            _spread(code, pool, given, *(code.row(name, t, True) for name in which))

        def leaf(rows: dict[int, str]) -> Callable[[int, Node], str | None]:
            def found(place: int, node: Node) -> str | None:
                if place in step.kept:
                    return body.load(rows[place])
                match node.op:
                    case "given":
                        return valid(body.load("%mine" if pool else given))
                    case "later":
                        return valid(body.load(f"%{gradients[node.what]}.row"))
                    case "state" if first:
                        return body.load(f"%{starts[node.what]}.row")
                    case "state":
                        return body.write(before[node.what], leaf(earlier), "then")
                return None

            return found

        with code.loop("%count", apart=True) as j:
            body.fresh(j)
            live = _live(code, t, j) if lengths else ""

            def valid(value: str, otherwise: str = "0.0") -> str:
                return code.do("where", live, value, otherwise) if lengths else value

            made = {place: body.write(place, leaf(rows)) for place in roots(step)}
            code.store(out, j, valid("0.0" if step.drive is None else code.lasting(made[step.drive])))
            for n, place in step.operands:
                row = f"%sum{n}.row"
                code.store(row, j, code.do("add", body.load(row), valid(made[place])))
            for name, place_before in step.states:
                row = f"%{gradients[name]}.row"
                new = "0.0" if place_before is None else code.lasting(made[place_before])
                code.store(row, j, valid(new, body.load(row)) if lengths else new)

    last = code.whole("sub", "%steps", 1)
    with code.loop(last if before else "%steps") as n:
        units(code.whole("sub", last, n), False)
    if before:
        units("0", True)
    outs = ["out"] if into is None else []
    read = [*(starts[name] for name in before), *gradients.values(), *(f"p{n}" for n in body.operands)]
    read += ["lengths"] if lengths else []
    added = [f"sum{n}" for n in sums]
    arrays = ["given", *which, *kept, *read, *outs, *added]
    return _text(body, arrays, [*read, *added], ["given", *which] if pool else [])


def _live(code: Code, t: str, j: str) -> str:
    """Write whether a unit's sample has not ended before a step."""
    return code.whole("icmp slt", t, code.load("%lengths.row", j, "i64"))


# A part is whole pairs of rows; what is handed out, or its gradient, is whole in one part at one step alone.


@contextmanager
def _squares(code: Code, pool: Pool) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Write a loop over the squares of 2 x 2 units of a part: give a square's place, and those of its units.

    From a unit to the one below it are `width` numbers, and to the one beside it `depth`.
    """
    half = code.whole("sdiv", "%width", 2)
    with code.loop(code.whole("sdiv", code.whole("sdiv", "%count", 2), "%width")) as r:
        above = code.whole("mul", code.whole("mul", r, 2), "%width")
        first = code.whole("mul", r, half)
        if not pool.deep:
            with code.loop(half, apart=True) as c:
                yield code.whole("add", first, c), _four(code, code.whole("add", above, code.whole("mul", c, 2)), 1)
            return
        with code.loop(code.whole("sdiv", half, "%depth")) as c:
            pixel = code.whole("mul", c, "%depth")
            left, square = code.whole("add", above, code.whole("mul", pixel, 2)), code.whole("add", first, pixel)
            with code.loop("%depth", apart=True) as k:
                yield code.whole("add", square, k), _four(code, code.whole("add", left, k), "%depth")


def _four(code: Code, one: str, beside: str | int) -> tuple[str, str, str, str]:
    below = code.whole("add", one, "%width")
    return one, code.whole("add", one, beside), below, code.whole("add", below, beside)


def _gather(code: Code, pool: Pool, out: str, which: str = "") -> None:
    """Write the mean of each square to what is handed out; or the first of its largest, and which that is."""
    with _squares(code, pool) as (square, units):
        first, *others = (code.load("%mine", each) for each in units)
        if pool.how == "mean":
            b, c, d = others
            total = code.do("add", code.do("add", first, b), code.do("add", c, d))
            code.store(out, square, code.do("mul", total, "0.25"))
            return
        place = code.literal(0)
        for number, each in enumerate(others, 1):
            larger = code.do("larger", each, first)
            first, place = (
                code.do("where", larger, new, old) for new, old in ((each, first), (code.literal(number), place))
            )
        code.store(out, square, first)
        code.store(which, square, place)


def _spread(code: Code, pool: Pool, given: str, which: str = "") -> None:
    """Write a quarter of each square's gradient to its units; or all of it to that which was the largest."""
    with _squares(code, pool) as (square, units):
        gradient = code.load(given, square)
        if pool.how == "mean":
            gradient = code.do("mul", gradient, "0.25")
        place = code.load(which, square) if which else ""
        for number, each in enumerate(units):
            code.store(
                "%mine", each, code.do("where_equal", gradient, place, code.literal(number)) if place else gradient
            )


def _text(body: Body, arrays: Sequence[str], flat: Sequence[str], quarters: Sequence[str]) -> Text:
    scratch = ["scratch"] if quarters else []
    source = body.code.text(len(body.numbers), [*arrays, *scratch], flat, bool(scratch))
    kinds: dict[str, Kind] = {"lengths": "lengths"}
    for name in flat:
        kinds.setdefault(name, "flat")
    for name in quarters:
        kinds[name] = "quarter"
    return Text(source, tuple(body.numbers), tuple(body.operands), tuple(kinds.get(name, "row") for name in arrays))
