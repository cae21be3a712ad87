"""LIF whose input is normalised at each step by the batch's statistics, over a window: one kernel for both.

What autograd keeps is what comes in, x, and the state before the window; the normalised currents never outlive their
step, and membranes are computed once more on the way back, by the same operations and so to the same bits. Of each
neuron and step that is one number in the place of two, beside the spikes that the next layer keeps.

Forward equal to the bit to normalisation and `fused.lif` one after another; gradients up to the order of additions.
Differentiable once.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.models.kernels import fused
from hstnn_deploy.models.kernels.once import differentiable_once
from hstnn_deploy.models.neurons import Lif

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


def lif(x: Tensor, v0: Tensor, neuron: Lif, norms: StepNorms) -> tuple[Tensor, Tensor]:
    """Run LIF neurons over a window of values that are normalised first.

    Args:
        x: [T, B, C, …], of one dtype with v0.
        v0: the state left by the step before, [B, C, …].
        neuron: the constants.
        norms: the normalisations.

    Returns:
        Spikes [T, B, C, …]; the state v after the last step.
    """
    # In other layouts torch's normalisation writes where it should not; of one sample it cannot tell two apart.
    last = x.ndim == 5 and x.shape[1] > 1 and x.movedim(2, -1).is_contiguous()
    x = x if last else x.contiguous()
    spikes, v = _Lif.apply(x, v0, norms.scale, norms.shift, neuron, norms)  # type: ignore[no-untyped-call]
    return spikes, v


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v0: Tensor, scale: Tensor | None, shift: Tensor | None, neuron: Lif, norms: StepNorms
    ) -> tuple[Tensor, Tensor]:
        spikes, m = torch.empty_like(x), torch.empty_like(x[0])
        v0 = torch.empty_like(m).copy_(v0)  # in the layout of x
        walk, carried = _Walk(x, scale, shift, norms.eps), v0 * neuron.decay
        for t, s in enumerate(spikes.unbind(0)):
            walk.normalised(t, m, norms.means[t], norms.variances[t], norms.momentum)
            _step(m, carried, neuron, s)
        v = _reset(m, spikes[-1], neuron, carried)
        ctx.save_for_backward(x, v0, scale, shift)
        ctx.neuron, ctx.eps = neuron, norms.eps
        ctx.set_materialize_grads(False)
        return spikes, v

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_spikes, grad_v = grads
        x, v0, scale, shift = ctx.saved_tensors
        m, s, neuron = torch.empty_like(x), torch.empty_like(v0), ctx.neuron
        walk, carried = _Walk(x, scale, shift, ctx.eps), v0 * neuron.decay
        for t, m_t in enumerate(m.unbind(0)):
            walk.normalised(t, m_t)
            _step(m_t, carried, neuron, s)
        if grad_spikes is None:
            grad_spikes = m.new_zeros(()).expand_as(m)
        backwards = reversed(grad_spikes.unbind(0))
        out, grad_v0 = fused.walk_back(backwards, grad_v, m, None, neuron, ctx.needs_input_grad[1], out=m)
        grad_scale, grad_shift = (None if each is None else torch.empty_like(each) for each in (scale, shift))
        for t, g in enumerate(out.unbind(0)):
            grad_x, of_scale, of_shift = walk.back(t, g)
            g.copy_(grad_x)
            if grad_scale is not None:
                grad_scale[t] = of_scale
            if grad_shift is not None:
                grad_shift[t] = of_shift
        return out, grad_v0, grad_scale, grad_shift, None, None


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


def _step(m: Tensor, carried: Tensor, neuron: Lif, spikes: Tensor) -> None:
    """Turn currents in `m` into membranes, write who fires, and leave decay * v for the next step in `carried`."""
    # As rounded in the plain form: no fused multiplication and addition.
    m.add_(carried)
    (torch.gt if neuron.fires == "above" else torch.ge)(m, neuron.threshold, out=spikes)
    _reset(m, spikes, neuron, carried).mul_(neuron.decay)


def _reset(m: Tensor, spikes: Tensor, neuron: Lif, out: Tensor) -> Tensor:
    """Write v."""
    if neuron.reset == "zero":
        return torch.addcmul(m, m, spikes, value=-1.0, out=out)
    return torch.sub(m, spikes, alpha=neuron.threshold, out=out)
