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
`digits-adapt.lr-0.01`, so that its runs have folders of their own. Of weights on devices, every point is several steps,
and an axis is in the name of those steps alone that depend on it: points that differ in their pruning share a baseline,
a vat and a recovery.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hstnn_deploy import yaml_text
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.models.rram import STEPS, Step
from hstnn_deploy.recipe.explain import explained
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe

_IN_PATH = {"name", "kind", "ratio", "seed", "network.recurrent"}
"""Axes that a run folder's path tells apart already."""

_LONGEST = 100
"""Letters of a recipe's name, at most."""

_DEVICES = "network.weights."
"""What is left out of a name: no key of a recipe is like those below it."""

_ONLY_HYBRID = ("selection", "restore")
"""Sections of a recipe that no other kind depends on."""


class Condition(BaseModel):
    """A rule for some points: leave them out, or set some keys."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    when: dict[str, Any] = Field(min_length=1)
    """Axes with the value, or a list of the values, that a point must have."""
    skip: bool = False
    changes: dict[str, Any] = Field({}, alias="set")

    @model_validator(mode="after")
    def _does_something(self) -> "Condition":
        if self.skip == bool(self.changes):
            raise ValueError("a condition needs either `skip: true` or `set`")
        return self

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a point has all that `when` asks for."""
        return all(_is(point[axis], wanted) for axis, wanted in self.when.items())


class Sweep(BaseModel):
    """The content of a sweep file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    recipe: str
    changes: dict[str, Any] = Field({}, alias="set")
    axes: dict[str, list[Any]] = {}
    conditions: list[Condition] = []

    def recipes(
        self, source: str, more: Sequence[str] = (), stage: Step | Literal["all"] | None = None
    ) -> list[Recipe]:
        """Return the recipe of every point that is not left out, in the order of the axes; the last moves fastest.

        Of weights on devices, it is the recipes of the steps of every point.

        Args:
            source: where the sweep comes from; errors begin with it.
            more: changes to the base recipe, `key.path=value`, that outweigh those of the file, not the axes.
            stage: the step to come to, or all of them: puts the weights of a stack's convolutions on devices, where its
                recipe does not; None: all of them where its recipe does.

        Raises:
            UsageError: an empty axis, a condition that no point meets, a base recipe that is not there, or a name that
                is too long.
            RecipeError: a point that is not a recipe, with the path of the key.
        """
        load_recipe(self.recipe)  # without changes: is it a valid recipe?
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
                found += self._steps(self._recipe(point, held, source, more), point, source, stage)
        if not found:
            raise UsageError(f"{source}: its conditions skip every point", "remove a condition")
        return found

    def _recipe(self, point: dict[str, Any], held: list[Condition], source: str, more: Sequence[str]) -> Recipe:
        changes = [*_written(self.changes), *more, *_written(point)]
        for condition in held:
            changes += _written(condition.changes)
        try:
            recipe = load_recipe(self.recipe, changes)
        except RecipeError as error:
            message = error.message if source in error.message else f"{source}: {error.message}"
            told = RecipeError(message, error.hint)
            told.others = error.others
            raise told from error
        return recipe

    def _steps(
        self, recipe: Recipe, point: dict[str, Any], source: str, stage: Step | Literal["all"] | None
    ) -> list[Recipe]:
        """Return the recipes of a point, named: itself, or of weights on devices its steps."""
        if stage is not None:
            recipe = recipe.on_devices()
        if recipe.step is None:
            return [self._named(recipe, point, source)]
        if f"{_DEVICES}step" in point:
            raise UsageError(
                f"{source}: {_DEVICES}step is not an axis", "every point has several steps; --stage names one"
            )
        steps = (
            STEPS if stage in {None, "all"} else [each for each in STEPS if each in {stage, *_BEFORE.get(stage, ())}]
        )
        return [self._named(recipe.at_step(step), point, source) for step in steps]

    def _named(self, recipe: Recipe, point: dict[str, Any], source: str) -> Recipe:
        name = recipe.name
        for axis, value in point.items():
            idle = recipe.ignores(axis) or (recipe.kind != "hybrid" and axis.partition(".")[0] in _ONLY_HYBRID)
            if axis not in _IN_PATH and not idle and len(self.axes[axis]) > 1:
                name += f"-{axis.removeprefix(_DEVICES)}-{_in_name(value)}"
        if len(name) > _LONGEST:
            raise UsageError(
                f"{source}: the name {name} is longer than {_LONGEST} characters",
                "sweep over fewer keys, or give it a shorter name",
            )
        return recipe.model_copy(update={"name": name})

    def _check_conditions(self, points: list[dict[str, Any]], source: str) -> None:
        for number, condition in enumerate(self.conditions):
            where = f"{source}: conditions.{number}.when"
            if unknown := [axis for axis in condition.when if axis not in self.axes]:
                raise UsageError(f"{where}: {unknown[0]!r} is not an axis", f"axes: {', '.join(self.axes)}")
            if not any(condition.holds(point) for point in points):
                raise UsageError(
                    f"{where} is {condition.when}, which matches no point", "every condition must match some point"
                )


_BEFORE: dict[Any, tuple[Step, ...]] = {"recover": ("vat",), "prune": ("vat",)}
"""Which steps of weights on devices a step starts from."""


def values_of(text: str) -> tuple[str, list[Any]]:
    """Return the key and the values of an axis, `key.path=value,value`; each value is YAML.

    Raises:
        UsageError: it has another form.
    """
    key, equals, listed = text.partition("=")
    example = "for example --over network.weights.bits=1,2,4"
    if not equals or not key.strip():
        raise UsageError(f"--over {brief(text)} is not key=value,value", example)
    try:
        values = yaml_text.parse(f"[{listed}]")
    except ValueError as error:
        raise UsageError(f"--over {brief(text)}: the values are not YAML: {error}", example) from error
    if not isinstance(values, list) or not values:
        raise UsageError(f"--over {brief(text)} names no value", example)
    return key.strip(), [_number(value) if isinstance(value, str) else value for value in values]


def _number(text: str) -> Any:
    """Return a number that YAML 1.1 reads as text, such as 1e-3."""
    try:
        return float(text)
    except ValueError:
        return text


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
    """Return what a YAML file holds; None if it is not YAML, which `load_recipe` then explains."""
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
    sign = "-" if isinstance(value, int | float) and value < 0 else ""
    return sign + (re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "empty")
