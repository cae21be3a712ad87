"""Recipes for existing networks: a substitute for a network without one, and another recipe's data and training."""

from typing import Any

from hstnn_deploy.data.sets.nothing import STEPS, AbsentConfig
from hstnn_deploy.data.splits import DataSizes, Family
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe

BARE = "no-recipe"
"""The recipe name of a network without a recipe."""

_OF_ANY = ("name", "data", "seed", "batch", "precision", "protocol", "loss", "regularise", "against")
"""Keys of a recipe that do not depend on the network."""


def bare(architecture: Any, steps: int | None = None, source: str = "the network") -> Recipe:
    """Return a substitute for the recipe of a stack without one: its network, and no data. It cannot train.

    Args:
        architecture: of the stack, as plain data or as an object.
        steps: of a window; None: 28, or the network's limit if that is smaller.
        source: named in errors.

    Raises:
        RecipeError: it is not the architecture of a stack.
    """
    plain = architecture.model_dump(mode="json") if isinstance(architecture, StackConfig) else architecture
    if not isinstance(plain, dict) or plain.get("family") != "stack":
        raise RecipeError(
            f"{source} has no recipe and is not a stack", "only stacks work without a recipe; train it by a recipe"
        )
    stage = {"epochs": 1, "lr": 0.001}  # every recipe needs one; `is_bare` is checked before training
    data = {"name": "none", "steps": steps or STEPS}
    recipe = parse({"name": BARE, "data": data, "network": plain, "batch": 100, "train": stage}, source)
    longest = recipe.network.longest if isinstance(recipe.network, StackConfig) else None
    if steps is None and longest is not None and longest < STEPS:
        recipe.data.steps = longest  # type: ignore[union-attr]
    return recipe


def is_bare(recipe: Recipe) -> bool:
    """Return whether a recipe is a substitute; see `bare`."""
    return recipe.data.name == "none"


def no_data(recipe: Recipe) -> str:
    """Return why no data can be loaded for a recipe; "" if it names a data set."""
    return recipe.data.why if isinstance(recipe.data, AbsentConfig) else ""


def for_network(recipe: Recipe, architecture: NetworkConfig, own: Recipe | None) -> Recipe:
    """Return a recipe's data, loss, batches and training for another network.

    Args:
        recipe: whose data and training.
        architecture: of the network.
        own: the recipe that trained the network, if any; it has kind and ratio of a hybrid.

    Raises:
        RecipeError: a hybrid network without a recipe of its own.
    """
    given = recipe.dump()
    plain: dict[str, Any] = {key: given[key] for key in _OF_ANY if key in given}
    if plain.get("loss") is None and recipe.network.usual_loss != architecture.usual_loss:
        plain["loss"] = {"name": recipe.network.usual_loss}
    plain["network"] = architecture.model_dump(mode="json")
    plain["about"] = f"an existing network, with data, loss and training of {recipe.name}"
    train, restore = recipe.adapt.model_dump(mode="json"), recipe.restore.model_dump(mode="json")
    if isinstance(architecture, StackConfig):
        plain["train"] = train
        if architecture.weights is not None and recipe.finetune is not None:
            plain["finetune"] = recipe.finetune.model_dump(mode="json")
    else:
        if own is None:
            raise RecipeError("the hybrid network has no recipe of its own", "train it by its recipe first")
        plain |= {"kind": own.kind, "ratio": own.ratio, "adapt": train, "restore": restore}
        plain["selection"] = (recipe if recipe.method == "hybrid" else own).selection.model_dump(mode="json")
    return parse(plain, f"recipe {recipe.name} for this network")


def check_network(recipe: Recipe, family: Family, sizes: DataSizes, whose: object) -> None:
    """Refuse a recipe whose existing network does not fit its data; see `Recipe.check_fits`.

    Args:
        recipe: as `for_network` makes it.
        family: the family of networks that the data is for.
        sizes: of the data.
        whose: the network, named in the error.

    Raises:
        UsageError: it does not fit; the hint takes into account that the network exists.
    """
    try:
        recipe.check_fits(family, sizes)
    except UsageError as error:
        hint = "choose a recipe whose data has the network's shape; `hstnn recipes` lists the shipped ones"
        if getattr(recipe.network, "readout", "") == "every":
            hint = "if samples have one class each, import it again with --readout sum, mean, last or max"
        raise UsageError(f"the network of {whose} does not fit recipe {recipe.name}: {error.message}", hint) from error
