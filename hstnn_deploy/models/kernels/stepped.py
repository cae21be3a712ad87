"""The kernel of neurons that the others do not have: hand-written backward, keeping m of every step alone.

What a step carries to the next is c_t, and m_{t+1} = gain * I_{t+1} + c_t:

    reset to zero        c = decay * m * (1 - s), in the step of the spike or after it
    by subtraction       c = decay * max(lowest, m - threshold * s)
    ... a step later     c = decay * m - threshold * s
    none                 c = decay * m

Backward, with w the surrogate at m and gc_t = gm_{t+1}: gm = gc * dc/dm + (gs + gc * dc/ds) * w, where a reset that is
detached, or comes a step later, has no dc/ds. Forward equal to the plain form up to the order of two multiplications.

Neurons are taken in blocks that fit the cache, each through all of time: then what a step makes and the next one reads
never leaves it, and the window's input, membranes and spikes are moved once.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.models.eager import fired
from hstnn_deploy.models.kernels.fused import times_surrogate, where_between
from hstnn_deploy.models.kernels.once import differentiable_once
from hstnn_deploy.models.neurons import Lif

_BLOCK = 2**15
"""Neurons of a block: some five tensors of it lie in the cache at once."""


def takes(neuron: Lif) -> bool:
    """Whether this kernel has such neurons."""
    learned = "decay" in neuron.learn and (neuron.delayed_reset or neuron.learn_as != "rate")
    if neuron.rest or neuron.each or neuron.cancels_input:
        return False
    other = neuron.current_decay is not None or neuron.reset_to != 0 or neuron.reset_again
    bounded = neuron.lowest is not None and neuron.reset != "subtract"
    return not (other or learned or bounded or "threshold" in neuron.learn)


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Lif,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run neurons over a window; see `kernels.spiking`."""
    rate = (own or {}).get("rate")
    gain = None if rate is None else torch.sigmoid(rate)
    shape, before = current.shape[1:], state.get("s")
    spikes, v = _Window.apply(  # type: ignore[no-untyped-call]
        current.flatten(1),
        state["v"].flatten(),
        None if before is None else before.flatten(),
        gain,
        neuron,
        None if lengths is None else lengths.repeat_interleave(shape[1:].numel()),
    )
    spikes = spikes.unflatten(1, shape)
    after = {"v": v.unflatten(0, shape)}
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


def _carried(v: Tensor, s: Tensor | None, neuron: Lif, decay: float) -> Tensor:
    """Return c, from v after a step (which a delayed reset has not touched) and its spikes."""
    if not neuron.delayed_reset or neuron.reset == "none" or s is None:
        return v * decay
    if neuron.reset == "zero":
        return v * decay * (s == 0)
    return v * decay - s * neuron.threshold


