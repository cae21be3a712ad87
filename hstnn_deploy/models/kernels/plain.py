"""The kernels as the equations stand: one operation after another, differentiable as often as you like."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.models.neurons import Lif


class _Spike(torch.autograd.Function):
    """Heaviside step forward, the surrogate backward; which is itself a constant to second derivatives."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, neuron: Lif) -> Tensor:
        """Return 1 where `distance` = m - threshold is positive."""
        ctx.save_for_backward(distance)
        ctx.neuron = neuron
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Multiply the gradient with the surrogate."""
        (distance,) = ctx.saved_tensors
        lens = ctx.neuron.lens
        away = distance.detach().abs()
        match ctx.neuron.surrogate:
            case "rectangular":
                return grads[0] * (away < lens).to(away.dtype) / (2 * lens), None
            case "triangular":
                return grads[0] * (1 - away / lens).clamp(min=0) / lens, None
            case "arctan":
                return grads[0] / (1 + (math.pi / (2 * lens) * away).square()) / (2 * lens), None


def lif(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window; see `kernels.lif`."""
    v = v0
    spikes = []
    # unbind, not current[t]: indexing in a loop makes backward quadratic in T.
    for t, now in enumerate(current.unbind(0)):
        m = v * neuron.decay + now
        s = _Spike.apply(m - neuron.threshold, neuron)  # type: ignore[no-untyped-call]
        fired = s.detach() if neuron.detach_reset else s
        after = m * (1 - fired) if neuron.reset == "zero" else m - fired * neuron.threshold
        v = after if lengths is None else torch.where((t < lengths)[:, None], after, v)
        spikes.append(s)
    return torch.stack(spikes), v


def lif_pooled(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window of maps, pooled; see `kernels.lif_pooled`."""
    spikes, v = lif(current.flatten(2), v0.flatten(1), neuron, lengths)
    pooled = functional.avg_pool2d(spikes.reshape(-1, *current.shape[2:]), 2)
    return pooled.unflatten(0, current.shape[:2]), v.unflatten(1, current.shape[2:])


def rnn(drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Sigmoid RNN over a window of input products `drive` [T, B, n]; return h at every step. See `kernels.rnn`."""
    h = h0
    outputs = []
    for now in drive.unbind(0):
        h = torch.sigmoid(now + h @ weight)
        outputs.append(h)
    return torch.stack(outputs)


def lstm(drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """LSTM over a window of input products `drive` [T, B, 4, n]; return h and c at every step. See `kernels.lstm`."""
    h, c = h0, c0
    outputs, cells = [], []
    for now in drive.unbind(0):
        z = now + (h @ weight.flatten(1)).view_as(now)
        i, f, g, o = z.unbind(1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
        cells.append(c)
    return torch.stack(outputs), torch.stack(cells)
