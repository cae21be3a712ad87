"""The networks that one command measures side by side: find their checkpoints, and check that they go together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    from hstnn_deploy.checkpoint import Checkpoint


def networks_in(paths: Sequence[Path]) -> "list[tuple[Path, Checkpoint]]":
    """Return the networks at some paths with their files, each once; for a folder, those of its finished runs.

    The redundant network of a hybrid's adaptation is left out if its folder has others.

    Raises:
        UsageError: a folder has no finished run, or the networks have different metrics.
        CheckpointError: a file is not a checkpoint, or has no recipe.
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
                f"the metric of {path} is {metric}, and that of {first} is {its_metric}",
                "measure networks of one task at a time",
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
            raise UsageError(f"{path} has no finished run", "`hstnn runs list` shows the progress of runs")
        # A redundant hybrid is an intermediate result; take it only if there is nothing else.
        found += [run.best for run in runs if run.stage != "adapt"] or [run.best for run in runs]
    return list(dict.fromkeys(found))
