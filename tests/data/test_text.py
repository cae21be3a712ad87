"""Texts: one vocabulary over all splits, columns and windows, and what is said of files that are not a text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.registry import load, missing
from hstnn_deploy.data.sets.pydoc_text import PydocTextConfig
from hstnn_deploy.data.sets.text_files import FILES, PtbConfig, WikiText2Config
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import DataError

CPU = torch.device("cpu")
TEXT = {"train": " a b a\n c\n", "valid": " d a \n\n", "test": "e b\nf"}


def write(folder: Path, name: str = "ptb", text: dict[str, str] = TEXT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, file in FILES[name].items():
        (folder / file).write_text(text[split], encoding="utf-8")
    return folder


def tokens(splits: Splits) -> list[list[int]]:
    found = []
    for split in (splits.train, splits.valid, splits.test):
        assert isinstance(split, TextSplit)
        found.append(split.tokens.tolist())
    return found


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("config", [PtbConfig(bptt=2), WikiText2Config(bptt=2)])
def test_words_are_numbered_over_all_splits_in_order_and_every_line_ends(
    tmp_path: Path, config: PtbConfig | WikiText2Config, inside: bool
) -> None:
    write(tmp_path / config.name if inside else tmp_path, config.name)
    splits = load(config, "validation", tmp_path)
    # a b a <eos> c <eos> | d a <eos> <eos> | e b <eos> f <eos>, with <eos> = 2
    assert tokens(splits) == [[0, 1, 0, 2, 3, 2], [4, 0, 2, 2], [5, 1, 2, 6, 2]]
    assert (splits.classes, splits.family, len(splits.vocabulary)) == (7, "language", 64)
    assert missing(config, tmp_path) == []
    assert f"{config.name} from {tmp_path}" in splits.origin
    assert tokens(load(config, "test", tmp_path))[1] == tokens(splits)[2]


def test_another_order_of_words_is_another_vocabulary(tmp_path: Path) -> None:
    first = load(PtbConfig(), "validation", write(tmp_path / "a")).vocabulary
    assert load(PtbConfig(), "validation", write(tmp_path / "b")).vocabulary == first
    other = write(tmp_path / "c", text={**TEXT, "train": "b a a\n c\n"})
    assert load(PtbConfig(), "validation", other).vocabulary != first


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 12))
def test_windows_are_the_columns_in_order_and_targets_the_next_words(count: int, batch: int, bptt: int) -> None:
    split = TextSplit(torch.arange(count), bptt, "a text")
    rows = count // batch
    if rows < 2:
        with pytest.raises(DataError, match=f"a text has {count} words, too few for a batch of {batch} columns"):
            split.steps(batch)
        return
    windows = list(split.windows(batch, CPU))
    assert len(windows) == split.steps(batch)
    assert all(len(window.x) == bptt for window in windows[:-1])
    assert 1 <= len(windows[-1].x) <= bptt
    x, target = torch.cat([window.x for window in windows]), torch.cat([window.target for window in windows])
    expected = torch.arange(rows - 1)[:, None] + rows * torch.arange(batch)
    assert torch.equal(x, expected)
    assert torch.equal(target, expected + 1)


def test_single_windows_by_number() -> None:
    split = TextSplit(torch.arange(12), 3, "a text")
    assert len(split) == 3
    x, target, lengths = split.batch(torch.tensor([2, 0]), CPU)
    assert x.tolist() == [[6, 0], [7, 1], [8, 2]]
    assert torch.equal(target, x + 1)
    assert lengths is None


@pytest.mark.parametrize(
    ("damage", "message", "hint"),
    [
        (None, "ptb is not at {folder}/ptb (ptb.train.txt is missing)", "put the files ptb.train.txt, ptb.valid.txt"),
        ("partial", "(ptb.test.txt is missing)", "--data-dir"),
        (b"", "ptb.test.txt contains no words", "download it again"),
        (b"\n \n", "ptb.test.txt contains no words", "download it again"),
        (b"caf\xe9 au lait\n", "ptb.test.txt is not UTF-8 text: byte 3 is 0xe9", "save it as UTF-8"),
    ],
)
def test_what_is_not_a_text_is_said(tmp_path: Path, damage: object, message: str, hint: str) -> None:
    if damage is not None:
        path = write(tmp_path) / "ptb.test.txt"
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:
            path.unlink()
    with pytest.raises(DataError) as refused:
        load(PtbConfig(), "validation", tmp_path)
    assert message.format(folder=tmp_path) in refused.value.message
    assert hint in refused.value.hint


def test_the_help_topics_are_a_corpus_of_as_many_words_as_asked_for() -> None:
    splits = load(PydocTextConfig(words=300), "validation")
    train, valid, test = tokens(splits)
    assert {*train, *valid, *test} == set(range(300))
    assert splits.classes == 300
    for held in (valid, test):
        assert 0.08 < len(held) / len(train + valid + test) < 0.12
    with pytest.raises(DataError, match="too few for a vocabulary of 1000000"):
        load(PydocTextConfig(words=1_000_000), "validation")


def test_the_help_topics_are_the_same_in_another_process() -> None:
    script = (
        "from hstnn_deploy.data.sets.pydoc_text import *; s = load_pydoc_text(PydocTextConfig(), Source()); "
        "print(s.vocabulary, sum(s.train.tokens.tolist()))"
    )
    found = {
        subprocess.check_output([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, text=True)
        for seed in ("1", "2")
    }
    assert len(found) == 1
