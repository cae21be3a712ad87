"""Values for targets through the command line: trained, measured, exported with proof, verified, run, and reported."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.runtime.manifest import read_manifest
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.export.runtime.values import in_words, valued
from tests.conftest import Hstnn
from tests.values import SPIKING, in_place_of_the_digits, some_values

NAMED = [*SPIKING, "loss={name: regression, outputs: [angle, speed]}", "train.epochs=2", "train.lr=0.02"]


def words(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.fixture(autouse=True, scope="module")
def _values() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        in_place_of_the_digits(patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


@pytest.fixture
def best(hstnn: Hstnn, folder: Path) -> Path:
    """A trained network, trained once."""
    path = folder / "runs/stack-digits/plain/seed1111/best.pt"
    if not path.exists():
        trained = hstnn("train", "stack-digits", *words(NAMED), "--out", folder / "runs")
        assert trained.code == 0, trained.err
        assert "test rmse" in trained.out
    return path


@pytest.fixture
def bundle(hstnn: Hstnn, folder: Path, best: Path) -> Path:
    """Its bundle, proved."""
    if not (folder / "bundle").exists():
        written = hstnn("export", "--ckpt", best, "--out", folder / "bundle")
        assert written.code == 0, written.err
    return folder / "bundle"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Three samples x[T, B, I]."""
    np.save(tmp_path / "x.npy", some_values(3, 9).batch(torch.arange(3), torch.device("cpu")).x.numpy())
    return tmp_path / "x.npy"


def test_evaluate_says_the_error_of_each_output(hstnn: Hstnn, best: Path) -> None:
    found = json.loads(hstnn("evaluate", "--ckpt", best, "--json").out)
    assert [each["name"] for each in found["outputs"]] == ["angle", "speed"]
    mean = np.mean([each["rmse"] ** 2 for each in found["outputs"]])
    assert found["rmse"] == pytest.approx(mean**0.5)
    assert found["loss"] == pytest.approx(mean)
    shown = hstnn("evaluate", "--ckpt", best).out
    assert f"rmse {found['rmse']:.4g}, loss {found['loss']:.4g} (100 samples" in shown
    assert f"output speed: rmse {found['outputs'][1]['rmse']:.4g}, R² {found['outputs'][1]['r2']:.4f}" in shown


def test_an_early_exit_is_refused(hstnn: Hstnn, best: Path, folder: Path) -> None:
    measured = hstnn("evaluate", "--ckpt", best, "--early-exit")
    assert (measured.code, measured.error) == (2, "measuring an early exit needs samples with a class")
    exported = hstnn("export", "--ckpt", best, "--exit", "confidence=0.9", "--out", folder / "none")
    assert exported.error == "an exit needs a network that answers with a class"
    assert not (folder / "none").exists()


def test_a_bundle_is_proved_on_the_test_split_and_verified(hstnn: Hstnn, best: Path, bundle: Path) -> None:
    facts = read_manifest(bundle)
    assert facts["network"]["answer"] == {"kind": "values", "names": ["angle", "speed"]}
    assert facts["verification"]["result"] == "passed"
    figure = f"100 of 100 equal; rmse {facts['metrics']['test']['rmse']:.4g}"
    checks = [each for each in facts["verification"]["checks"] if each["name"] == "answers on the test split"]
    assert [figure in each["figure"] for each in checks] == [True, True]
    meaning = facts["files"]["model.window.onnx"]["outputs"][0]["meaning"]
    assert "a value for each output" in meaning
    verified = hstnn("verify", bundle, "--ckpt", best)
    assert verified.code == 0, verified.err
    assert "test rmse = measured" in verified.out


def test_a_bundle_that_names_no_values_is_not_the_recipes(hstnn: Hstnn, bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "bundle")
    facts = read_manifest(other)
    del facts["network"]["answer"], facts["seal"]
    write_manifest(other, facts)
    assert "network.answer is None" in hstnn("verify", other).error


def test_a_metric_that_is_not_measured_is_found(hstnn: Hstnn, bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "bundle")
    facts = read_manifest(other)
    facts["metrics"]["test"]["rmse"] *= 0.9
    del facts["seal"]
    write_manifest(other, facts)
    refused = hstnn("verify", other)
    assert refused.code != 0
    assert "test rmse = measured" in refused.out + refused.err


def test_run_gives_values_by_name(hstnn: Hstnn, bundle: Path, samples: Path) -> None:
    outputs = Session(bundle).run(np.load(samples))
    found = json.loads(hstnn("run", bundle, "--input", samples, "--json").out)["results"][0]["samples"]
    assert found == [{"values": [float(v) for v in row], "names": ["angle", "speed"]} for row in outputs]
    shown = hstnn("run", bundle, "--input", samples).out.splitlines()
    assert shown[2] == f"{samples} [2]: angle = {outputs[2, 0]:.6g}, speed = {outputs[2, 1]:.6g}"
    streamed = hstnn("run", bundle, "--input", samples, "--stream").out.splitlines()
    assert streamed[7].startswith(f"step 8 of 8: angle = {outputs[0, 0]:.6g}"[:30])
    assert "class" not in "".join(shown + streamed)
    refused = hstnn("run", bundle, "--input", samples, "--continue", "3")
    assert refused.error == "--continue is for language models; this network predicts values"


def test_outputs_without_names_are_in_their_order(bundle: Path, samples: Path) -> None:
    session = Session(bundle)
    session.manifest["network"]["answer"]["names"] = []
    (first, *_) = valued(session, session.run(np.load(samples)))
    assert first.keys() == {"values"}
    assert in_words({"values": [1.5, -2.0]}) == "values 1.5, -2"


