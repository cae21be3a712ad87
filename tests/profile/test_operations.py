"""Operations of hybrid networks against counts by hand, of pure ones against torch's and torchinfo's counters."""

from typing import Any

import pytest
import torch
import torchinfo
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hstnn_deploy.data.preprocessing import counts_events
from hstnn_deploy.data.registry import DATA_SETS
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.profile.phases import work
from hstnn_deploy.profile.phases.operations import Operations, count, reach
from hstnn_deploy.profile.run import worker
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import configured


def by_name(network: HybridNetwork, x: Tensor, events: bool = False) -> dict[str, Operations]:
    return {each.name: each for each in count(network, x, events)}


def tiny_hybrid() -> tuple[HybridNetwork, Tensor]:
    """Two inputs, two layers of one spiking and one recurrent unit; weights such that the spikes are known.

    Layer 1: the spiking unit fires where the first input is 1. Layer 2: where that unit did, one step at a time.
    """
    network = SequenceConfig(inputs=2, classes=3, units=[2, 2]).build([Sizes(1, 1), Sizes(1, 1)])
    with torch.no_grad():
        for layer in network.stack:
            layer.groups["snn"].ranked()[0].copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, 0.0], [1.0, 0.5]])[:, None]
    return network, x


def test_a_hybrid_network_s_operations_are_those_counted_by_hand() -> None:
    network, x = tiny_hybrid()
    found = by_name(network, x)
    # T = 4. The data holds 6 numbers that are not zero; the spiking unit of layer 1 fires at steps 1, 3 and 4.
    assert found["layer1.snn"] == Operations("layer1.snn", dense=8, macs=6, acs=0, spikes=3, sites=4)
    # Besides its inputs, the recurrent unit sees its own h of steps 1 to 3; before, h is zero.
    assert found["layer1.rnn"] == Operations("layer1.rnn", dense=8 + 4, macs=6 + 3, acs=0)
    # Layer 2 sees 3 spikes, and h at 4 steps: accumulates and multiplications in one input.
    assert found["layer2.snn"] == Operations("layer2.snn", dense=8, macs=4, acs=3, spikes=3, sites=4)
    assert found["layer2.rnn"] == Operations("layer2.rnn", dense=8 + 4, macs=4 + 3, acs=3)
    # Once: the mean of the spikes, which is a number, and the last h, to three classes.
    assert found["readout"] == Operations("readout", dense=6, macs=6, acs=0)
    assert found["layer1.snn"].rate == 0.75
    assert found["layer1.rnn"].rate is None


def test_a_language_model_s_decoder_accumulates_every_step_s_spikes() -> None:
    torch.manual_seed(0)
    network = LanguageConfig(vocabulary=7, inputs=3, units=[2]).build([Sizes(2, 2)]).train()
    with torch.no_grad():
        network.stack[0].groups["snn"].ranked()[0].fill_(100.0)
        network.embedding.weight.fill_(1.0)
    found = by_name(network, torch.zeros(5, 4, dtype=torch.long))
    # 5 steps, 4 columns: both spiking units fire whenever they may, which after a reset is at every step.
    assert found["layer1.snn"].spikes == 40
    assert (found["decoder"].acs, found["decoder"].macs) == (40 * 7, 40 * 7)
    assert network.training


def test_an_lstm_s_recurrent_products_are_of_four_gates() -> None:
    network = SequenceConfig(inputs=3, classes=2, units=[5], recurrent="lstm").build([Sizes(0, 5)])
    found = by_name(network, torch.rand(6, 2, 3) + 0.1)
    assert found["layer1.rnn"].dense == 6 * 2 * (3 + 5) * 20
    assert found["layer1.rnn"].macs == 6 * 2 * 3 * 20 + 5 * 2 * 5 * 20


def conv(sizes: list[Sizes], form: Any = "dvs") -> HybridNetwork:
    torch.manual_seed(1)
    size = 8 if form == "dvs" else 10
    config = ConvolutionalConfig(form=form, classes=3, units=[1] * len(sizes), size=size, hidden=4)
    return config.build(sizes)


