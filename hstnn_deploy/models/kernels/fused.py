"""The kernels with hand-written backward, in place and without a graph node per step. Differentiable once.

The LIF recursions agree with the plain form to the bit forward; gradients agree up to the order of additions.
A step's tensors fit the cache, so what counts is how many operations a step takes: each is one pass and one launch.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hstnn_deploy.models.cells import MapForm
from hstnn_deploy.models.eager import fired
from hstnn_deploy.models.kernels.once import differentiable_once
from hstnn_deploy.models.neurons import Lif

# where_between(g, x, low, high, grad_input=out) is g where low < x < high, else 0, in one pass.
where_between = torch.ops.aten.hardtanh_backward.grad_input
# The step of sigmoid backward: sigmoid_step(g, h, grad_input=out) is g * h * (1 - h), in one pass.
_sigmoid_step = torch.ops.aten.sigmoid_backward.grad_input
# The step of tanh backward: tanh_step(g, y, grad_input=out) is g * (1 - y^2), in one pass.
_tanh_step = torch.ops.aten.tanh_backward.grad_input

_average_pool = torch.ops.aten.avg_pool2d.out


def lif(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window; see `kernels.lif`."""
    spikes, v = _Lif.apply(current, v0, neuron, lengths)  # type: ignore[no-untyped-call]
    return spikes, v


