"""The certificate: it accepts what an engine may do, and nothing else, in every family and kind."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.export.graph.forms import build, step_values
from hstnn_deploy.export.graph.interface import interface, kinds
from hstnn_deploy.export.proof.certificate import Certificate, Run
from hstnn_deploy.export.proof.engines import onnxruntime_session, step_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Sizes
from tests.export.cases import CASES, Case

HYBRIDS = [case for case in CASES if case.kind in {"ffs", "hybrid-lstm"}]


def sequence(sizes: list[Sizes]) -> HybridNetwork:
    return SequenceConfig(inputs=6, classes=3, units=[1] * len(sizes)).build(sizes).eval()


@torch.no_grad()
def eager(network: HybridNetwork, x: Tensor) -> Run:
    """Run fully connected layers with the network's own kernels."""
    outputs, _ = network.run_groups(x, network.initial_state(x))
    logits, after = network(x)
    return Run(logits, outputs, after)


_SESSIONS: dict[Case, tuple[HybridNetwork, object]] = {}


def exported(case: Case, steps: int = 7, batch: int = 3) -> tuple[HybridNetwork, Tensor, Run]:
    """Run a step graph in ONNX Runtime, which shows everything."""
    if case not in _SESSIONS:
        network = case.network()
        model = build(network, "step", {})
        for layer, of_layer in enumerate(kinds(network), 1):
            names = {output.name for output in model.graph.output}
            for kind in of_layer:
                if (name := step_values(layer)[kind]) not in names:
                    model.graph.output.add(name=name).type.tensor_type.elem_type = 1
        _SESSIONS[case] = network, onnxruntime_session(model)
    network, session = _SESSIONS[case]
    values = [{kind: [step_values(n)[kind]] for kind in each} for n, each in enumerate(kinds(network), 1)]
    x = interface(network).example(steps, batch)
    return network, x, step_engine(session, interface(network), values)(x, None)  # type: ignore[arg-type]


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
    layer = data.draw(st.sampled_from([n for n, emitted in enumerate(run.layers) if "snn" in emitted]))
    spikes = run.layers[layer]["snn"].clone()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in spikes.shape)
    spikes[place] = 1 - spikes[place]
    layers = [{**emitted, "snn": spikes} if n == layer else emitted for n, emitted in enumerate(run.layers)]
    certificate = replay(made, x, run._replace(layers=layers))
    assert not certificate.passed
    first = next(found for found in certificate.divergences if (found.layer, found.kind) == (layer + 1, "snn"))
    assert (first.step, first.sample, first.unit, *first.place) == place
    assert first.distance > first.bound
    assert f"layer {layer + 1} snn, step {place[0]}, sample {place[1]}, unit {place[2]}" in str(first)


@given(case=st.sampled_from(HYBRIDS), error=st.sampled_from([1e-4, float("nan"), float("inf")]), data=st.data())
def test_a_wrong_h_state_or_logit_is_found_for_what_it_is(case: Case, error: float, data: st.DataObject) -> None:
    made, x, run = exported(case)

    def found(wrong: Run) -> set[str]:
        return {f"{each.layer} {each.kind}" for each in replay(made, x, wrong).divergences}

    layer = data.draw(st.integers(0, len(run.layers) - 1))
    h = run.layers[layer]["rnn"].clone()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in h.shape)
    h[place] += error
    layers = [{**emitted, "rnn": h} if n == layer else emitted for n, emitted in enumerate(run.layers)]
    assert f"{layer + 1} rnn" in found(run._replace(layers=layers))
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
    wrong = run.layers[0]["snn"].clone()
    wrong[2, 0, 3] = 0.5
    assert not replay(made, x, run._replace(layers=[{"snn": wrong}])).passed


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
    wrong = [{kind: 1 - values for kind, values in emitted.items()} for emitted in run.layers]
    certificate = replay(made, x, run._replace(layers=wrong))
    assert str(certificate).startswith("diverges first at layer 1 snn, step 0")
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
        certificate = replay(made, x, Run(logits, [{"snn": output}], state))
        assert certificate.passed, str(certificate)
        assert certificate.borderline == 1
