"""The digits that ship with scikit-learn."""

import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits
from torch import Tensor

from hstnn_deploy.data.dataset import Protocol
from hstnn_deploy.data.registry import load, missing, shape
from hstnn_deploy.data.sets.digits import DigitsConfig
from hstnn_deploy.data.splits import Split, Splits

CPU = torch.device("cpu")


def digits(protocol: Protocol) -> Splits:
    return load(DigitsConfig(), protocol)


def everything(split: Split) -> tuple[Tensor, Tensor]:
    x, target, _ = split.batch(torch.arange(len(split)), CPU)
    return x, target


def rows(split: Split) -> list[bytes]:
    return [sample.numpy().tobytes() for sample in everything(split)[0].unbind(1)]


def test_sizes_and_shapes() -> None:
    splits = digits("validation")
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1293, 144, 360)
    x, target = everything(splits.train)
    assert x.shape == (8, 1293, 8)
    assert (x.min().item(), x.max().item()) == (0, 1)
    assert target.unique().tolist() == list(range(10))
    assert (splits.inputs, splits.classes) == (8, 10)


def test_the_size_that_is_known_without_loading_is_the_real_one() -> None:
    splits, known = digits("validation"), shape(DigitsConfig())
    x, target = everything(splits.test)
    assert known is not None
    assert known.train == len(splits.train) + len(splits.valid)
    assert known.test == len(splits.test)
    assert (known.steps, known.inputs, known.classes) == (len(x), x.shape[2], len(target.unique()))
    assert missing(DigitsConfig()) == []


def test_step_t_is_column_t_of_the_image() -> None:
    images = sklearn_digits().images
    known = {image.T.tobytes(): image for image in (images / 16).astype("float32")}
    x, _ = everything(digits("validation").test)
    for sample in x.unbind(1):
        image = known[sample.numpy().tobytes()]
        assert torch.equal(sample[3], torch.from_numpy(image[:, 3].copy()))


def test_labels_belong_to_their_images() -> None:
    bundle = sklearn_digits()
    labels = {
        (image / 16).astype("float32").T.tobytes(): label
        for image, label in zip(bundle.images, bundle.target, strict=True)
    }
    splits = digits("validation")
    for split in (splits.train, splits.valid, splits.test):
        x, target = everything(split)
        assert [labels[sample.numpy().tobytes()] for sample in x.unbind(1)] == target.tolist()


def test_splits_are_disjoint_and_cover_everything() -> None:
    splits = digits("validation")
    parts = [rows(part) for part in (splits.train, splits.valid, splits.test)]
    assert sum(map(len, parts)) == 1797
    assert len(set().union(*parts)) == len({image.tobytes() for image in sklearn_digits().images})


def test_every_split_holds_every_class_in_its_share() -> None:
    splits = digits("validation")
    whole = torch.tensor(sklearn_digits().target).bincount() / 1797
    for split in (splits.train, splits.valid, splits.test):
        share = everything(split)[1].bincount() / len(split)
        assert (share - whole).abs().max() < 0.01


def test_splits_are_the_same_every_time_and_whatever_the_protocol() -> None:
    torch.manual_seed(1)
    first = digits("validation")
    torch.manual_seed(2)
    again, demo = digits("validation"), digits("test")
    for name in ("train", "valid", "test"):
        assert rows(first.split(name)) == rows(again.split(name))
    assert rows(first.test) == rows(demo.test)
    assert len(demo.train) == 1437
    assert demo.valid is demo.test


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_splits_are_found_by_name(name: str) -> None:
    splits = digits("validation")
    assert splits.split(name) is getattr(splits, name)
