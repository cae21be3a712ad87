"""Spike rates: known numbers, padded steps left out, and what is silent or saturated."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hstnn_deploy.models.activity import Activity, extremes
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes


def rates(network: HybridNetwork, x: Tensor, lengths: Tensor | None = None) -> dict[int, float]:
    with torch.no_grad(), Activity(network) as activity:
        network(x, None, lengths)
    return activity.rates()


def sequence(weight: float, **neuron: Any) -> HybridNetwork:
    network = SequenceConfig(inputs=1, classes=2, units=[2, 3], neuron=Lif(**neuron)).build([Sizes(2, 0), Sizes(2, 1)])
    with torch.no_grad():
        for layer in network.stack:
            for group in layer.groups.values():
                for each in group.ranked():
                    each.fill_(weight)
    return network


def test_a_rate_is_spikes_by_unit_and_step() -> None:
    # decay 0: a unit of layer 1 fires where 0.5 * x is above 0.6; one of layer 2 sees 2 * 0.5 and a recurrent value.
    network = sequence(0.5, decay=0.0, threshold=0.6)
    x = torch.tensor([0.0, 2.0, 0.0, 2.0, 2.0])[:, None, None]
    found = rates(network, x)
    assert found == {1: 3 / 5, 2: 3 / 5}
    assert extremes(found) == {}


def test_steps_past_a_sample_s_length_do_not_count() -> None:
    network = sequence(0.5, decay=0.0, threshold=0.6)
    x = torch.tensor([[2.0, 2.0], [0.0, 2.0], [2.0, 2.0]])[:, :, None]
    # One spike of one step, and of three steps all; the second sample alone would be saturated.
    assert rates(network, x, torch.tensor([1, 2]))[1] == 3 / 3
    assert rates(network, x, torch.tensor([2, 3]))[1] == pytest.approx(4 / 5)


def test_silent_and_saturated_layers_are_named() -> None:
    x = torch.ones(4, 3, 1)
    assert extremes(rates(sequence(0.5, threshold=1000.0), x)) == {1: "silent", 2: "silent"}
    assert extremes(rates(sequence(5.0), x)) == {1: "saturated", 2: "saturated"}
    one = sequence(5.0)
    with torch.no_grad():
        one.stack[1].groups["snn"].ranked()[0].fill_(0.0)
    assert extremes(rates(one, x)) == {1: "saturated", 2: "silent"}


def test_a_single_missing_spike_is_not_saturated() -> None:
    network, x = sequence(5.0), torch.ones(50, 40, 1)
    x[7, 3] = 0
    assert extremes(rates(network, x)) == {}


def test_pooled_maps_count_and_layers_without_spiking_units_have_no_rate() -> None:
    torch.manual_seed(0)
    config = ConvolutionalConfig(classes=3, units=[4, 4], size=8, hidden=5, neuron=Lif(threshold=0.2))
    network, x = config.build([Sizes(2, 2), Sizes(0, 4)]), (torch.rand(25, 3, 2, 8, 8) * 1.5).floor()
    spikes: list[Tensor] = []
    hook = network.stack[0].groups["snn"].register_forward_hook(lambda *words: spikes.append(words[2][0]))
    found = rates(network, x)
    hook.remove()
    assert found == {1: pytest.approx(float(torch.cat(spikes).mean()))}
    assert 0 < found[1] < 1


def test_nothing_is_counted_once_it_is_left() -> None:
    network, x = sequence(5.0), torch.ones(4, 3, 1)
    with Activity(network) as activity:
        pass
    network(x)
    assert activity.rates() == {}
