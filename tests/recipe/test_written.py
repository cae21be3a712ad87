"""A recipe that is written for its user is the same training, explains its keys, and is called as its file is."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.recipe.load import load_recipe, own_text, shipped
from tests.conftest import TINY, Hstnn, options

_OF_THE_ORIGINAL = ("name", "about", "published", "experiment")


def result(name: str) -> dict[str, object]:
    """Return what of a recipe a training depends on."""
    return {key: value for key, value in load_recipe(name).dump().items() if key not in _OF_THE_ORIGINAL}


@pytest.mark.parametrize("name", shipped())
def test_it_is_the_same_training_under_the_name_of_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.yaml"
    text = own_text(name)
    path.write_text(text, encoding="utf-8")
    assert result(str(path)) == result(name)
    found = load_recipe(str(path))
    assert (found.name, found.published, found.experiment) == ("mine", None, None)
    assert "published" not in text


@pytest.mark.parametrize("name", shipped())
def test_every_key_is_explained_once(name: str) -> None:
    """A line above each key is a comment; `restore` has the keys of `adapt`, which are explained there."""
    before, unexplained = "", []
    for line in own_text(name).splitlines():
        if re.match(r"^ *(# )?[a-z_]+:( |$)", line) and not before.lstrip().startswith("# "):
            unexplained.append(line.strip(" #").partition(":")[0])
        before = line
    assert set(unexplained) <= {
        "epochs",
        "optimiser",
        "lr",
        "clip",
        "momentum",
        "schedule",
        "batches",
        "every",
        "factor",
    }


def test_keys_that_are_left_out_are_there_to_take(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = own_text("digits")
    path.write_text(text.replace("# precision: fp32", "precision: bf16"), encoding="utf-8")
    assert load_recipe(str(path)).precision == "bf16"
    assert load_recipe("digits").precision == "fp32"


def test_a_name_that_is_given_stays_and_the_file_may_be_called_anything(tmp_path: Path) -> None:
    path = tmp_path / "my first try!.yaml"
    path.write_text(own_text("digits"), encoding="utf-8")
    assert load_recipe(str(path)).name == "my-first-try"
    path.write_text("name: other\n" + own_text("digits"), encoding="utf-8")
    assert load_recipe(str(path)).name == "other"
    assert "name: other\n" in own_text(str(path))
    assert load_recipe(str(path)).about == yaml.safe_load(own_text(str(path)))["about"]


def test_what_is_not_a_recipe_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("batch: 3\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"key 'data' is missing"):
        own_text(str(path))


def test_it_trains_to_the_same_bits(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(hstnn("recipes", "digits").out, encoding="utf-8")
    trained = []
    for name, folder in (("digits", "digits"), (str(path), "mine")):
        words = ["--kind", "snn", "--device", "cpu", "--out", str(tmp_path / "runs"), *options(TINY)]
        assert hstnn("train", name, *words).code == 0
        (best,) = (tmp_path / "runs" / folder).rglob("best.pt")
        trained.append(Checkpoint.load(best).network().state_dict())
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    # A change is seen.
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 1111", "seed: 1112"), encoding="utf-8")
    assert load_recipe(str(path)).seed == 1112
