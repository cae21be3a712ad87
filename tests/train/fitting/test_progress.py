"""What a person sees of a training: lines in a log, one display in a notebook, nothing where nothing is asked for."""

import io
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from hstnn_deploy.train.fitting import progress
from hstnn_deploy.train.fitting.fit import fit
from hstnn_deploy.train.fitting.progress import LiveObserver, NotebookObserver, PlainObserver, observer_here
from hstnn_deploy.train.observer import Observer, Observers, Within
from tests.train.fitting.cases import X, Y, network

ROW = {"train_loss": 0.5, "valid_loss": 0.6, "valid_accuracy": 90.0, "train_seconds": 10.0, "best": True}


class Clock:
    """Time that passes when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the observers."""
    own = Clock()
    monkeypatch.setattr("hstnn_deploy.train.fitting.progress.time.monotonic", own)
    return own


class Display:
    """IPython's display, with what it showed."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.displays = 0

    def __call__(self, page: str, display_id: bool) -> "Display":
        assert display_id
        self.displays += 1
        self.pages.append(page)
        return self

    def update(self, page: str) -> None:
        """Show another page in the same place."""
        self.pages.append(page)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    """IPython, as far as it is asked."""
    own, package, module = Display(), ModuleType("IPython"), ModuleType("IPython.display")
    module.HTML, module.display = str, own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return own


def log() -> tuple[PlainObserver, io.StringIO]:
    """Return the observer of a log, and what it wrote."""
    file = io.StringIO()
    found = progress.make_observer(Console(file=file, width=200))
    assert type(found) is PlainObserver
    return found, file


def run(observer: Observer, clock: Clock, epochs: int, batches: int, seconds: float) -> None:
    """Pretend to train, a batch taking some seconds."""
    observer.stage_started("train", epochs, 0)
    for epoch in range(1, epochs + 1):
        for batch in range(1, batches + 1):
            clock.now += seconds
            observer.batch_done(epoch, batch, batches, 20)
        observer.epoch_done({"epoch": epoch, **ROW})
    observer.stage_finished("train: done")


def test_a_log_has_a_line_for_an_epoch_but_not_for_every_short_one(clock: Clock) -> None:
    observer, file = log()
    run(observer, clock, 10, 10, 1.0)
    lines = file.getvalue().splitlines()
    assert len(lines) == 12
    assert "batch" not in file.getvalue()
    observer, file = log()
    run(observer, clock, 1000, 10, 0.01)
    assert len(file.getvalue().splitlines()) < 25


def test_a_log_of_long_epochs_has_a_line_each_half_minute(clock: Clock) -> None:
    observer, file = log()
    run(observer, clock, 2, 100, 2.0)
    within = [line for line in file.getvalue().splitlines() if ", batch " in line]
    assert 10 <= len(within) <= 14
    assert "epoch 1/2, batch 16/100" in within[0]
    assert "samples/s" in within[0]
    # Of 200 batches of 2 seconds, 16 are done.
    assert within[0].endswith("about 6 min 8 s left")


def test_how_far_an_epoch_is_is_noted_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, noted = Clock(), list[dict[str, Any]]()
    monkeypatch.setattr("hstnn_deploy.train.observer.time.monotonic", clock)
    run(Within(noted.append), clock, 1, 26, 1.0)
    assert noted == [
        {"batch": 11, "batches": 26, "seconds": 11.0},
        {"batch": 21, "batches": 26, "seconds": 21.0},
    ]
    noted.clear()
    run(Within(noted.append), clock, 50, 9, 1.0)
    assert not noted


def test_a_notebook_has_one_display_that_ends_without_a_bar(clock: Clock, display: Display) -> None:
    observer = NotebookObserver(Console(file=io.StringIO()))
    observer.note("a <note>")
    run(observer, clock, 20, 100, 0.01)
    assert display.displays == 1
    # At most two pictures a second, not one for each of the 2000 batches.
    assert 20 < len(display.pages) < 60
    assert any("<progress" in page and "valid accuracy 90.00" in page for page in display.pages)
    assert "<progress" not in display.pages[-1]
    assert "a &lt;note&gt;" in display.pages[-1]
    assert display.pages[-1].count("<div>") == 2


def test_a_notebook_shows_data_that_is_looked_at_and_probes(clock: Clock, display: Display) -> None:
    observer = NotebookObserver(Console(file=io.StringIO()))
    for done in range(1, 101):
        clock.now += 0.1
        observer.preparing("looking at train", done, 100)
    assert any(re.search(r"looking at train: \d+ of 100", page) for page in display.pages)
    assert len(display.pages) < 30
    observer.probes_started("select", 10, 0)
    clock.now += 1
    observer.probe_done(5)
    assert "probe 5/10" in display.pages[-1]
    observer.close()
    assert "<progress" not in display.pages[-1]


def test_where_python_runs_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[tuple[bool, bool, type[PlainObserver]]] = [
        (True, False, NotebookObserver),
        (False, True, LiveObserver),
        (False, False, PlainObserver),
    ]
    for notebook, terminal, kind in kinds:
        with monkeypatch.context() as patch:
            patch.setattr("rich.console._is_jupyter", lambda notebook=notebook: notebook)
            patch.delenv("FORCE_COLOR", raising=False)
            if terminal:
                patch.setenv("FORCE_COLOR", "1")
            assert type(observer_here()) is kind


def test_progress_goes_to_standard_error_and_only_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), (X, Y), epochs=1, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(network(), (X, Y), epochs=1)
    out, err = capsys.readouterr()
    assert not out
    assert "train: epoch 1/1" in err


def test_several_observers_hear_all_that_one_hears() -> None:
    heard: list[tuple[str, tuple[Any, ...]]] = []
    calls = {
        name: tuple(range(each.__code__.co_argcount - 1))
        for name, each in vars(Observer).items()
        if callable(each) and not name.startswith("_")
    }

    def hear(name: str) -> Any:
        return lambda self, *given: heard.append((name, given))

    one = type("One", (Observer,), {name: hear(name) for name in calls})
    both = Observers([one(), one()])
    for name, given in calls.items():
        getattr(both, name)(*given)
    assert heard == [(name, given) for name, given in calls.items() for _ in range(2)]
