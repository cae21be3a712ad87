"""The runtime: numpy and ONNX Runtime alone, and clear words for what does not fit."""

import subprocess
import sys

import numpy as np
import pytest

from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.export.bundle import Bundle
from hstnn_deploy.export.runtime import open_graph


def test_the_runtime_imports_neither_torch_nor_the_training_rooms(bundle: Bundle) -> None:
    code = f"""
import sys
import numpy
from hstnn_deploy.export.runtime import open_graph
graph = open_graph({str(bundle.folder / "model.window.onnx")!r})
assert graph.run(numpy.zeros((8, 2, 8))).shape == (2, 10)
loaded = [name for name in sys.modules if name.split(".")[0] in ("torch", "onnx", "sklearn", "pydantic")]
loaded += [name for name in sys.modules if name.startswith(("hstnn_deploy.train", "hstnn_deploy.models"))]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_streams_start_from_zero_and_carry_named_states(bundle: Bundle) -> None:
    step, window = open_graph(bundle.folder / "model.step.onnx"), open_graph(bundle.folder / "model.window.onnx")
    assert step.provider == "CPUExecutionProvider"
    assert step.states == ["v1", "h1", "v2", "h2", "spike_sum", "steps"]
    x = np.random.default_rng(0).random((8, 3, 8), dtype=np.float32)
    state = None
    for now in x:
        logits, state = step.step(now, state)
    np.testing.assert_allclose(logits, window.run(x), atol=1e-5)
    assert state is not None
    assert (state["steps"] == 8).all()


def test_what_does_not_fit_is_said(bundle: Bundle) -> None:
    window = open_graph(bundle.folder / "model.window.onnx")
    with pytest.raises(ExportError, match="cannot run on this input"):
        window.run(np.zeros((8, 2, 9), np.float32))
    with pytest.raises(ExportError, match="ONNX Runtime cannot load"):
        open_graph(bundle.folder / "manifest.json")
    with pytest.raises(UsageError, match="unknown provider 'tpu'"):
        open_graph(bundle.folder / "model.window.onnx", "tpu")


def test_a_provider_that_does_not_load_is_an_error_not_a_quiet_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    whole = onnxruntime.InferenceSession

    def falls_back(model: str, options: object, providers: list[str]) -> object:
        # What ONNX Runtime does where CUDA's libraries are missing.
        return whole(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with pytest.raises(ExportError, match="CUDAExecutionProvider was asked for"):
        open_graph(bundle.folder / "model.window.onnx", "cuda")
