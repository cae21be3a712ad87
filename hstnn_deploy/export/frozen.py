"""A network's equations and numbers with nothing around them: what TorchScript and torch.export take.

The networks of `models` hold kernels and configuration objects, which neither of them takes. Here are plain modules
with the same results, the same call, and the same names for the weights. `Frozen` is that call, a Python loop which
TorchScript compiles; `Program` runs its steps inside a scan, for torch.export, so that time and batch stay free. Both
can also return what every layer emits, from the same equations: that is what a proof replays.

Shapes: T time, B batch, I inputs, n units of a group.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

# No public name for the scan operator yet (torch 2.11 to 2.13).
from torch._higher_order_ops.scan import scan
from torch.nn import functional

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.equations import check_neuron
from hstnn_deploy.export.interface import interface
from hstnn_deploy.models.convolutional import ConvClassifier, RecurrentConvolution, SpikingConvolution
from hstnn_deploy.models.language import LanguageModel
from hstnn_deploy.models.layers import Group, HybridLayer, LstmGroup, RnnGroup, SpikingGroup
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sequence import SequenceClassifier


def lif_step(current: Tensor, v: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    """One step of LIF with hard reset: spikes and v = m * (1 - s)."""
    m = v * decay + current
    spikes = (m > threshold).to(m.dtype)
    return spikes, m * (1 - spikes)


class FrozenGroup(nn.Module):
    """Units of one kind: `drive` is their product with the input, `advance` one step of their recurrence."""

    def __init__(self, neuron: Lif | None = None) -> None:
        super().__init__()
        if neuron:
            check_neuron(neuron)
        self.decay = neuron.decay if neuron else 0.0
        self.threshold = neuron.threshold if neuron else 0.0

    def drive(self, x: Tensor) -> Tensor:
        """Return the input product of x: [..., I] of units that are fully connected, [B, …] of convolutional ones."""
        raise NotImplementedError

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run one step; return what the units emit, and the states."""
        raise NotImplementedError

    def rise(self, emitted: Tensor) -> Tensor:
        """Return what the next layer sees of what the units emit."""
        return emitted

    def forward(self, x: Tensor, state: list[Tensor], over_time: bool) -> tuple[Tensor, list[Tensor]]:
        """Run one step x[B, …], or a window x[T, B, I] with its input products at once."""
        drive = self.drive(x)
        if not over_time:
            return self.advance(drive, state)
        rows: list[Tensor] = []
        for t in range(drive.size(0)):
            row, state = self.advance(drive[t], state)
            rows.append(row)
        return torch.stack(rows), state


class FrozenSpiking(FrozenGroup):
    """See `SpikingGroup`."""

    def __init__(self, group: SpikingGroup) -> None:
        super().__init__(group.neuron)
        self.weight = group.weight

    def drive(self, x: Tensor) -> Tensor:
        """Return x[…, I] @ W."""
        return x @ self.weight

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return spikes and [v]."""
        spikes, v = lif_step(drive, state[0], self.decay, self.threshold)
        return spikes, [v]


class FrozenRnn(FrozenGroup):
    """See `RnnGroup`."""

    def __init__(self, group: RnnGroup) -> None:
        super().__init__()
        self.weight_input, self.weight_recurrent = group.weight_input, group.weight_recurrent

    def drive(self, x: Tensor) -> Tensor:
        """Return x[…, I] @ W_i."""
        return x @ self.weight_input

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return h and [h]."""
        h = torch.sigmoid(drive + state[0] @ self.weight_recurrent)
        return h, [h]


