"""Several processes train what one trains: same order, parts weighted right, same curve; and they end together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.splits import ArraySplit
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import starter
from hstnn_deploy.train.evaluation import batches, parts
from hstnn_deploy.train.ranks import Ranks, started
from hstnn_deploy.train.stages import train
from tests.conftest import PATIENCE, TINY_TEXT, Hstnn, options, settings

CPU = torch.device("cpu")


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 5))
def test_parts_make_up_every_batch_in_order(size: int, samples: int, count: int) -> None:
    split = ArraySplit(torch.arange(samples * 2).view(samples, 2, 1), torch.arange(samples))
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(samples))
    each = [list(parts(split, size, order, CPU, Ranks(rank, count))) for rank in range(count)]
    for whole, *own in zip(batches(split, size, order, CPU), *each, strict=True):
        counted = [part for part in own if part.share]
        assert torch.equal(torch.cat([part.batch.x for part in counted], dim=1), whole.x)
        assert torch.equal(torch.cat([part.batch.target for part in counted]), whole.target)
        assert sum(part.share for part in own) == pytest.approx(1)
        assert own[0].share == max(part.share for part in own)
        assert all(len(part.batch.target) >= 1 for part in own)


def test_parts_of_a_text_are_columns() -> None:
    split = TextSplit(torch.arange(50), bptt=4, name="text")
    each = [list(parts(split, 3, None, CPU, Ranks(rank, 2))) for rank in range(2)]
    for whole, first, second in zip(batches(split, 3, None, CPU), *each, strict=True):
        assert torch.equal(torch.cat([first.batch.x, second.batch.x], dim=1), whole.x)
        assert torch.equal(torch.cat([first.batch.target, second.batch.target], dim=1), whole.target)
        assert (first.share, second.share) == pytest.approx((2 / 3, 1 / 3))


def test_a_rank_knows_itself_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started() is None
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert started() == Ranks(3, 4, 1)


# The starter, with small scripts in the place of trainings.


def script(text: str) -> list[str]:
    return [sys.executable, "-c", f"import os, signal, sys, time\nrank = int(os.environ['RANK'])\n{text}"]


def test_the_starter_returns_what_rank_0_said() -> None:
    check = "assert os.environ['WORLD_SIZE'] == '3' and os.environ['PLACE'].startswith('file://')\n"
    assert starter.start(script(check), 3, "PLACE") == 0
    assert starter.start(script("sys.exit(5 if rank == 0 else time.sleep(60))"), 2, "PLACE") == 5


def test_a_rank_that_ends_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "_GRACE", 0.3)
    with pytest.raises(starter.RankError, match=r"^process 2 of 2 was killed by SIGKILL$") as killed:
        starter.start(script("os.kill(os.getpid(), 9) if rank else time.sleep(60)"), 2, "PLACE")
    assert killed.value.exit_code == 5
    # The other one has all the time it needs to say what was wrong.
    monkeypatch.setattr(starter, "_GRACE", PATIENCE)
    said = "print('error: no data\\nhint: get some', file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(starter.RankError, match=r"^process 2 of 2: no data$") as explained:
        starter.start(script(f"if rank == 0: time.sleep(0.2); sys.exit({starter.LOST})\n{said}"), 2, "PLACE")
    assert (explained.value.exit_code, explained.value.hint) == (3, "get some")
    with pytest.raises(starter.RankError, match="lost each other"):
        starter.start(script(f"sys.exit({starter.LOST})"), 2, "PLACE")


def test_a_signal_goes_to_rank_0_which_ends_all(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    text = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130 if rank == 0 else 1))\n"
        f"if rank == 0: open({str(ready)!r}, 'w').close()\n"
        "time.sleep(60)"
    )

    def ask() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ask).start()
    assert starter.start(script(text), 2, "PLACE") == 130


# Trainings. The batch of 68 leaves a last one of a single sample: one of two ranks has none of it.

CHANGES = ["kind=ffs", "network.units=[12,12]", "batch=68", "adapt.epochs=80"]
WORDS = ["train", "digits", "--device", "cpu", *(word for change in CHANGES for word in ("--set", change))]
RUN = "digits/ffs-0.5/seed1111"


def near(expected: Any) -> Any:
    """Return what is equal to within what parts may do to a curve.

    They round their sums otherwise than the whole batch does, by some 1e-7; and now and then a spike at its threshold
    falls otherwise, of some million in an epoch here.
    """
    return pytest.approx(expected, rel=1e-4, abs=1e-4)


def launch(out: Path, *more: str) -> "subprocess.Popen[str]":
    """Start a training in two processes and wait until some epochs are done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hstnn_deploy", *WORDS, "--nproc", "2", "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever started the tests may have Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    run, patience = RunFolder(out / RUN), time.monotonic() + PATIENCE
    begun = len(run.metrics())
    while len(run.metrics()) < begun + 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.02)
    return process


