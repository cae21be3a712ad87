"""A window of neurons by the kernels written from their step, as autograd knows it. Differentiable once."""

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hstnn_deploy.models.algebra import Unreadable
from hstnn_deploy.models.kernels.generated import compiled, reverse, source
from hstnn_deploy.models.kernels.generated.graph import Graph, noted
from hstnn_deploy.models.kernels.generated.source import BLOCK, Text

_SMALL = 2**14
"""Values of a window from which on it is worth a kernel: to load numba takes most of a second, once a process."""

_EACH = 2**19
"""Values of a window that are worth a thread: some 0.4 ms, where another thread takes some 0.1 ms to begin."""


def serves(current: Tensor, dtype: torch.dtype) -> bool:
    """Whether a window is worth a kernel of this kind, with states of a dtype, and there can be one."""
    return (
        current.numel() >= _SMALL
        and current.device.type == "cpu"
        and type(current) in (Tensor, torch.nn.Parameter)
        and dtype == torch.float32
        and not torch.compiler.is_compiling()
        and compiled.available()
    )


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Any,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
    pooled: bool = False,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run neurons over a window; see `kernels.spiking`, and where `pooled`, `kernels.spiking_pooled`.

    Returns:
        None where there is no kernel: the step has an operation that kernels have not; or, where pooled, the sides of
        the maps are odd.
    """
    shape = current.shape[1:]
    width = shape[-1] if pooled else 0
    if pooled and (width % 2 or shape[-2] % 2):
        return None
    try:
        graph, operands = _noted(neuron, own)
    except Unreadable:
        return None
    if any(each.ndim and each.dtype != current.dtype for each in operands):
        return None
    wide = [(each.expand(shape).reshape(-1) if each.numel() > 1 else each.reshape(())).to(current) for each in operands]
    rows = None if lengths is None else lengths.long().repeat_interleave(math.prod(shape[1:]))
    states = [state[name].reshape(-1) for name in graph.states]
    given = (current.flatten(1), graph, rows, width, len(states), *states, *wide)
    out, *after = _Window.apply(*given)  # type: ignore[no-untyped-call]
    if pooled:
        shape_out: tuple[int, ...] = (*shape[:-2], shape[-2] // 2, width // 2)
    else:
        shape_out = shape
    return out.unflatten(1, shape_out), {
        name: each.unflatten(0, shape) for name, each in zip(graph.states, after, strict=True)
    }


def _noted(neuron: Any, own: Mapping[str, Tensor] | None) -> tuple[Graph, list[Tensor]]:
    if own:
        return noted(neuron, own)
    return _of(_Same(neuron)), []


class _Same:
    """A neuron's configuration, told from others by which it is: it never changes, and cannot be hashed."""

    def __init__(self, neuron: Any) -> None:
        self.neuron = neuron

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.neuron is other.neuron

    def __hash__(self) -> int:
        return id(self.neuron)


@functools.lru_cache(256)
def _of(same: _Same) -> Graph:
    graph, _ = noted(same.neuron, None)
    return graph


@functools.lru_cache(256)
def _step_back(graph: Graph, learned: tuple[int, ...]) -> reverse.Backward:
    return reverse.backward(graph, learned)


@functools.lru_cache(256)
def _forward(graph: Graph, kept: tuple[int, ...], dtype: torch.dtype, lengths: bool, pooled: bool) -> Text:
    return source.forward(graph, kept, dtype, lengths, pooled)


