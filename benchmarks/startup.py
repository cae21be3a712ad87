"""The processor time of `hstnn --help` beyond that of an empty Python program."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

from benchmarks.harness import Measure, Result, Spread, turns


def startup(rounds: int) -> Iterator[Result]:
    """Time whole processes by the user and system time the operating system charges them."""
    empty = [sys.executable, "-c", "pass"]
    shown = [sys.executable, "-m", "hstnn_deploy", "--help"]
    times = turns({"baseline": _process(empty), "ours": _process(shown)}, rounds)
    beyond = Spread.of(
        [ours - python for ours, python in zip(times.seconds["ours"], times.seconds["baseline"], strict=True)]
    )
    yield Result("startup", "hstnn --help", times, {"beyond": asdict(beyond)}, f"{beyond.show()} s beyond Python's own")


def _process(command: list[str]) -> Measure:
    def measure() -> float:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{command} failed"
        return usage.ru_utime + usage.ru_stime

    return measure
