"""Neurons whose input is normalised at each step by the batch's statistics, over a window: one function for both.

What autograd keeps is what comes in, x, and the state before the window. Normalised currents and membranes are computed
once more on the way back, by the same operations and so to the same bits. Of each neuron and step that is one number in
the place of two, beside the spikes that the next layer keeps.

Forward equal to the bit to normalisation and neurons one after another; gradients up to the order of additions.
Differentiable once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.models.kernels.once import differentiable_once

_normalise = torch.ops.aten.native_batch_norm.out
_normalise_back = torch.ops.aten.native_batch_norm_backward


class StepNorms(NamedTuple):
    """The normalisations of a window's steps, each over the batch and its maps, of C channels."""

    scale: Tensor | None
    """[T, C]; None: 1."""
    shift: Tensor | None
    """[T, C]; None: 0."""
    means: list[Tensor]
    """The running ones of each step, [C], which follow in place."""
    variances: list[Tensor]
    momentum: float
    eps: float


Run = Callable[[Tensor, dict[str, Tensor], dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""Neurons over a window: from currents, the state before and the neurons' own values to spikes and the state after."""


def spiking(
    x: Tensor, state: Mapping[str, Tensor], own: Mapping[str, Tensor], norms: StepNorms, run: Run
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run neurons over a window of values that are normalised first.

    Args:
        x: [T, B, C, …], of one dtype with the state.
        state: what the step before left, each [B, C, …].
        own: what the neurons have learned, see `Lif.fresh`.
        norms: the normalisations.
        run: the neurons.

    Returns:
        Spikes [T, B, C, …]; the state after the last step.
    """
    # In other layouts torch's normalisation writes where it should not; of one sample it cannot tell two apart.
    last = x.ndim == 5 and x.shape[1] > 1 and x.movedim(2, -1).is_contiguous()
    x = x if last else x.contiguous()
    given = (*state.values(), *own.values())
    spikes, *after = _Normed.apply(  # type: ignore[no-untyped-call]
        x, norms.scale, norms.shift, norms, run, tuple(state), tuple(own), *given
    )
    return spikes, dict(zip(state, after, strict=True))


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        norms: StepNorms,
        run: Run,
        states: tuple[str, ...],
        owned: tuple[str, ...],
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        walk, rows = _Walk(x, scale, shift, norms.eps), torch.empty_like(x)
        for t, row in enumerate(rows.unbind(0)):
            walk.normalised(t, row, norms.means[t], norms.variances[t], norms.momentum)
        spikes, after = run(rows, *_named(states, owned, given))
        ctx.save_for_backward(x, scale, shift, *given)
        ctx.run, ctx.states, ctx.owned, ctx.eps = run, states, owned, norms.eps
        ctx.set_materialize_grads(False)
        return spikes, *(after[name] for name in states)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        x, scale, shift, *given = ctx.saved_tensors
        walk, rows = _Walk(x, scale, shift, ctx.eps), torch.empty_like(x)
        for t, row in enumerate(rows.unbind(0)):
            walk.normalised(t, row)
        with torch.enable_grad():
            # Of what needs no gradient the neurons compute none.
            leaves = [rows.requires_grad_()]
            leaves += [
                each.detach().requires_grad_(needed)
                for each, needed in zip(given, ctx.needs_input_grad[_GIVEN:], strict=True)
            ]
            spikes, after = ctx.run(rows, *_named(ctx.states, ctx.owned, leaves[1:]))
        made = [spikes, *(after[name] for name in ctx.states)]
        known = [(y, grad) for y, grad in zip(made, grads, strict=True) if grad is not None and y.requires_grad]
        wanted = [each for each in leaves if each.requires_grad]
        found = dict(zip(map(id, wanted), _gradients(known, wanted), strict=True))
        of_rows, *of_given = (found.get(id(each)) for each in leaves)
        if of_rows is None:
            return (None,) * _GIVEN + tuple(of_given)
        out = torch.empty_like(x)
        grad_scale, grad_shift = (None if each is None else torch.empty_like(each) for each in (scale, shift))
        for t, g in enumerate(of_rows.unbind(0)):
            grad_x, of_scale, of_shift = walk.back(t, g)
            out[t] = grad_x
            if grad_scale is not None:
                grad_scale[t] = of_scale
            if grad_shift is not None:
                grad_shift[t] = of_shift
        return out, grad_scale, grad_shift, None, None, None, None, *of_given


_GIVEN = 7
"""The arguments of `_Normed` before the states and the neurons' own values."""


def _named(
    states: Sequence[str], owned: Sequence[str], given: Sequence[Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the states and the neurons' own values by their names."""
    state, own = given[: len(states)], given[len(states) :]
    return dict(zip(states, state, strict=True)), dict(zip(owned, own, strict=True))


def _gradients(known: list[tuple[Tensor, Tensor]], wanted: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not known:
        return [None] * len(wanted)
    made, grads = zip(*known, strict=True)
    return torch.autograd.grad(made, wanted, grads, allow_unused=True)


class _Walk:
    """The normalisations of a window, and what each step's found in its batch."""

    def __init__(self, x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> None:
        self._x, self._scale, self._shift, self._eps = x, scale, shift, eps
        self._found = [(x.new_empty(x.shape[2]), x.new_empty(x.shape[2])) for _ in x]

    def normalised(
        self, t: int, out: Tensor, mean: Tensor | None = None, variance: Tensor | None = None, momentum: float = 0.0
    ) -> None:
        """Write the normalised values of step t; running statistics follow where they are given."""
        center, factor = self._found[t]
        scale, shift = self._of(t)
        given = self._x[t], scale, shift, mean, variance, True, momentum, self._eps
        _normalise(*given, out=out, save_mean=center, save_invstd=factor)

    def back(self, t: int, gradient: Tensor) -> Any:
        """Return the gradients of x at step t, of its scale and of its shift, from that of the normalised values."""
        scale, shift = self._of(t)
        wanted = [True, scale is not None, shift is not None]
        return _normalise_back(gradient, self._x[t], scale, None, None, *self._found[t], True, self._eps, wanted)

    def _of(self, t: int) -> tuple[Tensor | None, Tensor | None]:
        scale, shift = (None if each is None else each[t] for each in (self._scale, self._shift))
        return scale, shift