def curve(rows: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    return [(row["train_loss"], row["valid_loss"], row["train_accuracy"], row["valid_accuracy"]) for row in rows]


def test_two_processes_train_as_one_end_together_and_are_continued_by_one(hstnn: Hstnn, tmp_path: Path) -> None:
    process = launch(tmp_path / "two")
    (other,) = [child for child in psutil.Process(process.pid).children() if child.environ()["RANK"] == "1"]
    other.kill()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, err
    assert err.splitlines() == ["error: process 2 of 2 was killed by SIGKILL", "hint: --resume continues the training"]
    run = RunFolder(tmp_path / "two" / RUN)
    assert run.status()["state"] == "failed"
    assert run.environment()["processes"] == 2
    done = len(run.metrics())

    process = launch(tmp_path / "two", "--resume")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert err.splitlines() == [
        "error: interrupted; all finished epochs are kept",
        "hint: run the same command with --resume to continue",
    ]
    assert run.status()["state"] == "interrupted"
    assert len(run.metrics()) >= done + 3

    result = hstnn(*WORDS, "--out", tmp_path / "two", "--resume")
    assert (result.code, result.err) == (0, "")
    assert "number of processes was 2, is 1" in result.out
    assert [row["epoch"] for row in run.metrics()] == list(range(1, 81))
    assert run.finished

    one = train(load_recipe("digits", [*CHANGES[:-1], "adapt.epochs=3"]), tmp_path / "one")[0]
    for found, expected in zip(curve(run.metrics()), curve(one.metrics()), strict=False):
        assert found == near(expected)


LEAD = """
import sys, torch
from pathlib import Path
from hstnn_deploy.train.ranks import started, together
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import assist, train

torch.set_num_threads(1)
data, out, *changes = sys.argv[1:]
data = Path(data)
ranks, device = started(), torch.device("cpu")
with together(ranks, device):
    if ranks.leads:
        train(load_recipe("ptb", changes), out, data_folder=data, ranks=ranks)
    else:
        assist(ranks, device, data, "disk")
"""


@pytest.mark.matrix
def test_all_stages_of_a_language_model_under_torchruns_environment(ptb: Path, tmp_path: Path) -> None:
    changes = [*settings(TINY_TEXT), "network.dropout=0", "batch=3"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", LEAD, str(ptb), str(tmp_path / "two"), *changes],
            env={**os.environ, **meeting, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    one = train(load_recipe("ptb", changes), tmp_path / "one", data_folder=ptb)
    for run in one:
        other = RunFolder(tmp_path / "two" / run.path.relative_to(tmp_path / "one"))
        assert other.finished
        for found, expected in zip(other.metrics(), run.metrics(), strict=True):
            assert found["train_loss"] == near(expected["train_loss"])
            assert found["valid_perplexity"] == near(expected["valid_perplexity"])


# What a user gets wrong.


def test_more_processes_than_samples_in_a_batch_are_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digits", *options({"batch": 2}), "--nproc", "3", "--out", tmp_path)
    assert (result.code, result.error) == (2, "--nproc is 3, but a batch has only 2 samples")
    assert list(tmp_path.iterdir()) == []


def test_one_gpu_for_several_processes_is_refused(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    result = hstnn("train", "digits", "--device", "cuda:1", "--nproc", "2", "--out", tmp_path)
    assert (result.code, result.hint) == (2, "give --device cuda")
    result = hstnn("train", "digits", "--device", "cuda", "--nproc", "3", "--out", tmp_path)
    assert (result.code, result.error) == (6, "--nproc is 3, but torch sees 2 GPU(s)")
