"""Folders of images with each fault planted, and one without any."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hstnn_deploy.data.checking import images
from hstnn_deploy.data.own.images import size_of
from hstnn_deploy.data.own.resolve import load_folder
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import read_bytes
from tests import own_data
from tests.data.checking.folders import checked, clean, said


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return own_data.images(tmp_path / "pets", each=60)


def test_a_clean_folder_has_no_note(pets: Path) -> None:
    found = checked(pets)
    clean(found)
    assert (found.kind, found.total, found.read) == ("images", 120, 120)
    assert found.classes == ("cat", "dog")
    assert {split: sum(counts) for split, counts in found.counts.items()} == {"train": 86, "valid": 10, "test": 24}
    assert found.facts["sizes"] == {"12x12": 120}
    assert found.facts["colours"] == {"colours": 120}
    assert [example.label for example in found.examples] == [0, 1]
    assert "all 120 files were read" in found.extent


def test_a_part_is_drawn_and_said_to_be(pets: Path) -> None:
    found = checked(pets, most=20)
    assert found.read == 20
    assert found.extent.startswith("20 of 120 files were read, drawn with a fixed seed")
    assert found.plain() == checked(pets, most=20).plain()
    # Splits and classes are those of all files.
    assert sum(map(sum, found.counts.values())) == 120


def plant_empty(pets: Path) -> None:
    for number in (1, 2, 3):
        (pets / "cat" / f"{number}.png").write_bytes(b"")


def plant_damaged(pets: Path) -> None:
    path = pets / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:70])


def plant_text(pets: Path) -> None:
    (pets / "dog" / "1.png").write_text("no image")


def plant_size(pets: Path) -> None:
    Image.fromarray(np.arange(14 * 12 * 3, dtype=np.uint8).reshape(14, 12, 3)).save(pets / "cat" / "big.png")


def plant_colours(pets: Path) -> None:
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(pets / "cat" / "0.png")


def plant_other(pets: Path) -> None:
    Image.new("RGB", (12, 12)).save(pets / "dog" / "x.bmp")


def plant_stray(pets: Path) -> None:
    shutil.copy(pets / "cat" / "1.png", pets / "stray.png")


def plant_empty_class(pets: Path) -> None:
    (pets / "newt").mkdir()


def plant_dangling(pets: Path) -> None:
    (pets / "cat" / "gone.png").symlink_to("nowhere.png")


def plant_clear(pets: Path) -> None:
    Image.new("RGBA", (12, 12)).save(pets / "cat" / "clear.png")


def plant_few(pets: Path) -> None:
    (pets / "newt").mkdir()
    shutil.copy(pets / "cat" / "1.png", pets / "newt" / "1.png")


def plant_one_class(pets: Path) -> None:
    shutil.rmtree(pets / "cat")


def plant_link(pets: Path) -> None:
    (pets / "dog" / "1.png").unlink()
    (pets / "dog" / "1.png").symlink_to(pets / "cat" / "1.png")
    (pets / "dog" / "2.png").unlink()
    (pets / "dog" / "2.png").hardlink_to(pets / "cat" / "2.png")


def plant_same_names(pets: Path) -> None:
    (pets / "cat").rename(pets / "1")
    (pets / "dog").rename(pets / "1.0")


def listed(pets: Path, name: str) -> None:
    files = sorted(path.relative_to(pets).as_posix() for path in pets.rglob("*.png"))
    (pets / name).write_text("file,label\n" + "".join(f"{each},{each.split('/')[0]}\n" for each in files))


def plant_name_of_list(pets: Path) -> None:
    listed(pets, "Labels.csv")


def plant_list_without_splits(pets: Path) -> None:
    (pets / "cat").rename(pets / "train")
    (pets / "dog").rename(pets / "test")
    listed(pets, "labels.csv")


REFUSED = {
    "empty": (plant_empty, ("cat/1.png is empty (and 2 more: cat/2.png, cat/3.png)", "copy or download it again")),
    "damaged": (plant_damaged, ("cat/1.png is damaged",)),
    "text": (plant_text, ("dog/1.png is damaged, or not a PNG or JPEG",)),
    "size": (plant_size, ("cat/big.png is 12 x 14 pixels", "data.resize=[12,12]")),
    "colours": (plant_colours, ("has colours, and", "is grey", "data.colours=3")),
    "other": (plant_other, ("dog/x.bmp is not a PNG or JPEG image", "save it as .png")),
    "stray": (plant_stray, ("stray.png is next to the folders of classes",)),
    "empty class": (plant_empty_class, ("newt contains no",)),
    "dangling": (plant_dangling, ("gone.png leads nowhere",)),
    "clear": (plant_clear, ("clear.png has transparent pixels",)),
    "few": (plant_few, ("the class 'newt' has 1 sample, too few",)),
    "link": (plant_link, ("cat/1.png and", "dog/1.png are links to the same file (2 pairs are)", "keep one of them")),
    "same names": (plant_same_names, ("has the classes '1' and '1.0', which mean the same",)),
    "name of list": (plant_name_of_list, ("Labels.csv has the wrong name", "rename it to labels.csv")),
    "list without splits": (plant_list_without_splits, ("labels.csv has no column split", "test, train")),
    "one class": (plant_one_class, ("has only one class, 'dog'",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_refuses_is_refused(pets: Path, name: str) -> None:
    plant, words = REFUSED[name]
    plant(pets)
    found = checked(pets)
    said(found, *words, refused=True)
    assert found.plain()["trainable"] is False
    # The rest was looked at, and training refuses it indeed.
    assert found.read > 50
    with pytest.raises(DataError):
        load_folder(pets, cache="none")


def test_what_is_odd_is_noted(pets: Path) -> None:
    shutil.copy(pets / "cat" / "1.png", pets / "cat" / "copy.png")
    shutil.copy(pets / "cat" / "2.png", pets / "dog" / "copy of cat.png")
    Image.new("RGB", (12, 12)).save(pets / "dog" / "black.png")
    (pets / "cat" / "notes.txt").write_text("x")
    (pets / "cat" / "loop").symlink_to("..")
    (pets / "cat" / "self").symlink_to("self")
    shutil.copy(pets / "cat" / "3.png", pets / "dog" / os.fsdecode(b"\xff\n\x1b.png"))
    found = checked(pets)
    assert not found.notes.refused
    assert found.total == 124
    said(found, "with the same content as", "such as cat/1.png and cat/copy.png")
    said(found, "of another class", "cat/2.png and dog/copy of cat.png", "keep the right one")
    said(found, "dog/black.png has the same colour everywhere")
    said(found, "left out: 1 .txt file")
    said(found, "left out: 1 link to a folder that is listed already")
    said(found, "letters that no screen shows", "dog/\\xff\\x0a\\x1b.png")
    load_folder(pets, cache="none")


def test_copies_between_splits(tmp_path: Path) -> None:
    pets = own_data.images(tmp_path / "pets", each=40)
    for split, numbers in (("train", range(25)), ("test", range(25, 40))):
        for name in ("cat", "dog"):
            (tmp_path / "split" / split / name).mkdir(parents=True)
            for number in numbers:
                (pets / name / f"{number}.png").rename(tmp_path / "split" / split / name / f"{number}.png")
    folder = tmp_path / "split"
    clean(checked(folder))
    shutil.copy(folder / "train" / "cat" / "3.png", folder / "test" / "cat" / "x.png")
    said(checked(folder), "1 file of test with the same content as one of train, such as", "proves nothing in test")
    for path in (folder / "test" / "dog").iterdir():
        path.unlink()
    shutil.rmtree(folder / "test" / "dog")
    said(checked(folder), "test has no sample of 1 of 2 classes: dog")


def test_split_folders_without_train_are_not_listed(pets: Path) -> None:
    (pets / "cat").rename(pets / "valid")
    (pets / "dog").rename(pets / "test")
    with pytest.raises(DataError, match="contains test, valid but no train"):
        checked(pets)


def test_imbalance_small_tests_and_names(tmp_path: Path) -> None:
    pets = own_data.images(tmp_path / "pets", each=40)
    (pets / "cat").rename(pets / "1")
    (pets / "dog").rename(pets / "3")
    for number in range(5, 40):
        (pets / "1" / f"{number}.png").unlink()
    found = checked(pets)
    said(found, "the class 3 has", "always answering 3 is correct for 91 % of train")
    said(found, "the test split has 9 samples", "11 % of accuracy")
    said(found, "the class 1 is output 0")
    assert not found.notes.refused
    (pets / "1").rename(pets / "Newt")
    (pets / "3").rename(pets / "newt")
    said(checked(pets), "'Newt' and 'newt' differ only in capitals or spaces")


def test_a_list_of_labels(tmp_path: Path) -> None:
    pets = own_data.images(tmp_path / "pets", each=60)
    lines = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in sorted(pets.glob("*/*.png"))]
    (pets / "labels.csv").write_text("file,label\n" + "\n".join(lines))
    clean(checked(pets))
    (pets / "labels.csv").write_text("file,label\nnowhere.png,cat\nalso/not.png,dog\n" + "\n".join(lines[:-2]))
    found = checked(pets)
    said(found, "line 2 names 'nowhere.png', which does not exist", "(and 1 more: also/not.png)", refused=True)
    said(found, "2 files without a label", refused=True)
    assert found.total == 118


def test_an_unreadable_folder_and_file(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where rights lack: root, who may run the tests, reads everything."""
    (pets / "dog" / "deep").mkdir()
    scandir, read = os.scandir, read_bytes

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) if str(path).endswith("deep") else scandir(path))
    monkeypatch.setattr(
        images, "read_bytes", lambda path, limit: refuse(path) if path.name == "1.png" else read(path, limit)
    )
    found = checked(pets)
    said(found, "cannot read ", "cat/1.png: Permission denied", "(and 1 more: dog/1.png)", refused=True)
    said(found, "cannot read ", "dog/deep: Permission denied", refused=True)


def test_many_files_are_listed_and_few_read(tmp_path: Path) -> None:
    pets = own_data.images(tmp_path / "pets", each=2)
    for name in ("cat", "dog"):
        for number in range(2, 1500):
            os.link(pets / name / f"{number % 2}.png", pets / name / f"{number}.png")
    opened: list[Path] = []

    def look(path: Path) -> tuple[int, int, int]:
        opened.append(path)
        return size_of(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "size_of", look)
        found = checked(pets, most=50)
    assert (found.total, len(opened)) == (3000, 50)
