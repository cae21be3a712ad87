"""The certificate: teacher-forced replay of what an engine computed, spike by spike.

Two engines never agree to the bit over a long run: sums are taken in another order, a membrane next to its threshold
tips over, and everything behind it differs. So an engine is not compared with another run. Each step is recomputed, in
float64, from the engine's *own* spikes and h of the step before, and from its own outputs of the layer below, by the
network's own equations; and each carries a bound on what float32 may make of it (`bounded`):

    s_t must be (m_t > threshold), unless |m_t - threshold| is within the bound
    h_t, the states after the last step, and the answer must agree within their bounds

No mismatch can hide behind an earlier one; every spike, every recurrent value, every state at the end and every logit
is checked.

Shapes: T time, B batch, I inputs, n units of a group. Of convolutional layers a unit is a channel of maps [H, W].
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.export.bounded import Bounded, Value, exact, ulp
from hstnn_deploy.models.layers import Outputs, UnitKind
from hstnn_deploy.models.network import HybridNetwork

_KINDS: dict[str, UnitKind] = {"spikes": "snn", "h": "rnn"}
"""The kind of units that hand out a tap."""


class Run(NamedTuple):
    """What an engine computed of a window."""

    logits: Tensor
    """[B, C], or of a language model [T, B, V]."""
    layers: list[Outputs]
    """What each layer's groups emitted at every step, [T, B, n, …], maps not yet pooled."""
    state: dict[str, Tensor]
    """The states after the window."""


@dataclass(frozen=True)
class Divergence:
    """Where an engine's output is not what its own past makes it."""

    layer: int
    """Counted from 1; 0 for the readout."""
    kind: str
    step: int
    sample: int
    unit: int
    place: tuple[int, ...]
    """Within the unit's map, of convolutional layers."""
    distance: float
    """How far off: |m - threshold| of a wrong spike, or the error of a value."""
    bound: float
    """How far off it may be."""

    def __str__(self) -> str:
        where = self.kind if self.layer == 0 else f"layer {self.layer} {self.kind}"
        unit = f"unit {self.unit}" + (f" at {self.place}" if self.place else "")
        return (
            f"{where}, step {self.step}, sample {self.sample}, {unit}: "
            f"off by {self.distance:.3g}, bound {self.bound:.3g}"
        )


@dataclass
class Certificate:
    """What a replay found."""

    spikes: int = 0
    """Spikes checked (units x steps x samples)."""
    borderline: int = 0
    """Of these, membranes so near the threshold that either answer is right in float32."""
    values: int = 0
    """Recurrent outputs and cells checked."""
    worst: float = 0.0
    """The largest error of a recurrent output, state or logit, as a share of its bound."""
    divergences: list[Divergence] = field(default_factory=list)
    """The first divergence of each layer and kind, and of the readout."""
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
            parts.append(f"{self.values} recurrent values in bound (worst {self.worst:.2f} of it)")
        return ", ".join(parts)

    def spikes_of(self, wrong: Tensor, distance: Tensor, eps: Tensor, place: "Place") -> None:
        """Record checked spikes [B, n, …]: which are wrong, how far their membranes are from the threshold, and eps."""
        self.spikes += wrong.numel()
        self.borderline += int((distance < eps).sum())
        share = (distance / eps).flatten(1).amin(1)
        self.margins = torch.minimum(self.margins, share)
        self._note(wrong, distance, eps, place)

    def values_of(self, values: Tensor, expected: Tensor, bound: Tensor, place: "Place") -> None:
        """Record checked values [B, n, …]."""
        error = (values - expected).abs()
        # Written so that NaN, which compares false with everything, counts as wrong.
        wrong = ~(error <= bound)
        if len(error):
            self.worst = max(self.worst, float((error / bound).nan_to_num(torch.inf).max()))
        self._note(wrong, error, bound, place)

    def _note(self, wrong: Tensor, distance: Tensor, bound: Tensor, place: "Place") -> None:
        if any((found.layer, found.kind) == (place.layer, place.kind) for found in self.divergences):
            return
        if wrong.any():
            sample, unit, *rest = (int(i) for i in wrong.nonzero()[0])
            at = (sample, unit, *rest)
            self.divergences.append(
                Divergence(*place, sample, unit, tuple(rest), float(distance[at]), float(bound[at]))
            )


