"""Sweeps of weights on devices: which steps there are, which of them share a folder, and where each starts from."""

from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.errors import RecipeError, RunError, UsageError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.sweep.plan import Job, plan
from hstnn_deploy.train.sweep.points import Sweep, values_of

FEW = ["train.epochs=1", "train.batches=2", "finetune.epochs=1", "finetune.batches=2"]


def jobs_of(out: Path = Path("never-written"), stage: Any = None, **axes: list[Any]) -> dict[str, Job]:
    named = {f"network.weights.{key.replace('__', '.')}": values for key, values in axes.items()}
    recipes = Sweep(recipe="rram-digits", axes=named).recipes("x", FEW, stage)
    return {job.name.replace("/plain/seed1111", ""): job for job in plan(recipes, out)}


def test_a_recipe_on_devices_is_four_jobs_two_of_which_wait_for_vat() -> None:
    jobs = jobs_of()
    assert list(jobs) == [f"rram-digits/{step}" for step in ("baseline", "vat", "recover", "prune")]
    vat = jobs["rram-digits/vat"]
    assert [job.needs for job in jobs.values()] == [(), (), (vat.identity,), (vat.identity,)]
    assert [job.argument for job in jobs.values()] == ["baseline", "vat", "recover", "prune"]
    assert [job.vat and job.vat.path for job in jobs.values()] == [None, None, vat.run.path, vat.run.path]


def test_an_axis_is_in_the_name_of_those_steps_alone_that_depend_on_it() -> None:
    jobs = jobs_of(bits=[1, 2], sram__shift=[-1, 1], prune__threshold=[0.1, 0.2])
    names = [f"rram-digits-bits-{bits}" for bits in (1, 2)]
    shifted = [f"{name}-sram.shift-{shift}" for name in names for shift in (-1, 1)]
    pruned = [f"{name}-prune.threshold-{share}" for name in shifted for share in (0.1, 0.2)]
    assert set(jobs) == {
        *(f"{name}/{step}" for name in names for step in ("baseline", "vat")),
        *(f"{name}/recover" for name in shifted),
        *(f"{name}/prune" for name in pruned),
    }
    assert {job.vat.path.parts[1] for name, job in jobs.items() if job.vat and "bits-1" in name} == {names[0]}


def test_finetune_is_of_recovery_and_variation_of_all_but_the_baseline() -> None:
    recipes = Sweep(recipe="rram-digits", axes={"finetune.lr": [0.1, 0.2]}).recipes("x")
    assert [recipe.name for recipe in recipes[:4]] == ["rram-digits"] * 2 + ["rram-digits-finetune.lr-0.1"] * 2
    jobs = jobs_of(variation__scale=[0.5, 1.0])
    assert sum(name.endswith("/baseline") for name in jobs) == 1
    assert sum(name.endswith("/vat") for name in jobs) == 2


def test_a_step_comes_with_what_it_starts_from() -> None:
    assert [job.recipe.step for job in jobs_of(stage="prune").values()] == ["vat", "prune"]
    assert [job.recipe.step for job in jobs_of(stage="baseline").values()] == ["baseline"]
    stack = Sweep(recipe="stack-events").recipes("x", stage="all")
    assert [recipe.step for recipe in stack] == ["baseline", "vat", "recover", "prune"]
    assert [recipe.step for recipe in Sweep(recipe="stack-events").recipes("x")] == [None]


def test_a_step_s_recipe_is_that_of_any_other_step() -> None:
    recipe = load_recipe("rram-digits")
    vat, recover = recipe.at_step("vat"), recipe.at_step("recover")
    assert recover.at_step("vat") == vat
    assert (vat.stage("train").epochs, recover.stage("train").epochs) == (12, 6)
    assert recover.for_stage("train")["train"] == recipe.dump()["finetune"]
    # Another fine-tuning is another result, whatever version wrote the folder.
    changed = load_recipe("rram-digits", ["finetune.epochs=9"]).at_step("recover")
    old = recover.for_stage("train")
    assert changed.upgraded(old) == old != changed.for_stage("train")
    with pytest.raises(RecipeError, match="no variation was measured at 5 bits"):
        load_recipe("rram-digits", ["network.weights.bits=5"]).at_step("vat")


@pytest.mark.parametrize(
    ("recipe", "axes", "stage", "what"),
    [
        ("rram-digits", {"network.weights.step": ["vat", "prune"]}, None, "network.weights.step is not an axis"),
        ("digits", {}, "all", "need a stack, and this recipe's network is of family sequence"),
        ("stack-digits", {}, "vat", "network.weights is for convolutions"),
        ("rram-digits", {"network.weights.bits": [4, 5]}, None, "no variation was measured at 5 bits"),
    ],
)
def test_what_is_no_sweep_of_steps(recipe: str, axes: dict[str, list[Any]], stage: Any, what: str) -> None:
    with pytest.raises((UsageError, RecipeError), match=what):
        Sweep(recipe=recipe, axes=axes).recipes("x", stage=stage)


def test_a_name_is_not_longer_than_a_recipe_takes() -> None:
    axes: dict[str, list[Any]] = {"network.weights.sram.start": ["a" * 90, "zeros"]}
    with pytest.raises(UsageError, match="is longer than 100 characters"):
        Sweep(recipe="rram-digits", axes=axes).recipes("x")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("network.weights.bits=1,2,4", ("network.weights.bits", [1, 2, 4])),
        ("train.lr=1e-3, 0.5", ("train.lr", [0.001, 0.5])),
        ("network.weights.sram.start=rram,zeros", ("network.weights.sram.start", ["rram", "zeros"])),
        ("a=[1,2],null", ("a", [[1, 2], None])),
    ],
)
def test_values_of_an_axis(text: str, wanted: tuple[str, list[Any]]) -> None:
    assert values_of(text) == wanted


@pytest.mark.parametrize("text", ["bits", "=1,2", "bits=", "bits=1]", "bits={", "bits=[1"])
def test_text_that_is_no_axis(text: str) -> None:
    with pytest.raises(UsageError, match="--over"):
        values_of(text)


def named(recipe: Recipe, name: str) -> Recipe:
    return recipe.model_copy(update={"name": name})


def test_a_recovery_starts_from_a_vat_of_another_name_if_it_is_the_same(tmp_path: Path) -> None:
    recipe = load_recipe("rram-digits", FEW)
    (vat,) = train(recipe, tmp_path, stage="vat")
    (run,) = train(named(recipe, "other"), tmp_path, stage="recover", vat=vat.path)
    assert run.path == tmp_path / "other/plain/seed1111/recover"
    assert RunFolder(run.path).finished
    # What a folder holds can be trained again from its own recipe.
    again = load_recipe(str(run.path / "recipe.yaml"))
    assert again.at_step("vat").for_stage("train") == named(recipe, "other").at_step("vat").for_stage("train")
    other = load_recipe("rram-digits", [*FEW, "network.weights.bits=2", "name=third"])
    with pytest.raises(RunError, match=r"network\.weights\.bits was 4, is 2"):
        train(other, tmp_path, stage="recover", vat=vat.path)
    with pytest.raises(RunError, match="there is no finished RRAM network in"):
        train(named(recipe, "fourth"), tmp_path, stage="recover", vat=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="does not start from an RRAM network"):
        train(named(recipe, "fifth"), tmp_path, stage="vat", vat=vat.path)
