"""Trainings from Python on values, by regression."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import hstnn_deploy as hd
from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.models.stack import Stack
from hstnn_deploy.models.tasks import Regression
from hstnn_deploy.train.fitting.evaluating import evaluate
from hstnn_deploy.train.fitting.fit import fit as run_fit
from tests.train.fitting.cases import COUNT, Samples, X, Y

VALUES = np.stack([X.mean((1, 2)), X[:, :, 0].mean(1)], 1)
"""[N, 2]: the mean of a sample, and that of its first input."""
TEST = (X[100:], VALUES[100:])


def network(outputs: int = 2) -> Stack:
    """Return a small spiking network."""
    torch.manual_seed(0)
    lif = hd.layers.lif(tau=2.0, threshold=0.3, surrogate={"arctan": 2.0})
    return hd.Stack([hd.layers.linear(16), lif, hd.layers.linear(outputs)], input=[4], readout="mean")


def fit(train: Any, outputs: int = 2, **options: Any) -> hd.History:
    """Train for two epochs, silently."""
    chosen: dict[str, Any] = {"loss": "regression", "epochs": 2, "batch": 20, "lr": 0.02, "progress": False} | options
    return run_fit(network(outputs), train, **chosen)


def test_values_are_learned_measured_and_proved(tmp_path: Path) -> None:
    found = fit((X[:100], VALUES[:100]), test=TEST, epochs=15)
    assert found.metric == "rmse"
    assert found.test is not None
    assert found.test.score == pytest.approx(found.test.loss**0.5)
    # Half the error of the best answer that does not look.
    assert found.test.loss < Regression().constant(torch.from_numpy(VALUES[100:]), 2) / 4
    assert found.best_epoch == 1 + int(np.argmin(found.curves["valid_loss"]))
    assert f"test rmse {found.test.score:.4g}>" in repr(found)
    assert "drawn by seed 1111; give your own with valid=" in found.notes[0]  # nothing of classes
    # The network knows what it was trained for.
    assert found.network.values
    assert "2 values" in repr(found.network)
    assert evaluate(found.network, TEST) == found.test
    with pytest.raises(UsageError, match="trained by regression") as refused:
        hd.export_bundle(found.network, tmp_path / "bundle")
    assert "hd.fit" in refused.value.hint
    bundle = hd.export_bundle(found, tmp_path / "bundle", test=TEST)
    assert not bundle.failed
    assert not hd.verify_bundle(tmp_path / "bundle", test=TEST).failed
    answers = hd.Session(tmp_path / "bundle").run(TEST[0].swapaxes(0, 1))
    assert float(((answers - TEST[1]) ** 2).mean()) == pytest.approx(found.test.loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["tensors", "loader", "list", "dataset", "collated"])
def test_every_kind_of_data_gives_the_same_training(kind: str) -> None:
    items = Samples(lambda n: (X[n], VALUES[n]))
    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(VALUES))
    data: dict[str, Any] = {
        "tensors": tensors,
        "loader": DataLoader(tensors, batch_size=7, shuffle=True),
        "list": (list(X), list(VALUES)),
        "dataset": items,
        "collated": DataLoader(items, collate_fn=lambda each: tuple(np.stack(part) for part in zip(*each))),  # noqa: B905
    }
    assert fit(data[kind]).curves["valid_loss"] == fit((X, VALUES)).curves["valid_loss"]


def test_one_value_a_sample_and_samples_of_several_lengths() -> None:
    one = fit((X, VALUES[:, 0]), outputs=1)
    assert one.curves["valid_loss"] == fit((X, VALUES[:, :1]), outputs=1).curves["valid_loss"]
    uneven = [each[: 2 + n % 4] for n, each in enumerate(X)]
    listed = fit((uneven, VALUES[:, 0]), outputs=1)
    items = Samples(lambda n: (uneven[n], float(VALUES[n, 0])))
    assert listed.curves["valid_loss"] == fit(items, outputs=1).curves["valid_loss"]


def test_tokens_may_have_values() -> None:
    torch.manual_seed(0)
    layers = [{"embedding": 8, "words": 5}, {"lstm": 4}, {"linear": 2}]
    net = hd.Stack(layers, input=[], readout="last")
    tokens = np.arange(COUNT)[:, None] % 5 + np.zeros((1, 3), dtype=int)
    found = run_fit(net, (tokens, VALUES), loss="regression", epochs=1, batch=20, progress=False)
    assert found.metric == "rmse"


REFUSED: list[tuple[Any, str, str]] = [
    ((X, VALUES[:, :1]), "y of train has rows of 1, one for each sample, but the network has 2 outputs", "last layer"),
    ((X, Y), "y of train contains int64, but a regression learns floating-point numbers", "cross-entropy"),
    ((X, VALUES[:, None]), "a target for each time step is not supported", "[N, K]"),
    ((X, np.where(np.arange(COUNT)[:, None] == 9, np.nan, VALUES)), "not a finite number of float32: sample 9", ""),
    (Samples(lambda n: (X[n], VALUES[n] / (n != 9))), "y of train sample 9 contains a target that is not a finite", ""),
    ((X[:50], VALUES), "x of train contains 50 samples, and y 120", ""),
]


@pytest.mark.parametrize(("data", "message", "hint"), REFUSED, ids=[each[1][:40] for each in REFUSED])
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_values_that_cannot_be_learned(data: Any, message: str, hint: str) -> None:
    with pytest.raises(DataError) as refused:
        fit(data)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_values_are_not_taken_for_classes() -> None:
    with pytest.raises(DataError, match="contains float32, not whole numbers") as refused:
        fit((X, VALUES[:, 0]), loss=None)
    assert 'loss="regression"' in refused.value.hint
    with pytest.raises(DataError, match="one class for each sample") as refused:
        fit((X, VALUES), loss=None)
    assert 'loss="regression"' in refused.value.hint


def test_an_answer_at_each_step_is_no_regression() -> None:
    every = hd.Stack([hd.layers.linear(4), hd.layers.lif(tau=2.0)], input=[4], readout="every")
    with pytest.raises(UsageError, match="the network answers at every step"):
        run_fit(every, (X, VALUES), loss="regression", progress=False)
