"""Load recipes: by a shipped name, from a YAML file or from plain data, with `--set key=value` changes.

Unknown keys, wrong types and impossible values fail with the path of the key, what was given and what is allowed.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hstnn_deploy import yaml_text
from hstnn_deploy.data.registry import shape
from hstnn_deploy.errors import DataError, RecipeError, nearest
from hstnn_deploy.foreign import brief, one_line, reading
from hstnn_deploy.recipe.explain import explained
from hstnn_deploy.recipe.recipe import Recipe


def shipped() -> dict[str, Path]:
    """Return the shipped recipes: name to file, sorted."""
    folder = Path(str(resources.files("hstnn_deploy"))) / "recipe" / "library"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Return a recipe by shipped name or path, with `key.path=value` changes applied; see `for_its_data`.

    Raises:
        RecipeError: no such recipe, not YAML, or not a recipe.
    """
    raw, source = _read(name)
    for change in changes if isinstance(raw, dict) else ():
        _apply(raw, change)
    return for_its_data(parse(raw, source))


def for_its_data(recipe: Recipe) -> Recipe:
    """Return a recipe with the loss that its data asks for, where it names none: regression of values.

    Data that is not at hand says nothing; whoever loads it says what is missing.
    """
    if recipe.loss is not None:
        return recipe
    try:
        known = shape(recipe.data)
    except DataError:
        return recipe
    return recipe if known is None else recipe.trained_on(known.targets)


def parse(raw: Any, source: str) -> Recipe:
    """Return the recipe that plain data describes; `source` is named in errors.

    Raises:
        RecipeError: with the path of the first wrong key.
    """
    if not isinstance(raw, dict):
        raise RecipeError(f"{source} is not a recipe: it holds {type(raw).__name__}, not keys and values")
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise explained(error, source, Recipe) from error


def _read(name: str) -> tuple[Any, str]:
    known = shipped()
    if name in known:
        return yaml_text.read(known[name], RecipeError), f"recipe {name}"
    path = Path(name)
    with reading(brief(name), "a recipe", RecipeError, ""):
        return _read_file(path, name, known), name


def _read_file(path: Path, name: str, known: Mapping[str, Path]) -> Any:
    if path.is_dir():
        raise RecipeError(f"{name} is a folder, not a recipe", "give a YAML file or a shipped recipe's name")
    if not path.is_file():
        looks_like_path = path.suffix in {".yaml", ".yml"} or "/" in name
        if looks_like_path:
            raise RecipeError(f"recipe file {name} does not exist", f"shipped recipes: {', '.join(known)}")
        raise RecipeError(f"unknown recipe {name!r}", nearest(name, known))
    return yaml_text.read(path, RecipeError)


def _apply(raw: dict[str, Any], change: str) -> None:
    """Set one `key.path=value` in place; the value is read as YAML."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {brief(change)} is not key=value", "for example --set seed=7")
    *parents, leaf = key.strip().split(".")
    place: Any = raw
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise RecipeError(f"--set {one_line(key)}: {one_line('.'.join(parents))} is a value, not a section")
    try:
        value = yaml_text.parse(text)
    except ValueError as error:
        raise RecipeError(f"--set {one_line(key)}: {brief(text)} is not a YAML value: {error}") from error
    # YAML 1.1 reads 1e-3 as text; a recipe means the number.
    place[leaf] = _number(value) if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
