"""The progress of long work other than training."""

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from hstnn_deploy.cli import console


class Working:
    """Current work, its progress and the time left, live on a terminal; elsewhere one line per piece of work."""

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
        """Show the current work, how much is done, and the total (None: unknown)."""
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
