"""The certificate: it accepts what an engine may do, and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.export.replay import replay
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Sizes


def network(sizes: list[Sizes]) -> HybridNetwork:
    return SequenceConfig(inputs=6, classes=3, units=[1] * len(sizes)).build(sizes).eval()


@torch.no_grad()
def run(made: HybridNetwork, x: Tensor) -> tuple[list[Tensor], Tensor]:
    outputs, _ = made.run_layers(x, made.initial_state(x))
    return outputs, made(x)[0]


@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.sampled_from([Sizes(5, 4), Sizes(7, 0), Sizes(0, 6)]), min_size=1, max_size=3),
    steps=st.integers(1, 12),
    batch=st.integers(1, 5),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_an_honest_float32_run_passes(seed: int, sizes: list[Sizes], steps: int, batch: int, scale: float) -> None:
    torch.manual_seed(seed)
    made = network(sizes)
    x = torch.randn(steps, batch, 6) * scale
    outputs, logits = run(made, x)
    certificate = replay(made, x, outputs, logits)
    assert certificate.passed, str(certificate)
    assert certificate.spikes == steps * batch * sum(size.snn for size in sizes)
    assert certificate.values == steps * batch * sum(size.rnn for size in sizes)


@given(seed=st.integers(0, 1000), data=st.data())
def test_any_single_flipped_spike_is_found_where_it_is(seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    made = network([Sizes(5, 4), Sizes(6, 3)])
    x = torch.rand(7, 3, 6)
    outputs, logits = run(made, x)
    layer = data.draw(st.integers(0, 1))
    step, sample = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 2))
    unit = data.draw(st.integers(0, made.sizes[layer].snn - 1))
    outputs = [output.clone() for output in outputs]
    outputs[layer][step, sample, unit] = 1 - outputs[layer][step, sample, unit]
    certificate = replay(made, x, outputs, logits)
    assert not certificate.passed
    first = next(found for found in certificate.divergences if found.layer == layer + 1 and found.kind == "snn")
    assert (first.step, first.sample, first.unit) == (step, sample, unit)
    assert first.distance > first.bound


@pytest.mark.parametrize("error", [1e-5, float("nan"), float("inf")])
def test_a_wrong_h_or_logit_is_found(error: float) -> None:
    torch.manual_seed(0)
    made = network([Sizes(5, 4)])
    x = torch.rand(6, 2, 6)
    outputs, logits = run(made, x)
    wrong = outputs[0].clone()
    wrong[3, 1, 7] += error
    assert not replay(made, x, [wrong], logits).passed
    certificate = replay(made, x, outputs, logits + error)
    assert [found.kind for found in certificate.divergences] == ["readout"]


def test_a_spike_that_is_neither_0_nor_1_is_found() -> None:
    torch.manual_seed(0)
    made = network([Sizes(5, 0)])
    x = torch.rand(6, 2, 6)
    outputs, logits = run(made, x)
    wrong = outputs[0].clone()
    wrong[2, 0, 3] = 0.5
    assert not replay(made, x, [wrong], logits).passed


def test_the_weights_of_another_network_do_not_pass() -> None:
    torch.manual_seed(0)
    made, other = network([Sizes(5, 4)]), network([Sizes(5, 4)])
    x = torch.rand(6, 2, 6)
    assert not replay(other, x, *run(made, x)).passed


def test_a_membrane_on_its_threshold_may_go_either_way() -> None:
    made = network([Sizes(1, 0)])
    with torch.no_grad():
        next(made.parameters()).fill_(0.1)
        made.stack[0].groups["snn"].ranked()[0].fill_(0.1)
    x = torch.ones(1, 1, 6)  # m = 6 * 0.1, the threshold
    for spike in (0.0, 1.0):
        output = torch.full((1, 1, 1), spike)
        with torch.no_grad():
            logits = made.readout(output[0])  # type: ignore[operator]
        certificate = replay(made, x, [output], logits)
        assert certificate.passed
        assert certificate.borderline == 1
        assert certificate.margins[0] < 1
