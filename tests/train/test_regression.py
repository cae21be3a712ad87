"""Regression: a linear network reaches the closed form, figures are numpy's, and classes are never taken for values."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.sets.digits import DigitsConfig
from hstnn_deploy.data.splits import ArraySplit, Split
from hstnn_deploy.errors import HstnnError, UsageError
from hstnn_deploy.models.tasks import Regression
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.doubts import constant_loss
from hstnn_deploy.train.early_exit import answers
from hstnn_deploy.train.evaluation import PerOutput, evaluate
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, settings
from tests.train.stage_cases import Listener
from tests.values import LINEAR, NOISE, SPIKING, in_place_of_the_digits, load_values

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _values(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_the_digits(monkeypatch)


def seen(split: Split) -> tuple[Any, Any]:
    """Return the leaky sum of each sample's input and a 1, [N, 9], and its values [N, 2], in float64."""
    batch = split.batch(torch.arange(len(split)), CPU)
    total = np.zeros(batch.x.shape[1:])
    for x in batch.x.double().numpy():
        total = 0.2 * total + x
    return np.hstack([total, np.ones((len(total), 1))]), batch.target.double().numpy()


def rmse(x: Any, y: Any, weights: Any) -> float:
    return float(np.sqrt(np.mean((x @ weights - y) ** 2)))


def test_a_linear_network_comes_to_the_least_squares_of_its_training_samples(tmp_path: Path) -> None:
    train_as = "train={epochs: 6, batches: 60, lr: 0.1, schedule: {name: cosine, factor: 0.001}}"
    (run,) = train(load_recipe("stack-digits", [*LINEAR, "batch=360", train_as]), tmp_path)
    splits = load_values(DigitsConfig(), Source())
    x, y = seen(splits.train)
    best, *_ = np.linalg.lstsq(x, y, rcond=None)
    last = Checkpoint.load(run.last)
    found = evaluate(last.network(), Regression(), splits.train, 100, CPU)
    least = rmse(x, y, best)
    assert least > NOISE, "a leaky sum is not the mean that the values depend on"
    assert least <= found["rmse"] * (1 + 1e-6)
    assert found["rmse"] < 1.002 * least
    weights = torch.cat([last.parameters["layers.1.weight"], last.parameters["layers.1.bias"][:, None]], 1)
    test = evaluate(last.network(), Regression(), splits.test, 7, CPU)
    x, y = seen(splits.test)
    assert test["rmse"] == pytest.approx(rmse(x, y, weights.T.double().numpy()), rel=1e-5)
    assert test["loss"] == pytest.approx(test["rmse"] ** 2)
    assert test["samples"] == 100
    assert test["rmse"] > NOISE


def test_the_loss_is_regression_where_the_data_has_values_and_none_is_named(tmp_path: Path) -> None:
    recipe = load_recipe("stack-digits", [*SPIKING, "train.epochs=1"])
    assert recipe.loss is not None
    assert recipe.dump()["loss"] == {"name": "regression"}
    # Of a recipe that was not loaded by name, training says it.
    plain = Recipe.model_validate({key: value for key, value in recipe.dump().items() if key != "loss"})
    assert plain.loss is None
    (run,) = train(plain, tmp_path)
    assert Checkpoint.load(run.best).recipe["loss"] == {"name": "regression"}
    assert run.status()["result"]["test"].keys() == {"loss", "rmse", "samples"}


def test_the_best_epoch_has_the_smallest_error(tmp_path: Path) -> None:
    (run,) = train(load_recipe("stack-digits", [*SPIKING, "train.epochs=6"]), tmp_path)
    errors = [row["valid_rmse"] for row in run.metrics()]
    assert run.status()["result"]["epoch"] == 1 + int(np.argmin(errors))


def test_a_hybrid_is_adapted_selected_and_restored(tmp_path: Path) -> None:
    names = {"network.classes": 2, "loss": "{name: regression, outputs: [angle, speed]}"}
    runs = train(load_recipe("digits", settings({**TINY, **names})), tmp_path)
    best = Checkpoint.load(runs[-1].best)
    assert best.network().outputs == 2
    assert best.network().values
    assert "rmse" in best.metrics["test"]


