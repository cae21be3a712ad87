"""The processor time of short commands: `hstnn --help` beyond an empty Python program, others beside their imports."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.harness import Measure, Result, Spread, turns

TINY = (
    *("network.units=[6,5]", "batch=200", "adapt.epochs=2", "restore.epochs=2"),
    *("selection.probes=4", "selection.samples=20", "selection.bootstraps=10"),
)
"""Changes that leave a training little but its start."""
TORCH, RUNTIME = "import torch", "import numpy, onnxruntime"


def startup(rounds: int) -> Iterator[Result]:
    """Time whole processes by the user and system time the operating system charges them."""
    yield _beyond("hstnn --help", "pass", ["--help"], rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept, bundle, x = folder / "kept", folder / "bundle", folder / "x.npy"
        train = ["train", "digits", *(word for change in TINY for word in ("--set", change)), "--threads", "1", "--out"]
        _process(_hstnn([*train, str(kept)]))()
        ckpt = str(kept / "digits" / "hybrid" / "seed1111" / "ratio-0.5" / "best.pt")
        _process(_hstnn(["export", "--ckpt", ckpt, "--out", str(bundle)]))()
        np.save(x, np.zeros((8, 2, 8), np.float32))
        yield _beyond("hstnn train, three stages", TORCH, [*train, str(folder / "run-{}")], rounds)
        yield _beyond("a job of a sweep", TORCH, [*train, str(folder / "job-{}"), "--stage", "adapt"], rounds, job=True)
        yield _beyond("hstnn evaluate", TORCH, ["evaluate", "--ckpt", ckpt], rounds)
        robustness = ["robustness", "--ckpt", ckpt, "--disturb", "gaussian=0.1", "--draws", "1"]
        yield _beyond("hstnn robustness", TORCH, robustness, rounds)
        yield _beyond("hstnn export", TORCH, ["export", "--ckpt", ckpt, "--out", str(folder / "bundle-{}")], rounds)
        yield _beyond("hstnn run", RUNTIME, ["run", str(bundle), "--input", str(x)], rounds)


def _beyond(case: str, code: str, words: list[str], rounds: int, job: bool = False) -> Result:
    """Compare a command with the imports that it cannot do without. A `{}` in its words is another number each time."""
    floor, ours = _process([sys.executable, "-c", code]), _process(_hstnn(words, job))
    # What others compute meanwhile is not charged to these processes: no round is measured again for it.
    times = turns({"baseline": floor, "ours": ours}, rounds, warm_up=1, patience=0)
    pairs = zip(times.seconds["ours"], times.seconds["baseline"], strict=True)
    beyond = Spread.of([ours - floor for ours, floor in pairs])
    told = f"{times.median('ours'):.2f} s, {beyond.show()} s beyond `{code}`"
    return Result("startup", case, times, {"beyond": asdict(beyond)}, told)


def _hstnn(words: list[str], job: bool = False) -> list[str]:
    # A job writes down what it needed in its run folder; another one does as well here.
    module = ["hstnn_deploy.cli.job", tempfile.gettempdir()] if job else ["hstnn_deploy"]
    return [sys.executable, "-m", *module, *words]


def _process(command: list[str]) -> Measure:
    # As installed: compiled once. Some containers keep Python from writing what it compiled of a checkout.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    number = iter(range(10**6))

    def measure() -> float:
        now = next(number)
        words = [word.replace("{}", str(now)) if word.endswith("-{}") else word for word in command]
        # A job ends when its standard input does.
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{command} failed"
        return usage.ru_utime + usage.ru_stime

    return measure
