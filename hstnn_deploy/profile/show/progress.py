"""What a person sees while configurations are measured: the one under way, and a line for each that is done."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from typing_extensions import override

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.run.launch import Observer
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.values import Measured


class Progress(Observer):
    """Draws on a console: a spinner on a terminal, plain lines elsewhere.

    Args:
        console: what to draw on.
        names: by its number, which of several networks a measurement is of.
    """

    def __init__(self, console: Console, names: Sequence[str] = ()) -> None:
        self.console = console
        self._names = names
        self._told = set[str]()
        self._status = Status("", console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._status:
            self._status.stop()

    @override
    def started(self, what: str, number: int, total: int) -> None:
        if self._status:
            self._status.update(f"{number}/{total} {self._of(number)}{what}")

    @override
    def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
        name, subject = self._of(number), record.configuration.subject
        if (whose := f"{name}{subject}") not in self._told:
            # A line of its own, once: it may be a long path.
            self._told = {whose, *(self._told if name else ())}
            self.console.print(whose, markup=False, soft_wrap=True)
        label = record.configuration.label.removeprefix(f"{subject}: ")
        done = f"{number}/{total} {name}{label}: {summary(record)} (took {seconds:.0f} s)"
        self.console.print(done, markup=False, soft_wrap=True)

    def _of(self, number: int) -> str:
        return f"{self._names[number - 1]}: " if self._names else ""


def summary(record: Record) -> str:
    """Return a record's main figure, or why there is none."""
    if record.status != "measured":
        return f"{record.status}: {record.reason}"
    name, what, form = _MAIN["find" if record.configuration.find_batch else record.configuration.phase]
    value = record.value(name)
    if not isinstance(value, Measured):
        return f"{what} n/a"
    about, after = "~" if "extrapolated" in value.note else "", f" ({value.note})" if name == "largest_batch" else ""
    return f"{what} {about}{form(value.number)}{after}"


_MAIN: dict[str, tuple[str, str, cells.Form]] = {
    "find": ("largest_batch", "largest batch", cells.digits),
    "work": ("parameters", "parameters", cells.prefixed),
    "train": ("epoch", "epoch", cells.seconds),
    "restore": ("epoch", "epoch", cells.seconds),
    "select": ("selection", "selection", cells.seconds),
    "export": ("export_onnx", "ONNX", cells.seconds),
    "infer": ("latency_p50", "median", cells.duration),
    "step": ("step_p50", "median", cells.duration),
}
"""By phase: which value stands for the whole, what it is called, and how it looks."""
