"""Long sequences and many samples go in chunks and parts: the same answers, in bounded memory, stopped between them."""

import hashlib
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.runtime import session as module
from hstnn_deploy.export.runtime.ort import Graph
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.models.hybrid.network import HybridNetwork
from tests.export.cases import Case
from tests.export.test_runtime import edited, example


@pytest.fixture(scope="module", params=[Case("sequence", "hybrid"), Case("language", "ffs-lstm"), Case("dvs", "ffs")])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridNetwork, Session]:
    folder = tmp_path_factory.mktemp("bundles")
    ckpt = request.param.checkpoint(folder / "best.pt")
    return request.param.network(), Session(export_bundle(ckpt, folder / "bundle", verify=False).folder)


def tiny_chunks(monkeypatch: pytest.MonkeyPatch, steps: int = 3, values: int = 2**22) -> None:
    monkeypatch.setattr(module, "CHUNK_STEPS", steps)
    monkeypatch.setattr(module, "CHUNK_VALUES", values)


def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return the shapes of what goes into graphs from now on."""
    seen: list[tuple[int, ...]] = []
    step = Graph.step

    def noted(graph: Graph, x: Any, *rest: Any) -> Any:
        seen.append(x.shape)
        return step(graph, x, *rest)

    monkeypatch.setattr(Graph, "step", noted)
    return seen


@torch.no_grad()
def test_long_sequences_go_in_chunks_that_give_what_the_whole_gives(
    opened: tuple[HybridNetwork, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, session = opened
    x = example(network, 20, 3)
    expected, after = network(x)
    whole = session.run(x.numpy())
    tiny_chunks(monkeypatch)
    seen = calls(monkeypatch)
    np.testing.assert_allclose(session.run(x.numpy()), whole, atol=1e-6)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    assert [shape[0] for shape in seen] == [3] * 6 + [2]
    stream = session.stream(3)
    np.testing.assert_allclose(stream.run(x.numpy()), whole, atol=1e-6)
    for name, value in stream.state.items():
        np.testing.assert_allclose(value, after[name], atol=1e-5)


def test_many_samples_go_in_parts(opened: tuple[HybridNetwork, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    network, session = opened
    x = example(network, 5, 7).numpy()
    whole = session.run(x)
    tiny_chunks(monkeypatch, values=4 * session._values)
    seen = calls(monkeypatch)
    np.testing.assert_allclose(session.run(x), whole, atol=1e-6)
    assert [shape[:2] for shape in seen] == [(1, 4)] * 5 + [(1, 3)] * 5


@pytest.mark.parametrize("name", ["images", "events"])
def test_raw_samples_go_in_chunks_too(fronts: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(fronts[name])
    generator = np.random.default_rng(0)
    if name == "images":
        raw = generator.integers(0, 17, (3, 8, 8), dtype=np.uint8)
    else:
        ends = (3, 36_000, 16, 16, 2)
        raw = np.stack([generator.integers(0, end, 900) for end in ends], axis=1)
    whole = session.run(raw)
    tiny_chunks(monkeypatch, steps=5)
    seen = calls(monkeypatch)
    np.testing.assert_allclose(session.run(raw), whole, atol=1e-6)
    assert len(seen) == (2 if name == "images" else 3)


def test_memory_does_not_grow_with_the_length(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, "w+", np.float64, (200_000, 1, 8))
    x[:] = np.random.default_rng(0).random(8)
    session = Session(bundle.folder)
    tracemalloc.start()
    session.run(x)
    assert tracemalloc.get_traced_memory()[1] < 1e6, "of 12.8 MB, a chunk at a time"
    tracemalloc.stop()


def test_an_interruption_between_chunks_leaves_the_streams_where_they_stood(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Session(bundle.folder).stream(2)
    x = np.random.default_rng(0).random((12, 2, 8))
    stream.run(x[:4])
    before = stream.state
    tiny_chunks(monkeypatch)
    step, count = Graph.step, iter(range(99))

    def interrupted(graph: Graph, *given: Any) -> Any:
        if next(count) == 1:
            raise KeyboardInterrupt
        return step(graph, *given)

    monkeypatch.setattr(Graph, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.run(x[4:])
    assert all((stream.state[name] == value).all() for name, value in before.items())
    np.testing.assert_allclose(stream.run(x[4:]), Session(bundle.folder).run(x), atol=1e-6)


def test_an_unrolled_graph_takes_its_length_over_and_over(best: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(best, tmp_path / "bundle", forms=["unrolled"], steps=4, verify=False).folder
    x = np.random.default_rng(0).random((12, 2, 8))
    np.testing.assert_allclose(Session(folder).run(x), Session(bundle.folder).run(x), atol=1e-5)
    with pytest.raises(DataError, match="takes 4"):
        Session(folder).run(x[:7])


def states_inside(bundle: Path, folder: Path, batch: int) -> Path:
    """Return a bundle whose window graph begins at zeros of so many sequences and gives no states."""
    shutil.copytree(bundle, folder)
    model = onnx.load(str(folder / "model.window.onnx"))
    for each in list(model.graph.input)[1:]:
        shape = [batch, *(size.dim_value for size in each.type.tensor_type.shape.dim[1:])]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), each.name))
        model.graph.input.remove(each)
    for output in list(model.graph.output)[1:]:
        model.graph.output.remove(output)
    onnx.save(model, str(folder / "model.window.inside.onnx"))

    def rename(facts: dict[str, Any]) -> None:
        content = (folder / "model.window.inside.onnx").read_bytes()
        facts["files"] = {
            "model.window.inside.onnx": facts["files"]["model.window.onnx"]
            | {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        }

    edited(rename)(folder)
    return folder


def test_a_graph_with_its_states_inside_runs_whole_sequences_and_nothing_else(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(states_inside(bundle.folder, tmp_path / "bundle", 2))
    x = np.random.default_rng(0).random((8, 2, 8))
    tiny_chunks(monkeypatch)
    seen = calls(monkeypatch)
    np.testing.assert_allclose(session.run(x), Session(bundle.folder).run(x), atol=1e-6)
    assert seen[0] == (8, 2, 8)
    with pytest.raises(UsageError, match="have their states inside: they answer whole sequences, not streams") as found:
        session.stream(2)
    assert "--form step" in found.value.hint
    monkeypatch.setattr(module, "ARRAY_LIMIT", 1000)
    with pytest.raises(DataError, match="takes them all at once, up to 1000 bytes"):
        session.run(x)
