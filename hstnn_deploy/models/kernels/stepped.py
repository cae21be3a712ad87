"""The kernel of neurons that the others do not have: hand-written backward, in place, keeping m of every step alone.

What a step carries to the next is c_t, and m_{t+1} = I_{t+1} + c_t:

    reset to zero        c = decay * m * (1 - s), in the step of the spike or after it
    by subtraction       c = decay * max(lowest, m - threshold * s)
    ... a step later     c = decay * m - threshold * s
    none                 c = decay * m

Backward, with w the surrogate at m and gc_t = gm_{t+1}: gm = gc * dc/dm + (gs + gc * dc/ds) * w, where a reset that is
detached, or comes a step later, has no dc/ds. Forward equal to the plain form up to the order of two multiplications.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hstnn_deploy.models.eager import fired
from hstnn_deploy.models.neurons import Lif


def takes(neuron: Lif) -> bool:
    """Whether this kernel has such neurons."""
    return neuron.current_decay is None and neuron.reset_to == 0 and "threshold" not in neuron.learn


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Lif,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run neurons over a window; see `kernels.spiking`."""
    rate = (own or {}).get("rate")
    decay = torch.tensor(neuron.decay, dtype=current.dtype) if rate is None else 1 - torch.sigmoid(rate)
    if neuron.input_decay:
        current = current * (1 - neuron.decay if rate is None else 1 - decay)
    shape = current.shape[1:]
    before = state.get("s")
    spikes, v = _Window.apply(  # type: ignore[no-untyped-call]
        current.flatten(2),
        state["v"].flatten(1),
        None if before is None else before.flatten(1),
        decay,
        neuron,
        lengths,
    )
    after = {"v": v.unflatten(1, shape[1:])}
    spikes = spikes.unflatten(2, shape[1:])
    if before is not None:
        after["s"] = _last(spikes.detach(), before, lengths)
    return spikes, after


def _last(rows: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """Return what stands at each sample's last valid step, or before the window where it has none."""
    if lengths is None:
        return rows[-1]
    place = (lengths - 1).clamp(min=0).view(1, -1, *[1] * (rows.ndim - 2)).expand(1, *rows.shape[1:])
    valid = (lengths > 0).view(-1, *[1] * (rows.ndim - 2))
    return torch.where(valid, rows.gather(0, place)[0], before)


def _reset(m: Tensor, s: Tensor, neuron: Lif) -> Tensor:
    """Return v of m after the step in which neurons fired; a delayed reset leaves it."""
    if neuron.delayed_reset or neuron.reset == "none":
        return m
    v = m * (s == 0) if neuron.reset == "zero" else m - s * neuron.threshold
    return v if neuron.lowest is None else v.clamp(min=neuron.lowest)


def _carried(v: Tensor, s: Tensor | None, neuron: Lif, decay: Tensor) -> Tensor:
    """Return c, from v after a step (which a delayed reset has not touched) and its spikes."""
    if not neuron.delayed_reset or neuron.reset == "none" or s is None:
        return v * decay
    if neuron.reset == "zero":
        return v * decay * (s == 0)
    return v * decay - s * neuron.threshold


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        v0: Tensor,
        s0: Tensor | None,
        decay: Tensor,
        neuron: Lif,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad) or lengths is not None
        m = torch.empty_like(current if keep else current[:1], memory_format=torch.contiguous_format)
        spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
        c = _carried(v0, s0, neuron, decay)
        for now, m_t, s in zip(current, m if keep else m.expand_as(current), spikes, strict=True):
            torch.add(now, c, out=m_t)
            _fire(m_t, neuron, s)
            c = _next(m_t, s, neuron, decay, c)
        last = _last(m, v0, lengths) if keep else m[0]
        v = _reset(last, fired(last, neuron.threshold, neuron.fires), neuron)
        if lengths is not None:
            v = torch.where((lengths > 0)[:, None], v, v0)
        ctx.save_for_backward(m, v0, s0, decay, lengths)
        ctx.neuron = neuron
        ctx.set_materialize_grads(False)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_spikes, grad_v = grads
        m, v0, s0, decay, lengths = ctx.saved_tensors
        neuron: Lif = ctx.neuron
        own = not (neuron.detach_reset or neuron.delayed_reset) and neuron.reset != "none"
        out = torch.empty_like(m)
        gc: Tensor | None = None
        slope, theta = neuron.slope, neuron.threshold
        for t in range(len(m) - 1, -1, -1):
            m_t, gm = m[t], out[t]
            s = fired(m_t, theta, neuron.fires)
            # What flows into v of this step: through c, and from the state after the window.
            gv = None if gc is None else gc * decay
            if grad_v is not None:
                ended = grad_v if lengths is None else grad_v * (lengths == t + 1)[:, None]
                if lengths is not None or t == len(m) - 1:
                    through = ended if not neuron.delayed_reset else None
                    if through is not None:
                        gv = through if gv is None else gv + through
            gs = None if grad_spikes is None else grad_spikes[t]
            if gv is None:
                gm.zero_()
            else:
                if neuron.lowest is not None and not neuron.delayed_reset:
                    gv = gv * (m_t - s * theta > neuron.lowest)
                if neuron.reset == "zero":
                    torch.mul(gv, s == 0, out=gm)
                else:
                    gm.copy_(gv)
                if own:
                    taken = gv * (m_t if neuron.reset == "zero" else theta)
                    gs = -taken if gs is None else gs - taken
            if gs is not None:
                gm.add_(slope.times(gs, m_t - theta))
            if neuron.delayed_reset and grad_v is not None and (lengths is not None or t == len(m) - 1):
                gm.add_(grad_v if lengths is None else grad_v * (lengths == t + 1)[:, None])
            gc = gm
        assert gc is not None
        first = torch.ones_like(v0) if s0 is None or neuron.reset != "zero" else (s0 == 0).to(v0.dtype)
        grad_v0 = grad_decay = None
        if ctx.needs_input_grad[1]:
            grad_v0 = gc * decay * first
            if lengths is not None and grad_v is not None:
                grad_v0 = grad_v0 + grad_v * (lengths == 0)[:, None]
        if ctx.needs_input_grad[3]:
            grad_decay = (gc * v0 * first).sum()
            for t in range(len(m) - 1):
                s = fired(m[t], theta, neuron.fires)
                v = m[t] * (s == 0) if neuron.reset == "zero" else _reset(m[t], s, neuron)
                grad_decay = grad_decay + (out[t + 1] * v).sum()
        return out, grad_v0, None, grad_decay, None, None


def _fire(m: Tensor, neuron: Lif, out: Tensor) -> None:
    match neuron.fires:
        case "above":
            torch.gt(m, neuron.threshold, out=out)
        case "at":
            torch.ge(m, neuron.threshold, out=out)
        case "several":
            torch.div(m, neuron.threshold, out=out).floor_().clamp_(min=0)


def _next(m: Tensor, s: Tensor, neuron: Lif, decay: Tensor, room: Tensor) -> Tensor:
    """Return c after a step, in the room of the c before it."""
    match neuron.reset:
        case "zero":
            return torch.mul(m, decay, out=room).masked_fill_(s > 0, 0.0)
        case "subtract" if neuron.delayed_reset:
            return torch.mul(m, decay, out=room).sub_(s, alpha=neuron.threshold)
        case "subtract":
            torch.sub(m, s, alpha=neuron.threshold, out=room)
            return (room if neuron.lowest is None else room.clamp_(min=neuron.lowest)).mul_(decay)
        case "none":
            return torch.mul(m, decay, out=room)
