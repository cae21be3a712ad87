"""Load recipes: by a shipped name, from a YAML file or from plain data, with `--set key=value` changes.

Unknown keys, wrong types and impossible values fail with the path of the key, its line in the file, the given value and
what is allowed, all at once. A recipe without a name gets the name of its file.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hstnn_deploy import yaml_text
from hstnn_deploy.data.own.detect import detect
from hstnn_deploy.data.registry import shape
from hstnn_deploy.errors import DataError, HstnnError, RecipeError, nearest
from hstnn_deploy.foreign import brief, one_line, reading
from hstnn_deploy.recipe.explain import Where, by_section, mistakes, together
from hstnn_deploy.recipe.own_data import Say, fitted, replaced, slug
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.recipe.written import written


def shipped() -> dict[str, Path]:
    """Return the shipped recipes: name to file, sorted."""
    folder = Path(str(resources.files("hstnn_deploy"))) / "recipe" / "library"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def load_recipe(
    name: str,
    changes: Sequence[str] = (),
    data: Path | None = None,
    say: Say = lambda _: None,
    folder: Path | None = None,
) -> Recipe:
    """Return a recipe by shipped name or path, with `key.path=value` changes applied; see `for_its_data`.

    Args:
        name: its shipped name, or its file.
        changes: what is changed.
        data: a folder of the user's own data, used instead of the recipe's; see `own_data`.
        say: receives each change that fits the network to the user's own data.
        folder: the new place of the user's own data, if it has moved; None: the place in the recipe.

    Raises:
        RecipeError: the recipe does not exist, is not YAML, or is invalid.
        DataError: the user's own data is missing, or cannot be used for training.
        UsageError: the network cannot be fitted to the data.
    """
    raw, source = _read(name)
    raw = _named(raw, name)
    if data is not None and isinstance(raw, dict):
        raw = replaced(raw, data, changes)
    for change in changes if isinstance(raw, dict) else ():
        apply_change(raw, change)
    kept = [change.partition("=")[0].strip() for change in changes]
    return for_its_data(parse(raw, source, kept, say, folder, _places(name, kept)))


def raw_recipe(name: str) -> Any:
    """Return the plain data of a shipped recipe or a file, without validation.

    Raises:
        RecipeError: it does not exist, or is not YAML.
    """
    return _read(name)[0]


def own_text(name: str) -> str:
    """Return a shipped recipe, or one in a file, as the text of a recipe to edit; see `written`.

    Raises:
        RecipeError: see `load_recipe`.
    """
    raw, source = _read(name)
    recipe = parse(_named(raw, name), source, where=_places(name, ()))
    return written(raw, recipe, f"`hstnn recipes {name}`" if name in shipped() else name, own=name not in shipped())


def for_its_data(recipe: Recipe) -> Recipe:
    """Return a recipe with the loss for its data if it names none: regression for values.

    A recipe whose data is missing stays as it is; loading the data reports what is missing.
    """
    if recipe.loss is not None:
        return recipe
    try:
        known = shape(recipe.data)
    except DataError:
        return recipe
    return recipe if known is None else recipe.trained_on(known.targets)


def parse(
    raw: Any,
    source: str,
    kept: Collection[str] = (),
    say: Say = lambda _: None,
    folder: Path | None = None,
    where: Where | None = None,
) -> Recipe:
    """Return the recipe that plain data describes, with a network that is fitted to the user's own data, if used.

    Args:
        raw: the plain data.
        source: named in errors.
        kept: keys of the network that are not fitted to the data.
        say: receives each change that fits the network.
        folder: the new place of the user's own data, if it has moved.
        where: returns where a key was written; None: unknown.

    Raises:
        RecipeError: with the path of the first wrong key, and the others in its `others`.
        DataError: the user's own data is inspected for the first time, and is missing or cannot be used for training.
        UsageError: the network cannot be fitted to the data.
    """
    if not isinstance(raw, dict):
        raise RecipeError(
            f"{source} is not a recipe: it contains {type(raw).__name__}, not keys and values",
            "`hstnn recipes digits` prints a recipe to start from",
        )
    raw = fitted(raw, source, kept, say, folder)
    where = where or (lambda _: "")
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise together(mistakes(error, Recipe), source, where) from error
    except RecipeError as error:
        raise together(by_section(raw, error, Recipe), source, where) from error


def _places(name: str, changed: Collection[str]) -> Where:
    """Return a function that gives the line of a key in the recipe's file, unless the key was changed."""
    lines: dict[tuple[str, ...], int] = {}

    def where(keys: Sequence[str]) -> str:
        path = ".".join(keys)
        if any(f"{path}.".startswith(f"{each}.") for each in changed):
            return ""
        if not lines and name not in shipped():
            lines.update(yaml_text.lines(Path(name), RecipeError))
        for length in range(len(keys), 0, -1):
            if line := lines.get(tuple(keys[:length])):
                return f", line {line}"
        return ""

    return where


def _read(name: str) -> tuple[Any, str]:
    known = shipped()
    if name in known:
        return deepcopy(_read_shipped(known[name])), f"recipe {name}"
    path = Path(name)
    with reading(brief(name), "a recipe", RecipeError, ""):
        return _read_file(path, name, known), name


@cache
def _read_shipped(path: Path) -> Any:
    # Reading YAML takes most of the time of loading a recipe, and some commands load all of them.
    return yaml_text.read(path, RecipeError)


def _named(raw: Any, name: str) -> Any:
    """Return a recipe with a name: its own, or that of its file."""
    return {"name": slug(Path(name)), **raw} if isinstance(raw, dict) and raw and "name" not in raw else raw


def _read_file(path: Path, name: str, known: Mapping[str, Path]) -> Any:
    if path.is_dir():
        raise RecipeError(f"{name} is a folder, not a recipe", _for_folder(path))
    if not path.is_file():
        looks_like_path = path.suffix in {".yaml", ".yml"} or "/" in name
        if looks_like_path:
            raise RecipeError(f"recipe file {name} does not exist", f"shipped recipes: {', '.join(known)}")
        if name == "own":
            raise RecipeError("own is a kind of data, not a recipe", "for your own data: hstnn train RECIPE --data DIR")
        raise RecipeError(f"unknown recipe {name!r}", nearest(name, known))
    return yaml_text.read(path, RecipeError)


def _for_folder(path: Path) -> str:
    """Return a hint for a folder that was given instead of a recipe."""
    try:
        kind = detect(path)
    except HstnnError:
        return "give a YAML file or a shipped recipe's name; --data DIR names a folder of your own data"
    recipe = {"images": "stack-digits", "arrays": "stack-digits", "events": "stack-events", "text": "pydoc-text"}[kind]
    return f"to train on the {kind} in it: hstnn train {recipe} --data {path}"


def apply_change(raw: dict[str, Any], change: str) -> None:
    """Set one `key.path=value` in place; the value is read as YAML.

    Raises:
        RecipeError: the text has another form, or a parent of its key is not a section.
    """
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {brief(change)} is not key=value", "for example --set seed=7")
    *parents, leaf = key.strip().split(".")
    place: Any = raw
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise RecipeError(
            f"--set {one_line(key)}: {one_line('.'.join(parents))} is a value, not a section",
            f"set {one_line('.'.join(parents))} itself",
        )
    try:
        value = yaml_text.parse(text)
    except ValueError as error:
        raise RecipeError(f"--set {one_line(key)}: {brief(text)} is not a YAML value: {error}") from error
    # YAML 1.1 reads 1e-3 as text; in a recipe it is a number.
    place[leaf] = _number(value) if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
