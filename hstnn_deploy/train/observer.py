"""What a training tells whoever watches it. The command line draws it; tests and scripts need not listen."""

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
        """Say that of samples which have to be computed once, so many are done."""

    def note(self, text: str) -> None:
        """Say something worth knowing, in one line."""
