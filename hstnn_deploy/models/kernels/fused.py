"""The recurrences with hand-written backward, in place and without a graph node per step. Differentiable once.

A step's tensors fit the cache, so what counts is how many operations a step takes: each is one pass and one launch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hstnn_deploy.models.cells import MapForm
from hstnn_deploy.models.eager import lies_by_pixels
from hstnn_deploy.models.kernels.decayed import without_decayed
from hstnn_deploy.models.kernels.once import differentiable_once

# The step of sigmoid backward: sigmoid_step(g, h, grad_input=out) is g * h * (1 - h), in one pass.
_sigmoid_step = torch.ops.aten.sigmoid_backward.grad_input
# The step of tanh backward: tanh_step(g, y, grad_input=out) is g * (1 - y^2), in one pass.
_tanh_step = torch.ops.aten.tanh_backward.grad_input


def rnn(drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Sigmoid RNN over a window of input products `drive` [T, B, n]; return h at every step. See `kernels.rnn`."""
    outputs: Tensor = _Rnn.apply(drive, h0, weight)  # type: ignore[no-untyped-call]
    return outputs


def lstm(drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """LSTM over a window of input products `drive` [T, B, 4, n]; return h and c at every step. See `kernels.lstm`."""
    outputs, cells = _Lstm.apply(drive, h0, c0, weight)  # type: ignore[no-untyped-call]
    return outputs, cells


def conv_rnn_pooled(
    drive: Tensor, h0: Tensor, conv: nn.Conv2d, form: MapForm, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Recurrent units in maps over a window, pooled; see `kernels.conv_rnn_pooled`.

    Of each step, autograd keeps h and, in the dvs form, the rectified recurrent drive: the rest is in place.
    """
    by_pixels, outputs = lies_by_pixels(drive), []
    h = h0.contiguous(memory_format=torch.channels_last) if by_pixels else h0
    for t, now in enumerate(drive.unbind(0)):
        own = conv(h)
        new = (now + own.relu_()).tanh_() if form == "dvs" else (now + own).relu_()
        # Under autocast the convolutions are rounded; the state stays as it is.
        new = new.to(h.dtype)
        h = new if lengths is None else torch.where((t < lengths)[:, None, None, None], new, h)
        pooled = functional.avg_pool2d(h, 2)
        outputs.append(pooled.movedim(1, -1) if by_pixels else pooled)
    emitted = torch.stack(outputs)
    return emitted.movedim(-1, 2) if by_pixels else emitted, h


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
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        """Walk back with gz_t = (gh_t + gz_{t+1} @ W^T) * h_t * (1 - h_t); the weight's gradient is one product."""
        outputs, h0, weight = ctx.saved_tensors
        out = torch.empty_like(outputs)
        total = torch.empty_like(outputs[0])
        later = None
        steps = zip(grads[0].unbind(0), outputs.unbind(0), out.unbind(0), strict=True)
        for gh, h_t, gz in reversed(list(steps)):
            if later is not None:
                gh = torch.addmm(gh, later, weight.t(), out=total)
            later = without_decayed(_sigmoid_step(gh, h_t, grad_input=gz))
        grad_h0 = out[0] @ weight.t() if ctx.needs_input_grad[1] else None
        return out, grad_h0, weight_gradient(outputs, h0, out, weight)


def weight_gradient(outputs: Tensor, h0: Tensor, products: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of a recurrent weight, as one product over the window.

    Args:
        outputs: h at every step, [T, B, n].
        h0: h before them, [B, n].
        products: gradients of h_{t-1} @ weight, [T, B, n] or [T, B, gates, n].
        weight: [n, n] or [n, gates, n].
    """
    # h before each step: the outputs up to the last but one, and h0, which is not worth a copy of the outputs.
    found = outputs[:-1].flatten(0, 1).t() @ products[1:].flatten(0, 1).flatten(1)
    return found.addmm_(h0.t(), products[0].flatten(1)).view_as(weight)


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Walk on; what is kept for the way back are the gates after their nonlinearity."""
        flat = weight.flatten(1)
        gates = torch.empty_like(drive, memory_format=torch.contiguous_format)
        outputs, cells = torch.empty_like(gates[:, :, 0]), torch.empty_like(gates[:, :, 0])
        h, c = h0, c0
        for now, z, h_t, c_t in zip(drive.unbind(0), gates.unbind(0), outputs.unbind(0), cells.unbind(0), strict=True):
            torch.addmm(now.flatten(1), h, flat, out=z.flatten(1))
            z[:, :2].sigmoid_()
            z[:, 2].tanh_()
            z[:, 3].sigmoid_()
            i, f, g, o = z.unbind(1)
            c = torch.mul(f, c, out=c_t).addcmul_(i, g)
            h = torch.tanh(c, out=h_t).mul_(o)
        ctx.save_for_backward(gates, outputs, cells, h0, c0, weight)
        ctx.set_materialize_grads(False)
        return outputs, cells

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        """Walk back with gc_t = gc_{t+1} * f_{t+1} + gh_t * o_t * (1 - tanh(c_t)^2); the weight's is one product."""
        gates, outputs, cells, h0, c0, weight = ctx.saved_tensors
        flat = weight.flatten(1)
        zero = gates.new_zeros(()).expand_as(outputs)
        grad_h, grad_c = (zero if grad is None else grad for grad in grads)
        out = torch.empty_like(gates)
        tanh_c, through, gh = (torch.empty_like(h0, memory_format=torch.contiguous_format) for _ in range(3))
        gc = torch.zeros_like(gh)
        later = None
        for t in range(len(gates) - 1, -1, -1):
            (i, f, g, o), gz = gates[t].unbind(1), out[t]
            if later is None:
                gh.copy_(grad_h[t])
            else:
                torch.addmm(grad_h[t], later, flat.t(), out=gh)
            torch.tanh(cells[t], out=tanh_c)
            torch.mul(gh, tanh_c, out=gz[:, 3])
            _tanh_step(gh.mul_(o), tanh_c, grad_input=through)
            gc.add_(through).add_(grad_c[t])
            torch.mul(gc, g, out=gz[:, 0])
            torch.mul(gc, cells[t - 1] if t else c0, out=gz[:, 1])
            torch.mul(gc, i, out=gz[:, 2])
            gc.mul_(f)
            for gate, step in enumerate((_sigmoid_step, _sigmoid_step, _tanh_step, _sigmoid_step)):
                step(gz[:, gate], gates[t, :, gate], grad_input=gz[:, gate])
            later = without_decayed(gz.flatten(1))
        grad_h0 = later @ flat.t() if ctx.needs_input_grad[1] else None
        grad_weight = weight_gradient(outputs, h0, out, weight)
        return out, grad_h0, gc if ctx.needs_input_grad[2] else None, grad_weight
