"""A bundle run by itself: whole, in chunks, step by step; states kept, saved, restored; clear words for the rest."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from hstnn_deploy.errors import BundleError, DataError, DeviceError, UsageError
from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.bundle.standalone import MODULES
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.runtime.manifest import seal
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.models.hybrid.network import HybridNetwork
from tests.conftest import PATIENCE
from tests.export.cases import Case

PACKAGE = Path(__file__).parents[2] / "hstnn_deploy"


@pytest.fixture(scope="module", params=[Case("sequence", "hybrid"), Case("language", "ffs-lstm"), Case("dvs", "ffs")])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridNetwork, Session]:
    folder = tmp_path_factory.mktemp("bundles")
    ckpt = request.param.checkpoint(folder / "best.pt")
    return request.param.network(), Session(export_bundle(ckpt, folder / "bundle", verify=False).folder)


def example(network: HybridNetwork, steps: int = 7, batch: int = 3) -> torch.Tensor:
    return interface(network).example(steps, batch)


@torch.no_grad()
def test_whole_sequences_chunks_and_steps_give_what_the_network_gives(opened: tuple[HybridNetwork, Session]) -> None:
    network, session = opened
    assert session.provider == "CPUExecutionProvider"
    for steps, batch in ((7, 3), (1, 1), (12, 2)):
        x = example(network, steps, batch)
        expected, after = network(x)
        np.testing.assert_allclose(session.run(x.numpy()), expected, atol=1e-5)
        stepped, chunked = session.stream(batch), session.stream(batch)
        rows = [stepped.step(now) for now in x.numpy()]
        pieces = [chunked.run(chunk.numpy()) for chunk in x.split(5)]
        np.testing.assert_allclose(np.stack(rows) if session.tokens else rows[-1], expected, atol=1e-5)
        np.testing.assert_allclose(np.concatenate(pieces) if session.tokens else pieces[-1], expected, atol=1e-5)
        for stream in (stepped, chunked):
            assert set(stream.state) == set(after) == {state.name for state in session.states}
            for name, value in stream.state.items():
                np.testing.assert_allclose(value, after[name], atol=1e-5)


def test_one_stream_of_several_starts_anew_and_the_others_go_on(opened: tuple[HybridNetwork, Session]) -> None:
    network, session = opened
    x = example(network, 6, 3).numpy()
    stream = session.stream(3)
    stream.run(x[:4])
    stream.reset([1])
    found = stream.run(x[4:])
    whole, fresh = session.run(x), session.run(x[4:])
    if session.tokens:
        whole = whole[4:]
    expected = np.stack([fresh[..., n, :] if n == 1 else whole[..., n, :] for n in range(3)], axis=-2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_states_go_through_a_file_and_into_another_process(
    opened: tuple[HybridNetwork, Session], tmp_path: Path
) -> None:
    network, session = opened
    x = example(network, 6, 3).numpy()
    stream = session.stream(3)
    stream.run(x[:4])
    stream.save(tmp_path / "state.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    restored = Session(session.folder).restore(tmp_path / "state.npz")
    assert restored.batch == 3
    np.testing.assert_array_equal(restored.run(x[4:]), stream.run(x[4:]))


def test_a_bundle_of_one_form_does_the_others_work(tmp_path: Path) -> None:
    for case in (Case("sequence", "ffs"), Case("language", "ffs")):
        network = case.network()
        ckpt = case.checkpoint(tmp_path / "best.pt")
        x = example(network, 5, 2).numpy()
        whole = Session(export_bundle(ckpt, tmp_path / "both", verify=False).folder)
        for forms in (["window"], ["step"], ["unrolled", "step"], ["unrolled"]):
            folder = export_bundle(ckpt, tmp_path / "one", forms=forms, steps=5, verify=False).folder  # type: ignore[arg-type]
            session = Session(folder)
            np.testing.assert_allclose(session.run(x), whole.run(x), atol=1e-5)
            if forms == ["unrolled"]:
                with pytest.raises(DataError, match=r"x has 3 steps, but the only graph of .* takes 5"):
                    session.run(x[:3])
                continue
            stream = session.stream(2)
            rows = [stream.step(now) for now in x]
            np.testing.assert_allclose(np.stack(rows) if session.tokens else rows[-1], whole.run(x), atol=1e-5)


def test_a_language_model_knows_what_begins_anew_with_a_window(tmp_path: Path) -> None:
    case = Case("language", "ffs")
    session = Session(export_bundle(case.checkpoint(tmp_path / "best.pt"), tmp_path / "bundle", verify=False).folder)
    assert session.window == case.recipe().data.bptt  # type: ignore[union-attr]
    stream = session.stream(2)
    stream.run(example(case.network(), 5, 2).numpy())
    before = stream.state
    stream.begin_window()
    for state in session.states:
        value = stream.state[state.name]
        assert (value == (0 if state.name.startswith("v") else before[state.name])).all()
        assert state.reset == ("window" if state.name.startswith("v") else "sequence")
        assert state.meaning
        assert value.shape == (2, *state.shape)


BAD_INPUTS: list[tuple[Any, str]] = [
    (np.zeros((8, 2, 9)), r"x has shape \[8, 2, 9\]; the network takes \[T, B, 8\]"),
    (np.zeros((8, 8)), r"x has shape \[8, 8\]"),
    (np.zeros((0, 2, 8)), r"x has shape \[0, 2, 8\]"),
    (np.zeros((8, 2, 8), complex), "x has type complex128; the network takes real numbers"),
    (np.full((8, 2, 8), "a"), "x has type <U1"),
    ([[1, 2], [3]], "x is not an array"),
    (np.where(np.arange(128).reshape(8, 2, 8) == 20, np.nan, 0), r"x contains nan at \[1, 0, 4\]"),
    (np.full((8, 2, 8), 1e300), r"x contains inf at \[0, 0, 0\]"),
]


@pytest.mark.parametrize(("x", "message"), BAD_INPUTS)
def test_what_the_network_does_not_take_is_said(bundle: Bundle, x: Any, message: str) -> None:
    session = Session(bundle.folder)
    with pytest.raises(DataError, match=message):
        session.run(x)


def test_a_step_and_a_chunk_must_fit_the_streams(bundle: Bundle) -> None:
    stream = Session(bundle.folder).stream(2)
    with pytest.raises(DataError, match=r"x has shape \[3, 8\]; the network takes \[2, 8\]"):
        stream.step(np.zeros((3, 8)))
    with pytest.raises(DataError, match=r"the network takes \[T, 2, 8\]"):
        stream.run(np.zeros((4, 3, 8)))
    with pytest.raises(UsageError, match="batch must be a whole number"):
        Session(bundle.folder).stream(0)


def test_words_must_be_whole_numbers_of_the_vocabulary(tmp_path: Path) -> None:
    case = Case("language", "rnn")
    session = Session(export_bundle(case.checkpoint(tmp_path / "best.pt"), tmp_path / "bundle", verify=False).folder)
    for x, message in (
        (np.zeros((3, 1)), "float64; the network takes whole numbers"),
        (np.array([[5], [1500]]), "x contains 1500; words are numbered 0 to 1499"),
        (np.array([[-1]]), "x contains -1"),
    ):
        with pytest.raises(DataError, match=message):
            session.run(x)


def test_unknown_and_unfit_states_are_said(bundle: Bundle) -> None:
    session = Session(bundle.folder)
    stream = session.stream(2)
    with pytest.raises(UsageError, match="unknown state 'v9'") as found:
        stream.reset(states=["v9"])
    assert "spike_sum" in found.value.hint
    with pytest.raises(UsageError, match="there is no stream 2"):
        stream.reset([2])
    before = stream.state
    for state, message in (
        ({"hidden": np.zeros((2, 3))}, "unknown state 'hidden'"),
        ({"steps": np.zeros((3, 1))}, r"the state steps has shape \[3, 1\]; here it is \[2, 1\] \(2 streams\)"),
        ({"steps": np.full((2, 1), np.nan)}, "the state steps contains NaN"),
    ):
        with pytest.raises(UsageError, match=message):
            stream.state = state
    assert all((stream.state[name] == value).all() for name, value in before.items())


def test_a_file_of_states_that_is_none_is_said(bundle: Bundle, best: Path, tmp_path: Path) -> None:
    session = Session(bundle.folder)
    path = tmp_path / "state.npz"
    session.stream(2).save(path)
    content = path.read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:200])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name, message in (
        ("nowhere.npz", r"cannot read .*nowhere.npz: No such file"),
        ("cut.npz", "is damaged, or not a file of plain numbers"),
        ("other.npz", "is damaged, or not a file of states"),
    ):
        with pytest.raises(DataError, match=message):
            session.restore(tmp_path / name)
    case = Case("sequence", "ffs")
    other = export_bundle(case.checkpoint(tmp_path / "best.pt"), tmp_path / "bundle", verify=False)
    with pytest.raises(DataError, match="states of another network"):
        Session(other.folder).restore(path)
    with pytest.raises(UsageError, match="cannot write"):
        session.stream(2).save(tmp_path / "nowhere" / "state.npz")


def edited(change: Callable[[dict[str, Any]], Any], sealed: bool = True) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        facts = json.loads((folder / "manifest.json").read_text())
        change(facts)
        facts.pop("seal")
        facts["seal"] = seal(facts) if sealed else "0" * 64
        (folder / "manifest.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    return edit


def one_byte(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return change


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (shutil.rmtree, "does not exist"),
    (lambda folder: (folder / "manifest.json").unlink(), "is not a bundle: it has no manifest.json"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "is damaged"),
    (one_byte("model.window.onnx"), "is not the file that was exported"),
    (one_byte("model.step.onnx"), "is not the file that was exported"),
    (lambda folder: (folder / "model.step.onnx").unlink(), "is missing"),
    (edited(lambda facts: facts.update(version=1)), "is a bundle of version 1; this hstnn reads versions 2 to 4"),
    (edited(lambda facts: facts.update(version=99)), "is a bundle of version 99"),
    (edited(lambda facts: facts["network"].update(family="language"), sealed=False), "has changed"),
    (edited(lambda facts: facts.update(files={})), "contains no verified ONNX graph"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_bundle_that_is_not_as_it_was_written_is_refused(
    bundle: Bundle, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "bundle")
    damage(folder)
    with pytest.raises(BundleError, match=message):
        Session(folder)


def test_without_checks_a_changed_file_is_not_looked_at(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "bundle")
    (folder / "model.ts").unlink()
    Session(folder)
    one_byte("model.step.onnx")(folder)
    Session(folder, check=False)


def test_smaller_graphs_run_where_there_are_any(best: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(
        best, tmp_path / "bundle", smaller=["int8-dynamic"], max_drop=100, keep_all=True, forms=["step"], verify=False
    ).folder
    x = np.random.default_rng(0).random((8, 3, 8), dtype=np.float32)
    whole, smaller = Session(folder).run(x), Session(folder, smaller="int8-dynamic").run(x)
    assert 0 < np.abs(whole - smaller).max() < 0.5, "near, and not the same"
    with pytest.raises(BundleError, match=r"contains no verified fp16 ONNX graph; it contains model.step.onnx"):
        Session(folder, smaller="fp16")


def test_a_provider_that_is_not_there_is_never_replaced_by_another(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown provider 'tpu'"):
        Session(bundle.folder, "tpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="CUDAExecutionProvider is not available: this onnxruntime was built without"):
        Session(bundle.folder, "cuda")


def test_it_runs_where_there_is_nothing_but_numpy_and_onnxruntime(bundle: Bundle, tmp_path: Path) -> None:
    """A process that can import three things: numpy, onnxruntime, and of this package what the runtime is made of."""
    clean = clean_environment(tmp_path)
    inside = clean / "hstnn_deploy"
    for name in ("__init__", *MODULES):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / f"{name}.py", inside / f"{name}.py")
    x = np.random.default_rng(0).random((8, 2, 8), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    code = f"""
