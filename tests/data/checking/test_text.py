"""Texts with each fault planted, and one without any."""

from pathlib import Path

import numpy as np
import pytest

from hstnn_deploy.data.checking import text
from hstnn_deploy.data.own.resolve import load_folder
from hstnn_deploy.errors import DataError
from tests.data.checking.folders import checked, clean, said


@pytest.fixture
def book(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    words = [f"word{number}" for number in range(50)]
    lines = [" ".join(draw.choice(words, 9)) for _ in range(300)]
    (tmp_path / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_a_clean_text_has_no_note(book: Path) -> None:
    found = checked(book)
    clean(found)
    assert found.counts == {"train": [2160], "valid": [240], "test": [600]}
    assert found.facts["vocabulary"] == 52
    assert found.facts["splits"]["test"] == {"words": 600, "lines": 60, "unknown": 0}
    assert found.read == found.total == (book / "book.txt").stat().st_size


def test_what_training_refuses_is_refused(book: Path) -> None:
    (book / "book.txt").write_bytes("caf\xe9".encode("latin-1"))
    said(checked(book), "is not UTF-8 text: byte 3 is 0xe9", "save it as UTF-8", refused=True)
    (book / "book.txt").write_text("only one line")
    said(checked(book), "too few to hold some out for test", refused=True)
    (book / "book.txt").write_text("\n\n")
    said(checked(book), "contains no words", refused=True)
    with pytest.raises(DataError):
        load_folder(book)


def test_what_is_odd_is_noted(book: Path) -> None:
    lines = (book / "book.txt").read_text().splitlines()
    (book / "train.txt").write_text("\n".join([*lines, "x" * 200, "dam\ufffdaged"]))
    (book / "book.txt").unlink()
    (book / "valid.txt").write_text("\n".join(lines[:5]))
    (book / "test.txt").write_text("zebra quux word1 word2")
    (book / "README.md").write_text("x")
    found = checked(book)
    assert not found.notes.refused
    said(found, "5 of the 5 lines of valid: train contains them too")
    said(found, "40 % of the words of test are not in the vocabulary of train, such as zebra, quux")
    said(found, "1 word is longer than 100 letters")
    said(found, "1 word has damaged letters")
    said(found, "left out: 1 name beside the text, such as README.md")
    (book / "train.txt").write_text("few words are here")
    found = checked(book)
    said(found, "train has 5 words")
    said(found, "train is one line")


def test_a_large_text_is_read_where_all_is_asked_for(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_BYTES", 100)
    found = checked(book, most=1)
    said(found, "more than 100: hstnn did not read it", "--whole reads it")
    assert found.read == 0
    clean(checked(book))
