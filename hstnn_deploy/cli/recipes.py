"""`hstnn recipes`: list and print the shipped recipes."""

from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.layers import layer_table
from hstnn_deploy.cli.options import Json, recipe_names
from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    from hstnn_deploy.recipe.recipe import Recipe


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A shipped recipe or a YAML file: printed as YAML, or as a table with --shapes.",
            autocompletion=recipe_names,
        ),
    ] = None,
    shapes: Annotated[
        bool,
        typer.Option("--shapes", help="Print the recipe's network layer by layer, with parameters, shapes and states."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the shipped recipes, or print one: as YAML to edit, with every key explained, or layer by layer."""
    from hstnn_deploy.recipe.load import load_recipe, own_text, shipped

    if name is None and shapes:
        raise UsageError("--shapes needs the name of a recipe", "hstnn recipes NAME --shapes")
    if name is not None:
        if not shapes and not as_json:
            console.write(own_text(name))
            return
        recipe = load_recipe(name)
        if shapes:
            _shapes(recipe, as_json)
            _check(recipe)
        else:
            console.emit(recipe.dump())
        return
    found = [load_recipe(each) for each in shipped()]
    if as_json:
        console.emit([{"name": recipe.name, "about": recipe.about} for recipe in found])
        return
    console.out.print(console.table("Recipes", ["name", "about"], [(recipe.name, recipe.about) for recipe in found]))
    console.out.print("`hstnn recipes NAME` prints one; `hstnn train NAME` trains it.", markup=False)


def _check(recipe: "Recipe") -> None:
    """Refuse a network that does not fit the recipe's data, if the data's shape is known without its files.

    Raises:
        UsageError: the network does not fit; the table above shows it.
    """
    from hstnn_deploy.data.registry import shape

    if (known := shape(recipe.data)) is not None:
        recipe.check_data(known)


def _shapes(recipe: "Recipe", as_json: bool) -> None:
    """Print the network that a recipe trains first, part by part, without making weights."""
    import torch

    from hstnn_deploy.models import overview
    from hstnn_deploy.models.registry import build
    from hstnn_deploy.models.sizes import layer_sizes

    with torch.device("meta"):
        network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
    parts, shape = overview.parts(network), list(network.input_shape)
    facts = {"recipe": recipe.name, "family": recipe.network.family, "kind": recipe.kind_name, "input": shape}
    facts |= overview.plain(parts)
    if as_json:
        console.emit(facts)
        return
    what = "a token" if network.tokens else f"{shape}"
    title = f"{recipe.name}: {recipe.network.family}, {recipe.kind_name}; a time step of one sample is {what}"
    if recipe.kind == "hybrid":
        title += "\nbefore selection, which keeps some of the units"
    console.out.print(title, markup=False)
    console.out.print(layer_table(parts))
    console.out.print(
        f"{facts['parameters']:,} parameters; {facts['carried']:,} values carried from step to step for each sample",
        markup=False,
    )
