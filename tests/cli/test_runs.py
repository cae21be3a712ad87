"""`hstnn runs`: what it lists and shows, what it removes and what never."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, settings
from tests.contents import raw


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a finished run, an interrupted one, a dead one, and a damaged one."""
    out = tmp_path / "runs"
    train(load_recipe("digits", [*settings(TINY), "kind=ffs", "ratio=0.25", "seed=1"]), out)
    recipe = load_recipe("digits", [*settings(TINY), "kind=snn"])
    for seed, status in {
        2: {"state": "interrupted", "epoch": 1, "epochs": 2, "updated": "2026-01-01T00:00:00Z"},
        3: {"state": "running", "pid": 2**22 + 1, "updated": "2026-01-01T00:00:00Z"},
        4: None,
    }.items():
        run = RunFolder(out / f"digits/snn/seed{seed}")
        run.claim_recipe({**recipe.for_stage("train"), "seed": seed})
        (run.path / "status.json").write_text(json.dumps(status) if status else "{")
    return out


def listed(hstnn: Hstnn, *words: str | Path) -> dict[str, dict[str, Any]]:
    result = hstnn("runs", "list", *words, "--json")
    assert (result.code, result.err) == (0, "")
    return {Path(run["folder"]).name: run for run in json.loads(result.out)["runs"]}


def test_list_says_of_each_run_what_it_is_and_how_far(hstnn: Hstnn, runs: Path) -> None:
    found = listed(hstnn, runs)
    assert {name: run["state"] for name, run in found.items()} == {
        "seed1": "finished",
        "seed2": "interrupted",
        "seed3": "dead",
        "seed4": "damaged",
    }
    first = found["seed1"]
    expected = {"recipe": "digits", "kind": "ffs", "ratio": 0.25, "seed": 1, "stage": "train", "epoch": 2, "epochs": 2}
    assert {key: first[key] for key in expected} == expected
    assert 0 <= first["test"]["accuracy"] <= 100
    assert first["bytes"] > 1000
    assert 0 <= first["age_seconds"] < 600
    assert found["seed2"]["ratio"] is None
    assert "status.json is damaged" in found["seed4"]["error"]
    shown = hstnn("runs", "list", runs, runs / "digits/ffs-0.25").out
    assert shown.count("ffs") == 1
    assert "None" not in shown
    for word in ("finished", "interrupted", "dead", "damaged", "1/2", f"{first['test']['accuracy']:.2f}"):
        assert word in shown


def test_a_folder_that_is_not_there_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    for words in (["list"], ["show"], ["rm"], ["logs"]):
        result = hstnn("runs", *words, tmp_path / "no")
        assert (result.code, result.out) == (5, "")
        assert f"{tmp_path / 'no'} does not exist" in result.error
    assert "no log" in hstnn("runs", "logs", tmp_path).error
    assert hstnn("runs", "list", tmp_path, "--json").out.split() == ["{", '"runs":', "[]", "}"]


def test_show_tells_all_of_one_run(hstnn: Hstnn, runs: Path) -> None:
    path = runs / "digits/ffs-0.25/seed1"
    shown = hstnn("runs", "show", path)
    assert shown.code == 0
    for word in ("digits (ffs, seed 1, stage train)", "finished", "2 of 2", "valid_accuracy", "validation", "best.pt"):
        assert word in shown.out
    found = json.loads(hstnn("runs", "show", path, "--json").out)
    assert found["recipe"]["adapt"]["epochs"] == 2
    assert found["environment"]["threads"] == 1
    assert "best.pt" in found["files"]
    assert hstnn("runs", "show", runs / "digits/snn/seed2").code == 0
    result = hstnn("runs", "show", runs / "digits/snn/seed4")
    assert (result.code, "status.json is damaged" in result.error) == (5, True)
    result = hstnn("runs", "show", runs / "digits/ffs-0.25")
    assert result.error == f"{runs / 'digits/ffs-0.25'} is not a run folder"
    assert str(path) in result.hint


