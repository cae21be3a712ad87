"""Recipes of networks that are there already: one for a network that has none, and another's for what it is."""

from typing import Any

from hstnn_deploy.data.sets.nothing import STEPS, AbsentConfig
from hstnn_deploy.data.splits import DataSizes, Family
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe

BARE = "no-recipe"
"""The name that a network without a recipe goes by."""

_OF_ANY = ("name", "data", "seed", "batch", "precision", "protocol", "loss", "regularise", "against")
"""Keys of a recipe that say nothing of a network."""


def bare(architecture: Any, steps: int | None = None, source: str = "the network") -> Recipe:
    """Return what stands for the recipe of a stack that has none: its network, and no data. It trains nothing.

    Args:
        architecture: of the stack, as plain data or as an object.
        steps: of a window; None: 28, or fewer where the network knows no more.
        source: named in errors.

    Raises:
        RecipeError: it is no architecture of a stack.
    """
    plain = architecture.model_dump(mode="json") if isinstance(architecture, StackConfig) else architecture
    if not isinstance(plain, dict) or plain.get("family") != "stack":
        raise RecipeError(f"{source} has no recipe, and is no stack", "a hybrid network is described by its recipe")
    stage = {"epochs": 1, "lr": 0.001}  # required of every recipe; `is_bare` is asked before anything is trained
    data = {"name": "none", "steps": steps or STEPS}
    recipe = parse({"name": BARE, "data": data, "network": plain, "batch": 100, "train": stage}, source)
    longest = recipe.network.longest if isinstance(recipe.network, StackConfig) else None
    if steps is None and longest is not None and longest < STEPS:
        recipe.data.steps = longest  # type: ignore[union-attr]
    return recipe


def is_bare(recipe: Recipe) -> bool:
    """Return whether a recipe only stands for one; see `bare`."""
    return recipe.data.name == "none"


def no_data(recipe: Recipe) -> str:
    """Return why no data can be loaded for a recipe; empty where it names a data set."""
    return recipe.data.why if isinstance(recipe.data, AbsentConfig) else ""


def for_network(recipe: Recipe, architecture: NetworkConfig, own: Recipe | None) -> Recipe:
    """Return a recipe's data, loss, batches and training for another network.

    Args:
        recipe: whose data and training.
        architecture: of the network.
        own: the recipe that the network was trained by, if any: it says kind and ratio of a hybrid.

    Raises:
        RecipeError: a hybrid network without a recipe of its own.
    """
    given = recipe.dump()
    plain: dict[str, Any] = {key: given[key] for key in _OF_ANY if key in given}
    if plain.get("loss") is None and recipe.network.usual_loss != architecture.usual_loss:
        plain["loss"] = {"name": recipe.network.usual_loss}
    plain["network"] = architecture.model_dump(mode="json")
    plain["about"] = f"a network that was there before, with data, loss and training of {recipe.name}"
    train, restore = recipe.adapt.model_dump(mode="json"), recipe.restore.model_dump(mode="json")
    if isinstance(architecture, StackConfig):
        plain["train"] = train
        if architecture.weights is not None and recipe.finetune is not None:
            plain["finetune"] = recipe.finetune.model_dump(mode="json")
    else:
        if own is None:
            raise RecipeError("a hybrid network without a recipe of its own", "train it by its recipe first")
        plain |= {"kind": own.kind, "ratio": own.ratio, "adapt": train, "restore": restore}
        plain["selection"] = (recipe if recipe.method == "hybrid" else own).selection.model_dump(mode="json")
    return parse(plain, f"recipe {recipe.name} for this network")


def check_network(recipe: Recipe, family: Family, sizes: DataSizes, whose: object) -> None:
    """Refuse a recipe whose network was there before, and is not made for its data; see `Recipe.check_fits`.

    Args:
        recipe: as `for_network` makes it.
        family: which family of networks the data is for.
        sizes: of the data.
        whose: the network, named in the error.

    Raises:
        UsageError: with a hint for a network that nobody is going to build anew.
    """
    try:
        recipe.check_fits(family, sizes)
    except UsageError as error:
        hint = "name a recipe whose data has its shape; `hstnn recipes` lists those that ship"
        if getattr(recipe.network, "readout", "") == "every":
            hint = "import it again with --readout sum, mean, last or max where samples have one class each"
        raise UsageError(f"the network of {whose} does not fit recipe {recipe.name}: {error.message}", hint) from error