class FrozenLstm(FrozenGroup):
    """See `LstmGroup`."""

    def __init__(self, group: LstmGroup) -> None:
        super().__init__()
        self.weight_input, self.weight_recurrent = group.weight_input, group.weight_recurrent

    def drive(self, x: Tensor) -> Tensor:
        """Return x[…, I] @ W_i of the four gates side by side, [..., 4 * n]."""
        return x @ self.weight_input.flatten(1)

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return h and [h, c]."""
        z = (drive + state[0] @ self.weight_recurrent.flatten(1)).chunk(4, dim=-1)
        c = torch.sigmoid(z[1]) * state[1] + torch.sigmoid(z[0]) * torch.tanh(z[2])
        h = torch.sigmoid(z[3]) * torch.tanh(c)
        return h, [h, c]


class FrozenSpikingConvolution(FrozenGroup):
    """See `SpikingConvolution`."""

    def __init__(self, group: SpikingConvolution) -> None:
        super().__init__(group.neuron)
        self.conv_input = group.conv_input

    def drive(self, x: Tensor) -> Tensor:
        """Return the convolution of x[B, …]."""
        maps: Tensor = self.conv_input(x)
        return maps

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return spikes and [v]."""
        spikes, v = lif_step(drive, state[0], self.decay, self.threshold)
        return spikes, [v]

    def rise(self, emitted: Tensor) -> Tensor:
        """Return pooled spikes."""
        return functional.avg_pool2d(emitted, 2)


class FrozenRecurrentConvolution(FrozenGroup):
    """See `RecurrentConvolution`."""

    def __init__(self, group: RecurrentConvolution) -> None:
        super().__init__()
        self.conv_input, self.conv_recurrent = group.conv_input, group.conv_recurrent
        self.dvs = group.form == "dvs"

    def drive(self, x: Tensor) -> Tensor:
        """Return the convolution of x[B, …]."""
        maps: Tensor = self.conv_input(x)
        return maps

    def advance(self, drive: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return h and [h]."""
        own = self.conv_recurrent(state[0])
        h = torch.tanh(drive + torch.relu(own)) if self.dvs else torch.relu(drive + own)
        return h, [h]

    def rise(self, emitted: Tensor) -> Tensor:
        """Return pooled h."""
        return functional.avg_pool2d(emitted, 2)


def _freeze_group(group: Group) -> FrozenGroup:
    match group:
        case SpikingGroup():
            return FrozenSpiking(group)
        case RnnGroup():
            return FrozenRnn(group)
        case LstmGroup():
            return FrozenLstm(group)
        case SpikingConvolution():
            return FrozenSpikingConvolution(group)
        case RecurrentConvolution():
            return FrozenRecurrentConvolution(group)
        case _:
            raise ExportError(f"{type(group).__name__} has no export form yet")


class FrozenLayer(nn.Module):
    """A hybrid layer. TorchScript leaves out what stands behind a kind that is None."""

    def __init__(self, layer: HybridLayer, number: int) -> None:
        super().__init__()
        groups = {kind: _freeze_group(group) for kind, group in layer.groups.items()}
        self.snn: Any = groups.get("snn")
        self.rnn: Any = groups.get("rnn")
        self.v_names = [f"v{number}"]
        self.h_names = [f"{name}{number}" for name in layer.groups["rnn"].state_names] if self.rnn else [""]

    def forward(
        self, x: Tensor, state: dict[str, Tensor], over_time: bool
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Run one step or a window, see `FrozenGroup`.

        Returns:
            The layer's output as the next one sees it, spiking first; the states; and what each group emitted.
        """
        emitted: list[Tensor] = []
        outputs: list[Tensor] = []
        after: dict[str, Tensor] = {}
        if self.snn is not None:
            values, new = self.snn(x, [state[name] for name in self.v_names], over_time)
            emitted.append(values)
            outputs.append(self.snn.rise(values))
            for name, value in zip(self.v_names, new):  # noqa: B905 - TorchScript knows no `strict`
                after[name] = value
        if self.rnn is not None:
            values, new = self.rnn(x, [state[name] for name in self.h_names], over_time)
            emitted.append(values)
            outputs.append(self.rnn.rise(values))
            for name, value in zip(self.h_names, new):  # noqa: B905
                after[name] = value
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2 if over_time else 1), after, emitted


