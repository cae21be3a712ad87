"""`hstnn export --preprocess`, and `run` and `verify` on such bundles, as a user calls them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from hstnn_deploy.data.events.events import EVENT, event_rows
from hstnn_deploy.data.sets.digit_events import recordings
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.export.runtime.manifest import read_manifest
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.files import sha256
from tests.conftest import Hstnn
from tests.event_files import write_bin
from tests.export.cases import Case

CASES = {"images": Case("sequence", "ffs"), "events": Case("nmnist", "ffs"), "text": Case("language", "ffs")}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: case.checkpoint(folder / f"{name}.pt") for name, case in CASES.items()}


@pytest.fixture(scope="module")
def made(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of the same networks, with preprocessing in the graph and, under `plain-…`, without."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        start + name: export_bundle(
            checkpoints[name], folder / (start + name), preprocess=not start, verify=False
        ).folder
        for name in ("images", "events")
        for start in ("", "plain-")
    }


def samples(hstnn: Hstnn, *words: str | Path) -> Any:
    result = hstnn("run", *words, "--json")
    assert result.code == 0, result.err
    (answer,) = json.loads(result.out)["results"]
    return answer


@pytest.mark.parametrize(("name", "raw"), [("images", "image [B, 8, T]"), ("events", "events [N, 5], frames_seen [B]")])
def test_export_proves_the_preprocessing_and_verify_repeats_it(
    hstnn: Hstnn, checkpoints: dict[str, Path], name: str, raw: str, tmp_path: Path
) -> None:
    ckpt = checkpoints[name]
    exported = hstnn("export", "--ckpt", ckpt, "--preprocess", "--form", "window", "--out", tmp_path / "b")
    assert exported.code == 0, exported.err
    verified = hstnn("verify", tmp_path / "b", "--ckpt", ckpt)
    assert verified.code == 0, verified.err
    for out in (exported.out, verified.out):
        for words in ("raw inputs", raw, "preprocessing in ONNX Runtime", "equal to the bit", "360 of 360 samples"):
            assert words in out
    manifest = read_manifest(tmp_path / "b")
    first = manifest["files"]["model.window.onnx"]["inputs"][0]
    assert (first["name"], first["dtype"]) == (("image", "uint8") if name == "images" else ("events", "int64"))
    graph = onnx.load(str(tmp_path / "b" / "model.window.onnx")).graph
    facts = manifest["files"]["model.window.onnx"]
    assert [each.name for each in graph.input] == [each["name"] for each in facts["inputs"]]
    assert [each.name for each in graph.output] == [each["name"] for each in facts["outputs"]]


def test_another_preprocessing_under_a_forged_hash_does_not_pass(
    hstnn: Hstnn, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made["images"], tmp_path / "bundle")
    path = folder / "model.step.onnx"
    model = onnx.load(str(path))
    (scale,) = [each for each in model.graph.initializer if each.name == "constant/preprocessing/scale"]
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(1 / 15, np.float32), scale.name))
    onnx.save(model, str(path))
    facts = read_manifest(folder)
    facts.pop("seal")
    facts["files"][path.name] |= {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_manifest(folder, facts)
    result = hstnn("verify", folder)
    assert result.code == 8
    assert "model.step.onnx, graph = built again: stored array constant/preprocessing/scale differs" in result.error
    # The proof on samples finds it too.
    checks: list[Check] = []
    case = CASES["images"]
    run_checks(make_subject(case.network(), folder, case.recipe(), "", None), [path.name], checks.append)
    failed = [f"{check.name}: {check.figure}" for check in checks if check.outcome == "failed"]
    assert any(text.startswith("preprocessing in ONNX Runtime: white, every level, random") for text in failed)


def test_image_files_come_to_the_scale_of_the_training(hstnn: Hstnn, made: dict[str, Path], tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    levels = load_digits().images[:2].astype(np.uint8)
    np.save(tmp_path / "raw.npy", levels)
    np.save(tmp_path / "one.npy", levels[0])
    grey = np.rint(levels[0] * (255 / 16)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "colour.png")
    Image.fromarray(np.rint(levels[0] * (65535 / 16)).astype(np.uint16)).save(tmp_path / "deep.png")
    np.save(tmp_path / "x.npy", levels.transpose(2, 0, 1) / 16)
    plain = samples(hstnn, made["plain-images"], "--input", tmp_path / "x.npy")
    whole = samples(hstnn, made["images"], "--input", tmp_path / "raw.npy")
    assert whole["steps"] == plain["steps"] == 8
    for ours, theirs in zip(whole["samples"], plain["samples"], strict=True):
        assert ours["class"] == theirs["class"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-6)
    for name in ("one.npy", "grey.png", "colour.png", "deep.png"):
        assert samples(hstnn, made["images"], "--input", tmp_path / name)["samples"] == whole["samples"][:1], name
    streamed = hstnn("run", made["images"], "--input", tmp_path / "grey.png", "--stream")
    assert streamed.code == 0, streamed.err
    assert streamed.out.count("step ") == 8
    assert f": class {whole['samples'][0]['class']}," in streamed.out.splitlines()[-1]


def test_event_files_go_in_as_they_were_recorded(hstnn: Hstnn, made: dict[str, Path], tmp_path: Path) -> None:
    test = recordings()["test"]
    np.save(tmp_path / "one.npy", test.read(0))
    write_bin(tmp_path / "one.bin", test.read(0))
    np.save(tmp_path / "rows.npy", np.concatenate([event_rows(test.read(number), number) for number in range(3)]))
    plain = samples(hstnn, made["plain-events"], "--input", tmp_path / "one.npy")
    for name in ("one.npy", "one.bin"):
        ours = samples(hstnn, made["events"], "--input", tmp_path / name)
        assert ours["steps"] == plain["steps"] == 12
        assert ours["samples"][0]["class"] == plain["samples"][0]["class"]
        assert ours["samples"][0]["score"] == pytest.approx(plain["samples"][0]["score"], abs=1e-6)
    assert len(samples(hstnn, made["events"], "--input", tmp_path / "rows.npy")["samples"]) == 3
    streamed = hstnn("run", made["events"], "--input", tmp_path / "one.bin", "--stream", "--save-state", tmp_path / "s")
    assert streamed.code == 0, streamed.err
    assert streamed.out.count("step ") == 12
    assert f": class {plain['samples'][0]['class']}," in streamed.out.splitlines()[-1]
    assert Session(made["events"]).restore(tmp_path / "s").state["frames_seen"].tolist() == [12]


@pytest.mark.parametrize(
    ("bundle", "name", "message"),
    [
        ("images", "float.npy", "image has type float64; the graph takes raw pixels, uint8 (0 to 16)"),
        ("images", "bright.npy", "image contains 200; white is 16"),
        ("images", "large.png", "is 9 x 8 pixels; the network takes 8 x 8"),
        ("images", "tall.npy", "image has shape [1, 9, 8]; the network takes [B, 8, T]"),
        ("images", "rows.txt", "rows.txt contains numbers, one time step per line; images takes raw pixels"),
        ("images", "beside.npy", "beside.npy contains events"),
        (
            "events",
            "large.png",
            "large.png is an image; the network takes recordings of events (16 x 16), or raw events",
        ),
        ("events", "beside.npy", "beside.npy: event 1 of 2 has x 16, but the sensor ends at 15"),
        ("events", "none.npy", "none.npy contains no events"),
        ("events", "nothing.npy", "nothing.npy contains no events"),
        ("events", "columns.npy", "recording 900 of 9 events: fewer events than recordings"),
        ("events", "later.npy", "none of its 9 events is within the 12 frames of 3 ms that the network sees"),
        ("events", "early.npy", "event 0 of 1 has time -3; it must be 0 or more"),
        ("events", "float.npy", "events have type float64; the graph takes raw events, whole numbers"),
        ("events", "rows.txt", "rows.txt contains numbers, one time step per line; events takes raw events"),
    ],
)
def test_what_is_not_raw_gets_one_clear_line(
    hstnn: Hstnn, made: dict[str, Path], bundle: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made["images"].parent)
    np.save("float.npy", np.zeros((1, 8, 8)))
    np.save("bright.npy", np.full((1, 8, 8), 200, np.uint8))
    np.save("tall.npy", np.zeros((1, 9, 8), np.uint8))
    np.save("none.npy", np.zeros(0, EVENT))
    np.save("nothing.npy", np.zeros((0, 5), np.int64))
    rows = np.zeros((9, 5), np.int64)
    rows[:, 1] = 900_000
    np.save("later.npy", rows)
    rows[:, :2] = 900, 0
    np.save("columns.npy", rows)
    np.save("early.npy", np.array([[0, -3, 0, 0, 0]]))
    beside = np.zeros(2, EVENT)
    beside["x"][1] = 16
    np.save("beside.npy", beside)
    Image.fromarray(np.zeros((8, 9), np.uint8)).save("large.png")
    Path("rows.txt").write_text("0 1 2 3 4 5 6 7\n")
    result = hstnn("run", bundle, "--input", name)
    assert result.code == 3, result.err
    assert message in result.error


@pytest.mark.parametrize(
    ("name", "words", "code", "message"),
    [
        ("text", [], 7, "--preprocess: a graph cannot look up a text's words in a vocabulary"),
        ("images", ["--pt2"], 7, "--preprocess: pt2 has no front"),
        ("images", ["--onnx", "--torchscript"], 7, "--preprocess: torchscript has no front"),
        ("images", ["--nir"], 2, "--preprocess applies only to ONNX graphs"),
    ],
)
def test_what_cannot_be_in_a_graph_is_refused_before_anything_is_written(
    hstnn: Hstnn, checkpoints: dict[str, Path], name: str, words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = hstnn("export", "--ckpt", checkpoints[name], "--preprocess", *words, "--out", tmp_path / "b")
    assert result.code == code
    assert message in result.error
    assert result.hint
    assert not (tmp_path / "b").exists()