def _factors(neuron: Lif, gain: Tensor | None) -> tuple[float, float]:
    """Return decay, and what the input is multiplied with."""
    if gain is None:
        return neuron.decay, 1 - neuron.decay if neuron.input_decay else 1.0
    # As the definition has it: 1 - sigmoid(w) in the parameter's precision.
    return float(1 - gain), float(gain) if neuron.input_decay else 1.0


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        v0: Tensor,
        s0: Tensor | None,
        gain: Tensor | None,
        neuron: Lif,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad) or lengths is not None
        decay, factor = _factors(neuron, gain)
        m = torch.empty_like(current, memory_format=torch.contiguous_format) if keep else None
        spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
        v = torch.empty_like(v0)
        for start in range(0, current.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            c = _carried(v0[part], None if s0 is None else s0[part], neuron, decay)
            room = torch.empty_like(c)
            for t, (now, s) in enumerate(zip(current[:, part], spikes[:, part], strict=True)):
                m_t = room if m is None else m[t, part]
                torch.add(c, now, alpha=factor, out=m_t)
                _fire(m_t, neuron, s)
                c = _next(m_t, s, neuron, decay, c)
            if lengths is None:
                v[part] = _reset(m_t, s, neuron)
        if lengths is not None:
            assert m is not None
            last = _last(m, v0, lengths)
            v = torch.where(lengths > 0, _reset(last, fired(last, neuron.threshold, neuron.fires), neuron), v0)
        ctx.save_for_backward(m, v0, s0, gain, lengths)
        ctx.neuron = neuron
        ctx.set_materialize_grads(False)
        return spikes, v

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_spikes, grad_v = grads
        m, v0, s0, gain, lengths = ctx.saved_tensors
        neuron: Lif = ctx.neuron
        decay, factor = _factors(neuron, gain)
        out, grad_v0 = torch.empty_like(m), torch.empty_like(v0)
        sums = [0.0, 0.0]
        for start in range(0, m.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            of_decay, of_gain = _back(
                neuron,
                (decay, factor),
                m[:, part],
                None if grad_spikes is None else grad_spikes[:, part],
                None if grad_v is None else grad_v[part],
                None if lengths is None else lengths[part],
                (v0[part], None if s0 is None else s0[part]),
                (out[:, part], grad_v0[part]),
                learns=ctx.needs_input_grad[3],
            )
            sums[0] += of_decay
            sums[1] += of_gain
        grad_gain = None
        if ctx.needs_input_grad[3]:
            # decay = 1 - gain; and gain * I = m - c, where c is decay * v of the step before.
            through = (sums[1] - decay * sums[0]) / factor if neuron.input_decay else 0.0
            grad_gain = torch.full_like(gain, through - sums[0])
        return out, grad_v0 if ctx.needs_input_grad[1] else None, None, grad_gain, None, None


def _back(
    neuron: Lif,
    factors: tuple[float, float],
    m: Tensor,
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    lengths: Tensor | None,
    start: tuple[Tensor, Tensor | None],
    into: tuple[Tensor, Tensor],
    learns: bool,
) -> tuple[float, float]:
    """Walk a block of neurons back through time, writing the gradients of its currents and of its first state.

    Returns:
        The sums over neurons and steps of gm * v of the step before, and of gm * m, where the decay is learned.
    """
    decay, factor = factors
    own = not (neuron.detach_reset or neuron.delayed_reset) and neuron.reset != "none"
    (v0, s0), (out, grad_v0) = start, into
    slope, theta, steps = neuron.slope, neuron.threshold, len(m)
    of_decay = of_gain = 0.0
    quick = neuron.reset == "zero" and not own and lengths is None and neuron.lowest is None
    distance, through = torch.empty_like(v0), torch.empty_like(v0)
    below_zero = (-torch.inf, torch.finfo(m.dtype).smallest_normal if neuron.fires == "above" else 0.0)
    gc: Tensor | None = None
    for t in range(steps - 1, -1, -1):
        m_t, gm = m[t], torch.empty_like(m[t])
        if quick and gc is not None and grad_spikes is not None:
            # The same as below in half the passes: a reset to zero without a gradient of its own.
            torch.sub(m_t, theta, out=distance)
            where_between(gc, distance, *below_zero, grad_input=through)
            if learns:
                of_decay += float(torch.dot(through, m_t))
            gm.copy_(grad_spikes[t])
            times_surrogate(gm, distance, neuron)
            torch.mul(through, decay, out=through).add_(gm, alpha=slope.peak)
            if learns:
                of_gain += float(torch.dot(through, m_t))
            torch.mul(through, factor, out=out[t])
            gc, through = through, gc
            continue
        s = fired(m_t, theta, neuron.fires)
        ended = None
        if grad_v is not None and (lengths is not None or t == steps - 1):
            ended = grad_v if lengths is None else grad_v * (lengths == t + 1)
        # What flows into v of this step: through c, and from the state after the window.
        gv = None if gc is None else gc * decay
        if ended is not None and not neuron.delayed_reset:
            gv = ended if gv is None else gv + ended
        gs = None if grad_spikes is None else grad_spikes[t]
        if gv is None:
            gm.zero_()
        else:
            if learns and gc is not None and neuron.reset != "zero":
                of_decay += float((gc * _reset(m_t, s, neuron)).sum())
            if neuron.lowest is not None and not neuron.delayed_reset:
                gv = gv * (m_t - s * theta > neuron.lowest)
            if neuron.reset == "zero":
                torch.mul(gv, s == 0, out=gm)
                if learns and gc is not None:
                    # gc * v is gc * m * (1 - s); a gradient of the state after the window is in gm besides.
                    carried = gm if ended is None else gc * decay * (s == 0)
                    of_decay += float(torch.dot(carried, m_t)) / decay
            else:
                gm.copy_(gv)
            if own:
                taken = gv * (m_t if neuron.reset == "zero" else theta)
                gs = -taken if gs is None else gs - taken
        if gs is not None:
            gm.add_(slope.times(gs, m_t - theta))
        if ended is not None and neuron.delayed_reset:
            gm.add_(ended)
        if learns:
            of_gain += float(torch.dot(gm, m_t))
        torch.mul(gm, factor, out=out[t])
        gc = gm
    assert gc is not None
    first = torch.ones_like(v0) if s0 is None or neuron.reset != "zero" else (s0 == 0).to(v0.dtype)
    if learns:
        of_decay += float((gc * v0 * first).sum())
    torch.mul(gc, first, out=grad_v0).mul_(decay)
    if lengths is not None and grad_v is not None:
        grad_v0.add_(grad_v * (lengths == 0))
    return of_decay, of_gain


def _fire(m: Tensor, neuron: Lif, out: Tensor) -> None:
    match neuron.fires:
        case "above":
            torch.gt(m, neuron.threshold, out=out)
        case "at":
            torch.ge(m, neuron.threshold, out=out)
        case "several":
            torch.div(m, neuron.threshold, out=out).floor_().clamp_(min=0)


def _next(m: Tensor, s: Tensor, neuron: Lif, decay: float, room: Tensor) -> Tensor:
    """Return c after a step, in the memory of the c before it."""
    match neuron.reset:
        case "zero":
            # decay * m - decay * m * s: exact, as s is 0 or 1.
            torch.mul(m, decay, out=room)
            return room.addcmul_(room, s, value=-1.0)
        case "subtract" if neuron.delayed_reset:
            return torch.mul(m, decay, out=room).sub_(s, alpha=neuron.threshold)
        case "subtract":
            torch.sub(m, s, alpha=neuron.threshold, out=room)
            return (room if neuron.lowest is None else room.clamp_(min=neuron.lowest)).mul_(decay)
        case "none":
            return torch.mul(m, decay, out=room)
