"""Measuring in a process of its own: what a candidate allocates is not mixed with what others left on the heap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def memory(key: str) -> float:
    """Return a figure of this process's memory in bytes: VmRSS (resident now) or VmHWM (its high-water mark)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def child(module: str, *words: str, threads: int | None = None) -> dict[str, Any]:
    """Run `python -m MODULE [--threads N] --child WORDS…` in a fresh process; return the JSON that it prints.

    Raises:
        RuntimeError: it failed; the message holds the last line it said.
    """
    options = [] if threads is None else ["--threads", str(threads)]
    command = [sys.executable, "-m", module, *options, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"{module} {' '.join(words)}: {last}")
    out: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return out
