"""The convolutional classifier goes through the same stages and commands as every network."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.hybrid.convolutional import ConvClassifier
from hstnn_deploy.models.tasks import Classification, OneHot, task_for
from hstnn_deploy.profile.phases.synthetic import synthetic
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, options, settings
from tests.contents import contents

SMALL = {**TINY, "network.units": [3, 4], "network.hidden": 8, "batch": 400, "adapt.epochs": 1, "restore.epochs": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("conv")
    train(load_recipe("digit-events", settings(SMALL)), out)
    return out


def seed_folder(out: Path) -> Path:
    return out / "digit-events" / "hybrid" / "seed1111"


def test_the_task_of_a_family(trained: Path) -> None:
    assert type(task_for(load_recipe("digits").network)) is Classification
    task = task_for(load_recipe("digit-events").network)
    assert type(task) is OneHot
    output, target = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = ((output - functional.one_hot(target, 3)) ** 2).mean()
    torch.testing.assert_close(task.loss(output, target), expected)
    assert task.metric == "accuracy"
    assert int(task.correct(output, target)) == int((output.argmax(1) == target).sum())


def test_a_hybrid_is_adapted_selected_and_restored(trained: Path) -> None:
    adapted = Checkpoint.load(seed_folder(trained) / "adapt" / "best.pt")
    restored = Checkpoint.load(seed_folder(trained) / "ratio-0.5" / "best.pt")
    assert [tuple(size) for size in adapted.sizes] == [(3, 3), (4, 4)]
    assert [sum(kind) for kind in zip(*restored.sizes, strict=True)] == [4, 3]
    network = restored.network()
    assert isinstance(network, ConvClassifier)
    assert network(torch.zeros(3, 2, 2, 16, 16))[0].shape == (2, 10)


def test_the_same_recipe_gives_the_same_bits(trained: Path, tmp_path: Path) -> None:
    train(load_recipe("digit-events", settings(SMALL)), tmp_path)
    assert contents(tmp_path) == contents(trained)


def test_evaluate_measures_it(trained: Path, hstnn: Hstnn) -> None:
    result = hstnn("evaluate", "--ckpt", seed_folder(trained) / "ratio-0.5" / "best.pt")
    assert (result.code, result.err) == (0, "")
    assert "simulated event camera" in result.out


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("digit-events", {"network.size": 32}, "network.size is 32, but digit-events has 16"),
        ("digit-events", {"network.inputs": 1}, "network.inputs is 1, but digit-events has 2"),
        (
            "digit-events",
            {"data.name": "digits"},
            "network.family is convolutional, but digits is for the family sequence",
        ),
        (
            "digits",
            {"data.name": "digit-events"},
            "network.family is sequence, but digit-events is for the family convolutional",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(
    recipe: str, change: dict[str, object], message: str, hstnn: Hstnn, tmp_path: Path
) -> None:
    result = hstnn("train", recipe, "--out", tmp_path, *options(change))
    assert (result.code, result.error) == (2, message)
    with pytest.raises(UsageError, match=message):
        plan([load_recipe(recipe, settings(change))])


def test_frames_that_cannot_be_halved_are_refused_with_the_key(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digit-events", "--out", tmp_path, *options({"network.size": 20}))
    assert result.code == 2
    assert "network.size is 20: " in result.error
    assert "the maps of layer 3 would be 5 high, too small or odd to halve" in result.error


def test_lstm_units_are_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digit-events", "--out", tmp_path, *options({"network.recurrent": "lstm"}))
    assert result.code == 2
    assert "network.recurrent is 'lstm'" in result.error


def test_profiling_without_data_takes_random_frames_of_the_same_shape() -> None:
    splits = synthetic(load_recipe("digit-events"))
    assert splits.size == 16
    assert splits.test.batch(torch.arange(3), torch.device("cpu")).x.shape == (12, 3, 2, 16, 16)
