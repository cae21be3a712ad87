"""Tiny-ImageNet from its folders: decoded once, whole or in part, and never a mystery when a file is wrong."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.prepare import verify
from hstnn_deploy.data.sets import tiny_imagenet
from hstnn_deploy.data.sets.tiny_imagenet import (
    TINY_IMAGENET,
    TinyImageNetConfig,
    load_tiny_imagenet,
    missing_files,
    read_jpeg,
)
from hstnn_deploy.errors import DataError
from tests.tiny_imagenet import WNIDS, jpeg, make_tiny_imagenet

CPU = torch.device("cpu")
COLUMNS = TinyImageNetConfig()
WHOLE = TinyImageNetConfig.model_validate({"images": {"steps": 2, "encoding": "repeat"}})


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_imagenet(tmp_path / "data")


def pixels(path: Path) -> Any:
    """The pixels of a file as Pillow has them, [colour, row, column], 0 to 1."""
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) / 255


def test_whole_images_are_those_of_the_files_and_labels_follow_the_classes_in_order(folder: Path) -> None:
    splits = load_tiny_imagenet(WHOLE, Source("test", folder))
    assert (splits.inputs, splits.size, splits.classes, splits.family) == (3, 64, 200, "convolutional")
    x, target, lengths = splits.test.batch(torch.arange(12), CPU)
    assert (tuple(x.shape), lengths) == ((2, 12, 3, 64, 64), None)
    # By name, as text: val_0, val_1, val_10, val_11, val_2, …
    names = sorted(f"val_{number}.JPEG" for number in range(12))
    for number, name in enumerate(names):
        assert torch.allclose(x[0, number].double(), torch.from_numpy(pixels(folder / "val/images" / name)), atol=1e-6)
    assert target.tolist() == [(0, 3, 199)[int(name[4:-5]) // 4] for name in names]
    train = splits.train
    assert isinstance(train, ImageSplit)
    assert train.target.tolist() == [0] * 10 + [3] * 10 + [199] * 10
    grey = train.batch(torch.tensor([3]), CPU).x[0, 0]
    assert torch.equal(grey[0], grey[1])
    assert not torch.equal(*train.batch(torch.tensor([0]), CPU).x[0, 0, :2])
    assert "in part: 30 of 100000 training and 12 of 10000 test images" in splits.origin


def test_columns_are_columns_red_then_green_then_blue(folder: Path) -> None:
    splits = load_tiny_imagenet(COLUMNS, Source("test", folder))
    assert (splits.inputs, splits.size, splits.family) == (192, None, "sequence")
    x = splits.test.batch(torch.arange(12), CPU).x
    assert x.shape == (64, 12, 192)
    whole = load_tiny_imagenet(WHOLE, Source("test", folder)).test.batch(torch.arange(12), CPU).x[0]
    assert torch.allclose(x, whole.permute(3, 0, 1, 2).flatten(2), atol=1e-6)


def test_a_validation_split_shares_the_bytes_of_the_training_split(folder: Path) -> None:
    splits = load_tiny_imagenet(WHOLE, Source("validation", folder))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (27, 3, 12)
    train, valid = splits.train, splits.valid
    assert isinstance(train, ImageSplit)
    assert isinstance(valid, ImageSplit)
    assert train.pixels.data_ptr() == valid.pixels.data_ptr()
    assert (train.pixels.dtype, train.training, valid.training) == (torch.uint8, True, False)
    assert sorted(valid.target.tolist()) == [0, 3, 199]
    # What a split holds is what the whole has at its numbers.
    whole = load_tiny_imagenet(WHOLE, Source("test", folder)).train
    assert valid.numbers is not None
    x = whole.batch(valid.numbers, CPU).x
    assert torch.equal(valid.batch(torch.arange(3), CPU).x, x)
    assert torch.equal(valid.take(torch.tensor([2, 0])).batch(torch.tensor([1]), CPU).x, x[:, :1])


@pytest.mark.parametrize("where", ["none", "memory", "device"])
def test_every_cache_gives_what_the_disk_gives(folder: Path, cache_folder: Path, where: Any) -> None:
    first = load_tiny_imagenet(WHOLE, Source("test", folder, where)).test.batch(torch.arange(12), CPU).x
    assert not cache_folder.exists()
    disk = load_tiny_imagenet(WHOLE, Source("test", folder)).test.batch(torch.arange(12), CPU).x
    assert torch.equal(first, disk)
    again = load_tiny_imagenet(WHOLE, Source("test", folder, where)).test.batch(torch.arange(12), CPU).x
    assert torch.equal(first, again)


def test_images_are_decoded_once_whatever_becomes_of_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    load_tiny_imagenet(WHOLE, Source("test", folder, progress=lambda *facts: told.append(facts)))
    assert told[29] == ("preparing tiny-imagenet train", 30, 30)
    assert len(told) == 42
    read: list[Path] = []

    def reading(path: Path) -> Any:
        read.append(path)
        return read_jpeg(path)

    monkeypatch.setattr(tiny_imagenet, "read_jpeg", reading)
    for config in (WHOLE, COLUMNS):
        load_tiny_imagenet(config, Source("validation", folder))
    assert read == []
    changed = folder / "val/images/val_3.JPEG"
    changed.write_bytes(jpeg(1, 4))
    os.utime(changed, (1, 1))
    x = load_tiny_imagenet(WHOLE, Source("test", folder)).test.batch(torch.arange(12), CPU).x
    assert len(read) == 12
    assert torch.allclose(x[0, 5].double(), torch.from_numpy(pixels(changed)), atol=1e-6)


@pytest.mark.parametrize("place", ["tiny-imagenet-200", "tiny-imagenet/tiny-imagenet-200", "tiny-imagenet", "."])
def test_it_is_found_wherever_its_folder_lies(folder: Path, tmp_path: Path, place: str) -> None:
    root = tmp_path / "root"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(root / place)
    assert missing_files(root) == []
    assert len(load_tiny_imagenet(WHOLE, Source("test", root)).test) == 12


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "val" / "val_annotations.txt").unlink()
    assert missing_files(folder) == ["val/val_annotations.txt"]
    with pytest.raises(DataError, match=r"is not at \S+ \(val/val_annotations.txt is missing\)") as refused:
        load_tiny_imagenet(WHOLE, Source("test", folder))
    assert "hstnn data prepare tiny-imagenet" in refused.value.hint
    empty = tmp_path / "empty"
    empty.mkdir()
    assert missing_files(empty) == ["wnids.txt", "train", "val/val_annotations.txt", "val/images"]
    assert list(empty.iterdir()) == []


def claims(width: int, height: int) -> bytes:
    """A JPEG file that says that it is of another size than it is."""
    content = jpeg(0)
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, or not a JPEG file"),
        (b"<!doctype html>", "is damaged, or not a JPEG file"),
        (jpeg(0)[:900], "is damaged, or not a JPEG file: "),
        (jpeg(0, form="PNG"), "is damaged, or not a JPEG file"),
        (jpeg(0, size=(64, 48)), "has 64 x 48 pixels; images of Tiny-ImageNet have 64 x 64"),
        (jpeg(0, size=(500, 375)), "has 500 x 375 pixels"),
        (claims(65_500, 65_500), "has far too many pixels; images of Tiny-ImageNet have 64 x 64"),
        (claims(9000, 9000), "has 9000 x 9000 pixels"),
        (jpeg(0, mode="CMYK"), "has the colours CMYK"),
        (jpeg(0) + bytes(2**20), "is larger than 1048576 bytes"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_damaged_image_is_one_clear_line(folder: Path, content: bytes, message: str) -> None:
    path = folder / "train" / WNIDS[3] / "images" / f"{WNIDS[3]}_4.JPEG"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        load_tiny_imagenet(WHOLE, Source("test", folder))
    assert message in refused.value.message
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    found = [each for each in verify(TINY_IMAGENET, WHOLE, Source("test", folder)) if each.problem]
    assert [each.file for each in found] == [str(path)]


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def moved(name: str, other: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).rename(folder / other)


TABLE = "val/val_annotations.txt"
DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no class": (replaced("wnids.txt", WNIDS[5], "../../etc"), "wnids.txt names the class '../../etc', which is no"),
    "a class twice": (replaced("wnids.txt", WNIDS[5], WNIDS[6]), "names 200 classes, 199 of them different"),
    "too many classes": (replaced("wnids.txt", WNIDS[5], f"{WNIDS[5]}\nn99999999"), "wnids.txt names 201 classes"),
    "empty classes": (lambda folder: (folder / "wnids.txt").write_text(""), "wnids.txt names 0 classes"),
    "binary classes": (lambda folder: (folder / "wnids.txt").write_bytes(b"\xff\xfe"), "is damaged, or not a list"),
    "a folder of no class": (
        moved(f"train/{WNIDS[3]}", "train/n99999999"),
        "train/n99999999 is the folder of a class that wnids.txt does not name",
    ),
    "a class of val alone": (
        replaced(TABLE, f"val_1.JPEG\t{WNIDS[0]}", "val_1.JPEG\tn99999999"),
        "val_annotations.txt gives val_1.JPEG the class 'n99999999', which wnids.txt does not name",
    ),
    "no annotation": (replaced(TABLE, "val_1.JPEG", "val_77.JPEG"), "does not give the class of val_1.JPEG"),
    "two annotations": (replaced(TABLE, "val_1.JPEG", "val_0.JPEG"), "line 2 repeats an image"),
    "spaces for tabs": (
        replaced(TABLE, f"\t{WNIDS[0]}\t0\t0\t63\t63", f" {WNIDS[0]}"),
        "line 1 is not an image, a tab",
    ),
    "an empty line": (replaced(TABLE, "val_1.", "\nval_1."), "line 2 is not an image, a tab and its class"),
    "no test images": (moved("val/images", "val/others"), "is not at"),
    "no training images": (moved("train", "val/images/train"), "is not at"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_texts_and_folders_are_named(name: str, folder: Path) -> None:
    damage, message = DAMAGED[name]
    damage(folder)
    with pytest.raises(DataError) as refused:
        load_tiny_imagenet(WHOLE, Source("test", folder))
    assert message in refused.value.message
    assert str(folder) in refused.value.message
    assert "\n" not in refused.value.message


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    for split, counts in (("train", (0, 3)), ("test", (3, 0))):
        folder = make_tiny_imagenet(tmp_path / split, *counts)
        with pytest.raises(DataError, match=f"contains no {split} images"):
            load_tiny_imagenet(WHOLE, Source("test", folder))


def test_fewer_classes_may_be_named_and_labels_are_then_their_places(folder: Path) -> None:
    (folder / "wnids.txt").write_text("\n".join((WNIDS[199], WNIDS[0], WNIDS[3])))
    splits = load_tiny_imagenet(WHOLE, Source("test", folder))
    assert sorted(set(splits.test.batch(torch.arange(12), CPU).target.tolist())) == [0, 1, 2]
    assert "3 of 200 classes named" in splits.origin
