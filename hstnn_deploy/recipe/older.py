"""Checkpoints of older formats: convert the `data` of one version to the next; see `checkpoint`."""

from collections.abc import Callable
from typing import Any


def _spell_out(data: dict[str, Any]) -> dict[str, Any]:
    """From version 1: make explicit what its recipes left out because it did not exist yet."""
    recipe = data.get("recipe")
    if isinstance(recipe, dict) and isinstance(recipe.get("network"), dict):
        recurrent = "lstm" if recipe.get("kind") == "lstm" else "rnn"
        recipe = {**recipe, "network": {"recurrent": recurrent, **recipe["network"]}}
        for stage in ("adapt", "restore"):
            if isinstance(recipe.get(stage), dict):
                recipe[stage] = {"schedule": None, **recipe[stage]}
        data = {"vocabulary": "", **data, "recipe": recipe}
    return data


def _name_the_network(data: dict[str, Any]) -> dict[str, Any]:
    """From version 2: copy the architecture, which was only in the recipe."""
    recipe = data.get("recipe")
    if isinstance(recipe, dict) and "parameters" in data:
        data = {"architecture": recipe.get("network"), **data}
    return data


def _trained_here(data: dict[str, Any]) -> dict[str, Any]:
    """From version 3: there were no imported networks."""
    return {**data, "origin": None} if "parameters" in data else data


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _spell_out,
    2: _name_the_network,
    3: _trained_here,
}
"""By version: the function that converts its `data` to the next version."""
