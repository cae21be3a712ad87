"""`hstnn profile`: from options to tables, records and files, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.run.launch import Observer
from hstnn_deploy.recipe.load import load_recipe
from tests.conftest import PATIENCE, TINY, Hstnn, settings
from tests.profile.conftest import measured


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(load_recipe("digits", settings({**TINY, "experiment": "RNN-SMNIST"})).yaml())
    return path


def test_training_and_inference_are_measured_and_written(hstnn: Hstnn, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--gpus", "none", "--seconds", "0.3", "--engines", "fused,onnxruntime", "--batch", "3"]
    result = hstnn("profile", "--recipe", tiny, *words, "--out", out)
    assert result.code == 0, result.err
    assert "Training: " in result.out
    assert "paper: RNN-SMNIST" in result.out
    assert "n/a [1]" in result.out
    assert "[1] measured on the CPU, as requested" in result.out
    assert "real: scikit-learn's digits" in result.out
    records = read(out / "records.jsonl")
    asked = [(each.configuration.phase, each.configuration.engine, each.configuration.batch) for each in records]
    assert asked == [
        ("work", "fused", 200),
        ("train", "fused", 200),
        ("infer", "fused", 3),
        ("infer", "onnxruntime", 3),
    ]
    assert (out / "report.txt").read_text().startswith("Resources in the paper's columns")
    assert result.err.splitlines().count(str(tiny)) == 1
    for number in (1, 2, 3, 4):
        assert f"\n{number}/4 " in result.err
    assert f"written: {out / 'records.jsonl'}" in result.err
    peaks = [record.value("host_ram_peak").plain()["value"] for record in records]
    # torch alone is larger than all of the process that runs ONNX Runtime.
    assert peaks[3] < peaks[2]
    assert [span.name for span in records[1].spans] == ["import", "load", "build", "warm-up", "training", "evaluation"]
    assert len(records[1].timeline["columns"]["t"]) > 10
    assert len(records[2].series["latency"]) == records[2].facts["calls"]


def test_json_is_the_records_and_nothing_else(hstnn: Hstnn, tiny: Path) -> None:
    words = ["--phases", "train", "--max-steps", "1", "--gpus", "none", "--threads", "1"]
    result = hstnn("profile", tiny, *words, "--json")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert (record["schema"], record["version"], record["status"]) == ("hstnn-profile", 3, "measured")
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
        (["--experiments", "rnn-smist"], 2, "unknown experiment 'rnn-smist'", "did you mean 'rnn-smnist'?"),
        (["digits", "--kinds", "gru"], 2, "unknown kind 'gru'", "known: ffs, hybrid"),
        (["digits", "--ratios", "half"], 2, "--ratios 'half' is not a number", "for example --ratios 0.25,0.5"),
        (["digits", "--precision", "fp8"], 2, "unknown precision 'fp8'", "did you mean"),
        (["digits", "--steps", "0"], 2, "--steps 0 is not a positive number", "for example --steps 28,56"),
        (["digits", "--data", "fake"], 2, "unknown data source 'fake'", "known: auto, real, synthetic"),
        (["digits", "--instances", "0"], 2, "--instances 0 is not a positive number", "for example --instances 5"),
        (["digits", "--resume"], 2, "--resume needs --out", "give the folder"),
        (["--matrix", "none.yaml"], 2, "cannot read none.yaml: No such file or directory", "give a YAML file"),
        (["--time-limit", "nan"], 2, "--time-limit must be positive (got nan)", "for example --time-limit 300"),
        (["--address", "h:1"], 2, "--address needs --executor ray", "add --executor ray"),
        (["--ckpt", "nothing.pt"], 4, "nothing.pt does not exist", "give a best.pt"),
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
        assert result.error.startswith("GPU 0 was requested, but ")
        assert "leave --gpus out" in result.hint


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(hstnn: Hstnn, blocked: Path) -> None:
    result = hstnn("profile", "--out", blocked)
    assert result.code == 5
    assert result.error.startswith(f"cannot write {blocked}")


@pytest.mark.skipif(sys.platform == "win32", reason="it sends POSIX signals: it runs on Linux and macOS")
def test_ctrl_c_keeps_what_is_finished_and_ends_what_is_not(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--recipe", str(tiny), "--phases", "train,infer", "--gpus", "none", "--seconds", "0.2", "--out", str(out)]
    many = ",".join(map(str, range(1, 50)))  # far from done when the first one is
    command = [sys.executable, "-m", "hstnn_deploy", "profile", *words, "--engines", "fused", "--batch", many]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    # Tests that run in the background of a shell have SIGINT ignored, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + PATIENCE
    while not (out / "report.txt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "error: interrupted after" in said
    assert "Training: " in printed
    assert "hint: run the same command with --resume to continue" in said
    records = read(out / "records.jsonl")
    assert 1 <= len(records) < 50
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


def test_instances_beyond_memory_are_refused_before_anything_is_started(hstnn: Hstnn) -> None:
    result = hstnn("profile", "digits", "--gpus", "none", "--phases", "train", "--instances", "1000000")
    assert (result.code, result.out) == (10, "")
    assert result.error.startswith("1000000 instances of digits need at least 20")
    assert result.error.endswith("GB")
    assert result.hint.startswith("at most ")


def test_instances_are_one_row_from_the_least_to_the_most(hstnn: Hstnn, tiny: Path, tmp_path: Path) -> None:
    words = ["--phases", "train", "--max-steps", "2", "--gpus", "none", "--threads", "1", "--seconds", "0.5"]
    result = hstnn("profile", tiny, *words, "--instances", "2", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    records = read(tmp_path / "out" / "records.jsonl")
    assert [(each.configuration.instance, each.status) for each in records] == [(1, "measured"), (2, "measured")]
    epochs = sorted(str(each.value("epoch").plain()["value"]) for each in records)
    assert epochs[0] != epochs[1]
    assert "2 instances" in result.out
    (row,) = [line for line in result.out.splitlines() if line.strip().startswith("epoch (both passes)")]
    assert row.count("~") == 2
    assert " to " in row


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """Let nothing be measured: the figures are made up. Holds what was asked for."""
    asked: list[Configuration] = []

    def run(configurations: list[Configuration], observer: Observer, _limit: float) -> Iterator[Record]:
        for number, each in enumerate(configurations, 1):
            asked.append(each)
            record = replace(measured(each), facts={**measured(each).facts, "number": len(asked)})
            observer.finished(record, number, len(configurations), 0.0)
            yield record

    monkeypatch.setattr("hstnn_deploy.profile.run.launch.run", run)
    return asked


def test_what_is_measured_is_kept_and_the_rest_is_measured(
    hstnn: Hstnn, tiny: Path, tmp_path: Path, pretended: list[Configuration]
) -> None:
    out = tmp_path / "out"
    words: list[str | Path] = ["profile", tiny, "--phases", "train", "--max-steps", "1", "--gpus", "none", "--out", out]
    assert hstnn(*words, "--threads", "1").code == 0
    (first,) = read(out / "records.jsonl")
    result = hstnn(*words, "--threads", "2,1", "--resume")
    assert result.code == 0, result.err
    assert [each.threads for each in pretended] == [1, 2]
    records = read(out / "records.jsonl")
    assert [record.configuration.threads for record in records] == [2, 1]
    assert records[1] == first
    # What is not asked for now is not lost either; without --resume, it is replaced.
    assert hstnn(*words, "--threads", "2", "--resume").code == 0
    assert {record.configuration.threads for record in read(out / "records.jsonl")} == {1, 2}
    assert len(pretended) == 2
    assert hstnn(*words, "--threads", "2").code == 0
    assert {record.configuration.threads for record in read(out / "records.jsonl")} == {2}


def test_records_that_cannot_be_read_are_not_overwritten_by_resuming(hstnn: Hstnn, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for text, message in (("{", "line 1: not JSON"), ('{"schema": "hstnn-profile", "version": 1}', "schema version 1")):
        path.write_text(text)
        result = hstnn("profile", tiny, "--gpus", "none", "--out", tmp_path, "--resume")
        assert result.code == 9
        assert message in result.error
        assert path.read_text() == text


def test_a_matrix_is_the_options_and_those_given_come_first(
    hstnn: Hstnn, tiny: Path, tmp_path: Path, pretended: list[Configuration]
) -> None:
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        f"recipe: {tiny}\nphases: train\nkinds: [rnn, snn]\ngpus: none\nmax-steps: 1\nthreads: [1]\nseconds: 1\n"
    )
    result = hstnn("profile", "--matrix", matrix, "--kinds", "snn", "--json")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert record["configuration"]["recipe"]["kind"] == "snn"
    assert [(each.kind, each.max_steps, each.threads, each.device) for each in pretended] == [("snn", 1, 1, "cpu")]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[", "is not YAML", ""),
        ("- digits", "is not a mapping of keys to values", "for example"),
        ("batches: 1", "unknown key 'batches'", "did you mean 'batch'?"),
        ("batch: many", "batch is 'many', not a whole number", ""),
        ("batch: [1, true]", "batch is True, not a whole number", ""),
        ("instances: [1]", "instances is a list", "give one value"),
        ("batch: []", "--batch needs a number", "for example"),
    ],
)
def test_a_matrix_that_is_none_is_refused(hstnn: Hstnn, tmp_path: Path, text: str, message: str, hint: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    result = hstnn("profile", "--matrix", path)
    assert result.code == 2
    assert message in result.error
    assert result.hint.startswith(hint)


def test_the_largest_batch_that_fits_is_found(hstnn: Hstnn, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(asked: list[Configuration], *_: object) -> list[Record]:
        (each,) = asked
        assert each.memory_limit is not None
        assert each.batch == each.recipe["batch"]
        fits = each.batch <= 300
        facts = {"cpu": "a processor", "cores": 2, "versions": {}}
        return [
            Record(each, "measured" if fits else "failed", facts=facts, reason="" if fits else "out of host memory")
        ]

    monkeypatch.setattr("hstnn_deploy.profile.run.launch.run", run)
    result = hstnn("profile", tiny, "--phases", "train", "--find-batch", "--gpus", "none", "--json")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    largest, not_any_more = record["values"][:2]
    assert 300 - 300 // 16 <= largest["value"] <= 300 < not_any_more["value"]
    assert not_any_more["note"] == "out of host memory"
    assert record["facts"]["trials"][0] == {"batch": 64, "fits": True, "reason": ""}
    assert record["configuration"]["find_batch"]
    assert f"largest batch {largest['value']} ({not_any_more['value']} does not fit)" in result.err
    result = hstnn("profile", tiny, "--phases", "train", "--find-batch", "--gpus", "none")
    assert "does not fit: out of host memory" in result.out
    assert "Largest batch: it starts at 64 and doubles until a batch does not fit" in " ".join(result.out.split())
    assert "Warm-up" not in result.out
    assert "Training: " not in result.out
