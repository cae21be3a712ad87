"""A window of neurons by the kernels written from their step, as autograd knows it. Differentiable once."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.models.algebra import Unreadable
from hstnn_deploy.models.eager import lies_by_pixels
from hstnn_deploy.models.kernels.generated import reverse, source
from hstnn_deploy.models.kernels.generated.graph import Graph, remembered
from hstnn_deploy.models.kernels.generated.host import again, dense, run, runs
from hstnn_deploy.models.kernels.generated.ir import KINDS
from hstnn_deploy.models.kernels.generated.source import BLOCK, Pool, Text
from hstnn_deploy.models.kernels.once import differentiable_once

_EACH = 2**16
"""Values of a window that are worth a thread.

Forward of LIF, right after an operation of torch, on one thread and two, ms (the shortest of 300 on a busy machine):
90 000 values 0.068 and 0.069; 180 000 0.094 and 0.091; 360 000 0.147 and 0.127; 2 240 000 1.05 and 0.72.
"""


class Maps(NamedTuple):
    """Maps whose spikes are pooled."""

    pool: Pool
    width: int
    """Numbers of a row."""
    depth: int
    """Numbers of a pixel that lie side by side: its channels, or 1."""


_LINE = 64
"""Units that a thread takes at least: two that write to one line of a cache take it from each other."""


def serves(current: Tensor, dtype: torch.dtype) -> bool:
    """Whether a window, with states of a dtype, has a kernel of this kind.

    No window is too small for one: with one thread a single step of 10 LIF neurons took 0.04 ms, and 0.13 in torch's
    operations; 28 steps took 0.03 ms and 0.84. To load LLVM takes 0.02 s, and a kernel that is kept 1.4 ms.
    """
    return dtype in KINDS and runs(current)


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Any,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
    pooled: Literal["mean", "max"] | None = None,
    spare: bool = False,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run neurons over a window; see `kernels.spiking`, and where `pooled`, `kernels.spiking_pooled`.

    Maps may lie with the channels of a pixel side by side: what is handed out, and the states, then lie so too.

    If `spare`, nothing else reads the current, which may be written over: what takes its place needs no memory of its
    own. LIF over [28, 100, 800] and [500, 16, 1024], forward and backward, took 0.87 and 0.85 of the time, and 0.72 and
    0.71 where the system gives memory anew for each window (one thread, medians of CPU time in turns).

    Returns:
        None where there is no kernel: the step has an operation that kernels have not; or, where pooled, the sides of
        the maps are odd.
    """
    shape = current.shape[1:]
    if not shape or current.dtype not in KINDS:
        return None
    if pooled and (shape[-1] % 2 or shape[-2] % 2):
        return None
    if len(current) == 0:  # the way back of a kernel begins at a last step
        return (current[..., ::2, ::2] if pooled else current).clone(), dict(state)
    try:
        graph, operands = remembered(neuron, own)
    except Unreadable:
        return None
    if any(each.ndim and each.dtype != current.dtype for each in operands):
        return None
    before = [state[name] for name in graph.states]
    if any(each.shape != shape or each.dtype != current.dtype for each in before):
        return None  # others spread them, or refuse them
    if lengths is not None and lengths.shape != shape[:1]:
        return None
    if lengths is not None and lengths.is_floating_point():
        lengths = lengths.ceil()  # steps before 2.5 are those before 3
    rows = None if lengths is None else lengths.to(current.device, torch.long).repeat_interleave(math.prod(shape[1:]))
    deep = pooled is not None and lies_by_pixels(current)
    maps = None
    if pooled:
        depth = shape[-3] if deep else 1
        maps = Maps(Pool(pooled, deep), shape[-1] * depth, depth)

    def laid(each: Tensor) -> Tensor:
        """Return maps with their axes in the order of memory."""
        return each.movedim(-3, -1) if deep else each

    spread = (each.reshape(()) if each.numel() == 1 else laid(each.expand(shape)).reshape(-1) for each in operands)
    wide = [each.to(current) for each in spread]
    states = [laid(each).reshape(-1) for each in before]
    flat = laid(current).flatten(1)
    spare = spare and torch._C._len_torch_function_stack() == 0  # else somebody sees what comes out of each operation
    if torch.is_grad_enabled() and any(each.requires_grad for each in (flat, *states, *wide)):
        given = (flat, graph, rows, maps, spare, len(states), *states, *wide)
        out, *after = _Window.apply(*given)  # type: ignore[no-untyped-call]
    else:
        out, after, _ = _ahead(dense(flat), graph, (), rows, maps, states, wide, spare)

    def back(flat: Tensor, shape: Sequence[int]) -> Tensor:
        """Return numbers as they lie in memory as maps of a shape."""
        if not deep:
            return flat.view(shape)
        *first, channels, height, width = shape
        return flat.view(*first, height, width, channels).movedim(-1, -3)

    shape_out = (*shape[:-2], shape[-2] // 2, shape[-1] // 2) if pooled else shape
    named = zip(graph.states, after, strict=True)
    return back(out, (len(out), *shape_out)), {name: back(each, shape) for name, each in named}


@functools.lru_cache(256)
def _step_back(graph: Graph, learned: tuple[int, ...]) -> reverse.Backward:
    return reverse.backward(graph, learned)


@functools.lru_cache(256)
def _wanted_before(graph: Graph, step: reverse.Backward) -> tuple[str, ...]:
    return tuple(reverse.wanted_before(graph, step, step.kept))


@functools.lru_cache(256)
def _forward(graph: Graph, kept: tuple[int, ...], dtype: torch.dtype, lengths: bool, pool: Pool | None) -> Text:
    return source.forward(graph, kept, dtype, lengths, pool)


@functools.lru_cache(256)
def _backward(
    graph: Graph, step: reverse.Backward, dtype: torch.dtype, lengths: bool, into: int | None, pool: Pool | None
) -> Text:
    return source.backward(graph, step, dtype, lengths, into, pool)


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        graph: Graph,
        lengths: Tensor | None,
        maps: Maps | None,
        spare: bool,
        count: int,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        current, operands = dense(current), list(given[count:])
        step = None
        kept: tuple[int, ...] = ()
        if any(ctx.needs_input_grad):
            learned = tuple(n for n in range(len(operands)) if ctx.needs_input_grad[6 + count + n])
            step = _step_back(graph, learned)
            kept = step.kept
        out, states, buffers = _ahead(current, graph, kept, lengths, maps, given[:count], operands, spare)
        if step is not None:
            found = {graph.emitted: out} | dict.fromkeys(_drives(graph), current) | buffers
            at_first = dict(zip(graph.states, given[:count], strict=True))
            first = [dense(at_first[name]) for name in _wanted_before(graph, step)]
            ctx.save_for_backward(lengths, buffers.get(_WHICH), *(found[place] for place in kept), *first, *operands)
            # What hooks were given to keep, somebody else may read.
            ctx.shared = torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
            ctx.graph, ctx.step, ctx.counts = graph, step, (len(kept), len(first))
            ctx.shape, ctx.dtype, ctx.maps, ctx.out = current.shape, current.dtype, maps, out.shape
        ctx.set_materialize_grads(False)
        return out, *states

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        lengths, which, *saved = ctx.saved_tensors
        graph, step, maps = ctx.graph, ctx.step, ctx.maps
        many, firsts = ctx.counts
        kept, first, operands = saved[:many], saved[many : many + firsts], saved[many + firsts :]
        room = {"dtype": ctx.dtype, "device": "cpu"}
        given = torch.zeros(ctx.out, **room) if grads[0] is None else dense(grads[0])
        later = [
            torch.zeros(ctx.shape[1:], **room) if g is None else torch.empty(ctx.shape[1:], **room).copy_(g)
            for g in grads[1:]
        ]
        sums = {n: torch.zeros(ctx.shape[1:], **room) for n, _ in step.operands}
        into = None if ctx.shared or again() else next(iter(source.written(graph, step.kept, maps is not None)), None)
        outs = [torch.empty(ctx.shape, **room)] if into is None else []
        text = _backward(graph, step, ctx.dtype, lengths is not None, into, maps and maps.pool)
        before = [given, *([] if which is None else [which]), *kept, *first, *later]
        _run(text, operands, before, lengths, [*outs, *sums.values()], maps, ctx.shape)
        out = kept[step.kept.index(into)] if into is not None else outs[0]
        learned = [sums.get(n) for n in range(len(operands))]
        reduced = [None if g is None else g if p.ndim else g.sum() for g, p in zip(learned, operands, strict=True)]
        wanted = zip([out, None, None, None, None, None, *later, *reduced], ctx.needs_input_grad, strict=True)
        return tuple(g if needed else None for g, needed in wanted)


_WHICH = -1
"""In the place of a node's: what says which unit a maximum came from."""


def _ahead(
    current: Tensor,
    graph: Graph,
    kept: tuple[int, ...],
    lengths: Tensor | None,
    maps: Maps | None,
    given: Sequence[Tensor],
    operands: list[Tensor],
    spare: bool,
) -> tuple[Tensor, list[Tensor], dict[int, Tensor]]:
    """Run a window forward: what is handed out, the states after it, and what is kept of it besides.

    Of a spare current each number is read before another takes its place. What autograd hands out gets a place of its
    own: it may not be a part of what came in.
    """
    places = source.written(graph, kept, maps is not None)
    over = spare and not set(_drives(graph)) & set(kept)
    buffers = {place: torch.empty_like(current) for place in places[over:]}
    if over and places:
        buffers[places[0]] = _overwritten(current)
    if maps is not None:
        out = current.new_empty(len(current), current.shape[1] // 4)
    else:
        out = _overwritten(current) if over and not kept else torch.empty_like(current)
    states = [current.new_empty(each.shape).copy_(each) for each in given]
    besides = [buffers[place] for place in places]
    if maps and maps.pool.how == "max":
        buffers[_WHICH] = torch.empty_like(out)
        besides.append(buffers[_WHICH])
    text = _forward(graph, kept, current.dtype, lengths is not None, maps and maps.pool)
    _run(text, operands, [current, *states], lengths, [out, *besides], maps, current.shape)
    return out, states, buffers


def _overwritten(current: Tensor) -> Tensor:
    """Return a tensor in the place of another. Who has kept that for the way back is told by torch that it changed."""
    if not current.is_inference():
        torch.autograd.graph.increment_version(current)
    return current.detach()


def _drives(graph: Graph) -> list[int]:
    return [place for place, node in enumerate(graph.nodes) if node.op == "drive"]


def _run(
    text: Text,
    operands: list[Tensor],
    before: list[Tensor],
    lengths: Tensor | None,
    after: list[Tensor],
    maps: Maps | None,
    shape: Sequence[int],
) -> None:
    """Run a kernel over all units, by several threads where there are many.

    Args:
        text: the kernel.
        operands: what the layer has of its own.
        before: its arrays before those.
        lengths: valid steps of each unit.
        after: its arrays behind.
        maps: where what is handed out is pooled.
        shape: the steps and the units.
    """
    steps, units = shape
    threads = max(1, min(torch.get_num_threads(), steps * units // _EACH))
    size = _part(units, threads, 2 * maps.width if maps else 0)
    arrays = [*before, *(dense(operands[n]) for n in text.operands)]
    arrays += [*([] if lengths is None else [lengths]), *after]
    _check(text, arrays, steps, units, before[0].dtype)
    if maps:
        arrays.append(before[0].new_empty(threads * size))
    numbers = [float(operands[n]) if isinstance(n, int) else n for n in text.numbers]
    width, depth = (maps.width, maps.depth) if maps else (0, 0)
    run(text, numbers, arrays, threads, units=units, size=size, steps=steps, width=width, depth=depth)


def _check(text: Text, arrays: Sequence[Tensor], steps: int, units: int, dtype: torch.dtype) -> None:
    """Check what machine code does not check itself: the place, number and type of the values."""
    sizes = {"row": steps * units, "quarter": steps * units // 4, "flat": units, "lengths": units}
    for kind, each in zip(text.arrays, arrays, strict=True):
        right = each.dtype == (torch.int64 if kind == "lengths" else dtype) and each.numel() == sizes[kind]
        if not (right and each.is_cpu and each.is_contiguous()):
            given = f"{list(each.shape)}, {each.dtype}, strides {each.stride()}, on {each.device}"
            raise RuntimeError(f"a kernel over {steps} steps of {units} units in {dtype} was given {given}")


def _part(units: int, threads: int, multiple: int) -> int:
    """Return how many units a thread takes at once: of parts of one size each thread gets as many, or nearly so."""
    parts = -(-units // (threads * BLOCK)) * threads
    multiple = multiple or _LINE
    return max(-(-units // (max(parts, 1) * multiple)), 1) * multiple
