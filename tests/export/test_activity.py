"""A proof of a network that does not spike says so, and so does one of a network that learned nothing."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.bundle.extras import NirOptions
from hstnn_deploy.export.proof.activity import check_activity
from hstnn_deploy.recipe.load import parse
from tests.export.cases import Case


def silence(checkpoint: Checkpoint, threshold: float) -> None:
    """Give a checkpoint's neurons a threshold."""
    checkpoint.recipe["network"]["neuron"]["threshold"] = threshold
    checkpoint.architecture = parse(checkpoint.recipe, "a test").network


def exported(folder: Path, case: Case, **metrics: Any) -> Bundle:
    """Export a network as it is after `metrics` in training, with a threshold where one is given."""
    ckpt = case.checkpoint(folder / "best.pt")
    checkpoint = Checkpoint.load(ckpt)
    if "threshold" in metrics:
        silence(checkpoint, metrics.pop("threshold"))
    checkpoint.metrics |= metrics
    checkpoint.save(ckpt)
    return export_bundle(ckpt, folder / "bundle", ["onnx"], forms=["step"])


def of(bundle: Bundle, name: str) -> list[tuple[str, str]]:
    return [(check.outcome, check.figure) for check in bundle.checks if check.name == name]


@pytest.mark.parametrize("family", ["sequence", "dvs"])
def test_rates_stand_in_the_manifest(family: str, tmp_path: Path) -> None:
    bundle = exported(tmp_path, Case(family, "ffs"))
    ((outcome, figure),) = of(bundle, "the network spikes")
    assert outcome == "passed"
    assert figure.startswith("spikes per unit and step on ")
    assert "windows of the test split: layer 1 0." in figure
    written = json.loads((bundle.folder / "manifest.json").read_text())["verification"]["checks"]
    assert figure in [check["figure"] for check in written]
    assert of(bundle, "the training learned something") == []


def test_a_proof_over_silent_layers_is_no_plain_pass(tmp_path: Path) -> None:
    ((outcome, figure),) = of(exported(tmp_path, Case("sequence", "snn"), threshold=1000.0), "the network spikes")
    assert outcome == "not run"
    assert figure.startswith("layers 1 and 2: no unit ever spikes, so the checks prove nothing about thresholds")
    assert "layer 1 0, layer 2 0" in figure


def test_a_layer_that_always_spikes_is_no_plain_pass_either() -> None:
    network = Case("sequence", "snn").network()
    network.stack[0].groups["snn"].ranked()[0].fill_(5.0)
    subject: Any = SimpleNamespace(
        sampled="", network=network, windows=[torch.ones(6, 4, 8), torch.ones(5, 2, 8)], test=None
    )
    first, second = check_activity(subject, ["model.onnx", "model_step.onnx"])
    assert (first.file, second.file, first.outcome) == ("model.onnx", "model_step.onnx", "not run")
    assert "layer 1: every unit spikes at every step" in first.figure
    assert "on 6 random windows: layer 1 1, layer 2 0." in first.figure


def test_a_silent_network_for_neuromorphic_simulators_is_said_to_be_silent(tmp_path: Path) -> None:
    ckpt = Case("sequence", "snn").checkpoint(tmp_path / "best.pt")
    checkpoint = Checkpoint.load(ckpt)
    silence(checkpoint, 1000.0)
    checkpoint.save(ckpt)
    bundle = export_bundle(ckpt, tmp_path / "bundle", [], nir=NirOptions())
    assert [(check.file, check.outcome) for check in bundle.checks] == [
        ("model.nir", "passed"),
        ("model.nir", "not run"),
    ]
    assert "layers 1 and 2: no unit ever spikes" in bundle.checks[1].figure


def test_a_network_without_spiking_units_has_no_such_check(tmp_path: Path) -> None:
    assert of(exported(tmp_path, Case("sequence", "rnn")), "the network spikes") == []


def test_what_was_doubtful_of_the_training_is_repeated(tmp_path: Path) -> None:
    bundle = exported(
        tmp_path, Case("sequence", "snn"), valid={"warnings": ["the training loss is 1e+31 after epoch 2"]}
    )
    assert of(bundle, "the training learned something") == [("not run", "the training loss is 1e+31 after epoch 2")]
