"""The board of a sweep: what runs where, how far, and what is left."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hstnn_deploy.cli.board import Board
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.screen import duration
from hstnn_deploy.train.sweep.estimate import Estimator
from hstnn_deploy.train.sweep.launch import Failure
from hstnn_deploy.train.sweep.plan import plan
from hstnn_deploy.train.sweep.scheduler import Entry
from tests.conftest import TINY, settings


def entries(out: Path) -> list[Entry]:
    recipe = load_recipe("digits", [*settings(TINY), "adapt.epochs=10"])
    return [Entry(job) for job in plan([recipe, recipe.model_copy(update={"kind": "snn"})], out)]


def screen(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=110, highlight=False, color_system=None), file


def test_a_terminal_shows_slots_epochs_metric_and_time_left(tmp_path: Path) -> None:
    adapt, traces, restore, pure = entries(tmp_path)
    adapt.state, adapt.place = "running", "cuda:0/1"
    traces.state, traces.place = "running", "cuda:0/0"
    pure.state, restore.state = "done", "waiting"
    adapt.job.run.path.mkdir(parents=True)
    best = {"valid_accuracy": 91.25, "train_seconds": 20.0, "valid_seconds": 1.0}
    adapt.job.run.set_status("running", epoch=4, epochs=10, best=best)
    console, file = screen(terminal=True)
    with Board(console, [adapt, traces, restore, pure], 2, Estimator([])) as board:
        board.looked()
        traces.job.run.path.mkdir(parents=True)
        (traces.job.run.path / "status.json").write_text("{")  # the board goes on
        board.looked()
        board.changed(pure)
    shown = file.getvalue()
    for text in (
        "1 done, 2 running, 1 waiting of 4 jobs",
        "time left n/a",
        "digits/hybrid/seed1111/traces  n/a of 4 probes  n/a                              cuda:0/0",
        "digits/hybrid/seed1111/adapt   epoch 4/10       2 min 6 s  valid accuracy 91.25  cuda:0/1",
        "[1/4] digits/snn/seed1111: finished by another process",
    ):
        assert text in shown, shown


def test_elsewhere_there_are_plain_lines(tmp_path: Path) -> None:
    adapt, traces, restore, pure = entries(tmp_path)
    console, file = screen(terminal=False)
    with Board(console, [adapt, traces, restore, pure], 2, Estimator([])) as board:
        adapt.state, adapt.place, adapt.attempts = "running", "cpu/0", 1
        board.changed(adapt)
        adapt.alone = True
        board.retried(adapt, Failure("CUDA out of memory", "memory"))
        adapt.attempts = 2
        board.changed(adapt)
        adapt.state, adapt.reason = "failed", "why [not]"
        board.changed(adapt)
        traces.state, traces.reason = "blocked", "it needs that"
        board.changed(traces)
        pure.state = "elsewhere"
        board.changed(pure)
        board.looked()
    assert file.getvalue().splitlines() == [
        "[0/4] digits/hybrid/seed1111/adapt: started on cpu/0",
        "[0/4] digits/hybrid/seed1111/adapt: failed: CUDA out of memory; retrying, alone on its GPU",
        "[0/4] digits/hybrid/seed1111/adapt: started on cpu/0, attempt 2",
        "[1/4] digits/hybrid/seed1111/adapt: failed: why [not]",
        "[2/4] digits/hybrid/seed1111/traces: blocked: it needs that",
        "[2/4] digits/snn/seed1111: another process is working on it; waiting",
    ]


def test_a_log_says_every_half_minute_how_far_each_job_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("hstnn_deploy.cli.board.time.monotonic", lambda: now[0])
    _, _, _, pure = entries(tmp_path)
    pure.state, pure.place = "running", "cpu/0"
    pure.job.run.path.mkdir(parents=True)
    # A quarter of the first epoch took 10 seconds: three quarters and the other epochs are left.
    pure.job.run.set_status("running", epoch=0, within={"batch": 25, "batches": 100, "seconds": 10.0})
    console, file = screen(terminal=False)
    with Board(console, [pure], 1, Estimator([])) as board:
        for _ in range(3):
            now[0] += 15
            board.looked()
    left = duration((pure.job.steps - 0.25) * 40)
    assert file.getvalue().splitlines() == [
        f"1 running of 1 jobs  ·  30 s so far, about {left} left; digits/snn/seed1111: epoch 0/{pure.job.steps}, batch"
        " 25/100"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "n/a"), (0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min")]
)
def test_durations_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
