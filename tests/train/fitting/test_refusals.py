"""What `hd.fit` and `hd.evaluate` refuse before any training: one line, and a hint that helps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

import hstnn_deploy as hd
from hstnn_deploy.errors import DataError, DeviceError, RecipeError, RunError, UsageError
from hstnn_deploy.train.fitting.evaluating import evaluate
from hstnn_deploy.train.fitting.fit import fit as run_fit
from hstnn_deploy.train.observer import Observer
from tests.train.fitting.cases import CLASSES, COUNT, Samples, X, Y, network


class Endless(IterableDataset[Any]):
    """No samples by number."""

    def __iter__(self) -> Any:
        return iter(())


def broken(number: int) -> Any:
    """Raise for one sample."""
    if number == 7:
        raise OSError("file 7\nis damaged")
    return X[number], int(Y[number])


def changed(at: int, sample: Any) -> Callable[[int], Any]:
    """Give another sample at one place."""
    return lambda number: sample if number == at else (X[number], int(Y[number]))


NAN = X.copy()
NAN[3, 2, 1] = np.nan

DATA: list[tuple[Any, str, str]] = [
    ((X.swapaxes(0, 1), Y), "x of train contains 5 samples, and y 120", "x.swapaxes(0, 1)"),
    ((X[:, 0], Y), "x of train has shape [120, 4], but the network takes [N, T, 4]", "x[:, None]"),
    ((X[..., :3], Y), "has shape [120, 5, 3], but the network takes [N, T, 4]", "samples come first"),
    ((X.reshape(COUNT, 5, 2, 2), Y), "has shape [120, 5, 2, 2]", "x.reshape(N, T, 4)"),
    ((X[..., None], Y), "has shape [120, 5, 4, 1]", "x.reshape(N, T, 4)"),
    ((X, Y[:9]), "x of train contains 120 samples, and y 9", "one class for each sample"),
    ((X, np.eye(CLASSES)[Y]), "y of train has shape [120, 4]", "y.argmax(1)"),
    ((X, Y.astype(float)), "y of train contains float64, not whole numbers", "y.astype(int)"),
    ((X, Y + 1), "y of train contains class 4 at 3, but the network has 4 scores", "number classes from 0"),
    ((X, Y - 1), "y of train contains class -1 at 0", "number classes from 0"),
    ((X, 3), "y of train has shape []", ""),
    ((X.astype(str), Y), "x of train contains <U", ""),
    ((X.astype(complex), Y), "x of train contains complex128, not numbers", ""),
    ((torch.from_numpy(X).to_sparse(), Y), "torch.sparse_coo", "dense"),
    (([[[1.0]], [[1.0], [2.0]]], [0, 1]), "x of train is list, not an array of numbers", "give an array"),
    (([X[0], X[1]], Y), "x of train contains 2 samples, and y 120", ""),
    (([X[0], X[1, :, :2]], [0, 1]), "x of train sample 1 has shape [5, 2]", ""),
    (([X[0], X[1, :0]], [0, 1]), "x of train sample 1 has shape [0, 4]: it is empty", ""),
    ((X[:0], Y[:0]), "x of train has shape [0, 5, 4]: it is empty", ""),
    ((NAN, Y), "x of train contains NaN or infinity, first in sample 3", "isfinite"),
    (
        (X.astype(float) * 1e300, Y),
        "x of train contains numbers that are too large for float32, first in sample 0",
        "scale",
    ),
    ((torch.zeros(COUNT, 5, 4, device="meta"), Y), "x of train is a tensor on the device meta", "CPU"),
    ((X, [f"class {n}" for n in Y]), "y of train contains <U7, not numbers", "return_inverse"),
    ((X, Y[:, None]), "y of train has shape [120, 1]", "y[:, 0]"),
    ((X, Y, Y), "train is a tuple of 3, which is not data", "(x, y)"),
    (X, "train is ndarray, which is not data", "(x, y)"),
    ([X, Y], "train is a list of 2, which is not data", "give a tuple: (x, y), not [x, y]"),
    ([(X[0], 0), (X[1], "three")], "y of train sample 1 contains <U5, not numbers", ""),
    ([], "train is a list of 0, which is not data", "(x, y)"),
    (None, "train is NoneType, which is not data", "(x, y)"),
    (Endless(), "train is Endless, which does not give samples by number", "map-style"),
    (DataLoader(Endless()), "train is Endless, which does not give samples by number", "map-style"),
    (TensorDataset(torch.from_numpy(X)), "not a pair (x, y)", ""),
    (Samples(broken), "sample 7 of Samples fails for train: OSError: file 7 is damaged", "dataset[7]"),
    (DataLoader(Samples(broken), num_workers=1), "sample 7 of Samples fails for train", "dataset[7]"),
    (Samples(changed(5, X[5])), "train sample 5 is ndarray, not a pair (x, y)", ""),
    (Samples(changed(5, (X[5, :, :2], 1))), "x of train sample 5 has shape [5, 2]", ""),
    (Samples(changed(5, (X[5], 9))), "y of train sample 5 contains class 9, but the network has 4 scores", ""),
    (Samples(changed(5, (X[5], "b"))), "y of train sample 5 contains <U1", ""),
    (Samples(changed(5, (NAN[3], 1))), "x of train sample 5 contains NaN", ""),
    (
        DataLoader(Samples(), sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)),
        "draws samples by WeightedRandomSampler",
        "shuffle=True",
    ),
    (DataLoader(Samples(), collate_fn=lambda items: items[0][0]), "collate_fn returns neither (x, y)", "[B, T"),
    (DataLoader(Samples(), collate_fn=lambda items: 1 / 0), "collate_fn fails", ""),
]


@pytest.mark.parametrize(("data", "message", "hint"), DATA, ids=[message[:40] for _, message, _ in DATA])
def test_data_that_cannot_be_trained_on(data: Any, message: str, hint: str) -> None:
    with pytest.raises(DataError) as refused:
        run_fit(network(), data, epochs=1, progress=False)
    assert message in refused.value.message
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("name", ["valid", "test"])
def test_other_data_is_looked_at_before_training_too(name: str) -> None:
    with pytest.raises(DataError, match=f"x of {name} has shape"):
        run_fit(network(), (X, Y), **{name: (X[..., :2], Y)}, progress=False)  # type: ignore[arg-type]


def test_a_dataset_that_breaks_later_is_one_error_too() -> None:
    asked = 0

    def later(number: int) -> Any:
        nonlocal asked
        asked += 1
        if asked > COUNT + 40 and number == 11:
            raise ValueError("the disk is gone")
        return X[number], int(Y[number])

    with pytest.raises(DataError, match="sample 11 of Samples fails for train: ValueError: the disk is gone"):
        run_fit(network(), Samples(later), (X[:40], Y[:40]), epochs=3, batch=20, progress=False)


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"epochs": 0}, RecipeError, "train.epochs is 0"),
    ({"lr": -1.0}, RecipeError, "train.lr is -1.0"),
    ({"batch": 0}, RecipeError, "batch is 0"),
    ({"optimiser": "adamw"}, RecipeError, "train.optimiser is 'adamw'"),
    ({"schedule": {"name": "never"}}, RecipeError, "train.schedule"),
    ({"seed": -1}, RecipeError, "seed is -1"),
    ({"precision": "fp8"}, RecipeError, "precision is 'fp8'"),
    ({"name": "a/b"}, RecipeError, "name is 'a/b'"),
    ({"loss": "hinge"}, UsageError, "loss is 'hinge', which is unknown"),
    ({"loss": "next-word"}, UsageError, "answers once for each sample"),
    ({"device": "tpu"}, UsageError, "unknown device 'tpu'"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS, ids=lambda each: str(each)[:30])
def test_options_that_cannot_be_are_refused_before_the_data_is_read(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace("/", ".")):
        run_fit(network(), Samples(broken), **({"progress": False} | options))


@pytest.mark.parametrize("given", [print, Observer, [print], "bar"])
def test_an_observer_that_is_none(given: Any) -> None:
    with pytest.raises(UsageError, match="not an observer") as refused:
        run_fit(network(), (X, Y), observer=given, progress=False)
    assert "hd.Observer" in refused.value.hint


def test_nothing_to_evaluate_on() -> None:
    with pytest.raises(UsageError, match="evaluate got no data"):
        evaluate(network())  # type: ignore[call-overload]


def test_weights_that_are_lost_are_refused_though_the_loss_is_a_number() -> None:
    large = X * np.float32(2.8e38)  # a membrane that is NaN never spikes
    with pytest.raises(RunError, match=r"layers.0.weight contains NaN or infinity after epoch 1") as refused:
        run_fit(network(), (large, Y), (X, Y), epochs=1, progress=False)
    assert "learning rate" in refused.value.hint


def test_a_folder_of_another_training_is_refused_in_the_words_of_python(tmp_path: Path) -> None:
    run_fit(network(), (X, Y), epochs=1, out=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"data.sha256.train was \w{12}…, is \w{12}…") as refused:
        run_fit(network(), (X[::-1].copy(), Y), epochs=1, out=tmp_path / "run", resume=True, progress=False)
    assert "out=" in refused.value.hint
    assert "--" not in refused.value.hint


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for run in (
        lambda: run_fit(network(), (X, Y), device="cuda"),
        lambda: hd.evaluate(network(), (X, Y), device="cuda"),
    ):
        with pytest.raises(DeviceError, match="'cuda' is not available") as refused:
            run()
        assert 'device="cpu"' in refused.value.hint


def test_networks_that_are_none_or_lie_nowhere() -> None:
    with pytest.raises(UsageError, match="network is Linear, not a network of this package") as refused:
        run_fit(torch.nn.Linear(2, 2), (X, Y))  # type: ignore[arg-type]
    assert "hd.from_torch" in refused.value.hint
    with pytest.raises(UsageError, match="network is str"):
        hd.evaluate("best.pt", (X, Y))  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="the network is on the device meta"):
        run_fit(network().to("meta"), (X, Y))
    split = network()
    split.layers[2].to("meta")
    with pytest.raises(UsageError, match="the network is on 2 devices: cpu, meta"):
        run_fit(split, (X, Y))


def test_a_window_longer_than_the_network_knows() -> None:
    layers = [hd.layers.linear(8), hd.layers.norm("step", steps=3), "lif", hd.layers.linear(CLASSES)]
    short = hd.Stack(layers, input=[CLASSES])
    with pytest.raises(DataError, match="x of train has 5 time steps; the network has numbers for 3"):
        run_fit(short, (X, Y), progress=False)


def test_texts_and_splits_that_do_not_fit() -> None:
    from hstnn_deploy.data.splits import ArraySplit
    from hstnn_deploy.data.text import TextSplit

    with pytest.raises(DataError, match="train is a text"):
        run_fit(network(), TextSplit(torch.arange(50) % 5, 5, "text"), progress=False)
    with pytest.raises(DataError, match="class 5"):
        run_fit(network(), ArraySplit(torch.from_numpy(X), torch.from_numpy(Y + 2)), progress=False)
    with pytest.raises(DataError, match=r"\[120, 5, 2\]"):
        hd.evaluate(network(), ArraySplit(torch.from_numpy(X[..., :2]), torch.from_numpy(Y)))
    with pytest.raises(UsageError, match="batch must be at least 1"):
        hd.evaluate(network(), (X, Y), batch=0)
    with pytest.raises(DataError, match="sample 7 of Samples fails for data"):
        hd.evaluate(network(), Samples(broken))
