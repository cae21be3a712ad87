"""The recipes of a sweep: a base recipe, axes over any of its keys, and conditions; from options or a sweep file.

    recipe: digits                                   # a shipped name, or a path from where you stand
    set: {adapt.epochs: 50}                          # changes to it
    axes:
      kind: [rnn, snn, ffs, hybrid]
      ratio: [0.05, 0.25, 0.5]
      seed: [1111, 2222, 3333]
      adapt.lr: [1.0e-3, 1.0e-2]                     # any key of a recipe
    conditions:
      - {when: {kind: ffs, ratio: 0.05}, skip: true}
      - {when: {kind: [rnn, snn]}, set: {adapt.epochs: 80}}

Kind, ratio and seed are in a run folder's path. A value of another axis is added to the recipe's name, as in
`digits-adapt.lr-0.01`, so that its runs have folders of their own.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hstnn_deploy import yaml_text
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.recipe.explain import explained
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe

_IN_PATH = {"name", "kind", "ratio", "seed", "network.recurrent"}
"""Axes that a run folder's path tells apart already."""

_ONLY_HYBRID = ("selection", "restore")
"""Sections of a recipe that no other kind depends on."""


class Condition(BaseModel):
    """What holds for some points: they are left out, or some keys are set."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    when: dict[str, Any] = Field(min_length=1)
    """Axes with the value, or a list of the values, that a point must have."""
    skip: bool = False
    changes: dict[str, Any] = Field({}, alias="set")

    @model_validator(mode="after")
    def _does_something(self) -> "Condition":
        if self.skip == bool(self.changes):
            raise ValueError("a condition has either `skip: true` or `set`")
        return self

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a point has all that `when` asks for."""
        return all(_is(point[axis], wanted) for axis, wanted in self.when.items())


class Sweep(BaseModel):
    """What a sweep file holds."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    recipe: str
    changes: dict[str, Any] = Field({}, alias="set")
    axes: dict[str, list[Any]] = {}
    conditions: list[Condition] = []

    def recipes(self, source: str, more: Sequence[str] = ()) -> list[Recipe]:
        """Return the recipe of every point that is not left out, in the order of the axes; the last moves fastest.

        Args:
            source: where the sweep comes from; errors begin with it.
            more: changes to the base recipe, `key.path=value`, that outweigh those of the file, not the axes.

        Raises:
            UsageError: an empty axis, a condition that no point meets, or a base recipe that is not there.
            RecipeError: a point that is not a recipe, with the path of the key.
        """
        load_recipe(self.recipe)  # without changes: is it a recipe at all?
        for axis, values in self.axes.items():
            if not values:
                raise UsageError(f"{source}: axis {axis} is empty", f"give it values, or leave {axis} out")
        points = [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*map(_distinct, self.axes.values()))
        ]
        self._check_conditions(points, source)
        found = []
        for point in points:
            held = [condition for condition in self.conditions if condition.holds(point)]
            if not any(condition.skip for condition in held):
                found.append(self._recipe(point, held, source, more))
        if not found:
            raise UsageError(f"{source}: its conditions leave no point", "remove a condition")
        return found

    def _recipe(self, point: dict[str, Any], held: list[Condition], source: str, more: Sequence[str]) -> Recipe:
        changes = [*_written(self.changes), *more, *_written(point)]
        for condition in held:
            changes += _written(condition.changes)
        try:
            recipe = load_recipe(self.recipe, changes)
        except RecipeError as error:
            message = error.message if source in error.message else f"{source}: {error.message}"
            raise RecipeError(message, error.hint) from error
        name = recipe.name
        for axis, value in point.items():
            idle = recipe.kind != "hybrid" and axis.partition(".")[0] in _ONLY_HYBRID
            if axis not in _IN_PATH and not idle and len(self.axes[axis]) > 1:
                name += f"-{axis}-{_in_name(value)}"
        return recipe.model_copy(update={"name": name})

    def _check_conditions(self, points: list[dict[str, Any]], source: str) -> None:
        for number, condition in enumerate(self.conditions):
            where = f"{source}: conditions.{number}.when"
            if unknown := [axis for axis in condition.when if axis not in self.axes]:
                raise UsageError(f"{where}: {unknown[0]!r} is not an axis", f"axes: {', '.join(self.axes)}")
            if not any(condition.holds(point) for point in points):
                raise UsageError(f"{where} is {condition.when}: no point is so", "every condition must hold somewhere")


def read(name: str) -> Sweep:
    """Return the sweep of a sweep file; of a recipe's name or file, a sweep of that recipe alone.

    Raises:
        RecipeError: a sweep file with an unknown key, a wrong type or an impossible value.
    """
    raw = _raw(name)
    if not isinstance(raw, dict) or not raw.keys() & {"recipe", "axes", "conditions"}:
        return Sweep(recipe=name)
    try:
        return Sweep.model_validate(raw)
    except ValidationError as error:
        raise explained(error, name, Sweep) from error


def _raw(name: str) -> Any:
    """Return what a YAML file holds; None where it is none, which `load_recipe` then explains."""
    path = Path(name)
    with reading(brief(name), "a sweep file", RecipeError, ""):
        return yaml_text.read(path, RecipeError) if path.is_file() else None


def _written(changes: Mapping[str, Any]) -> list[str]:
    """Return changes as `key.path=value`; JSON is YAML too."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _is(value: Any, wanted: Any) -> bool:
    return value == wanted or (isinstance(wanted, list) and value in wanted)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _in_name(value: Any) -> str:
    """Return a value in letters that may stand in a recipe's name."""
    text = json.dumps(value) if not isinstance(value, str) else value
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "empty"
