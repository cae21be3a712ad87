"""A window of recurrent units by the kernel written from their cell, as autograd knows it. Differentiable once."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.models.kernels.fused import weight_gradient
from hstnn_deploy.models.kernels.generated import cell, cell_source
from hstnn_deploy.models.kernels.generated.graph import Graph
from hstnn_deploy.models.kernels.generated.host import dense, run
from hstnn_deploy.models.kernels.generated.ir import KINDS
from hstnn_deploy.models.kernels.generated.source import Text
from hstnn_deploy.models.kernels.once import differentiable_once

_EACH = 2**20
"""Multiplications of a window that are worth a thread."""
_FEWEST = 8
"""Steps, each counted once for every gate, of the shortest window: to call a kernel takes as long as 5 steps of rnn."""
_WIDEST = 512
_MOST = 5 * 2**19
"""Multiplications of one gate's step, B n^2, up to which this product is as fast as BLAS with its call."""


def pays(shape: Sequence[int]) -> bool:
    """Whether a window with a drive of a shape is faster by this kernel than by one product of torch's at a time.

    `fused` / this, forward and forward with backward, T 28, one thread (medians of CPU time in turns, AVX-512):

        B x n       1 x 50      1 x 400     16 x 128    16 x 400    32 x 400    100 x 128   100 x 400   16 x 800
        rnn         2.7  1.8    1.7  1.2    1.5  1.5    1.2  1.2    1.1  1.1    1.2  1.2    0.9  1.0    0.9  0.9
        lstm       11.2  7.1    3.0  2.2    2.6  2.5    1.3  1.3    0.9  1.0    1.4  1.5    0.7  0.8    0.9  1.1

    Of rnn with 50 units at batch 1, 4 steps took 0.98 and 0.90, 8 took 1.24 and 1.12.
    """
    steps, batch, *gates, units = shape
    return steps * (gates[0] if gates else 1) >= _FEWEST and units <= _WIDEST and batch * units**2 <= _MOST


def window(
    step: cell.Step, drive: Tensor, state: Mapping[str, Tensor], weight: Tensor, bias: Sequence[Tensor | None] = ()
) -> dict[str, Tensor] | None:
    """Run recurrent units over a window, of tensors that `host.runs`.

    Args:
        step: the cell, such as `cells.lstm`.
        drive: what depends on the input alone, [T, B, n] or [T, B, gates, n].
        state: what the step before left, each [B, n]; first what the cell hands out.
        weight: the recurrent weight, [n, n] or [n, gates, n].
        bias: what the cell takes after its weight, if anything: one bias [n] or None.

    Returns:
        Each state at every step, [T, B, n]; None where there is no kernel: there is no step or unit, or sizes or
        precisions do not fit each other, and others spread or refuse them.
    """
    gates = None if drive.ndim == 3 else drive.shape[2] if drive.ndim == 4 else 0
    given = [each for each in bias if each is not None]
    all_ = [drive, weight, *state.values(), *given]
    if gates == 0 or drive.dtype not in KINDS or any(each.dtype != drive.dtype for each in all_):
        return None
    batch, units = drive.shape[1], drive.shape[-1]
    wrong = weight.shape != (units, *drive.shape[2:]) or any(each.shape != (batch, units) for each in state.values())
    if wrong or any(each.shape != (units,) for each in given) or 0 in drive.shape:
        return None
    graph = cell.noted(step, gates, tuple(state), bool(given) if bias else None)
    if torch.is_grad_enabled() and any(each.requires_grad for each in all_):
        rows = _Window.apply(drive, weight, graph, len(state), *state.values(), *given)  # type: ignore[no-untyped-call]
    else:
        rows, _ = _ahead(drive, weight, graph, (), [*state.values()], given)
    return dict(zip(graph.states, rows, strict=True))


@functools.lru_cache(64)
def _forward(graph: Graph, kept: tuple[int, ...], dtype: torch.dtype) -> Text:
    return cell_source.forward(graph, kept, dtype)


