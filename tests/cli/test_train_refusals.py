"""`hstnn train` through the command line: what it refuses, and how."""

import errno
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from tests.cli.test_train import DIGITS, FILES, SMNIST
from tests.conftest import Hstnn, write_idx
from tests.contents import raw


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["train", "digit"], 2, "unknown recipe 'digit'", "did you mean 'digits'?"),
        (
            ["train", "no/such.yaml"],
            2,
            "recipe file no/such.yaml does not exist",
            "shipped recipes: bntt-vgg11, bntt-vgg11-tiny, bntt-vgg19, bntt-vgg5, bntt-vgg9, bntt-vgg9-dvs, cifar10",
        ),
        (["train", "digits", "--set", "adapt.epoch=3"], 2, "unknown key 'adapt.epoch'", "did you mean 'epochs'?"),
        (["train", "digits", "--set", "zzz.checksum=false"], 2, "unknown key 'zzz'", "known:"),
        (["train", "digits", "--set", "adapt.epochs=many"], 2, "adapt.epochs is 'many'", ""),
        (["train", "digits", "--set", "network.units=[8, 0]"], 2, "network.units.1 is 0", ""),
        (["train", "digits", "--set", "adapt.lr"], 2, "'adapt.lr' is not key=value", "--set seed=7"),
        (["train", "digits", "--ratio", "0"], 2, "ratio 0 is not between 0 and 1", "--kind snn or --kind rnn"),
        (["train", "digits", "--ratio", "1"], 2, "ratio 1 is not between 0 and 1", "such as 0.5"),
        (["train", "digits", "--ratio", "-0.5"], 2, "ratio -0.5 is not between 0 and 1", "such as 0.5"),
        (["train", "digits", "--kind", "snn", "--ratio", "0.5"], 2, "not for kind snn", "leave --ratio out"),
        (["train", "digits", "--ratio", "nan"], 2, "ratio nan is not between 0 and 1", "such as 0.5"),
        (["train", "digits", "--seed", "-1"], 2, "seed is -1", ""),
        (["train", "digits", "--seed", "99999999999999999999"], 2, "seed is 99999999999999999999", ""),
        ([*DIGITS, "--ratio", "0.1"], 2, "leaves 1 spiking units for 2 layers", "smallest ratio that works is 0.1364"),
        ([*DIGITS, "--ratio", "0.9"], 2, "leaves 1 recurrent units for 2 layers", "the largest 0.8636"),
        ([*DIGITS, "--kind", "ffs", "--ratio", "0.05"], 2, "for layer 1", "smallest ratio that works is 0.0834"),
        ([*DIGITS, "--kind", "rnn", "--stage", "select"], 2, "kind rnn has no stage 'select'", "only hybrid"),
        ([*DIGITS, "--kind", "ffs", "--stage", "restore"], 2, "kind ffs has no stage 'restore'", "only hybrid"),
        ([*DIGITS, "--kind", "rnn", "--recurrent", "lstm"], 2, "--recurrent lstm is for ffs and hybrid", "--kind lstm"),
        ([*DIGITS, "--set", "network.recurrent=gru"], 2, "network.recurrent is 'gru'", ""),
        ([*DIGITS, "--set", "network.inputs=28"], 2, "network.inputs is 28, but digits has 8", ""),
        ([*DIGITS, "--set", "loss=next-word"], 2, "loss is next-word, but digits has a class", "loss=cross-entropy"),
        (["train", "stack-digits", "--set", "loss=next-word"], 2, "loss is next-word", "--set loss=cross-entropy"),
        (["train", "stack-digits", "--set", "network.readout=every"], 2, "readout is every", "network.readout=mean"),
        (["train", "pydoc-text", "--set", "loss=mse"], 2, "loss is mse, but pydoc-text is a text", "loss=next-word"),
        ([*DIGITS, "--device", "frob"], 2, "unknown device 'frob'", "choose auto, cpu, cuda or cuda:N"),
        ([*DIGITS, "--device", "cuda"], 6, "device 'cuda' is not available", "--device cpu"),
        ([*DIGITS, "--device", "cuda:1"], 6, "device 'cuda:1' is not available", "--device cpu"),
        ([*DIGITS, "--stage", "select"], 5, "there is no finished adaptation", "--stage adapt"),
        ([*DIGITS, "--stage", "restore"], 5, "there is no selection for ratio 0.5", "--stage select"),
        ([*SMNIST, "--data-dir", "no/such"], 3, "the data folder no/such (from --data-dir) does not exist", "create"),
    ],
)
def test_bad_words_are_refused_in_one_line_with_what_would_work(
    hstnn: Hstnn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
    hint: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = hstnn(*words, "--out", tmp_path / "out")
    assert result.code == code
    assert message in result.error
    assert hint in result.hint
    assert not list(tmp_path.rglob("*.pt"))


def test_missing_files_without_network_say_which_to_put_where(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*SMNIST, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert result.code == 3
    assert "train-images-idx3-ubyte is missing" in result.error
    for name in FILES:
        assert name in result.hint
    assert str(tmp_path / "mnist") in result.hint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "is truncated: 94095 bytes, but its header says 94096"),
        ("header", "is truncated: 10 bytes are shorter than its header"),
        ("too long", "is too long"),
        ("magic", "is not an IDX file of 3 dimension(s): it begins with 00000801"),
        ("gzip", "Not a gzipped file"),
        ("short gzip", "Compressed file ended before"),
        ("size", "train images are (14, 14), not 28 x 28"),
        ("checksum", "has the wrong checksum"),
    ],
)
def test_damaged_data_is_refused(hstnn: Hstnn, mnist: Path, tmp_path: Path, damage: str, message: str) -> None:
    path = mnist / FILES[0]
    whole = path.read_bytes()
    words: list[str | Path] = [*SMNIST, "--set", "data.checksum=false", "--data-dir", mnist, "--out", tmp_path / "out"]
    match damage:
        case "truncated":
            path.write_bytes(whole[:-1])
        case "header":
            path.write_bytes(whole[:10])
        case "too long":
            path.write_bytes(whole + b"\0")
        case "magic":
            path.write_bytes((mnist / FILES[1]).read_bytes())
        case "gzip":
            path.rename(f"{path}.gz")
        case "short gzip":
            path.unlink()
            (mnist / f"{FILES[0]}.gz").write_bytes(gzip.compress(whole)[:-20])
        case "size":
            write_idx(path, np.zeros((120, 14, 14), np.uint8))
        case _:
            words = [*SMNIST, "--data-dir", mnist, "--out", tmp_path / "out"]
    result = hstnn(*words)
    assert result.code == 3
    assert message in result.error
    assert str(mnist) in result.error
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_refused(hstnn: Hstnn, blocked: Path) -> None:
    result = hstnn(*DIGITS, "--out", blocked)
    assert result.code == 5
    assert f"cannot write {blocked}" in result.error
    assert "--out" in result.hint
    result = hstnn(*DIGITS, "--out", blocked.parent)
    assert result.code == 5
    assert "--out" in result.hint


