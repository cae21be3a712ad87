"""`hstnn export` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from hstnn_deploy.export.bundle import export as bundle_module
from hstnn_deploy.export.bundle import quantise
from hstnn_deploy.export.proof import comparisons, samples
from tests.conftest import PATIENCE, TINY, Hstnn, options
from tests.export.cases import Case


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "hstnn_deploy", "train", "digits", *options(TINY), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return out / "digits" / "hybrid" / "seed1111"


def test_without_a_format_onnx_is_written_beside_the_checkpoint_and_proved(hstnn: Hstnn, runs: Path) -> None:
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt")
    assert result.code == 0, result.err
    folder = runs / "ratio-0.5" / "bundle"
    assert {path.name for path in folder.iterdir()} == {"model.window.onnx", "model.step.onnx", "manifest.json"}
    for words in ("Verification of model.window.onnx", "replay in ONNX Runtime", "360 of 360 equal", "passed"):
        assert words in result.out


def test_json_is_the_manifest_and_nothing_else(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--pt2", "--out", tmp_path / "b", "--json")
    assert result.code == 0
    answer = json.loads(result.out)
    assert answer["verification"]["result"] == "passed"
    assert list(answer["files"]) == ["model.pt2"]


def test_no_verify_says_so(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    result = hstnn(
        "export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--torchscript", "--no-verify", "--out", tmp_path / "b"
    )
    assert result.code == 0
    assert "Not verified" in result.out


def test_a_redundant_network_needs_to_be_asked_for(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = ("export", "--ckpt", runs / "adapt" / "best.pt", "--torchscript", "--out", tmp_path / "b")
    refused = hstnn(*words)
    assert refused.code == 7
    assert "redundant" in refused.error
    assert "--allow-redundant" in refused.hint
    assert not (tmp_path / "b").exists()
    assert hstnn(*words, "--allow-redundant").code == 0


def test_a_failed_check_is_an_error_with_its_own_exit_code(
    hstnn: Hstnn, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emptied(*_: object, **__: object) -> list[Path]:
        path = Path(str(_[1])) / "model.ts"
        path.write_bytes(b"not a graph")
        return [path]

    monkeypatch.setattr(bundle_module, "write_graphs", emptied)
    out = tmp_path / "b"
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--torchscript", "--out", out)
    assert result.code == 8
    assert "1 of 1 checks failed" in result.error
    assert "unverified" in result.hint
    assert (out / "model.unverified.ts").read_bytes() == b"not a graph"


def test_without_the_test_data_the_check_says_not_run(
    hstnn: Hstnn, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hstnn_deploy.errors import DataError

    def missing(*_: object) -> None:
        raise DataError("the data is not here")

    monkeypatch.setattr(samples, "load", missing)
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--json", "--out", tmp_path / "b")
    assert result.code == 0
    checks = json.loads(result.out)["verification"]["checks"]
    answers = [check for check in checks if check["name"].startswith("answers on the test split")]
    assert {(check["outcome"], check["figure"]) for check in answers} == {
        ("not run", "no test data: the data is not here")
    }
    assert len(answers) == 3, "of the window in two engines, and of the step"


def test_auto_keeps_the_fastest_form_and_says_so_with_figures(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = (
        "export",
        "--ckpt",
        runs / "ratio-0.5" / "best.pt",
        "--form",
        "auto",
        "--no-verify",
        "--out",
        tmp_path / "b",
    )
    result = hstnn(*words, "--json")
    assert result.code == 0, result.err
    choice = json.loads(result.out)["form_choice"]
    assert set(choice["milliseconds"]) == {"window", "step"}
    assert choice["form"] == min(choice["milliseconds"], key=choice["milliseconds"].get)
    assert list(json.loads(result.out)["files"]) == [f"model.{choice['form']}.onnx"]
    assert (choice["steps"], choice["batch"]) == (8, 1)
    shown = hstnn(*words, "--dynamic", "batch", "--steps", "5", "--batch", "3")
    assert shown.code == 0
    for words_shown in ("Form: kept ", "unrolled ", " ms", "for 5 steps at batch 3"):
        assert words_shown in shown.out


def test_an_unrolled_graph_is_of_the_datas_length_and_proved(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = (
        "export",
        "--ckpt",
        runs / "ratio-0.5" / "best.pt",
        "--form",
        "unrolled",
        "--out",
        tmp_path / "b",
        "--json",
    )
    result = hstnn(*words)
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert answer["verification"]["result"] == "passed"
    assert answer["files"]["model.unrolled.onnx"]["inputs"][0]["shape"] == [8, "B", 8]
    refused = hstnn(*words, "--dynamic", "time,batch")
    assert (refused.code, "time axis is fixed" in refused.error) == (2, True)
    both = hstnn(*words, "--form", "auto")
    assert (both.code, "--form auto chooses" in both.error) == (2, True)


def test_smaller_graphs_stand_in_a_table_with_what_they_cost(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = ("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--form", "step", "--out", tmp_path / "b")
    result = hstnn(*words, "--int8", "static", "--fp16", "--max-drop", "100", "--keep-all")
    assert result.code == 0, result.err
    for shown in ("Smaller graphs", "model.step.int8-static.onnx", "model.step.fp16.onnx", "spikes flipped", "kept"):
        assert shown in result.out
    verified = hstnn("verify", tmp_path / "b", "--json")
    assert verified.code == 0, verified.err
    names = {check["name"] for check in json.loads(verified.out)["checks"]}
    assert {"int8-static loses little", "fp16 loses little"} <= names


def test_a_smaller_graph_that_gains_nothing_is_not_kept_and_says_so_with_figures(
    hstnn: Hstnn, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "in_turns", lambda calls: {p: 0.003 if "int8" in p.name else 0.002 for p in calls})
    ckpt = runs / "ratio-0.5" / "best.pt"
    words = ("export", "--ckpt", ckpt, "--form", "step", "--int8", "dynamic", "--max-drop", "100", "--no-verify")
    result = hstnn(*words, "--out", tmp_path / "b")
    assert result.code == 0, result.err
    assert "not kept" in result.out
    assert "model.step.int8-dynamic.onnx is not kept: larger, slower (" in result.out
    assert "of the size before; 3 ms, 1.50 of the time before); --keep-all keeps it" in result.out
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"model.step.onnx", "manifest.json"}
    facts = json.loads(hstnn(*words, "--out", tmp_path / "b", "--json").out)
    assert facts["smaller"] == []
    assert facts["not_kept"][0]["time_ratio"] == 1.5
    kept = json.loads(hstnn(*words, "--out", tmp_path / "c", "--keep-all", "--json").out)
    assert [each["file"] for each in kept["smaller"]] == ["model.step.int8-dynamic.onnx"]
    assert kept["not_kept"] == []


def test_states_inside_in_an_older_opset_from_export_to_run(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = ("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--form", "window", "--opset", "17")
    result = hstnn(*words, "--states", "inside", "--out", tmp_path / "b", "--json")
    assert result.code == 0, result.err
    ((name, facts),) = json.loads(result.out)["files"].items()
    assert (name, facts["states"], facts["opset"]) == ("model.window.inside.onnx", "inside", 17)
    assert hstnn("verify", tmp_path / "b").code == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((8, 2, 8), np.float32))
    both = hstnn(*words, "--states", "both", "--out", tmp_path / "c", "--no-verify")
    assert both.code == 0, both.err
    answers = [
        json.loads(hstnn("run", tmp_path / folder, "--input", tmp_path / "x.npy", "--json").out) for folder in "bc"
    ]
    assert answers[0]["results"] == answers[1]["results"]
    streamed = hstnn("run", tmp_path / "b", "--input", tmp_path / "x.npy", "--stream")
    assert streamed.code == 2
    assert "states inside: they answer whole sequences, not streams" in streamed.error
    assert "--states named" in streamed.hint
    saved = hstnn("run", tmp_path / "b", "--input", tmp_path / "x.npy", "--save-state", tmp_path / "s.npz")
    assert (saved.code, "not streams" in saved.error) == (2, True)


def test_a_smaller_graph_that_loses_too_much_is_refused(
    hstnn: Hstnn, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([90.0, 90.6])
    monkeypatch.setattr(comparisons.Score, "value", lambda _: next(values))
    result = hstnn(
        "export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--form", "step", "--fp16", "--no-verify", "--out", tmp_path
    )
    assert result.code == 8
    assert "model.step.fp16.onnx, fp16 loses little: accuracy 90.00 (90.60 before): +0.60 points lost" in result.error
    assert "--max-drop" in result.hint
    assert "refused" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"model.step.onnx", "manifest.json"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--ckpt", "nowhere.pt"], 4, "nowhere.pt does not exist"),
        ([], 2, "no checkpoint is given"),
        (["--ckpt", "nowhere.pt", "--tflite"], 2, "--tflite"),
        (["--ckpt", "."], 4, "is a folder"),
        (["--ckpt", "nowhere.pt", "--form", "spiral"], 2, "spiral"),
        (["--ckpt", "nowhere.pt", "--dynamic", "space"], 2, "space"),
        (["--ckpt", "nowhere.pt", "--steps", "0"], 2, "--steps"),
        (["--ckpt", "nowhere.pt", "--int8", "sometimes"], 2, "sometimes"),
        (["--ckpt", "nowhere.pt", "--max-drop", "-1"], 2, "--max-drop"),
        (["--ckpt", "nowhere.pt", "--opset", "19"], 2, "--opset"),
        (["--ckpt", "nowhere.pt", "--states", "outside"], 2, "--states"),
        (["--ckpt", "nowhere.pt", "--max-drop", "1"], 2, "--max-drop applies only to int8 and fp16 graphs"),
        (["--ckpt", "nowhere.pt", "--onnx", "--keep-all"], 2, "--keep-all applies only to int8 and fp16 graphs"),
        (["--ckpt", "nowhere.pt", "--pt2", "--opset", "17"], 2, "--opset applies only to ONNX graphs"),
        (["--ckpt", "nowhere.pt", "--nir", "--states", "both"], 2, "--states applies only to ONNX graphs"),
    ],
)
def test_wrong_words_get_one_clear_line(
    hstnn: Hstnn, words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hstnn("export", *words)
    assert result.code == code
    assert message in result.error


def test_an_output_folder_that_cannot_be_written_is_said(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--out", tmp_path / "file" / "bundle")
    assert result.code == 5
    assert "cannot write" in result.error


def test_a_spiking_network_goes_to_nir_alone_or_beside_onnx_and_a_hybrid_does_not(
    hstnn: Hstnn, runs: Path, tmp_path: Path
) -> None:
    ckpt = Case("sequence", "snn").checkpoint(tmp_path / "best.pt")
    words = ("export", "--ckpt", ckpt, "--nir", "--json", "--out")
    result = hstnn(*words, tmp_path / "b", "--nir-dt", "0.002", "--nir-method", "exponential")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert facts["files"] == {}
    meaning = facts["carried"]["model.nir"]["meaning"]
    assert meaning.startswith(
        "NIR graph for steps of 0.002 s, method exponential, form plain; out come logits of each step"
    )
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"model.nir", "manifest.json"}
    assert nir.read(tmp_path / "b" / "model.nir").metadata["dt"] == 0.002
    assert "v_reset" not in str(h5py.File(tmp_path / "b" / "model.nir")["node/nodes/layer1"].keys())
    assert hstnn(*words, tmp_path / "b", "--nir-form", "full").code == 0
    assert "v_reset" in str(h5py.File(tmp_path / "b" / "model.nir")["node/nodes/layer1"].keys())
    assert set(json.loads(hstnn(*words, tmp_path / "b", "--torchscript").out)["files"]) == {"model.ts"}
    (tmp_path / "b" / "model.nir").write_bytes(b"nothing")
    damaged = hstnn("verify", tmp_path / "b")
    assert damaged.code == 11
    assert "model.nir is not the file that was exported" in damaged.error
    refused = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--nir", "--out", tmp_path / "c")
    assert refused.code == 7
    assert "NIR has spiking units only: layer 1 has" in refused.error
    assert "--kind snn" in refused.hint
    assert not (tmp_path / "c").exists()
    assert hstnn(*words, tmp_path / "c", "--nir-dt", "0").code == 2


def test_a_folder_that_runs_by_itself(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    words = ("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--no-verify", "--out", tmp_path / "b")
    result = hstnn(*words, "--standalone", tmp_path / "alone")
    assert result.code == 0, result.err
    assert f"Standalone folder: {tmp_path / 'alone'}" in result.out
    assert (tmp_path / "alone" / "run.py").exists()
    refused = hstnn(*words, "--torchscript", "--standalone", tmp_path / "other")
    assert refused.code == 2
    assert "--standalone needs ONNX graphs" in refused.error
    (tmp_path / "thesis.tex").write_text("precious")
    assert hstnn(*words, "--standalone", tmp_path).code == 7
