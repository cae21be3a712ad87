"""Estimates come from earlier runs of like networks, and from nothing else."""

from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.sweep.estimate import Estimate, Estimator
from hstnn_deploy.train.sweep.plan import Job, plan
from tests.conftest import TINY, settings


def jobs(out: Path, *changes: str) -> dict[str, Job]:
    return {job.stage: job for job in plan([load_recipe("digits", [*settings(TINY), *changes])], out)}


def finish(job: Job, seconds: list[float], usage: dict[str, Any] | None) -> None:
    with job.run.open(job.recipe.for_stage(job.stage), {}, resume=False):
        (job.run.path / "recipe.yaml").write_text(job.recipe.yaml())
        for epoch, took in enumerate(seconds, 1):
            job.run.add_metrics({"epoch": epoch, "train_seconds": took, "valid_seconds": 0.0})
        job.run.set_status("finished", epoch=len(seconds), **({"usage": usage} if usage else {}))


def test_nothing_is_known_without_runs(tmp_path: Path) -> None:
    for job in jobs(tmp_path).values():
        assert Estimator([]).of(job) == Estimate()


def test_an_epoch_takes_what_it_took_and_a_start_what_it_took(tmp_path: Path) -> None:
    first = jobs(tmp_path, "kind=snn", "seed=1")["train"]
    finish(first, [2.0, 4.0], {"seconds": 11.0, "epochs": 2, "host_ram_peak": 100, "cuda_peak": None})
    estimator = Estimator([first.run])
    found = estimator.of(jobs(tmp_path, "kind=snn", "seed=2", "adapt.epochs=10", "adapt.lr=0.5")["train"])
    assert found == Estimate(seconds=10 * 3.0 + 5.0, host_ram=100, cuda=None, runs=1)
    for other in (["kind=rnn"], ["kind=snn", "batch=100"], ["kind=snn", "network.units=[6, 6]"]):
        assert estimator.of(jobs(tmp_path, *other)["train"]) == Estimate()


def test_what_is_left_of_a_begun_run_is_less(tmp_path: Path) -> None:
    first, begun = (jobs(tmp_path, "kind=snn", "adapt.epochs=10", f"seed={seed}")["train"] for seed in (1, 2))
    finish(first, [2.0] * 10, None)
    begun.run.path.mkdir(parents=True)
    begun.run.set_status("interrupted", epoch=7)
    assert Estimator([first.run]).of(begun).seconds == pytest.approx(6.0)


def test_traces_are_judged_by_probes(tmp_path: Path) -> None:
    first = jobs(tmp_path, "seed=1")["traces"]
    finish(first, [], {"seconds": 8.0, "epochs": 0, "host_ram_peak": 100, "cuda_peak": 50})
    found = Estimator([first.run]).of(jobs(tmp_path, "seed=2", "selection.probes=40")["traces"])
    assert found == Estimate(seconds=80.0, host_ram=100, cuda=50, runs=1)


def test_a_damaged_run_tells_nothing(tmp_path: Path) -> None:
    first = jobs(tmp_path, "kind=snn")["train"]
    finish(first, [1.0], None)
    (first.run.path / "status.json").write_text("{")
    assert Estimator([first.run]).of(jobs(tmp_path, "kind=snn", "seed=2")["train"]) == Estimate()
