"""CIFAR from its binary records: whole, in part, and never a mystery when a file is not what it should be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.sets.cifar import FORMS, Cifar10Config, Cifar100Config, load_cifar, missing_files
from hstnn_deploy.errors import DataError
from tests.conftest import Hstnn, options, write_cifar

TEN = [[n % 10] for n in range(40)]
HUNDRED = [[n % 20, n] for n in range(100)] * 2


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A data folder with a part of CIFAR-10 under names of its own."""
    write_cifar(tmp_path / "cifar10" / "train_some.bin", TEN * 3)
    write_cifar(tmp_path / "cifar10" / "test_some.bin", TEN)
    return tmp_path


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with CIFAR-10 in its published layout, of 40 images a file."""
    form = FORMS["cifar10"]
    small = form._replace(train=dict.fromkeys(form.train, 40), test=dict.fromkeys(form.test, 40))
    monkeypatch.setitem(FORMS, "cifar10", small)
    for name in (*form.train, *form.test):
        write_cifar(tmp_path / form.folder / name, TEN)
    return tmp_path


def test_step_t_is_column_t_of_the_image_red_then_green_then_blue_and_values_are_in_0_to_1(part: Path) -> None:
    pixels = write_cifar(part / "cifar10" / "train_some.bin", TEN * 3)
    split = load_cifar(Cifar10Config(), Source("test", part)).train
    x, target, _ = split.batch(torch.arange(len(split)), torch.device("cpu"))
    assert x.shape == (32, 120, 96)
    for colour in range(3):
        seen = x[:, :, 32 * colour : 32 * (colour + 1)].permute(1, 2, 0)
        np.testing.assert_allclose(seen.numpy(), pixels[:, colour] / 255, rtol=1e-6)
    assert target.tolist() == [n % 10 for n in range(40)] * 3


def test_a_part_says_that_it_is_one(part: Path) -> None:
    splits = load_cifar(Cifar10Config(), Source("validation", part))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (108, 12, 40)
    assert (splits.inputs, splits.classes, splits.family) == (96, 10, "sequence")
    assert splits.origin.endswith("in part: 120 of 50000 training and 40 of 10000 test images")


def test_the_published_files_are_read_in_order_wherever_their_folder_lies(published: Path) -> None:
    first = write_cifar(published / "cifar-10-batches-bin" / "data_batch_1.bin", TEN[::-1])
    inside = published / "cifar10"
    for place in (published, published / "cifar-10-batches-bin"):
        splits = load_cifar(Cifar10Config(), Source("test", place))
        assert (len(splits.train), len(splits.test)) == (200, 40)
        assert "in part" not in splits.origin
        x = splits.train.batch(torch.arange(40), torch.device("cpu")).x
        np.testing.assert_allclose(x[3, :, 5].numpy(), first[:, 0, 5, 3] / 255, rtol=1e-6)
    inside.mkdir()
    (published / "cifar-10-batches-bin").rename(inside / "cifar-10-batches-bin")
    assert len(load_cifar(Cifar10Config(), Source("test", published)).train) == 200


def test_of_cifar100_the_fine_label_is_learnt(tmp_path: Path) -> None:
    for name in ("train.bin", "test.bin"):
        write_cifar(tmp_path / "cifar100" / name, HUNDRED)
    splits = load_cifar(Cifar100Config(), Source("test", tmp_path))
    assert splits.classes == 100
    assert splits.test.batch(torch.arange(200), torch.device("cpu")).target.tolist() == [*range(100)] * 2


def test_missing_files_are_named(part: Path, tmp_path: Path) -> None:
    assert missing_files("cifar10", part) == []
    (part / "cifar10" / "test_some.bin").unlink()
    assert missing_files("cifar10", part) == ["test*.bin"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(missing_files("cifar100", empty)) == 2
    assert list(empty.iterdir()) == []


def test_a_published_folder_must_be_whole(published: Path) -> None:
    folder = published / "cifar-10-batches-bin"
    (folder / "data_batch_3.bin").unlink()
    assert missing_files("cifar10", published) == ["data_batch_3.bin"]
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing") as refused:
        load_cifar(Cifar10Config(), Source("test", published))
    assert "hstnn data prepare cifar10" in refused.value.hint
    write_cifar(folder / "data_batch_3.bin", TEN[:39])
    with pytest.raises(
        DataError, match=r"data_batch_3\.bin is truncated: 119847 bytes, but the published file has 122920"
    ):
        load_cifar(Cifar10Config(), Source("test", published))
    write_cifar(folder / "data_batch_3.bin", TEN * 2)
    with pytest.raises(DataError, match=r"data_batch_3\.bin is too long"):
        load_cifar(Cifar10Config(), Source("test", published))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test_some.bin is empty"),
        (bytes(3072), "3072 bytes are not a whole number of records of 3073"),
        (b"<!doctype html><html></html>", "28 bytes are not a whole number of records"),
        (bytes(3073) + bytes([10]) + bytes(3072), "image 1 has the label 10, beyond 9"),
    ],
)
def test_a_damaged_file_is_one_clear_line(
    hstnn: Hstnn, part: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (part / "cifar10" / "test_some.bin").write_bytes(content)
    result = hstnn("train", "cifar10", "--data-dir", part, "--out", tmp_path / "out", "--device", "cpu")
    assert result.code == 3
    assert message in result.error
    assert "test_some.bin" in result.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("labels", "message"), [([20, 3], "the label 20, beyond 19"), ([3, 100], "100, beyond 99")])
def test_both_labels_of_cifar100_are_looked_at(tmp_path: Path, labels: list[int], message: str) -> None:
    for name in ("train.bin", "test.bin"):
        write_cifar(tmp_path / name, [[0, 0], labels])
    with pytest.raises(DataError, match=f"image 1 has .*{message}"):
        load_cifar(Cifar100Config(), Source("test", tmp_path))


def test_a_part_is_trained_on_through_the_command_line(hstnn: Hstnn, part: Path, tmp_path: Path) -> None:
    changes = options({"network.units": [6, 5], "adapt.epochs": 1, "batch": 60})
    result = hstnn("train", "cifar10", "--kind", "snn", *changes, "--data-dir", part, "--out", tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    assert "in part: 120 of 50000 training" in result.out
