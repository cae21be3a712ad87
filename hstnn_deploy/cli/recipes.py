"""`hstnn recipes`: what can be trained by name."""

from typing import Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Json


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print as YAML.")] = None, as_json: Json = False
) -> None:
    """List the shipped recipes, or print one as YAML to start your own from."""
    from hstnn_deploy.recipe.load import load_recipe, shipped

    if name is not None:
        recipe = load_recipe(name)
        if as_json:
            console.emit(recipe.dump())
        else:
            typer.echo(recipe.yaml(), nl=False)
        return
    found = [load_recipe(each) for each in shipped()]
    if as_json:
        console.emit([{"name": recipe.name, "about": recipe.about} for recipe in found])
        return
    console.out.print(console.table("Recipes", ["name", "about"], [(recipe.name, recipe.about) for recipe in found]))
    console.out.print("`hstnn recipes NAME` prints one; `hstnn train NAME` trains it.", markup=False)
