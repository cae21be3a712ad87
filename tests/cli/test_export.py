"""`hstnn export` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hstnn_deploy.export import bundle as bundle_module
from hstnn_deploy.export import subject
from tests.conftest import TINY, Hstnn, options


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "hstnn_deploy", "train", "digits", *options(TINY), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
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

    monkeypatch.setattr(subject, "load", missing)
    result = hstnn("export", "--ckpt", runs / "ratio-0.5" / "best.pt", "--json", "--out", tmp_path / "b")
    assert result.code == 0
    checks = json.loads(result.out)["verification"]["checks"]
    answers = [check for check in checks if check["name"].startswith("answers on the test split")]
    assert {(check["outcome"], check["figure"]) for check in answers} == {
        ("not run", "no test data: the data is not here")
    }
    assert len(answers) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--ckpt", "nowhere.pt"], 4, "nowhere.pt does not exist"),
        ([], 2, "--ckpt"),
        (["--ckpt", "nowhere.pt", "--tflite"], 2, "--tflite"),
        (["--ckpt", "."], 4, "is a folder"),
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
