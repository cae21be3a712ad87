"""The text of a kernel of recurrent units: a function of LLVM over one window, forward or backward.

Samples are apart: a part is some samples, through all of time, and every sum runs in one order, so that a sample's
numbers do not depend on those beside it, nor on the threads. A step is the product of all samples and then what units
do alone. Rows are [T, B, n], contiguous, and [T, B, gates, n] of gates.
"""

from collections.abc import Callable, Sequence

import torch

from hstnn_deploy.models.kernels.generated.cell import Back
from hstnn_deploy.models.kernels.generated.graph import Graph, Node
from hstnn_deploy.models.kernels.generated.ir import Code
from hstnn_deploy.models.kernels.generated.source import Body, Kind, Text

_AT_ONCE = ((4, (4, 1)), (1, (8, 1)))
"""Samples that share the reading of a weight's row, and how many rows one pass over their sums takes."""


def forward(graph: Graph, kept: Sequence[int], dtype: torch.dtype) -> Text:
    """Return the text of a window forward.

    Its arrays: x, weight, sums, *first states, *operands, *states, *kept. States of every step and what is kept are
    written; the sums are the product's.
    """
    body = Body(graph.nodes, graph.operands, dtype)
    code, names = body.code, {name: f"s{n}" for n, name in enumerate(graph.states)}
    gates = 1 + max(int(node.what) for node in graph.nodes if node.op == "drive")
    (multiplied,) = {graph.nodes[node.args[0]].what for node in graph.nodes if node.op == "product"}
    wide = code.whole("mul", "%width", gates)
    with code.loop("%steps") as t:
        rows = _Rows(code, t, gates)

        def before(name: str, sample: str) -> str:
            return rows.before(f"first_{names[name]}", names[name], sample)

        with code.loop("%count") as s:
            sums = rows.gate("sums", rows.sample(s), 0)
            with code.loop(wide, apart=True) as j:
                code.store(sums, j, code.literal(0.0))
        _product(
            code, lambda s: (before(multiplied, rows.sample(s)), rows.gate("sums", rows.sample(s), 0)), "%width", wide
        )
        with code.loop("%count") as s:
            sample = rows.sample(s)
            drives = [rows.gate("x", rows.step(sample), gate) for gate in range(gates)]
            sums_of = [rows.gate("sums", sample, gate) for gate in range(gates)]
            old = {name: before(name, sample) for name in names}
            new = {place: rows.unit(names[name], rows.step(sample)) for name, place in graph.after}
            new |= {place: rows.unit(f"kept{place}", rows.step(sample)) for place in kept}

            def leaf(_: int, node: Node) -> str | None:
                match node.op:
                    case "drive":
                        return body.load(drives[node.what])
                    case "product":
                        return body.load(sums_of[node.what])
                    case "state":
                        return body.load(old[node.what])
                    case "operand":
                        return body.load(f"%p{node.what}")
                return None

            with code.loop("%width", apart=True) as j:
                body.fresh(j)
                made = {place: body.write(place, leaf) for place in new}
                for place, row in new.items():
                    code.store(row, j, made[place])
    firsts = [f"first_{each}" for each in names.values()]
    operands = [f"p{n}" for n in range(len(graph.operands))]
    arrays = ["x", "weight", "sums", *firsts, *operands, *names.values(), *(f"kept{place}" for place in kept)]
    return _text(body, arrays)


def backward(graph: Graph, step: Back, dtype: torch.dtype, given: Sequence[str]) -> Text:
    """Return the text of a window backward.

    Its arrays: weight (its gates' columns are rows here), *given, *states, *first states, *kept, *gradients of states,
    *operands, out, [products], *sums. `given` are the states that receive a window of gradients. Gradients of the
    states after the window become those before it; products are the gradients of the products, where these differ from
    the drive's; to the sums, one a unit and sample, the gradients of what is learned are added.
    """
    body = Body(step.nodes, graph.operands, dtype)
    code, names, after = body.code, {name: f"s{n}" for n, name in enumerate(graph.states)}, dict(graph.after)
    at_last, gates = {place: name for name, place in after.items()}, len(step.drives)
    through = "products" if step.apart else "out"
    last = code.whole("sub", "%steps", 1)
    wide = code.whole("mul", "%width", gates)
    with code.loop("%steps") as n:
        rows = _Rows(code, code.whole("sub", last, n), gates)
        with code.loop("%count") as s:
            sample = rows.sample(s)
            here = rows.step(sample)
            old = {name: rows.before(f"first_{each}", each, sample) for name, each in names.items()}
            there = {place: rows.unit(names[name], here) for place, name in at_last.items()}
            there |= {place: rows.unit(f"kept{place}", here) for place in step.kept}
            carried = {name: rows.unit(f"g_{each}", sample) for name, each in names.items()}
            comes = {name: rows.unit(f"given_{names[name]}", here) for name in given}
            sums = {k: rows.unit(f"sum{k}", sample) for k, _ in step.operands}
            out = [rows.gate("out", here, gate) for gate in range(gates)]
            products = [rows.gate("products", here, gate) for gate in range(gates)] if step.apart else []

            def leaf(place: int, node: Node) -> str | None:
                if place in there:
                    return body.load(there[place])
                match node.op:
                    case "later":
                        later = body.load(carried[node.what])
                        return code.do("add", later, body.load(comes[node.what])) if node.what in comes else later
                    case "state":
                        return body.load(old[node.what])
                    case "operand":
                        return body.load(f"%p{node.what}")
                return None

            with code.loop("%width", apart=True) as j:
                body.fresh(j)
                new = [*zip(out, step.drives, strict=True), *zip(products, step.products, strict=False)]
                new += [(carried[name], place) for name, place in step.states if place is not None]
                made = [(row, body.write(place, leaf)) for row, place in new]
                made += [(carried[name], code.literal(0.0)) for name, place in step.states if place is None]
                for k, place in step.operands:
                    made.append((sums[k], code.do("add", body.load(sums[k]), body.write(place, leaf))))
                for row, value in made:
                    code.store(row, j, code.lasting(value))
        target = f"g_{names[step.multiplied]}"
        _product(
            code,
            lambda s: (rows.gate(through, rows.step(rows.sample(s)), 0), rows.unit(target, rows.sample(s))),
            wide,
            "%width",
        )
    states = list(names.values())
    arrays = ["weight", *(f"given_{names[name]}" for name in given), *states, *(f"first_{each}" for each in states)]
    arrays += [*(f"kept{place}" for place in step.kept), *(f"g_{each}" for each in states)]
    arrays += [*(f"p{k}" for k in range(len(graph.operands))), "out", *(["products"] if step.apart else [])]
    return _text(body, [*arrays, *(f"sum{k}" for k, _ in step.operands)])


