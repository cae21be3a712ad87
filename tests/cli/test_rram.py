"""Weights on RRAM and SRAM through the command line: four steps, draws of the variation, export, and wrong input."""

import json
import shutil
from pathlib import Path

import pytest

from hstnn_deploy.checkpoint import Checkpoint
from tests.conftest import Hstnn

FEW: list[str | Path] = ["--set", "train.epochs=1", "--set", "finetune.epochs=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def best(runs: Path, step: str) -> Path:
    return runs / f"rram-digits/plain/seed1111/{step}/best.pt"


def test_four_steps_are_trained_one_after_another(hstnn: Hstnn, runs: Path) -> None:
    refused = hstnn("train", "rram-digits", *FEW, "--out", runs, "--stage", "recover")
    assert refused.code == 5
    assert "there is no finished RRAM network" in refused.err
    assert "run --stage vat first" in refused.err
    trained = hstnn("train", "rram-digits", *FEW, "--out", runs)
    assert trained.code == 0, trained.err
    for step in ("baseline", "vat", "recover", "prune"):
        assert step in trained.out
        assert best(runs, step).exists()
    vat, recover = (Checkpoint.load(best(runs, step)) for step in ("vat", "recover"))
    assert recover.parameters["layers.0.fixed"].equal(vat.parameters["layers.0.weight"])
    assert not recover.parameters["layers.0.weight"].equal(vat.parameters["layers.0.weight"])
    listed = json.loads(hstnn("runs", "list", runs, "--json").out)
    assert "recover" in json.dumps(listed)
    assert {each["stage"] for each in listed["runs"]} == {"baseline", "vat", "recover", "prune"}
    again = hstnn("train", "rram-digits", *FEW, "--out", runs, "--stage", "prune")
    assert "already finished" in again.out


def test_accuracy_under_draws(hstnn: Hstnn, runs: Path) -> None:
    words: list[str | Path] = ["--ckpt", best(runs, "vat"), "--draws", "3", "--json"]
    first, second = (json.loads(hstnn("evaluate", *words).out) for _ in range(2))
    assert first == second
    assert len(first["draws"]) == 3
    assert len(set(first["draws"])) > 1
    assert first["sigma"] == pytest.approx(0.34597)
    adapted = json.loads(hstnn("evaluate", *words, "--readapt", "2").out)
    assert adapted["draws"] != first["draws"]
    shown = hstnn("evaluate", "--ckpt", best(runs, "vat"), "--draws", "3")
    assert "under 3 draws of the variation" in shown.out
    one = hstnn("evaluate", "--ckpt", best(runs, "vat"), "--draws", "1")
    assert "under 1 draw of the variation" in one.out
    assert "deviation and interval n/a: they need two draws" in one.out
    alone = json.loads(hstnn("evaluate", "--ckpt", best(runs, "vat"), "--draws", "1", "--json").out)
    assert (alone["deviation"], alone["half_width_95"]) == (None, None)
    assert hstnn("evaluate", "--ckpt", best(runs, "vat"), "--readapt", "2").code == 2


def test_a_step_goes_by_what_takes_part_in_it(hstnn: Hstnn, runs: Path) -> None:
    """Another threshold is another pruning and the same RRAM network; other bits are another RRAM network."""
    words: list[str | Path] = ["train", "rram-digits", *FEW, "--out", runs, "--stage"]
    shared = ["--set", "network.weights.prune.threshold=0.2"]
    assert "already finished" in hstnn(*words, "vat", *shared).out
    assert "already finished" in hstnn(*words, "recover", *shared).out
    refused = hstnn(*words, "recover", "--set", "network.weights.bits=2")
    assert refused.code == 5
    assert "network.weights.bits was 4, is 2" in refused.err
    assert "/vat was begun with another recipe" in refused.err


def test_an_evaluation_says_step_and_variation(hstnn: Hstnn, runs: Path) -> None:
    for step, said in (
        ("vat", "variation of sigma 0.346, drawn anew for every batch"),
        ("baseline", "without variation;"),
    ):
        shown = hstnn("evaluate", "--ckpt", best(runs, step)).out
        assert f"rram-digits {step}, " in shown
        assert f"weights: {said}" in shown
    shown = hstnn("evaluate", "--ckpt", best(runs, "vat"), "--draws", "0").out
    assert shown.endswith("weights: without variation\n")
    again = hstnn("train", "rram-digits", *FEW, "--out", runs, "--stage", "vat")
    assert "vat: already finished" in again.err + again.out
    assert "--draws 20" in again.out


def test_an_early_exit_is_measured_and_drawn(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    ckpt = best(runs, "baseline")
    found = json.loads(hstnn("evaluate", "--ckpt", ckpt, "--early-exit", "--json").out)
    assert {each["rule"] for each in found} == {"steps", "confidence", "scale"}
    whole = json.loads(hstnn("evaluate", "--ckpt", ckpt, "--json").out)["accuracy"]
    (last,) = (each for each in found if (each["rule"], each["threshold"]) == ("steps", 8))
    assert last["accuracy"] == pytest.approx(whole)
    drawn = hstnn("evaluate", "--ckpt", ckpt, "--early-exit", "--out", tmp_path / "exit.png")
    assert drawn.code == 0
    assert "scale: a step's largest mean scale is between" in drawn.out
    assert "weights: without variation" in drawn.out
    assert (tmp_path / "exit.png").stat().st_size > 5000
    assert hstnn("evaluate", "--ckpt", ckpt, "--out", tmp_path / "exit.png").code == 2


def test_what_is_deployed_is_exported_proved_and_profiled(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    ckpt = best(runs, "prune")
    exported = hstnn("export", "--ckpt", ckpt, "--draw", "1", "--onnx", "--out", tmp_path / "b")
    assert exported.code == 0, exported.err
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert manifest["verification"]["result"] == "passed"
    assert (manifest["weights"]["draw"], manifest["weights"]["step"]) == (1, "prune")
    assert hstnn("verify", tmp_path / "b", "--ckpt", ckpt).code == 0
    # Another step's weights are another network's.
    other = hstnn("verify", tmp_path / "b", "--ckpt", best(runs, "vat"))
    assert other.code == 8
    assert "check whether the bundle belongs to that checkpoint" in other.err
    assert "do not deploy this one" in other.err
    words: list[str | Path] = ["--phases", "work", "--seconds", "0.1"]
    profiled = hstnn("profile", "--ckpt", ckpt, *words)
    assert profiled.code == 0, profiled.err
    assert "layer1.conv" in profiled.out


@pytest.mark.matrix
def test_devices_without_variation_are_exported_as_integers_too(hstnn: Hstnn, tmp_path: Path) -> None:
    assert hstnn("train", "rram-digits", *FEW, "--out", tmp_path).code == 0
    ckpt, bundle = best(tmp_path, "prune"), tmp_path / "whole"
    whole = hstnn("export", "--ckpt", ckpt, "--onnx", "--integers", "--opset", "21", "--out", bundle)
    assert whole.code == 0, whole.err
    sizes = [(bundle / f"model.step{name}.onnx").stat().st_size for name in ("", ".integers")]
    assert sizes[1] < sizes[0]
    assert hstnn("verify", bundle, "--ckpt", ckpt, "--strict").code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["network.weights.bits=9"], ["network.weights.bits is", "8"]),
        (["network.weights.bits=5", "network.weights.step=vat"], ["no variation was measured at 5 bits"]),
        (["data.images.steps=9"], ["norms for 8 steps", "has 9"]),
        (["network.weights.prune.group=5"], ["network.weights.prune.group is 5", "16 input channels"]),
        (["data.images.mean=[0.1,0.2,0.3]"], ["data.images.mean has 3 numbers"]),
        (["network.weights.sram.start=nowhere.pt"], ["nowhere.pt does not exist"]),
    ],
)
def test_wrong_sections_are_refused(
    hstnn: Hstnn, runs: Path, tmp_path: Path, changes: list[str], words: list[str]
) -> None:
    options = [word for change in changes for word in ("--set", change)]
    stage = "recover" if "start" in changes[0] else "baseline"
    out = runs if stage == "recover" else tmp_path
    seed = ["--seed", "1111"]
    result = hstnn("train", "rram-digits", *FEW, *options, *seed, "--stage", stage, "--out", out)
    assert result.code in {2, 3, 4, 5}, result.err
    for word in words:
        assert word in result.err


