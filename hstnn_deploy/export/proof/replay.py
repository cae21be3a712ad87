"""The certificate: teacher-forced replay of what an engine computed, spike by spike.

Two engines never agree to the bit over a long run: sums are taken in another order, a membrane next to its threshold
tips over, and everything behind it differs. So an engine is not compared with another run. Each step is recomputed, in
float64, from the engine's *own* spikes and h of the step before, and from its own outputs of the layer below, by the
network's own equations; and each value carries a bound on what float32 may make of it (`bounded`):

    s_t must be (m_t > threshold), unless |m_t - threshold| is within the bound
    h_t, the states after the last step, and the answer must agree within their bounds

No mismatch can hide behind an earlier one; every spike, every recurrent value, every state at the end and every logit
is checked.

Two certified runs of one network may still part: at a membrane within its bound of the threshold either answer is
right, and what follows from it differs. Beside another run, the replay says of each sample whether that is how they
parted.

Shapes: T time, B batch, I inputs, n units of a group. Of convolutional layers a unit is a channel of maps [H, W].
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.export.proof.bounded import UNIT_ROUNDOFF, Bounded, Claims, Value, exact, ulp
from hstnn_deploy.export.proof.certificate import Certificate, Place, Run
from hstnn_deploy.models.algebra import Fires
from hstnn_deploy.models.exits import EXIT
from hstnn_deploy.models.network import Network, Tap


@torch.no_grad()
def replay(
    network: Network,
    x: Tensor,
    run: Run,
    start: dict[str, Tensor] | None = None,
    other: Mapping[Tap, Tensor] | None = None,
) -> Certificate:
    """Check an engine's run against the network's equations.

    Args:
        network: the network that was exported; its own equations and numbers, not what was written from them.
        x: the input, [T, B, …].
        run: what the engine computed of it.
        start: the states it started from; None for zeros.
        other: what another run of the network on the same emitted, for `Certificate.explained`; maps may be pooled.

    Raises:
        ExportError: an equation of the network has no bound.
    """
    batch = x.shape[1]
    result = Certificate(
        failed=torch.zeros(batch, dtype=torch.bool),
        parted=torch.full((batch,), torch.inf),
        parted_borderline=torch.zeros(batch, dtype=torch.bool),
    )
    before = network.initial_state(x) | (start or {})
    claims = _Claims(run.taps, other, result)
    o = Bounded(claims)
    answer, after = network.window(o, exact(x), {name: exact(value) for name, value in before.items()})
    last, membranes, handed = len(x) - 1, network.membranes(), {tap.name for tap in network.taps}
    for name, state in after.items():
        own = name.rstrip("0123456789")
        place = Place(int(name.removeprefix(own) or 0), f"state {own}", last)
        result.values_of(run.state[name].double(), state.v, state.e + _room(state, membranes, name), place)
        if place.layer and name not in membranes and own not in handed:
            # A cell is never handed out; it is checked here, and shows in h at every step before.
            result.values += state.v.numel()
    if network.every_step:
        for t, (logits, v, e) in enumerate(zip(run.logits, answer.v, answer.e.expand_as(answer.v), strict=True)):
            result.values_of(logits.double(), v, e + ulp(v), Place(0, "readout", t))
    else:
        result.values_of(run.logits.double(), answer.v, answer.e + ulp(answer.v), Place(0, "readout", last))
    if run.exit is not None:
        # Logits and states are what the engine says they are: they have been checked.
        claimed = {name: exact(value) for name, value in run.state.items()}
        expected = network.may_leave(o, exact(run.logits), claimed)
        result.exits_of(run.exit.double(), expected.v, expected.e, Place(0, EXIT, last))
        result.exit_near = network.may_leave(o, answer, after).e > 0
    result.divergences.sort(key=lambda found: (found.layer == 0, found.layer, found.step))
    return result


def _room(state: Value, membranes: set[str], name: str) -> Tensor:
    """Return what a state may be off beside its bound: nothing of a membrane that was set to zero."""
    return torch.where(state.v == 0, 0.0, ulp(state.v)) if name in membranes else ulp(state.v)


def _firing(membrane: Value, threshold: Value, fires: Fires, spikes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far membranes are from firing otherwise, how far float32 may be off, and which spikes are right.

    Several spikes: m / theta is rounded too, and each whole number of thresholds is a border.
    """
    if fires != "several":
        distance = (membrane.v - threshold.v).abs()
        eps = (membrane.e + threshold.e).expand_as(distance)
        fired = membrane.v > threshold.v if fires == "above" else membrane.v >= threshold.v
        whole = (spikes == 0) | (spikes == 1)
        return distance, eps, ((spikes == fired.double()) | (distance < eps)) & whole
    multiple = membrane.v / threshold.v
    off = (membrane.e + multiple.abs() * threshold.e) / threshold.v
    rounded = torch.where((off == 0) & (multiple.float().double() == multiple), 0.0, UNIT_ROUNDOFF * multiple.abs())
    off = (off + rounded).expand_as(multiple)
    least, most = ((multiple + way * off).floor().clamp(min=0) for way in (-1, 1))
    border = multiple.round().clamp(min=1)
    return (multiple - border).abs(), off, (least <= spikes) & (spikes <= most) & (spikes == spikes.floor())


class _Claims(Claims):
    """What an engine claims its units handed out.

    Args:
        taps: what it says.
        other: what another run says.
        result: where it is noted how that compares.
    """

    def __init__(self, taps: Mapping[Tap, Tensor], other: Mapping[Tap, Tensor] | None, result: Certificate) -> None:
        self._taps, self._other, self._result = taps, other, result

    @override
    def spikes(self, layer: int, tap: str, step: int, membrane: Value, threshold: Value, fires: Fires) -> Tensor:
        spikes = self._taps[Tap(layer, tap)][step].double()
        distance, eps, right = _firing(membrane, threshold, fires, spikes)
        near = distance < eps
        # Written so that NaN, which compares false with everything, counts as wrong.
        wrong = ~right
        self._result.spikes_of(wrong, distance, eps, Place(layer, tap, step))
        if self._other is not None:
            self._beside(self._other[Tap(layer, tap)][step].double(), spikes, near, step)
        return spikes

    def _beside(self, theirs: Tensor, spikes: Tensor, near: Tensor, step: int) -> None:
        if theirs.shape != spikes.shape:
            spikes, near = functional.avg_pool2d(spikes, 2), functional.max_pool2d(near.double(), 2) > 0
        self._result.beside(spikes != theirs, near, step)

    @override
    def values(self, layer: int, tap: str, step: int, expected: Value) -> Tensor:
        values = self._taps[Tap(layer, tap)][step].double()
        self._result.values_of(values, expected.v, expected.e, Place(layer, tap, step))
        self._result.values += values.numel()
        return values