@functools.lru_cache(256)
def _backward(
    graph: Graph, step: reverse.Backward, dtype: torch.dtype, lengths: bool, into: int | None, pooled: bool
) -> Text:
    return source.backward(graph, step, dtype, lengths, into, pooled)


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, graph: Graph, lengths: Tensor | None, width: int, count: int, *given: Tensor
    ) -> tuple[Tensor, ...]:
        current, operands = current.contiguous(), list(given[count:])
        step = None
        kept: tuple[int, ...] = ()
        if any(ctx.needs_input_grad):
            learned = tuple(n for n in range(len(operands)) if ctx.needs_input_grad[5 + count + n])
            step = _step_back(graph, learned)
            kept = step.kept
        text = _forward(graph, kept, current.dtype, lengths is not None, width > 0)
        out = torch.empty_like(current) if width == 0 else current.new_empty(len(current), current.shape[1] // 4)
        states = [torch.empty(each.shape, dtype=current.dtype).copy_(each) for each in given[:count]]
        rooms = {place: torch.empty_like(current) for place in source.written(graph, kept, width > 0)}
        _run(text, operands, [current, *states], lengths, [out, *rooms.values()], width)
        if step is not None:
            found = {graph.emitted: out} | dict.fromkeys(_drives(graph), current) | rooms
            at_first = dict(zip(graph.states, given[:count], strict=True))
            first = [at_first[name].contiguous() for name in reverse.wanted_before(graph, step, kept)]
            ctx.save_for_backward(lengths, *(found[place] for place in kept), *first, *operands)
            ctx.graph, ctx.step, ctx.counts = graph, step, (len(kept), len(first))
            ctx.shape, ctx.dtype, ctx.width, ctx.out = current.shape, current.dtype, width, out.shape
        ctx.set_materialize_grads(False)
        return out, *states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        lengths, *saved = ctx.saved_tensors
        graph, step, width = ctx.graph, ctx.step, ctx.width
        many, firsts = ctx.counts
        kept, first, operands = saved[:many], saved[many : many + firsts], saved[many + firsts :]
        room = {"dtype": ctx.dtype}
        given = torch.zeros(ctx.out, **room) if grads[0] is None else grads[0].contiguous()
        later = [
            torch.zeros(ctx.shape[1:], **room) if g is None else torch.empty(ctx.shape[1:], **room).copy_(g)
            for g in grads[1:]
        ]
        sums = {n: torch.zeros(ctx.shape[1:], **room) for n, _ in step.operands}
        into = None if _again() else next(iter(source.written(graph, step.kept, width > 0)), None)
        outs = [torch.empty(ctx.shape, **room)] if into is None else []
        text = _backward(graph, step, ctx.dtype, lengths is not None, into, width > 0)
        _run(text, operands, [given, *kept, *first, *later], lengths, [*outs, *sums.values()], width)
        out = kept[step.kept.index(into)] if into is not None else outs[0]
        learned = [sums.get(n) for n in range(len(operands))]
        reduced = [None if g is None else g if p.ndim else g.sum() for g, p in zip(learned, operands, strict=True)]
        wanted = zip([out, None, None, None, None, *later, *reduced], ctx.needs_input_grad, strict=True)
        return tuple(g if needed else None for g, needed in wanted)


def _again() -> bool:
    """Whether there may be another backward pass over what this one has kept."""
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if asked is None else bool(asked())


def _drives(graph: Graph) -> list[int]:
    return [place for place, node in enumerate(graph.nodes) if node.op == "drive"]


def _run(
    text: Text,
    operands: list[Tensor],
    before: list[Tensor],
    lengths: Tensor | None,
    after: list[Tensor],
    width: int,
) -> None:
    """Run a kernel over all units, by several threads where there are many.

    Args:
        text: the kernel.
        operands: what the layer has of its own.
        before: its arguments before those, and the last of them of as many numbers as there are units.
        lengths: valid steps of each unit.
        after: its arguments behind.
        width: that of the maps where what is handed out is pooled, else 0.
    """
    units, dtype = len(before[-1]), before[-1].dtype
    run = compiled.function(text)
    numbers = [float(operands[n]) if isinstance(n, int) else n for n in text.numbers]
    k = np.array([*numbers, 0.0], dtype=str(dtype).removeprefix("torch."))
    tensors = [*before, *(operands[n].contiguous() for n in text.operands)]
    tensors += [*([] if lengths is None else [lengths]), *after]
    arrays = [k, *(each.detach().numpy() for each in tensors)]
    threads = max(1, min(torch.get_num_threads(), len(before[0]) * units // _EACH))
    maps = [width] if width else []
    block = max(BLOCK // (2 * width), 1) * 2 * width if width else BLOCK
    _in_parts(lambda start, stop: run(*arrays, *maps, start, stop), units, threads, block)


def _in_parts(run: Callable[[int, int], None], units: int, threads: int, block: int = BLOCK) -> None:
    """Run over a range of units in parts of whole blocks, by several threads.

    Threads take parts as they come to it: on a busy machine those that run do the work of one that does not. They are
    Python's own, which wait without using the processor. On two cores that others used as well, with products of torch
    in between, a window [28, 80000] took 1.9 ms so (the quarter of the shortest times), 1.7 with one thread, and 1.8
    and 6.4 in numba's `prange` over its layers workqueue and omp; the first ends a process that enters it twice.
    """
    size = units if threads == 1 else math.ceil(units / (4 * threads) / block) * block
    todo = deque((start, min(start + size, units)) for start in range(0, units, max(size, 1)))

    def work() -> None:
        while todo:
            try:
                part = todo.popleft()
            except IndexError:  # another took the last
                return
            run(*part)

    others = [_pool().submit(work) for _ in range(min(threads, len(todo)) - 1)]
    work()
    for other in others:
        if not other.cancel():
            other.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(os.cpu_count() or 1, 1), thread_name_prefix="kernel")


# A process that was forked has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
