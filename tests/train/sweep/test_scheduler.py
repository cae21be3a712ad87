"""The scheduler with jobs that only pretend: order, failures, retries, others at work, being stopped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import Interrupted
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.sweep.launch import Failure
from hstnn_deploy.train.sweep.plan import Job, plan
from hstnn_deploy.train.sweep.scheduler import Ended, Entry, Observer, Scheduler, Wanted
from tests.conftest import TINY, settings


def make_plan(out: Path = Path("never-written"), seeds: int = 2, kinds: Sequence[str] = ("rnn", "hybrid")) -> list[Job]:
    return plan(
        [
            load_recipe("digits", [*settings(TINY), f"kind={kind}", f"ratio={ratio}", f"seed={seed}"])
            for seed in range(seeds)
            for kind in kinds
            for ratio in (0.25, 0.5)
        ],
        out,
    )


@dataclass
class Pretend:
    """An executor whose jobs end one per look, the last started first; some of them fail, so and so often."""

    places: int = 2
    failing: dict[str, list[Failure]] = field(default_factory=dict)
    """By name: the failures of the first attempts."""
    shares_gpus: bool = False
    interrupt_after: int = 1000
    running: list[Job] = field(default_factory=list)
    started: list[tuple[str, bool]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    stopped: bool = False

    def start(self, wanted: Sequence[Wanted]) -> list[tuple[Job, str]]:
        room = wanted[: self.places - len(self.running)]
        self.running += [each.job for each in room]
        self.started += [(each.job.name, each.alone) for each in room]
        self.events += [("start", each.job.name) for each in room]
        assert len(self.running) <= self.places
        return [(each.job, "here") for each in room]

    def wait(self, seconds: float) -> list[Ended]:
        if len(self.ended) >= self.interrupt_after:
            raise KeyboardInterrupt
        if not self.running:
            return []
        job = self.running.pop()
        self.ended.append(job.name)
        self.events.append(("end", job.name))
        failures = self.failing.get(job.name, [])
        return [Ended(job, failures.pop(0) if failures else None)]

    def stop(self) -> None:
        self.stopped = True


class Lines(Observer):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def changed(self, entry: Entry) -> None:
        self.lines.append(f"{entry.job.name} {entry.state} {entry.reason}".strip())

    def retried(self, entry: Entry, failure: Failure) -> None:
        self.lines.append(f"{entry.job.name} again {failure.reason}")


def states(scheduler: Scheduler) -> dict[str, str]:
    return {entry.job.name: entry.state for entry in scheduler.entries}


def test_what_the_longest_chain_waits_for_goes_first() -> None:
    scheduler, executor = Scheduler(make_plan(seeds=1)), Pretend(places=1)
    scheduler.run(executor)
    base = "digits/hybrid/seed0"
    expected = [f"{base}/adapt", f"{base}/traces", "digits/rnn/seed0", f"{base}/ratio-0.25", f"{base}/ratio-0.5"]
    assert executor.ended == expected
    assert set(states(scheduler).values()) == {"done"}


def test_a_failure_stops_only_what_needs_it() -> None:
    executor = Pretend(failing={"digits/hybrid/seed0/adapt": [Failure("too hot")]})
    scheduler = Scheduler(make_plan())
    scheduler.run(executor)
    found = states(scheduler)
    for name, state in found.items():
        if name.startswith("digits/hybrid/seed0"):
            assert state == ("failed" if name.endswith("adapt") else "blocked")
        else:
            assert state == "done"
    reasons = {entry.job.name: entry.reason for entry in scheduler.entries}
    assert reasons["digits/hybrid/seed0/adapt"] == "too hot"
    assert reasons["digits/hybrid/seed0/ratio-0.5"].endswith("adapt: too hot")


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_failed_job_is_tried_again_so_often_and_not_oftener(retries: int) -> None:
    name = "digits/rnn/seed0"
    executor = Pretend(failing={name: [Failure("once")] * 3})
    scheduler = Scheduler(make_plan(seeds=1), retries)
    scheduler.run(executor)
    assert executor.ended.count(name) == min(retries, 3) + 1
    assert states(scheduler)[name] == ("done" if retries == 3 else "failed")


@pytest.mark.parametrize("shares", [False, True])
def test_out_of_memory_beside_others_is_tried_again_alone(shares: bool) -> None:
    name = "digits/rnn/seed0"
    executor = Pretend(failing={name: [Failure("CUDA out of memory", "memory")]}, shares_gpus=shares)
    Scheduler(make_plan(seeds=1), retries=1).run(executor)
    assert [alone for each, alone in executor.started if each == name] == [False, shares]
    assert not any(alone for each, alone in executor.started if each != name)


def test_a_folder_in_use_is_no_failure() -> None:
    name, lines = "digits/rnn/seed0", Lines()
    executor = Pretend(failing={name: [Failure("in use", "busy")] * 3})
    scheduler = Scheduler(make_plan(seeds=1), 0, lines)
    scheduler.run(executor)
    assert states(scheduler)[name] == "done"
    assert f"{name} elsewhere" in lines.lines
    assert next(entry.attempts for entry in scheduler.entries if entry.job.name == name) == 1


def test_what_another_process_does_is_waited_for_and_not_done_again(tmp_path: Path) -> None:
    jobs, lines = make_plan(tmp_path, seeds=1), Lines()
    adapt = next(job for job in jobs if job.stage == "adapt")
    adapt.run.path.mkdir(parents=True)
    adapt.run.set_status("running")  # by this process, which lives

    class Other(Pretend):
        def wait(self, seconds: float) -> list[Ended]:
            found = super().wait(seconds)
            if not self.running and not found:
                adapt.run.set_status("finished")
            return found

    executor = Other()
    scheduler = Scheduler(jobs, 0, lines)
    scheduler.run(executor)
    assert adapt.name not in executor.ended
    assert f"{adapt.name} elsewhere" in lines.lines
    assert set(states(scheduler).values()) == {"done"}


def test_what_is_finished_is_done_from_the_beginning(tmp_path: Path) -> None:
    jobs = make_plan(tmp_path, seeds=1)
    jobs[0].run.path.mkdir(parents=True)
    jobs[0].run.set_status("finished")
    executor = Pretend()
    Scheduler(jobs).run(executor)
    assert len(executor.ended) == len(jobs) - 1
    assert jobs[0].name not in executor.ended


def test_a_folder_that_gets_damaged_meanwhile_fails_its_job_alone(tmp_path: Path) -> None:
    jobs = make_plan(tmp_path, seeds=1)
    scheduler = Scheduler(jobs)
    jobs[0].run.path.mkdir(parents=True)
    (jobs[0].run.path / "status.json").write_text("{")
    scheduler.run(Pretend())
    assert sorted(states(scheduler).values()) == ["done"] * (len(jobs) - 1) + ["failed"]


def test_ctrl_c_stops_what_runs() -> None:
    scheduler, executor = Scheduler(make_plan()), Pretend(interrupt_after=3)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(executor)
    assert executor.stopped
    found = list(states(scheduler).values())
    assert (found.count("done"), found.count("interrupted")) == (3, 2)
    assert Interrupted.exit_code == 130


@given(st.data(), st.integers(1, 5), st.integers(0, 2))
def test_every_job_ends_once_after_what_it_needs_and_within_its_attempts(
    data: st.DataObject, places: int, retries: int
) -> None:
    jobs = make_plan()
    failing = {job.name: [Failure("no")] * data.draw(st.sampled_from([0, 0, 0, 1, 2, 3])) for job in jobs}
    doomed = {name for name, failures in failing.items() if len(failures) > retries}
    executor = Pretend(places, failing)
    scheduler = Scheduler(jobs, retries)
    scheduler.run(executor)
    by_identity = {job.identity: job for job in jobs}
    for entry in scheduler.entries:
        needs = [by_identity[need].name for need in entry.job.needs]
        bad = any(states(scheduler)[name] in {"failed", "blocked"} for name in needs)
        assert entry.state == ("blocked" if bad else "failed" if entry.job.name in doomed else "done")
        assert entry.attempts <= retries + 1
        if entry.state != "blocked":
            begun = executor.events.index(("start", entry.job.name))
            assert all(("end", name) in executor.events[:begun] for name in needs)
            assert all(("start", name) not in executor.events[begun:] for name in needs)
        else:
            assert ("start", entry.job.name) not in executor.events
