"""The events of a training, for observers: derive from `Observer` to write for a logger of your own.

The command line draws them; `loggers` writes them for TensorBoard; tests and scripts need not listen.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override


class Observer:
    """Listens to a training. Every method may be overridden; these do nothing."""

    counts = "samples"
    """What `batch_done` counts; the training sets it before a stage begins."""

    def stage_started(self, title: str, epochs: int, done: int) -> None:
        """Say that a stage begins, of `epochs` epochs, `done` of them already done."""

    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        """Say that a training batch of `samples` samples is done (or as many words, see `counts`)."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Say that an epoch is done; `row` is its row of metrics.jsonl."""

    def stage_finished(self, summary: str) -> None:
        """Say that a stage ended, in one line."""

    def probes_started(self, title: str, probes: int, done: int) -> None:
        """Say that the Hessian traces begin, of `probes` probes, `done` of them already done."""

    def probe_done(self, done: int) -> None:
        """Say that `done` probes are done."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """Say how many of the samples that have to be computed once are done."""

    def note(self, text: str) -> None:
        """Report a remark, in one line."""

    def close(self) -> None:
        """Say that nothing more comes: the training is over, was interrupted, or failed."""


class Observers(Observer):
    """Several that listen to one training, told one after another."""

    def __init__(self, each: Sequence[Observer]) -> None:
        self._each = list(each)

    def __setattr__(self, name: str, value: Any) -> None:
        """Hand on what they are told before a stage begins."""
        super().__setattr__(name, value)
        for one in self._each if name == "counts" else ():
            one.counts = value

    @override
    def stage_started(self, title: str, epochs: int, done: int) -> None:
        for one in self._each:
            one.stage_started(title, epochs, done)

    @override
    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        for one in self._each:
            one.batch_done(epoch, batch, batches, samples)

    @override
    def epoch_done(self, row: dict[str, Any]) -> None:
        for one in self._each:
            one.epoch_done(row)

    @override
    def stage_finished(self, summary: str) -> None:
        for one in self._each:
            one.stage_finished(summary)

    @override
    def probes_started(self, title: str, probes: int, done: int) -> None:
        for one in self._each:
            one.probes_started(title, probes, done)

    @override
    def probe_done(self, done: int) -> None:
        for one in self._each:
            one.probe_done(done)

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        for one in self._each:
            one.preparing(what, done, total)

    @override
    def note(self, text: str) -> None:
        for one in self._each:
            one.note(text)

    @override
    def close(self) -> None:
        for one in self._each:
            one.close()


class Within(Observer):
    """Notes every few seconds how far an epoch is, for those who look from outside; short epochs are not noted.

    Args:
        note: takes the number of the batch, the number of all, and the seconds since the epoch's first batch ended,
            scaled to all batches up to this one.
        every: seconds between two notes.
    """

    def __init__(self, note: Callable[[dict[str, Any]], None], every: float = 10.0) -> None:
        self._note, self._every = note, every
        self._begun = self._said = time.monotonic()

    @override
    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        now = time.monotonic()
        if batch == 1:
            # The first batch is not timed: it may wait for data, and be compiled.
            self._begun = self._said = now
        elif now - self._said >= self._every:
            self._said = now
            seconds = (now - self._begun) * batch / (batch - 1)
            self._note({"batch": batch, "batches": batches, "seconds": round(seconds, 3)})
