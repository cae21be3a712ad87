"""The certificate: teacher-forced replay of what an engine computed, spike by spike.

Two engines never agree to the bit over a long run: sums are taken in another order, a membrane next to its threshold
tips over, and everything behind it differs. So an engine is not compared with another run. Each step is recomputed, in
float64, from the engine's *own* spikes and h of the step before, and from its own outputs of the layer below:

    m_t = decay * m_{t-1} * (1 - s_{t-1}) + x_t @ W      s_t must be (m_t > threshold), unless |m_t - threshold| < eps_t
    h_t = sigmoid(x_t @ W_i + h_{t-1} @ W_h)             h_t must agree within its bound

with the bounds of float32 arithmetic on these numbers, u = 2^-24:

    E_t = decay * E_{t-1} + |x_t| @ |W|                    eps_t = 8 u E_t
    8 u (|x_t| @ |W_i| + |h_{t-1}| @ |W_h|) + 4 ulp(h_t)

No mismatch can hide behind an earlier one, and every spike of every layer is checked.

Shapes: T time, B batch, I inputs, n units of a layer, spiking first.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hstnn_deploy.models.layers import RnnGroup, SpikingGroup
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceClassifier

UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class Divergence:
    """Where an engine's output is not what its own past makes it."""

    layer: int
    """Counted from 1; 0 for the readout."""
    kind: str
    step: int
    sample: int
    unit: int
    distance: float
    """How far off: |m - threshold| of a wrong spike, or the error of h or of a logit."""
    bound: float
    """How far off it may be."""

    def __str__(self) -> str:
        place = "readout" if self.layer == 0 else f"layer {self.layer} {self.kind}, step {self.step}"
        return f"{place}, sample {self.sample}, unit {self.unit}: off by {self.distance:.3g}, bound {self.bound:.3g}"


@dataclass
class Certificate:
    """What a replay found."""

    spikes: int = 0
    """Spikes checked (units x steps x samples)."""
    borderline: int = 0
    """Of these, membranes so near the threshold that either answer is right in float32."""
    values: int = 0
    """Recurrent outputs checked."""
    worst: float = 0.0
    """The largest error of a recurrent output or logit, as a share of its bound."""
    divergences: list[Divergence] = field(default_factory=list)
    """The first divergence of each layer, and of the readout."""
    margins: Tensor = field(default_factory=lambda: torch.empty(0))
    """[B]: each sample's smallest |m - threshold| / eps; infinite without spiking units."""

    @property
    def passed(self) -> bool:
        """Whether nothing diverged."""
        return not self.divergences

    def __str__(self) -> str:
        if not self.passed:
            return f"diverges first at {self.divergences[0]}"
        parts = []
        if self.spikes:
            parts.append(f"{self.spikes} spikes equal ({self.borderline} borderline)")
        if self.values:
            parts.append(f"{self.values} values of h in bound (worst {self.worst:.2f} of it)")
        return ", ".join(parts)


@torch.no_grad()
def replay(network: HybridNetwork, x: Tensor, outputs: list[Tensor], logits: Tensor) -> Certificate:
    """Check an engine's run, from zero states, against the equations.

    Args:
        network: the network that was exported, for its numbers; not the form that the graphs were written from.
        x: the input, [T, B, I].
        outputs: the engine's layer outputs, [T, B, n] each.
        logits: the engine's logits, [B, C].
    """
    assert isinstance(network, SequenceClassifier)
    result = Certificate(margins=torch.full((x.shape[1],), torch.inf, dtype=torch.float64))
    below = x.double()
    for number, (layer, output) in enumerate(zip(network.stack, outputs, strict=True), 1):
        claimed = output.double()
        spikes, h = claimed[..., : layer.count("snn")], claimed[..., layer.count("snn") :]
        for group in layer.groups.values():
            if isinstance(group, SpikingGroup):
                _replay_spikes(group, number, below, spikes, result)
            if isinstance(group, RnnGroup):
                _replay_recurrent(group, number, below, h, result)
        below = claimed
    _replay_readout(network, below, logits.double(), result)
    return result


def _replay_spikes(group: SpikingGroup, number: int, x: Tensor, spikes: Tensor, result: Certificate) -> None:
    weight, neuron = group.weight.double(), group.neuron
    current, reach = x @ weight, x.abs() @ weight.abs()
    m, bound = torch.zeros_like(current), torch.zeros_like(current)
    v, carried = torch.zeros_like(current[0]), torch.zeros_like(current[0])
    for t in range(len(x)):
        m[t] = neuron.decay * v + current[t]
        carried = bound[t] = neuron.decay * carried + reach[t]
        v = m[t] * (1 - spikes[t])
    distance = (m - neuron.threshold).abs()
    eps = 8 * UNIT_ROUNDOFF * bound
    # The threshold itself is rounded to float32 in the engine.
    eps = eps + UNIT_ROUNDOFF * neuron.threshold
    borderline = distance < eps
    wrong = (spikes != (m > neuron.threshold).double()) & ~borderline
    wrong |= (spikes != 0) & (spikes != 1)
    result.spikes += spikes.numel()
    result.borderline += int(borderline.sum())
    result.margins = torch.minimum(result.margins, (distance / eps).amin(dim=(0, 2)))
    _note(wrong, distance, eps, number, "snn", result)


def _replay_recurrent(group: RnnGroup, number: int, x: Tensor, h: Tensor, result: Certificate) -> None:
    w_input, w_recurrent = group.weight_input.double(), group.weight_recurrent.double()
    before = torch.cat((torch.zeros_like(h[:1]), h[:-1]))
    expected = torch.sigmoid(x @ w_input + before @ w_recurrent)
    reach = x.abs() @ w_input.abs() + before.abs() @ w_recurrent.abs()
    bound = 8 * UNIT_ROUNDOFF * reach + 4 * _ulp(expected)
    _note_values(h, expected, bound, number, "rnn", result)
    result.values += h.numel()


def _replay_readout(network: SequenceClassifier, last: Tensor, logits: Tensor, result: Certificate) -> None:
    size = network.sizes[-1]
    features = []
    if size.snn:
        features.append(last[..., : size.snn].mean(0))
    if size.rnn:
        features.append(last[-1, :, size.snn :])
    seen = torch.cat(features, dim=1)
    weight, bias = network.readout.weight.double(), network.readout.bias.double()
    expected = seen @ weight.T + bias
    bound = 8 * UNIT_ROUNDOFF * (seen.abs() @ weight.abs().T + bias.abs()) + 4 * _ulp(expected)
    _note_values(logits[None], expected[None], bound[None], 0, "readout", result)


def _ulp(values: Tensor) -> Tensor:
    """Return the distance from each float32 value to the next larger one, in float64."""
    single = values.float().abs()
    return (torch.nextafter(single, torch.full_like(single, torch.inf)) - single).double()


def _note_values(values: Tensor, expected: Tensor, bound: Tensor, layer: int, kind: str, result: Certificate) -> None:
    error = (values - expected).abs()
    # Written so that NaN, which compares false with everything, counts as wrong.
    wrong = ~(error <= bound)
    result.worst = max(result.worst, float((error / bound).nan_to_num(torch.inf).max()))
    _note(wrong, error, bound, layer, kind, result)


def _note(wrong: Tensor, distance: Tensor, bound: Tensor, layer: int, kind: str, result: Certificate) -> None:
    """Record the first wrong place, in the order of time."""
    if wrong.any():
        step, sample, unit = (int(i) for i in wrong.nonzero()[0])
        place = (step, sample, unit)
        result.divergences.append(
            Divergence(layer, kind, step, sample, unit, float(distance[place]), float(bound[place]))
        )
