"""Run folders that an earlier hstnn wrote go on: finished ones are found finished, begun ones are continued."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hstnn_deploy.errors import RunError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.report.collect import collect
from hstnn_deploy.runs import RunFolder, find_runs
from hstnn_deploy.train.stages import train

OLD = Path(__file__).parents[1] / "old" / "runs"
"""Written with checkpoint format 2, before there was `method` or `loss`, and fewer options of a neuron."""
SMALL = {
    "network.units": "[4,3]",
    "restore.epochs": 1,
    "selection.probes": 3,
    "selection.bootstraps": 5,
    "selection.samples": 10,
}


def recipe(**changes: Any) -> Recipe:
    """Return the recipe that the old folders were written with, in today's words."""
    given = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe("digits", [f"{key}={value}" for key, value in given.items()])


def copied(name: str, folder: Path) -> Path:
    """Return the folder of runs that holds a copy of an old one."""
    shutil.copytree(OLD / name, folder / "digits")
    return folder


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    runs = copied("finished-digits", tmp_path)
    before = {path: path.read_bytes() for path in runs.rglob("*.pt")}
    train(recipe(adapt__epochs=2), runs)
    assert {path: path.read_bytes() for path in runs.rglob("*.pt")} == before
    assert all(run.finished for run in find_runs(runs))


def test_another_ratio_goes_on_from_an_old_adaptation_and_old_traces(tmp_path: Path) -> None:
    runs = copied("finished-digits", tmp_path)
    adapted = (runs / "digits/hybrid/seed1111/adapt/best.pt").read_bytes()
    done = train(recipe(adapt__epochs=2, ratio=0.3), runs)
    assert [run.path.name for run in done] == ["adapt", "traces", "ratio-0.3"]
    assert (runs / "digits/hybrid/seed1111/adapt/best.pt").read_bytes() == adapted


def test_an_old_training_that_was_stopped_is_continued(tmp_path: Path) -> None:
    runs = copied("begun-digits", tmp_path)
    begun = RunFolder(runs / "digits/hybrid/seed2/adapt")
    done = len(begun.metrics())
    assert 0 < done < 60
    assert not begun.finished
    train(recipe(adapt__epochs=60, seed=2), runs, stage="adapt", resume=True)
    assert begun.finished
    assert [row["epoch"] for row in begun.metrics()] == list(range(1, 61))


def test_a_key_that_did_not_exist_then_is_compared_by_its_default(tmp_path: Path) -> None:
    runs = copied("finished-digits", tmp_path)
    for path in runs.rglob("stage.yaml"):
        old = yaml.safe_load(path.read_text())
        # As if today's keys had come later still.
        for key in ("precision", "protocol"):
            old.pop(key, None)
        old["network"]["neuron"].pop("surrogate")
        old["adapt"].pop("schedule", None)
        path.write_text(yaml.safe_dump(old))
    train(recipe(adapt__epochs=2), runs)
    with pytest.raises(RunError, match=r"network\.neuron\.surrogate was rectangular, is arctan"):
        train(recipe(adapt__epochs=2, network__neuron__surrogate="arctan"), runs)
    with pytest.raises(RunError, match=r"network\.neuron\.input_decay was None, is True"):
        train(recipe(adapt__epochs=2, network__neuron__input_decay="true"), runs)
    with pytest.raises(RunError, match=r"loss was None"):
        train(recipe(adapt__epochs=2, loss="mse"), runs)


def test_old_runs_are_reported(tmp_path: Path) -> None:
    collected = collect([copied("finished-digits", tmp_path)])
    assert not collected.problems
    assert {run.stage for run in collected.runs} == {"adapt", "restore"}
