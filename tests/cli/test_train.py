"""`hstnn train` through the command line: what it prints, what it refuses and how, and being stopped for real."""

import errno
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.cli.progress import make_observer
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.recipe import load_recipe
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, options, settings, write_idx
from tests.contents import contents, raw

DIGITS = ["train", "digits", "--device", "cpu", *options(TINY)]
SMNIST = ["train", "smnist", "--device", "cpu", "--kind", "snn", *options({**TINY, "batch": 50})]
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def test_a_hybrid_goes_through_its_stages_and_ends_with_a_table_and_what_to_do_next(
    hstnn: Hstnn, tmp_path: Path
) -> None:
    result = hstnn(*DIGITS, "--out", tmp_path)
    assert (result.code, result.err) == (0, "")
    base = tmp_path / "digits/hybrid/seed1111"
    for text in (
        "data: scikit-learn's digits",
        "adapt: 2 epochs",
        "adapt: epoch 2/2  loss ",
        "samples/s",
        "select: 4 Hessian probes",
        "select: kept 6 spiking and 5 recurrent units",
        "restore: best epoch",
        "protocol: best epoch chosen on a validation split held out of training",
        f"hstnn evaluate --ckpt {base / 'ratio-0.5' / 'best.pt'}",
        f"hstnn export --ckpt {base / 'ratio-0.5' / 'best.pt'}",
    ):
        assert text in result.out
    accuracy = RunFolder(base / "ratio-0.5").status()["result"]["test"]["accuracy"]
    assert f"{accuracy:.2f} %" in result.out

    again = hstnn(*DIGITS, "--out", tmp_path)
    assert again.code == 0
    for stage in ("adapt", "traces", "restore"):
        assert f"{stage}: already finished in {base}" in again.out
    assert f"{accuracy:.2f} %" in again.out


