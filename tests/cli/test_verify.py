"""`hstnn verify` as a user calls it: a whole bundle passes, and whatever was done to it is said in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.graph.nodes import stored_in
from hstnn_deploy.export.proof import checks
from hstnn_deploy.export.runtime.manifest import MANIFEST, read_manifest
from tests.conftest import Hstnn, in_part
from tests.export.cases import Case
from tests.export.fakes import FakeCuda

FILES = ["manifest.json", "model.pt2", "model.step.onnx", "model.ts", "model.window.onnx"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and its bundle in every format."""
    folder = tmp_path_factory.mktemp("verify")
    ckpt = Case("sequence", "ffs-lstm").checkpoint(folder / "best.pt")
    return ckpt, export_bundle(ckpt, folder / "bundle", ("onnx", "torchscript", "pt2"), verify=False).folder


@pytest.fixture
def bundle(exported: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy, free to be damaged."""
    return shutil.copytree(exported[1], tmp_path / "bundle")


@pytest.mark.parametrize(
    "case", in_part([Case("language", "hybrid"), Case("sequence", "ffs-lstm"), Case("nmnist", "ffs")], 3), ids="-".join
)
def test_a_bundle_is_proved_without_its_checkpoint_and_compared_with_it(
    hstnn: Hstnn, tmp_path: Path, case: Case
) -> None:
    ckpt = case.checkpoint(tmp_path / "best.pt")
    bundle = export_bundle(ckpt, tmp_path / "bundle", ("onnx", "torchscript"))
    assert not bundle.failed, bundle.failed[0]
    result = hstnn("verify", tmp_path / "bundle", "--ckpt", ckpt, "--trust", "--json")
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert (answer["result"], answer["not_run"]) == ("passed", 0)
    assert {check["outcome"] for check in answer["checks"]} == {"passed"}
    names = {check["name"] for check in answer["checks"]}
    assert {"as exported", f"weights = {ckpt}", "weights = model.window.onnx", "answers on the test split"} <= names
    assert {"graph = built again", "follows from recipe and weights", f"says what {ckpt} says"} <= names
    more = ("as exported", "graph = built again")
    again = [
        check
        for check in answer["checks"]
        if check["file"].startswith("model.")
        and not check["name"].startswith(more)
        and (check["name"] == "weights = network" or not check["name"].startswith("weights"))
    ]
    # What was proved at export is proved again, to the same figures.
    assert {tuple(check.items()) for check in again} == {
        tuple(check.plain().items()) for check in bundle.checks if check.file not in bundle.manifest["carried"]
    }


def test_a_person_sees_a_table_for_each_file(hstnn: Hstnn, bundle: Path) -> None:
    result = hstnn("verify", bundle)
    assert result.code == 0
    for words in ("Verification of model.window.onnx", "Verification of model.pt2", "as exported", "replay in ONNX"):
        assert words in result.out


def test_without_a_checkpoint_no_line_speaks_of_one_and_torchscript_is_not_opened(
    hstnn: Hstnn, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("TorchScript was opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    result = hstnn("verify", bundle, "--json")
    assert result.code == 0
    checks = json.loads(result.out)["checks"]
    left_out = {check["file"]: check for check in checks if check["outcome"] == "not run"}
    assert left_out["model.ts"]["figure"] == (
        "not checked: TorchScript can run code; add --trust if you trust its writer"
    )
    assert "--ckpt" in left_out["manifest.json"]["figure"]
    assert set(left_out) == {"model.ts", "manifest.json"}
    assert json.loads(result.out)["not_run"] == 2
    assert not any("checkpoint" in check["name"] + check["figure"] for check in checks)
    assert any("network of these weights" in check["figure"] for check in checks)
    assert "2 not run" in hstnn("verify", bundle).out


def test_help_says_what_is_trusted(hstnn: Hstnn) -> None:
    shown = " ".join(hstnn("verify", "--help").out.split())
    for words in ("--trust", "no code in it is run", "which network the weights belong to"):
        assert words in shown


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_one_byte_that_differs_is_noticed_wherever_it_stands(
    hstnn: Hstnn, bundle: Path, name: str, share: float
) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[int(share * len(content))] ^= 1
    (bundle / name).write_bytes(content)
    result = hstnn("verify", bundle)
    assert result.code == 11
    assert str(bundle / name) in result.error
    assert "again" in result.hint


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b / "model.step.onnx").unlink(), "model.step.onnx is missing"),
        (
            lambda b: shutil.copy(b / "model.step.onnx", b / "model.window.onnx"),
            "has the content of model.step.onnx",
        ),
        (lambda b: (b / "model.ts").write_bytes((b / "model.ts").read_bytes()[:-10]), "not the file that was exported"),
        (lambda b: (b / "model.extra.onnx").write_bytes(b"?"), "model.extra.onnx is not in the manifest"),
        (
            lambda b: edit(b / MANIFEST, lambda text: text.replace('"batch": 100', '"batch": 99')),
            "its seal does not",
        ),
        (lambda b: edit(b / MANIFEST, lambda text: text.replace("  ", " ")), "its seal does not"),
        (lambda b: edit(b / MANIFEST, lambda text: text.replace('"version": 4', '"version": 1', 1)), "of version 1"),
        (lambda b: edit(b / MANIFEST, lambda text: text.replace('"version": 4', '"version": 5', 1)), "of version 5"),
        (lambda b: (b / MANIFEST).write_text("[]"), "is not the manifest of a bundle"),
        (lambda b: (b / MANIFEST).write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda b: (b / MANIFEST).unlink(), "is not a bundle: it has no manifest.json"),
        (lambda b: shutil.rmtree(b), "does not exist"),
    ],
)
def test_whatever_was_done_to_a_bundle_is_said(
    hstnn: Hstnn, bundle: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(bundle)
    result = hstnn("verify", bundle)
    assert result.code == 11
    assert message in result.error
    assert result.hint


def test_what_is_not_a_bundle_is_refused_with_those_near_by(hstnn: Hstnn, bundle: Path) -> None:
    above = hstnn("verify", bundle.parent)
    assert above.code == 11
    assert f"did you mean {bundle}" in above.hint
    assert "is a file" in hstnn("verify", bundle / "model.ts").error


def forged(bundle: Path, name: str) -> None:
    """Seal a bundle again over a file that was changed: its hashes say nothing any more."""
    facts = read_manifest(bundle)
    facts.pop("seal")
    facts["files"][name] |= {"sha256": files.sha256(bundle / name)}
    write_manifest(bundle, facts)


def changed(bundle: Path, name: str, weight: str, by: float) -> None:
    model = onnx.load(bundle / name)
    stored = next(each for each in stored_in(model.graph) if each.name == weight)
    values = np.array(numpy_helper.to_array(stored))
    values.flat[0] += by
    stored.CopyFrom(numpy_helper.from_array(values, weight))
    onnx.save(model, bundle / name)


def test_other_weights_under_a_forged_hash_are_found_by_the_other_files_and_the_checkpoint(
    hstnn: Hstnn, exported: tuple[Path, Path], bundle: Path
) -> None:
    changed(bundle, "model.step.onnx", "layers.0.snn.weight", 0.25)
    forged(bundle, "model.step.onnx")
    result = hstnn("verify", bundle, "--ckpt", exported[0])
    assert result.code == 8
    assert "model.step.onnx, weights = model.window.onnx" in result.error
    assert "layers.0.snn.weight differs in 1 of 24 values, by up to 0.25" in result.error
    for name in ("model.pt2", "model.step.onnx", "model.ts"):
        (bundle / name).unlink()
    facts = read_manifest(bundle)
    facts.pop("seal")
    facts["files"] = {"model.window.onnx": facts["files"]["model.window.onnx"]}
    write_manifest(bundle, facts)
    assert hstnn("verify", bundle, "--ckpt", exported[0]).code == 0
    changed(bundle, "model.window.onnx", "readout.bias", 1e-3)
    forged(bundle, "model.window.onnx")
    assert hstnn("verify", bundle).code == 0, "consistent in itself"
    assert "readout.bias differs in 1" in hstnn("verify", bundle, "--ckpt", exported[0]).error


def test_another_equation_under_a_forged_hash_does_not_pass(hstnn: Hstnn, bundle: Path) -> None:
    changed(bundle, "model.window.onnx", "constant/layer1/0.6", 0.1)
    forged(bundle, "model.window.onnx")
    result = hstnn("verify", bundle)
    assert result.code == 8
    assert (
        "model.window.onnx, graph = built again: stored array constant/layer1/0.6 differs in 1 of 1 values"
        in result.error
    )


def test_a_bundle_whose_files_hold_another_network_is_said(hstnn: Hstnn, bundle: Path, tmp_path: Path) -> None:
    ckpt = Case("sequence", "ffs").checkpoint(tmp_path / "other.pt")
    other = export_bundle(ckpt, tmp_path / "other", verify=False).folder
    for name in ("model.window.onnx", "model.step.onnx"):
        shutil.copy(other / name, bundle / name)
        forged(bundle, name)
    result = hstnn("verify", bundle)
    assert result.code == 8
    assert "does not contain the network of the manifest" in result.error


def test_a_file_that_failed_at_export_is_not_passed_later(
    hstnn: Hstnn, exported: tuple[Path, Path], bundle: Path
) -> None:
    facts = read_manifest(bundle)
    facts.pop("seal")
    facts["files"]["model.unverified.ts"] = facts["files"].pop("model.ts")
    (bundle / "model.ts").rename(bundle / "model.unverified.ts")
    write_manifest(bundle, facts)
    result = hstnn("verify", bundle)
    assert result.code == 8
    assert "model.unverified.ts, proved when exported: it failed a check then" in result.error


def test_wrong_words_get_one_clear_line(hstnn: Hstnn, bundle: Path) -> None:
    assert hstnn("verify").code == 2
    missing = hstnn("verify", bundle, "--ckpt", bundle / "none.pt")
    assert (missing.code, "does not exist" in missing.error) == (4, True)
    assert hstnn("verify", bundle, "--data-dir", bundle / "none", "--json").code in {0, 3}


def test_a_checkpoint_of_other_units_is_named(hstnn: Hstnn, bundle: Path, tmp_path: Path) -> None:
    other = Case("sequence", "ffs").checkpoint(tmp_path / "other.pt")
    result = hstnn("verify", bundle, "--ckpt", other)
    assert result.code == 8
    assert f"weights = {other}" in result.error
    assert Checkpoint.load(other).sizes


@pytest.mark.parametrize("case", in_part([Case("language", "ffs"), Case("dvs", "ffs")], 2), ids="-".join)
def test_on_cuda_the_replay_is_repeated_with_states_kept_there(
    hstnn: Hstnn, tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    ckpt = case.checkpoint(tmp_path / "best.pt")
    export_bundle(ckpt, tmp_path / "bundle", forms=("window", "step", "unrolled"), steps=4, verify=False)
    cuda = FakeCuda.put_in_place(monkeypatch)
    monkeypatch.setattr(checks, "placement", lambda *_: {"CUDAExecutionProvider": 30, "CPUExecutionProvider": 2})
    result = hstnn("verify", tmp_path / "bundle", "--provider", "cuda", "--json")
    assert result.code == 0, result.err
    found = {check["name"].partition(",")[0]: check["figure"] for check in json.loads(result.out)["checks"]}
    assert "replay in ONNX Runtime on CUDAExecutionProvider" in found
    assert "samples equal" in found["states kept on CUDAExecutionProvider = eager"]
    assert found["where it ran"] == "2 kernel calls on CPUExecutionProvider, 30 kernel calls on CUDAExecutionProvider"
    assert cuda.fetched > 0


def test_a_session_on_cuda_whose_nodes_ran_on_the_cpu_does_not_pass(
    hstnn: Hstnn, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the fake does: it says CUDA, and ONNX Runtime's own profile says what really ran."""
    FakeCuda.put_in_place(monkeypatch)
    result = hstnn("verify", bundle, "--provider", "cuda")
    assert result.code == 8
    assert "where it ran: " in result.error
    assert "kernel calls on CPUExecutionProvider" in result.error
    assert "CUDA" not in result.error.partition("where it ran")[2]


def test_a_provider_that_does_not_load_is_a_device_error_never_a_quiet_cpu(
    hstnn: Hstnn, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: real(model, options, providers=["CPUExecutionProvider"]),
    )
    result = hstnn("verify", bundle, "--provider", "cuda")
    assert result.code == 6
    assert "ONNX Runtime would run" in result.error
    assert "doctor" in result.hint
    assert hstnn("verify", bundle, "--provider", "rocm").code == 2


def test_strict_passes_only_what_was_checked_in_full(hstnn: Hstnn, exported: tuple[Path, Path], bundle: Path) -> None:
    ckpt, _ = exported
    refused = hstnn("verify", bundle, "--strict", "--json")
    assert refused.code == 8
    assert "checks could not be run; first model.ts, weights and answers: not checked" in refused.error
    assert json.loads(refused.out)["result"] == "failed"
    assert hstnn("verify", bundle, "--strict", "--trust", "--ckpt", ckpt).code == 0
