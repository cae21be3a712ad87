"""What a training is disturbed by: draws that follow from seed, epoch and sample, and nothing that is left behind."""

import copy
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.data.registry import load
from hstnn_deploy.data.sets.nothing import PythonDataConfig
from hstnn_deploy.data.splits import ArraySplit, Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances.disturbance import Trained, drawn, stream
from hstnn_deploy.disturbances.hardware import WEIGHTS
from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.disturbances.training import LEARNT, Against, checked
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.models.tasks import Classification
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.evaluation import batches, parts
from hstnn_deploy.train.loop import train_step
from hstnn_deploy.train.ranks import Ranks

CPU = torch.device("cpu")
DATA = PythonDataConfig(name="python", steps=6, input=[5], classes=3, samples={}, sha256={})


def _network(*more: Any) -> Network:
    torch.manual_seed(0)
    layers: list[Any] = [{"linear": 8}, *more, {"lif": {"threshold": 0.3}}, {"linear": 3}]
    return StackConfig(input=[5], layers=layers).build([]).train()


def _split(samples: int = 12) -> ArraySplit:
    x = torch.rand(samples, 6, 5, generator=torch.Generator().manual_seed(1))
    x[0, 0, 0], x[0, 0, 1] = 0.0, 2.0  # the range
    return ArraySplit(x, torch.arange(samples) % 3)


def _against(levels: Mapping[str, float], network: Network | None = None, split: Split | None = None) -> Against:
    return Against(levels, network or _network(), Classification(), split or _split(), DATA, 7)


def _batch(against: Against, numbers: list[int], epoch: int = 1) -> Batch:
    return against.split(epoch).batch(torch.tensor(numbers), CPU)


OF_VALUES = ("gaussian", "salt-pepper", "frame-loss", "frame-repeat", "frame-jitter", "occlusion", "contrast")


@pytest.mark.parametrize("name", [*OF_VALUES, "sign-noise", "stretch", "compress"])
def test_a_sample_is_disturbed_alike_in_any_batch_and_otherwise_in_another_epoch(name: str) -> None:
    whole = _batch(_against({name: 0.9}), list(range(12)))
    again = _batch(_against({name: 0.9}), [11, 4, 7])
    for place, number in enumerate([11, 4, 7]):
        steps = len(again.x) if again.lengths is None else int(again.lengths[place])
        assert again.lengths is None or whole.lengths is not None
        assert torch.equal(again.x[:steps, place], whole.x[:steps, number])
    other = _batch(_against({name: 0.9}), list(range(12)), epoch=2)
    assert other.x.shape != whole.x.shape or not torch.equal(other.x, whole.x)
    seed = Against({name: 0.9}, _network(), Classification(), _split(), DATA, 8).split(1).batch(torch.arange(12), CPU)
    assert seed.x.shape != whole.x.shape or not torch.equal(seed.x, whole.x)


@given(st.integers(0, 2**63 - 1), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 2**40))
def test_levels_lie_within_the_strongest_and_no_training_draws_what_a_measurement_does(
    seed: int, epoch: int, step: int, number: int
) -> None:
    draw = Trained(seed, epoch, step)
    level, generator = drawn(DISTURBANCES["gaussian"], 0.4, draw, number)
    assert 0 <= level < 0.4
    same, again = drawn(DISTURBANCES["gaussian"], 0.4, draw, number)
    assert (level, generator.random()) == (same, again.random())
    assert drawn(DISTURBANCES["sensor-shift"], 3, draw, number)[0] in {0, 1, 2, 3}
    assert drawn(DISTURBANCES["gaussian"], 0.4, 5, number)[0] == 0.4
    words = {stream("gaussian", each, number).integers(2**62) for each in (0, draw, Trained(seed, epoch + 1, step))}
    assert len(words) == 3


