"""`hstnn train` through the command line: being stopped for real, and going on."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.cli.test_train import DIGITS
from tests.conftest import PATIENCE, Hstnn
from tests.contents import contents

LONG = [*DIGITS, "--set", "adapt.epochs=40", "--set", "batch=100", "--kind", "snn"]
RUN = "digits/snn/seed1111"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("long")
    changes = [word for word in LONG if "=" in word]
    train(load_recipe("digits", [*changes, "kind=snn"]), out)
    return contents(out)


def start(out: Path) -> "subprocess.Popen[str]":
    """Start a training in a process of its own and wait until some epochs are done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hstnn_deploy", *LONG, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever started the tests may have Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    run, patience = RunFolder(out / RUN), time.monotonic() + PATIENCE
    # An epoch is done when the status counts it: its metrics are written first, then last.pt, then the status.
    while run.status().get("epoch", 0) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.01)
    return process


def test_after_kill_9_resume_gives_what_an_uninterrupted_run_gives(
    hstnn: Hstnn, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    process = start(tmp_path)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = RunFolder(tmp_path / RUN)
    assert 2 <= run.status()["epoch"] <= len(run.metrics()) < 40
    assert run.status()["state"] == "running"
    assert hstnn(*LONG, "--out", tmp_path).code == 5
    result = hstnn(*LONG, "--out", tmp_path, "--resume")
    assert (result.code, result.err) == (0, "")
    assert contents(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_training_in_order(hstnn: Hstnn, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    second = hstnn(*LONG, "--out", tmp_path, "--resume")
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.splitlines() == [
        "error: interrupted; all finished epochs are kept",
        "hint: run the same command with --resume to continue",
    ]
    assert second.code == 5
    assert "is in use by another hstnn process" in second.error
    status = RunFolder(tmp_path / RUN).status()
    assert status["state"] == "interrupted"
    assert 2 <= status["epoch"] < 40


def test_a_disk_that_fills_up_during_training_loses_nothing_that_was_done(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*DIGITS, "--kind", "snn", "--out"]
    assert hstnn(*words, tmp_path / "whole").code == 0
    calls = 0

    def fills_up(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 9:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fills_up)
        result = hstnn(*words, tmp_path / "full")
    assert result.code == 5
    assert "no space left" in result.error
    assert RunFolder(tmp_path / "full" / RUN).status()["epoch"] == 1
    assert hstnn(*words, tmp_path / "full", "--resume").code == 0
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")
