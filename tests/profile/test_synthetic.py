"""Random events in the place of recordings: shape, density, and memory are those of real ones."""

from pathlib import Path
from typing import cast

import pytest
import torch

from hstnn_deploy.data import registry
from hstnn_deploy.data.events.frames import EventSplit, Kept, Packed
from hstnn_deploy.data.splits import Batch, Splits
from hstnn_deploy.profile.phases.inputs import held
from hstnn_deploy.profile.phases.synthetic import nbytes, synthetic
from hstnn_deploy.profile.plan.memory import needed
from hstnn_deploy.recipe.load import load_recipe
from tests.event_files import make_nmnist
from tests.profile.conftest import configured
from tests.values import SPIKING, in_place_of_the_digits

CPU = torch.device("cpu")


def packed(split: object) -> Packed:
    """Return what holds the events of a split."""
    return cast(Kept, cast(EventSplit, split).store).packed


def first(made: Splits, name: str, count: int) -> Batch:
    """Return the first samples of a split."""
    return made.split(name).batch(torch.arange(count), CPU)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every data set be small."""
    whole = registry.shape

    def shape(config: registry.DataConfig) -> object:
        found = whole(config)
        assert found is not None
        return found._replace(train=220, test=40)

    monkeypatch.setattr(registry, "shape", shape)


def test_n_mnist_is_held_as_events_and_framed_as_the_real_one() -> None:
    recipe = load_recipe("nmnist")
    made = synthetic(recipe)
    assert [len(made.split(name)) for name in ("train", "valid", "test")] == [54_000, 6_000, 10_000]
    x, target, lengths = first(made, "train", 200)
    assert (x.shape, x.dtype, lengths) == ((15, 200, 2, 34, 34), torch.float32, None)
    assert 0 <= int(target.min()) <= int(target.max()) < made.classes == 10
    # Of 1000 real recordings: 1.75 % of the inputs are not zero, 630 events each.
    assert float((x > 0).float().mean()) == pytest.approx(0.0175, rel=0.02)
    assert float(x.sum()) / 200 == pytest.approx(630, rel=0.02)
    values = packed(made.train).rows.values.nbytes + packed(made.test).rows.values.nbytes
    assert values == nbytes(recipe) == pytest.approx(70_000 * 630 * 4, rel=0.02)
    assert values < 70_000 * 15 * 2 * 34 * 34 / 12
    assert made.origin.startswith("random packed events")
    assert "1.75 % of the inputs nonzero" in made.origin


def test_gestures_are_whole_recordings_that_training_crops_at_random(few: None) -> None:
    recipe = load_recipe("dvs-gesture")
    made = synthetic(recipe)
    torch.manual_seed(0)
    one, other, plain = first(made, "train", 20).x, first(made, "train", 20).x, first(made, "test", 20).x
    for x in (one, other, plain, first(made, "valid", 20).x):
        assert x.shape == (60, 20, 2, 32, 32)
        assert float((x > 0).float().mean()) == pytest.approx(0.1, rel=0.02)
        assert float(x.mean()) == pytest.approx(0.5, rel=0.02)
    assert not torch.equal(one, other)
    assert torch.equal(plain, first(made, "test", 20).x)
    # 6 s in ticks of 1 ms for training, 60 frames of 20 ms for the test.
    assert int(packed(made.train).ends.max()) == 6000
    assert int(packed(made.test).ends.max()) == 60


@pytest.mark.parametrize("change", ["data.steps=null", "data.binary=true", "data.crop=random", "protocol=test"])
def test_what_a_recipe_asks_of_events_is_done(few: None, change: str) -> None:
    made = synthetic(load_recipe("nmnist", [change]))
    x, _, lengths = first(made, "train", 30)
    assert (lengths is not None) == (change == "data.steps=null")
    if lengths is not None:
        assert x.shape[0] == int(lengths.max()) == -(-340_000 // 3000)
    assert float(x.max()) == 1 or change != "data.binary=true"
    assert float((x > 0).float().mean()) == pytest.approx(0.0175, rel=0.05)
    assert len(made.train) == (220 if change == "protocol=test" else 198)


def test_the_same_events_on_every_call(few: None) -> None:
    one, other = synthetic(load_recipe("nmnist")), synthetic(load_recipe("nmnist"))
    assert torch.equal(packed(one.train).rows.values, packed(other.train).rows.values)
    assert torch.equal(first(one, "test", 40).target, first(other, "test", 40).target)


def test_real_recordings_are_on_disk_and_synthetic_ones_in_memory(tmp_path: Path) -> None:
    recipe = load_recipe("nmnist")
    make_nmnist(tmp_path)
    synthetic_one = configured(recipe, "train", data="synthetic", data_dir=tmp_path)
    real = configured(recipe, "train", data_dir=tmp_path)
    assert held(real, recipe) == 0
    assert needed(synthetic_one) - needed(real) == nbytes(recipe)


def test_values_are_drawn_where_the_data_has_values(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_the_digits(monkeypatch)
    made = synthetic(load_recipe("stack-digits", SPIKING))
    assert made.targets == "values"
    target = first(made, "train", 360).target
    assert (target.shape, target.dtype) == ((360, 2), torch.float32)
    assert float(target.std()) == pytest.approx(1, abs=0.1)
