"""`hstnn sweep` through the command line: the same bits as by hand, failures, being killed, stopped and doubled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.conftest import PATIENCE, TINY, Hstnn, options, settings
from tests.contents import contents, raw

SWEEP: list[str | Path] = ["sweep", "digits", *options(TINY), "--cpus", "2"]
HYBRID = [*SWEEP, "--kinds", "hybrid", "--ratios", "0.25,0.5", "--seeds", "7"]
LONG_CHANGES = [*settings({**TINY, "adapt.epochs": 100, "batch": 200}), "kind=snn"]
LONG = ["sweep", "digits", *[word for each in LONG_CHANGES for word in ("--set", each)], "--cpus", "1"]
RUN = "digits/snn/seed1111"


def by_hand(out: Path, *changes: str) -> None:
    train(load_recipe("digits", [*settings(TINY), *changes]), out, resume=True)


def test_a_sweep_gives_what_training_by_hand_gives_and_is_not_done_twice(hstnn: Hstnn, tmp_path: Path) -> None:
    out = tmp_path / "swept"
    planned = json.loads(hstnn(*HYBRID, "--out", out, "--dry-run", "--json").out)
    assert [job["job"] for job in planned["jobs"]] == [
        "digits/hybrid/seed7/adapt",
        "digits/hybrid/seed7/traces",
        "digits/hybrid/seed7/ratio-0.25",
        "digits/hybrid/seed7/ratio-0.5",
    ]
    assert {job["seconds"] for job in planned["jobs"]} == {None}
    assert not out.exists()

    result = hstnn(*HYBRID, "--out", out, "--json")
    assert (result.code, {job["state"] for job in json.loads(result.out)["jobs"]}) == (0, {"done"}), result.err
    assert "digits/hybrid/seed7/adapt: started on cpu/0" in result.err
    assert "4 done of 4 jobs" in result.err
    for ratio in ("0.25", "0.5"):
        by_hand(tmp_path / "hand", "kind=hybrid", "seed=7", f"ratio={ratio}")
    assert contents(out) == contents(tmp_path / "hand")
    for run in (out / "digits/hybrid/seed7/adapt", out / "digits/hybrid/seed7/ratio-0.5"):
        assert RunFolder(run).environment()["threads"] == 1
        assert RunFolder(run).status()["usage"]["seconds"] > 0

    before = raw(out)
    again = hstnn(*HYBRID, "--out", out)
    assert (again.code, again.out, again.err) == (0, "4 done of 4 jobs\n", "")
    other = hstnn(*HYBRID, "--out", out, "--set", "adapt.lr=0.5")
    assert other.code == 5
    assert "adapt.lr was 0.001, is 0.5" in other.error
    assert "4 finished runs used 1 thread(s), not 2" in hstnn(*HYBRID, "--out", out, "--threads", "2").err
    assert raw(out) == before

    shown = hstnn(*HYBRID, "--seeds", "7,8", "--out", out, "--dry-run").out
    assert "8 jobs, 4 done." in shown
    assert "known for 4 of 4 jobs" in shown
    for words in (
        ["digits/hybrid/seed7/adapt", "done"],
        ["digits/hybrid/seed8/adapt", "to do", "2 epochs"],
        ["adapt, traces"],
    ):
        assert all(word in shown for word in words)


def test_a_failed_job_is_reported_and_stops_only_what_needs_it(hstnn: Hstnn, tmp_path: Path) -> None:
    adapt = tmp_path / "digits/hybrid/seed1111/adapt"
    adapt.mkdir(parents=True)
    (adapt / "last.pt").write_text("{")
    result = hstnn(*SWEEP, "--kinds", "snn,hybrid", "--retries", "0", "--out", tmp_path, "--json")
    assert result.code == 12
    jobs = {job["job"]: job for job in json.loads(result.out)["jobs"]}
    reason = f"{adapt / 'last.pt'} is not a checkpoint"
    assert {name: (job["state"], job["attempts"]) for name, job in jobs.items()} == {
        "digits/snn/seed1111": ("done", 1),
        "digits/hybrid/seed1111/adapt": ("failed", 1),
        "digits/hybrid/seed1111/traces": ("blocked", 0),
        "digits/hybrid/seed1111/ratio-0.5": ("blocked", 0),
    }
    assert jobs["digits/hybrid/seed1111/adapt"]["reason"] == reason
    assert jobs["digits/hybrid/seed1111/ratio-0.5"]["reason"] == f"digits/hybrid/seed1111/adapt: {reason}"
    assert "Jobs without a result" in result.err
    assert f"error: 3 of 4 jobs have no result\nhint: see `hstnn runs logs {adapt}`" in result.err
    assert RunFolder(adapt).status()["error"] == reason


# Being stopped for real.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("long")
    train(load_recipe("digits", LONG_CHANGES), out)
    return contents(out)


def start(*words: str | Path) -> "subprocess.Popen[str]":
    """Start a sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "hstnn_deploy", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever started the tests may have Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    patience = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.01)


