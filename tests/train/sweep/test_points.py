"""Sweep files and axes: every combination once, conditions, names, and refusals that name the key."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import HstnnError, RecipeError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.sweep.points import Condition, Sweep, read


def sweep(**parts: Any) -> Sweep:
    return Sweep.model_validate({"recipe": "digits", **parts})


def test_a_recipe_alone_is_a_sweep_of_one(tmp_path: Path) -> None:
    assert read("digits").recipes("digits") == [load_recipe("digits")]
    path = tmp_path / "own.yaml"
    path.write_text(load_recipe("digits", ["seed=5"]).yaml())
    assert read(str(path)).recipes("own") == [load_recipe("digits", ["seed=5"])]


@given(
    st.lists(st.sampled_from(["rnn", "lstm", "snn", "ffs", "hybrid"]), min_size=1, max_size=3),
    st.lists(st.sampled_from([0.1, 0.25, 0.5]), min_size=1, max_size=3),
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=2),
)
def test_every_combination_is_there_once_in_order(kinds: list[str], ratios: list[float], seeds: list[int]) -> None:
    recipes = sweep(axes={"kind": kinds, "ratio": ratios, "seed": seeds}).recipes("x")
    found = [(recipe.kind, recipe.ratio, recipe.seed) for recipe in recipes]
    unique = [list(dict.fromkeys(values)) for values in (kinds, ratios, seeds)]
    assert found == [(k, r, s) for k in unique[0] for r in unique[1] for s in unique[2]]
    assert {recipe.name for recipe in recipes} == {"digits"}


def test_another_axis_is_in_the_name_of_those_that_depend_on_it() -> None:
    axes = {"kind": ["rnn", "hybrid"], "restore.lr": [0.00001, 0.1], "network.units": [[6, 5], [7, 5]]}
    recipes = sweep(axes=axes).recipes("x")
    assert [recipe.restore.lr for recipe in recipes[::2]] == [1e-5, 0.1] * 2
    assert [(recipe.kind, recipe.name) for recipe in recipes] == [
        ("rnn", "digits-network.units-6-5"),
        ("rnn", "digits-network.units-7-5"),
        ("rnn", "digits-network.units-6-5"),
        ("rnn", "digits-network.units-7-5"),
        ("hybrid", "digits-restore.lr-1e-05-network.units-6-5"),
        ("hybrid", "digits-restore.lr-1e-05-network.units-7-5"),
        ("hybrid", "digits-restore.lr-0.1-network.units-6-5"),
        ("hybrid", "digits-restore.lr-0.1-network.units-7-5"),
    ]
    assert sweep(axes={"adapt.lr": [0.1]}).recipes("x")[0].name == "digits"  # nothing to tell apart


def test_what_outweighs_what() -> None:
    found = sweep(
        set={"adapt.epochs": 2, "batch": 10, "adapt.lr": 0.3},
        axes={"kind": ["rnn", "snn"]},
        conditions=[{"when": {"kind": "snn"}, "set": {"adapt.lr": 0.4}}],
    ).recipes("x", ["batch=20", "kind=ffs"])
    assert [(each.kind, each.adapt.epochs, each.batch, each.adapt.lr) for each in found] == [
        ("rnn", 2, 20, 0.3),
        ("snn", 2, 20, 0.4),
    ]


def test_conditions_leave_points_out() -> None:
    conditions = [{"when": {"kind": ["ffs", "hybrid"], "ratio": 0.1}, "skip": True}]
    found = sweep(axes={"kind": ["rnn", "ffs"], "ratio": [0.1, 0.5]}, conditions=conditions).recipes("x")
    assert [(each.kind, each.ratio) for each in found] == [("rnn", 0.1), ("rnn", 0.5), ("ffs", 0.5)]


def test_a_value_that_is_a_list_itself_can_be_asked_for() -> None:
    for wanted in ([6, 5], [[6, 5], [7, 5]]):
        assert Condition(when={"network.units": wanted}, skip=True).holds({"network.units": [6, 5]})
    assert not Condition(when={"network.units": [7, 5]}, skip=True).holds({"network.units": [6, 5]})


@pytest.mark.parametrize(
    ("parts", "message", "hint"),
    [
        ({"axes": {"adapt.epoch": [1]}}, "unknown key 'adapt.epoch'", "did you mean 'epochs'?"),
        ({"axes": {"kinds": ["rnn"]}}, "unknown key 'kinds'", "did you mean 'kind'?"),
        ({"axes": {"kind": ["rnn", "cnn"]}}, "kind is 'cnn'", ""),
        ({"axes": {"seed": []}}, "axis seed is empty", "leave seed out"),
        ({"axes": {"seed": 3}}, "axes.seed is 3: it must be a list", ""),
        ({"axis": {"seed": [3]}}, "unknown key 'axis'", "did you mean 'axes'?"),
        ({"axes": {"seed": [1]}, "set": {"adapt.lr": "fast"}}, "adapt.lr is 'fast'", ""),
        ({"axes": {"seed": [1]}, "conditions": [{"skip": True}]}, "key 'conditions.0.when' is missing", ""),
        ({"conditions": [{"when": {"seed": 1}, "skp": True}]}, "unknown key 'conditions.0.skp'", "mean 'skip'?"),
        ({"axes": {"seed": [1]}, "conditions": [{"when": {"seed": 1}}]}, "either `skip: true` or `set`", ""),
        ({"axes": {"seed": [1]}, "conditions": [{"when": {"kind": "rnn"}, "skip": True}]}, "'kind' is not an axis", ""),
        ({"axes": {"seed": [1]}, "conditions": [{"when": {"seed": 2}, "skip": True}]}, "matches no point", ""),
        ({"axes": {"seed": [1]}, "conditions": [{"when": {"seed": 1}, "skip": True}]}, "skip every point", ""),
        ({"recipe": "digit", "axes": {"seed": [1]}}, "unknown recipe 'digit'", "did you mean 'digits'?"),
        ({"recipe": 3, "axes": {"seed": [1]}}, "recipe is 3", ""),
    ],
)
def test_what_cannot_be_names_the_key(tmp_path: Path, parts: dict[str, Any], message: str, hint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": "digits", **parts}))
    with pytest.raises(HstnnError) as refused:
        read(str(path)).recipes(str(path))
    assert message in refused.value.message
    assert "\n" not in refused.value.message
    assert hint in refused.value.hint


def test_a_sweep_file_without_recipe_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"axes": {"seed": [1]}}))
    with pytest.raises(RecipeError, match="key 'recipe' is missing"):
        read(str(path))
