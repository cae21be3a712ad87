"""A manifest that anybody may have sealed: what it says is compared with recipe, weights, data and checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.export.bundle.claims import unlike
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.bundle.extras import NirOptions
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph import nir_apart
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.export.proof import comparisons
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.runtime.manifest import read_manifest
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.train.evaluation import evaluate
from tests.export.cases import Case

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint that says how well it does, and its bundle."""
    folder = tmp_path_factory.mktemp("claims")
    ckpt = Case("sequence", "snn").checkpoint(folder / "best.pt")
    checkpoint = Checkpoint.load(ckpt)
    recipe = checkpoint.resolved_recipe()
    test = load(recipe.data, recipe.protocol).test
    network, task = checkpoint.network(), task_for(recipe.network)
    checkpoint.metrics["test"] = evaluate(network, task, test, recipe.batch, torch.device("cpu"))
    checkpoint.save(ckpt)
    return ckpt, export_bundle(ckpt, folder / "bundle", forms=["step"], nir=NirOptions(2e-4)).folder


@pytest.fixture
def bundle(exported: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(exported[1], tmp_path / "bundle")


def forge(bundle: Path, change: Callable[[Facts], object]) -> None:
    facts = read_manifest(bundle)
    facts.pop("seal")
    change(facts)
    write_manifest(bundle, facts)


def test_what_was_exported_is_true(exported: tuple[Path, Path]) -> None:
    ckpt, bundle = exported
    result = verify_bundle(bundle, ckpt)
    assert {check.outcome for check in result.checks} == {"passed"}
    of_manifest = {check.name: check.figure for check in result.checks if check.file == "manifest.json"}
    assert set(of_manifest) == {
        "follows from recipe and weights",
        f"says what {ckpt} says",
        "test accuracy = measured",
        "checks on record",
    }
    assert of_manifest["test accuracy = measured"].endswith("of 360; at most 0.56 apart")
    assert Check("model.nir", "graph = written again", "passed", "every number is equal to the bit") in result.checks


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (lambda f: f["network"]["neuron"].update(threshold=0.5), "follows", "network.neuron.threshold is 0.5; it"),
        (lambda f: f["network"]["neuron"].pop("threshold"), "follows", "network.neuron.threshold is missing"),
        (lambda f: f["input"].update(white=255), "follows", "input.white is 255; it should be 16"),
        (lambda f: f.pop("input"), "follows", "input is None"),
        (lambda f: f["network"]["states"][0].update(reset="window"), "follows", "network.states.0.reset is 'window'"),
        (lambda f: f["network"]["states"][0]["shape"].append(3), "follows", "network.states.0.shape"),
        (lambda f: f["network"]["states"].pop(), "follows", "network.states is"),
        (lambda f: f["network"].update(kind="rnn"), "follows", "network.kind is 'rnn'; it should be 'snn'"),
        (lambda f: f["network"].update(recurrent="lstm"), "follows", "network.recurrent"),
        (lambda f: f["network"].update(window_steps=35), "follows", "network.window_steps is 35; it should be None"),
        (lambda f: f["network"]["units"][0].update(layer=2), "follows", "network.units.0.layer is 2"),
        (lambda f: f["metrics"].update(protocol_meaning="the best"), "follows", "metrics.protocol_meaning"),
        (
            lambda f: f["files"]["model.step.onnx"]["inputs"][0].update(meaning="anything"),
            "follows",
            "files.model.step.onnx.inputs.0.meaning is 'anything'",
        ),
        (lambda f: f["files"]["model.step.onnx"]["outputs"].pop(), "follows", "files.model.step.onnx.outputs"),
        (lambda f: f["files"]["model.step.onnx"].update(form="window"), "follows", "files.model.step.onnx.form"),
        (lambda f: f["metrics"]["test"].update(accuracy=99.9), "test accuracy", "manifest 99.90 %"),
        (lambda f: f["metrics"]["test"].update(samples=36000), "test accuracy", "of 36000 samples"),
        (lambda f: f["metrics"].update(test={"accuracy": 10}), "test accuracy", "lacks the accuracy"),
        (lambda f: f["metrics"].update(test={}), "test accuracy", "lacks the accuracy"),
        (lambda f: f["verification"].update(checks=[]), "checks on record", "it has no check of model."),
        (
            lambda f: f["verification"]["checks"].pop(0),
            "checks on record",
            "it has no check 'onnx checker' of model.step.onnx",
        ),
        (
            lambda f: f["verification"]["checks"][0].update(file="model.window.onnx"),
            "checks on record",
            "a check names 'model.window.onnx', which is not in the bundle",
        ),
        (
            lambda f: f["verification"]["checks"][0].update(outcome="failed"),
            "checks on record",
            "the result is passed, but 1 of",
        ),
        (lambda f: f["verification"].update(result="failed"), "checks on record", "but 0 of"),
    ],
)
def test_what_follows_from_recipe_weights_and_data_cannot_be_said_otherwise(
    bundle: Path, change: Callable[[Facts], object], name: str, words: str
) -> None:
    forge(bundle, change)
    found = [(check.name, check.figure) for check in verify_bundle(bundle).failed if check.file == "manifest.json"]
    assert [text for text, figure in found if text.startswith(name) and words in figure], found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["network"].update(stage="restore"), "network.stage is 'restore'; it should be 'train'"),
        (lambda f: f["metrics"].update(epoch=99), "metrics.epoch is 99; it should be 1"),
        (lambda f: f["metrics"].update(valid={"accuracy": 100}), "metrics.'valid' should not be there"),
        (lambda f: f["checkpoint"].update(sha256="0" * 64), "checkpoint.sha256 is"),
        (lambda f: f.update(selection={"ratio": 0.5}), "selection is"),
        (lambda f: f.update(trained_with={"gpu": "none"}), "trained_with.'gpu' should not be there"),
        (lambda f: f["recipe"].update(seed=3), "the recipe differs"),
    ],
)
def test_what_only_the_checkpoint_knows_is_compared_with_it(
    exported: tuple[Path, Path], bundle: Path, change: Callable[[Facts], object], words: str
) -> None:
    forge(bundle, change)
    result = verify_bundle(bundle, exported[0])
    (figure,) = [check.figure for check in result.failed if check.name == f"says what {exported[0]} says"]
    assert words in figure