def test_a_measurement_draws_what_it_always_did() -> None:
    key = np.array([(zlib.crc32(b"gaussian") << 32) | 3, 5], np.uint64)
    assert stream("gaussian", 3, 5).random() == np.random.Generator(np.random.Philox(key=key)).random()


def test_gaussian_noise_has_the_variance_of_its_levels() -> None:
    """With a level u L, u even in [0, 1], and a range w wide, the noise has the variance (L w)^2 / 3."""
    split = ArraySplit(torch.zeros(3000, 6, 5), torch.zeros(3000, dtype=torch.long))
    split.x[0, 0, 0] = 2.0
    noise = _batch(_against({"gaussian": 0.3}, split=split), list(range(1, 3000))).x
    assert noise.var().item() == pytest.approx((0.3 * 2) ** 2 / 3, rel=0.05)
    deviations = noise.movedim(1, 0).flatten(1).square().mean(1).sqrt()
    assert deviations.mean().item() == pytest.approx(0.3, rel=0.03)
    assert (deviations < 0.15).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_stretches_of_a_text_are_read_with_levels_of_their_own() -> None:
    text = TextSplit(torch.arange(40_000) % 997, bptt=20, name="text")
    network = StackConfig(
        input=[], layers=[{"embedding": 4, "words": 997}, {"rnn": 4}, {"linear": 997}], readout="every"
    ).build([])  # fmt: skip
    against = _against({"word-replace": 0.4}, network, text)
    made: Any = against.split(1)
    changed = (made.seen != text.tokens).double()
    assert changed.mean().item() == pytest.approx(0.2, abs=0.01)
    shares = changed.view(-1, 20).mean(1)
    assert shares.std().item() > 0.1  # one level for all would give sqrt(0.2 * 0.8 / 20) = 0.09
    assert shares.std().item() == pytest.approx((0.4**2 / 12 + (0.2 - 0.4**2 / 3) / 20) ** 0.5, rel=0.05)
    for read, true in zip(made.windows(4, CPU), text.windows(4, CPU), strict=True):
        assert torch.equal(read.target, true.target)
    assert torch.equal(made.seen, against.split(1).seen)  # type: ignore[attr-defined]
    both: Any = _against({"word-replace": 0.4, "word-drop": 0.4}, network, text).split(1)
    assert (both.seen != text.tokens).double().mean() > changed.mean()
    assert torch.equal(both.tokens, text.tokens)


def test_ranks_see_what_one_process_sees() -> None:
    against = _against({"gaussian": 0.5, "frame-loss": 0.5})
    split, order = against.split(3), torch.randperm(12)
    each = [list(parts(split, 5, order, CPU, Ranks(rank, 2))) for rank in range(2)]
    for whole, *own in zip(batches(split, 5, order, CPU), *each, strict=True):
        assert torch.equal(torch.cat([part.batch.x for part in own], dim=1), whole.x)


# Attacks.


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_an_attack_leaves_nothing_behind(name: str) -> None:
    network = _network({"norm": {}}, {"dropout": 0.5})
    kept = copy.deepcopy(network.state_dict())
    against = _against({name: 0.1}, network)
    generator = torch.random.get_rng_state()
    batch = _batch(against, list(range(12)))
    assert torch.equal(generator, torch.random.get_rng_state())
    assert network.training
    assert all(module.training for module in network.modules())
    assert all(each.grad is None and each.requires_grad for each in network.parameters())
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())
    assert not batch.x.requires_grad
    moved = (batch.x - _split().batch(torch.arange(12), CPU).x).abs().amax((0, 2))
    # eps is a share of the range, which is 2 wide; each sample has a level of its own.
    assert moved.max() <= 0.2 + 1e-6
    assert 0.05 < moved.mean() < 0.15
    assert len(moved.unique()) > 6


def test_an_attack_is_made_on_the_network_as_it_is_now() -> None:
    network = _network()
    split = _against({"fgsm": 0.5}, network).split(1)
    before = split.batch(torch.arange(12), CPU).x
    with torch.no_grad():
        for weight in network.parameters():
            weight.neg_()
    assert not torch.equal(before, split.batch(torch.arange(12), CPU).x)


