"""What a person sees while configurations are measured: the one under way, and a line for each that is done."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from hstnn_deploy.profile import cells
from hstnn_deploy.profile.launch import Observer
from hstnn_deploy.profile.records import Record
from hstnn_deploy.profile.values import Measured


class Progress(Observer):
    """Draws on a console: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status = Status("", console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._status:
            self._status.stop()

    def started(self, what: str, number: int, total: int) -> None:
        """See `Observer`."""
        if self._status:
            self._status.update(f"{number}/{total} {what}")

    def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
        """See `Observer`."""
        self.console.print(
            f"{number}/{total} {record.configuration.label}: {summary(record)} (took {seconds:.0f} s)",
            markup=False,
            soft_wrap=True,
        )


def summary(record: Record) -> str:
    """Return a record's main figure, or why there is none."""
    if record.status == "failed":
        return f"failed: {record.reason}"
    name, what, form = (
        ("epoch", "epoch", cells.seconds)
        if record.configuration.phase == "train"
        else ("latency_p50", "median", lambda number: f"{cells.milliseconds(number)} ms")
    )
    value = record.value(name)
    shown = form(value.number) if isinstance(value, Measured) else "n/a"
    return f"{what} {'~' if isinstance(value, Measured) and 'extrapolated' in value.note else ''}{shown}"