def test_with_json_standard_output_is_json_and_nothing_else(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--kind", "rnn", "--out", tmp_path, "--json")
    assert result.code == 0
    (run,) = json.loads(result.out)["runs"]
    assert run["folder"] == str(tmp_path / "digits/rnn/seed1111")
    assert run["state"] == "finished"
    assert 0 <= run["result"]["test"]["accuracy"] <= 100
    assert run["result"]["protocol"] == "validation"
    assert "train: 2 epochs" in result.err  # for whoever watches


def test_lstm_networks_have_folders_of_their_own_and_share_none_with_rnn(hstnn: Hstnn, tmp_path: Path) -> None:
    for words in (
        ["--kind", "lstm"],
        ["--kind", "ffs", "--recurrent", "lstm"],
        ["--recurrent", "lstm"],
        ["--kind", "ffs", "--recurrent", "rnn"],
    ):
        result = hstnn(*DIGITS, *words, "--out", tmp_path)
        assert (result.code, result.err) == (0, "")
    names = {path.name for path in (tmp_path / "digits").iterdir()}
    assert names == {"lstm", "ffs-lstm-0.5", "hybrid-lstm", "ffs-0.5"}
    restored = Checkpoint.load(tmp_path / "digits/hybrid-lstm/seed1111/ratio-0.5/best.pt")
    assert sum(size.rnn for size in restored.sizes) == 5
    assert restored.resolved_recipe().network.recurrent == "lstm"
    assert any(value.dim() == 3 for value in restored.parameters.values())
    assert hstnn("evaluate", "--ckpt", tmp_path / "digits/ffs-lstm-0.5/seed1111/best.pt").code == 0


def test_an_adapted_network_is_not_offered_for_export(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--stage", "adapt", "--out", tmp_path)
    assert result.code == 0
    assert "--stage select" in result.out
    assert "hstnn export" not in result.out
    assert hstnn(*DIGITS, "--stage", "select", "--out", tmp_path).code == 0
    assert "hstnn export" in hstnn(*DIGITS, "--stage", "restore", "--out", tmp_path).out


def test_the_demos_protocol_is_marked_in_the_report(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--kind", "snn", "--set", "protocol=test", "--out", tmp_path)
    assert "best epoch chosen on the TEST split (the demo's protocol; overstates)" in result.out
    best = tmp_path / "digits/snn/seed1111/best.pt"
    assert "on the TEST split" in hstnn("evaluate", "--ckpt", best).out
    assert json.loads(hstnn("evaluate", "--ckpt", best, "--json").out)["protocol"] == "test"


def test_options_outweigh_set_and_name_the_folder(hstnn: Hstnn, tmp_path: Path) -> None:
    words: list[str | Path] = ["--set", "seed=1", "--kind", "ffs", "--ratio", "0.25", "--seed", "7", "--out", tmp_path]
    assert hstnn(*DIGITS, *words).code == 0
    assert (tmp_path / "digits/ffs-0.25/seed7/best.pt").exists()


def test_a_recipe_of_your_own_is_trained_by_path(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(hstnn("recipes", "digits").out.replace("name: digits\nabout", "name: mine\nabout"))
    result = hstnn("train", path, "--device", "cpu", *options(TINY), "--kind", "rnn", "--out", tmp_path / "out")
    assert result.code == 0
    assert (tmp_path / "out/mine/rnn/seed1111/best.pt").exists()


def test_your_own_idx_files_are_trained_on(hstnn: Hstnn, mnist: Path, tmp_path: Path) -> None:
    words: list[str | Path] = [*SMNIST, "--set", "data.checksum=false", "--data-dir", mnist, "--out", tmp_path / "out"]
    result = hstnn(*words)
    assert (result.code, result.err) == (0, "")
    assert f"MNIST from {mnist}, 108 training samples" in result.out
    found = hstnn("evaluate", "--ckpt", tmp_path / "out/smnist/snn/seed1111/best.pt", "--data-dir", mnist)
    assert "20 samples" in found.out


def test_the_data_folder_may_come_from_the_environment(
    hstnn: Hstnn, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSTNN_DATA", str(mnist))
    assert hstnn(*SMNIST, "--set", "data.checksum=false", "--out", tmp_path / "out").code == 0


# What a person sees.


def test_a_terminal_shows_loss_metric_speed_and_time_left(tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=150, highlight=False)
    observer = make_observer(screen)
    train(load_recipe("digits", [*settings(TINY), "batch=10"]), tmp_path, observer=observer)
    observer.close()
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for pattern in (
        r"adapt.*0/2",
        r"adapt.*2/2.*loss \d+\.\d{4}  valid accuracy \d+\.\d\d",
        r"batch \d+/130  \d+ samples/s",
        r"\d:\d\d:\d\d",
        r"select \(Hessian probes\).*4/4",
        r"restore.*2/2",
    ):
        assert re.search(pattern, shown), pattern
    for line in ("data: scikit-learn's digits", "adapt: best epoch", "select: kept 6", "restore: best epoch"):
        assert line in shown


def test_a_log_file_gets_plain_lines_not_too_many_and_always_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("hstnn_deploy.cli.progress.time.monotonic", lambda: now)
    log = Console(file=io.StringIO(), width=40, highlight=False)
    observer = make_observer(log)
    observer.stage_started("adapt", 50, 0)
    for epoch in range(1, 51):
        now += 1
        observer.batch_done(epoch, 1, 1, 30)
        row = {"epoch": epoch, "train_loss": 1.0, "valid_accuracy": 50.0, "valid_loss": 1.0, "train_seconds": 0.5}
        observer.epoch_done({**row, "best": epoch == 50})
    assert isinstance(log.file, io.StringIO)
    title, *lines = log.file.getvalue().splitlines()
    assert title == "adapt: 50 epochs"
    assert 3 <= len(lines) <= 26
    assert lines[-1] == "adapt: epoch 50/50  loss 1.0000  valid accuracy 50.00  60 samples/s  best"
    assert "\x1b" not in log.file.getvalue()


# Refusals.


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["train", "digit"], 2, "unknown recipe 'digit'", "did you mean 'digits'?"),
        (
            ["train", "no/such.yaml"],
            2,
            "recipe file no/such.yaml does not exist",
            "shipped recipes: cifar10, cifar100, digit-events, digits, dvs-gesture",
        ),
        (["train", "digits", "--set", "adapt.epoch=3"], 2, "unknown key 'adapt.epoch'", "did you mean 'epochs'?"),
        (["train", "digits", "--set", "mnist.checksum=false"], 2, "unknown key 'mnist'", "known:"),
        (["train", "digits", "--set", "adapt.epochs=many"], 2, "adapt.epochs is 'many'", ""),
        (["train", "digits", "--set", "network.units=[8, 0]"], 2, "network.units.1 is 0", ""),
        (["train", "digits", "--set", "adapt.lr"], 2, "'adapt.lr' is not key=value", "--set adapt.epochs=5"),
        (["train", "digits", "--ratio", "0"], 2, "ratio 0 is not between 0 and 1", "--kind snn or --kind rnn"),
        (["train", "digits", "--ratio", "1"], 2, "ratio 1 is not between 0 and 1", "such as 0.5"),
        (["train", "digits", "--ratio", "-0.5"], 2, "ratio -0.5 is not between 0 and 1", "such as 0.5"),
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
        ([*DIGITS, "--device", "frob"], 2, "unknown device 'frob'", "choose auto, cpu, cuda or cuda:N"),
        ([*DIGITS, "--device", "cuda"], 6, "device 'cuda' was asked for", "--device cpu"),
        ([*DIGITS, "--device", "cuda:1"], 6, "device 'cuda:1' was asked for", "--device cpu"),
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
        ("truncated", "is truncated: 94095 bytes, where its header says 94096"),
        ("header", "is truncated: 10 bytes do not hold its header"),
        ("too long", "is too long"),
        ("magic", "is not an IDX file of 3 dimension(s): it begins with 00000801"),
        ("gzip", "is not a whole gzip file"),
        ("short gzip", "its gzip stream ends early"),
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


def test_a_disk_that_fills_up_during_training_loses_nothing_that_was_done(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*DIGITS, "--kind", "snn", "--out"]
    assert hstnn(*words, tmp_path / "whole").code == 0
    calls = 0

    def fills_up(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 9:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fills_up)
        result = hstnn(*words, tmp_path / "full")
    assert result.code == 5
    assert "no space left" in result.error
    assert RunFolder(tmp_path / "full" / RUN).status()["epoch"] == 1
    assert hstnn(*words, tmp_path / "full", "--resume").code == 0
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def test_a_begun_run_is_continued_only_with_resume_and_only_with_its_recipe(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str | Path] = [*DIGITS, "--kind", "rnn", "--out", tmp_path]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hstnn_deploy.cli.progress.PlainObserver.epoch_done", interrupt)
        stopped = hstnn(*words)
    assert stopped.code == 130
    assert stopped.error == "interrupted; all finished epochs are kept"
    assert "--resume" in stopped.hint

    before = raw(tmp_path)
    result = hstnn(*words)
    assert result.code == 5
    assert "holds a run that is not finished (interrupted)" in result.error
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


# Being stopped for real.

LONG = [*DIGITS, "--set", "adapt.epochs=40", "--set", "batch=100", "--kind", "snn"]
RUN = "digits/snn/seed1111"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("long")
    changes = [word for word in LONG if "=" in word]
    train(load_recipe("digits", [*changes, "kind=snn"]), out)
    return contents(out)


def start(out: Path) -> "subprocess.Popen[str]":
    """Start a training in a process of its own and wait until some epochs are done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hstnn_deploy", *LONG, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever started the tests may have Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    run, patience = RunFolder(out / RUN), time.monotonic() + 120
    while len(run.metrics()) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.01)
    return process


def test_after_kill_9_resume_gives_what_an_uninterrupted_run_gives(
    hstnn: Hstnn, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    process = start(tmp_path)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = RunFolder(tmp_path / RUN)
    done = len(run.metrics())
    assert 2 <= done < 40
    assert run.status()["state"] == "running"
    assert hstnn(*LONG, "--out", tmp_path).code == 5
    result = hstnn(*LONG, "--out", tmp_path, "--resume")
    assert (result.code, result.err) == (0, "")
    assert contents(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_training_in_order(hstnn: Hstnn, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    second = hstnn(*LONG, "--out", tmp_path, "--resume")
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines() == [
        "error: interrupted; all finished epochs are kept",
        "hint: run the same command with --resume to continue",
    ]
    assert second.code == 5
    assert "is in use by another hstnn process" in second.error
    status = RunFolder(tmp_path / RUN).status()
    assert status["state"] == "interrupted"
    assert 2 <= status["epoch"] < 40


def test_a_network_beyond_the_memory_is_said_in_one_line(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digits", "--kind", "snn", "--set", "network.units=[300000000000]", "--out", tmp_path)
    assert result.code == 10
    assert "out of memory" in result.error
    assert "network.units" in result.hint
