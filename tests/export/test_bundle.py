"""Bundles: what they hold, what is proved, and what becomes of a file that fails."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.bundle import export as bundle_module
from hstnn_deploy.export.bundle import quantise
from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph.forms import build
from hstnn_deploy.export.graph.write import write_graphs
from hstnn_deploy.export.proof import comparisons, raw_input
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.comparisons import Subject, asked, on_test_split
from hstnn_deploy.export.proof.engines import graph_engine
from hstnn_deploy.export.runtime.manifest import check_files, read_manifest
from hstnn_deploy.export.runtime.ort import open_graph
from hstnn_deploy.models.hybrid.network import HybridNetwork, as_hybrid
from hstnn_deploy.models.tasks import Classification, LanguageModelling
from tests.export.cases import Case


def test_every_file_is_there_with_its_hash_and_every_check_passed(bundle: Bundle) -> None:
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {"model.window.onnx", "model.step.onnx", "model.ts", "model.pt2"}
    for name, facts in manifest["files"].items():
        path = bundle.folder / name
        assert files.sha256(path) == facts["sha256"]
        assert path.stat().st_size == facts["bytes"]
    assert manifest["verification"]["result"] == "passed"
    assert {check.outcome for check in bundle.checks} == {"passed"}
    assert {check.file for check in bundle.checks} == set(manifest["files"])
    assert {path.name for path in bundle.folder.iterdir()} == {*manifest["files"], "manifest.json"}
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"], "the staging folder is gone"


def test_the_manifest_says_what_a_deployer_needs(bundle: Bundle, best: Path) -> None:
    manifest = bundle.manifest
    checkpoint = Checkpoint.load(best)
    assert manifest["selection"] == checkpoint.selection
    assert manifest["recipe"] == checkpoint.recipe
    assert manifest["metrics"]["protocol"] == "validation"
    assert manifest["metrics"]["test"]["samples"] == 360
    assert "torch" in manifest["tools"]
    kept = {size.snn + size.rnn for size in checkpoint.sizes}
    step = manifest["files"]["model.step.onnx"]
    shapes = {entry["name"]: entry["shape"] for entry in step["inputs"]}
    assert shapes["x"] == ["B", 8]
    assert {shapes[f"v{layer}"][1] + shapes[f"h{layer}"][1] for layer in (1, 2)} == kept
    assert all(entry["meaning"] for entry in (*step["inputs"], *step["outputs"]))


def test_checks_cover_what_was_promised(bundle: Bundle) -> None:
    names = {(check.file, check.name.partition(",")[0]) for check in bundle.checks}
    for name in (
        "onnx checker",
        "free dimensions",
        "replay in ONNX Runtime",
        "replay in ONNX Runtime",
        "replay in onnx's reference evaluator",
        "chunks = window",
        "weights = network",
        "shipped file = replayed file",
        "window = eager",
        "answers on the test split",
    ):
        assert ("model.window.onnx", name) in names
    replays = [c for c in bundle.checks if c.file == "model.window.onnx" and "ONNX Runtime, T=" in c.name]
    assert len({check.name for check in replays}) >= 2, "two (T, B) pairs"
    assert ("model.step.onnx", "step by step = window") in names
    for file in bundle.manifest["files"]:
        for name in ("weights = network", "shipped file = replayed file", "answers on the test split"):
            assert (file, name) in names
    for file in ("model.ts", "model.pt2"):
        assert {(file, "graph = fresh build"), (file, "replay in torch")} <= names


def test_a_graph_that_computes_something_else_is_kept_as_unverified(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    @torch.no_grad()
    def tampered(network: HybridNetwork, *rest: object, **forms: object) -> list[Path]:
        other = as_hybrid(Checkpoint.load(best).network())
        weight = other.stack[0].groups["snn"].ranked()[0]
        weight.view(-1)[0] += 0.5
        return write_graphs(other, *rest, **forms)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_module, "write_graphs", tampered)
    result = export_bundle(best, tmp_path / "bundle")
    assert result.failed
    assert any("diverges first at layer 1 spikes" in check.figure for check in result.failed)
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names == {"model.window.unverified.onnx", "model.step.unverified.onnx", "manifest.json"}
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["verification"]["result"] == "failed"


def test_a_file_that_cannot_be_opened_fails_its_checks(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def truncated(network: HybridNetwork, *rest: object, **forms: object) -> list[Path]:
        paths = write_graphs(network, *rest, **forms)  # type: ignore[arg-type]
        for path in paths:
            path.write_bytes(path.read_bytes()[:-200])
        return paths

    monkeypatch.setattr(bundle_module, "write_graphs", truncated)
    result = export_bundle(best, tmp_path / "bundle", ("torchscript",))
    assert [check.name for check in result.failed] == ["opens and runs"]
    assert (tmp_path / "bundle" / "model.unverified.ts").exists()


def test_a_new_bundle_replaces_the_old_one_whole(best: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    export_bundle(best, folder, ("torchscript",), verify=False)
    assert (folder / "model.ts").exists()
    result = export_bundle(best, folder, ("pt2",), verify=False)
    assert {path.name for path in folder.iterdir()} == {"model.pt2", "manifest.json"}
    assert result.manifest["verification"]["result"] == "not run"


def test_the_result_is_that_of_all_checks_those_of_smaller_graphs_too(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise.Reduction, "refused", property(lambda _: True))
    result = export_bundle(best, tmp_path / "bundle", forms=["step"], smaller=["fp16"])
    assert [check.file for check in result.failed] == ["model.step.fp16.onnx"]
    written = read_manifest(tmp_path / "bundle")
    assert written["verification"]["result"] == "failed"
    assert list(written["files"]) == ["model.step.onnx"]
    # The file that was refused is not in the bundle, and what is there is right.
    assert not verify_bundle(tmp_path / "bundle").failed


def test_a_smaller_graph_that_cannot_be_asked_leaves_no_file_behind(tmp_path: Path) -> None:
    """An unrolled graph of another length than the data's takes none of its samples."""
    ckpt = Case("sequence", "snn").checkpoint(tmp_path / "best.pt")
    result = export_bundle(ckpt, tmp_path / "b", forms=["unrolled"], steps=3, smaller=["fp16"], max_drop=100)
    listed = {*result.manifest["files"], "manifest.json"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == listed
    check_files(tmp_path / "b", result.manifest)


def test_notes_in_the_folder_stay_where_they_are(best: Path, tmp_path: Path) -> None:
    export_bundle(best, tmp_path / "bundle", ("torchscript",), verify=False)
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    export_bundle(best, tmp_path / "bundle", forms=["step"], verify=False)
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names == {"model.step.onnx", "manifest.json", "notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_with_other_things_in_it_is_left_alone(best: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ExportError, match="not a bundle"):
        export_bundle(best, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_export_leaves_the_old_bundle_and_no_rest(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    export_bundle(best, folder, ("torchscript",), verify=False)
    before = (folder / "manifest.json").read_text()

    def interrupted(*_: object, **__: object) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "write_graphs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(best, folder)
    assert (folder / "manifest.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_samples_of_unequal_length_are_asked_for_as_long_as_they_are() -> None:
    """A graph knows no padding: a padded sample is cut, and gets the answer that the network gives it padded."""
    case = Case("sequence", "ffs")
    network = case.network()
    lengths = torch.tensor([5, 3, 5, 1])
    x = torch.rand(5, 4, 8)
    with torch.no_grad():
        padded, _ = network(x, None, lengths)

    class Padded:
        def __len__(self) -> int:
            return 4

        def batch(self, indices: Tensor, device: torch.device) -> Batch:
            return Batch(x[:, indices], padded.argmax(1)[indices], lengths[indices])

    subject = Subject(network, Path(), [x], Classification(), Padded())
    seen = [tuple(batch.x.shape[:2]) for batch in asked(subject, False, "")]
    assert sorted(seen) == [(1, 1), (3, 1), (5, 1), (5, 1)]
    graph = open_graph(build(network, "window", {}).SerializeToString())
    check = on_test_split(Path("model.window.onnx"), subject, graph_engine(graph, subject.face))
    assert check.outcome == "passed"
    assert check.figure == "4 of 4 equal; accuracy 100.00 % (checkpoint 100.00 %)"


class _Sorted:
    """A test split in the order of its classes: sample n is of class n // 5, and its values are n."""

    def __len__(self) -> int:
        return 50

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return Batch(indices.float()[None, :, None].expand(4, -1, 8).contiguous(), indices // 5)


def test_a_large_network_is_asked_a_part_from_all_over_the_test_split_and_the_check_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Case("sequence", "ffs").network()
    told: list[tuple[int, int | None]] = []

    def report(what: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
        assert unit == "samples"
        told.append((done, total))

    subject = Subject(network, Path(), [], Classification(), _Sorted(), "", 4, report=report)
    calls: list[int] = []

    def engine(x: Tensor, state: object) -> Run:
        calls.append(x.shape[1])
        return subject.eager(x)

    # What ten samples of 4 steps come to.
    monkeypatch.setattr(comparisons, "_MOST_VALUES", 10 * 4 * subject.face.values)
    check = on_test_split(Path("model.ts"), subject, engine)
    assert (check.name, check.outcome) == ("answers on the test split, 10 of 50 samples", "passed")
    assert calls == [4, 4, 2]
    assert told == 2 * [(0, 10), (4, 10), (8, 10)]
    seen = [number for batch in asked(subject, False, "") for number in batch.x[0, :, 0].tolist()]
    assert seen == [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]
    # The network's own answers are worked out once; an answer of another class is still found.
    told.clear()
    failed = on_test_split(Path("model.pt2"), subject, lambda x, _: Run(-subject.logits(x), {}, {}))
    assert failed.outcome == "failed"
    assert len(told) == 3
    # A slow engine gets no more than two batches, and whoever wants it all gets it all.
    assert on_test_split(Path("f"), subject, engine, slow=True).name.endswith("8 of 50 samples")
    everything = on_test_split(Path("f"), replace(subject, whole_test=True), engine)
    assert everything.name == "answers on the test split"
    assert everything.figure.startswith("50 of 50 equal")


def test_of_a_text_a_part_is_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Case("language", "ffs").network()
    text = TextSplit(torch.arange(101) % 7, bptt=5, name="a text")
    subject = Subject(network, Path(), [], LanguageModelling(), text, batch=4)
    whole = on_test_split(Path("f"), subject, subject.eager)
    assert (whole.name, whole.outcome) == ("answers on the test split", "passed")
    assert whole.figure.startswith("96 of 96 equal")
    monkeypatch.setattr(comparisons, "_MOST_VALUES", 2 * 5 * 4 * subject.face.values)
    part = on_test_split(Path("f"), replace(subject), subject.eager)
    assert (part.name, part.outcome) == ("answers on the test split, first 40 of 96 words", "passed")


def test_an_unrolled_graph_is_asked_the_windows_of_its_length_and_says_where_there_is_none() -> None:
    network = Case("sequence", "ffs").network()
    subject = Subject(network, Path(), [], Classification(), _Sorted())
    assert on_test_split(Path("f"), subject, subject.eager, steps=4).figure.startswith("50 of 50 equal")
    check = on_test_split(Path("f"), subject, subject.eager, steps=5)
    assert (check.outcome, check.figure) == ("not run", "samples have 4 steps; the graph takes 5")
    # Of a text the last window is shorter than the others.
    text = TextSplit(torch.arange(93) % 7, bptt=5, name="a text")
    subject = Subject(Case("language", "ffs").network(), Path(), [], LanguageModelling(), text, batch=4)
    part = on_test_split(Path("f"), subject, subject.eager, steps=5)
    assert (part.name, part.outcome) == ("answers on the test split, first 80 of 88 words", "passed")


@pytest.mark.parametrize("family", ["sequence", "dvs"])
def test_the_part_that_is_asked_is_the_same_from_raw_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    case = Case(family, "ffs")
    monkeypatch.setattr(comparisons, "numbers_asked", lambda *_: torch.tensor([3, 150, 359]))
    monkeypatch.setattr(raw_input, "numbers_asked", lambda *_: torch.tensor([3, 150, 359]))
    bundle = export_bundle(case.checkpoint(tmp_path / "best.pt"), forms=["window"], preprocess=True)
    assert bundle.failed == []
    (figure,) = [each.figure for each in bundle.checks if each.name.endswith("from raw samples, 3 of 360 samples")]
    assert figure.startswith("3 of 3 samples equal training's to the bit; 3 of 3 answers equal")