@functools.lru_cache(64)
def _backward(graph: Graph, step: cell.Back, dtype: torch.dtype, given: tuple[str, ...]) -> Text:
    return cell_source.backward(graph, step, dtype, given)


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, drive: Tensor, weight: Tensor, graph: Graph, count: int, *given: Tensor
    ) -> tuple[Tensor, ...]:
        states, operands = given[:count], given[count:]
        learned = tuple(n for n in range(len(operands)) if ctx.needs_input_grad[4 + count + n])
        step = cell.back(graph, learned)
        rows, kept = _ahead(drive, weight, graph, step.kept, states, operands)
        ctx.save_for_backward(weight, *rows, *states, *kept, *operands)
        ctx.graph, ctx.step, ctx.shape = graph, step, drive.shape
        ctx.set_materialize_grads(False)
        return tuple(rows)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        weight, *saved = ctx.saved_tensors
        graph, step = ctx.graph, ctx.step
        count, many = len(graph.states), len(step.kept)
        rows, first, kept, operands = (
            saved[:count],
            [dense(each) for each in saved[count : 2 * count]],
            saved[2 * count : 2 * count + many],
            [dense(each) for each in saved[2 * count + many :]],
        )
        given = {name: dense(each) for name, each in zip(graph.states, grads, strict=True) if each is not None}
        carried = [torch.zeros_like(each) for each in first]
        out = rows[0].new_empty(ctx.shape)
        products = torch.empty_like(out) if step.apart else out
        sums = {n: torch.zeros_like(first[0]) for n, _ in step.operands}
        text = _backward(graph, step, out.dtype, tuple(given))
        flipped = dense(weight).flatten(1).t().contiguous()
        arrays = [flipped, *given.values(), *rows, *first, *kept, *carried, *operands, out]
        _run(text, [*arrays, *([products] if step.apart else []), *sums.values()], ctx.shape)
        found: list[Tensor | None] = [out, None, None, None, *carried]
        found += [sums[n].sum(0) if n in sums else None for n in range(len(operands))]
        if ctx.needs_input_grad[1]:
            n = graph.states.index(step.multiplied)
            found[1] = weight_gradient(rows[n], first[n], products, weight)
        return tuple(each if needed else None for each, needed in zip(found, ctx.needs_input_grad, strict=True))


def _ahead(
    drive: Tensor,
    weight: Tensor,
    graph: Graph,
    kept: tuple[int, ...],
    states: Sequence[Tensor],
    operands: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Run a window forward: each state at every step, and what is kept of it besides."""
    drive = dense(drive)
    shape = (*drive.shape[:2], drive.shape[-1])
    rows, buffers = ([drive.new_empty(shape) for _ in some] for some in (states, kept))
    arrays = [drive, dense(weight), torch.empty_like(drive[0]), *map(dense, states), *map(dense, operands)]
    _run(_forward(graph, kept, drive.dtype), [*arrays, *rows, *buffers], drive.shape)
    return rows, buffers


def _run(text: Text, arrays: Sequence[Tensor], shape: Sequence[int]) -> None:
    """Run a kernel over all samples, by several threads where there are many.

    Args:
        text: the kernel.
        arrays: what it takes.
        shape: of the drive.
    """
    steps, batch, *gates, units = shape
    many = gates[0] if gates else 1
    sizes = {"gates": steps * batch * many * units, "row": steps * batch * units, "states": batch * units}
    sizes |= {"sums": batch * many * units, "weight": units * many * units, "unit": units}
    for kind, each in zip(text.arrays, arrays, strict=True):
        right = each.dtype == arrays[0].dtype and each.numel() == sizes[kind]
        if not (right and each.is_cpu and each.is_contiguous()):
            what = f"{list(each.shape)}, {each.dtype}, strides {each.stride()}, on {each.device}"
            raise RuntimeError(f"a kernel over {steps} steps of {batch} samples of {units} units was given {what}")
    threads = max(1, min(torch.get_num_threads(), batch, steps * batch * many * units**2 // _EACH))
    numbers = [float(each) for each in text.numbers]
    run(text, numbers, arrays, threads, units=batch, size=-(-batch // threads), steps=steps, width=units)
