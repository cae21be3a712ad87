"""What the tests of reports share: run folders and records that nobody trained or measured, with known figures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy import files
from hstnn_deploy.models.device_memory import DeviceMemory
from hstnn_deploy.models.rram import Step
from hstnn_deploy.models.sizes import kept_counts
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.profile.record import Record, lines
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.report.aggregate import Study, studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.beginnings import stage_folder
from hstnn_deploy.train.ranking import SelectedUnits, SelectionResult
from hstnn_deploy.train.variation import Curve, Draws
from tests.conftest import TINY, settings
from tests.profile.conftest import configured, measured
from tests.report.views import ARGUMENTS, CHROMIUM

PUBLISHED = (
    "{source: a table, protocol: validation, rnn: 80, snn: 70, ffs: {0.25: 81, 0.5: 82}, hybrid: {0.25: 91, 0.75: 92}}"
)


def recipe_for(kind: str, ratio: float = 0.5, seed: int = 1, changes: Mapping[str, object] | None = None) -> Recipe:
    """Return a tiny recipe of the digits."""
    return load_recipe("digits", settings({**TINY, **(changes or {}), "kind": kind, "ratio": ratio, "seed": seed}))


def selected(recipe: Recipe) -> SelectionResult:
    """Return a selection that keeps the first units of each group, with made up importances."""
    counts = kept_counts(recipe.network.units, recipe.ratio)
    units = []
    for kind, count in (("snn", counts.snn), ("rnn", counts.rnn)):
        first = min(count - 1, recipe.network.units[0])
        for layer, (total, number) in enumerate(zip(recipe.network.units, (first, count - first), strict=True), 1):
            units.append(
                SelectedUnits(
                    layer=layer,
                    kind=kind,
                    kept=list(range(number)),
                    importance=[1.0 / (unit + 1) for unit in range(total)],
                    standard_error=[0.1] * total,
                    stability=[1.0 if unit < number else 0.25 for unit in range(total)],
                )
            )
    return SelectionResult(
        ratio=recipe.ratio,
        counts={"snn": counts.snn, "rnn": counts.rnn},
        probes=4,
        bootstraps=10,
        seed=recipe.seed,
        mean_stability_of_kept=1.0,
        units=units,
    )


def write_run(out: Path, recipe: Recipe, value: float | None, stage: str = "", **status: Any) -> RunFolder:
    """Write the folder of a stage as training leaves it; without a value it is not finished."""
    stage = stage or ("restore" if recipe.kind == "hybrid" else "train")
    run = stage_folder(recipe, out, stage)
    run.claim_recipe(recipe.for_stage(stage))
    files.write_text(run.path / "recipe.yaml", recipe.yaml())
    files.write_json(run.path / "environment.json", {"versions": {"hstnn-deploy": "0.1.0"}})
    if stage == "restore":
        files.write_json(run.selection, selected(recipe).model_dump(mode="json"))
    metric = task_for(recipe.network).metric
    rows = [
        {f"{split}_{name}": 10.0 * epoch for split in ("train", "valid") for name in (metric, "loss")}
        | {"epoch": epoch, "lr": 0.1, "train_seconds": 0.5, "valid_seconds": 0.1, "best": True}
        for epoch in (1, 2)
    ]
    files.write_text(run.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    if value is None:
        run.set_status(status.pop("state", "running"), **{"epoch": 1, **status})
    else:
        result = {"epoch": 2, "valid": rows[-1], "test": {metric: value, "loss": 1.0, "samples": 5}}
        run.set_status("finished", epoch=2, result={**result, "protocol": recipe.protocol})
    return run


def write_sweep(out: Path, seeds: Sequence[int] = (1, 2, 3), changes: Mapping[str, object] | None = None) -> Path:
    """Write finished runs of every kind, at three ratios, with figures that are easy to check.

    Seed s of rnn has 80 + s, of snn 70 + s, of ffs 80 + 10 * ratio + s, of hybrid 90 + 4 * ratio + s, redundant 95 + s.
    """
    for seed in seeds:
        write_run(out, recipe_for("rnn", seed=seed, changes=changes), 80.0 + seed)
        write_run(out, recipe_for("snn", seed=seed, changes=changes), 70.0 + seed)
        write_run(out, recipe_for("hybrid", seed=seed, changes=changes), 95.0 + seed, stage="adapt")
        for ratio in (0.25, 0.5, 0.75):
            write_run(out, recipe_for("ffs", ratio, seed, changes=changes), 80.0 + 10 * ratio + seed)
            write_run(out, recipe_for("hybrid", ratio, seed, changes=changes), 90.0 + 4 * ratio + seed)
    return out


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A folder of finished runs: see `write_sweep`."""
    return write_sweep(tmp_path / "runs")


def study_of(*paths: Path) -> Study:
    """Return the one study that some paths hold."""
    (study,) = studies(collect(paths).runs)
    return study


def records_of(path: Path, records: Sequence[Record], **more: Any) -> Path:
    """Write a file of records; each line holds `more` too."""
    text = "".join(json.dumps(json.loads(line) | more) + "\n" for line in lines(records).splitlines())
    files.write_text(path, text)
    return path


def inference(ratio: float = 0.5, engine: str = "eager", kind: str = "hybrid", **numbers: float) -> Record:
    """Return a record of inference with made up figures."""
    return measured(configured(recipe_for(kind, ratio, changes={"batch": 100}), "infer", engines=[engine]), **numbers)


def training(**numbers: float) -> Record:
    """Return a record of training with made up figures."""
    return measured(configured(recipe_for("hybrid", changes={"batch": 100}), "train"), **numbers)


_MEMORY = DeviceMemory(100, 400, 500, 420, 6400, 0, 4, 5, ("layer1.conv",))


def varied(step: Step = "vat", name: str = "net", seed: int = 1, bits: int = 4, beyond: int = 0) -> Curve:
    """Return weights on devices: 80 without variation; draws of 70 and 74 at once sigma, of 50 and 60 at twice."""
    scales = {1.0: Draws([70.0, 74.0], 80.0, 0.25), 2.0: Draws([50.0, 60.0], 80.0, 0.5)}
    memory = DeviceMemory(**{**_MEMORY.plain(), "beyond": beyond, "parts": _MEMORY.parts})
    sparsity = (0.25, 0.125) if step == "prune" else None
    return Curve("runs/best.pt", name, seed, step, bits, "accuracy", 80.0, scales, sparsity, memory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; it is in the system, not in the package."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium (as .ci/run does) makes this test run")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()
