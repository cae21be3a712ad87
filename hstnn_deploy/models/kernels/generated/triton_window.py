"""A window of neurons on a GPU by the Triton kernels written from their step, as autograd knows it.

Also on the CPU in Triton's interpreter (TRITON_INTERPRET=1), for tests. Differentiable once. States are float32; inputs
may be float16 or bfloat16, and then spikes are handed out in their type, which holds them exactly.

What is kept for the way back is the fewest bytes: numbers in float32, or bits, packed 32 steps to a word, where a
gradient needs no more than whether a neuron fired and whether its slope is one or none; see `reverse.backward`.
"""

import functools
import hashlib
import linecache
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.models.algebra import Unreadable
from hstnn_deploy.models.kernels.generated import reverse, triton_text
from hstnn_deploy.models.kernels.generated.graph import Graph, remembered
from hstnn_deploy.models.kernels.generated.triton_text import WORD, Text
from hstnn_deploy.models.kernels.once import differentiable_once

_HALVES = (torch.float16, torch.bfloat16)

_MANY = 2**18
"""Units from which on a thread takes four: 16 bytes at once. Below, one: so that enough of them wait for memory."""


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Any,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
    pooled: bool = False,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run neurons over a window; see `kernels.spiking`, and where `pooled`, `kernels.spiking_pooled`.

    Args:
        current: input currents, [T, B, n, …], in float32 or of half precision.
        state: what the step before left, each [B, n, …], in float32.
        neuron: the constants.
        lengths: valid steps per sample, [B], or None where all steps are valid.
        own: what the layer holds itself, of one number or broadcast to [n, …].
        pooled: whether what is handed out, in maps [T, B, C, H, W], is average-pooled 2x2.

    Returns:
        What is handed out: spikes in the type of `current`, all else in float32; and the states after the last valid
        step. None where there is no kernel: the step has an operation that kernels have not, what the layer holds is
        of another type or shape, or what would be pooled is not a spike.
    """
    shape = current.shape[1:]
    try:
        graph, operands = remembered(neuron, own)
    except Unreadable:
        return None
    fires = graph.nodes[graph.emitted].op == "spike"
    if current.numel() == 0 or (pooled and not fires):
        return None
    wide = [_wide(each, shape[1:]) for each in operands]
    if any(each is None for each in wide):
        return None
    if current.dtype not in _HALVES:
        current = current.float()
    maps = (shape[-2], shape[-1]) if pooled else None
    states = [state[name].reshape(-1) for name in graph.states]
    given = (current.flatten(1), graph, lengths, shape[1:].numel(), maps, len(states), *states, *wide)
    out, *after = _Window.apply(*given)  # type: ignore[no-untyped-call]
    emitted = (*shape[:-2], shape[-2] // 2, shape[-1] // 2) if pooled else shape
    return out.unflatten(1, emitted), {
        name: each.unflatten(0, shape) for name, each in zip(graph.states, after, strict=True)
    }


def _wide(operand: Tensor, shape: torch.Size) -> Tensor | None:
    """Return what a layer holds as one number or one a unit of a sample, in float32; None where it is neither."""
    if operand.numel() == 1:
        return operand.reshape(()).float()
    while operand.ndim > len(shape) and len(operand) == 1:
        operand = operand[0]
    if operand.dtype != torch.float32 or operand.ndim > len(shape):
        return None
    return operand.expand(shape).reshape(-1)


@functools.lru_cache(256)
def _step_back(graph: Graph, learned: tuple[int, ...]) -> reverse.Backward:
    return reverse.backward(graph, learned, packed=True)


@functools.lru_cache(256)
def _forward(graph: Graph, step: reverse.Backward | None, lengths: bool, pooled: bool) -> Text:
    return triton_text.forward(graph, step, lengths, pooled)


@functools.lru_cache(256)
def _backward(graph: Graph, step: reverse.Backward, lengths: bool, pooled: bool) -> Text:
    return triton_text.backward(graph, step, lengths, pooled)


@functools.cache
def function(source: str) -> Any:
    """Return a Triton kernel of its text.

    Triton reads a function's text where Python's `inspect` finds it: in `linecache`, as of a file that is not there. So
    no file is written, and none that somebody else could write is run.
    """
    import triton
    import triton.language as tl

    name = f"window_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    source = source.replace("def run(", f"def {name}(")
    place = f"<{name} of hstnn-deploy>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    found: dict[str, Any] = {"__name__": __name__, "triton": triton, "tl": tl}
    exec(compile(source, place, "exec"), found)
    return found[name]


def _launch(
    text: Text, tensors: Mapping[str, Tensor], numbers: Mapping[str, int], maps: tuple[int, int] | None
) -> None:
    """Start a kernel over all units."""
    count = numbers["neurons"]
    block = 512 if count >= _MANY else 128
    constants: dict[str, int] = {}
    if maps is not None:
        height, width = maps
        # A thread takes one 2x2: its units lie side by side two and two.
        block, count = 128, count // (height * width) * math.ceil(height / 2) * math.ceil(width / 2)
        constants = {"H": height, "W": width}
    values: dict[str, Any] = {**tensors, **numbers, **dict(text.numbers)}
    with torch.cuda.device_of(next(iter(tensors.values()))):
        function(text.source)[(math.ceil(count / block),)](
            *(values[name] for name in text.arguments),
            **constants,
            BLOCK=block,
            num_warps=4,
            enable_fp_fusion=False,
        )


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        graph: Graph,
        lengths: Tensor | None,
        units: int,
        maps: tuple[int, int] | None,
        count: int,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        current, given = _step_by_step(current), tuple(each.contiguous() for each in given)
        before, operands = given[:count], given[count:]
        steps, neurons = current.shape
        step = None
        if any(ctx.needs_input_grad):
            step = _step_back(graph, tuple(n for n in range(len(operands)) if ctx.needs_input_grad[6 + count + n]))
        numbers, packed = ([], []) if step is None else triton_text.buffers(graph, step, maps is not None)
        handed = graph.nodes[graph.emitted]
        # Several spikes may be more than a half counts.
        exact = handed.op == "spike" and handed.what[0] != "several"
        emitted = neurons if maps is None else neurons // math.prod(maps) * (maps[0] // 2) * (maps[1] // 2)
        out = current.new_empty(steps, emitted, dtype=None if exact else torch.float32)
        after = [torch.empty_like(each) for each in before]
        kept = {place: current.new_empty(steps, neurons, dtype=torch.float32) for place in numbers}
        words = {place: current.new_empty(math.ceil(steps / WORD), neurons, dtype=torch.int32) for place in packed}
        tensors = {"x": current, "out": out} | _named("before", before) | _named("after", after)
        tensors |= _named("operand", operands) | {f"kept{place}": each for place, each in kept.items()}
        tensors |= {f"bits{place}": each for place, each in words.items()}
        tensors |= {} if lengths is None else {"lengths": lengths.contiguous()}
        numbers_of = {"steps": steps, "neurons": neurons, "units": units, "stride": current.stride(0)}
        _launch(_forward(graph, step, lengths is not None, maps is not None), tensors, numbers_of, maps)
        if step is not None:
            found = {graph.emitted: out} | dict.fromkeys(_drives(graph), current) | kept | words
            at_first = dict(zip(graph.states, before, strict=True))
            first = [at_first[name] for name in reverse.wanted_before(graph, step, step.kept)]
            ctx.save_for_backward(lengths, *(found[place] for place in step.kept), *first, *operands)
            ctx.graph, ctx.step, ctx.counts = graph, step, (len(step.kept), len(first))
            ctx.units, ctx.maps, ctx.out = units, maps, (out.shape, out.dtype)
            ctx.current = (current.shape, current.dtype)
        ctx.set_materialize_grads(False)
        return out, *after

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        lengths, *saved = ctx.saved_tensors
        graph, step, (many, firsts), maps = ctx.graph, ctx.step, ctx.counts, ctx.maps
        kept, first, operands = saved[:many], saved[many : many + firsts], saved[many + firsts :]
        (steps, neurons), dtype = ctx.current
        (rows, emitted), emitted_dtype = ctx.out
        device = (saved[0] if saved else next(each for each in grads if each is not None)).device
        room = {"dtype": torch.float32, "device": device}
        given = grads[0]
        if given is None:
            given = torch.zeros(emitted, dtype=emitted_dtype, device=device).expand(rows, emitted)
        given = _step_by_step(given)
        later = [torch.zeros(neurons, **room) if each is None else each.contiguous() for each in grads[1:]]
        out = torch.empty(steps, neurons, dtype=dtype, device=device)
        earlier = [torch.empty(neurons, **room) for _ in later]
        sums = {n: torch.empty(neurons, **room) for n, _ in step.operands}
        packed = set(reverse.bits(step, step.kept))
        tensors = {"given": given, "out": out} | _named("later", later) | _named("earlier", earlier)
        tensors |= {f"{'bits' if p in packed else 'kept'}{p}": e for p, e in zip(step.kept, kept, strict=True)}
        names = reverse.wanted_before(graph, step, step.kept)
        tensors |= {f"first{graph.states.index(name)}": each for name, each in zip(names, first, strict=True)}
        tensors |= _named("operand", operands) | {f"sum{n}": each for n, each in sums.items()}
        tensors |= {} if lengths is None else {"lengths": lengths.contiguous()}
        numbers = {"steps": steps, "neurons": neurons, "units": ctx.units, "stride": given.stride(0)}
        for place in set(_drives(graph)) & set(step.kept):
            numbers["stride_kept"] = kept[step.kept.index(place)].stride(0)
        _launch(_backward(graph, step, lengths is not None, maps is not None), tensors, numbers, maps)
        learned = [
            None if n not in sums else sums[n].view(-1, ctx.units).sum(0) if each.ndim else sums[n].sum()
            for n, each in enumerate(operands)
        ]
        found = [out, None, None, None, None, None, *earlier, *learned]
        return tuple(each if needed else None for each, needed in zip(found, ctx.needs_input_grad, strict=True))


def _named(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}{n}": each for n, each in enumerate(tensors)}


def _drives(graph: Graph) -> list[int]:
    return [place for place, node in enumerate(graph.nodes) if node.op == "drive"]


def _step_by_step(window: Tensor) -> Tensor:
    """Return the window with every step contiguous; steps may lie anywhere, even on each other (a sum's gradient)."""
    return window if window[0].is_contiguous() else window.contiguous()