def test_rm_removes_run_folders_and_nothing_else(hstnn: Hstnn, runs: Path) -> None:
    first, second = runs / "digits/ffs-0.25/seed1", runs / "digits/snn/seed2"
    before = raw(runs)
    for words in ([first], [first, runs, "--yes"], [first, runs / "digits/ffs-0.25", "--yes"]):
        result = hstnn("runs", "rm", *words)
        assert result.code in {2, 5}
        assert result.hint
    (runs / "link").symlink_to(first)
    assert "is a symbolic link" in hstnn("runs", "rm", runs / "link", "--yes").error
    (runs / "link").unlink()
    RunFolder(second).set_status("running")
    assert f"{second} is running" in hstnn("runs", "rm", first, second, "--yes").error
    RunFolder(second).set_status("interrupted")
    with RunFolder(second).lock():
        assert "in use by another" in hstnn("runs", "rm", second, "--yes").error
    assert {path for path in raw(runs) if path.name != ".lock"} == {path for path in before if path.name != ".lock"}

    result = hstnn("runs", "rm", first, second, runs / "digits/snn/seed4", "--yes", "--json")
    assert (result.code, len(json.loads(result.out)["removed"])) == (0, 3)
    assert set(listed(hstnn, runs)) == {"seed3"}
    assert (runs / "digits/ffs-0.25").is_dir()


def test_rm_refuses_what_holds_other_runs(hstnn: Hstnn, runs: Path) -> None:
    RunFolder(runs / "digits").claim_recipe({"stage": "train"})
    result = hstnn("runs", "rm", runs / "digits", "--yes")
    assert (result.code, "contains other runs" in result.error) == (2, True)


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("y", False)])
def test_rm_asks_where_there_is_somebody_to_ask(
    hstnn: Hstnn, runs: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: bool
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y")
    path = runs / "digits/ffs-0.25/seed1"
    result = hstnn("runs", "rm", path)
    assert str(path) in result.err
    assert path.exists() == left


def test_logs_are_printed_whole_or_their_ends(hstnn: Hstnn, runs: Path) -> None:
    for seed in (2, 3):
        RunFolder(runs / f"digits/snn/seed{seed}").log.write_text(f"first of {seed}\nlast of {seed}\n")
    path = runs / "digits/snn/seed2"
    assert hstnn("runs", "logs", path).out == "first of 2\nlast of 2\n"
    assert hstnn("runs", "logs", path, "-n", "1").out == "last of 2\n"
    both = hstnn("runs", "logs", runs).out
    assert both.startswith(f"==> {path} <==\nfirst of 2\n")
    assert both.endswith("last of 3\n")
    result = hstnn("runs", "logs", runs / "digits/ffs-0.25")
    assert (result.code, "there is no log" in result.error) == (5, True)


def test_logs_are_followed_until_the_run_ends(hstnn: Hstnn, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.claim_recipe({"stage": "train"})
    run.log.write_text("begun\n")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run.set_status("running", pid=other.pid, host=os.uname().nodename)
    assert run.state == "running"

    def end() -> None:
        time.sleep(0.5)
        with run.log.open("a") as log:
            log.write("ended\n")
        other.communicate(b"\n")

    thread = threading.Thread(target=end)
    thread.start()
    try:
        assert hstnn("runs", "logs", tmp_path, "--follow").out == "begun\nended\n"
    finally:
        thread.join()


@pytest.mark.parametrize("ratio", ['"much"', "[0.5]", "true", "1" + "0" * 400])
def test_a_recipe_whose_ratio_is_no_number_is_a_damaged_run(hstnn: Hstnn, runs: Path, ratio: str) -> None:
    path = runs / "digits/ffs-0.25/seed1/recipe.yaml"
    path.write_text(re.sub("^ratio: .*$", f"ratio: {ratio}", path.read_text(), flags=re.MULTILINE))
    assert listed(hstnn, runs)["seed1"]["state"] == "damaged"
    shown = hstnn("runs", "list", runs)
    assert (shown.code, shown.err) == (0, "")
    assert "damaged" in shown.out
