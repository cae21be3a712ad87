"""Short forms of changes to a recipe: `--epochs`, `--lr` and `--batch` set its keys, in every stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from hstnn_deploy.errors import UsageError
from hstnn_deploy.foreign import one_line
from hstnn_deploy.recipe.load import apply_change, raw_recipe

_STAGES = ("train", "adapt", "restore", "finetune")


def short_changes(
    name: str, given: Mapping[str, int | float | None], changes: Sequence[str], taken: Sequence[str] = ()
) -> list[str]:
    """Expand short forms into changes to a recipe.

    `batch` is a key of the recipe; every other one is a key of each stage.

    Args:
        name: the recipe's shipped name, or its file.
        given: the short forms; None: not given.
        changes: other changes, `key=value`.
        taken: keys that have values already, such as the axes of a sweep.

    Raises:
        UsageError: a change sets the same key to another value, or the key is taken.
        RecipeError: there is no such recipe.
    """
    wanted = {key: value for key, value in given.items() if value is not None}
    raw = raw_recipe(name) if wanted else None
    if not isinstance(raw, dict):
        return []
    for change in changes:
        apply_change(raw, change)
    stages = [stage for stage in _STAGES if isinstance(raw.get(stage), dict)]
    found = list[str]()
    for key, value in wanted.items():
        for path in ["batch"] if key == "batch" else [f"{stage}.{key}" for stage in stages]:
            if path in taken:
                raise UsageError(f"--{key} and an axis of the sweep both set {path}", f"leave --{key} out")
            _check_free(raw, path, key, value, changes)
            found.append(f"{path}={value}")
    return found


def _check_free(raw: dict[str, Any], path: str, key: str, value: float, changes: Sequence[str]) -> None:
    """Refuse a key that a change sets to another value."""
    there: Any = raw
    for part in path.split("."):
        there = there.get(part) if isinstance(there, dict) else None
    for change in changes:
        changed = change.partition("=")[0].strip()
        if there is not None and there != value and f"{path}.".startswith(f"{changed}."):
            raise UsageError(
                f"--{key} {value} sets {path}, and --set {one_line(change)} sets it to another value",
                "give one of them",
            )
