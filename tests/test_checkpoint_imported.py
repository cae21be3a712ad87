"""A network that was not trained here: its checkpoint, what stands for its recipe, and another's recipe for it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy import checkpoint as checkpoints
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import CheckpointError, DataError, RecipeError, UsageError
from hstnn_deploy.models.stack import Stack, StackConfig
from hstnn_deploy.recipe.adopted import bare, for_network, is_bare
from hstnn_deploy.recipe.load import load_recipe
from tests.models.stacks import STACKS, example, stack

ORIGIN = {"source": "own.nir", "versions": {"nir": "1.0.8"}, "proof": "not run"}


def network(readout: str = "sum") -> Stack:
    """Return a small network for the digits."""
    torch.manual_seed(0)
    layers = [{"linear": 12}, {"lif": {"decay": 0.85, "threshold": 0.3}}, {"linear": 10}, {"lif": {"decay": 0.9}}]
    return StackConfig(input=[8], layers=layers, readout=readout).build([]).eval()


@pytest.mark.parametrize("name", STACKS)
def test_any_stack_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    own = stack(name).eval()
    Checkpoint.of_network(own, ORIGIN).save(tmp_path / "own.pt")
    found = Checkpoint.load(tmp_path / "own.pt")
    assert (found.recipe, found.origin, found.came_from) == ({}, ORIGIN, "own.nir")
    again, x = found.network(), example(own, 4, 3)
    assert isinstance(again, Stack)
    assert again.config == own.config == found.architecture
    with torch.no_grad():
        torch.testing.assert_close(again(x)[0], own(x)[0], rtol=0, atol=0)


def test_a_network_that_its_configuration_does_not_make_is_refused() -> None:
    own = network()
    own.config = network("mean").config.model_copy(update={"layers": [{"linear": 12}, {"lif": {}}]})
    with pytest.raises(CheckpointError, match="do not fit"):
        Checkpoint.of_network(own, ORIGIN)


def test_an_origin_is_plain_data() -> None:
    with pytest.raises(CheckpointError, match="plain data"):
        Checkpoint.of_network(network(), {"source": torch.ones(1)})


def test_a_checkpoint_of_version_3_has_no_origin(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    Checkpoint.of_network(network(), ORIGIN).save(path)
    whole = torch.load(path, weights_only=True)
    del whole["data"]["origin"]
    torch.save({**whole, "version": 3}, path)
    assert Checkpoint.load(path).origin is None
    assert checkpoints.VERSION == 4


@pytest.mark.parametrize("origin", ["text", {"source": float("nan")}, {"source": b"bytes"}])
def test_an_origin_of_another_sort_is_refused(origin: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    Checkpoint.of_network(network(), ORIGIN).save(path)
    whole = torch.load(path, weights_only=True)
    whole["data"]["origin"] = origin
    torch.save(whole, path)
    with pytest.raises(CheckpointError, match="origin"):
        Checkpoint.load(path)


def test_the_fingerprint_is_of_names_shapes_and_numbers() -> None:
    own = Checkpoint.of_network(network(), ORIGIN)
    assert own.fingerprint == Checkpoint.of_network(network(), {"source": "elsewhere"}).fingerprint
    first = next(iter(own.parameters))
    seen = {own.fingerprint}
    for change in (
        {first: own.parameters[first] + 1e-7},
        {first: own.parameters[first].T.contiguous()},
        {f"{first}.other": own.parameters[first]},
    ):
        kept = {name: value for name, value in own.parameters.items() if name != first}
        seen.add(own.model_copy(update={"parameters": kept | change}).fingerprint)
    assert len(seen) == 4


def test_without_a_recipe_it_says_so_in_one_line() -> None:
    own = Checkpoint.of_network(network(), ORIGIN)
    with pytest.raises(CheckpointError, match="has no recipe") as refused:
        own.resolved_recipe()
    assert "--recipe" in refused.value.hint
    stand_in = own.recipe_or_bare()
    assert is_bare(stand_in)
    assert stand_in.network == own.architecture
    assert (own.recipe_or_bare(5).data.steps, stand_in.data.steps) == (5, 28)  # type: ignore[union-attr]


def test_what_stands_for_a_recipe_holds_no_data() -> None:
    from hstnn_deploy.data.registry import load, missing, shape

    recipe = bare(network().config)
    assert (shape(recipe.data), missing(recipe.data)) == (None, [])
    with pytest.raises(DataError, match="no recipe"):
        load(recipe.data, recipe.protocol)


def test_a_hybrid_network_needs_its_recipe() -> None:
    with pytest.raises(RecipeError, match="not a stack"):
        bare(load_recipe("digits").network.model_dump(mode="json"))
    with pytest.raises(RecipeError, match="no recipe of its own"):
        for_network(load_recipe("digits"), load_recipe("digits").network, None)


@pytest.mark.parametrize("name", ["digits", "stack-digits"])
def test_under_a_recipe_its_data_and_training_count_and_the_network_stays(name: str) -> None:
    own, recipe = Checkpoint.of_network(network(), ORIGIN), load_recipe(name)
    found = own.under(recipe).resolved_recipe()
    assert found.network == own.architecture
    assert (found.data, found.batch, found.seed, found.protocol) == (
        recipe.data,
        recipe.batch,
        recipe.seed,
        recipe.protocol,
    )
    assert found.train == recipe.adapt
    assert (found.method, found.published, found.experiment) == ("plain", None, None)
    assert own.recipe == {}


@pytest.mark.parametrize(
    ("recipe", "readout", "says", "hint"),
    [
        ("smnist", "sum", "a time step of mnist has the shape [28]", "hstnn recipes"),
        ("digits", "every", "network.readout is every", "--readout sum"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(recipe: str, readout: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        Checkpoint.of_network(network(readout), ORIGIN).under(load_recipe(recipe))
    assert says in refused.value.message
    assert hint in refused.value.hint


def test_a_training_that_begins_with_it_depends_on_its_numbers_alone() -> None:
    own, recipe = Checkpoint.of_network(network(), ORIGIN), load_recipe("digits")
    one, other = own.begin(recipe, Path("a.pt")), own.begin(recipe, Path("b.pt"))
    assert one != other
    assert one.for_stage("train") == other.for_stage("train")
    assert one.for_stage("train") != own.under(recipe).resolved_recipe().for_stage("train")
    # Recipes without it are written as ever, and read back with it.
    assert "init" not in recipe.dump()
    assert load_recipe("digits").for_stage("train").keys() == recipe.for_stage("train").keys()
    assert type(one).model_validate(one.dump()) == one
