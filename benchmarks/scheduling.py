"""What a sweep adds to its jobs: 200 of 50 ms each on two slots, against a bare pool of two that starts the same."""

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from benchmarks.harness import Result, turns, wall
from hstnn_deploy import files, processes
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.sweep.launch import Setting
from hstnn_deploy.train.sweep.local import Local
from hstnn_deploy.train.sweep.plan import Job, plan
from hstnn_deploy.train.sweep.scheduler import Scheduler
from hstnn_deploy.train.sweep.slots import Slots

JOBS, SLOTS, SECONDS = 200, 2, 0.05

_TRIVIAL = f"""sleep {SECONDS}; echo '{{"state": "finished"}}' > "$0/status.json" """


def scheduling(rounds: int) -> Iterator[Result]:
    """Time whole plans of trivial jobs; the floor is what their sleep alone takes."""
    recipe = load_recipe("digits", ["kind=rnn"])
    recipes = [recipe.model_copy(update={"seed": seed}) for seed in range(JOBS)]

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out, mock.patch.object(processes, "command", _command):
            scheduler = Scheduler(plan(recipes, Path(out)))
            scheduler.run(Local(Slots(["cpu"], SLOTS), Setting()))
            assert all(entry.state == "done" for entry in scheduler.entries)

    def bare() -> None:
        with tempfile.TemporaryDirectory() as out, ThreadPoolExecutor(SLOTS) as pool:
            list(pool.map(_start, plan(recipes, Path(out))))

    floor = JOBS * SECONDS / SLOTS
    times = turns({"baseline": wall(bare), "ours": wall(ours)}, min(rounds, 5), warm_up=1)
    times.seconds["floor"] = [floor] * len(times.seconds["ours"])
    beside = (times.median("ours") - floor) * SLOTS / JOBS
    bare_beside = (times.median("baseline") - floor) * SLOTS / JOBS
    note = f"{1e3 * beside:.0f} ms per job beside its own work (a bare pool: {1e3 * bare_beside:.0f} ms)"
    facts = {"jobs": JOBS, "slots": SLOTS, "seconds_each": SECONDS, "overhead_seconds_per_job": beside}
    yield Result("scheduling", f"{JOBS} jobs", times, facts, note)


def _command(_module: str, folder: str, *_words: str) -> list[str]:
    return ["/bin/sh", "-c", _TRIVIAL, folder]


def _start(job: Job) -> None:
    files.make_folder(job.run.path)
    subprocess.run(_command("", str(job.run.path)), check=True)
