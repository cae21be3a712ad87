"""Data sets of a user's own that are not what they say: refused at the batch that shows it, in one line."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import hstnn_deploy as hd
from hstnn_deploy.data.registry import load, shape
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.recipe.load import parse

C = hd.custom

pytestmark = pytest.mark.usefixtures("no_parts")

Y = np.arange(60) % 4
X = np.eye(4, dtype=np.float32)[Y][:, None, :].repeat(5, 1)
BAD = X.copy()
BAD[3, 2, 1] = np.nan


class Own:
    """A split that a user wrote."""

    def __init__(self, change: Callable[[Batch], Any] = lambda batch: batch, count: int = 60) -> None:
        self.change, self.count = change, count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Tensor, device: torch.device) -> Any:
        x, y = torch.from_numpy(X[indices.numpy()]), torch.from_numpy(Y[indices.numpy()])
        return self.change(Batch(x.movedim(0, 1).contiguous().to(device), y.to(device)))


def data(given: Callable[[Any], Any], **more: Any) -> Any:
    """Register a data set whose `load` returns what is given for a source; return its configuration."""

    def loads(self: Any, source: Any) -> Any:
        return given(source)

    C.data_set("odd")(type("Odd", (C.Data,), {"load": loads, "__module__": __name__, "__annotations__": {}, **more}))
    network = {"family": "stack", "input": [4], "layers": [{"linear": 8}, "lif", {"linear": 4}], "readout": "sum"}
    return parse(
        {"name": "m", "data": {"name": "odd"}, "batch": 20, "network": network, "train": {"epochs": 1, "lr": 0.01}}, "m"
    )


def splits(train: Any, test: Any = None) -> Any:
    return C.Splits(train, test or Own(), test or Own(), 4, 4, "mine")


SPLITS: dict[str, tuple[Own, str]] = {
    "lengths past the end": (
        Own(lambda b: b._replace(lengths=torch.full_like(b.target, 9))),
        "lengths other than 1 to 5",
    ),
    "lengths of nothing": (Own(lambda b: b._replace(lengths=torch.zeros_like(b.target))), "lengths other than 1 to 5"),
    "too few lengths": (Own(lambda b: b._replace(lengths=torch.ones(1))), "lengths other than 1 to 5"),
    "classes that are none": (Own(lambda b: b._replace(target=b.target + 3)), "classes other than 0 to 3"),
    "classes with fractions": (Own(lambda b: b._replace(target=b.target + 0.5)), "classes other than 0 to 3"),
    "fewer samples": (Own(lambda b: Batch(b.x[:, :1], b.target[:1])), r"x\[5, 1, 4\] for [12] samples"),
    "fewer classes": (Own(lambda b: b._replace(target=b.target[:1])), r"target\[1\] for [12] samples"),
    "NaN": (Own(lambda b: b._replace(x=b.x * float("nan"))), "NaN or infinity in x"),
    "no batch": (Own(lambda b: tuple(b)), "'tuple', not a Batch of tensors"),
    "arrays": (Own(lambda b: b._replace(x=cast(Any, b.x.numpy()))), "not a Batch of tensors"),
    "no step": (Own(lambda b: b._replace(x=b.x[:0])), r"x\[0, 2, 4\] for [12] samples"),
    "it raises": (Own(lambda b: 1 / 0), "raises: ZeroDivisionError"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_that_lies_is_refused_at_its_batch(name: str) -> None:
    split, said = SPLITS[name]
    with pytest.raises(hd.HstnnError, match=said) as refused:
        load(data(lambda source: splits(split)).data, "test").train.batch(torch.tensor([0, 7]), torch.device("cpu"))
    assert refused.value.message.startswith("train of data set odd ")
    assert "\n" not in refused.value.message


def test_a_split_that_is_longer_than_it_says(tmp_path: Any) -> None:
    recipe = data(lambda source: splits(Own(count=80)))
    with pytest.raises(hd.HstnnError, match="train of data set odd raises: IndexError"):
        hd.train_recipe(recipe, tmp_path)


def test_a_split_that_is_what_it_says_is_trained_on(tmp_path: Any) -> None:
    train, test = Own(), Own()
    recipe = data(lambda source: splits(train, test))
    found = load(recipe.data, "test")
    assert found.valid is found.test  # an epoch that is chosen on the test split is said to be
    assert (len(found.train), found.train.count) == (60, 60)  # type: ignore[attr-defined]
    (run,) = hd.train_recipe(recipe, tmp_path)
    assert run.best.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: C.arrays((BAD, Y), (X, Y)), "x of train contains NaN or infinity, first in sample 3"),
        (lambda: C.arrays((X, Y), (BAD, Y)), "x of test contains NaN or infinity, first in sample 3"),
        (lambda: splits(3), "train of data set odd is 'int', not a split"),
    ],
)
def test_what_is_no_data_is_refused_when_it_is_loaded(make: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError) as found:
        load(data(lambda source: make()).data, "test")
    assert said in found.value.message


def test_a_shape_is_a_shape() -> None:
    with pytest.raises(hd.HstnnError, match="data set odd gives 3 for its shape"):
        shape(data(lambda source: splits(Own()), shape=lambda self: 3).data)
