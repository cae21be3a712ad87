"""The kernels with hand-written backward, in place and without a graph node per step. Differentiable once.

The LIF recursions agree with the plain form to the bit forward; gradients agree up to the order of additions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hstnn_deploy.models.neurons import Lif


def lif(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window; see `kernels.lif`."""
    spikes, v = _Lif.apply(current, v0, neuron, lengths)  # type: ignore[no-untyped-call]
    return spikes, v


def rnn(drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Sigmoid RNN over a window; see `kernels.rnn`."""
    outputs: Tensor = _Rnn.apply(drive, h0, weight)  # type: ignore[no-untyped-call]
    return outputs


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
        keep_m = any(ctx.needs_input_grad) or lengths is not None
        m = torch.empty_like(spikes) if keep_m else torch.empty_like(spikes[:1])
        below = torch.empty_like(v0, dtype=torch.bool)
        v, after = v0, torch.empty_like(v0, memory_format=torch.contiguous_format)
        for t, (now, s) in enumerate(zip(current.unbind(0), spikes.unbind(0), strict=True)):
            m_t = m[t if keep_m else 0]
            torch.mul(v, neuron.decay, out=m_t)
            m_t.add_(now)
            # m - threshold > 0 and m > threshold are the same test in IEEE arithmetic with subnormals.
            torch.gt(m_t, neuron.threshold, out=s)
            torch.le(m_t, neuron.threshold, out=below)
            v = torch.mul(m_t, below, out=after)
        if lengths is not None:
            v = _state_at(m, v0, neuron, lengths)
        ctx.save_for_backward(m, lengths)
        ctx.neuron = neuron
        ctx.set_materialize_grads(False)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Walk back with gm_t = gv_t * (1 - s_t - m_t * w_t) + gs_t * w_t and gv_{t-1} = decay * gm_t.

        w is the surrogate's window; gv also takes the gradient of the final state at each sample's last valid step.
        """
        grad_spikes, grad_v = grads
        m, lengths = ctx.saved_tensors
        neuron: Lif = ctx.neuron
        out = torch.empty_like(m)
        slope, window = torch.empty_like(m[0]), torch.empty_like(m[0])
        height = 1 / (2 * neuron.lens)
        # gv is carried as a tensor and a factor not yet applied to it.
        gv, factor = (grad_v, 1.0) if lengths is None else (None, 1.0)
        for t in range(len(m) - 1, -1, -1):
            if lengths is not None and grad_v is not None:
                here = _where(lengths == t + 1, grad_v)
                gv, factor = here if gv is None else here.add_(gv, alpha=factor), 1.0
            gm = out[t]
            torch.sub(m[t], neuron.threshold, out=slope).abs_()
            torch.lt(slope, neuron.lens, out=window)
            window.mul_(height)
            if grad_spikes is None:
                gm.zero_()
            else:
                torch.mul(grad_spikes[t], window, out=gm)
            if gv is not None:
                torch.le(m[t], neuron.threshold, out=slope)
                slope.addcmul_(m[t], window, value=-1)
                gm.addcmul_(gv, slope, value=factor)
            gv, factor = gm, neuron.decay
        grad_v0 = None
        if ctx.needs_input_grad[1]:
            grad_v0 = out[0] * neuron.decay
            if lengths is not None and grad_v is not None:
                grad_v0 += _where(lengths == 0, grad_v)
        return out, grad_v0, None, None


def _where(samples: Tensor, values: Tensor) -> Tensor:
    return torch.where(samples[:, None], values, 0)


def _state_at(m: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor) -> Tensor:
    rows = (lengths - 1).clamp(min=0)
    last = m.gather(0, rows[None, :, None].expand(1, *m.shape[1:]))[0]
    return torch.where((lengths > 0)[:, None], last * (last <= neuron.threshold), v0)


class _Rnn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
        outputs = torch.empty_like(drive, memory_format=torch.contiguous_format)
        h = h0
        for now, h_t in zip(drive.unbind(0), outputs.unbind(0), strict=True):
            h = torch.addmm(now, h, weight, out=h_t).sigmoid_()
        ctx.save_for_backward(outputs, h0, weight)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Walk back with gz_t = (gh_t + gz_{t+1} @ W^T) * h_t * (1 - h_t); the weight's gradient is one product."""
        outputs, h0, weight = ctx.saved_tensors
        grad_drive = torch.empty_like(outputs)
        back = weight.t()
        total = torch.empty_like(outputs[0])
        for t in range(len(outputs) - 1, -1, -1):
            gh = grads[0][t]
            if t + 1 < len(outputs):
                gh = torch.addmm(gh, grad_drive[t + 1], back, out=total)
            torch.ops.aten.sigmoid_backward.grad_input(gh, outputs[t], grad_input=grad_drive[t])
        grad_h0 = grad_drive[0] @ back if ctx.needs_input_grad[1] else None
        before = torch.cat((h0[None], outputs[:-1]))
        grad_weight = before.flatten(0, 1).t() @ grad_drive.flatten(0, 1)
        return grad_drive, grad_h0, grad_weight