class Frozen(nn.Module):
    """A network as one call: `logits, state = frozen(x, state)`; see `models.network`.

    A family says what stands before the layers (`enter`), what its readout sums up (`count`), and how it answers: from
    the last layer's outputs over the window, or from the states. `forward_shown` is the same call, and returns beside
    its results what every layer emitted.
    """

    together = False
    """Whether all layers go step by step together, so that memory does not grow with time."""

    def __init__(self, network: HybridNetwork) -> None:
        super().__init__()
        layers = nn.ModuleList(FrozenLayer(layer, number) for number, layer in enumerate(network.stack, 1))
        self.layers = cast(list[FrozenLayer], layers)
        self.step_by_step = self.together
        self.spiking = network.sizes[-1].snn
        self.h_name = f"h{len(network.layers)}"
        self.recurrent = network.sizes[-1].rnn > 0
        self.shapes = {state.name: list(state.shape) for state in interface(network).states}

    def enter(self, x: Tensor) -> Tensor:
        """Return what the first layer sees of x."""
        return x

    def count(self, output: Tensor, state: dict[str, Tensor], over_time: bool) -> dict[str, Tensor]:
        """Return the readout's own states after the last layer's output at one step, or over a window."""
        raise NotImplementedError

    def answer(self, outputs: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return the logits, from the last layer's outputs [T, B, n] or from the states after the window."""
        raise NotImplementedError

    def run(
        self, x: Tensor, state: dict[str, Tensor], over_time: bool, show: bool
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Run all layers over one step or a window.

        Returns:
            The last layer's output; all states; and, to show, what each group of each layer emitted, [T, B, n, …] or
            [B, n, …], spiking first, maps not yet pooled.
        """
        after: dict[str, Tensor] = {}
        shown: list[Tensor] = []
        for layer in self.layers:
            x, new, emitted = layer(x, state, over_time)
            after.update(new)
            if show:
                shown.extend(emitted)
        after.update(self.count(x, state, over_time))
        return x, after, shown

    def window(
        self, x: Tensor, state: dict[str, Tensor] | None, show: bool
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Run a window x[T, B, …] from `state`; return the logits, the state after it, and what is to be shown."""
        now: dict[str, Tensor] = {}
        for name, shape in self.shapes.items():
            now[name] = torch.zeros([x.size(1)] + shape, device=x.device)  # noqa: RUF005 - TorchScript
        if state is not None:
            now.update(state)
        output = x
        shown: list[Tensor] = []
        if self.step_by_step:
            steps: list[list[Tensor]] = []
            for t in range(x.size(0)):
                output, now, emitted = self.run(self.enter(x[t]), now, False, show)
                steps.append(emitted)
            if show:
                for group in range(len(steps[0])):
                    shown.append(torch.stack([emitted[group] for emitted in steps]))
        else:
            output, now, shown = self.run(self.enter(x), now, True, show)
        return self.answer(output, now), now, shown

    def forward(self, x: Tensor, state: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Run a window x[T, B, …] from `state`; return the logits and the state after it. What is not given is zero."""
        logits, after, _ = self.window(x, state, False)
        return logits, after

    @torch.jit.export
    def forward_shown(
        self, x: Tensor, state: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Do the same, and return what each group of each layer emitted as well, [T, B, n, …]; see `run`."""
        return self.window(x, state, True)


class FrozenSequence(Frozen):
    """See `SequenceClassifier`."""

    def __init__(self, network: SequenceClassifier) -> None:
        super().__init__(network)
        self.readout = network.readout

    def count(self, output: Tensor, state: dict[str, Tensor], over_time: bool) -> dict[str, Tensor]:
        """Add up spikes and steps."""
        after: dict[str, Tensor] = {}
        if self.spiking > 0:
            spikes = output[..., : self.spiking]
            after["spike_sum"] = state["spike_sum"] + (spikes.sum(0) if over_time else spikes)
            after["steps"] = state["steps"] + (output.size(0) if over_time else 1)
        return after

    def answer(self, outputs: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return the logits [B, C] of everything seen."""
        features: list[Tensor] = []
        if self.spiking > 0:
            features.append(state["spike_sum"] / state["steps"])
        if self.recurrent:
            features.append(state[self.h_name])
        logits: Tensor = self.readout(torch.cat(features, dim=1))
        return logits


class FrozenLanguage(Frozen):
    """See `LanguageModel`."""

    def __init__(self, network: LanguageModel) -> None:
        super().__init__(network)
        self.embedding, self.decoder = network.embedding, network.decoder

    def enter(self, x: Tensor) -> Tensor:
        """Return the embedded tokens."""
        embedded: Tensor = self.embedding(x)
        return embedded

    def count(self, output: Tensor, state: dict[str, Tensor], over_time: bool) -> dict[str, Tensor]:
        """Return nothing: the decoder has no state."""
        nothing: dict[str, Tensor] = {}
        return nothing

    def answer(self, outputs: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return the logits of every step, [T, B, V]."""
        logits: Tensor = self.decoder(outputs)
        return logits


class FrozenConvolutional(Frozen):
    """See `ConvClassifier`."""

    together = True

    def __init__(self, network: ConvClassifier) -> None:
        super().__init__(network)
        self.hidden, self.readout = network.hidden, network.readout

    def count(self, output: Tensor, state: dict[str, Tensor], over_time: bool) -> dict[str, Tensor]:
        """Add up pooled spikes."""
        after: dict[str, Tensor] = {}
        if self.spiking > 0:
            after["spike_sum"] = state["spike_sum"] + output[:, : self.spiking]
        return after

    def answer(self, outputs: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return the scores [B, C] of everything seen."""
        features: list[Tensor] = []
        if self.spiking > 0:
            features.append(state["spike_sum"])
        if self.recurrent:
            features.append(functional.avg_pool2d(state[self.h_name], 2))
        scores: Tensor = self.readout(torch.relu(self.hidden(torch.cat(features, dim=1).flatten(1))))
        return scores


class Program(nn.Module):
    """The same call with its steps inside a scan, all states given: what torch.export takes.

    Args:
        frozen: the network.
        every_step: whether it has logits of every step.
        show: whether the call returns what each group of each layer emitted as well.
    """

    def __init__(self, frozen: Frozen, every_step: bool, show: bool = False) -> None:
        super().__init__()
        # Not `graph`: that is a name of torch.fx's own.
        self.frozen = frozen
        self.every_step = every_step
        self.show = show

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Any, ...]:
        """Run a window x[T, B, …] from `state`; return the logits, the state after it, and what is to be shown."""

        def step(carry: dict[str, Tensor], now: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
            output, after, emitted = self.frozen.run(now, carry, False, self.show)
            rows = [output, *emitted] if self.every_step else emitted
            # A scan may not hand out one tensor twice, and h is both.
            return {name: after[name].clone() for name in carry}, tuple(row.clone() for row in rows)

        after, rows = scan(step, state, self.frozen.enter(x))
        logits = self.frozen.answer(rows[0] if self.every_step else x, after)
        if not self.show:
            return logits, after
        return logits, after, list(rows[1:] if self.every_step else rows)


def freeze(network: HybridNetwork) -> Frozen:
    """Return the frozen form of a network: a copy on the CPU, without gradients.

    Raises:
        ExportError: the network's family, or a kind or reset of its units, has no frozen form.
    """
    # Without gradients: a convolution inside a scan cannot be exported with them.
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    match network:
        case SequenceClassifier():
            return FrozenSequence(network).eval()
        case LanguageModel():
            return FrozenLanguage(network).eval()
        case ConvClassifier():
            return FrozenConvolutional(network).eval()
        case _:
            raise ExportError(f"{type(network).__name__} has no export form yet")