def test_a_full_disk_is_said_to_be_full(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = hstnn(*DIGITS, "--out", tmp_path)
    assert result.code == 5
    assert "no space left on the device" in result.error
    assert "free some space" in result.hint


def test_a_begun_run_is_continued_only_with_resume_and_only_with_its_recipe(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str | Path] = [*DIGITS, "--kind", "rnn", "--out", tmp_path]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hstnn_deploy.train.fitting.progress.PlainObserver.epoch_done", interrupt)
        stopped = hstnn(*words)
    assert stopped.code == 130
    assert stopped.error == "interrupted; all finished epochs are kept"
    assert "--resume" in stopped.hint

    before = raw(tmp_path)
    result = hstnn(*words)
    assert result.code == 5
    assert "contains an unfinished run (interrupted)" in result.error
    assert "--resume" in result.hint
    result = hstnn(*words, "--resume", "--set", "adapt.lr=0.5", "--set", "batch=100")
    assert result.code == 5
    assert "batch was 200, is 100; adapt.lr was 0.001, is 0.5" in result.error
    assert raw(tmp_path) == before
    result = hstnn(*words, "--resume")
    assert result.code == 0
    assert "continuing after epoch 1" in result.out


def test_a_folder_in_use_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    folder = tmp_path / "digits/hybrid/seed1111/adapt"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        result = hstnn(*DIGITS, "--out", tmp_path)
    assert result.code == 5
    assert f"{folder} is in use by another hstnn process" in result.error
    assert "--out" in result.hint
    assert hstnn(*DIGITS, "--out", tmp_path).code == 0


@pytest.mark.parametrize("name", ["status.json", "stage.yaml", "selection.json", "best.pt"])
def test_a_damaged_run_folder_names_the_file(hstnn: Hstnn, tmp_path: Path, name: str) -> None:
    assert hstnn(*DIGITS, "--out", tmp_path).code == 0
    folder = tmp_path / "digits/hybrid/seed1111" / ("adapt" if name == "best.pt" else "ratio-0.5")
    (folder / name).write_text("{")
    words = ["--stage", "restore"] if name != "best.pt" else ["--ratio", "0.25"]
    if name == "selection.json":
        (folder / "status.json").unlink()
    result = hstnn(*DIGITS, *words, "--out", tmp_path)
    assert result.code == (4 if name == "best.pt" else 5)
    assert name in result.error


def test_a_network_beyond_the_memory_is_said_in_one_line(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digits", "--kind", "snn", "--set", "network.units=[1048576, 1048576]", "--out", tmp_path)
    assert result.code == 10
    assert "out of memory" in result.error
    assert "network.units" in result.hint
