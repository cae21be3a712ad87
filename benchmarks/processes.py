"""Measuring in a process of its own: what a candidate allocates is not mixed with what others left on the heap."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self


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


class Worker:
    """A process that runs `python -m MODULE [--threads N] --serve WORDS…`, and answers questions one at a time.

    Between questions it waits and takes no processor time. A context manager; leaving it ends the process.
    """

    def __init__(self, module: str, *words: str, threads: int | None = None) -> None:
        options = [] if threads is None else ["--threads", str(threads)]
        self._what = f"{module} {' '.join(words)}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *options, "--serve", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> float:
        """Return the number that answers a question of one line.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{question}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # then there is no answer either
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._what}: ended with exit code {self._process.wait()}; what it said stands above")
        return float(answer)

    def __enter__(self) -> Self:
        """Return the worker."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
