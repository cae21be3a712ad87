"""What a person sees of a training: a live display on a terminal or in a notebook, plain lines elsewhere."""

import html
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import override

from hstnn_deploy.metrics import shown
from hstnn_deploy.screen import Screen, duration
from hstnn_deploy.train.observer import Observer

_EVERY = 5.0
"""Seconds between lines, where there is no live display."""

_WITHIN = 30.0
"""The same, between lines within an epoch."""


def observer_here() -> "PlainObserver":
    """Return the observer that fits where Python runs: a notebook, a terminal, or a log, on standard error."""
    screen = Screen(stderr=True)
    return NotebookObserver(screen) if screen.is_jupyter else make_observer(screen)


def make_observer(screen: Console) -> "PlainObserver":
    """Return the observer that fits the console."""
    return LiveObserver(screen) if screen.is_terminal else PlainObserver(screen)


def valid_metric(row: dict[str, Any]) -> str:
    """Return the metric of an epoch's row with its name, such as "valid accuracy 97.22"."""
    name = next(key for key in row if key.startswith("valid_") and key not in {"valid_loss", "valid_seconds"})
    metric = name.removeprefix("valid_")
    return f"valid {metric} {shown(metric, row[name])}"


def firing(row: dict[str, Any]) -> str:
    """Return each layer's mean spike rate as "  firing 5.1, 12 %"; empty without spiking layers."""
    rates = [rate for key, rate in row.items() if key.startswith("spike_rate.")]
    return f"  firing {', '.join(f'{100 * rate:.2g}' for rate in rates)} %" if rates else ""


class PlainObserver(Observer):
    """One line per event; for a log file. Of the epochs, one line every few seconds, and always the last."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self._said = 0.0
        self._samples, self._begun = 0, 0.0
        self._title = ""
        self._first: tuple[float, float] | None = None
        """When the first batch of this stage was done, and how many epochs were done then."""

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True, markup=False)

    @override
    def stage_started(self, title: str, epochs: int, done: int) -> None:
        self._title, self.epochs, self._first = title, epochs, None
        count = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        self.say(f"{title}: {count}" + (f", continuing after epoch {done}" if done else ""))

    @override
    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        now = time.monotonic()
        if batch == 1:
            self._samples, self._begun = 0, now
        self._samples += samples
        done = epoch - 1 + batch / batches
        if self._first is None:
            self._first = now, done
        if now - max(self._said, self._begun) >= _WITHIN:
            self._said = now
            begun, before = self._first
            left = (now - begun) / (done - before) * (self.epochs - done)
            self._within(epoch, batch, batches, left)

    def _within(self, epoch: int, batch: int, batches: int, left: float) -> None:
        """Report progress within a long epoch, and the seconds that the stage has left at its speed so far."""
        speed = self._samples / max(time.monotonic() - self._begun, 1e-9)
        self.say(
            f"{self._title}: epoch {epoch}/{self.epochs}, batch {batch}/{batches}  {speed:.0f} {self.counts}/s"
            f"  about {duration(left)} left"
        )

    @override
    def epoch_done(self, row: dict[str, Any]) -> None:
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

    @override
    def stage_finished(self, summary: str) -> None:
        self.say(summary)

    @override
    def probes_started(self, title: str, probes: int, done: int) -> None:
        self._title, self.epochs = title, probes
        self.say(f"{title}: {probes} Hessian probes" + (f", continuing after {done}" if done else ""))

    @override
    def probe_done(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            self.say(f"{self._title}: probe {done}/{self.epochs}")

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 1:
            self._said = now
        elif now - self._said >= _EVERY:
            self._said = now
            self.say(f"{what}: {done} of {total}")

    @override
    def note(self, text: str) -> None:
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

    def _begin(self, title: str, total: int, done: int) -> None:
        # A fresh task, so that the time left is judged by this stage's own speed.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=total, completed=done, facts="")
        self._title, self.epochs, self._facts = title, total, ""
        self._progress.start()

    @override
    def stage_started(self, title: str, epochs: int, done: int) -> None:
        self._begin(title, epochs, done)

    @override
    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        now = time.monotonic()
        if batch == 1:
            self._samples, self._begun = 0, now
        self._samples += samples
        if batch > 1 and now - self._said > 0.2:
            self._said = now
            speed = self._samples / max(now - self._begun, 1e-9)
            self._progress.update(
                self._task,
                completed=epoch - 1 + batch / (batches + 1),
                facts=f"{self._facts}  batch {batch}/{batches}  {speed:.0f} {self.counts}/s",
            )

    @override
    def epoch_done(self, row: dict[str, Any]) -> None:
        self._facts = f"loss {row['train_loss']:.4f}  {valid_metric(row)}{firing(row)}"
        self._progress.update(self._task, completed=row["epoch"], facts=self._facts)

    @override
    def stage_finished(self, summary: str) -> None:
        self.close()
        super().stage_finished(summary)

    @override
    def probes_started(self, title: str, probes: int, done: int) -> None:
        self._begin(f"{title} (Hessian probes)", probes, done)

    @override
    def probe_done(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 1:
            self._begin(what, total, 0)
        elif now - self._said > 0.2 or done == total:
            self._said = now
            self._progress.update(self._task, completed=done)
        if done == total:
            self.close()

    @override
    def close(self) -> None:
        self._progress.stop()


_REFRESH = 0.5
"""Seconds between two pictures of a notebook's display."""


