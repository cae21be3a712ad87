"""The certificate: teacher-forced replay of what an engine computed, spike by spike.

Two engines never agree to the bit over a long run: sums are taken in another order, a membrane next to its threshold
tips over, and everything behind it differs. So an engine is not compared with another run. Each step is recomputed, in
float64, from the engine's *own* spikes and h of the step before, and from its own outputs of the layer below:

    m_t = decay * m_{t-1} * (1 - s_{t-1}) + I_t      s_t must be (m_t > threshold), unless |m_t - threshold| < eps_t
    h_t = f(drive_t + own_t)                         h_t must agree within its bound

with the bounds of float32 arithmetic on these numbers, u = 2^-24, where |·| of a product is that of its factors:

    E_t = decay * E_{t-1} (1 - s_{t-1}) + |I_t|      eps_t = 8 u E_t
    8 u (|drive_t| + |own_t|) + 4 ulp(h_t)

An LSTM goes the same way through its gates, the cell's bound carried on as the membrane's is. A readout adds up many
terms, often of one sign, and its rounding grows with their count K: there 8 u is 2 sqrt(K) u where that is more. No
mismatch can hide behind an earlier one; every spike, every recurrent value, every state at the end and every logit is
checked.

Two certified runs of one network may still part: at a membrane within eps of its threshold either answer is right, and
what follows from it differs. Beside another run, the replay says of each sample whether that is how they parted.

Shapes: T time, B batch, I inputs, n units of a group. Of convolutional layers a unit is a channel of maps [H, W].
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.export.proof.certificate import Certificate, Place, Run
from hstnn_deploy.models.hybrid.convolutional import ConvClassifier, RecurrentConvolution, SpikingConvolution
from hstnn_deploy.models.hybrid.groups import Group, LstmGroup, RnnGroup, SpikingGroup, UnitKind
from hstnn_deploy.models.hybrid.language import LanguageModel
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier
from hstnn_deploy.models.network import Tap

UNIT_ROUNDOFF = 2.0**-24

_NAMES: dict[UnitKind, str] = {"snn": "spikes", "rnn": "h"}
"""What a kind of units hands out, written here by hand too."""


@torch.no_grad()
def replay(
    network: HybridNetwork,
    x: Tensor,
    run: Run,
    start: dict[str, Tensor] | None = None,
    other: Mapping[Tap, Tensor] | None = None,
) -> Certificate:
    """Check an engine's run against the equations.

    Args:
        network: the network that was exported, for its numbers; not the form that the graphs were written from.
        x: the input, [T, B, …].
        run: what the engine computed of it.
        start: the states it started from; None for zeros.
        other: what another run of the network on the same emitted, for `Certificate.explained`; maps may be pooled.

    Raises:
        ExportError: a spike of the network sets no membrane to zero: that equation is not written here.
    """
    batch = x.shape[1]
    result = Certificate(
        failed=torch.zeros(batch, dtype=torch.bool),
        parted=torch.full((batch,), torch.inf),
        parted_borderline=torch.zeros(batch, dtype=torch.bool),
    )
    before = network.initial_state(x) | (start or {})
    below = _Input(network, x)
    replays: list[_Replay] = []
    for number, layer in enumerate(network.stack, 1):
        of_layer = [
            _REPLAYS[type(group)](group, number, run.taps[Tap(number, _NAMES[kind])], before)
            for kind, group in layer.groups.items()
        ]
        if other is not None and "snn" in layer.groups:
            of_layer[0].other = other[Tap(number, "spikes")]
        for t in range(len(x)):
            seen, magnitude = below.at(t)
            for each in of_layer:
                each.step(t, seen, magnitude, result)
        below = _Output(network, [each.emitted for each in of_layer])
        replays += of_layer
    for each in replays:
        each.end(run, result)
    match network:
        case SequenceClassifier():
            _replay_classifier(network, x, run, before, result)
        case LanguageModel():
            _replay_decoder(network, below, run, result)
        case ConvClassifier():
            _replay_convolutional(network, run, before, result)
        case _:
            raise TypeError(f"{type(network).__name__} has no replay")
    result.divergences.sort(key=lambda found: (found.layer == 0, found.layer, found.step))
    return result


# ------------------------------------------------------------------------------------------ what a layer sees of a step


class _Input:
    """What the first layer sees: the input itself, or its embedding."""

    def __init__(self, network: HybridNetwork, x: Tensor) -> None:
        self._x, self._network = x, network

    def at(self, t: int) -> tuple[Tensor, Tensor]:
        """Return a step's values and their magnitudes, in float64."""
        now = self._network.embedding(self._x[t]) if isinstance(self._network, LanguageModel) else self._x[t]
        return now.double(), now.double().abs()