def test_a_part_of_the_test_split_says_nothing_of_the_whole(
    exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "_MOST_VALUES", 1000.0)
    result = verify_bundle(exported[1])
    (check,) = [check for check in result.checks if check.name == "test accuracy = measured"]
    assert (check.outcome, "--whole-test" in check.figure) == ("not run", True)


def test_a_bundle_without_a_proof_says_so_and_its_proof_is_made_now(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = export_bundle(exported[0], tmp_path / "b", forms=["step"], verify=False).folder
    result = verify_bundle(folder)
    assert not result.failed
    assert result.checks[-1].figure == "the bundle was exported without a proof, as its manifest says"


def test_the_words_of_a_language_model_are_those_it_was_trained_with(tmp_path: Path) -> None:
    ckpt = Case("language", "snn").checkpoint(tmp_path / "best.pt")
    bundle = export_bundle(ckpt, tmp_path / "b", forms=["step"], verify=False).folder
    words = bundle / "vocabulary.json"
    for content, figure in (
        (words.read_text().replace('"', "'"), "it is not a list of words"),
        (json.dumps([*json.loads(words.read_text())[::-1]]), "its words differ from the network's (SHA-256)"),
    ):
        words.write_text(content)
        forge(bundle, lambda f: f["carried"]["vocabulary.json"].update(sha256=files.sha256(words)))
        checks = [check for check in verify_bundle(bundle).failed if check.file == "vocabulary.json"]
        assert [(check.name, check.figure.partition(",")[0]) for check in checks] == [("words of the network", figure)]


def test_a_nir_graph_of_another_network_is_found(bundle: Path) -> None:
    other = Case("sequence", "snn").network()
    with torch.no_grad():
        next(iter(other.state_dict().values()))[0, 0] += 1e-3
    write_nir(other, bundle / "model.nir", 2e-4)
    forge(bundle, lambda f: f["carried"]["model.nir"].update(sha256=files.sha256(bundle / "model.nir")))
    (check,) = verify_bundle(bundle).failed
    assert (check.file, check.name) == ("model.nir", "graph = written again")
    forge(bundle, lambda f: f["carried"]["model.nir"].pop("options"))
    (check,) = [check for check in verify_bundle(bundle).checks if check.name == "graph = written again"]
    assert check.outcome == "not run"


def test_a_damaged_nir_graph_is_read_in_a_process_of_its_own(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bundle / "model.nir"
    raw = bytearray(file.read_bytes())
    # The heap that holds texts says that it is longer than it is: the HDF5 library runs for ever.
    raw[raw.index(b"GCOL") + 9] = 125
    for damaged, figure in ((bytes(raw), "damaged, or not a NIR graph"), (b"not HDF5", "model.nir")):
        file.write_bytes(damaged)
        forge(bundle, lambda f: f["carried"]["model.nir"].update(sha256=files.sha256(file)))
        monkeypatch.setattr(nir_apart, "_SECONDS", 3)
        (check,) = verify_bundle(bundle).failed
        assert (check.file, check.name) == ("model.nir", "graph = written again")
        assert check.figure.startswith("cannot read it: ")
        assert figure in check.figure


def test_plain_data_is_compared_with_its_types() -> None:
    assert unlike({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}, "it") == ""
    assert unlike({"a": True}, {"a": 1}, "it") == "it.a is True; it should be 1"
    assert unlike({"a": 1, "\x1b": 2}, {"a": 1}, "it") == "it.'\\x1b' should not be there"
    assert unlike({"a": 1, "c": 2}, {"a": 1}, "it", more=True) == ""
    assert unlike([1], [1, 2], "it") == "it is [1]; it should be [1, 2]"
