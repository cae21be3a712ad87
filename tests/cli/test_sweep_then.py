"""`hstnn sweep --then`: networks of a sweep under disturbances, and their costs, each measured once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hstnn_deploy import processes
from hstnn_deploy.checkpoint import Checkpoint
from tests.conftest import PATIENCE, TINY, Hstnn, options

ONE: list[str | Path] = ["sweep", "digits", *options(TINY), "--cpus", "1", "--kinds", "rnn", "--seeds", "7"]

STAND_IN = """
import json, sys
with open(sys.argv[1], "a") as log:
    print(json.dumps(sys.argv[2:]), file=log)
if "/rnn/" in sys.argv[-1]:
    sys.exit("error: there is no room")
"""
"""A command that writes down how it was called."""


def test_networks_of_a_sweep_are_measured_once(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is of these checkpoints, `pick` joins all of it, and no process is started for it again."""
    out = tmp_path / "runs"
    result = hstnn(*ONE, "--out", out, "--then", "profile,robustness")
    assert result.code == 0, result.err
    assert [line for line in result.out.splitlines() if "robustness" in line or "profile" in line] == [
        "then robustness: 1 network, 0 already measured",
        "[1/1] robustness of digits rnn: measured",
        "then profile: 1 network, 0 already measured",
        "[1/1] profile of digits rnn: measured",
    ]
    best, then = Checkpoint.load(out / "digits/rnn/seed7/best.pt"), out / "then/digits/rnn"
    found = json.loads((then / "robustness.json").read_text())["networks"]
    assert [each["parameters"] for each in found] == [best.fingerprint]
    (picked,) = json.loads(hstnn("pick", out, "--json").out)["networks"]
    assert picked["robustness"] > 0
    assert picked["costs"]["energy"] > 0

    started: list[str] = []

    def command(_: str, *words: str) -> list[str]:
        started.append(words[0])
        return ["false"]

    monkeypatch.setattr(processes, "command", command)
    again = hstnn(*ONE, "--out", out, "--then", "robustness,profile")
    assert (again.code, started) == (0, []), again.err
    # A kill may leave one of two records.
    lines = (then / "records.jsonl").read_text().splitlines(keepends=True)
    (then / "records.jsonl").write_text("".join(lines[:1]))
    assert hstnn(*ONE, "--out", out, "--then", "robustness,profile").code != 0
    assert started == ["profile"]
    started.clear()
    # A measurement of another checkpoint is none of this one's.
    old = (then / "robustness.json").read_text()
    (then / "robustness.json").write_text(old.replace(best.fingerprint, "0" * 64))
    (then / "records.jsonl").unlink()
    result = hstnn(*ONE, "--out", out, "--then", "robustness,profile")
    assert result.error.startswith("2 measurements failed: robustness of digits rnn: ended with exit code 1")
    assert started == ["robustness", "profile"]


def test_one_that_fails_hides_no_other(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All seeds of a network go to one process, the best one first; why one failed is said."""
    script, log, out = tmp_path / "stand_in.py", tmp_path / "log", tmp_path / "runs"
    script.write_text(STAND_IN)
    real = processes.command

    def command(module: str, *words: str) -> list[str]:
        return [sys.executable, str(script), str(log), *words] if module == "cli.measurement" else real(module, *words)

    monkeypatch.setattr(processes, "command", command)
    three = [*ONE, "--kinds", "rnn,snn", "--seeds", "7,8"]
    result = hstnn(*three, "--out", out, "--then", "robustness", "--threads", "1")
    assert result.error == "1 measurement failed: robustness of digits rnn: there is no room"
    assert "robustness of digits snn: measured" in result.out
    for words in map(json.loads, log.read_text().splitlines()):
        best = [words[place + 1] for place, word in enumerate(words) if word == "--ckpt"]
        figures = [Checkpoint.load(Path(each)).metrics["test"]["accuracy"] for each in best]
        assert len(best) == 2
        assert figures == sorted(figures, reverse=True)
        assert "--device cpu --threads 1" in " ".join(words)


@pytest.mark.parametrize(
    ("then", "error", "hint"),
    [
        ("robust", "--then 'robust' is unknown", "did you mean 'robustness'?; give robustness, profile or both"),
        (",", "--then is empty", "give robustness, profile or both"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_is_trained(
    hstnn: Hstnn, tmp_path: Path, then: str, error: str, hint: str
) -> None:
    result = hstnn(*ONE, "--out", tmp_path / "runs", "--then", then)
    assert (result.error, result.hint, result.code) == (error, hint, 2)
    assert not (tmp_path / "runs").exists()


def test_a_cluster_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*ONE[:-6], "--out", tmp_path / "runs", "--then", "profile", "--executor", "ray")
    assert result.error == "--then measures on this machine, and does not work with --executor ray"


def test_what_measures_ends_when_the_sweep_is_gone(hstnn: Hstnn, tmp_path: Path) -> None:
    """Whatever ended it, kill -9 too, the other end of the standard input is closed then."""
    assert hstnn("train", "digits", *options(TINY), "--kind", "rnn", "--out", tmp_path).code == 0
    best = str(next(tmp_path.rglob("best.pt")))
    words = processes.command("cli.measurement", "robustness", "--ckpt", best, "--draws", "100000", "--device", "cpu")
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) != 0


@pytest.mark.matrix
def test_seeds_that_an_earlier_sweep_measured_are_measured_with_others(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "runs", ["--disturb", "float16", "--draws", "1"]
    assert hstnn(*ONE, "--out", out).code == 0
    file = out / "then/digits/rnn/robustness.json"
    file.parent.mkdir(parents=True)
    assert hstnn("robustness", out, *asked, "--out", file).code == 0
    real = processes.command
    monkeypatch.setattr(processes, "command", lambda module, *words: real(module, *words, *asked)
                        if module == "cli.measurement" else real(module, *words))  # fmt: skip
    result = hstnn(*ONE[:-1], "8", "--out", out, "--then", "robustness")
    assert result.code == 0, result.err
    assert {each["seed"] for each in json.loads(file.read_text())["networks"]} == {7, 8}
    # One of both seeds needs no other measurement.
    again = hstnn(*ONE, "--out", out, "--then", "robustness")
    assert "1 network, 1 already measured" in again.out
