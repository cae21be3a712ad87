"""The text of a kernel for GPUs: a Triton function over one window, forward or backward.

A program walks through all T steps of a block of units, whose states never leave the registers; inputs of later steps
are on their way while a step is computed, for nothing else hides the memory's latency in a recurrence. Arithmetic is
float32, whatever the inputs are, and not fused (launch with enable_fp_fusion=False): so spikes and states have the bits
of the step as it stands. Only operations that Triton's interpreter has are used.

Rows of a window are [T, B * n], each contiguous. Where what is handed out is pooled, a program takes 2x2 of maps: each
its upper row and its lower row (`_u` and `_l` behind a name), two and two of whose units lie side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hstnn_deploy.models.kernels.generated.graph import Graph, Node
from hstnn_deploy.models.kernels.generated.reverse import Backward, bits, wanted_before
from hstnn_deploy.models.kernels.generated.triton_body import Body

WORD = 32
"""Steps of a unit whose bits share one word."""

_AHEAD = 3
"""Steps whose inputs are on their way; of maps, one."""

_UNITS = """
n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
here = n < neurons
none = tl.full([BLOCK], 0, tl.int32)
pixel_none = none
sample = n // units
pixel = n
pixel_here = here
pixels = neurons
"""
_MAPS = """
HIGH: tl.constexpr = (H + 1) // 2
WIDE: tl.constexpr = (W + 1) // 2
q = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
column = q % WIDE
row = (q // WIDE) % HIGH
number = q // (WIDE * HIGH)
there = number * (H * W) < neurons
columns = (2 * column)[:, None] + tl.arange(0, 2)[None, :]
n_u = (number * (H * W) + 2 * row * W)[:, None] + columns
n_l = n_u + W
here_u = there[:, None] & (columns < W)
here_l = here_u & (2 * row + 1 < H)[:, None]
none = tl.full([BLOCK, 2], 0, tl.int32)
pixel_none = tl.full([BLOCK], 0, tl.int32)
sample = n_u // units
pixel = number * ((H // 2) * (W // 2)) + row * (W // 2) + column
pixel_here = there & (row < H // 2) & (column < W // 2)
pixels = neurons // (H * W) * ((H // 2) * (W // 2))
"""


@dataclass(frozen=True)
class Text:
    """The text of a function `run`, and what it takes."""

    source: str
    arguments: tuple[str, ...]
    """Their names, in order: tensors, then whole numbers, then the numbers below. BLOCK, H and W come behind."""
    numbers: tuple[tuple[str, float], ...]
    """Constants, by the names of their arguments: texts of neurons that differ in these alone are the same."""


def buffers(graph: Graph, step: Backward, pooled: bool) -> tuple[list[int], list[int]]:
    """Return what forward writes for the way back alone: numbers, and bits; not its input, nor what it hands out."""
    packed = set(bits(step, step.kept))
    numbers = [
        place
        for place in step.kept
        if place not in packed and step.nodes[place].op != "drive" and (pooled or place != graph.emitted)
    ]
    return numbers, [place for place in step.kept if place in packed]


def forward(graph: Graph, step: Backward | None, lengths: bool, pooled: bool) -> Text:
    """Return the text of a window forward.

    Args:
        graph: the step.
        step: the step backward for which values are kept, or None: there is no way back.
        lengths: whether samples have lengths.
        pooled: whether what is handed out is.

    Its arguments: x [T, N], `stride` from step to step; before{i} and after{i} [N], the states; operand{i}, one number
    or one a unit of a sample; lengths [B]; out [T, N], or [T, maps, H // 2, W // 2]; kept{i} [T, N] in float32, and
    bits{i} [ceil(T / 32), N] in int32; steps, neurons N, units of a sample, stride.
    """
    parts = ["_u", "_l"] if pooled else [""]
    ahead = 1 if pooled else _AHEAD
    body = Body(graph.nodes if step is None else step.nodes, graph.operands)
    numbers, packed = ([], []) if step is None else buffers(graph, step, pooled)
    index = {name: n for n, name in enumerate(graph.states)}
    emitted, stores = [], []
    for part in parts:
        handed, lines = _advance(graph, body, (numbers, packed), lengths, part)
        emitted.append(handed)
        stores += lines
    states = [f"s{n}{part}" for n in index.values() for part in parts]
    stores += [f"{state} = new_{state}" for state in states]
    if pooled:
        # Of spikes every order of a sum has the same bits.
        stores.append(f"left, right = tl.split({' + '.join(emitted)})")
    handed = "((left + right) * 0.25)" if pooled else body.whole(graph.emitted, emitted[0], "")
    stores.append(f"tl.store(out + pixel, {handed}.to(out.dtype.element_ty), mask=pixel_here)")

    lines = [*_head(pooled, lengths), *body.load(parts)]
    lines += [
        f"s{n}{part} = tl.load(before{n} + n{part}, mask=here{part}, other=0.0)"
        for n in index.values()
        for part in parts
    ]
    lines += [f"word{place}{part} = none" for place in packed for part in parts]
    for later in range(ahead):
        mask = "" if later == 0 else f" & (end > {later})"
        lines += [f"input{part}_{later} = tl.load(x + n{part}, mask=here{part}{mask}, other=0.0)" for part in parts]
        lines.append("x += stride")
    walk = ["now = none + t", *(["live = now < valid"] if lengths else [])]
    walk += [f"full = ((now & {WORD - 1}) == {WORD - 1}) | (now + 1 == end)"] if packed else []
    for part in parts:
        walk.append(f"input{part} = input{part}_0")
        walk += [f"input{part}_{later} = input{part}_{later + 1}" for later in range(ahead - 1)]
        mask = f"mask=here{part} & (now + {ahead} < end), other=0.0"
        walk.append(f"input{part}_{ahead - 1} = tl.load(x + n{part}, {mask})")
    walk += ["x += stride", *body.lines, *stores, "out += pixels"]
    walk += [f"kept{place} += neurons" for place in numbers]
    walk += [f"bits{place} += (t & {WORD - 1}) // {WORD - 1} * neurons" for place in packed]
    lines += ["for t in range(steps):", *(f"    {line}" for line in walk)]
    lines += [f"tl.store(after{n} + n{part}, s{n}{part}, mask=here{part})" for n in index.values() for part in parts]
    tensors = ["x", *(f"before{n}" for n in index.values()), *(f"operand{n}" for n in body.operands)]
    tensors += [*(["lengths"] if lengths else []), "out", *(f"kept{place}" for place in numbers)]
    tensors += [*(f"bits{place}" for place in packed), *(f"after{n}" for n in index.values())]
    return _text(body, [*tensors, "steps", "neurons", "units", "stride"], lines, pooled)


def _advance(
    graph: Graph, body: Body, kept: tuple[Sequence[int], Sequence[int]], lengths: bool, part: str
) -> tuple[str, list[str]]:
    """Write a step forward; return the name of what is handed out, and statements that store the rest."""
    index = {name: n for n, name in enumerate(graph.states)}
    stores = []

    def leaf(_: int, node: Node) -> str | None:
        if node.op == "drive":
            return f"input{part}.to(tl.float32)"
        return f"s{index[node.what]}{part}" if node.op == "state" else None

    emitted = body.write(graph.emitted, leaf, part)
    for place in kept[0]:
        stores.append(f"tl.store(kept{place} + n{part}, {body.write(place, leaf, part)}, mask=here{part})")
    for place in kept[1]:
        word, flag = f"word{place}{part}", body.write(place, leaf, part)
        stores += [
            f"{word} |= ({flag} != 0.0).to(tl.int32) << (now & {WORD - 1})",
            f"tl.store(bits{place} + n{part}, {word}, mask=here{part} & full)",
            f"{word} = tl.where(full, 0, {word})",
        ]
    for name, place in graph.after:
        new, old = body.whole(place, body.write(place, leaf, part), part), f"s{index[name]}{part}"
        stores.append(f"new_{old} = tl.where(live, {new}, {old})" if lengths else f"new_{old} = {new}")
    return emitted, stores


def backward(graph: Graph, step: Backward, lengths: bool, pooled: bool) -> Text:
    """Return the text of a window backward; arguments as of `forward`.

    Its arguments: given, the gradient of what is handed out, `stride` from step to step; later{i} and earlier{i} [N],
    the gradients of the states after the window and before it; kept{i} and bits{i} as forward has written them, of the
    input with `stride_kept` from step to step; first{i} [N], states before the window; out [T, N], the gradient of
    the input; sum{i} [N], those of what is learned, one a unit.
    """
    parts = ["_u", "_l"] if pooled else [""]
    body = Body(step.nodes, graph.operands)
    _, packed = buffers(graph, step, pooled)
    numbers = [place for place in step.kept if place not in packed]
    drives = [place for place in numbers if step.nodes[place].op == "drive"]
    before = wanted_before(graph, step, step.kept)
    index = {name: n for n, name in enumerate(graph.states)}
    stores = [line for part in parts for line in _retreat(graph, step, body, set(packed), lengths, part)]
    stores += [f"g{n}{part} = new_g{n}{part}" for n in index.values() for part in parts]

    lines = [*_head(pooled, lengths), *body.load(parts), "zero = none.to(tl.float32)"]
    lines += ["last = steps.to(tl.int64) - 1", "given += last * stride", "out += last * neurons"]
    far = {place: "stride_kept" if place in drives else "neurons" for place in numbers}
    lines += [f"kept{place} += last * {far[place]}" for place in numbers]
    lines += [f"bits{place} += last // {WORD} * neurons" for place in packed]
    for part in parts:
        for n in index.values():
            lines.append(f"g{n}{part} = tl.load(later{n} + n{part}, mask=here{part}, other=0.0)")
        for name in before:
            n = index[name]
            lines.append(f"f{n}{part} = tl.load(first{n} + n{part}, mask=here{part}, other=0.0)")
        lines += [f"total{n}{part} = zero" for n, _ in step.operands]
        lines += [f"kept{p}{part}_next = tl.load(kept{p} + n{part}, mask=here{part}, other=0.0)" for p in numbers]
        lines += [f"bits{p}{part}_next = tl.load(bits{p} + n{part}, mask=here{part}, other=0)" for p in packed]
    lines.append("given_next = tl.load(given + pixel, mask=pixel_here, other=0.0)")

    walk = ["t = steps - 1 - back", "now = none + t", *(["live = now < valid"] if lengths else [])]
    walk += ["more = here & (now > 0)"] if not pooled else [f"more{part} = here{part} & (now > 0)" for part in parts]
    walk.append("given_this = given_next.to(tl.float32)")
    walk += ["given_this = tl.broadcast_to((given_this * 0.25)[:, None], [BLOCK, 2])"] if pooled else []
    walk += [
        "given -= stride",
        "given_next = tl.load(given + pixel, mask=pixel_here & (pixel_none + t > 0), other=0.0)",
    ]
    for place in numbers:
        walk.append(f"kept{place} -= {far[place]}")
    for place in packed:
        # One word back where this step is the first of its own.
        walk.append(f"bits{place} -= (1 - ((t & {WORD - 1}) + {WORD - 1}) // {WORD}) * neurons")
    for part in parts:
        for place in numbers:
            name = f"kept{place}{part}"
            walk.append(f"{name}_this = {name}_next")
            walk.append(f"{name}_next = tl.load(kept{place} + n{part}, mask=more{part}, other=0.0)")
        for place in packed:
            name = f"bits{place}{part}"
            mask = f"mask=more{part} & ((now & {WORD - 1}) == 0), other={name}_this"
            walk += [f"{name}_this = {name}_next", f"{name}_next = tl.load(bits{place} + n{part}, {mask})"]
    walk += [*body.lines, *stores, "out -= neurons"]
    lines += ["for back in range(steps):", *(f"    {line}" for line in walk)]
    for part in parts:
        for n in index.values():
            lines.append(f"tl.store(earlier{n} + n{part}, g{n}{part}, mask=here{part})")
        lines += [f"tl.store(sum{n} + n{part}, total{n}{part}, mask=here{part})" for n, _ in step.operands]
    tensors = ["given", *(f"kept{place}" for place in numbers), *(f"bits{place}" for place in packed)]
    tensors += [*(f"first{index[name]}" for name in before), *(f"later{n}" for n in index.values())]
    tensors += [*(f"operand{n}" for n in body.operands), *(["lengths"] if lengths else []), "out"]
    tensors += [*(f"earlier{n}" for n in index.values()), *(f"sum{n}" for n, _ in step.operands)]
    whole = ["steps", "neurons", "units", "stride", *(["stride_kept"] if drives else [])]
    return _text(body, [*tensors, *whole], lines, pooled)


def _retreat(graph: Graph, step: Backward, body: Body, packed: set[int], lengths: bool, part: str) -> list[str]:
    """Write a step backward; return statements that store its gradients."""
    index, before = {name: n for n, name in enumerate(graph.states)}, wanted_before(graph, step, step.kept)

    def there(place: int, then: bool) -> str | None:
        """Return the expression of what is kept of this step, or of the one before it, if it is."""
        which, now = ("next", "(now - 1)") if then else ("this", "now")
        if place in packed:
            return f"((bits{place}{part}_{which} >> ({now} & {WORD - 1})) & 1).to(tl.float32)"
        return f"kept{place}{part}_{which}.to(tl.float32)" if place in step.kept else None

    def leaf(place: int, node: Node) -> str | None:
        match node.op:
            case "given":
                return "given_this"
            case "later":
                return f"g{index[node.what]}{part}"
            case "state" if place not in step.kept:
                made = body.write(before[node.what], lambda place, _: there(place, True), part, "then_")
                return f"tl.where(now > 0, {made}, f{index[node.what]}{part})"
        return there(place, False)

    def gradient(place: int | None, otherwise: str) -> str:
        """Return a gradient at steps that count."""
        value = "zero" if place is None else body.whole(place, body.write(place, leaf, part), part)
        return f"tl.where(live, {value}, {otherwise})" if lengths else value

    into = gradient(step.drive, "zero")
    stores = [f"tl.store(out + n{part}, ({into}).to(out.dtype.element_ty), mask=here{part})"]
    stores += [f"total{n}{part} += {gradient(place, 'zero')}" for n, place in step.operands]
    for name, place in step.states:
        old = f"g{index[name]}{part}"
        stores.append(f"new_{old} = {gradient(place, old)}")
    return stores


def _head(pooled: bool, lengths: bool) -> list[str]:
    """Return statements that say which units a program takes."""
    lines = [
        "steps = tl.cast(steps, tl.int32)",
        *(_MAPS if pooled else _UNITS).strip().split("\n"),
        "end = none + steps",
    ]
    if lengths:
        lines.append(f"valid = tl.load(lengths + sample, mask=here{'_u' if pooled else ''}, other=0)")
    return lines


def _text(body: Body, arguments: Sequence[str], lines: Sequence[str], pooled: bool) -> Text:
    """Return a function's text around the statements on a block."""
    numbers = [(f"k{n}", number) for n, number in enumerate(body.numbers)]
    constants = ["BLOCK: tl.constexpr", *(["H: tl.constexpr", "W: tl.constexpr"] if pooled else [])]
    arguments = [*arguments, *(name for name, _ in numbers)]
    source = [
        '@triton.jit(do_not_specialize=["steps"])',
        f"def run({', '.join([*arguments, *constants])}):",
        *(f"    {name} = tl.cast({name}, tl.float32)" for name, _ in numbers),
        *(f"    {line}" for line in lines),
        "",
    ]
    return Text("\n".join(source), tuple(arguments), tuple(numbers))
