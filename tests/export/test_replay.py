"""The certificate: it accepts what an engine may do, and nothing else, in every family and kind."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.export.graph.forms import at_single_step, build
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.proof.certificate import Certificate, Run
from hstnn_deploy.export.proof.engines import onnxruntime_session, step_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.sizes import Sizes
from tests.export.cases import CASES, Case, as_taps

HYBRIDS = [case for case in CASES if case.kind in {"ffs", "hybrid-lstm"}]


def sequence(sizes: list[Sizes]) -> HybridNetwork:
    return SequenceConfig(inputs=6, classes=3, units=[1] * len(sizes)).build(sizes).eval()


@torch.no_grad()
def eager(network: HybridNetwork, x: Tensor) -> Run:
    """Run fully connected layers with the network's own kernels."""
    outputs, _ = network.run_groups(x, network.initial_state(x))
    logits, after = network(x)
    return Run(logits, as_taps(outputs), after)


_SESSIONS: dict[Case, tuple[HybridNetwork, object]] = {}


def exported(case: Case, steps: int = 7, batch: int = 3) -> tuple[HybridNetwork, Tensor, Run]:
    """Run a step graph in ONNX Runtime, which shows everything."""
    if case not in _SESSIONS:
        network = case.network()
        model = build(network, "step", {})
        wanted = {at_single_step(tap, interface(network)) for tap in network.taps}
        for name in sorted(wanted - {output.name for output in model.graph.output}):
            model.graph.output.add(name=name).type.tensor_type.elem_type = 1
        _SESSIONS[case] = network, onnxruntime_session(model)
    network, session = _SESSIONS[case]
    face = interface(network)
    values = {tap: [at_single_step(tap, face)] for tap in network.taps}
    x = face.example(steps, batch)
    return network, x, step_engine(session, face, values)(x, None)  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.sampled_from([Sizes(5, 4), Sizes(7, 0), Sizes(0, 6)]), min_size=1, max_size=3),
    steps=st.integers(1, 12),
    batch=st.integers(1, 5),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_an_honest_float32_run_passes(seed: int, sizes: list[Sizes], steps: int, batch: int, scale: float) -> None:
    torch.manual_seed(seed)
    made = sequence(sizes)
    x = torch.randn(steps, batch, 6) * scale
    certificate = replay(made, x, eager(made, x))
    assert certificate.passed, str(certificate)
    assert certificate.spikes == steps * batch * sum(size.snn for size in sizes)
    assert certificate.values == steps * batch * sum(size.rnn for size in sizes)


@given(case=st.sampled_from(HYBRIDS), data=st.data())
def test_any_single_flipped_spike_is_found_where_it_is(case: Case, data: st.DataObject) -> None:
    made, x, run = exported(case)
    tap = data.draw(st.sampled_from([tap for tap in run.taps if tap.name == "spikes"]))
    spikes = run.taps[tap].clone()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in spikes.shape)
    spikes[place] = 1 - spikes[place]
    certificate = replay(made, x, run._replace(taps={**run.taps, tap: spikes}))
    assert not certificate.passed
    first = next(found for found in certificate.divergences if (found.layer, found.what) == tap)
    assert (first.step, first.sample, first.unit, *first.place) == place
    assert first.distance > first.bound
    assert f"layer {tap.layer} spikes, step {place[0]}, sample {place[1]}, unit {place[2]}" in str(first)


@given(case=st.sampled_from(HYBRIDS), error=st.sampled_from([1e-4, float("nan"), float("inf")]), data=st.data())
def test_a_wrong_h_state_or_logit_is_found_for_what_it_is(case: Case, error: float, data: st.DataObject) -> None:
    made, x, run = exported(case)

    def found(wrong: Run) -> set[str]:
        return {f"{each.layer} {each.what}" for each in replay(made, x, wrong).divergences}

    layer = data.draw(st.integers(1, len(made.stack)))
    h = run.taps[Tap(layer, "h")].clone()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in h.shape)
    h[place] += error
    assert f"{layer} h" in found(run._replace(taps={**run.taps, Tap(layer, "h"): h}))
    assert found(run._replace(logits=run.logits + error)) == {"0 readout"}
    name = data.draw(st.sampled_from(sorted(run.state)))
    state = run.state[name].clone()
    state.view(-1)[0] += error
    expected = f"{name[1:]} state {name[0]}" if name[0] in "vhc" else f"0 state {name}"
    assert found(run._replace(state={**run.state, name: state})) == {expected}


def test_a_spike_that_is_neither_0_nor_1_is_found() -> None:
    torch.manual_seed(0)
    made = sequence([Sizes(5, 0)])
    x = torch.rand(6, 2, 6)
    run = eager(made, x)
    wrong = run.taps[Tap(1, "spikes")].clone()
    wrong[2, 0, 3] = 0.5
    assert not replay(made, x, run._replace(taps={Tap(1, "spikes"): wrong})).passed


@pytest.mark.parametrize("case", HYBRIDS, ids="-".join)
def test_a_unit_of_other_weights_does_not_pass(case: Case) -> None:
    made, x, run = exported(case)
    assert replay(made, x, run).passed
    for number, layer in enumerate(made.stack, 1):
        for kind, group in layer.groups.items():
            other = case.network()
            weight = other.stack[number - 1].groups[kind].ranked()[0]
            weight.select(group.unit_axis, 0).add_(0.5)
            certificate = replay(other, x, run)
            # Where no spike tips over, the state of the membrane still shows it.
            assert number in {found.layer for found in certificate.divergences}, str(group)


def test_the_first_divergence_named_is_of_the_lowest_layer() -> None:
    certificate = Certificate()
    made, x, run = exported(Case("sequence", "ffs"))
    wrong = {tap: 1 - values for tap, values in run.taps.items()}
    certificate = replay(made, x, run._replace(taps=wrong))
    assert str(certificate).startswith("diverges first at layer 1 spikes, step 0")
    assert replace(certificate.divergences[0], place=(2, 3)).place == (2, 3)


def test_a_membrane_on_its_threshold_may_go_either_way() -> None:
    made = sequence([Sizes(1, 0)])
    with torch.no_grad():
        next(made.parameters()).fill_(0.1)
        made.stack[0].groups["snn"].ranked()[0].fill_(0.1)
    x = torch.ones(1, 1, 6)  # m = 6 * 0.1, the threshold
    for spike in (0.0, 1.0):
        output = torch.full((1, 1, 1), spike)
        with torch.no_grad():
            logits = made.readout(output[0])  # type: ignore[operator]
        state = {"v1": 0.6 * (1 - output[0]), "spike_sum": output[0], "steps": torch.ones(1, 1)}
        certificate = replay(made, x, Run(logits, {Tap(1, "spikes"): output}, state))
        assert certificate.passed, str(certificate)
        assert certificate.borderline == 1
