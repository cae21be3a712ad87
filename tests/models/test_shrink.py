"""Cutting a network down is slicing: exact to the bit, in a fixed order, without touching the original."""

import copy
from typing import cast

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models.hybrid.groups import LstmGroup, RecurrentUnit, RnnGroup, SpikingGroup
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.hybrid.shrink import Kept, shrink
from hstnn_deploy.models.sizes import Sizes


def redundant(sizes: list[Sizes], seed: int = 0, recurrent: RecurrentUnit = "rnn") -> SequenceClassifier:
    torch.manual_seed(seed)
    config = SequenceConfig(inputs=3, classes=4, units=[1] * len(sizes), recurrent=recurrent)
    return config.build(sizes).double()


@st.composite
def cuts(draw: st.DrawFn) -> tuple[SequenceClassifier, Kept]:
    sizes = [Sizes(*draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))) for _ in range(draw(st.integers(1, 3)))]

    def some(count: int, least: int) -> list[int]:
        return sorted(draw(st.sets(st.integers(0, count - 1), min_size=least, max_size=count)))

    kept: Kept = []
    for size in sizes:
        spiking = some(size.snn, 0)
        kept.append({"snn": spiking, "rnn": some(size.rnn, 0 if spiking else 1)})
    return redundant(sizes, draw(st.integers(0, 1000)), draw(st.sampled_from(["rnn", "lstm"]))), kept


def places(network: SequenceClassifier, kept: Kept, layer: int) -> list[int]:
    """Return where kept units stand in a layer's output: spiking ascending, then recurrent ascending."""
    return kept[layer]["snn"] + [network.sizes[layer].snn + unit for unit in kept[layer]["rnn"]]


@given(cuts())
def test_weights_are_slices_of_the_original_to_the_bit(case: tuple[SequenceClassifier, Kept]) -> None:
    network, kept = case
    small = shrink(network, kept)
    old, new = dict(network.named_parameters()), dict(small.named_parameters())
    expected: dict[str, Tensor] = {"readout.bias": old["readout.bias"]}
    rows = list(range(3))
    for layer, chosen in enumerate(kept):
        at, snn, rnn = f"layers.{layer}", chosen["snn"], chosen["rnn"]
        if snn:
            expected[f"{at}.snn.weight"] = old[f"{at}.snn.weight"][rows][:, snn]
        if rnn:
            expected[f"{at}.rnn.weight_input"] = old[f"{at}.rnn.weight_input"][rows][..., rnn]
            expected[f"{at}.rnn.weight_recurrent"] = old[f"{at}.rnn.weight_recurrent"][rnn][..., rnn]
        rows = places(network, kept, layer)
    expected["readout.weight"] = old["readout.weight"][:, rows]
    assert new.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(new[name], value), name
    assert small.sizes == [Sizes(len(chosen["snn"]), len(chosen["rnn"])) for chosen in kept]


@given(cuts())
def test_the_small_network_answers_as_the_large_one_with_dropped_units_silenced(
    case: tuple[SequenceClassifier, Kept],
) -> None:
    network, kept = case
    silenced = copy.deepcopy(network)
    with torch.no_grad():
        for layer in range(len(kept)):
            width = silenced.stack[layer].units
            dropped = sorted(set(range(width)) - set(places(network, kept, layer)))
            recurrent = cast(RnnGroup | LstmGroup, silenced.stack[layer].groups["rnn"])
            recurrent.weight_recurrent[sorted(set(range(recurrent.units)) - set(kept[layer]["rnn"]))] = 0
            if layer + 1 < len(kept):
                after = silenced.stack[layer + 1].groups
                cast(SpikingGroup, after["snn"]).weight[dropped] = 0
                cast(RnnGroup | LstmGroup, after["rnn"]).weight_input[dropped] = 0
            else:
                silenced.readout.weight[:, dropped] = 0
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(shrink(network, kept)(x)[0], silenced(x)[0])


def test_the_original_is_left_alone_and_shares_nothing() -> None:
    network = redundant([Sizes(3, 3), Sizes(3, 3)])
    before = copy.deepcopy(network.state_dict())
    small = shrink(network, [{"snn": [0, 1, 2], "rnn": [0, 1, 2]}] * 2)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_keeping_everything_changes_nothing() -> None:
    network = redundant([Sizes(3, 2), Sizes(2, 3)])
    small = shrink(network, [{"snn": [0, 1, 2], "rnn": [0, 1]}, {"snn": [0, 1], "rnn": [0, 1, 2]}])
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    assert torch.equal(small(x)[0], network(x)[0])


def test_what_is_left_can_be_trained() -> None:
    small = shrink(redundant([Sizes(3, 3), Sizes(3, 3)]), [{"snn": [1], "rnn": [0, 2]}, {"snn": [0, 2], "rnn": [1]}])
    small(torch.randn(5, 3, 3, dtype=torch.float64))[0].sum().backward()
    assert all(parameter.grad is not None and parameter.is_leaf for parameter in small.parameters())
