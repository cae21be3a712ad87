"""Schedules of the learning rate: what they multiply it by, those of the recipes, and wrong ones refused."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hstnn_deploy.errors import RecipeError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.sections import Stage
from hstnn_deploy.train.schedules import make_optimiser, make_schedule


def test_a_schedule_multiplies_the_learning_rate_every_so_many_epochs() -> None:
    stage = Stage.model_validate({"epochs": 9, "lr": 1, "schedule": {"every": 3, "factor": 0.5}})
    optimiser = make_optimiser(stage, torch.nn.Linear(1, 1))
    schedule = make_schedule(stage, optimiser)
    assert schedule is not None
    rates = []
    for _ in range(7):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert make_schedule(Stage.model_validate({"epochs": 9, "lr": 1}), optimiser) is None


def rates(
    schedule: dict[str, object], epochs: int, metrics: list[float] | None = None, higher: bool = True
) -> list[float]:
    stage = Stage.model_validate({"epochs": epochs, "lr": 1, "schedule": schedule})
    optimiser = make_optimiser(stage, torch.nn.Linear(1, 1))
    made = make_schedule(stage, optimiser, higher)
    assert made is not None
    found = []
    for epoch in range(epochs):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if isinstance(made, ReduceLROnPlateau):
            assert metrics is not None
            made.step(metrics[epoch])
        else:
            made.step()
    return found


def test_a_cosine_falls_over_the_whole_stage_to_what_is_to_be_left() -> None:
    found = rates({"name": "cosine", "factor": 0.1}, 11)
    assert found == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * epoch / 11)) / 2 for epoch in range(11)])


BNTT: dict[str, object] = {"name": "milestones", "at": [0.5, 0.7, 0.9], "factor": 0.1}


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("sj.CosALR_64", {"name": "cosine", "every": 64, "factor": 0}),
        ("sj.CosALR_32", {"name": "cosine", "every": 32, "factor": 0}),
        ("sj.StepLR_32_0.1", {"every": 32, "factor": 0.1}),
        *((f"bntt.{epochs}", BNTT | {"late": True}) for epochs in (100, 50, 40)),
    ],
)
def test_schedules_are_those_of_other_trainings(name: str, schedule: dict[str, object]) -> None:
    with np.load(Path(__file__).parent.parent / "golden" / "schedules.npz") as file:
        expected = file[name]
    found = [float(expected[0]) * rate for rate in rates(schedule, len(expected))]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
    if len(expected) == 256:
        # It falls and rises.
        assert [round(found[epoch], 9) for epoch in (0, 64, 128, 192)] == [1e-3, 0, 1e-3, 0]


def test_milestones_fall_on_time_unless_late() -> None:
    found = rates(BNTT, 10)
    assert found == pytest.approx([1] * 5 + [0.1] * 2 + [0.01] * 2 + [0.001])
    # 0.7 * 35 is no whole number: the original's comparison never comes true there.
    late = rates(BNTT | {"late": True}, 35)
    assert late == pytest.approx([1] * 35)


@pytest.mark.parametrize(("name", "published"), [("plif-dvs128", 97.57), ("lif-dvs128", 96.18), ("leaky-dvs", 88.28)])
def test_the_gestures_of_other_libraries_have_their_published_hyper_parameters(name: str, published: float) -> None:
    recipe = load_recipe(name)
    assert recipe.published is not None
    assert (recipe.published.of("plain", 0.5), recipe.published.protocol) == (published, "test")
    assert (recipe.data.name, recipe.protocol) == ("dvs-gesture", "validation")
    stage = recipe.stage("train")
    if name == "leaky-dvs":
        assert (recipe.batch, stage.epochs, stage.lr, stage.schedule) == (64, 50, 2e-3, None)
        return
    assert (recipe.batch, stage.epochs, stage.lr) == (16, 256, 1e-3)
    assert stage.schedule is not None
    assert stage.schedule.model_dump() == {"name": "cosine", "every": 64, "factor": 0}


@pytest.mark.parametrize(("higher", "sign"), [(True, 1), (False, -1)])
def test_on_a_plateau_the_learning_rate_falls_after_so_many_epochs_without_a_better_metric(
    higher: bool, sign: int
) -> None:
    metrics = [sign * each for each in (10.0, 20, 15, 15, 15, 30, 30)]
    assert rates({"name": "plateau", "every": 2, "factor": 0.5}, 7, metrics, higher) == [1, 1, 1, 1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{name: cosine, every: 0, factor: 0.1}", "adapt.schedule.every is 0"),
        ("{name: step, every: 3, factor: 0}", "only cosine may fall to 0"),
        ("{name: cosine, factor: -1}", "adapt.schedule.factor is -1"),
        ("{name: step, factor: 0.1}", "step needs the key 'every'"),
        ("{name: linear, factor: 0.1}", "adapt.schedule.name is 'linear'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedule: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits", [f"adapt.schedule={schedule}"])


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adam", 0.1), ("sgd", 0.0), ("sgd", 0.1)])
def test_optimisers_step_as_torchs_own_to_the_bit_and_share_their_state(name: str, decay: float) -> None:
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    stage = Stage.model_validate({"epochs": 9, "lr": 0.1, "optimiser": name, "weight_decay": decay} | momentum)
    torch.manual_seed(0)
    x, ours = torch.randn(4, 3), torch.nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    first = make_optimiser(stage, ours)
    second: torch.optim.Optimizer
    if name == "adam":
        second = torch.optim.Adam(theirs.parameters(), lr=0.1, weight_decay=decay, fused=True)
    else:
        second = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, fused=True)
    assert isinstance(first, type(second))
    for number in range(4):
        for network, optimiser in ((ours, first), (theirs, second)):
            optimiser.zero_grad(set_to_none=True)
            network(x).square().sum().backward()
            optimiser.step()
        assert torch.equal(ours.weight, theirs.weight)
        assert not ours.weight.grad_fn
        if number == 1:  # the state of each goes into the other
            states = copy.deepcopy((first.state_dict(), second.state_dict()))
            first.load_state_dict(states[1])
            second.load_state_dict(states[0])
    assert repr(first) == repr(second)
