"""A trace holds one training step and one inference, and what torch did within them; and is refused what it is not."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.profile.phases.trace import INFERENCE, TRAINING
from tests.conftest import Hstnn

WORDS = ("profile", "digits", "--kinds", "hybrid", "--gpus", "none", "--train-batch", "7", "--threads", "1")


def events(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    found = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)["traceEvents"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_both_steps_stand_in_the_trace_with_what_torch_does(tmp_path: Path, hstnn: Hstnn, name: str) -> None:
    result = hstnn(*WORDS, "--trace", tmp_path / name)
    assert result.code == 0, result.err
    assert "batch 7, 8 time steps, cpu" in result.out
    assert [path.name for path in tmp_path.iterdir()] == [name]
    every = events(tmp_path / name)
    spans = {}
    for what in (TRAINING, INFERENCE):
        (span,) = [each for each in every if each.get("name") == what and each.get("ph") == "X"]
        spans[what] = (span["ts"], span["ts"] + span["dur"])
    assert spans[TRAINING][1] <= spans[INFERENCE][0]

    def inside(what: str, part: str) -> bool:
        begin, end = spans[what]
        return any(part in str(each.get("name")) and begin <= each.get("ts", 0) <= end for each in every)

    assert inside(TRAINING, "aten::mm") or inside(TRAINING, "aten::addmm")
    assert inside(TRAINING, "Optimizer.step")
    assert not inside(INFERENCE, "Optimizer.step")
    assert not inside(INFERENCE, "Backward")


def test_it_says_what_was_traced_as_json(tmp_path: Path, hstnn: Hstnn) -> None:
    result = hstnn(*WORDS, "--trace", tmp_path / "t.json", "--json")
    found = json.loads(result.out)
    assert (found["batch"], found["steps"], found["device"]) == (7, 8, "cpu")
    assert found["operations"][TRAINING] > found["operations"][INFERENCE] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--trace", "t.txt"], "does not end in .json or .json.gz"),
        (["--trace", "t.json"], "--trace needs one network"),
        (["digits", "--kinds", "snn,rnn", "--trace", "t.json"], "there are 2 configurations"),
        (["digits", "--seconds", "3", "--trace", "t.json"], "so --seconds has no effect"),
        (["digits", "--out", "records", "--trace", "t.json"], "so --out has no effect"),
        (["net.onnx", "--trace", "t.json"], "--trace works only for hstnn's own networks"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hstnn: Hstnn, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hstnn("profile", *words)
    assert result.code == 2
    assert said in " ".join(result.err.split())
    assert list(tmp_path.iterdir()) == []