def test_an_answer_that_does_not_look_has_the_variance(tmp_path: Path) -> None:
    splits = load_values(DigitsConfig(), Source())
    assert isinstance(splits.train, ArraySplit)
    assert constant_loss(Regression(), splits) == pytest.approx(float(splits.train.target.numpy().var(0).mean()))
    listener = Listener()
    train(load_recipe("stack-digits", [*SPIKING, "train.epochs=3", "train.lr=1e-9"]), tmp_path, observer=listener)
    (warning,) = [str(each[0]) for each in listener.of("note") if "warning" in str(each[0])]
    assert f"never clearly below the {constant_loss(Regression(), splits):.4g} of a constant answer" in warning


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        (["loss=cross-entropy"], "loss is cross-entropy, but digits has values for each sample", "loss=regression"),
        (["loss=mse"], "loss is mse, but digits has values for each sample", "loss=regression"),
        (["network.readout=every"], "network.readout is every, but digits needs one answer per sample", "mean"),
        (["loss={name: regression, outputs: [a]}"], "loss.outputs names 1 outputs, but digits has 2 values", ""),
        (["network.layers=[{linear: 3}, lif]"], "network.layers give 3 outputs, but digits has 2 values", ""),
    ],
)
def test_what_does_not_fit_values_is_refused(changes: list[str], said: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        train(load_recipe("stack-digits", [*SPIKING, *changes]), tmp_path)
    assert said in refused.value.message
    assert hint in (refused.value.hint or "")


def test_regression_of_classes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    with pytest.raises(UsageError, match="loss is regression, but digits has a class for each sample") as refused:
        train(load_recipe("stack-digits", ["loss=regression"]), tmp_path)
    assert refused.value.hint == "--set loss=cross-entropy"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["loss={name: mse, outputs: [a]}"], "loss.outputs names outputs, but loss.name is mse"),
        (["loss={name: regression, outputs: [a, a]}"], "names an output twice"),
        (["loss={name: regression, outputs: ['']}"], "loss.outputs.0"),
        (["loss=regresion"], "loss.name"),
        (["network.classes=1", "loss=cross-entropy"], "network.classes is 1, but loss cross-entropy needs"),
    ],
)
def test_what_is_no_loss_is_refused(changes: list[str], said: str) -> None:
    with pytest.raises(HstnnError) as refused:
        load_recipe("digits", changes)
    assert said in refused.value.message


def test_one_value_is_enough_for_a_regression() -> None:
    assert load_recipe("digits", ["network.classes=1", "loss=regression"]).network.family == "sequence"


def test_errors_of_each_output_are_numpys() -> None:
    each = PerOutput()
    generator = np.random.default_rng(0)
    outputs, targets = generator.normal(size=(2, 50, 3))
    targets[:, 2] = 0.1
    for part in (slice(0, 30), slice(30, 50)):
        each.take(torch.tensor(outputs[part]), torch.tensor(targets[part]))
    for number, found in enumerate(each.plain(["x", "y", "z"])):
        error = outputs[:, number] - targets[:, number]
        assert found["name"] == "xyz"[number]
        assert found["rmse"] == pytest.approx(math.sqrt((error**2).mean()))
        if number < 2:
            assert found["r2"] == pytest.approx(1 - (error**2).sum() / (50 * targets[:, number].var()))
        else:
            assert found["r2"] is None
    assert "name" not in each.plain()[0]


def test_outputs_of_another_shape_are_never_repeated_along_the_targets() -> None:
    with pytest.raises(UsageError, match=r"the network gives \[4, 1\], but the targets are \[4, 2\]"):
        Regression().loss(torch.zeros(4, 1), torch.zeros(4, 2))


def test_an_early_exit_is_refused() -> None:
    network = load_recipe("stack-digits", SPIKING).network.build([])
    split = load_values(DigitsConfig(), Source()).test
    with pytest.raises(UsageError, match="measuring an early exit needs samples with a class"):
        answers(network, split, 10, CPU, "fp32")
