"""Splits: stratified, disjoint, fixed; batches time-major."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from torch import Tensor

from hstnn_deploy.data.splits import ArraySplit, as_values, hold_out, with_validation
from hstnn_deploy.errors import DataError


def test_a_small_split_is_held_whole_by_the_device_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        """Looks like a GPU to the split, and is the processor to torch."""

        type = "cuda"

    moved: list[object] = []

    def to(self: Tensor, device: object, **options: object) -> Tensor:
        moved.append(self.numel())
        moved_here: Tensor = self if isinstance(device, Gpu) else real(self, device, **options)
        return moved_here

    real: Any = Tensor.to
    split, gpu, order = split_of(3), Gpu(), torch.tensor([4, 1, 2])
    expected = split.batch(order, torch.device("cpu"))
    monkeypatch.setattr(Tensor, "to", lambda self, *given, **options: to(self, *given, **options))
    first, second = (split.batch(order, gpu) for _ in range(2))  # type: ignore[arg-type]
    monkeypatch.undo()
    for found in (first, second):
        assert torch.equal(found.x, expected.x)
        assert torch.equal(found.target, expected.target)
    assert moved.count(split.x.numel()) == 1, "the samples travel once"


def split_of(per_class: int, classes: int = 10) -> ArraySplit:
    target = torch.arange(per_class * classes) % classes
    return ArraySplit(torch.arange(len(target) * 6, dtype=torch.uint8).reshape(-1, 3, 2), target, scale=0.5)


def test_batches_are_time_major_scaled_and_in_the_order_asked_for() -> None:
    split = split_of(2)
    x, target, lengths = split.batch(torch.tensor([5, 0]), torch.device("cpu"))
    assert x.shape == (3, 2, 2)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x[2, 0].tolist() == [(5 * 6 + 4) / 2, (5 * 6 + 5) / 2]
    assert x[0, 1].tolist() == [0, 0.5]
    assert target.tolist() == [5, 0]
    assert lengths is None


def test_asking_for_a_batch_does_not_change_the_samples() -> None:
    split = ArraySplit(torch.ones(2, 3, 2), torch.zeros(2, dtype=torch.int64), scale=0.5)
    for _ in range(2):
        x, _, _ = split.batch(torch.tensor([0, 1]), torch.device("cpu"))
        assert x.unique().tolist() == [0.5]


@given(st.integers(10, 40), st.integers(2, 10), st.integers(0, 5))
def test_held_out_samples_are_stratified_and_disjoint(per_class: int, classes: int, seed: int) -> None:
    target = split_of(per_class, classes).target
    rest, held = hold_out(target, 0.1, seed)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(target)))
    assert rest.tolist() == sorted(rest.tolist())
    assert held.tolist() == sorted(held.tolist())
    counts = target[held].bincount(minlength=classes)
    assert counts.max() - counts.min() <= 1


@given(
    st.lists(st.integers(0, 6), min_size=10, max_size=300),
    st.sampled_from([0.1, 0.2, 1 / 3]),
    st.integers(0, 2**32 - 1),
)
def test_samples_are_held_out_as_scikit_learn_holds_them_out(target: list[int], fraction: float, seed: int) -> None:
    try:
        known = train_test_split(range(len(target)), test_size=fraction, stratify=target, random_state=seed)
    except ValueError:
        with pytest.raises(DataError):
            hold_out(torch.tensor(target), fraction, seed)
        return
    found = hold_out(torch.tensor(target), fraction, seed)
    assert [part.tolist() for part in found] == [sorted(part) for part in known]


def test_a_tenth_of_training_is_held_out_under_the_validation_protocol() -> None:
    split = split_of(20)
    train, valid = with_validation(split, "validation")
    assert valid is not None
    assert (len(train), len(valid)) == (180, 20)
    assert valid.target.bincount().tolist() == [2] * 10


def test_nothing_is_held_out_under_the_demos_protocol() -> None:
    split = split_of(20)
    assert with_validation(split, "test") == (split, None)


def test_the_validation_split_does_not_hang_on_torchs_seed() -> None:
    held = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        held.append(hold_out(split_of(20).target, 0.1)[1].tolist())
    assert held[0] == held[1]


@pytest.mark.parametrize("target", [[0, 0, 1], list(range(10)) * 2, []])
def test_too_few_samples_to_hold_any_out_is_a_data_error(target: list[int]) -> None:
    with pytest.raises(DataError, match="cannot hold out") as refused:
        hold_out(torch.tensor(target, dtype=torch.int64), 0.1)
    assert refused.value.hint


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_values_are_held_out_as_scikit_learn_does_without_classes(samples: int, seed: int) -> None:
    target = torch.zeros(samples, 2)
    rest, held = hold_out(target, 0.1, seed)
    theirs = train_test_split(range(samples), test_size=0.1, random_state=seed)
    assert [rest.tolist(), held.tolist()] == [sorted(each) for each in theirs]


def test_one_sample_of_values_cannot_be_on_both_sides() -> None:
    with pytest.raises(DataError, match="cannot hold out 10 % of 1 samples with samples on both sides"):
        hold_out(torch.zeros(1, 2), 0.1)


def test_values_are_taken_as_they_are() -> None:
    given_ = torch.tensor([1e-3, 2e6, -5.0], dtype=torch.float64)
    found = as_values(given_, "y.npy")
    assert (found.shape, found.dtype) == ((3, 1), torch.float32)
    assert found[:, 0].tolist() == given_.float().tolist()
    split = ArraySplit(torch.zeros(3, 4, 2), found)
    assert split.batch(torch.tensor([2, 0]), torch.device("cpu")).target.tolist() == found[[2, 0]].tolist()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (torch.zeros(3, dtype=torch.int64), "y.npy has type torch.int64"),
        (torch.zeros(3, 5, 2), r"shape \[3, 5, 2\]: a target for each time step is not supported"),
        (torch.zeros(3, 0), r"shape \[3, 0\]: there is nothing to learn"),
        (torch.tensor([[0.0, 1.0], [2.0, float("nan")]]), "not a finite number of float32: sample 1"),
        (torch.tensor([1e300], dtype=torch.float64), "not a finite number of float32"),
    ],
)
def test_what_is_no_values_is_refused(target: Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_values(target, "y.npy")
