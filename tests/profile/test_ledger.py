"""The ledger against known answers: allocated bytes, burnt CPU time by the process's own count, sleep, workers.

Nothing here is compared with a wall clock: the machine may be busy.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import hstnn_deploy
from hstnn_deploy import processes
from hstnn_deploy.errors import UsageError
from hstnn_deploy.profile.meter.host import Tree
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.meter.sampler import MOST_ROWS, Sampler, merged
from hstnn_deploy.profile.record import Span
from hstnn_deploy.profile.values import Measured, NotMeasured, value_from

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")

_LIFE = """
import json, mmap, os, resource, subprocess, sys, threading, time
import hstnn_deploy

def cpu(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))

truth = {}
with hstnn_deploy.measure(seconds=0.05) as m:
    with m.span("allocate"):
        block = b"x" * 200_000_000
        del block
    with m.span("after"):
        pass
    with m.span("burn"):
        before = cpu(resource.RUSAGE_SELF)
        threads = [threading.Thread(target=burn, args=(0.5,)) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        truth["burn"] = cpu(resource.RUSAGE_SELF) - before
    with m.span("sleep"):
        time.sleep(0.5)
    before = cpu(resource.RUSAGE_CHILDREN)
    ready, at_work = os.pipe()
    waiting, until = os.pipe()
    workers = []
    with m.span("workers"):
        for _ in range(2):
            workers.append(os.fork())
            if workers[-1] == 0:
                os.close(until)
                block = b"x" * 150_000_000
                burn(1.0)
                os.write(at_work, b"!")
                os.read(waiting, 1)
                os._exit(0)
        for _ in workers:
            os.read(ready, 1)
    with m.span("hold"):
        pass
    with m.span("wait"):
        os.close(until)
        [os.waitpid(pid, 0) for pid in workers]
    truth["workers"] = cpu(resource.RUSAGE_CHILDREN) - before
    with m.span("touch"):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        room = mmap.mmap(-1, 40_000_000)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            room.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, 40_000_000, 4096):
            room[place] = 1
        truth["faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
print(json.dumps({
    "truth": truth, "spans": [span.plain() for span in m.spans], "values": [value.plain() for value in m.values],
    "timeline": m.timeline, "sampler": m.sampler,
}))
"""


@pytest.fixture(scope="module")
def life() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _LIFE], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    found["spans"] = {span["name"]: Span.from_plain(span) for span in found["spans"]}
    found["values"] = {value["name"]: value_from(value) for value in found["values"]}
    return found


def number(life: dict[str, Any], span: str, name: str) -> float:
    value = life["spans"][span].value(name)
    assert isinstance(value, Measured), value
    return value.number


@linux
def test_an_allocation_that_is_free_again_is_in_its_span_s_peak_and_in_no_other(life: dict[str, Any]) -> None:
    grown = number(life, "allocate", "rss_peak") - number(life, "allocate", "rss_start")
    assert grown == pytest.approx(200e6, rel=0.03)
    assert number(life, "after", "rss_peak") < number(life, "after", "rss_start") + 50e6
    assert life["spans"]["allocate"].value("rss_peak").source == "/proc/PID/status VmHWM"


@linux
def test_cpu_time_is_the_process_s_own_count_of_it(life: dict[str, Any]) -> None:
    assert number(life, "burn", "cpu_seconds") == pytest.approx(life["truth"]["burn"], rel=0.03)
    span = life["spans"]["burn"]
    assert number(life, "burn", "cpu_cores") == pytest.approx(number(life, "burn", "cpu_seconds") / span.seconds)
    assert number(life, "burn", "threads_peak") >= 3


@linux
def test_sleeping_uses_nothing(life: dict[str, Any]) -> None:
    assert number(life, "sleep", "cpu_seconds") < 0.03 * 0.5
    assert number(life, "sleep", "disk_read") == 0


@linux
def test_workers_count_while_they_live_and_when_they_have_ended(life: dict[str, Any]) -> None:
    used = sum(number(life, name, "cpu_seconds") for name in ("workers", "hold", "wait"))
    assert used == pytest.approx(life["truth"]["workers"], rel=0.03)
    assert number(life, "hold", "processes_peak") == 3
    assert number(life, "wait", "processes_peak") == 3
    # A forked worker shares the parent's pages, which rss counts in all three and pss once.
    grown = number(life, "hold", "pss_peak") - number(life, "sleep", "pss_peak")
    assert grown == pytest.approx(300e6, rel=0.03)
    assert number(life, "hold", "rss_peak") >= 300e6 + number(life, "sleep", "rss_peak")


@linux
def test_page_faults_are_the_process_s_own_count_of_them(life: dict[str, Any]) -> None:
    assert life["truth"]["faults"] >= 40_000_000 // 4096
    assert number(life, "touch", "page_faults_minor") == pytest.approx(life["truth"]["faults"], rel=0.03)


@linux
def test_the_whole_is_its_parts_and_a_timeline(life: dict[str, Any]) -> None:
    columns = life["timeline"]["columns"]
    assert len({len(column) for column in columns.values()}) == 1
    assert columns["t"] == sorted(columns["t"])
    assert max(rss for rss in columns["rss"]) <= life["values"]["rss_peak"].number
    for span in life["spans"].values():
        assert 0 <= span.start <= columns["t"][-1] + 1
    total = sum(number(life, name, "cpu_seconds") for name in life["spans"])
    assert total <= life["values"]["cpu_seconds"].number * 1.001
    assert isinstance(life["values"]["cuda_process"], NotMeasured)


@linux
def test_measuring_says_what_it_costs(life: dict[str, Any]) -> None:
    cost = life["sampler"]
    assert cost["samples"] == len(life["timeline"]["columns"]["t"])
    assert 0 < cost["cpu_seconds"] < cost["wall_seconds"]
    assert cost["cores"] == pytest.approx(cost["cpu_seconds"] / cost["wall_seconds"])


def test_spans_do_not_stand_inside_each_other() -> None:
    with (
        Ledger() as ledger,
        ledger.span("outer"),
        pytest.raises(ValueError, match="'inner' begins inside the span"),
        ledger.span("inner"),
    ):
        pass
    assert [span.name for span in ledger.spans] == ["outer"]


@pytest.mark.parametrize("options", [{"device": "gpu"}, {"device": "cuda"}, {"seconds": 0}, {"seconds": float("nan")}])
def test_what_cannot_be_measured_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"unknown device|not a positive number"):
        hstnn_deploy.measure(**options)


def test_an_error_in_the_work_is_not_hidden_and_its_span_is_kept() -> None:
    ledger = Ledger()
    with pytest.raises(RuntimeError, match="broken"), ledger, ledger.span("work"):
        raise RuntimeError("broken")
    assert [span.name for span in ledger.spans] == ["work"]


def test_without_a_sampler_the_work_goes_on_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for command, reason in (
        (["/nowhere/python"], "the sampler could not be started"),
        ([sys.executable, "-c", "pass"], "the sampler ended before it was told to"),
        ([sys.executable, "-c", "print('ready', flush=True); input()"], "the sampler ended before it was told to"),
        ([sys.executable, "-c", "1 / 0"], "the sampler ended with exit code 1: ZeroDivisionError"),
    ):
        monkeypatch.setattr(processes, "command", lambda *_, command=command: command)
        with Ledger() as ledger, ledger.span("work"):
            pass
        value = ledger["cpu_seconds"]
        assert isinstance(value, NotMeasured)
        assert reason in value.reason
        assert isinstance(ledger.spans[0].value("seconds"), Measured)


@linux
def test_a_sampler_ends_with_who_it_listens_to() -> None:
    process = subprocess.Popen(
        processes.command("profile.meter.sampler", str(os.getpid()), "0.05", "cpu"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=processes.environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()
    assert process.wait(30) == 0


@linux
def test_a_long_life_is_drawn_with_fewer_rows_that_keep_the_peaks() -> None:
    sampler = Sampler(os.getppid(), 0.001, "cpu")
    sampler.rows = [{"t": float(n), "rss": float(n == 7) * 1e12 + n, "cpu": float(n)} for n in range(MOST_ROWS)]
    sampler.sample()
    assert len(sampler.rows) == MOST_ROWS // 2 + 1
    assert sampler.rows[3] == {"t": 7.0, "rss": 1e12 + 7, "cpu": 7.0}
    assert sampler.seconds == 0.002


def test_merged_rows_keep_what_only_one_of_them_has() -> None:
    assert merged({"t": 1.0, "rss": 5.0}, {"t": 2.0, "rss": 4.0, "pss": 3.0}) == {"t": 2.0, "rss": 5.0, "pss": 3.0}


@linux
def test_a_child_that_has_ended_and_was_not_waited_for_is_no_obstacle() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        tree = Tree(os.getpid())
        assert child.pid in tree.pids()
        assert tree.forget_peaks()
        assert tree.read()["rss"] > 0
        assert tree.weigh()["uss"] > 0
        assert tree.peaks()["peak"] > 0
        with Ledger() as ledger, ledger.span("work"):
            pass
        assert isinstance(ledger["rss_peak"], Measured)


@linux
def test_a_process_that_is_gone_reads_as_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    tree = Tree(process.pid)
    assert (tree.read(), tree.weigh(), tree.peaks()) == ({}, {}, {})


@linux
def test_elsewhere_psutil_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    tree = Tree(os.getpid())
    there = tree.read()
    monkeypatch.setattr(sys, "platform", "darwin")
    portable = tree.read() | tree.weigh()
    for key in ("rss", "cpu", "threads", "processes"):
        assert portable[key] == pytest.approx(there[key], rel=0.05), key
    assert 0 < portable["uss"] <= portable["rss"]
    assert "faults_minor" not in portable
