"""Networks under draws of the variation of their weights: at several scales, and what cannot be measured."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import t

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.variation import Curve, Draws, Measurement, curve, under_variation

Trained = tuple[Checkpoint, Task, Splits]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = load_recipe("rram-digits", ["train.epochs=1"])
    (run,) = train(recipe, tmp_path_factory.mktemp("runs"), stage="baseline")
    return Checkpoint.load(run.best), task_for(recipe.network, recipe.loss), load(recipe.data, recipe.protocol)


def draws_of(trained: Trained, **options: Any) -> Draws:
    return under_variation(*trained, "test", 64, torch.device("cpu"), 3, **options)


def curve_of(trained: Trained, scales: list[float]) -> Curve:
    return curve(trained[0], "x/best.pt", *trained[1:], "test", 64, torch.device("cpu"), 3, scales)


def test_a_curve_is_what_single_scales_give(trained: Trained) -> None:
    found = curve_of(trained, [2.0, 0.0, 1.0, 1.0])
    assert list(found.scales) == [1.0, 2.0]
    alone = draws_of(trained)
    assert found.scales[1.0] == alone
    assert found.clean == alone.clean
    assert found.scales[2.0].sigma == pytest.approx(2 * alone.sigma)
    assert found.scales[2.0].values != alone.values
    assert (found.step, found.bits, found.sparsity, found.nominal) == ("baseline", 4, None, 1.0)
    assert curve_of(trained, [0.0]).nominal is None
    assert curve_of(trained, [0.5]).nominal == 0.5


def test_at_scale_zero_every_draw_is_the_clean_network(trained: Trained) -> None:
    found = draws_of(trained, scale=0.0)
    assert set(found.values) == {found.clean}
    assert found.sigma == 0


def test_the_interval_is_student_s(trained: Trained) -> None:
    found = Draws([80.0, 82.0, 84.0], 85.0, 0.3)
    assert found.half_width == pytest.approx(t.ppf(0.975, 2) * 2 / 3**0.5)
    assert Draws([80.0], 85.0, 0.3).half_width is None


def test_curves_as_plain_data_say_their_version(trained: Trained) -> None:
    found = Measurement("test", 3, 0, [curve_of(trained, [1.0])]).plain()
    assert (found["format"], found["version"], found["draws"]) == ("hstnn-variation", 1, 3)
    (network,) = found["networks"]
    assert network["variation"][0]["scale"] == 1.0
    assert network["memory_bits"]["rram"] == 4 * 4752
    assert network["element_sparsity"] is None


def test_bits_without_a_sigma_are_refused_not_measured_without_variation(tmp_path: Path) -> None:
    recipe = load_recipe("rram-digits", ["train.epochs=1", "train.batches=2", "network.weights.bits=5"])
    (run,) = train(recipe, tmp_path, stage="baseline")
    best = Checkpoint.load(run.best)
    task, splits = task_for(recipe.network, recipe.loss), load(recipe.data, recipe.protocol)
    with pytest.raises(UsageError, match="no variation was measured at 5 bits"):
        draws_of((best, task, splits))
    assert draws_of((best, task, splits), scale=0.0).values
