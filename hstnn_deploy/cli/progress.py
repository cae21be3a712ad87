"""What a person sees of long work, a training above all: a live display on a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from hstnn_deploy.cli import console
from hstnn_deploy.metrics import shown
from hstnn_deploy.train.observer import Observer

_EVERY = 5.0
"""Seconds between lines, where there is no live display."""


def make_observer(screen: Console) -> "PlainObserver":
    """Return the observer that fits the console."""
    return LiveObserver(screen) if screen.is_terminal else PlainObserver(screen)


def valid_metric(row: dict[str, Any]) -> str:
    """Return the metric of an epoch's row with its name, such as "valid accuracy 97.22"."""
    name = next(key for key in row if key.startswith("valid_") and key not in {"valid_loss", "valid_seconds"})
    metric = name.removeprefix("valid_")
    return f"valid {metric} {shown(metric, row[name])}"


def firing(row: dict[str, Any]) -> str:
    """Return which share of its steps a spiking unit of each layer fires at, as "  firing 5.1 12 %"; empty without."""
    rates = [rate for key, rate in row.items() if key.startswith("spike_rate.")]
    return f"  firing {' '.join(f'{100 * rate:.2g}' for rate in rates)} %" if rates else ""


class PlainObserver(Observer):
    """One line per event; for a log file. Of the epochs, one line every few seconds, and always the last."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self._said = 0.0
        self._samples = 0
        self._title = ""

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def stage_started(self, title: str, epochs: int, done: int) -> None:
        """See `Observer`."""
        self._title, self.epochs = title, epochs
        self.say(f"{title}: {console.counted(epochs, 'epoch')}" + (f", continuing after epoch {done}" if done else ""))

    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        """See `Observer`."""
        self._samples = samples if batch == 1 else self._samples + samples

    def epoch_done(self, row: dict[str, Any]) -> None:
        """See `Observer`."""
        now = time.monotonic()
        if now - self._said >= _EVERY or row["epoch"] == self.epochs:
            self._said = now
            self.say(self._line(row))

    def _line(self, row: dict[str, Any]) -> str:
        speed = self._samples / row["train_seconds"] if row["train_seconds"] else 0
        return (
            f"{self._title}: epoch {row['epoch']}/{self.epochs}  loss {row['train_loss']:.4f}  {valid_metric(row)}"
            f"{firing(row)}  {speed:.0f} {self.counts}/s{'  best' if row['best'] else ''}"
        )

    def stage_finished(self, summary: str) -> None:
        """See `Observer`."""
        self.say(summary)

    def probes_started(self, title: str, probes: int, done: int) -> None:
        """See `Observer`."""
        self._title, self.epochs = title, probes
        self.say(f"{title}: {probes} Hessian probes" + (f", continuing after {done}" if done else ""))

    def probe_done(self, done: int) -> None:
        """See `Observer`."""
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            self.say(f"{self._title}: probe {done}/{self.epochs}")

    def preparing(self, what: str, done: int, total: int) -> None:
        """See `Observer`."""
        now = time.monotonic()
        if done == 1:
            self._said = now
        elif now - self._said >= _EVERY:
            self._said = now
            self.say(f"{what}: {done} of {total}")

    def note(self, text: str) -> None:
        """See `Observer`."""
        self.say(text)

    def close(self) -> None:
        """Stop drawing."""


class LiveObserver(PlainObserver):
    """A progress bar with loss, metric, samples/s and time left; finished stages stay as lines above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, facts="")
        self._facts = ""
        self._epoch_start = 0.0

    def _begin(self, title: str, total: int, done: int) -> None:
        # A fresh task, so that the time left is judged by this stage's own speed.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=total, completed=done, facts="")
        self._title, self.epochs, self._facts = title, total, ""
        self._progress.start()

    def stage_started(self, title: str, epochs: int, done: int) -> None:
        """See `Observer`."""
        self._begin(title, epochs, done)

    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        """See `Observer`."""
        super().batch_done(epoch, batch, batches, samples)
        now = time.monotonic()
        if batch == 1:
            self._epoch_start = now
        elif now - self._said > 0.2:
            self._said = now
            speed = self._samples / max(now - self._epoch_start, 1e-9)
            self._progress.update(
                self._task,
                completed=epoch - 1 + batch / (batches + 1),
                facts=f"{self._facts}  batch {batch}/{batches}  {speed:.0f} {self.counts}/s",
            )

    def epoch_done(self, row: dict[str, Any]) -> None:
        """See `Observer`."""
        self._facts = f"loss {row['train_loss']:.4f}  {valid_metric(row)}{firing(row)}"
        self._progress.update(self._task, completed=row["epoch"], facts=self._facts)

    def stage_finished(self, summary: str) -> None:
        """See `Observer`."""
        self.close()
        super().stage_finished(summary)

    def probes_started(self, title: str, probes: int, done: int) -> None:
        """See `Observer`."""
        self._begin(f"{title} (Hessian probes)", probes, done)

    def probe_done(self, done: int) -> None:
        """See `Observer`."""
        self._progress.update(self._task, completed=done)

    def preparing(self, what: str, done: int, total: int) -> None:
        """See `Observer`."""
        now = time.monotonic()
        if done == 1:
            self._begin(what, total, 0)
        elif now - self._said > 0.2 or done == total:
            self._said = now
            self._progress.update(self._task, completed=done)
        if done == total:
            self.close()

    def close(self) -> None:
        """See `PlainObserver`."""
        self._progress.stop()


class Working:
    """What is under way, how much of it is done, and how long it will take; a line for each thing elsewhere."""

    def __init__(self, screen: Console) -> None:
        self._console = screen
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(),
            console=screen,
            transient=True,
        )
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> "Working":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def report(self, what: str, done: int = 0, total: int | None = None, unit: str = "bytes") -> None:
        """Say what is under way; how much is done, and of how much (None: nobody knows)."""
        if what != self._what:
            self._what = what
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total, amount="")
            if not self._console.is_terminal:
                self._console.print(what, soft_wrap=True, markup=False)
        assert self._task is not None
        of = "" if total is None else f" of {_amount(total, unit)}"
        self._progress.update(
            self._task, completed=done, total=total, amount=f"{_amount(done, unit)}{of}" if done else ""
        )


def _amount(count: int, unit: str) -> str:
    return console.size(count) if unit == "bytes" else f"{count} {unit}"