class NotebookObserver(PlainObserver):
    """One display of a notebook cell, drawn anew: lines that stay, and a bar below them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lines: list[str] = []
        self._bar: tuple[float, int, str] | None = None
        self._facts = ""
        self._shown: Any = None

    def say(self, text: str) -> None:
        """Add a line that stays."""
        self._lines.append(text)
        self._draw()

    @override
    def stage_started(self, title: str, epochs: int, done: int) -> None:
        self._title, self.epochs, self._facts = title, epochs, ""
        self._show(done, epochs, title)

    @override
    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        now = time.monotonic()
        if batch == 1:
            self._samples, self._begun = 0, now
        self._samples += samples
        if now - self._said >= _REFRESH:
            speed = self._samples / max(now - self._begun, 1e-9)
            facts = f"{self._facts}  batch {batch}/{batches}  {speed:.0f} {self.counts}/s"
            self._show(epoch - 1 + batch / (batches + 1), self.epochs, f"{self._title}: epoch {epoch}{facts}")

    @override
    def epoch_done(self, row: dict[str, Any]) -> None:
        self._facts = f"  loss {row['train_loss']:.4f}  {valid_metric(row)}{firing(row)}"
        if time.monotonic() - self._said >= _REFRESH or row["epoch"] == self.epochs:
            self._show(row["epoch"], self.epochs, f"{self._title}: epoch {row['epoch']}/{self.epochs}{self._facts}")

    @override
    def stage_finished(self, summary: str) -> None:
        self._bar = None
        self.say(summary)

    @override
    def probes_started(self, title: str, probes: int, done: int) -> None:
        self._title, self.epochs = title, probes
        self._show(done, probes, f"{title}: {probes} Hessian probes")

    @override
    def probe_done(self, done: int) -> None:
        if time.monotonic() - self._said >= _REFRESH:
            self._show(done, self.epochs, f"{self._title}: probe {done}/{self.epochs}")

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        if done == total:
            self._bar = None
            self._draw()
        elif time.monotonic() - self._said >= _REFRESH:
            self._show(done, total, f"{what}: {done} of {total}")

    @override
    def close(self) -> None:
        self._bar = None
        self._draw()

    def _show(self, done: float, total: int, text: str) -> None:
        self._said, self._bar = time.monotonic(), (done, total, text)
        self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        lines = "".join(f"<div>{html.escape(each)}</div>" for each in self._lines)
        if self._bar is not None:
            done, total, text = self._bar
            style = "width: 16em; vertical-align: middle"
            bar = f'<progress value="{done:g}" max="{total}" style="{style}"></progress>'
            lines += f"<div>{bar} {html.escape(text)}</div>"
        page = HTML(f'<div style="font-family: monospace; white-space: pre-wrap">{lines}</div>')  # type: ignore[no-untyped-call]
        if self._shown is None:
            self._shown = display(page, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(page)
