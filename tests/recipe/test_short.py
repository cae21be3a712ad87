"""Short forms set keys of the recipe, and never against what `--set` or an axis says."""

from pathlib import Path

import pytest

from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.recipe.load import load_recipe, shipped
from hstnn_deploy.recipe.short import short_changes
from tests.conftest import TINY, Hstnn, options


@pytest.mark.parametrize("name", shipped())
def test_they_set_every_stage_of_every_recipe(name: str) -> None:
    changes = short_changes(name, {"epochs": 7, "lr": 0.25, "batch": 3}, [])
    recipe = load_recipe(name, changes)
    stages = [recipe.stage(each) for each in (["train"] if recipe.method == "plain" else ["adapt", "restore"])]
    stages += [recipe.finetune] if recipe.finetune else []
    assert [(each.epochs, each.lr) for each in stages] == [(7, 0.25)] * len(stages)
    assert recipe.batch == 3


def test_nothing_given_changes_nothing() -> None:
    assert short_changes("digits", {"epochs": None, "lr": None, "batch": None}, ["adapt.lr=1"]) == []


@pytest.mark.parametrize(
    ("key", "value", "change"),
    [("lr", 0.1, "adapt.lr=0.2"), ("batch", 3, "batch=4"), ("epochs", 3, "restore={epochs: 4, lr: 1}")],
)
def test_another_value_of_the_same_key_is_refused(key: str, value: float, change: str) -> None:
    with pytest.raises(UsageError, match=f"--{key} {value} sets .*, and --set .* sets it to another value"):
        short_changes("digits", {key: value}, [change])


def test_the_same_value_is_not() -> None:
    assert short_changes("digits", {"lr": 0.1}, ["adapt.lr=0.1"]) == ["adapt.lr=0.1", "restore.lr=0.1"]
    assert short_changes("digits", {"lr": 0.1}, ["batch=4"]) == ["adapt.lr=0.1", "restore.lr=0.1"]


def test_an_axis_of_the_same_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--lr and an axis of the sweep both set adapt\.lr"):
        short_changes("digits", {"lr": 0.1}, [], ["kind", "adapt.lr"])


def test_an_unknown_recipe_is_refused_as_ever() -> None:
    with pytest.raises(RecipeError, match="unknown recipe 'digit'"):
        short_changes("digit", {"lr": 0.1}, [])


def test_the_command_line_says_what_it_sets(hstnn: Hstnn, tmp_path: Path) -> None:
    tiny = {key: value for key, value in TINY.items() if not key.endswith("epochs")}
    words = [*options(tiny), "--epochs", "2", "--lr", "0.01", "--device", "cpu", "--out", str(tmp_path)]
    result = hstnn("train", "digits", "--kind", "snn", *words)
    assert result.code == 0
    assert "set in the recipe: adapt.epochs=2, restore.epochs=2, adapt.lr=0.01, restore.lr=0.01" in result.out
    refused = hstnn("train", "digits", "--set", "adapt.lr=1", "--lr", "2")
    assert (refused.code, refused.hint) == (2, "give one of them")
    assert hstnn("train", "digits", "--lr", "-1").code == 2


def test_a_sweep_takes_them_too(hstnn: Hstnn, tmp_path: Path) -> None:
    words = ["sweep", "digits", "--kinds", "rnn,snn", "--epochs", "3", "--dry-run", "--out", str(tmp_path)]
    result = hstnn(*words)
    assert "set in the recipe: adapt.epochs=3, restore.epochs=3" in result.out
    assert result.out.count("3 epochs") == 2
    refused = hstnn(*words, "--over", "adapt.epochs=1,2")
    assert "--epochs and an axis of the sweep both set adapt.epochs" in refused.error
