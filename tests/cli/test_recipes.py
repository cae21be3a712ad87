"""`hstnn recipes`: lists, and prints what can be trained from."""

import json
from pathlib import Path

import pytest
import yaml

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
    assert load_recipe(str(path)) == load_recipe(name)
    assert hstnn("recipes", path).out == result.out
    assert json.loads(hstnn("recipes", name, "--json").out) == yaml.safe_load(result.out)


def test_an_unknown_name_suggests_the_nearest(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "mnist")
    assert result.code == 2
    assert result.error == "unknown recipe 'mnist'"
    assert result.hint == "did you mean 'smnist'?"
    assert result.out == ""
