"""What a training tells whoever watches it: derive from `Observer` to write for a logger of your own.

The command line draws it; `loggers` writes it for TensorBoard; tests and scripts need not listen.
"""

from collections.abc import Sequence
from typing import Any


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
        """Say something worth knowing, in one line."""

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

    def stage_started(self, title: str, epochs: int, done: int) -> None:
        """See `Observer`."""
        for one in self._each:
            one.stage_started(title, epochs, done)

    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        """See `Observer`."""
        for one in self._each:
            one.batch_done(epoch, batch, batches, samples)

    def epoch_done(self, row: dict[str, Any]) -> None:
        """See `Observer`."""
        for one in self._each:
            one.epoch_done(row)

    def stage_finished(self, summary: str) -> None:
        """See `Observer`."""
        for one in self._each:
            one.stage_finished(summary)

    def probes_started(self, title: str, probes: int, done: int) -> None:
        """See `Observer`."""
        for one in self._each:
            one.probes_started(title, probes, done)

    def probe_done(self, done: int) -> None:
        """See `Observer`."""
        for one in self._each:
            one.probe_done(done)

    def preparing(self, what: str, done: int, total: int) -> None:
        """See `Observer`."""
        for one in self._each:
            one.preparing(what, done, total)

    def note(self, text: str) -> None:
        """See `Observer`."""
        for one in self._each:
            one.note(text)

    def close(self) -> None:
        """See `Observer`."""
        for one in self._each:
            one.close()
