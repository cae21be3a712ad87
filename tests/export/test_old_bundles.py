"""Bundles that an earlier hstnn wrote are verified and run; see tests/old."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.checkpoint import load_network
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.rebuilt import NAME
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.runtime.manifest import VERSION, read_manifest
from hstnn_deploy.export.runtime.session import Session

OLD = Path(__file__).parents[1] / "old"


def test_a_bundle_of_version_2_is_verified(tmp_path: Path) -> None:
    """Written with manifest version 2: window and step, TorchScript, .pt2, int8 and fp16."""
    result = verify_bundle(OLD / "bundle-2", OLD / "best-2.pt", trust=True)
    assert not result.failed
    written_otherwise = {NAME, "graph = fresh build", "shipped file = replayed file"}
    assert {check.name for check in result.not_run} <= written_otherwise
    assert {check.file for check in result.checks if check.name == NAME} == {
        *("model.window.onnx", "model.step.onnx", "model.window.fp16.onnx", "model.step.fp16.onnx"),
        *("model.window.int8-dynamic.onnx", "model.step.int8-dynamic.onnx"),
    }


@pytest.mark.parametrize("smaller", [None, "int8-dynamic", "fp16"])
def test_a_bundle_of_version_2_runs(smaller: str | None) -> None:
    session = Session(OLD / "bundle-2", smaller=smaller)
    x = np.random.default_rng(0).random((8, 3, 8), np.float32)
    with torch.no_grad():
        logits = load_network(OLD / "best-2.pt")(torch.from_numpy(x))[0].numpy()
    assert np.allclose(session.run(x), logits, atol=1e-5 if smaller is None else 0.3)


def test_an_old_manifest_is_read_as_the_new_one_would_say_it(tmp_path: Path) -> None:
    facts = read_manifest(OLD / "bundle-2")
    assert facts["version"] == VERSION
    assert facts["graphs"] == {"builder": 1, "preprocess": False}
    bundle = shutil.copytree(OLD / "bundle-2", tmp_path / "b")
    facts.pop("seal")
    write_manifest(bundle, facts)
    again = read_manifest(bundle)
    assert again == facts | {"seal": again["seal"]}


def test_a_bundle_of_version_3_is_verified_and_runs() -> None:
    """Written with manifest version 3 and checkpoint format 2: window and step, TorchScript, .pt2."""
    result = verify_bundle(OLD / "bundle-3", OLD / "best-3.pt", trust=True)
    assert not result.failed
    # Its graphs are of today's builder, and are built again; a .pt2 of the same torch is too.
    assert {check.name for check in result.not_run} <= {"graph = fresh build", "shipped file = replayed file"}
    assert {check.file for check in result.checks if check.name == NAME} == {"model.window.onnx", "model.step.onnx"}
    x = np.random.default_rng(0).random((8, 3, 8), np.float32)
    with torch.no_grad():
        logits = load_network(OLD / "best-3.pt")(torch.from_numpy(x))[0].numpy()
    assert np.allclose(Session(OLD / "bundle-3").run(x), logits, atol=1e-5)
    assert read_manifest(OLD / "bundle-3")["network"]["taps"] == [
        *("layer1_spikes", "layer1_h", "layer2_spikes", "layer2_h")
    ]