def lif_pooled(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window of maps, pooled; see `kernels.lif_pooled`. Spikes are never kept, only m is."""
    pooled, v = _LifPooled.apply(current, v0, neuron, lengths)  # type: ignore[no-untyped-call]
    return pooled, v


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
    h, outputs = h0, []
    for t, now in enumerate(drive.unbind(0)):
        own = conv(h)
        new = (now + own.relu_()).tanh_() if form == "dvs" else (now + own).relu_()
        # Under autocast the convolutions are rounded; the state stays as it is.
        new = new.to(h.dtype)
        h = new if lengths is None else torch.where((t < lengths)[:, None, None, None], new, h)
        outputs.append(functional.avg_pool2d(h, 2))
    return torch.stack(outputs), h


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
        m = _membranes(spikes, any(ctx.needs_input_grad) or lengths is not None)
        for _ in _walk(current, v0, neuron, m, spikes.unbind(0)):
            pass
        ctx.save_for_backward(m, lengths)
        ctx.neuron = neuron
        ctx.set_materialize_grads(False)
        return spikes, _state_after(m, v0, neuron, lengths)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_spikes, grad_v = grads
        m, lengths = ctx.saved_tensors
        if grad_spikes is None:
            grad_spikes = m.new_zeros(()).expand_as(m)
        backwards = reversed(grad_spikes.unbind(0))
        return *walk_back(backwards, grad_v, m, lengths, ctx.neuron, ctx.needs_input_grad[1]), None, None


class _LifPooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        steps, batch, units, height, width = current.shape
        flat, start = current.flatten(2), v0.flatten(1)
        pooled = current.new_empty(steps, batch, units, height // 2, width // 2)
        m = _membranes(flat, any(ctx.needs_input_grad) or lengths is not None)
        spikes = torch.empty_like(m[0])
        for s, pooled_t in zip(_walk(flat, start, neuron, m, repeat(spikes)), pooled.unbind(0), strict=True):
            _average_pool(s.view(current.shape[1:]), [2, 2], out=pooled_t)
        ctx.save_for_backward(m, lengths)
        ctx.neuron, ctx.maps = neuron, current.shape[2:]
        ctx.set_materialize_grads(False)
        return pooled, _state_after(m, start, neuron, lengths).unflatten(1, current.shape[2:])

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_pooled, grad_v = grads
        m, lengths = ctx.saved_tensors
        maps = ctx.maps
        backwards: Iterable[Tensor] = repeat(m.new_zeros(()).expand_as(m[0]), len(m))
        if grad_pooled is not None:
            backwards = _spread(grad_pooled, m[0].shape, maps)
        if grad_v is not None:
            grad_v = grad_v.flatten(1)
        out, grad_v0 = walk_back(backwards, grad_v, m, lengths, ctx.neuron, ctx.needs_input_grad[1])
        return out.unflatten(2, maps), None if grad_v0 is None else grad_v0.unflatten(1, maps), None, None


def _spread(grad_pooled: Tensor, shape: torch.Size, maps: torch.Size) -> Iterator[Tensor]:
    """Yield the gradient [B, n] of each step's spikes from that of their pooled maps, last step first."""
    units, height, width = maps
    spread = grad_pooled.new_zeros(shape)
    # Each pooled pixel's four; an odd last row or column is not pooled.
    even = spread.view(-1, units, height, width)[..., : height // 2 * 2, : width // 2 * 2]
    fours = even.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    for gradient in reversed((grad_pooled / 4).unbind(0)):
        fours.copy_(gradient[:, :, :, None, :, None])
        yield spread


def _membranes(like: Tensor, keep: bool) -> Tensor:
    """Return room for m of every step [T, B, n], or for one step's, T times over, where nobody will ask for it."""
    if keep:
        return torch.empty_like(like, memory_format=torch.contiguous_format)
    return torch.empty_like(like[:1], memory_format=torch.contiguous_format).expand_as(like)


def _walk(current: Tensor, v0: Tensor, neuron: Lif, m: Tensor, spikes: Iterable[Tensor]) -> Iterator[Tensor]:
    """Walk on with m_t = I_t + decay * v_{t-1}, writing m and spikes; yield each step's spikes.

    The same to the bit as the plain form: a product with 0 or 1 is exact, wherever it stands.
    """
    decayed, silent = v0 * neuron.decay, torch.ones_like(v0)
    fires, rests = (torch.gt, torch.le) if neuron.fires == "above" else (torch.ge, torch.lt)
    for now, m_t, s in zip(current.unbind(0), m.unbind(0), spikes, strict=False):
        # v = m * (1 - s), the reset to zero, is taken with (1 - s) last: it needs no operation of its own.
        torch.addcmul(now, decayed, silent, out=m_t)
        # m - threshold > 0 and m > threshold are the same test in IEEE arithmetic with subnormals.
        fires(m_t, neuron.threshold, out=s)
        if neuron.reset == "zero":
            rests(m_t, neuron.threshold, out=silent)
            torch.mul(m_t, neuron.decay, out=decayed)
        else:
            torch.sub(m_t, s, alpha=neuron.threshold, out=decayed).mul_(neuron.decay)
        yield s


def walk_back(
    grad_spikes: Iterable[Tensor],
    grad_v: Tensor | None,
    m: Tensor,
    lengths: Tensor | None,
    neuron: Lif,
    needs_grad_v0: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Walk back with gm_t = gv_t * dv_t/dm_t + (gs_t + gv_t * dv_t/ds_t) * w_t and gv_{t-1} = decay * gm_t.

    w is the surrogate. dv/dm = 1 - s and dv/ds = -m at a reset to zero, 1 and -threshold at one by subtraction; a
    detached reset has no dv/ds. gv also takes the gradient of the final state at each sample's last valid step.
    Inside, gm and gv are divided by the surrogate's peak, so that a step need not multiply with it.

    Args:
        grad_spikes: gs of each step [B, n], last step first; asked for one at a time.
        grad_v: of the state after the window, [B, n], or None for zero.
        m: membranes, [T, B, n].
        lengths: valid steps per sample, [B], or None.
        neuron: the constants.
        needs_grad_v0: whether the second result is wanted.
        out: where the first is written; m itself, where nobody needs that any more; None: a tensor of its own.

    Returns:
        The gradients of the currents [T, B, n] and, if wanted, of v0 [B, n].
    """
    peak = neuron.slope.peak
    # Where the neuron rests: m - threshold <= 0, or < 0 where it fires at the threshold.
    below_zero = (-torch.inf, torch.finfo(m.dtype).smallest_normal if neuron.fires == "above" else 0.0)
    out = torch.empty_like(m) if out is None else out
    distance, through = torch.empty_like(m[0]), torch.empty_like(m[0])
    # gv is carried as a tensor and a factor not yet applied to it.
    gv, factor = m.new_zeros(()).expand_as(m[0]), 1.0
    if grad_v is not None and lengths is None:
        gv = grad_v / peak
    steps = zip(reversed(range(len(m))), reversed(m.unbind(0)), reversed(out.unbind(0)), grad_spikes, strict=True)
    for t, m_t, gm, gs in steps:
        if grad_v is not None and lengths is not None:
            gv, factor = _where(lengths == t + 1, grad_v / peak).add_(gv, alpha=factor), 1.0
        torch.sub(m_t, neuron.threshold, out=distance)
        if neuron.detach_reset:
            gm.copy_(gs)
        elif neuron.reset == "zero":
            torch.addcmul(gs, gv, m_t, value=-factor * peak, out=gm)
        else:
            torch.add(gs, gv, alpha=-factor * peak * neuron.threshold, out=gm)
        if neuron.reset == "zero":
            where_between(gv, distance, *below_zero, grad_input=through)
        else:
            through = gv
        times_surrogate(gm, distance, neuron)
        gm.add_(through, alpha=factor)
        gv, factor = gm, neuron.decay
    if peak != 1:
        out.mul_(peak)
    grad_v0 = None
    if needs_grad_v0:
        grad_v0 = out[0] * neuron.decay
        if lengths is not None and grad_v is not None:
            grad_v0 += _where(lengths == 0, grad_v)
    return out, grad_v0


def times_surrogate(gradient: Tensor, distance: Tensor, neuron: Lif) -> None:
    """Multiply a gradient in place with the surrogate over its peak; `distance` = m - threshold is used up."""
    match neuron.surrogate:
        case "rectangular":
            where_between(gradient, distance, -neuron.lens, neuron.lens, grad_input=gradient)
        case "triangular":
            gradient.mul_(distance.abs_().div_(-neuron.lens).add_(1).clamp_(min=0))
        case "arctan":
            gradient.div_(distance.mul_(math.pi / (2 * neuron.lens)).square_().add_(1))
        case "sigmoid":
            rising = distance.div_(neuron.lens).sigmoid_()
            _sigmoid_step(gradient, rising, grad_input=gradient).mul_(4)
        case "exponential":
            gradient.mul_(distance.abs_().div_(-neuron.lens).exp_())
        case "fast-sigmoid":
            gradient.div_(distance.abs_().div_(neuron.lens).add_(1).square_())


def _where(samples: Tensor, values: Tensor) -> Tensor:
    return torch.where(samples[:, None], values, 0)


def _state_after(m: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None) -> Tensor:
    """Return v at each sample's last valid step, [B, n]."""
    last = m[-1]
    if lengths is not None:
        rows = (lengths - 1).clamp(min=0)
        last = m.gather(0, rows[None, :, None].expand(1, *m.shape[1:]))[0]
    if neuron.reset == "zero":
        after = last * (last <= neuron.threshold if neuron.fires == "above" else last < neuron.threshold)
    else:
        after = last - fired(last, neuron.threshold, neuron.fires) * neuron.threshold
    return after if lengths is None else torch.where((lengths > 0)[:, None], after, v0)


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
            later = _sigmoid_step(gh, h_t, grad_input=gz)
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
            torch.addmm(now.flatten(1), h, flat, out=z.view(len(z), -1))
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
            later = gz.view(len(gz), -1)
        grad_h0 = later @ flat.t() if ctx.needs_input_grad[1] else None
        grad_weight = weight_gradient(outputs, h0, out, weight)
        return out, grad_h0, gc if ctx.needs_input_grad[2] else None, grad_weight
