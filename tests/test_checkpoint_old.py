"""Stored checkpoints of earlier versions: they load, and their networks answer as they did."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy import checkpoint
from hstnn_deploy.checkpoint import Checkpoint, load_network

OLD = Path(__file__).parent / "old"
"""Checkpoints that earlier versions wrote, and what their networks answered then."""


@pytest.mark.parametrize("family", ["sequence", "language", "convolutional"])
def test_a_stored_checkpoint_of_version_1_answers_as_it_did_when_it_was_written(family: str) -> None:
    path = OLD / f"v1-{family}.pt"
    assert torch.load(path, weights_only=True)["version"] == 1
    stored = np.load(OLD / f"v1-{family}.npz")
    network = load_network(path)
    with torch.no_grad():
        logits, _ = network(torch.from_numpy(stored["x"]))
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-5)
    loaded = Checkpoint.load(path)
    assert loaded.recipe["network"]["recurrent"] == ("lstm" if family == "language" else "rnn")
    assert loaded.recipe["adapt"]["schedule"] == ({"every": 4, "factor": 0.5} if family == "language" else None)
    assert (loaded.vocabulary != "") == (family == "language")
    assert loaded.resolved_recipe().kind == ("hybrid" if family == "sequence" else "ffs")


def test_stored_traces_of_version_1_are_read_too() -> None:
    assert checkpoint.load(OLD / "v1-traces.pt", "traces").keys() >= {"samples"}


def test_an_old_checkpoint_saved_again_is_of_this_version(tmp_path: Path) -> None:
    Checkpoint.load(OLD / "v1-sequence.pt").save(tmp_path / "new.pt")
    assert torch.load(tmp_path / "new.pt", weights_only=True)["version"] == checkpoint.VERSION
    assert Checkpoint.load(tmp_path / "new.pt").recipe == Checkpoint.load(OLD / "v1-sequence.pt").recipe
