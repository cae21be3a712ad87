"""The display of a sweep: a live board on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from hstnn_deploy.cli.console import table
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.metrics import shown
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.screen import Table, duration
from hstnn_deploy.train.fitting.progress import valid_metric
from hstnn_deploy.train.sweep.estimate import Estimator
from hstnn_deploy.train.sweep.launch import Failure
from hstnn_deploy.train.sweep.scheduler import Entry, JobState, Observer

_EVERY = 30.0
"""Seconds between lines on what is under way, where there is no live display."""

_SETTLED = {"done", "failed", "blocked", "interrupted"}


def result_line(run: RunFolder) -> str:
    """Return a short summary of a finished run; "" if it is not finished."""
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
        self._start = self._said = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    @override
    def changed(self, entry: Entry) -> None:
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
                self._say(entry, "another process is working on it; waiting")
            case "failed" | "blocked":
                self._say(entry, f"{entry.state}: {entry.reason}")
            case "interrupted":
                self._say(entry, "interrupted")
            case "waiting":
                pass

    @override
    def retried(self, entry: Entry, failure: Failure) -> None:
        alone = ", alone on its GPU" if entry.alone else ""
        self._say(entry, f"failed: {failure.reason}; retrying{alone}")

    @override
    def looked(self) -> None:
        if self._live:
            self._live.update(self._drawn(), refresh=True)
        elif time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            under_way = [f"{entry.job.name}: {_done(entry, facts)}" for entry, facts, _ in self._running()]
            self.console.print("; ".join([self._head(), *under_way]), markup=False, soft_wrap=True)

    def _say(self, entry: Entry, text: str) -> None:
        settled = sum(each.state in _SETTLED for each in self.entries)
        line = f"[{settled}/{len(self.entries)}] {entry.job.name}: {text}"
        self.console.print(line, markup=False, soft_wrap=True)

    def _running(self) -> list[tuple[Entry, dict[str, Any], float | None]]:
        """Return the running jobs with the status in their folders and the seconds each has left."""
        found = []
        for entry in sorted((each for each in self.entries if each.state == "running"), key=lambda each: each.place):
            facts = _tolerant(RunFolder.status, entry.job.run) or {}
            found.append((entry, facts, _left(entry, facts)))
        return found

    def _head(self) -> str:
        """Return the overall progress and the time left in one line."""
        left = [seconds for _, _, seconds in self._running()]
        waiting = [entry for entry in self.entries if entry.state in {"waiting", "elsewhere"}]
        left += [self.estimator.of(entry.job).seconds for entry in waiting]
        known = [seconds for seconds in left if seconds is not None]
        whole = f"about {duration(sum(known) / self.places)} left" if len(known) == len(left) else "time left n/a"
        return f"{counts(self.entries)}  ·  {duration(time.monotonic() - self._start)} so far, {whole}"

    def _drawn(self) -> Group:
        drawn = Table(["job", "done", "left", "best so far", "slot"], style="plain", more="")
        for entry, facts, seconds in self._running():
            drawn.add_row(
                entry.job.name,
                _done(entry, facts),
                duration(seconds),
                valid_metric(facts["best"]) if facts.get("best") else "",
                entry.place,
            )
        return Group(Text(self._head(), style="bold"), drawn)


def counts(entries: list[Entry]) -> str:
    """Return the number of jobs in each state."""
    number = Counter(entry.state for entry in entries)
    states: tuple[JobState, ...] = ("done", "running", "elsewhere", "waiting", "failed", "blocked", "interrupted")
    shown = [f"{number[state]} {state}" for state in states if number[state]]
    return f"{', '.join(shown)} of {len(entries)} jobs"


def failures(entries: list[Entry]) -> Table:
    """Return a table of the jobs that failed, and why."""
    bad = [entry for entry in entries if entry.state in {"failed", "blocked", "interrupted"}]
    rows = [(entry.job.name, entry.state, str(entry.attempts), entry.reason) for entry in bad]
    return table("Jobs without a result", ["job", "state", ">attempts", "reason"], rows)


def _done(entry: Entry, status: dict[str, Any]) -> str:
    if entry.job.stage == "traces":
        return f"n/a of {entry.job.steps} probes"
    within = status.get("within")
    batch = f", batch {within['batch']}/{within['batches']}" if within else ""
    return f"epoch {status.get('epoch', 0)}/{entry.job.steps}{batch}"


def _left(entry: Entry, status: dict[str, Any]) -> float | None:
    """Return the seconds a running job has left, estimated from its epochs, or from the batches of its first one."""
    best, within = status.get("best"), status.get("within")
    share = within["batch"] / within["batches"] if within else 0.0
    if entry.job.stage == "traces":
        return None
    if best:
        epoch = float(best["train_seconds"] + best["valid_seconds"])
    elif within:
        epoch = float(within["seconds"]) / share
    else:
        return None
    return (entry.job.steps - int(status.get("epoch", 0)) - share) * epoch


def _tolerant(look: Any, run: RunFolder) -> Any:
    """Read a run folder that another process may be removing or damaging, without failing."""
    try:
        return look(run)
    except (HstnnError, OSError):
        return ""
