"""What lies in a folder: classes, lists, splits, groups; what is odd is refused by name; very many files."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.own.listing import list_folder
from hstnn_deploy.data.own.names import natural
from hstnn_deploy.data.own.walk import IMAGES
from hstnn_deploy.errors import DataError


def fill(folder: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def refused(folder: Path, *words: str, **options: object) -> DataError:
    with pytest.raises(DataError) as error:
        list_folder(folder, IMAGES, **options)  # type: ignore[arg-type]
    for word in words:
        assert word in error.value.message + error.value.hint, (word, error.value.message, error.value.hint)
    return error.value


def test_folders_are_classes_in_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, "c10/a.png", "c2/b.PNG", "c2/deep/c.jpg", "c1/.hidden.png", "c1/d.jpeg", "c1/notes.txt", "README.md")
    found = list_folder(tmp_path, IMAGES)
    assert found.classes == ("c1", "c2", "c10")
    assert list(found.names) == ["c1/d.jpeg", "c10/a.png", "c2/b.PNG", "c2/deep/c.jpg"]
    assert found.labels.tolist() == [0, 2, 1, 1]
    assert found.left_out == {".txt": 1, ".md": 1}
    assert found.split is None
    assert found.groups is None


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=20, unique=True))
def test_numbers_in_names_are_ordered_as_numbers(numbers: list[int]) -> None:
    names = [f"take{number}" for number in numbers]
    assert sorted(names, key=natural) == [f"take{number}" for number in sorted(numbers)]


def test_split_folders(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png")
    found = list_folder(tmp_path, IMAGES)
    assert found.split is not None
    said = dict(zip(found.names, found.split.tolist(), strict=True))
    assert said == {"train/a/1.png": 0, "train/b/2.png": 0, "val/a/3.png": 1, "test/b/4.png": 2}
    assert found.classes == ("a", "b")


def test_a_list_says_classes_splits_and_groups(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "sub/2.png", "3.png")
    lines = ["File;Label;split;subject", "1.png;up;train;s1", "sub\\2.png;down;test;s2", "3.png;up;valid;s1"]
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = list_folder(tmp_path, IMAGES)
    assert found.classes == ("down", "up")
    assert list(found.names) == ["1.png", "3.png", "sub/2.png"]
    assert found.labels.tolist() == [1, 1, 0]
    assert found.split is not None
    assert found.split.tolist() == [0, 1, 2]
    assert found.groups == ["s1", "s1", "s2"]


def test_names_say_groups(tmp_path: Path) -> None:
    fill(tmp_path, "a/s1_1.png", "b/s2_1.png")
    assert list_folder(tmp_path, IMAGES, group="_").groups == ["s1", "s2"]
    refused(tmp_path, "a/s1_1.png: its name does not contain '+'", group="+")


def test_the_digest_knows_names_sizes_and_classes(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    before = list_folder(tmp_path, IMAGES).digest
    (tmp_path / "a" / "1.png").write_bytes(b"y")
    assert list_folder(tmp_path, IMAGES).digest == before
    (tmp_path / "a" / "1.png").write_bytes(b"yy")
    larger = list_folder(tmp_path, IMAGES).digest
    (tmp_path / "a" / "1.png").rename(tmp_path / "b" / "1.png")
    fill(tmp_path, "a/3.png", content=b"yy")
    assert len({before, larger, list_folder(tmp_path, IMAGES).digest}) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a/1.png"], ["only one class, 'a'"]),
        ([], ["contains no .jpeg, .jpg, .png file: it is empty"]),
        (["a/1.txt", "b/2.txt"], ["a contains no .jpeg, .jpg, .png file"]),
        (["a/1.png", "b/2.png", "3.png"], ["3.png is next to the folders of classes", "labels.csv"]),
        (["a/1.png", "b/2.bmp"], ["b/2.bmp is not a PNG or JPEG image"]),
        (["train/a/1.png", "c/2.png"], ["contains 'c' next to its split folders train"]),
        (["train/a/1.png", "valid/a/1.png", "val/b/2.png"], ["two of them mean the same split"]),
        (["valid/1.png", "test/2.png"], ["contains test, valid but no train"]),
        (["test/a/1.png", "test/b/2.png"], ["contains test but no train"]),
        (["a/1.png", "b/2.png", "Labels.csv"], ["Labels.csv has the wrong name", "rename it to labels.csv"]),
        (["1/1.png", "01/2.png"], ["has the classes '01' and '1', which mean the same"]),
        (["1/1.png", "1.0/2.png"], ["which mean the same"]),
        (["caf\u00e9/1.png", "cafe\u0301/2.png"], ["which mean the same"]),
    ],
)
def test_what_is_odd_is_refused(tmp_path: Path, files: list[str], words: list[str]) -> None:
    refused(fill(tmp_path, *files), *words)


def test_an_empty_file_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    fill(tmp_path, "b/0.png", content=b"")
    refused(tmp_path, "b/0.png is empty")
    refused(tmp_path / "nowhere", "does not exist", "--data-dir")
    refused(tmp_path / "a" / "1.png", "is a file, not a folder")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("file,label\n1.png,a\n2.png,", ["line 3 has no label"]),
        ("file,label\n1.png,a\n9.png,b", ["line 3 names '9.png', which does not exist"]),
        (
            "file,label\n1.png,a",
            ["does not give the class of '2.png' (1 files without a label)", "unlabelled=ignore"],
        ),
        ("file,label\n1.png,a\n1.png,b", ["line 3 repeats '1.png' (line 2)"]),
        ("file,label\n../1.png,a", ["line 2 names '../1.png', which is not below"]),
        ("file,label\n/1.png,a", ["not below the folder"]),
        ("file,label\n1.png,0.75\n2.png,a", ["the label '0.75', a number instead of the name of a class", "arrays"]),
        ("file,label,split\n1.png,a,train\n2.png,b,later", ["line 3 has the split 'later'"]),
        ("name,label\n1.png,a", ["lacks the column file"]),
        ("file,label,label\n1.png,a,b", ["names the column label twice"]),
        ("file,label\n", ["lists no files"]),
        ("file,label\n1.png,a\nlabels.csv,b", ["which is no .jpeg, .jpg, .png file"]),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_its_line(tmp_path: Path, lines: str, words: list[str]) -> None:
    fill(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(lines)
    refused(tmp_path, *words)


def test_files_without_a_label_can_be_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,a\n2.png,b\n")
    found = list_folder(tmp_path, IMAGES, ignore=True)
    assert list(found.names) == ["1.png", "2.png"]
    assert found.left_out == {".png": 1}


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "1.png")
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe\x00")
    refused(tmp_path, "labels.csv is damaged")


def test_classes_that_were_trained_on_are_known_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "b/1.png")
    found = list_folder(tmp_path, IMAGES, known=("c", "b", "a"))
    assert found.classes == ("c", "b", "a")
    assert found.labels.tolist() == [1]
    refused(tmp_path, "has the class 'b', which the network was not trained on", known=("a", "c"))


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(list_folder(tmp_path, IMAGES).names) == 2
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    refused(tmp_path, "gone.png leads nowhere")


def test_twenty_thousand_files_take_little_memory(tmp_path: Path) -> None:
    count = 20_000
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(count // 2):
            (tmp_path / name / f"{number}.png").write_bytes(b"x")
    tracemalloc.start()
    try:
        found = list_folder(tmp_path, IMAGES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.names) == count
    # No file is held, and no object beside its name, size and class.
    assert peak < 600 * count


def test_classes_that_differ_are_not_taken_for_one(tmp_path: Path) -> None:
    names = ["Cat", "a1", "a01", "cat", "-1", "1", "1.5", "1e1", "10"]
    folder = fill(tmp_path, *(f"{name}/1.png" for name in names))
    assert set(list_folder(folder, IMAGES).classes) == set(names)


def test_split_folders_without_train_are_measured(tmp_path: Path) -> None:
    fill(tmp_path, "test/a/1.png", "test/b/2.png")
    assert list_folder(tmp_path, IMAGES, ["b", "a"]).split is not None
    # Of a network whose class is called so, it is that.
    fill(tmp_path / "classes", "test/1.png", "dev/2.png")
    assert list_folder(tmp_path / "classes", IMAGES, ["dev", "test"]).split is None


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [
        ("train/a/1.png", "test/a/1.png", True),
        ("train/a/1.png", "train/b/1.png", True),
        ("train/a/1.png", "train/a/5.png", True),  # valid is drawn from train
        ("valid/a/1.png", "valid/a/5.png", True),
        ("test/a/1.png", "test/a/5.png", False),
        ("c/1.png", "d/1.png", True),
        ("c/1.png", "c/2.png", True),
    ],
)
def test_a_file_that_is_there_twice(tmp_path: Path, link: str, one: str, other: str, wrong: bool) -> None:
    splits = one.count("/") == 2
    names = ["train/a/0.png", "train/b/0.png", "test/a/0.png"] if splits else ["c/0.png", "d/0.png"]
    fill(tmp_path, *names, one, *(["valid/a/0.png"] if one.startswith("valid") else []))
    (tmp_path / other).parent.mkdir(exist_ok=True, parents=True)
    getattr(tmp_path / other, link)(tmp_path / one)
    if wrong and not one.startswith("valid"):
        refused(tmp_path, "are links to the same file", "keep one of them")
    else:
        assert len(list_folder(tmp_path, IMAGES).names) == len(names) + 2 + one.startswith("valid")


def test_a_folder_that_is_linked_as_another_split_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    refused(tmp_path, "test/a/1.png", "train/a/1.png", "are links to the same file")


def test_a_list_without_splits_of_files_in_split_folders_is_refused(tmp_path: Path) -> None:
    names = [f"{split}/{number}.png" for split in ("train", "test") for number in range(2)]
    fill(tmp_path, *names)
    lines = "".join(f"{name},{name[-5]}\n" for name in names)
    (tmp_path / "labels.csv").write_text("file,label\n" + lines)
    refused(tmp_path, "has no column split, and its files lie in test, train")
    with_splits = "".join(f"{name},{name[-5]},{name.partition('/')[0]}\n" for name in names)
    (tmp_path / "labels.csv").write_text("file,label,split\n" + with_splits)
    assert list_folder(tmp_path, IMAGES).split is not None


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    assert list_folder(tmp_path, IMAGES).beside == ""
    fill(tmp_path, "a/1.jfif")
    assert list_folder(tmp_path, IMAGES).beside == "; 1 other file left out (1 .jfif)"
    fill(tmp_path, "b/2.jfif", "b/notes")
    assert list_folder(tmp_path, IMAGES).beside == "; 3 other files left out (2 .jfif, 1 without suffix)"
