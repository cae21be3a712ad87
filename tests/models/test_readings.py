"""A network's equations are written once: run as they stand, they are the network; a new neuron needs no more."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from hstnn_deploy.models import kernels
from hstnn_deploy.models.algebra import Algebra, Unreadable
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.hybrid.groups import SpikingGroup
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.neurons import AdaptiveLif, Lif
from hstnn_deploy.models.sizes import Sizes
from tests.export.cases import CASES, Case


def example(case: Case, steps: int = 11, batch: int = 3) -> Tensor:
    network = case.network()
    generator = torch.Generator().manual_seed(3)
    shape = (steps, batch, *network.input_shape)
    if network.tokens:
        return torch.randint(network.outputs, shape, generator=generator)
    return (
        (torch.rand(shape, generator=generator) * 1.5).floor()
        if len(shape) > 3
        else torch.rand(shape, generator=generator)
    )


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_definition_run_as_it_stands_is_the_network(case: Case) -> None:
    network, x = case.network(), example(case)
    start = network.initial_state(x)
    with kernels.using("plain"):
        expected, expected_state = network(x)
    logits, state = network.window(Eager(), x, start)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert state.keys() == expected_state.keys() == start.keys()
    for name in network.membranes():
        torch.testing.assert_close(state[name], expected_state[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_window_is_its_steps(case: Case) -> None:
    network, x = case.network(), example(case)
    expected, expected_state = network.window(Eager(), x, network.initial_state(x))
    state = network.initial_state(x)
    answers = []
    for now in x:
        answer, state = network.step(Eager(), now, state)
        answers.append(answer)
    found = torch.stack(answers) if network.every_step else answers[-1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, value in expected_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)


def test_an_operation_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(Unreadable, match="torch cannot express a delay line"):
        Eager().lacks("a delay line")
    assert {"add", "spike", "loop"} <= Algebra.__abstractmethods__


def test_an_adaptive_neuron_tires_and_recovers() -> None:
    neuron = AdaptiveLif(decay=0.0, threshold=0.5, growth=0.5, recovery=0.5)
    spikes, state = kernels.spiking(
        torch.full((5, 1, 1), 0.9), {"v": torch.zeros(1, 1), "a": torch.zeros(1, 1)}, neuron
    )
    # a after each step, by hand: .5, .25 (no spike: .9 < 1), .625, .3125, .65625.
    assert spikes.flatten().tolist() == [1, 0, 1, 0, 1]
    assert float(state["a"]) == 0.65625
    assert float(state["v"]) == 0


def test_an_adaptive_neuron_without_growth_is_lif() -> None:
    torch.manual_seed(0)
    current = torch.randn(9, 4, 6)
    zero = torch.zeros(4, 6)
    lengths = torch.tensor([9, 0, 4, 7])
    spikes, state = kernels.spiking(current, {"v": zero, "a": zero}, AdaptiveLif(growth=0), lengths)
    expected, after = kernels.spiking(current, {"v": zero}, Lif(), lengths)
    valid = torch.arange(9)[:, None] < lengths
    assert torch.equal(spikes[valid], expected[valid])
    assert torch.equal(state["v"], after["v"])


def test_a_recipe_names_its_neuron() -> None:
    config = SequenceConfig(inputs=3, classes=2, units=[4], neuron={"type": "adaptive-lif", "growth": 0.3})
    network = config.build([Sizes(4, 0)])
    group = network.stack[0].groups["snn"]
    assert isinstance(group, SpikingGroup)
    assert group.neuron == AdaptiveLif(growth=0.3)
    assert set(network.initial_state(torch.zeros(2, 5, 3))) == {"v1", "a1", "spike_sum", "steps"}
    assert network.meanings()["a1"] == "how far the thresholds of layer 1's spiking units are above their rest"
    # What says nothing of a type is LIF, and is written down as before.
    assert SequenceConfig(inputs=3, classes=2, units=[4], neuron={"decay": 0.5}).neuron == Lif(decay=0.5)
    assert "type" not in Lif().model_dump()
    with pytest.raises(ValidationError, match="growth"):
        SequenceConfig(inputs=3, classes=2, units=[4], neuron={"growth": 0.3})