# Weights and spikes.


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_disturbed_within_a_step_and_then_what_they_were(name: str) -> None:
    network = _network()
    level = 3.0 if name == "weight-bits" else min(0.5, DISTURBANCES[name].most) if name != "float16" else 1
    before = copy.deepcopy(network.state_dict())
    against = _against({name: level}, network)
    seen = []
    for epoch, number in ((1, 1), (1, 1), (1, 2), (2, 1)):
        with against.step(epoch, number):
            seen.append([value.detach().clone() for value in network.parameters()])
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for (key, clean), first, again, other, later in zip(before.items(), *seen, strict=True):
        assert torch.equal(first, again)
        # Of a weak draw, no weight may be stuck.
        assert all(torch.equal(each, clean) for each in (first, other, later)) == (clean.ndim < 2), key
        sure = name in {"weight-bits", "float16"} or clean.ndim < 2
        assert (torch.equal(first, other) and torch.equal(first, later)) == sure
        if name == "weight-bits" and clean.ndim > 1:
            assert torch.equal(first, WEIGHTS[name][1](clean, 3, stream(name, 0)))
            assert len(first.unique()) <= 7
    with pytest.raises(KeyboardInterrupt), against.step(1, 1):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("levels", [{"weight-bits": 3.0}, {"weight-gaussian": 0.3, "weight-stuck": 0.3}])