@pytest.mark.parametrize("form", ["dvs", "nmnist"])
def test_a_convolution_s_spikes_are_counted_where_they_land(form: Any) -> None:
    network = conv([Sizes(2, 3), Sizes(2, 1)], form)
    size = 8 if form == "dvs" else 10
    x = (torch.rand(11, 2, 2, size, size) < 0.2).float() * torch.randint(1, 4, (11, 2, 2, size, size))
    outputs: list[Tensor] = []
    hook = network.stack[0].groups["snn"].register_forward_hook(lambda *words: outputs.append(words[2][0]))
    network(x)
    hook.remove()
    found = by_name(network, x, events=True)
    spikes = torch.cat(outputs)

    def landed(counts: Tensor, padding: int, maps: int) -> float:
        total = 0.0
        for at in counts.nonzero().tolist():
            row, column = at[-2] + padding, at[-1] + padding
            rows = sum(0 <= row - shift < maps for shift in range(3))
            columns = sum(0 <= column - shift < maps for shift in range(3))
            total += float(counts[tuple(at)]) * rows * columns
        return total

    padding = 1 if form == "dvs" else 0
    # Counts of events: one accumulate each, times the channels they meet.
    assert found["layer1.snn"].acs == pytest.approx(landed(x, padding, 8) * 2)
    assert found["layer1.rnn"].acs == pytest.approx(landed(x, padding, 8) * 3)
    # Pooled spikes are quarters: as many accumulates as there were spikes.
    assert found["layer2.snn"].acs == pytest.approx(landed(spikes * 4, 1, 4) * 2)
    assert found["layer1.snn"].spikes == pytest.approx(float(spikes.sum()) * 4)
    assert found["layer1.snn"].sites == 11 * 2 * 2 * 8 * 8


def test_spikes_times_a_factor_for_each_unit_are_accumulated_as_those_times_one_for_all() -> None:
    torch.manual_seed(0)
    found = {}
    for scale in ({"scale": 0.5}, {"scale": 0.5, "each": "unit"}):
        layers = [{"linear": 5}, {"lif": {"threshold": 0.2}}, scale, {"linear": 3}]
        network = StackConfig(input=[4], layers=layers).build([]).eval()
        with torch.no_grad():
            for value in network.parameters():
                drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel()))
                value.copy_(drawn if value.ndim > 1 else torch.zeros_like(value))
        x = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(3))
        last = count(network, x, False)[-1]
        found[len(scale)] = (last.acs, last.macs)
    assert found[1] == found[2]
    assert found[1][0] > found[1][1] == 0


def test_reach_is_how_many_outputs_each_input_meets() -> None:
    counts = torch.zeros(1, 2, 5, 5)
    counts[0, 0, 0, 0], counts[0, 1, 2, 2] = 1, 3
    assert reach(counts, nn.Conv2d(2, 1, 3, padding=1)) == 4 + 27
    assert reach(counts, nn.Conv2d(2, 1, 3)) == 1 + 27
    # Stride 2 without padding: outputs at 0 and 2; the middle input meets all four, the corner one.
    assert reach(counts, nn.Conv2d(2, 1, 3, stride=2)) == 1 + 12
    # In two groups, an input meets the three outputs of its own group only.
    assert reach(counts, nn.Conv2d(2, 6, 3, groups=2)) == (1 + 27) * 3


def test_the_data_set_says_whether_inputs_are_events_and_never_a_batch_s_values() -> None:
    network = SequenceConfig(inputs=2, classes=2, units=[3]).build([Sizes(3, 0)])
    black, whole = torch.zeros(4, 1, 2), torch.ones(4, 1, 2)
    (events, *_), (numbers, *_) = count(network, whole, events=True), count(network, whole, events=False)
    assert (events.macs, events.acs) == (0, 4 * 2 * 3)
    assert (numbers.macs, numbers.acs) == (4 * 2 * 3, 0)
    # A batch of black images, or of images of pure black and white, is one of numbers like every other.
    mixed = torch.cat((whole, 0.5 * whole), dim=1)
    assert count(network, mixed, events=False)[0].macs == 2 * numbers.macs
    assert count(network, black, events=False)[0] == Operations(
        "layer1.snn", dense=24, spikes=0, sites=12, macs=0, acs=0
    )