class Place(NamedTuple):
    """Where checked values stand."""

    layer: int
    kind: str
    step: int


@torch.no_grad()
def replay(network: HybridNetwork, x: Tensor, run: Run, start: dict[str, Tensor] | None = None) -> Certificate:
    """Check an engine's run against the network's equations.

    Args:
        network: the network that was exported; its own equations and numbers, not what was written from them.
        x: the input, [T, B, …].
        run: what the engine computed of it.
        start: the states it started from; None for zeros.
    """
    result = Certificate(margins=torch.full((x.shape[1],), torch.inf, dtype=torch.float64))
    before = network.initial_state(x) if start is None else start
    answer, after = network.window(
        Bounded(_Run(run.layers, result)), exact(x), {name: exact(value) for name, value in before.items()}
    )
    last, membranes = len(x) - 1, network.membranes()
    for name, state in after.items():
        own = name.rstrip("0123456789")
        place = Place(int(name.removeprefix(own) or 0), f"state {own}", last)
        result.values_of(run.state[name].double(), state.v, state.e + ulp(state.v), place)
        if place.layer and name not in membranes and own not in _KINDS:
            # A cell is never handed out; it is checked here, and shows in h at every step before.
            result.values += state.v.numel()
    if network.every_step:
        for t, (logits, v, e) in enumerate(zip(run.logits, answer.v, answer.e.expand_as(answer.v), strict=True)):
            result.values_of(logits.double(), v, e + ulp(v), Place(0, "readout", t))
    else:
        result.values_of(run.logits.double(), answer.v, answer.e + ulp(answer.v), Place(0, "readout", last))
    result.divergences.sort(key=lambda found: (found.layer == 0, found.layer, found.step))
    return result


@torch.no_grad()
def margins(network: HybridNetwork, x: Tensor, start: dict[str, Tensor] | None = None) -> Tensor:
    """Return each sample's smallest |m - threshold| over its bound in the equations' own run in float64, [B]."""
    result = Certificate(margins=torch.full((x.shape[1],), torch.inf, dtype=torch.float64))
    before = network.initial_state(x) if start is None else start
    network.window(Bounded(_Run(None, result)), exact(x), {name: exact(value) for name, value in before.items()})
    return result.margins


class _Run:
    """What an engine claims its units handed out; None: what the equations make of it is taken."""

    def __init__(self, layers: list[Outputs] | None, result: Certificate) -> None:
        self._layers, self._result = layers, result

    def _claimed(self, layer: int, tap: str, step: int, expected: Tensor) -> Tensor:
        return expected if self._layers is None else self._layers[layer - 1][_KINDS[tap]][step].double()

    def spikes(self, layer: int, tap: str, step: int, membrane: Value, threshold: Value) -> Tensor:
        """See `Claims`."""
        expected = (membrane.v > threshold.v).double()
        spikes = self._claimed(layer, tap, step, expected)
        distance = (membrane.v - threshold.v).abs()
        eps = (membrane.e + threshold.e).expand_as(distance)
        wrong = (spikes != expected) & ~(distance < eps)
        wrong |= (spikes != 0) & (spikes != 1)
        self._result.spikes_of(wrong, distance, eps, Place(layer, _KINDS[tap], step))
        return spikes

    def values(self, layer: int, tap: str, step: int, expected: Value) -> Tensor:
        """See `Claims`."""
        values = self._claimed(layer, tap, step, expected.v)
        self._result.values_of(values, expected.v, expected.e, Place(layer, _KINDS[tap], step))
        self._result.values += values.numel()
        return values
