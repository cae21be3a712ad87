"""`hstnn recipes`: lists, and prints what can be trained from."""

import json
import re
from math import prod
from pathlib import Path

import pytest
import torch
import yaml

from hstnn_deploy.cli import console
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.recipe.load import load_recipe, shipped
from tests.conftest import Hstnn


def test_every_shipped_recipe_is_listed_with_a_line(hstnn: Hstnn) -> None:
    result = hstnn("recipes")
    assert (result.code, result.err) == (0, "")
    for name in shipped():
        assert name in result.out
        assert load_recipe(name).about[:30] in result.out


def test_the_list_as_json(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "--json")
    assert [each["name"] for each in json.loads(result.out)] == list(shipped())
    assert all(each["about"] for each in json.loads(result.out))


@pytest.mark.parametrize("name", shipped())
def test_a_printed_recipe_is_yaml_to_start_your_own_from(hstnn: Hstnn, tmp_path: Path, name: str) -> None:
    result = hstnn("recipes", name)
    path = tmp_path / "own.yaml"
    path.write_text(result.out, encoding="utf-8")
    changed = {"name", "about", "published", "experiment"}
    own, original = load_recipe(str(path)).dump(), load_recipe(name).dump()
    assert {key for key in own | original if own.get(key) != original.get(key)} <= changed
    assert own["name"] == "own"
    again = hstnn("recipes", path).out
    assert f"Your recipe {path}" in again
    assert yaml.safe_load(again) == yaml.safe_load(result.out)
    assert json.loads(hstnn("recipes", name, "--json").out) == yaml.safe_load(load_recipe(name).yaml())


def test_an_unknown_name_suggests_the_nearest(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "mnist")
    assert result.code == 2
    assert result.error == "unknown recipe 'mnist'"
    assert result.hint == "did you mean 'smnist'?"
    assert result.out == ""


def rows(table: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if line.startswith("│")
    ]


def test_a_stack_is_printed_layer_by_layer(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "stack-digits", "--shapes")
    assert (result.code, result.err) == (0, "")
    assert rows(result.out) == [
        ["1", "linear", "576", "[64]", ""],
        ["2", "lif", "", "[64]", "v2 [64]"],
        ["3", "linear", "4,160", "[64]", ""],
        ["4", "lif", "", "[64]", "v4 [64]"],
        ["5", "linear", "650", "[10]", ""],
        ["", "readout: sum", "", "[10]", "total [10]"],
    ]
    assert "5,386 parameters; 138 values carried from step to step for each sample" in result.out
    assert result.out.startswith("stack-digits: stack, plain; a time step of one sample is [8]")


@pytest.mark.parametrize("name", shipped())
def test_shapes_as_json_are_those_of_the_network_that_is_trained(hstnn: Hstnn, name: str) -> None:
    told = json.loads(hstnn("recipes", name, "--shapes", "--json").out)
    recipe = load_recipe(name)
    network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
    assert told["parameters"] == sum(each.numel() for each in network.parameters())
    parts = told["layers"] + told["others"]
    assert told["parameters"] == sum(each["parameters"] for each in parts)
    like = torch.zeros(1, 3, *network.input_shape, dtype=torch.int64 if network.tokens else torch.float32)
    states = {key: list(value.shape[1:]) for key, value in network.initial_state(like).items()}
    assert {key: shape for each in parts for key, shape in each["states"].items()} == states
    assert told["carried"] == sum(prod(shape) for shape in states.values())
    assert [each["layer"] for each in told["layers"]] == list(range(1, len(told["layers"]) + 1))
    assert all(f"{each['layer']}" == re.sub(r"^.*\D", "", key) for each in told["layers"] for key in each["states"])
    assert told["input"] == list(network.input_shape)


@pytest.mark.parametrize("name", [*shipped(), "docs/examples/sew-resnet18.yaml"])
def test_shapes_fit_80_columns(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    result = hstnn("recipes", Path(__file__).parents[2] / name if "/" in name else name, "--shapes")
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= 80


def test_units_of_a_hybrid_layer_are_told_apart(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "digits", "--shapes")
    assert ["1", "128 spiking + 128 recurrent", "18,432", "[256]", "v1 [128]"] in rows(result.out)
    assert "before selection" in result.out.splitlines()[1]


def test_very_many_states_are_the_first_and_the_last(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "late.yaml"
    recipe = load_recipe("stack-digits").dump()
    recipe["network"]["layers"].insert(0, {"delay": 1000})
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = hstnn("recipes", path, "--shapes")
    assert len(result.out.splitlines()) < 30
    assert [row[-1] for row in rows(result.out)[:3]] == ["late1_1 [8]", "… 998 more", "late1000_1 [8]"]
    told = json.loads(hstnn("recipes", path, "--shapes", "--json").out)
    assert len(told["layers"][0]["states"]) == 1000


def test_shapes_without_a_recipe_are_refused(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "--shapes")
    assert result.code == 2
    assert result.error == "--shapes needs the name of a recipe"
    assert result.hint == "hstnn recipes NAME --shapes"
