"""The LIF neuron of snnTorch, SpikingJelly, sinabs and Norse, and ours.

Each runs as its library documents it for whole sequences, with our decay and threshold, hard reset, and our rectangular
surrogate where it takes one.
"""

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.models import kernels
from hstnn_deploy.models.neurons import Lif

NEURON = Lif(decay=0.6, threshold=0.6, lens=0.5)
Layer = Callable[[Tensor], Tensor]
"""Currents to spikes, [T, B, n]; of sinabs, [B, T, n]."""


class _Rectangle(torch.autograd.Function):
    """Our spike and its surrogate, as snnTorch takes one: of the membrane less its threshold."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() < NEURON.lens) / (2 * NEURON.lens)


def _ours() -> Layer:
    def run(current: Tensor) -> Tensor:
        v0 = current.new_zeros(current.shape[1:])
        return kernels.spiking(current, {"v": v0}, NEURON)[0]

    return run


def _snntorch() -> Layer:
    import snntorch

    neuron = snntorch.Leaky(
        beta=NEURON.decay,
        threshold=NEURON.threshold,
        spike_grad=_Rectangle.apply,
        reset_mechanism="zero",
        reset_delay=False,
    )

    def run(current: Tensor) -> Tensor:
        membrane, spikes = neuron.init_leaky().to(current.device), []
        for now in current.unbind(0):
            spike, membrane = neuron(now, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def _spikingjelly() -> Layer:
    from spikingjelly.activation_based import functional as of_net
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - NEURON.decay),
        decay_input=False,
        v_threshold=NEURON.threshold,
        v_reset=0.0,
        surrogate_function=surrogate.Rect(alpha=1 / (2 * NEURON.lens)),
        step_mode="m",
    )

    def run(current: Tensor) -> Tensor:
        of_net.reset_net(node)
        spikes: Tensor = node(current)
        return spikes

    return run


def _sinabs() -> Layer:
    import sinabs.activation as activation
    import sinabs.layers

    def rectangle(v_mem: Tensor, threshold: Tensor) -> Tensor:
        return ((v_mem - threshold).abs() < NEURON.lens).float() / (2 * NEURON.lens)

    layer = sinabs.layers.LIF(
        tau_mem=-1 / math.log(NEURON.decay),
        spike_threshold=torch.tensor(NEURON.threshold),
        spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneReset(),
        surrogate_grad_fn=rectangle,
        norm_input=False,
    )
    layer.requires_grad_(False)

    def run(current: Tensor) -> Tensor:
        layer.to(current.device).reset_states()
        spikes: Tensor = layer(current)
        return spikes

    return run


def _norse() -> Layer:
    from norse.torch import LIFBoxCell
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters

    # v + dt / tau * (i - v): the decay is 1 - dt / tau, and the input is scaled by dt / tau, which is undone.
    share = 1 - NEURON.decay
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor(share / 1e-3), v_th=torch.tensor(NEURON.threshold), method="super"
    )
    cell = LIFBoxCell(parameters, dt=1e-3)

    def run(current: Tensor) -> Tensor:
        state, spikes = LIFBoxFeedForwardState(v=torch.zeros_like(current[0])), []
        for now in (current / share).unbind(0):
            spike, state = cell(now, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


class Peer(NamedTuple):
    """A library, and what of our neuron it can be made to compute."""

    make: Callable[[], Layer]
    package: str
    gradients: bool
    """Whether its gradients must be ours."""
    differs: str = ""
    """What it computes otherwise."""
    batch_first: bool = False


PEERS = {
    "snnTorch": Peer(_snntorch, "snntorch", True),
    "SpikingJelly": Peer(_spikingjelly, "spikingjelly", True),
    "sinabs": Peer(_sinabs, "sinabs", False, "reset detached from the gradient", batch_first=True),
    "Norse LIFBox": Peer(_norse, "norse", False, "SuperSpike surrogate"),
}
OURS = Peer(_ours, "hstnn-deploy", True)


def version(peer: Peer) -> str:
    """Return the version of a library that is installed, or an empty text."""
    try:
        return importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        return ""