class _Rows:
    """Where the numbers of a step's samples lie."""

    def __init__(self, code: Code, t: str, gates: int) -> None:
        self._code, self._t, self._gates = code, t, gates

    def sample(self, s: str) -> str:
        """Return the number of a part's sample."""
        return self._code.whole("add", "%start", s)

    def step(self, sample: str) -> str:
        """Return the place of this step's row of a sample."""
        return self._code.whole("add", self._code.whole("mul", self._t, "%units"), sample)

    def unit(self, name: str, place: str) -> str:
        """Return the address of a row of n."""
        return self._code.place(f"%{name}", self._code.whole("mul", place, "%width"))

    def gate(self, name: str, place: str, gate: int) -> str:
        """Return the address of a gate's row of n."""
        whole = self._code.whole
        return self.unit(name, whole("add", whole("mul", place, self._gates), gate))

    def before(self, first: str, name: str, sample: str) -> str:
        """Return the address of a state's row before this step."""
        code = self._code
        at_first = code.whole("icmp eq", self._t, 0)
        earlier = self.unit(name, code.whole("sub", self.step(sample), "%units"))
        return code.make(f"select i1 {at_first}, ptr {self.unit(first, sample)}, ptr {earlier}", "row")


def _product(code: Code, rows: Callable[[str], tuple[str, str]], count: str, wide: str) -> None:
    """Write the addition of x @ weight to sums.

    Args:
        code: where to.
        rows: from a sample of the part to the addresses of its x [count] and of its sums [wide].
        count: how many rows of the weight there are.
        wide: how long they are.
    """
    done = "0"
    for many, depths in _AT_ONCE:
        groups = code.whole("sdiv", code.whole("sub", "%count", done), many)
        with code.loop(groups) as group:
            first = code.whole("add", done, code.whole("mul", group, many))
            pairs = [rows(code.whole("add", first, n)) for n in range(many)]
            taken = "0"
            for depth in depths:
                blocks = code.whole("sdiv", code.whole("sub", count, taken), depth)
                with code.loop(blocks) as block:
                    start = code.whole("add", taken, code.whole("mul", block, depth))
                    numbers = [code.whole("add", start, n) for n in range(depth)]
                    factors = [[code.load(x, k) for k in numbers] for x, _ in pairs]
                    weights = [code.place("%weight", code.whole("mul", k, wide)) for k in numbers]
                    with code.loop(wide, apart=True) as j:
                        row = [code.load(weight, j) for weight in weights]
                        for (_, sums), own in zip(pairs, factors, strict=True):
                            total = code.load(sums, j)
                            for factor, weight in zip(own, row, strict=True):
                                total = code.do("mul_add", factor, weight, total)
                            code.store(sums, j, total)
                taken = code.whole("mul", blocks, depth)
        done = code.whole("mul", groups, many)


_KINDS: tuple[tuple[str, Kind], ...] = (
    ("x", "gates"),
    ("out", "gates"),
    ("products", "gates"),
    ("weight", "weight"),
    ("sums", "sums"),
    ("first_", "states"),
    ("g_", "states"),
    ("sum", "states"),
    ("p", "unit"),
)
"""Of arrays by how their names begin; others are rows."""


def _text(body: Body, arrays: Sequence[str]) -> Text:
    kinds = tuple(map(_kind, arrays))
    return Text(body.code.text(len(body.numbers), arrays, (), False, widest=True), tuple(body.numbers), (), kinds)


def _kind(array: str) -> Kind:
    for begin, kind in _KINDS:
        if array.startswith(begin):
            return kind
    return "row"
