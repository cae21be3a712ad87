"""Disturbances of weights, neurons and spikes, and attacks: what they change, and that nothing else does."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from hstnn_deploy.data.splits import ArraySplit, Batch
from hstnn_deploy.disturbances import hardware
from hstnn_deploy.disturbances.adversary import ATTACKS
from hstnn_deploy.disturbances.disturbance import stream
from hstnn_deploy.disturbances.inputs import Attacked
from hstnn_deploy.disturbances.values import Range
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.layers.weights import weights_of
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.models.tasks import Classification


def _hybrid() -> Network:
    torch.manual_seed(0)
    config = SequenceConfig(inputs=6, classes=3, units=[8, 8], neuron=Lif())
    return config.build([Sizes(5, 3), Sizes(4, 4)]).eval()


def _stack(**neuron: Any) -> Network:
    torch.manual_seed(0)
    layers: list[Any] = [{"linear": 9}, {"lif": {"tau": 2.0, "threshold": 0.4, **neuron}}, {"linear": 3}]
    return StackConfig(input=[6], layers=layers).build([]).eval()


def _maps() -> Network:
    torch.manual_seed(0)
    layers: list[Any] = [
        {"conv": 4, "kernel": 3},
        {"lif": {"threshold": 0.1}},
        "flatten",
        {"linear": 3},
        {"lif": {"threshold": 0.1}},
    ]
    return StackConfig(input=[2, 6, 6], layers=layers, readout="sum").build([]).eval()


NETWORKS = {"hybrid": _hybrid, "stack": _stack, "maps": _maps, "learned": lambda: _stack(learn="decay")}


def _x(network: Network, steps: int = 7, batch: int = 5) -> Tensor:
    return torch.rand(steps, batch, *network.input_shape, generator=torch.Generator().manual_seed(1))


def _out(network: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = network(x)[0]
    return output


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("name", hardware.WEIGHTS)
def test_weights_of_a_copy_are_disturbed_and_no_other_parameters(make: Any, name: str) -> None:
    network = make()
    before = copy.deepcopy(network.state_dict())
    level = hardware.WEIGHTS[name][0].levels[-1]
    changed = hardware.disturbed_weights(network, name, level, 0)
    again = hardware.disturbed_weights(network, name, level, 0)
    for key, value in changed.named_parameters():
        assert torch.equal(network.state_dict()[key], before[key])
        assert torch.equal(value, again.state_dict()[key])
        assert torch.equal(value, before[key]) == (value.ndim < 2)


def test_the_size_of_weight_noise_is_what_its_level_says() -> None:
    weight = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))

    def apply(name: str, level: float) -> Tensor:
        return hardware.WEIGHTS[name][1](weight, level, stream(name, 0))

    noise = (apply("weight-gaussian", 0.1) - weight) / weight.abs().max()
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    logarithm = (apply("weight-lognormal", 0.3) / weight).log()
    assert logarithm.std().item() == pytest.approx(0.3, rel=0.02)
    assert (apply("weight-stuck", 0.2) == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    for bits in (2, 3, 8):
        rounded = apply("weight-bits", bits)
        step = weight.abs().max().item() / (2 ** (bits - 1) - 1)
        assert (rounded - weight).abs().max().item() <= step / 2 * (1 + 1e-5)
        assert len(rounded.unique()) <= 2**bits - 1
    assert torch.equal(apply("float16", 1), weight.half().float())


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("name", hardware.NEURONS)
def test_mismatch_of_almost_nothing_changes_nothing_and_of_much_does(make: Any, name: str) -> None:
    network = make()
    x = _x(network)
    clean = _out(network, x)
    slight = _out(hardware.disturbed_neurons(network, name, 1e-7, 0), x)
    torch.testing.assert_close(slight, clean, rtol=1e-4, atol=1e-5)
    strong = [hardware.disturbed_neurons(network, name, 0.8, draw) for draw in (0, 0, 1)]
    first, same, other = (_out(each, x) for each in strong)
    assert torch.equal(first, same)
    assert not torch.equal(first, clean)
    assert not torch.equal(first, other)
    assert torch.equal(_out(network, x), clean)


def test_a_mismatched_threshold_is_that_of_each_neuron() -> None:
    network = _stack()
    changed = hardware.disturbed_neurons(network, "threshold-mismatch", 0.2, 3)
    layer: Any = next(iter(changed.taps.values()))
    factor = 1 + 0.2 * torch.from_numpy(stream("threshold-mismatch", 3, 0).standard_normal((9,), "f4"))
    torch.testing.assert_close(layer.threshold, 0.4 * factor)
    # By hand: the layer's equation with a threshold of each neuron.
    x = _x(network)
    v, counts = torch.zeros(5, 9), torch.zeros(5, 3)
    first, last = (each for each in changed.modules() if isinstance(each, torch.nn.Linear))
    for now in x:
        m = 0.5 * v + first(now)
        s = (m > layer.threshold).float()
        v = m * (1 - s)
        counts += last(s)
    torch.testing.assert_close(_out(changed, x), counts / 7, rtol=1e-5, atol=1e-6)


def test_networks_without_such_units_are_refused() -> None:
    rnn = SequenceConfig(inputs=6, classes=3, units=[8], neuron=Lif(), recurrent="rnn").build([Sizes(0, 8)])
    with pytest.raises(UsageError, match="this network has none"):
        hardware.disturbed_neurons(rnn, "leak-mismatch", 0.1, 0)
    with pytest.raises(UsageError, match="this network has none"), hardware.disturbed_spikes(rnn, "spike-loss", 0.1, 0):
        pass


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_spikes_are_lost_or_late_within_the_block_alone(make: Any) -> None:
    network = make()
    x = _x(network)
    clean = _out(network, x)
    with hardware.disturbed_spikes(network, "spike-loss", 1.0, 0):
        silent = _out(network, x)
        assert torch.equal(silent, _out(network, 0 * x)) or make is _hybrid
    with hardware.disturbed_spikes(network, "spike-loss", 0.5, 0):
        assert not torch.equal(_out(network, x), clean)
    with hardware.disturbed_spikes(network, "spike-delay", 3, 0):
        late = _out(network, x)
    assert not torch.equal(late, clean)
    assert torch.equal(_out(network, x), clean)


def test_a_delay_of_one_layer_is_the_shorter_window() -> None:
    torch.manual_seed(0)
    network = (
        StackConfig(input=[6], layers=[{"linear": 4}, {"lif": {"threshold": 0.2}}], readout="sum").build([]).eval()
    )
    x = _x(network)
    shorter = _out(network, x[:5])
    with hardware.disturbed_spikes(network, "spike-delay", 2, 0):
        assert torch.equal(_out(network, x), shorter)
        assert torch.equal(_out(network, x), shorter)


def test_a_delay_goes_on_over_the_parts_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers: list[Any] = [{"linear": 4}, {"lif": {"threshold": 0.2}}, {"linear": 4}, {"lif": {"threshold": 0.1}}]
    network = StackConfig(input=[6], layers=layers, readout="max").build([]).eval()
    x = _x(network, steps=9)
    with hardware.disturbed_spikes(network, "spike-delay", 2, 0):
        whole = _out(network, x)
        monkeypatch.setattr("hstnn_deploy.models.stack._AT_ONCE", 40)
        assert network._at_once(x) == 2
        assert torch.equal(_out(network, x), whole)


# Attacks.


def _linear() -> tuple[Network, Batch]:
    """Return a network whose gradient is known by hand: an integrator that keeps all, summed over time."""
    torch.manual_seed(0)
    layers: list[Any] = [{"linear": 3}, {"integrator": {"decay": 0.0}}]
    network = StackConfig(input=[6], layers=layers, readout="sum").build([]).eval()
    x = torch.full((4, 5, 6), 0.5)
    return network, Batch(x, torch.arange(5) % 3)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_of_a_linear_network_go_along_its_gradient(name: str) -> None:
    network, batch = _linear()
    weight = next(each for each in network.parameters() if each.ndim == 2).detach()
    logits = network(batch.x)[0]
    probability = logits.softmax(1) - torch.nn.functional.one_hot(batch.target, 3)
    sign = (probability @ weight).sign().detach()
    draws = [stream(name, 0, number) for number in range(5)]
    found = ATTACKS[name][1](network, Classification(), batch, 0.1, Range(0.0, 2.0), draws)
    # The range is 2 wide: eps is 0.2. PGD starts elsewhere, and its gradient turns a little on the way.
    there = batch.x + 0.2 * sign.expand(4, 5, 6)
    assert (found - there).abs().lt(1e-6).float().mean() >= (1.0 if name == "fgsm" else 0.9)
    assert not batch.x.requires_grad


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_within_eps_and_the_range_and_cost_more_than_noise(name: str) -> None:
    network = _hybrid()
    x = torch.rand(5, 7, 6, generator=torch.Generator().manual_seed(3))
    batch = Batch(x.movedim(0, 1).contiguous(), torch.arange(5) % 3)
    draws = [stream(name, 0, number) for number in range(5)]
    span = Range(0.0, 1.0)
    found = ATTACKS[name][1](network, Classification(), batch, 0.1, span, draws)
    assert (found - batch.x).abs().max() <= 0.1 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    loss = Classification().loss
    noisy = (batch.x + 0.1 * torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    with torch.no_grad():
        attacked, random = (loss(network(each)[0], batch.target) for each in (found, noisy))
    assert attacked > random


def test_an_attacked_sample_is_the_same_in_any_batch() -> None:
    network = _hybrid()
    split = ArraySplit(torch.rand(6, 7, 6, generator=torch.Generator().manual_seed(3)), torch.arange(6) % 3)
    attacked = Attacked(split, "pgd", 0.1, 0, Range(0.0, 1.0), network, Classification())
    whole = attacked.batch(torch.arange(6), torch.device("cpu")).x
    one = attacked.batch(torch.tensor([4]), torch.device("cpu")).x
    # Rounding of a product depends on the batch; a sign of the gradient may turn with it, where it is about zero.
    assert (whole[:, 4:5] - one).abs().gt(1e-5).float().mean() < 0.05


def test_norms_of_each_step_biases_of_gates_and_numbers_of_maps_are_no_weights() -> None:
    """They have two axes or more, as weights do."""
    layers: list[Any] = [
        {"conv": 4, "kernel": 3},
        {"norm": {"over": "step", "steps": 7}},
        {"lif": {"threshold": 0.1, "learn": "decay", "each": {"decay": "unit"}}},
        "flatten",
        {"gru": 3},
    ]
    network = StackConfig(input=[2, 6, 6], layers=layers, readout="sum").build([])
    own = {id(value) for value in weights_of(network)}
    several = {name for name, value in network.named_parameters() if value.ndim > 1}
    weights = {name for name, value in network.named_parameters() if id(value) in own}
    assert {name.rpartition(".")[2] for name in weights} == {"weight", "weight_input", "weight_recurrent"}
    assert several - weights, several
    before = copy.deepcopy(network.state_dict())
    changed = hardware.disturbed_weights(network, "weight-gaussian", 0.3, 0).state_dict()
    assert {name for name, value in changed.items() if not torch.equal(value, before[name])} == weights