import numpy, sys
from hstnn_deploy.export.runtime.ort import Graph
from hstnn_deploy.export.runtime.session import Session
session = Session({str(bundle.folder)!r})
x = numpy.load({str(tmp_path / "x.npy")!r})
stream = session.stream(2)
for now in x:
    logits = stream.step(now)
numpy.testing.assert_allclose(logits, session.run(x), atol=1e-5)
numpy.save({str(tmp_path / "logits.npy")!r}, logits)
try:
    import torch
except ImportError:
    print("clean")
"""
    done = subprocess.run(
        [*isolated(clean), code], check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path
    )
    assert done.stdout == "clean\n", done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), Session(bundle.folder).run(x), atol=1e-5)


def clean_environment(folder: Path) -> Path:
    """Return a folder of packages that holds numpy and onnxruntime and nothing else."""
    clean = folder / "packages"
    clean.mkdir()
    for module in (np, onnxruntime):
        place = Path(str(module.__file__)).parent
        (clean / place.name).symlink_to(place)
        libraries = place.with_name(f"{place.name}.libs")
        if libraries.exists():
            (clean / libraries.name).symlink_to(libraries)
    return clean


def isolated(packages: Path) -> list[str]:
    """Return the start of a command, to be followed by code and its arguments: a Python with no packages but those."""
    start = f"import sys; sys.path.append({str(packages)!r}); exec(sys.argv.pop(1))"
    return [sys.executable, "-I", "-S", "-c", start]
