"""The bound of the proof: float32 stays within it in torch and ONNX Runtime, and it is tight enough to catch errors."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.rounding import DRAWS, UNITS, drawn, one_after_another, session
from hstnn_deploy.export.proof.bounded import UNIT_ROUNDOFF, Bounded, Value, exact
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.sizes import Sizes
from tests.export import by_hand
from tests.export.cases import CASES, Case, as_taps
from tests.export.test_replay import HYBRIDS, exported


class Nobody:
    """Who is never asked."""

    def spikes(self, *_: object) -> Tensor:
        raise AssertionError

    values = spikes


def within(found: Tensor, bound: Value) -> bool:
    return bool(((found.double() - bound.v).abs() <= bound.e).all())


@pytest.mark.parametrize("terms", [1, 3, 30, 100, 800])
@pytest.mark.parametrize("draw", DRAWS)
def test_sums_stay_within_their_bound_in_every_order(terms: int, draw: str) -> None:
    x, w = drawn(draw, terms, 40, torch.Generator().manual_seed(terms))
    bound = Bounded(Nobody()).product(exact(x), nn.Parameter(w))
    order = torch.randperm(terms)
    assert within(x @ w, bound)
    assert within(one_after_another(x[:, order], w[order]), bound)
    (found,) = session().run(None, {"x": x.numpy(), "w": w.numpy()})
    assert within(torch.from_numpy(found), bound)
    assert not within(x @ (w * (1 + 1e-3)), bound)
    assert bound.v.shape == (40, UNITS)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_each_operation_stays_within_its_bound(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    o = Bounded(Nobody())

    def inexact() -> tuple[Tensor, Value]:
        """A float32 result, and what it should have been."""
        x, w = torch.randn(5, 7, generator=generator) * scale, torch.randn(7, 6, generator=generator)
        return x @ w, o.product(exact(x), nn.Parameter(w))

    (a, bound_a), (b, bound_b) = inexact(), inexact()
    assert within(a + b, o.add(bound_a, bound_b))
    assert within(a - b, o.sub(bound_a, bound_b))
    assert within(a * b, o.mul(bound_a, bound_b))
    assert within(a * 0.6, o.mul(bound_a, 0.6))
    assert within(torch.sigmoid(a), o.sigmoid(bound_a))
    assert within(torch.tanh(a), o.tanh(bound_a))
    assert within(torch.relu(a), o.relu(bound_a))


def test_what_float32_holds_is_not_rounded_and_a_reset_starts_anew() -> None:
    o = Bounded(Nobody())
    spikes = exact(torch.tensor([[0.0, 1.0, 1.0]]))
    assert float(o.total(Value(torch.ones(9, 3, dtype=torch.float64), torch.zeros(()).double())).e.sum()) == 0
    assert float(o.sub(1.0, spikes).e.sum()) == 0
    membrane = Value(torch.tensor([[0.5, 0.7, 0.9]]).double(), torch.full((1, 3), 1e-6, dtype=torch.float64))
    after = o.mul(membrane, o.sub(1.0, spikes))
    assert after.e.tolist() == [[1e-6, 0.0, 0.0]]
    # A constant is the float32 that engines hold.
    assert float(o.mul(exact(torch.ones(1)), 0.6).v) == float(torch.tensor(0.6))
    assert float(o.mul(0.6, exact(torch.tensor([0.3]))).e) == pytest.approx(UNIT_ROUNDOFF * 0.18, rel=1e-6)


def test_a_comparison_that_nobody_claims_is_open_only_where_the_bound_reaches_the_threshold() -> None:
    o = Bounded(Nobody())
    off = torch.tensor([0.0, 0.2, 0.2, 0.2]).double()
    found = o.exceeds(Value(torch.tensor([1.0, 1.1, 0.9, 1.3]).double(), off), 1.0)
    assert found.v.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert found.e.tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_proof_agrees_with_one_written_by_hand(case: Case) -> None:
    network, x, run = exported(case)
    ours, hand = replay(network, x, run), by_hand.replay(network, x, run)
    assert ours.passed, str(ours)
    assert hand.passed, str(hand)
    assert (ours.spikes, ours.values) == (hand.spikes, hand.values)


@pytest.mark.parametrize("case", HYBRIDS, ids="-".join)
def test_both_find_the_same_first_divergence(case: Case) -> None:
    network, x, run = exported(case)
    spikes = run.taps[Tap(1, "spikes")].clone()
    spikes[2] = 1 - spikes[2]
    wrong = run._replace(taps={**run.taps, Tap(1, "spikes"): spikes})
    ours, hand = replay(network, x, wrong).divergences[0], by_hand.replay(network, x, wrong).divergences[0]
    assert (ours.layer, ours.what, ours.step, ours.sample, ours.unit) == (
        hand.layer,
        hand.what,
        hand.step,
        hand.sample,
        hand.unit,
    )
    assert ours.distance == pytest.approx(hand.distance, rel=1e-5)


@pytest.mark.parametrize("units", [3, 100, 800])
def test_the_replay_alone_catches_weights_that_are_off_by_a_thousandth(units: int) -> None:
    torch.manual_seed(units)
    network = SequenceConfig(inputs=28, classes=4, units=[units]).build([Sizes(units, 0)]).eval()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.stack[0].groups["snn"].ranked()[0].mul_(1 + 1e-3)
        x = (torch.rand(28, 8, 28) < 0.2).float()
        outputs, _ = other.run_groups(x, other.initial_state(x))
        logits, after = other(x)
    certificate = replay(network, x, Run(logits, as_taps(outputs), after))
    assert not certificate.passed
    assert replay(other, x, Run(logits, as_taps(outputs), after)).passed
