"""Losses, metrics and data sets of a user's own."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hstnn_deploy as hd
from hstnn_deploy.data.registry import load, shape
from hstnn_deploy.models.tasks import LossConfig, task_for
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.yaml_text import parse as yaml
from tests import own_parts

C, L = hd.custom, hd.layers


@pytest.fixture(autouse=True)
def _registered(no_parts: None) -> None:
    own_parts.register()


def recipe(**changes: Any) -> hd.Recipe:
    return parse(yaml(own_parts.RECIPE) | changes, "mine")


def fitting(**changes: Any) -> None:
    """Check a recipe against its data, as a training does."""
    asked = recipe(**changes)
    asked.check_data(load(asked.data, "test"))


def network() -> hd.Stack:
    torch.manual_seed(0)
    return hd.Stack([L.linear(8), "quadratic", L.linear(4)], input=[4], readout="sum")


def test_a_loss_is_what_its_function_says_and_keeps_the_metric() -> None:
    task = task_for(network().config, LossConfig(name="focal", options={"gamma": 0.0}))
    output, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert torch.isclose(task.loss(output, target), torch.nn.functional.cross_entropy(output, target))
    assert (task.metric, task.asks, task.score(9.0, 3, 4)) == ("accuracy", "classes", 75.0)
    assert task.constant(target, 4) == math.inf
    usual = task_for(network().config, LossConfig.model_validate("focal"))
    assert not torch.isclose(usual.loss(output, target), task.loss(output, target))


def test_a_loss_of_values_keeps_the_root_of_the_squared_error() -> None:
    class Given:
        def __len__(self) -> int:
            return 6

        def batch(self, indices: torch.Tensor, device: torch.device) -> Any:
            from hstnn_deploy.data.splits import Batch

            return Batch(x[:, indices], y[indices])

    net = hd.Stack([L.linear(4), "quadratic", L.linear(2)], input=[3], readout="sum").eval()
    x, y = torch.rand(4, 6, 3), torch.randn(6, 2)
    task = task_for(net.config, LossConfig(name="absolute"))
    found = evaluate(net, task, Given(), 4, torch.device("cpu"))
    answers = net(x)[0].detach()
    assert found["rmse"] == pytest.approx(float((answers - y).square().mean().sqrt()), rel=1e-5)
    assert found["loss"] == pytest.approx(float((answers - y).abs().mean()), rel=1e-5)


def test_a_recipe_of_parts_trains_and_measures(tmp_path: Path) -> None:
    (run,) = hd.train_recipe(recipe(), tmp_path)
    found = hd.Checkpoint.load(run.best)
    assert found.metrics["test"]["macro-recall"] == pytest.approx(found.metrics["test"]["accuracy"] / 100, abs=0.2)
    assert found.recipe["loss"] == {"name": "focal", "options": {"gamma": 1.5}}
    assert found.recipe["data"] == {"name": "blobs", "noise": 0.2}
    assert found.recipe["metrics"] == ["macro-recall"]
    assert found.resolved_recipe() == recipe()
    told = {(each["group"], each["name"]): each for each in found.environment["parts"]}
    assert told.keys() == {
        ("layers", "gated"),
        ("neurons", "quadratic"),
        ("losses", "focal"),
        ("data", "blobs"),
        ("metrics", "macro-recall"),
    }
    assert told["neurons", "quadratic"]["module"] == "tests.own_parts"
    assert len(told["layers", "gated"]["equation"]) == 64


def test_fit_and_evaluate_take_them() -> None:
    data = own_parts.Blobs(noise=0.1).load(C.Source())
    history = hd.fit(
        network(), data, epochs=2, lr=0.05, batch=20, loss="focal", metrics=["macro-recall"], progress=False
    )
    assert history.test is not None
    assert history.test.more.keys() == {"macro-recall"}
    again = hd.evaluate(history.network, data.test, loss="focal", metrics=["macro-recall"])
    assert again.more == pytest.approx(dict(history.test.more))
    assert "macro-recall" in repr(again)
    assert "macro-recall" in again._repr_html_()


def test_a_data_set_has_a_shape_splits_and_options() -> None:
    config = recipe().data
    known, splits = shape(config), load(config, "validation")
    assert known is not None
    assert (known.train, known.test, known.steps, known.step, known.classes) == (120, 40, 5, (4,), 4)
    assert [len(each) for each in (splits.train, splits.valid, splits.test)] == [108, 12, 40]
    chosen = load(config, "test")
    assert chosen.valid is chosen.test


@pytest.mark.parametrize("values", [True, False])
def test_arrays_become_splits(values: bool) -> None:
    x = np.zeros((40, 3, 2, 6, 6), np.float32)
    y = np.random.default_rng(0).random((40, 2)) if values else np.arange(40) % 4
    splits = C.arrays((x, y), (x[:10], y[:10]))
    assert splits.family == "convolutional"
    assert (splits.sizes.step, splits.classes) == ((2, 6, 6), 2 if values else 4)
    assert splits.targets == ("values" if values else "classes")
    assert hd.Stack(["flatten", L.linear(2), "lif"], input=splits.sizes.step).outputs == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "focus"}, "loss.name is 'focus': unknown loss; did you mean 'focal'?"),
        ({"loss": {"name": "focal", "options": {"gama": 1}}}, "loss focal does not take these options"),
        ({"loss": {"name": "mse", "options": {"gamma": 1}}}, "options are for losses of your own"),
        ({"loss": "absolute"}, "loss is absolute, but blobs has a class for each sample"),
        ({"metrics": ["recall"]}, "metrics: no metric is called 'recall'"),
        ({"metrics": ["macro-recall", "macro-recall"]}, "contains a name twice"),
        ({"data": {"name": "blob"}}, "data.name is 'blob'"),
        ({"data": {"name": "blobs", "nois": 1}}, "unknown key 'data.nois'"),
        ({"data": {"name": "blobs", "noise": "much"}}, "data.noise is 'much'"),
    ],
)
def test_wrong_names_and_options_are_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(hd.HstnnError) as found:
        fitting(**changes)
    assert said in found.value.message
    assert "\n" not in found.value.message


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda output, target, steps: output.sum(1), r"loss odd returns \[40\], not one number"),
        (lambda output, target, steps: 3.0, "loss odd returns float, not one number"),
        (lambda output, target, steps: 1 / 0, "loss odd raises: ZeroDivisionError"),
        (lambda output, target, steps: (output + target[:, None]).mean().detach(), "loss odd has no gradient"),
        (lambda output, target, steps: output.mul_(-1).mean(), "loss odd modifies its arguments"),
        (lambda output, target, steps: output.mean() + target.fill_(0).sum(), "loss odd modifies its arguments"),
    ],
)
def test_a_loss_that_goes_wrong_says_so(function: Any, said: str) -> None:
    C.loss("odd")(function)
    with pytest.raises(hd.HstnnError, match=said):
        hd.fit(network(), own_parts.Blobs().load(C.Source()), epochs=1, batch=40, loss="odd", progress=False)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda outputs, targets: math.nan, "metric odd is nan, not a finite number"),
        (lambda outputs, targets: 10**400, "metric odd is inf, not a finite number"),
        (lambda outputs, targets: outputs, r"metric odd returns \[40, 4\], not one number"),
        (lambda outputs, targets: None, "metric odd returns NoneType, not one number"),
        (lambda outputs, targets: "0.5", "metric odd returns str, not one number"),
        (lambda outputs, targets: 1 + 2j, "metric odd returns complex, not one number"),
        (lambda outputs, targets: [], "metric odd returns list, not one number"),
        (lambda outputs, targets: 1 / 0, "metric odd raises: ZeroDivisionError"),
    ],
)
def test_a_metric_that_goes_wrong_says_so(function: Any, said: str) -> None:
    C.metric("odd")(function)
    with pytest.raises(hd.HstnnError, match=said):
        hd.evaluate(network(), own_parts.Blobs().load(C.Source()).test, metrics=["odd"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: C.loss("mse")(own_parts.focal), "mse is built in"),
        (lambda: C.metric("accuracy")(own_parts.macro_recall), "accuracy is built in"),
        (lambda: C.data_set("digits")(own_parts.Blobs), "digits is built in"),
        (lambda: C.loss("odd")(own_parts.macro_recall), "loss odd is not a loss"),  # type: ignore[type-var]
        (lambda: C.metric("odd")(own_parts.focal), "metric odd is not a metric"),  # type: ignore[type-var]
        (lambda: C.loss("odd", asks="words")(own_parts.focal), "asks is 'words'"),  # type: ignore[arg-type]
        (lambda: C.data_set("odd")(type("Odd", (C.Data,), {})), "data set odd has no load"),
        (lambda: C.data_set("odd")(own_parts.Quadratic), "not a data set"),  # type: ignore[type-var]
        (lambda: C.arrays((np.zeros((3, 2)), [0, 1, 2]), (0, 0)), "test has x[] and y[]"),
        (lambda: C.arrays((np.zeros((3, 2, 2)), [0, 1, 2]), (np.zeros((3, 2, 3)), [0, 1, 2])), "a time step of train"),
    ],
)
def test_a_wrong_definition_is_refused(make: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError) as found:
        make()
    assert said in found.value.message


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.int64(1), torch.tensor(0.5), torch.tensor([1]), True])
def test_a_metric_may_return_any_one_number(number: Any) -> None:
    C.metric("odd")(lambda outputs, targets: number)
    found = hd.evaluate(network(), own_parts.Blobs().load(C.Source()).test, metrics=["odd"])
    assert found.more["odd"] == float(number)


def test_a_loss_that_writes_is_refused_when_it_is_evaluated_too() -> None:
    C.loss("odd")(lambda output, target, steps: output.neg_().mean())
    with pytest.raises(hd.HstnnError, match="loss odd modifies its arguments"):
        hd.evaluate(network(), own_parts.Blobs().load(C.Source()).test, loss="odd")


def test_names_of_metrics_are_a_list() -> None:
    test = own_parts.Blobs().load(C.Source()).test
    with pytest.raises(hd.HstnnError, match="metrics is 'macro-recall', not a list of names"):
        hd.evaluate(network(), test, metrics="macro-recall")
    with pytest.raises(hd.HstnnError, match="metrics is 'macro-recall', not a list of names"):
        hd.fit(network(), test, metrics="macro-recall", progress=False)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"name": "focal", "options": {"gama": 1}}, "loss focal does not take these options: .*'gama'"),
        ({"name": "focal", "options": {"gamma": math.nan}}, "finite number"),
        ({"name": "focal", "options": 3}, "loss.options is 3: "),
        ({"name": "cross-entropy", "options": {"gamma": 1}}, "options are for losses of your own"),
    ],
)
def test_wrong_options_of_a_known_loss_are_said_as_such(loss: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError, match=said) as found:
        hd.evaluate(network(), own_parts.Blobs().load(C.Source()).test, loss=loss)
    assert "unknown" not in found.value.message


def test_a_data_set_that_gives_something_else_is_refused() -> None:
    class Odd(C.Data):
        def load(self, source: C.Source) -> C.Splits:
            return [1]  # type: ignore[return-value]

    C.data_set("odd")(Odd)
    with pytest.raises(hd.HstnnError, match="data set odd gives 'list', not Splits"):
        load(recipe(data={"name": "odd"}).data, "test")