def test_raw_input_and_smaller_graphs(hstnn: Hstnn, best: Path, folder: Path) -> None:
    asked: list[str | Path] = ["--preprocess", "--fp16", "--keep-all", "--standalone", folder / "alone"]
    written = hstnn("export", "--ckpt", best, "--out", folder / "raw", *asked, "--json")
    assert written.code == 0, written.err
    facts: Any = json.loads(written.out)
    (raw, *_) = [each["figure"] for each in facts["verification"]["checks"] if "from raw samples" in each["name"]]
    assert "100 of 100 answers equal" in raw
    smaller = facts["smaller"][0]
    assert smaller["metric"] == "rmse"
    share = 100 * (smaller["value"] - smaller["value_before"]) / smaller["value_before"]
    assert smaller["lost"] == pytest.approx(share)
    (loses,) = {each["name"] for each in facts["verification"]["checks"] if "fp16 loses" in each["name"]}
    figures = [each["figure"] for each in facts["verification"]["checks"] if each["name"] == loses]
    assert "% lost, at most 0.5 allowed" in figures[0]


def test_the_standalone_runner_gives_values(hstnn: Hstnn, best: Path, folder: Path, samples: Path) -> None:
    alone = folder / "runs-alone"
    written = hstnn("export", "--ckpt", best, "--out", folder / "b", "--no-verify", "--standalone", alone)
    assert written.code == 0, written.err
    found = subprocess.run(
        [sys.executable, alone / "run.py", "--input", samples], capture_output=True, text=True, check=True
    )
    outputs = Session(alone / "bundle").run(np.load(samples))
    assert found.stdout.splitlines()[1] == f"sample 1: angle = {outputs[1, 0]:.6g}, speed = {outputs[1, 1]:.6g}"


def test_reports_say_that_lower_is_better(hstnn: Hstnn, best: Path, folder: Path, tmp_path: Path) -> None:
    shown = hstnn("report", folder / "runs").out
    value = json.loads(hstnn("evaluate", "--ckpt", best, "--json").out)["rmse"]
    assert f"{value:.4g}" in shown
    assert "RMSE: lower is better" in shown
    page = hstnn("report", folder / "runs", "--out", tmp_path / "page.html")
    assert page.code == 0, page.err
    worse = hstnn("compare", folder / "runs", folder / "runs", "--fail-if", "rmse > 0.01")
    assert worse.code == 0, worse.err
    assert f"{value:.4f}"[:6] in worse.out
    assert hstnn("compare", folder / "runs", folder / "runs", "--fail-if", "rmse >= 0").code == 14
    listed = json.loads(hstnn("runs", "list", folder / "runs", "--json").out)
    assert "rmse" in json.dumps(listed)


def test_an_error_under_disturbances_has_four_digits_whatever_its_unit(hstnn: Hstnn, best: Path) -> None:
    asked: list[str | Path] = ["robustness", "--ckpt", best, "--disturb", "gaussian=0.1,0.2", "--draws", "1"]
    (network,) = json.loads(hstnn(*asked, "--json").out)["networks"]
    (curve,) = network["curves"]
    shown = hstnn(*asked).out
    assert f"undisturbed {network['clean']:.4g}" in " ".join(shown.split())
    area, worst = curve["scores"]["area"]["mean"], curve["scores"]["worst"]
    assert {f"{each[0]:.4g}" for each in curve["values"]} | {f"{area:.4g}", f"{worst:.4g}"} <= set(shown.split())


def test_show_says_the_target(hstnn: Hstnn, best: Path) -> None:
    shown = hstnn("show", best, "--index", "3").out
    target = some_values(100, 2).target[3]
    assert f"no. 3 of the test split of digits, target {target[0]:.4g}, {target[1]:.4g}" in shown


def test_classes_are_not_taken_for_values(hstnn: Hstnn, tmp_path: Path) -> None:
    refused = hstnn("train", "stack-digits", *words([*SPIKING, "loss=cross-entropy"]), "--out", tmp_path)
    assert refused.error == "loss is cross-entropy, but digits has values for each sample, not a class"
    assert refused.hint == "--set loss=regression"
    assert list(tmp_path.iterdir()) == []


def test_weights_on_devices_are_measured_under_draws(hstnn: Hstnn, folder: Path, tmp_path: Path) -> None:
    layers = "[{conv: 2, kernel: 3, bias: false}, {lif: {tau: 2}}, flatten, {linear: 2}]"
    changes = ["loss=regression", f"network.layers={layers}", "train.epochs=1", "batch=100"]
    trained = hstnn("train", "rram-digits", *words(changes), "--out", folder / "rram", "--stage", "vat")
    assert trained.code == 0, trained.err
    ckpt = folder / "rram/rram-digits/plain/seed1111/vat/best.pt"
    found = json.loads(hstnn("evaluate", "--ckpt", ckpt, "--draws", "3", "--json").out)
    assert found["metric"] == "rmse"
    shown = hstnn("evaluate", "--ckpt", ckpt, "--draws", "3").out
    assert f"worst {max(found['draws']):.4g}, best {min(found['draws']):.4g}" in shown
    curves = hstnn("evaluate", "--ckpt", ckpt, "--draws", "3", "--variation", "0,1", "--out", tmp_path / "out")
    assert curves.code == 0, curves.err
    assert "rmse under variation" in curves.out
    table = (tmp_path / "out/variation.csv").read_text().splitlines()
    row = dict(zip(table[0].split(","), table[2].split(","), strict=True))
    assert float(row["worst"]) == max(found["draws"])
    assert float(row["best"]) == min(found["draws"])
