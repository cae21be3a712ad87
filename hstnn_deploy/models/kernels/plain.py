"""The kernels as the equations stand: each unit's own step, one after another, differentiable as often as you like."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from hstnn_deploy.models import cells
from hstnn_deploy.models.algebra import Algebra, Pooling, Strand
from hstnn_deploy.models.cells import MapForm
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.neurons import Neuron


def spiking(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Neuron,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Any neuron over a window; see `kernels.spiking`."""
    strand = Strand("current", current, partial(neuron.step, own=own), list(neuron.states), neuron.tap, True)
    (spikes,), after = Eager(lengths).loop([strand], state)
    assert spikes is not None
    return spikes, after


def pooled(spikes: Tensor, how: Pooling = "mean") -> Tensor:
    """Return the mean, or the maximum, of each 2x2 of maps."""
    return Eager().pool(spikes, how, (2, 2), (2, 2))


def rnn(drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Sigmoid RNN over a window of input products `drive` [T, B, n]; return h at every step. See `kernels.rnn`."""
    strand = Strand("drive", drive, lambda o, now, state: cells.rnn(o, now, state, weight), ["h"], "h", True)
    (outputs,), _ = Eager().loop([strand], {"h": h0})
    assert outputs is not None
    return outputs


def lstm(drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """LSTM over a window of input products `drive` [T, B, 4, n]; return h and c at every step. See `kernels.lstm`."""
    outputs: list[Tensor] = []

    def step(o: Algebra[Tensor], now: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        h, after = cells.lstm(o, now, state, weight)
        outputs.append(h)
        return after["c"], after

    (cells_,), _ = Eager().loop([Strand("drive", drive, step, ["h", "c"], "c", True)], {"h": h0, "c": c0})
    assert cells_ is not None
    return torch.stack(outputs), cells_


def conv_rnn_pooled(
    drive: Tensor, h0: Tensor, conv: nn.Conv2d, form: MapForm, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Recurrent units in maps over a window, pooled; see `kernels.conv_rnn_pooled`."""
    # Under autocast the convolutions are rounded; the state stays as it is.
    strand = Strand(
        "drive", drive, lambda o, now, state: _in(h0, cells.conv_rnn(o, now, state, conv, form)), ["h"], "h", True
    )
    (outputs,), after = Eager(lengths).loop([strand], {"h": h0})
    assert outputs is not None
    return Eager().mean_pool(outputs), after["h"]


def _in(like: Tensor, result: tuple[Tensor, dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return one step's result in the precision of the state."""
    output, after = result
    return output.to(like.dtype), {name: value.to(like.dtype) for name, value in after.items()}
