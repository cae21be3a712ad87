"""A network's equations and numbers with nothing around them: what the graphs are written from.

The networks of `models` hold kernels and configuration objects, which neither TorchScript nor `torch.export` take.
Here are plain modules with the same results. `Frozen` is the one call of every network, a Python loop that TorchScript
compiles; `WindowGraph` runs the same steps inside one scan per layer, input products hoisted out, so that time and
batch stay free; `StepGraph` is a single step.

Shapes: T time, B batch, I inputs, C classes. Only what a network has is in its graph: a pure network carries no empty
states.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

# No public name for the scan operator yet (torch 2.11 to 2.13).
from torch._higher_order_ops.scan import scan

from hstnn_deploy.errors import ExportError
from hstnn_deploy.models.layers import HybridLayer, LstmGroup, RnnGroup, SpikingGroup
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceClassifier


def lif_step(current: Tensor, v: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    """One step of LIF with hard reset: spikes and v = m * (1 - s)."""
    m = v * decay + current
    spikes = (m > threshold).to(m.dtype)
    return spikes, m * (1 - spikes)


def rnn_step(drive: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """One step of the sigmoid recurrent units."""
    return torch.sigmoid(drive + h @ weight)


class FrozenLayer(nn.Module):
    """A hybrid layer. A kind it does not have is a weight of width 0, which no graph ever sees."""

    def __init__(self, layer: HybridLayer, number: int) -> None:
        super().__init__()
        self.number = number
        self.spiking = layer.count("snn")
        self.recurrent = layer.count("rnn")
        self.decay, self.threshold = 0.0, 0.0
        spiking, recurrent = layer.groups.get("snn"), layer.groups.get("rnn")
        none = torch.empty(0)
        w_spiking, w_input, w_recurrent = none, none, none
        if isinstance(spiking, SpikingGroup):
            if spiking.neuron.reset != "zero":
                raise ExportError("a reset by subtraction has no export form yet", "network.neuron.reset=zero has one")
            self.decay, self.threshold = spiking.neuron.decay, spiking.neuron.threshold
            w_spiking = spiking.weight.detach().cpu().clone()
        if isinstance(recurrent, RnnGroup):
            w_input = recurrent.weight_input.detach().cpu().clone()
            w_recurrent = recurrent.weight_recurrent.detach().cpu().clone()
        self.register_buffer("w_spiking", w_spiking)
        self.register_buffer("w_input", w_input)
        self.register_buffer("w_recurrent", w_recurrent)

    w_spiking: Tensor
    w_input: Tensor
    w_recurrent: Tensor

    def drives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input products of x[..., I] for both kinds; an absent kind's is of width 0."""
        current = x @ self.w_spiking if self.spiking > 0 else x[..., :0]
        drive = x @ self.w_input if self.recurrent > 0 else x[..., :0]
        return current, drive

    def step(self, current: Tensor, drive: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run one step; return the output [B, n_s + n_r] and the states."""
        if self.spiking > 0 and self.recurrent > 0:
            spikes, v = lif_step(current, v, self.decay, self.threshold)
            h = rnn_step(drive, h, self.w_recurrent)
            return torch.cat([spikes, h], dim=-1), v, h
        if self.spiking > 0:
            spikes, v = lif_step(current, v, self.decay, self.threshold)
            return spikes, v, h
        h = rnn_step(drive, h, self.w_recurrent)
        return h, v, h

    def scan(self, x: Tensor) -> Tensor:
        """Run a window x[T, B, I] from zero states inside one scan; return the output [T, B, n_s + n_r]."""
        current, drive = self.drives(x)
        if self.spiking > 0 and self.recurrent > 0:
            start = (_zeros(x, self.spiking), _zeros(x, self.recurrent))

            def hybrid(carry: Any, now: Any) -> Any:
                output, v, h = self.step(now[0], now[1], carry[0], carry[1])
                return (v, h.clone()), output

            return scan(hybrid, start, (current, drive))[1]  # type: ignore[no-any-return]
        if self.spiking > 0:

            def spiking(v: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
                output, v, _ = self.step(now, now, v, v)
                return v, output

            return scan(spiking, _zeros(x, self.spiking), current)[1]  # type: ignore[no-any-return]

        def recurrent(h: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
            output, _, h = self.step(now, now, h, h)
            # A scan may not hand out one tensor twice.
            return h, output.clone()

        return scan(recurrent, _zeros(x, self.recurrent), drive)[1]  # type: ignore[no-any-return]


def _zeros(x: Tensor, width: int) -> Tensor:
    return x.new_zeros(x.shape[1], width)


class Frozen(nn.Module):
    """A sequence classifier as one call: `logits, state = frozen(x, state)`; see `models.network`."""

    def __init__(self, network: SequenceClassifier) -> None:
        super().__init__()
        layers = nn.ModuleList(FrozenLayer(layer, number) for number, layer in enumerate(network.stack, 1))
        self.layers = cast(list[FrozenLayer], layers)
        self.readout = nn.Linear(network.readout.in_features, network.readout.out_features)
        self.readout.load_state_dict(network.readout.state_dict())
        self.spiking = network.sizes[-1].snn
        self.recurrent = network.sizes[-1].rnn

    def forward(self, x: Tensor, state: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Run a window x[T, B, I] from `state` (None: zeros); return logits [B, C] and the state after it."""
        given: dict[str, Tensor] = {} if state is None else state
        after: dict[str, Tensor] = {}
        output = x
        h = x[0, :, :0]
        for layer in self.layers:
            current, drive = layer.drives(output)
            v_name, h_name = f"v{layer.number}", f"h{layer.number}"
            v = given[v_name] if v_name in given else x.new_zeros(x.size(1), layer.spiking)
            h = given[h_name] if h_name in given else x.new_zeros(x.size(1), layer.recurrent)
            outputs: list[Tensor] = []
            for t in range(x.size(0)):
                y, v, h = layer.step(current[t], drive[t], v, h)
                outputs.append(y)
            output = torch.stack(outputs)
            if layer.spiking > 0:
                after[v_name] = v
            if layer.recurrent > 0:
                after[h_name] = h
        spike_sum, steps = x.new_zeros(x.size(1), self.spiking), x.new_zeros(x.size(1), 1)
        if self.spiking > 0:
            if "spike_sum" in given:
                spike_sum, steps = given["spike_sum"], given["steps"]
            spike_sum, steps = spike_sum + output[:, :, : self.spiking].sum(0), steps + x.size(0)
            after["spike_sum"], after["steps"] = spike_sum, steps
        return self.read(spike_sum, steps, h), after

    def read(self, spike_sum: Tensor, steps: Tensor, h: Tensor) -> Tensor:
        """Return logits [B, C] from the last layer's spike sum over `steps` and its h."""
        if self.spiking > 0 and self.recurrent > 0:
            features = torch.cat([spike_sum / steps, h], dim=1)
        elif self.spiking > 0:
            features = spike_sum / steps
        else:
            features = h
        logits: Tensor = self.readout(features)
        return logits


class WindowGraph(nn.Module):
    """A whole sequence from zero states: x[T, B, I] -> logits [B, C], and every layer's output [T, B, n] for proof."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run it."""
        outputs: list[Tensor] = []
        output = x
        for layer in self.frozen.layers:
            output = layer.scan(output)
            outputs.append(output)
        spiking = self.frozen.spiking
        steps = torch.full((1, 1), x.shape[0], dtype=x.dtype)
        return self.frozen.read(output[:, :, :spiking].sum(0), steps, output[-1, :, spiking:]), outputs


class StepGraph(nn.Module):
    """One time step: x[B, I] and named states -> logits [B, C], the states after it, and every layer's output [B, n].

    The logits are those of everything seen since the states were zero.
    """

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Run it."""
        outputs: list[Tensor] = []
        after: dict[str, Tensor] = {}
        output = x
        for layer in self.frozen.layers:
            current, drive = layer.drives(output)
            v, h = state.get(f"v{layer.number}", x), state.get(f"h{layer.number}", x)
            output, v, h = layer.step(current, drive, v, h)
            if layer.spiking:
                after[f"v{layer.number}"] = v
            if layer.recurrent:
                after[f"h{layer.number}"] = h
            outputs.append(output)
        spiking = self.frozen.spiking
        if spiking:
            after["spike_sum"] = state["spike_sum"] + output[:, :spiking]
            after["steps"] = state["steps"] + 1
        logits = self.frozen.read(after.get("spike_sum", x), after.get("steps", x), output[:, spiking:])
        # In the order the states came in.
        return logits, {name: after[name] for name in state}, outputs


def freeze(network: HybridNetwork) -> Frozen:
    """Return the frozen form of a network, on the CPU, without gradients.

    Raises:
        ExportError: the network's family, or a kind of its units, has no frozen form.
    """
    if not isinstance(network, SequenceClassifier):
        raise ExportError(f"{type(network).__name__} has no export form yet", "export a sequence classifier")
    if any(isinstance(group, LstmGroup) for layer in network.stack for group in layer.groups.values()):
        raise ExportError("LSTM units have no export form yet", "export a network of spiking and rnn units")
    return Frozen(network).eval().requires_grad_(False)