class _Output(_Input):
    """What a layer sees of the one below: its groups side by side, pooled where they are maps."""

    def __init__(self, network: HybridNetwork, emitted: list[Tensor]) -> None:
        self._pooled, self._emitted = isinstance(network, ConvClassifier), emitted

    def at(self, t: int) -> tuple[Tensor, Tensor]:
        """Return a step's values and their magnitudes; of a mean, that is the mean of the magnitudes."""
        parts = torch.cat([values[t].double() for values in self._emitted], dim=1)
        if self._pooled:
            return functional.avg_pool2d(parts, 2), functional.avg_pool2d(parts.abs(), 2)
        return parts, parts.abs()


# ----------------------------------------------------------------------------------------------------- groups of units


class _Replay:
    """The replay of one group of units, step after step.

    Args:
        group: the units.
        layer: of which layer, from 1.
        emitted: what an engine says they emitted, [T, B, n, …].
        before: all states before the first step.
    """

    other: Tensor | None = None
    """What they emitted in another run."""

    def __init__(self, group: Group, layer: int, emitted: Tensor, before: dict[str, Tensor]) -> None:
        self.group, self.layer, self.emitted = group, layer, emitted
        self.states = {name: before[f"{name}{layer}"].double() for name in group.state_names}
        self.weights = {name: value.detach().double() for name, value in group.named_parameters()}

    def step(self, t: int, x: Tensor, magnitude: Tensor, result: Certificate) -> None:
        """Check step t, given the layer's input and its magnitude, both [B, …]."""
        raise NotImplementedError

    def end(self, run: Run, result: Certificate) -> None:
        """Check the states after the last step."""
        raise NotImplementedError

    def claim(self, t: int) -> Tensor:
        """Return what was emitted at step t; it is what the next step goes on from."""
        return self.emitted[t].double()

    def product(self, name: str, x: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product of x with a weight, or its convolution, and the magnitude of its terms."""
        if f"{name}.bias" in self.weights:
            weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
            padding = int(getattr(self.group, name).padding[0])
            return (
                functional.conv2d(x, weight, bias, padding=padding),
                functional.conv2d(magnitude, weight.abs(), bias.abs(), padding=padding),
            )
        weight = self.weights[name].flatten(1)
        return x @ weight, magnitude @ weight.abs()

    def check_state(self, name: str, expected: Tensor, bound: Tensor, run: Run, result: Certificate) -> None:
        """Check a state as the engine left it."""
        place = Place(self.layer, f"state {name}", len(self.emitted) - 1)
        result.values_of(run.state[f"{name}{self.layer}"].double(), expected, bound, place)


class _Spiking(_Replay):
    bound: Tensor
    eps: Tensor

    def __init__(self, group: Group, layer: int, emitted: Tensor, before: dict[str, Tensor]) -> None:
        super().__init__(group, layer, emitted, before)
        assert isinstance(group, SpikingGroup | SpikingConvolution)
        self.neuron = group.neuron
        self.bound = self.states["v"].abs()

    def step(self, t: int, x: Tensor, magnitude: Tensor, result: Certificate) -> None:
        """See `_Replay`."""
        neuron = self.neuron
        current, reach = self.product("weight" if isinstance(self.group, SpikingGroup) else "conv_input", x, magnitude)
        m = neuron.decay * self.states["v"] + current
        reached = neuron.decay * self.bound + reach
        # The threshold itself is rounded to float32 in the engine.
        eps = 8 * UNIT_ROUNDOFF * reached + UNIT_ROUNDOFF * neuron.threshold
        expected = (m > neuron.threshold).double()
        spikes = self.claim(t)
        # Of a membrane that was set to zero nothing is left, its rounding neither.
        self.states["v"], self.bound, self.eps = m * (1 - spikes), reached * (1 - spikes), eps * (1 - spikes)
        distance = (m - neuron.threshold).abs()
        near = distance < eps
        wrong = (spikes != expected) & ~near
        wrong |= (spikes != 0) & (spikes != 1)
        result.spikes_of(wrong, distance, eps, Place(self.layer, "spikes", t))
        if self.other is not None:
            theirs = self.other[t].double()
            if theirs.shape != spikes.shape:
                spikes, near = functional.avg_pool2d(spikes, 2), functional.max_pool2d(near.double(), 2) > 0
            result.beside(spikes != theirs, near, t)

    def end(self, run: Run, result: Certificate) -> None:
        """See `_Replay`."""
        self.check_state("v", self.states["v"], self.eps, run, result)


class _Recurrent(_Replay):
    def step(self, t: int, x: Tensor, magnitude: Tensor, result: Certificate) -> None:
        """See `_Replay`."""
        before = self.states["h"]
        if isinstance(self.group, RecurrentConvolution):
            drive, reach = self.product("conv_input", x, magnitude)
            own, own_reach = self.product("conv_recurrent", before, before.abs())
            expected = torch.tanh(drive + own.relu()) if self.group.form == "dvs" else (drive + own).relu()
        else:
            drive, reach = self.product("weight_input", x, magnitude)
            own, own_reach = self.product("weight_recurrent", before, before.abs())
            expected = torch.sigmoid(drive + own)
        h = self.states["h"] = self.claim(t)
        bound = 8 * UNIT_ROUNDOFF * (reach + own_reach) + 4 * _ulp(expected)
        result.values_of(h, expected, bound, Place(self.layer, "h", t))
        result.values += h.numel()

    def end(self, run: Run, result: Certificate) -> None:
        """See `_Replay`."""
        self.check_state("h", self.states["h"], _ulp(self.states["h"]), run, result)


class _Lstm(_Replay):
    bound: Tensor

    def step(self, t: int, x: Tensor, magnitude: Tensor, result: Certificate) -> None:
        """See `_Replay`. Of a product a * b the bound is |a| e_b + |b| e_a, of a gate e_z / 4, of tanh e_z."""
        before, c = self.states["h"], self.states["c"]
        drive, reach = self.product("weight_input", x, magnitude)
        own, own_reach = self.product("weight_recurrent", before, before.abs())
        i, f, g, o = (drive + own).unflatten(1, (4, -1)).unbind(1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        e = (8 * UNIT_ROUNDOFF * (reach + own_reach)).unflatten(1, (4, -1)).unbind(1)
        e_i, e_f, e_o = (e[n] / 4 + 4 * _ulp(gate) for n, gate in ((0, i), (1, f), (3, o)))
        e_g = e[2] + 4 * _ulp(g)
        rounding = 4 * UNIT_ROUNDOFF * (f * c.abs() + i * g.abs())
        carried = _ulp(c) if t == 0 else self.bound
        self.bound = f * carried + c.abs() * e_f + g.abs() * e_i + i * e_g + rounding
        self.states["c"] = f * c + i * g
        squashed = torch.tanh(self.states["c"])
        expected = o * squashed
        bound = squashed.abs() * e_o + o * (self.bound + 4 * _ulp(squashed)) + 4 * _ulp(expected)
        h = self.states["h"] = self.claim(t)
        result.values_of(h, expected, bound, Place(self.layer, "h", t))
        result.values += h.numel()

    def end(self, run: Run, result: Certificate) -> None:
        """See `_Replay`. The cell is compared where the window ends, and shows in h at every step before."""
        c = self.states["c"]
        self.check_state("h", self.states["h"], _ulp(self.states["h"]), run, result)
        self.check_state("c", c, self.bound + 4 * _ulp(c), run, result)
        result.values += c.numel()


_REPLAYS: dict[type[Group], type[_Replay]] = {
    SpikingGroup: _Spiking,
    SpikingConvolution: _Spiking,
    RnnGroup: _Recurrent,
    RecurrentConvolution: _Recurrent,
    LstmGroup: _Lstm,
}


# ------------------------------------------------------------------------------------------------------------ readouts


def _of_last_layer(network: HybridNetwork, run: Run) -> dict[str, Tensor]:
    """Return what the last layer's units handed out, by its name."""
    return {tap.name: values for tap, values in run.taps.items() if tap.layer == len(network.stack)}


def _replay_classifier(
    network: SequenceClassifier, x: Tensor, run: Run, before: dict[str, Tensor], result: Certificate
) -> None:
    features, handed = [], _of_last_layer(network, run)
    if "spike_sum" in before:
        total = before["spike_sum"].double() + handed["spikes"].double().sum(0)
        steps = before["steps"].double() + len(x)
        _sums(run, {"spike_sum": total, "steps": steps}, len(x) - 1, result)
        features.append(total / steps)
    if "h" in handed:
        features.append(handed["h"][-1].double())
    _linear(network.readout, torch.cat(features, dim=1), run.logits, len(x) - 1, result)


def _replay_decoder(network: LanguageModel, below: _Input, run: Run, result: Certificate) -> None:
    for t, logits in enumerate(run.logits):
        _linear(network.decoder, below.at(t)[0], logits, t, result)


def _replay_convolutional(network: ConvClassifier, run: Run, before: dict[str, Tensor], result: Certificate) -> None:
    features, magnitudes, handed = [], [], _of_last_layer(network, run)
    last = len(next(iter(handed.values()))) - 1
    if "spike_sum" in before:
        total = before["spike_sum"].double()
        for spikes in handed["spikes"]:
            total = total + functional.avg_pool2d(spikes.double(), 2)
        _sums(run, {"spike_sum": total}, last, result)
        features.append(total)
        magnitudes.append(total)
    if "h" in handed:
        h = handed["h"][-1].double()
        features.append(functional.avg_pool2d(h, 2))
        magnitudes.append(functional.avg_pool2d(h.abs(), 2))
    seen, magnitude = torch.cat(features, dim=1).flatten(1), torch.cat(magnitudes, dim=1).flatten(1)
    weight, bias = network.hidden.weight.double(), network.hidden.bias.double()
    hidden = functional.relu(seen @ weight.T + bias)
    slack = _rounding(network.hidden) * (magnitude @ weight.abs().T + bias.abs())
    _linear(network.readout, hidden, run.logits, last, result, slack)


def _sums(run: Run, expected: dict[str, Tensor], t: int, result: Certificate) -> None:
    for name, total in expected.items():
        result.values_of(run.state[name].double(), total, _ulp(total), Place(0, f"state {name}", t))


def _linear(
    layer: torch.nn.Linear, seen: Tensor, logits: Tensor, t: int, result: Certificate, slack: Tensor | None = None
) -> None:
    """Check logits; `slack` is how far off what the layer sees may be."""
    weight, bias = layer.weight.double(), layer.bias.double()
    expected = seen @ weight.T + bias
    bound = _rounding(layer) * (seen.abs() @ weight.abs().T + bias.abs()) + 4 * _ulp(expected)
    if slack is not None:
        bound = bound + slack @ weight.abs().T
    result.values_of(logits.double(), expected, bound, Place(0, "readout", t))


def _rounding(layer: torch.nn.Linear) -> float:
    return max(8.0, 2 * math.sqrt(layer.in_features)) * UNIT_ROUNDOFF


def _ulp(values: Tensor) -> Tensor:
    """Return the distance from each float32 value to the next larger one, in float64."""
    single = values.float().abs()
    return (torch.nextafter(single, torch.full_like(single, torch.inf)) - single).double()
