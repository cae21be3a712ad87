"""A job's process: how it ends is said in one line, and stands in its run folder."""

import os
import time
from typing import Literal

import pytest

from hstnn_deploy.errors import RunError
from hstnn_deploy.train.sweep.launch import Failure, Process, Setting, stop_all
from hstnn_deploy.train.sweep.local import Local
from hstnn_deploy.train.sweep.plan import Job
from hstnn_deploy.train.sweep.scheduler import Wanted
from hstnn_deploy.train.sweep.slots import Slot, Slots
from tests.train.sweep.conftest import Instead

FINISH = "import json, pathlib, sys; pathlib.Path(sys.argv[1], 'status.json').write_text('{\"state\": \"finished\"}')"


def start(job: Job, threads: int = 1) -> Process:
    return Process(job, "cpu", Setting(threads), "cpu")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("print('error: no such thing\\nhint: try'); raise SystemExit(3)", "no such thing", "error"),
        ("print('error: old'); print('error: new'); raise SystemExit(3)", "new", "error"),
        ("print('error: out of memory: 3 GB'); raise SystemExit(10)", "out of memory: 3 GB", "memory"),
        ("raise SystemExit(7)", "the process ended with exit code 7", "error"),
        ("print('words'); raise SystemExit(7)", "the process ended with exit code 7: words", "error"),
        ("pass", "the process ended without finishing the run", "error"),
        ("import os; os.kill(os.getpid(), 9)", "the process was killed by SIGKILL (out of memory?)", "error"),
        ("print('error: x'); import os; os.kill(os.getpid(), 11)", "the process was killed by SIGSEGV", "error"),
    ],
)
def test_a_failure_has_its_reason_and_leaves_it_in_the_run_folder(
    job: Job, instead: Instead, code: str, reason: str, kind: Literal["error", "memory"]
) -> None:
    instead(code)
    found = start(job).wait()
    assert found == Failure(reason, kind)
    status = job.run.status()
    assert (status["state"], status["error"]) == ("failed", reason)
    assert job.run.stage == "train"


def test_success_is_a_finished_run_folder(job: Job, instead: Instead) -> None:
    instead(FINISH)
    assert start(job).wait() is None
    assert job.run.finished


def test_the_log_begins_with_the_command_that_does_the_same_by_hand(job: Job, instead: Instead) -> None:
    instead(
        "import os, sys; print(*sys.argv[1:3], os.environ['OMP_NUM_THREADS'], [*os.environ['CUDA_VISIBLE_DEVICES']])"
    )
    start(job, threads=3).wait()
    start(job, threads=3).wait()
    first, second, *rest = job.run.log.read_text().splitlines()
    assert first == (f"$ hstnn train {job.run.path}/recipe.yaml --resume --device cpu --threads 3 --out {job.out}")
    assert second == f"{job.run.path} train 3 []"
    assert rest == [first, second]  # the next attempt is added


def test_a_folder_in_use_is_busy_and_its_status_is_left_alone(job: Job, instead: Instead) -> None:
    instead("print('error: in use'); raise SystemExit(5)")
    job.run.path.mkdir(parents=True)
    job.run.set_status("running", epoch=3)
    with job.run.lock():
        assert start(job).wait() == Failure("another process works in the run folder", "busy")
    assert job.run.status()["epoch"] == 3
    assert job.run.state == "running"


def test_found_finished_by_somebody_else_is_no_failure(job: Job, instead: Instead) -> None:
    instead(f"{FINISH}; raise SystemExit(5)")
    assert start(job).wait() is None


def test_a_folder_of_another_recipe_is_left_as_it_is(job: Job) -> None:
    job.run.claim_recipe({**job.recipe.for_stage("train"), "batch": 3})
    with pytest.raises(RunError, match="batch was 3, is 200"):
        start(job)
    assert not (job.run.path / "recipe.yaml").exists()


def test_a_process_that_does_not_listen_is_killed(job: Job, instead: Instead) -> None:
    instead(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
        "while True: time.sleep(1)"
    )
    process = start(job)
    while "up" not in job.run.log.read_text():
        time.sleep(0.01)
    stop_all([process], patience=0.2)
    # It would go on for ever.
    assert process.wait() is not None


def test_a_slot_is_free_again_after_a_job_that_could_not_start(job: Job) -> None:
    job.run.claim_recipe({**job.recipe.for_stage("train"), "batch": 3})
    executor = Local(Slots(["cpu"], 1), Setting())
    assert executor.start([Wanted(job, False), Wanted(job, False)]) == [(job, "cpu/0")]
    (ended,) = executor.wait(5)
    assert ended.failure is not None
    assert "batch was 3" in ended.failure.reason
    assert executor.start([Wanted(job, False)]) == [(job, "cpu/0")]


def test_on_a_gpu_a_job_sees_that_one_alone(job: Job, instead: Instead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    instead("import os; print('sees', os.environ['CUDA_VISIBLE_DEVICES'])")
    executor = Local(Slots(["cuda:1"], 2), Setting())
    assert executor.shares_gpus
    assert executor.start([Wanted(job, False)]) == [(job, "cuda:1/0")]
    assert executor.wait(60)
    log = job.run.log.read_text()
    assert "sees 7" in log
    assert "--device cuda " in log
    assert str(Slot("cuda:1", 0)) == "cuda:1/0"


def test_an_unwritable_folder_is_a_failure_of_its_job(job: Job, instead: Instead) -> None:
    instead("pass")
    job.run.path.parent.mkdir(parents=True)
    job.run.path.write_text("in the way")
    executor = Local(Slots(["cpu"], 1), Setting())
    executor.start([Wanted(job, False)])
    (ended,) = executor.wait(5)
    assert ended.failure is not None
    assert os.fspath(job.run.path) in ended.failure.reason
