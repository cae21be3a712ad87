"""A text of one's own: files by split or one divided by lines, its vocabulary, and what is refused."""

from pathlib import Path

import pytest

from hstnn_deploy.data.own.config import OwnText
from hstnn_deploy.data.own.resolve import load_folder
from hstnn_deploy.data.preprocessing import Words, preprocessing
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import DataError


def written(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in texts.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def words(splits: object, name: str) -> list[str]:
    split = splits.split(name)  # type: ignore[attr-defined]
    assert isinstance(split, TextSplit)
    return [splits.words[token] for token in split.tokens.tolist()]  # type: ignore[attr-defined]


def test_one_text_is_divided_by_its_lines_in_order(tmp_path: Path) -> None:
    folder = written(tmp_path / "t", book="\n".join(f"a b w{number}" for number in range(20)))
    config, splits = load_folder(folder)
    assert config.kind == "text"
    assert words(splits, "train")[:4] == ["a", "b", "w0", "<eos>"]
    # Of 20 lines 4 test, and a tenth of the others choose; words that training lacks are unknown.
    assert words(splits, "test") == ["a", "b", "<unk>", "<eos>"] * 4
    assert words(splits, "valid") == ["a", "b", "<unk>", "<eos>"] * 2
    assert splits.words[-2:] == ("<eos>", "<unk>")
    assert splits.classes == 2 + 14 + 2


def test_files_of_splits_and_options(tmp_path: Path) -> None:
    folder = written(tmp_path / "t", train="One, two.\nOne one", val="Two", test="Three")
    config, splits = load_folder(folder, tokens="punctuation", lower=True)
    assert words(splits, "train") == ["one", ",", "two", ".", "<eos>", "one", "one", "<eos>"]
    assert words(splits, "valid") == ["two", "<eos>"]
    assert words(splits, "test") == ["<unk>", "<eos>"]
    how = preprocessing(config)
    assert isinstance(how, Words)
    assert (how.split, how.lower, how.window) == ("punctuation", True, 35)


def test_the_most_frequent_words_are_kept(tmp_path: Path) -> None:
    folder = written(tmp_path / "t", train="a b b c c\nd b", test="b", valid="c")
    _, splits = load_folder(folder, words=4)
    assert splits.words == ("b", "c", "<eos>", "<unk>")
    assert words(splits, "train") == ["<unk>", "b", "b", "c", "c", "<eos>", "<unk>", "b", "<eos>"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train": "a b"}, "has 1 line left, too few to hold some out for test"),
        ({"one": "a", "two": "b"}, "contains one.txt, two.txt"),
        ({"train": "a", "valid": "b", "val": "c"}, "two files for one split"),
        ({"train": " \n \n"}, "contains no words"),
    ],
)
def test_what_is_odd_is_refused(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_folder(written(tmp_path / "t", **texts), kind="text")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(b"a b\n\xff\n")
    with pytest.raises(DataError, match="is not UTF-8 text: byte 4 is 0xff"):
        load_folder(tmp_path / "book.txt")
    with pytest.raises(DataError, match="does not exist"):
        load_folder(tmp_path / "nowhere", kind="text")
    assert OwnText(path="x").bptt == 35