def test_every_data_set_declares_what_its_inputs_are() -> None:
    events = {name for name in DATA_SETS if counts_events(DATA_SETS[name].config(name=name))}
    assert events == {"digit-events", "nmnist", "dvs-gesture", "cifar10-dvs", "shd", "ssc"}


NETWORKS: dict[str, tuple[Any, list[Sizes], tuple[int, ...]]] = {
    "rnn": (SequenceConfig(inputs=6, classes=4, units=[7, 5]), [Sizes(0, 7), Sizes(0, 5)], (9, 3, 6)),
    "snn": (SequenceConfig(inputs=6, classes=4, units=[7, 5]), [Sizes(7, 0), Sizes(5, 0)], (9, 3, 6)),
    "hybrid": (SequenceConfig(inputs=6, classes=4, units=[7, 5]), [Sizes(7, 2), Sizes(3, 5)], (9, 3, 6)),
    "lstm": (
        SequenceConfig(inputs=6, classes=4, units=[7], recurrent="lstm"),
        [Sizes(0, 7)],
        (9, 3, 6),
    ),
    "conv": (
        ConvolutionalConfig(classes=3, units=[3, 4], size=8, hidden=5),
        [Sizes(3, 2), Sizes(1, 4)],
        (9, 3, 2, 8, 8),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_operations_are_those_that_torch_counts(name: str) -> None:
    config, sizes, shape = NETWORKS[name]
    network = config.build(sizes).eval()
    x = torch.rand(*shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    assert 2 * sum(each.dense for each in count(network, x, events=False)) == counter.get_total_flops()


def test_a_pure_convolutional_network_has_the_operations_that_torchinfo_counts() -> None:
    network = conv([Sizes(3, 0), Sizes(4, 0)]).eval()
    x = torch.rand(5, 2, 2, 8, 8)
    info = torchinfo.summary(network, input_data=x, verbose=0)
    biases = sum(
        layer.module.bias.numel()
        * layer.output_size[0]
        * (layer.output_size[2] ** 2 if len(layer.output_size) > 2 else 1)
        for layer in info.summary_list
        if isinstance(layer.module, nn.Conv2d | nn.Linear) and layer.module.bias is not None
    )
    # torchinfo counts a bias as one more input.
    assert sum(each.dense for each in count(network, x, events=False)) == info.total_mult_adds - biases


def test_a_pure_recurrent_network_has_the_operations_that_torchinfo_counts_of_its_like() -> None:
    x = torch.rand(9, 3, 6)
    ours = SequenceConfig(inputs=6, classes=4, units=[7]).build([Sizes(0, 7)])
    info = torchinfo.summary(nn.RNN(6, 7, bias=False), input_data=x, verbose=0)
    assert count(ours, x, events=False)[0].dense == info.total_mult_adds


def test_work_is_said_per_sample_with_its_energy(tiny: Recipe, tmp_path: Any) -> None:
    record = worker.measure(configured(tiny, "work"), tmp_path)
    assert record.status == "measured", record.reason

    def number(name: str) -> float:
        value = record.value(name)
        assert isinstance(value, Measured), value
        return value.number

    assert number("flops") == 2 * number("macs_dense")
    assert number("energy") == pytest.approx(4.6e-12 * number("macs") + 0.9e-12 * number("acs"))
    for key in ("macs_dense", "macs", "acs"):
        parts = [each.plain()["value"] for each in record.values if each.name.startswith(f"{key}.")]
        assert sum(parts) == pytest.approx(number(key))
    # 8 inputs, 6 units in two layers at ratio 0.5: W, W_i, W_h each; then the readout.
    assert number("parameters") == 8 * 6 + 3 * 3 + 6 * 5 + 3 * 3 + 5 * 10 + 10
    assert 0 <= number("spike_rate.layer1.snn") <= 1
    acs = record.value("acs")
    assert isinstance(acs, Measured)
    assert acs.note == "with random weights; a trained network spikes at other rates"
    energy = record.value("energy")
    assert isinstance(energy, Measured)
    assert work.ENERGY_SOURCE in energy.source
