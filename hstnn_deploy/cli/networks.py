"""The networks that one command measures side by side: which checkpoints are named, and whether they go together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    from hstnn_deploy.checkpoint import Checkpoint


def networks_in(paths: Sequence[Path]) -> "list[tuple[Path, Checkpoint]]":
    """Return the networks that are named, each once, with their files; of a folder, those of its finished runs.

    The redundant network of a hybrid's adaptation is left out of a folder that has others.

    Raises:
        UsageError: a folder without any, or networks of two metrics.
        CheckpointError: a file is no checkpoint, or has no recipe.
    """
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.models.tasks import task_for

    loaded = [(path, Checkpoint.load(path)) for path in _checkpoints_in(paths)]
    recipes = [(path, checkpoint.resolved_recipe()) for path, checkpoint in loaded]
    metrics = [(path, task_for(recipe.network, recipe.loss).metric) for path, recipe in recipes]
    for path, metric in metrics:
        first, its_metric = metrics[0]
        if metric != its_metric:
            raise UsageError(
                f"{path} is measured by {metric}, and {first} by {its_metric}", "measure networks of one task at a time"
            )
    return loaded


def _checkpoints_in(paths: Sequence[Path]) -> list[Path]:
    from hstnn_deploy.runs import find_runs

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        runs = [run for run in find_runs(path) if run.finished and run.best.exists()]
        if not runs:
            raise UsageError(f"{path} holds no finished run", "`hstnn runs list` shows how far runs are")
        # A redundant hybrid is only a step on the way, unless it is all there is.
        found += [run.best for run in runs if run.stage != "adapt"] or [run.best for run in runs]
    return list(dict.fromkeys(found))
