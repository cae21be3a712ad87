"""ONNX files in sessions: states, chunks, providers, and clear words for what does not fit."""

from pathlib import Path

import numpy as np
import pytest

from hstnn_deploy.errors import DeviceError, ExportError, OutOfMemoryError, UsageError
from hstnn_deploy.export.bundle.export import Bundle
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import STEP_ONNX, WINDOW_ONNX, write_graphs
from hstnn_deploy.export.runtime.ort import fetch, open_graph, placement
from tests.export.cases import Case
from tests.export.fakes import FakeCuda


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


@pytest.mark.parametrize("case", [Case("language", "ffs-lstm"), Case("dvs", "hybrid")], ids="-".join)
def test_every_family_runs_whole_in_chunks_and_step_by_step(case: Case, tmp_path: Path) -> None:
    network = case.network()
    write_graphs(network, tmp_path, {"onnx"})
    window, step = open_graph(tmp_path / WINDOW_ONNX), open_graph(tmp_path / STEP_ONNX)
    x = interface(network).example(7, 3)
    expected, after = network(x)
    np.testing.assert_allclose(window.run(x.numpy()), expected, atol=1e-5)
    pieces, state = [], None
    for chunk in (x[:4], x[4:5], x[5:]):
        logits, state = window.step(chunk.numpy(), state)
        pieces.append(logits)
    np.testing.assert_allclose(np.concatenate(pieces) if case.family == "language" else logits, expected, atol=1e-5)
    state = None
    for now in x.numpy():
        logits, state = step.step(now, state)
    np.testing.assert_allclose(logits, expected[-1] if case.family == "language" else expected, atol=1e-5)
    assert state is not None
    for name, value in after.items():
        np.testing.assert_allclose(state[name], value, atol=1e-5)


def test_states_that_are_left_out_are_zero_and_words_must_be_whole_numbers(tmp_path: Path) -> None:
    network = Case("language", "ffs").network()
    write_graphs(network, tmp_path, {"onnx"}, of_onnx=["window"])
    window = open_graph(tmp_path / WINDOW_ONNX)
    x = interface(network).example(4, 2)
    _, state = window.step(x.numpy())
    kept = {name: value for name, value in state.items() if name.startswith("h")}
    zeros = {name: np.zeros_like(value) for name, value in state.items()}
    np.testing.assert_array_equal(window.step(x.numpy(), kept)[0], window.step(x.numpy(), zeros | kept)[0])
    with pytest.raises(ExportError, match="words by number"):
        window.run(x.numpy().astype(np.float32))


def test_what_does_not_fit_is_said(bundle: Bundle) -> None:
    window = open_graph(bundle.folder / "model.window.onnx")
    with pytest.raises(ExportError, match="cannot run on this input"):
        window.run(np.zeros((8, 2, 9), np.float32))
    with pytest.raises(ExportError, match="ONNX Runtime cannot load"):
        open_graph(bundle.folder / "manifest.json")
    for name in ("tpu", "cpu:1", "cuda:", "cuda:x"):
        with pytest.raises(UsageError, match=f"unknown provider '{name}'"):
            open_graph(bundle.folder / "model.window.onnx", name)


def test_a_provider_that_does_not_load_is_an_error_not_a_quiet_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    whole = onnxruntime.InferenceSession

    def falls_back(model: str, options: object, providers: list[object]) -> object:
        # What ONNX Runtime does where CUDA's libraries are missing.
        return whole(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with pytest.raises(DeviceError, match="CUDAExecutionProvider is not available"):
        open_graph(bundle.folder / "model.window.onnx", "cuda")


def test_where_the_nodes_really_ran_is_counted(bundle: Bundle) -> None:
    x = np.zeros((8, 2, 8), np.float32)
    path = bundle.folder / "model.window.onnx"
    counts = placement(path, {"x": x, **open_graph(path).zeros(2)})
    assert set(counts) == {"CPUExecutionProvider"}
    assert counts["CPUExecutionProvider"] > 20


def test_on_a_gpu_states_stay_there_from_step_to_step(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle.folder / "model.step.onnx"
    cpu = open_graph(path)
    cuda = FakeCuda.put_in_place(monkeypatch)
    graph = open_graph(path, "cuda:1")
    assert graph.provider == "CUDAExecutionProvider"
    x = np.random.default_rng(0).random((3, 2, 8), dtype=np.float32)
    state = expected = None
    for now in x:
        logits, state = graph.step(now, state)
        ours, expected = cpu.step(now, expected)
        np.testing.assert_array_equal(logits, ours)
    assert cuda.fetched == 3, "of each step the logits alone came back"
    assert cuda.sent == ["x", *graph.states, "x", "x"], "states went there once, as zeros"
    assert cuda.outputs == {"logits": ("cpu", 0), **{f"{name}_next": ("cuda", 1) for name in graph.states}}
    assert cuda.options == {"device_id": 1, "use_tf32": 0}
    assert state is not None
    assert expected is not None
    for name, value in fetch(state).items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(ExportError, match="cannot run on this input"):
        graph.step(np.zeros((2, 9), np.float32))


def test_memory_that_onnx_runtime_runs_out_of_is_said_as_such(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = open_graph(bundle.folder / "model.window.onnx")

    class Full:
        def run(self, *_: object) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9")

    monkeypatch.setattr(graph, "_session", Full())
    with pytest.raises(OutOfMemoryError) as refused:
        graph.run(np.zeros((8, 1, 8), np.float32))
    assert refused.value.exit_code == 10
