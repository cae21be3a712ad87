"""The test split's figures epoch by epoch: they change nothing of a training, and are those of the network then."""

from pathlib import Path

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.models.tasks import Classification
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.train.stages import train
from tests.train.stage_cases import tiny


def _trained(out: Path, test_curve: bool) -> RunFolder:
    (run,) = train(tiny(kind="snn", adapt__epochs=3), out, test_curve=test_curve)
    return run


def test_the_curve_is_measured_of_every_epoch_and_changes_nothing(tmp_path: Path) -> None:
    with_curve, without = _trained(tmp_path / "with", True), _trained(tmp_path / "without", False)
    rows, plain = with_curve.metrics(), without.metrics()
    assert all("test_accuracy" in row and "test_loss" in row for row in rows)
    assert not any(key.startswith("test_") for row in plain for key in row)
    for mine, theirs in zip(rows, plain, strict=True):
        same = [key for key in theirs if not key.endswith("seconds")]
        assert {key: mine[key] for key in same} == {key: theirs[key] for key in same}
    one, other = Checkpoint.load(with_curve.best), Checkpoint.load(without.best)
    assert all(torch.equal(value, other.parameters[name]) for name, value in one.parameters.items())


def test_a_figure_of_the_curve_is_that_of_the_network_of_its_epoch(tmp_path: Path) -> None:
    run = _trained(tmp_path, True)
    last = Checkpoint.load(run.last)
    test = load(last.resolved_recipe().data, "validation").test
    found = evaluate(last.network(), Classification(), test, 256, torch.device("cpu"))
    row = run.metrics()[-1]
    assert row["test_accuracy"] == found["accuracy"]
    assert row["test_loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert run.metrics()[0]["test_accuracy"] != row["test_accuracy"]
