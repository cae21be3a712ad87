"""`hstnn profile`: from options to tables, records and files, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from hstnn_deploy.profile.records import read
from hstnn_deploy.train.recipe import load_recipe
from tests.conftest import TINY, Hstnn, settings


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(load_recipe("digits", settings({**TINY, "experiment": "RNN-SMNIST"})).yaml())
    return path


def test_training_and_inference_are_measured_and_written(hstnn: Hstnn, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--gpus", "none", "--seconds", "0.3", "--engines", "eager,onnxruntime", "--batch", "3"]
    result = hstnn("profile", "--recipe", tiny, *words, "--out", out)
    assert result.code == 0, result.err
    assert "Training: " in result.out
    assert "paper: RNN-SMNIST" in result.out
    assert "n/a [1]" in result.out
    assert "[1] measured on the CPU, as asked" in result.out
    assert "real: scikit-learn's digits" in result.out
    records = read(out / "records.jsonl")
    asked = [(each.configuration.phase, each.configuration.engine, each.configuration.batch) for each in records]
    assert asked == [("train", "eager", 200), ("infer", "eager", 3), ("infer", "onnxruntime", 3)]
    assert (out / "report.txt").read_text().startswith("Training: ")
    for number in (1, 2, 3):
        assert f"{number}/3 {tiny}: " in result.err
    assert f"written: {out / 'records.jsonl'}" in result.err
    peaks = [record.value("host_ram_peak").plain()["value"] for record in records]
    # torch alone is larger than all of the process that runs ONNX Runtime.
    assert peaks[2] < peaks[1]


def test_json_is_the_records_and_nothing_else(hstnn: Hstnn, tiny: Path) -> None:
    words = ["--phases", "train", "--max-steps", "1", "--gpus", "none", "--threads", "1"]
    result = hstnn("profile", tiny, *words, "--json")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert (record["schema"], record["version"], record["status"]) == ("hstnn-profile", 1, "measured")
    values = {value["name"]: value for value in record["values"]}
    assert values["epoch"]["note"] == "training extrapolated from 1 of 7 steps"
    assert values["cuda_allocated_peak"]["value"] is None
    assert values["cuda_allocated_peak"]["reason"]
    assert record["configuration"]["threads"] == record["facts"]["threads"] == 1
    assert record["facts"]["command"][:2] == ["hstnn", "profile"]


def test_a_row_that_fails_is_shown_and_changes_the_exit_code(hstnn: Hstnn, tiny: Path) -> None:
    words = ["--phases", "train", "--gpus", "none", "--time-limit", "0.05"]
    result = hstnn("profile", "--recipe", tiny, *words)
    assert result.code == 9
    assert "failed [1]" in result.out
    assert "the process was stopped after 0.05 s (the time limit)" in result.out
    assert "error: 1 of 1 configurations could not be measured: the process was stopped" in result.err


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["--recipe", "digts"], 2, "unknown recipe 'digts'", "did you mean 'digits'?"),
        (["digts"], 2, "unknown recipe 'digts'", "did you mean 'digits'?"),
        (["--recipe", "digits,smnsit"], 2, "unknown recipe 'smnsit'", "did you mean 'smnist'?"),
        (["--phases", "trian"], 2, "unknown phase 'trian'", "did you mean 'train'?"),
        (["--engines", "onnx"], 2, "unknown engine 'onnx'", "did you mean 'onnxruntime'?"),
        (["--batch", "0"], 2, "--batch 0 is not a positive number", "for example --batch 1,100"),
        (["--batch", "1,many"], 2, "--batch 'many' is not a whole number", "for example --batch 1,100"),
        (["--gpus", "first"], 2, "--gpus 'first' is not a whole number", "for example --gpus 0,1"),
        (["--gpus", ""], 2, "--gpus names no GPU", "for example --gpus 0,1, or leave it out"),
        (["--threads", "0"], 2, "--threads 0 is not a positive number", "for example --threads 2"),
        (["--max-steps", "0"], 2, "--max-steps 0 is not a positive number", "for example --max-steps 10"),
        (["--time-limit", "nan"], 2, "--time-limit nan is not a positive number", "for example --time-limit 300"),
        (["--ckpt", "nothing.pt"], 4, "nothing.pt does not exist", "give a best.pt from a run folder"),
        (["--data-dir", "nowhere"], 3, "the data folder nowhere (from --data-dir) does not exist", "create it"),
    ],
)
def test_what_cannot_be_measured_is_refused(hstnn: Hstnn, words: list[str], code: int, message: str, hint: str) -> None:
    result = hstnn("profile", *words)
    assert (result.code, result.out) == (code, "")
    assert result.error == message
    assert result.hint.startswith(hint)


def test_a_gpu_that_does_not_exist_is_an_error(hstnn: Hstnn) -> None:
    result = hstnn("profile", "--gpus", "0,99")
    assert result.code == 6
    if torch.cuda.is_available():
        assert result.error.startswith("GPU 99 does not exist: torch sees")
    else:
        assert result.error.startswith("GPU 0 was asked for, but ")
        assert "leave --gpus out" in result.hint


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(hstnn: Hstnn, blocked: Path) -> None:
    result = hstnn("profile", "--out", blocked)
    assert result.code == 5
    assert result.error.startswith(f"cannot write {blocked}")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_keeps_what_is_finished_and_ends_what_is_not(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--recipe", str(tiny), "--phases", "train,infer", "--gpus", "none", "--seconds", "0.2", "--out", str(out)]
    command = [sys.executable, "-m", "hstnn_deploy", "profile", *words, "--engines", "eager", "--batch", "1,2,3,4,5,6"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    # Tests that run in the background of a shell have SIGINT ignored, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not (out / "report.txt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "error: interrupted after" in said
    assert "Training: " in printed
    records = read(out / "records.jsonl")
    assert 1 <= len(records) < 7
    assert records[0].status == "measured"
    # A process that was just being started ends by itself when it finds its parent gone: give it the time to look.
    while _running(temporary) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _running(temporary)
    # Ours; torch keeps a cache folder of its own there, as it does everywhere.
    assert not list(temporary.glob("hstnn-profile-*"))


def _running(folder: Path) -> list[str]:
    """Return the processes that work in a folder: those of a session of its own, that a Ctrl-C does not reach."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().decode(errors="replace")
            if str(folder) in words:
                found.append(words)
    return found
