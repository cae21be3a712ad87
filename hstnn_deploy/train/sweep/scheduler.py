"""Run jobs in the order of their needs; a failure stops only the jobs that need it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.train.sweep.launch import Failure
from hstnn_deploy.train.sweep.plan import Job, chains

_LOOK_EVERY = 0.5
"""Seconds between looks at what runs: for the board, and for jobs that another process does."""

JobState = Literal["waiting", "running", "elsewhere", "done", "failed", "blocked", "interrupted"]
"""`elsewhere`: another process works on it. `blocked`: a job that it needs has failed."""


@dataclass(frozen=True)
class Wanted:
    """A job that may start."""

    job: Job
    alone: bool
    """Whether no other job may be on its GPU meanwhile."""


@dataclass(frozen=True)
class Ended:
    """A job whose attempt is over."""

    job: Job
    failure: Failure | None


class Executor(Protocol):
    """Where jobs run."""

    @property
    def places(self) -> int:
        """How many may run at once."""

    @property
    def shares_gpus(self) -> bool:
        """Whether a job may have other jobs beside it on its GPU."""

    def start(self, wanted: Sequence[Wanted]) -> list[tuple[Job, str]]:
        """Start as many jobs as fit, in order; return them, each with its place."""

    def wait(self, seconds: float) -> list[Ended]:
        """Wait at most `seconds` for jobs to end; return those that did."""

    def stop(self) -> None:
        """End all jobs, keeping what they have finished; Ctrl-C meanwhile ends them by force."""


@dataclass
class Entry:
    """The progress of a job so far."""

    job: Job
    state: JobState = "waiting"
    reason: str = ""
    """Why it failed or is blocked."""
    place: str = ""
    attempts: int = 0
    alone: bool = False
    seconds: float = 0.0
    """Seconds of its attempts, in this sweep."""
    began: float = 0.0
    """When its present attempt began, by the monotonic clock."""

    def plain(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "job": self.job.name,
            "identity": self.job.identity,
            "folder": str(self.job.run.path),
            "state": self.state,
            "reason": self.reason or None,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
        }


class Observer:
    """Listens to a sweep. Every method may be overridden; these do nothing."""

    def changed(self, entry: Entry) -> None:
        """Report that a job's state has changed."""

    def retried(self, entry: Entry, failure: Failure) -> None:
        """Report that an attempt failed and another will follow."""

    def looked(self) -> None:
        """Report that time has passed."""


class Scheduler:
    """Runs a plan. Jobs whose run folder is finished are done from the beginning."""

    def __init__(self, jobs: Sequence[Job], retries: int = 0, observer: Observer | None = None) -> None:
        """Take a plan.

        Args:
            jobs: see `plan.plan`.
            retries: how often a failed job is tried again.
            observer: is told what becomes of the jobs.
        """
        self.entries = [Entry(job, "done" if job.run.finished else "waiting") for job in jobs]
        self.retries = retries
        self.observer = observer or Observer()
        self._by_identity = {entry.job.identity: entry for entry in self.entries}
        self._chains = chains(jobs)

    def run(self, executor: Executor) -> None:
        """Run until every job is done, failed or blocked.

        Raises:
            KeyboardInterrupt: as it came, after the running jobs have been stopped.
        """
        try:
            while any(entry.state in {"waiting", "running", "elsewhere"} for entry in self.entries):
                for entry in self.entries:
                    if entry.state == "elsewhere":
                        self._look(entry)
                self._start(executor)
                for ended in executor.wait(_LOOK_EVERY):
                    self._end(ended, executor)
                self.observer.looked()
        except KeyboardInterrupt:
            try:
                executor.stop()
            finally:
                for entry in self.entries:
                    if entry.state == "running":
                        finished = entry.job.run.finished
                        self._change(entry, "done" if finished else "interrupted", "" if finished else "interrupted")
            raise

    def _start(self, executor: Executor) -> None:
        for entry in self.entries:
            if entry.state == "waiting" and (bad := self._unmet(entry, {"failed", "blocked"})):
                self._change(entry, "blocked", f"{bad.job.name}: {bad.reason}")
        free = [
            entry
            for entry in self.entries
            if entry.state == "waiting" and not self._unmet(entry, {"waiting", "running", "elsewhere"})
        ]
        # What the longest chain waits for goes first, so that the end is not one long chain on one slot.
        free.sort(key=lambda entry: (not entry.alone, -self._chains[entry.job.identity]))
        ready: list[Wanted] = []
        for entry in free:
            if len(ready) == executor.places:
                break  # no more could start, and each look costs
            self._look(entry)
            if entry.state == "waiting":
                ready.append(Wanted(entry.job, entry.alone))
        for job, place in executor.start(ready):
            entry = self._by_identity[job.identity]
            entry.place, entry.began = place, time.monotonic()
            entry.attempts += 1
            self._change(entry, "running")

    def _unmet(self, entry: Entry, states: set[str]) -> Entry | None:
        """Return the first job that this one needs and that is in one of some states."""
        needed = (self._by_identity[identity] for identity in entry.job.needs)
        return next((each for each in needed if each.state in states), None)

    def _look(self, entry: Entry) -> None:
        """Check whether another process has finished a job meanwhile or is working on it."""
        try:
            state = entry.job.run.state
        except HstnnError as error:
            self._change(entry, "failed", error.message)
            return
        match state:
            case "finished":
                self._change(entry, "done")
            case "running":
                if entry.state != "elsewhere":
                    self._change(entry, "elsewhere")
            case _ if entry.state == "elsewhere":
                self._change(entry, "waiting")

    def _end(self, ended: Ended, executor: Executor) -> None:
        entry, failure = self._by_identity[ended.job.identity], ended.failure
        entry.seconds += time.monotonic() - entry.began
        if failure is None:
            self._change(entry, "done")
        elif failure.kind == "busy":
            entry.attempts -= 1
            self._change(entry, "elsewhere")
        elif entry.attempts <= self.retries:
            entry.alone = entry.alone or (failure.kind == "memory" and executor.shares_gpus)
            entry.state = "waiting"
            self.observer.retried(entry, failure)
        else:
            self._change(entry, "failed", failure.reason)

    def _change(self, entry: Entry, state: JobState, reason: str = "") -> None:
        entry.state, entry.reason = state, reason
        if state != "running":
            entry.place = ""
        self.observer.changed(entry)
