"""What a person sees of a sweep: a live board on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hstnn_deploy.cli import console as house
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.metrics import shown
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.tables import Table
from hstnn_deploy.train.fitting.progress import valid_metric
from hstnn_deploy.train.sweep.estimate import Estimator
from hstnn_deploy.train.sweep.launch import Failure
from hstnn_deploy.train.sweep.scheduler import Entry, JobState, Observer

_SETTLED = {"done", "failed", "blocked", "interrupted"}


def duration(seconds: float | None) -> str:
    """Return seconds for people, such as "3 min 20 s"; n/a where there are none."""
    if seconds is None:
        return "n/a"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def result_line(run: RunFolder) -> str:
    """Return what a finished run has come to, in a few words; "" where it is not finished."""
    status = run.status()
    result = status.get("result") or {}
    if "test" in result:
        name = next((key for key in result["test"] if key != "loss"), "loss")
        figure = shown(name, result["test"][name])
        return f"best epoch {result['epoch']}, {valid_metric(result['valid'])}, test {name} {figure}"
    return f"{result['probes']} Hessian probes" if "probes" in result else ""


class Board(Observer):
    """Draws a sweep on a console."""

    def __init__(self, console: Console, entries: list[Entry], places: int, estimator: Estimator) -> None:
        self.console = console
        self.entries = entries
        self.places = places
        self.estimator = estimator
        self._start = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def changed(self, entry: Entry) -> None:
        """See `Observer`."""
        match entry.state:
            case "running":
                if not self._live:
                    again = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
                    self._say(entry, f"started on {entry.place}{again}")
            case "done":
                self.estimator.learn(entry.job.run)
                took = f" in {duration(entry.seconds)}" if entry.attempts else " by another process"
                self._say(entry, f"finished{took}: {_tolerant(result_line, entry.job.run)}")
            case "elsewhere":
                self._say(entry, "another process works on it; waiting")
            case "failed" | "blocked":
                self._say(entry, f"{entry.state}: {entry.reason}")
            case "interrupted":
                self._say(entry, "interrupted")
            case "waiting":
                pass

    def retried(self, entry: Entry, failure: Failure) -> None:
        """See `Observer`."""
        alone = ", alone on its GPU" if entry.alone else ""
        self._say(entry, f"failed: {failure.reason}; it will be tried again{alone}")

    def looked(self) -> None:
        """See `Observer`."""
        if self._live:
            self._live.update(self._drawn(), refresh=True)

    def _say(self, entry: Entry, text: str) -> None:
        settled = sum(each.state in _SETTLED for each in self.entries)
        line = f"[{settled}/{len(self.entries)}] {entry.job.name}: {text}"
        self.console.print(line, markup=False, soft_wrap=True)

    def _drawn(self) -> Group:
        running = sorted((entry for entry in self.entries if entry.state == "running"), key=lambda each: each.place)
        table = Table(["job", "done", "left", "best so far", "slot"], style="plain", more="")
        now, left = time.monotonic(), list[float | None]()
        for entry in running:
            facts = _tolerant(RunFolder.status, entry.job.run) or {}
            seconds = _left(entry, facts)
            left.append(seconds)
            table.add_row(
                entry.job.name,
                _done(entry, facts),
                "n/a" if seconds is None else duration(seconds),
                valid_metric(facts["best"]) if facts.get("best") else "",
                entry.place,
            )
        waiting = [entry for entry in self.entries if entry.state in {"waiting", "elsewhere"}]
        left += [self.estimator.of(entry.job).seconds for entry in waiting]
        known = [seconds for seconds in left if seconds is not None]
        whole = f"about {duration(sum(known) / self.places)} left" if len(known) == len(left) else "time left n/a"
        head = Text(f"{counts(self.entries)}  ·  {duration(now - self._start)} so far, {whole}", style="bold")
        return Group(head, table)


def counts(entries: list[Entry]) -> str:
    """Return how many jobs are in which state."""
    number = Counter(entry.state for entry in entries)
    states: tuple[JobState, ...] = ("done", "running", "elsewhere", "waiting", "failed", "blocked", "interrupted")
    shown = [f"{number[state]} {state}" for state in states if number[state]]
    return f"{', '.join(shown)} of {len(entries)} jobs"


def failures(entries: list[Entry]) -> Table:
    """Return the table of what went wrong and why."""
    bad = [entry for entry in entries if entry.state in {"failed", "blocked", "interrupted"}]
    rows = [(entry.job.name, entry.state, str(entry.attempts), entry.reason) for entry in bad]
    return house.table("Jobs without a result", ["job", "state", ">attempts", "reason"], rows)


def _done(entry: Entry, status: dict[str, Any]) -> str:
    if entry.job.stage == "traces":
        return f"of {entry.job.steps} probes"
    return f"epoch {status.get('epoch', 0)}/{entry.job.steps}"


def _left(entry: Entry, status: dict[str, Any]) -> float | None:
    """Return the seconds a running job has left, judged by its own epochs."""
    best = status.get("best")
    if entry.job.stage == "traces" or not best:
        return None
    return (entry.job.steps - int(status.get("epoch", 0))) * float(best["train_seconds"] + best["valid_seconds"])


def _tolerant(look: Any, run: RunFolder) -> Any:
    """Look at a run folder that others may be removing or damaging: the board must not fall over that."""
    try:
        return look(run)
    except (HstnnError, OSError):
        return ""
