"""The rule itself: every sort of misbehaviour is seen."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from hstnn_deploy.errors import DataError
from tests.attacks.box import Box
from tests.attacks.outcome import Limits, Outcome, complaint
from tests.attacks.worker import Call, Worker

FINE = "error: x.npy is empty\nhint: give another\n"


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Outcome(0, "an answer"), ""),
        (Outcome(3, "", FINE), ""),
        (Outcome(3, "", f"preparing 1 of 3\n{FINE}"), ""),
        (Outcome(70, "", "error: unexpected error: KeyError: 'x'\nhint: add --traceback\n"), "exit code 70"),
        (Outcome(1, "", FINE), "exit code 1"),
        (Outcome(3, "", ""), "not one error"),
        (Outcome(3, "", FINE + FINE), "not one error"),
        (Outcome(2, "", "error: a (and 1 more)\nhint: b\nerror: c\n"), ""),
        (Outcome(2, "", "error: a (and 2 more)\nhint: b\nerror: c\n"), "not one error"),
        (Outcome(2, "", "error: a (and 1 more)\nhint: b\nerror: c\nerror: d\n"), "not one error"),
        (Outcome(3, "", "error: a\nb\n"), "something follows"),
        (Outcome(0, "", FINE), "beside an answer"),
        (Outcome(3, "", "Traceback (most recent call last):\n" + FINE), "not the project's own"),
        (Outcome(3, "", "/x/y.py:3: UserWarning: odd\n" + FINE), "not the project's own"),
        (Outcome(3, "", "thread '<unnamed>' panicked at src/lib.rs\n" + FINE), "not the project's own"),
        (Outcome(0, "\x1b[31mred"), "control character"),
        (Outcome(0, growth=2**40), "memory"),
        (Outcome(0, did=("os.system touch",)), "os.system"),
        (Outcome(None, ended="not done after 60 s"), "not done"),
    ],
)
def test_an_outcome_is_judged(outcome: Outcome, what: str) -> None:
    found = complaint(outcome, Limits())
    assert what in found
    assert bool(what) == bool(found)


def test_what_can_be_mended_must_be() -> None:
    assert "mended" in complaint(Outcome(3, "", FINE), Limits(), must_answer=True)


def refuse(_: Box) -> None:
    raise DataError("not this one")


def spin(_: Box) -> None:
    while True:
        pass


def die(_: Box) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def panic(_: Box) -> None:
    raise BaseException("panicked")


def grow(_: Box) -> None:
    kept = bytearray(150 * 2**20)
    kept[::4096] = b"x" * len(kept[::4096])


def start(box: Box) -> None:
    subprocess.run(["touch", box.canary], check=True)


def write_outside(box: Box) -> None:
    (box.root.parent.parent / "outside").write_text("x")


def write_beside(box: Box) -> None:
    (box.root / "beside").write_text("x")


def leave(box: Box) -> None:
    (box.root / "tmp" / "left").write_text("x")


def change(box: Box) -> None:
    (box.given / "x").write_text("other")


def talk(_: Box) -> None:
    os.write(2, b"Warning: from below\n")


DEEDS: list[tuple[Callable[[Box], None], str]] = [
    (refuse, ""),
    (spin, "not done"),
    (die, "ended with -9"),
    (panic, "exit code"),
    (grow, "memory"),
    (start, "subprocess.Popen"),
    (write_outside, "to write"),
    (write_beside, "beside"),
    (leave, "in the temporary folder"),
    (change, "changed its input x"),
    (talk, "not the project's own"),
]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    def place(function: Callable[[Box], None]) -> Callable[[Box, bytes], Call]:
        def placed(box: Box, content: bytes) -> Call:
            (box.given / "x").write_bytes(content)
            return lambda: function(box)

        return placed

    root = tmp_path_factory.mktemp("worker") / "in"
    made = Worker(root / "box", {each.__name__: place(each) for each, _ in DEEDS}, Limits(0.5, 100 * 2**20))
    yield made
    made.close()


@pytest.mark.parametrize(("function", "what"), DEEDS)
def test_a_worker_sees_what_is_done(worker: Worker, function: Callable[[Box], None], what: str) -> None:
    found = complaint(worker.run(function.__name__, b"x"), worker.limits)
    assert what in found
    assert bool(what) == bool(found)
    assert not complaint(worker.run("refuse", b"x"), worker.limits), "it goes on after whatever happened"