def test_a_step_for_any_stack_with_convolutions(hstnn: Hstnn, tmp_path: Path) -> None:
    few = ["--set", "train.epochs=1"]
    assert hstnn("train", "stack-events", *few, "--stage", "baseline", "--out", tmp_path).code == 0
    assert (tmp_path / "stack-events/plain/seed1111/baseline/best.pt").exists()
    refused = hstnn("train", "stack-digits", *few, "--stage", "vat", "--out", tmp_path)
    assert refused.code == 2
    assert "network.weights is for convolutions" in refused.err
    plain = hstnn("evaluate", "--ckpt", tmp_path / "stack-events/plain/seed1111/baseline/best.pt", "--draws", "2")
    assert plain.code == 0


def test_a_recovery_of_another_rram_network_is_not_taken_for_finished(hstnn: Hstnn, tmp_path: Path) -> None:
    """With `finetune`, the recipe of a recovery does not say for how long its RRAM network was trained."""
    few: list[str | Path] = ["train", "rram-digits", "--out", tmp_path, "--set", "train.batches=2", "--stage"]
    few[4:4] = ["--set", "finetune.epochs=1", "--set", "finetune.batches=2"]
    assert hstnn(*few, "vat", "--set", "train.epochs=1").code == 0
    assert hstnn(*few, "recover", "--set", "train.epochs=1").code == 0
    again = hstnn(*few, "recover", "--set", "train.epochs=1")
    assert (again.code, "already finished" in again.out) == (0, True)
    shutil.rmtree(best(tmp_path, "vat").parent)
    assert hstnn(*few, "vat", "--set", "train.epochs=2").code == 0
    refused = hstnn(*few, "recover", "--set", "train.epochs=2")
    assert refused.code == 5
    assert "/recover was begun from another RRAM network than" in refused.err


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [("bits=5", 2, "no variation was measured at 5 bits"), ("sram.start=missing.pt", 4, "missing.pt does not exist")],
)
def test_what_is_wrong_with_a_later_step_is_said_before_the_first(
    hstnn: Hstnn, tmp_path: Path, change: str, code: int, said: str
) -> None:
    words: list[str | Path] = ["train", "rram-digits", *FEW, "--stage", "all", "--out", tmp_path / "runs"]
    refused = hstnn(*words, "--set", f"network.weights.{change}")
    assert refused.code == code
    assert said in refused.err
    assert not (tmp_path / "runs").exists()


def test_no_draw_is_deployed_where_no_variation_was_measured(hstnn: Hstnn, tmp_path: Path) -> None:
    words: list[str | Path] = ["train", "rram-digits", "--out", tmp_path, "--stage", "baseline"]
    few: list[str | Path] = ["--set", "train.epochs=1", "--set", "train.batches=1", "--set", "network.weights.bits=5"]
    assert hstnn(*words, *few).code == 0
    ckpt = best(tmp_path, "baseline")
    for asked in (["export", "--onnx", "--draw", "1"], ["evaluate", "--early-exit", "--draws", "1"]):
        refused = hstnn(*asked, "--ckpt", ckpt)
        assert refused.code == 2
        assert "no variation was measured at 5 bits" in refused.err