@pytest.mark.matrix
def test_killed_and_stopped_in_every_way_a_sweep_ends_as_if_undisturbed(
    hstnn: Hstnn, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    run, process = RunFolder(tmp_path / RUN), start(*LONG, "--out", tmp_path)

    def epochs_more(number: int) -> None:
        done = len(run.metrics())
        wait_until(lambda: run.state == "running" and len(run.metrics()) >= done + number, process)

    # The job is killed: another attempt goes on where it was.
    epochs_more(3)
    os.kill(run.status()["pid"], signal.SIGKILL)
    wait_until(lambda: run.state == "running", process)
    epochs_more(3)
    assert "continuing after epoch" in run.log.read_text()

    # The sweep is killed: its job ends too, in an orderly way, since nobody is left to take what it does.
    job = run.status()["pid"]
    process.kill()
    out, _ = process.communicate()
    assert f"{RUN}: failed: the process was killed by SIGKILL (out of memory?); retrying" in out
    assert f"{RUN}: started on cpu/0, attempt 2" in out
    wait_until(lambda: not psutil.pid_exists(job))
    (listed,) = json.loads(hstnn("runs", "list", tmp_path, "--json").out)["runs"]
    assert listed["state"] == "interrupted"

    # The sweep is stopped: it stops its job.
    process = start(*LONG, "--out", tmp_path)
    epochs_more(3)
    job = run.status()["pid"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert (
        err == "error: interrupted: 1 interrupted of 1 jobs\nhint: run the same command again to complete the sweep\n"
    )
    assert not psutil.pid_exists(job)
    assert run.state == "interrupted"
    assert "interrupted, epoch" in hstnn(*LONG, "--out", tmp_path, "--dry-run").out

    assert hstnn(*LONG, "--out", tmp_path).code == 0
    assert contents(tmp_path) == undisturbed


def test_two_sweeps_in_one_folder_share_the_work(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    both = [start(*LONG, "--out", tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert contents(tmp_path) == undisturbed
    shown = "".join(out for out, _ in said)
    # One of them trained it; the other waited, or came so late that it found it done.
    assert shown.count("finished in") <= 2
    assert RunFolder(tmp_path / RUN).log.read_text().count("epoch 100/100") == 1


# Refusals.


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["--kinds", ""], 2, "--kinds is empty", "--kinds rnn,snn,ffs,hybrid"),
        (["--kinds", "rnn,cnn"], 2, "recipe digits: kind is 'cnn'", ""),
        (["--ratios", ","], 2, "--ratios is empty", "--ratios 0.05,0.25,0.5"),
        (["--ratios", "half"], 2, "--ratios 'half' is not a number", ""),
        (["--ratios", "0.5,1"], 2, "ratio 1 is not between 0 and 1", ""),
        (["--kinds", "hybrid", "--ratios", "0.5,0.05"], 2, "ratio 0.05 leaves 1 spiking", "ratio that works is 0.1364"),
        (["--seeds", "1,x"], 2, "--seeds 'x' is not a whole number", "--seeds 1111,2222"),
        (["--seeds", "-1"], 2, "seed is -1", ""),
        (["--set", "adapt.epoch=2"], 2, "unknown key 'adapt.epoch'", "did you mean 'epochs'?"),
        (["--gpus", "zero"], 2, "--gpus 'zero' is not a whole number", ""),
        (["--gpus", "0,0"], 2, "--gpus 0,0 names a GPU twice", "--per-gpu"),
        (["--gpus", "0"], 6, "device 'cuda:0' is not available", ""),
        (["--gpus", "0", "--cpus", "2"], 2, "--gpus and --cpus are mutually exclusive", ""),
        (["--cpus", "1", "--threads", "2"], 2, "--threads 2 is more than the 1 core available", "--threads 1"),
        (["--address", "here:1"], 2, "--address needs --executor ray", "--executor ray"),
        (["--executor", "ray", "--address", "127.0.0.1:9"], 6, "nothing answers at --address 127.0.0.1:9", "ray start"),
        (["--executor", "ray", "--address", "h:1", "--gpus", "0"], 2, "--gpus names GPUs of this machine", ""),
        (["--executor", "slurm"], 2, "'slurm' is not one of 'local', 'ray'", ""),
    ],
)
def test_bad_words_are_refused_in_one_line_before_anything_starts(
    hstnn: Hstnn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
    hint: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = hstnn("sweep", "digits", *options(TINY), *words, "--out", tmp_path / "out")
    assert result.code == code, result.err
    assert message in result.error
    assert "digits: recipe digits:" not in result.error
    assert hint in result.hint
    assert not (tmp_path / "out").exists()


def test_a_sweep_file_may_be_refused_too_and_half_written_runs_are_named(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: digits\naxes: {seed: [1, 2], kind: [rnn]}\nset: {network.units: [6, 5]}\n")
    out = tmp_path / "out"
    assert "2 jobs, 0 done." in hstnn("sweep", path, "--out", out, "--dry-run").out
    assert "1 jobs" in hstnn("sweep", path, "--seeds", "5", "--out", out, "--dry-run").out
    run = RunFolder(out / "digits/rnn/seed2")
    run.path.mkdir(parents=True)
    (run.path / "status.json").write_text('{"state": "run')
    result = hstnn("sweep", path, "--out", out)
    assert result.code == 5
    assert result.error == f"{run.path / 'status.json'} is damaged"
    path.write_text("recipe: digits\naxes: {sed: [1]}\n")
    assert "unknown key 'sed'" in hstnn("sweep", path).error