def test_a_step_goes_along_the_gradient_at_the_disturbed_weights(levels: dict[str, float]) -> None:
    network, batch = _network(), _split().batch(torch.arange(12), CPU)
    against = _against(levels, network)
    with against.step(1, 4):
        there = copy.deepcopy(network)
    output, _ = there(batch.x)
    Classification().loss(output, batch.target).backward()
    clean = {key: value.detach().clone() for key, value in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    loss, _, _ = train_step(network, Classification(), optimiser, None, batch, disturbed=against.step(1, 4))
    assert loss == Classification().loss(output, batch.target)
    for (key, now), other in zip(network.named_parameters(), there.parameters(), strict=True):
        assert other.grad is not None
        assert torch.equal(now.grad, other.grad), key  # type: ignore[arg-type]
        assert torch.equal(now, clean[key] - 0.5 * other.grad)
    plain = _network()
    train_step(plain, Classification(), torch.optim.SGD(plain.parameters(), lr=0.5), None, batch)
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("levels", [{"spike-loss": 1.0}, {"spike-delay": 4}, {"spike-loss": 0.5, "spike-delay": 3}])
def test_spikes_are_disturbed_within_a_step_alone_and_let_gradients_through(levels: dict[str, float]) -> None:
    network, x = _network(), _split().batch(torch.arange(12), CPU).x
    against = _against(levels, network)
    clean: Tensor = network(x)[0]
    outputs = []
    for number in (1, 1, 2, 3):
        with against.step(1, number):
            outputs.append(network(x)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert any(not torch.equal(each, clean) for each in outputs)
    outputs[0].sum().backward()
    assert all(each.grad is not None for each in network.parameters())
    assert torch.equal(network(x)[0], clean)


# Events and images, as a training reads them.


@pytest.mark.parametrize("crop", ["[]", "[{name: flip}, {name: drop-event, p: 0.1}]"])
def test_recordings_are_disturbed_before_they_are_drawn_from_and_framed(crop: str) -> None:
    recipe = load_recipe("digit-events", [f"data.augment={crop}", "kind=snn", "network.units=[3, 3]"])
    splits = load(recipe.data, recipe.protocol)
    network = _network()

    def frames(levels: dict[str, float], epoch: int = 1, numbers: tuple[int, ...] = (0, 5, 9)) -> Tensor:
        split = splits.train
        if levels:
            split = Against(levels, network, Classification(), splits.train, recipe.data, 3).split(epoch)
        torch.manual_seed(4)
        return split.batch(torch.tensor(numbers), CPU).x

    plain = frames({})
    assert torch.equal(frames({"event-drop": 1e-12, "background": 1e-12, "dead-pixels": 1e-12}), plain)
    lost = frames({"event-drop": 0.9})
    assert lost.sum() < plain.sum()
    assert torch.equal(frames({"event-drop": 0.9}), lost)
    assert not torch.equal(frames({"event-drop": 0.9}, epoch=2), lost)
    if crop == "[]":
        assert torch.equal(frames({"event-drop": 0.9}, numbers=(9, 0)), lost[:, [2, 0]])
        # Faults of a sensor are others in each recording, so that none of them is learnt by heart.
        dead = frames({"dead-pixels": 1.0}, numbers=tuple(range(6)))
        assert (dead.sum((0, 2, 3, 4)) <= frames({}, numbers=tuple(range(6))).sum((0, 2, 3, 4))).all()


def test_a_picture_is_disturbed_before_it_becomes_spikes() -> None:
    recipe = load_recipe("rram-digits", [])
    splits = load(recipe.data, recipe.protocol)

    def steps(levels: dict[str, float]) -> Tensor:
        against = Against(levels, _network(), Classification(), splits.train, recipe.data, 3)
        torch.manual_seed(4)
        return against.split(1).batch(torch.arange(4), CPU).x

    torch.manual_seed(4)
    plain = splits.train.batch(torch.arange(4), CPU).x
    assert torch.equal(steps({"gaussian": 1e-12}), plain)
    assert not torch.equal(steps({"gaussian": 0.9, "contrast": 0.5}), plain)
    lost = steps({"frame-loss": 1.0})
    assert any((lost[step, sample] == 0).all() for step in range(len(lost)) for sample in range(4))
    assert len(lost) == len(plain)


# What a user gets wrong.


def test_levels_come_in_the_order_of_the_tables() -> None:
    assert list(checked({"weight-bits": 4, "fgsm": 0.1, "gaussian": 0.2})) == ["gaussian", "fgsm", "weight-bits"]
    assert set(DISTURBANCES) - set(LEARNT) == {"threshold-mismatch", "leak-mismatch"}


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"gaussiam": 0.2}, r"^against\.gaussiam: unknown disturbance"),
        ({"gaussian": -0.1}, r"^against\.gaussian: level -0\.1 must be 0 or more"),
        ({"frame-loss": 1.5}, r"^against\.frame-loss: level 1\.5 must be from 0 to 1"),
        ({"weight-bits": 2.5}, "must be a whole number"),
        ({"gaussian": 0}, "level 0 is not a disturbance"),
        ({"leak-mismatch": 0.1}, "does not disturb neurons"),
        ({"event-drop": 0.1}, "it acts on raw events, but python has none"),
        ({"word-drop": 0.1}, "it acts on words, but python is not text"),
    ],
)
def test_what_a_training_is_not_disturbed_by_is_refused(levels: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        _against(levels)
    assert error.value.hint or "level" in error.value.message


def test_what_does_not_fit_the_network_is_refused() -> None:
    still = StackConfig(input=[5], layers=[{"rnn": 4}, {"linear": 3}]).build([])
    with pytest.raises(UsageError, match=r"^against\.spike-loss does not fit this training: this network has no"):
        _against({"spike-loss": 0.1}, still)
    every = StackConfig(input=[5], layers=[{"rnn": 4}, {"linear": 3}], readout="every").build([])
    with pytest.raises(UsageError, match="each step has an answer of its own"):
        _against({"stretch": 0.1}, every)
    same = ArraySplit(torch.ones(4, 6, 5), torch.arange(4) % 3)
    with pytest.raises(UsageError, match="so they have no range"):
        _against({"gaussian": 0.1}, split=same).split(1)
