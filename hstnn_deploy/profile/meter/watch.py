"""This process's side of the sampler: start it, tell it where spans begin, and take what it has read. Never raises."""

import contextlib
import json
import os
import select
import subprocess
import time
from typing import Any

from hstnn_deploy import processes
from hstnn_deploy.profile.meter.host import Reading

_LIMIT = 60.0
"""Seconds to wait for an answer."""


class Watch:
    """A sampler that watches this process from now on.

    Args:
        seconds: from one row to the next.
        device: `cpu`, or the number of a CUDA device.
    """

    def __init__(self, seconds: float, device: str) -> None:
        self.failure = ""
        """Why there are no readings; empty while there are."""
        self.marks = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                processes.command("profile.meter.sampler", str(os.getpid()), str(seconds), device),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=processes.environment(),
            )
        except OSError as error:
            self.failure = f"the sampler could not be started: {error.strerror or error}"
            return
        self._answer()

    def mark(self, name: str) -> int:
        """Let the sampler read everything now, and return the edge's number."""
        self._ask(f"mark {name}")
        self.marks += 1
        return self.marks - 1

    def end(self) -> "Readings":
        """Return all that was read; the sampler ends."""
        text = self._ask("end")
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._wait()
            self._process.stderr.close()
        if self.failure:
            return Readings({"reasons": {"all": self.failure}})
        return Readings(json.loads(text))

    def _ask(self, line: str) -> bytes:
        if self._process is None or self.failure:
            return b""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.failure = self._ended()
            return b""
        return self._answer()

    def _answer(self) -> bytes:
        """Return the next line that the sampler prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, parts, deadline = self._process.stdout.fileno(), [self._rest], time.monotonic() + _LIMIT
        while b"\n" not in parts[-1]:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            got = os.read(descriptor, 1 << 16) if readable else b""
            if not got:
                self.failure = self._ended() if readable else "the sampler does not answer"
                return b""
            parts.append(got)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _ended(self) -> str:
        """Return how the sampler ended, which it should not have done."""
        assert self._process is not None
        assert self._process.stderr is not None
        self._wait()
        printed = self._process.stderr.read().decode("utf-8", "replace")
        return f"the sampler {processes.cause(self._process.returncode, printed) or 'ended before it was told to'}"

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Readings:
    """What a sampler has read of a process.

    Args:
        plain: what the sampler printed at its end.
    """

    def __init__(self, plain: dict[str, Any]) -> None:
        self.rows: list[Reading] = plain.get("rows", [])
        self.edges: list[Reading] = [edge["row"] for edge in plain.get("edges", [])]
        self.reasons: dict[str, str] = plain.get("reasons", {})
        self.seconds: float | None = plain.get("seconds")
        """From one row to the next, as it was at the end."""
        self.cost: dict[str, float] = plain.get("sampler", {})
        """Of the sampler itself: CPU seconds at its start and since, wall seconds, readings, share of a core."""
        if self.cost:
            self.cost["cores"] = self.cost["cpu_seconds"] / max(self.cost["wall_seconds"], 1e-9)

    @property
    def baseline(self) -> Reading:
        """The first edge: before any of the work."""
        return self.edges[0] if self.edges else {}

    def between(self, first: int, last: int) -> tuple[Reading, Reading, list[Reading]]:
        """Return the edges of these numbers, and the rows between them; `peak` of the last is the whole stretch's."""
        if not 0 <= first < last < len(self.edges):
            return {}, {}, []
        before, after = self.edges[first], self.edges[last]
        if not before or not after:
            return {}, {}, []
        peaks = [edge["peak"] for edge in self.edges[first + 1 : last + 1] if "peak" in edge]
        after = {key: value for key, value in after.items() if key != "peak"} | ({"peak": max(peaks)} if peaks else {})
        return before, after, [row for row in self.rows if before["t"] < row["t"] < after["t"]]

    def timeline(self) -> dict[str, Any]:
        """Return the rows as columns of equal length, `t` in seconds from the first edge; null where not read."""
        keys = dict.fromkeys(key for row in self.rows for key in row if key != "t")
        start = self.baseline.get("t", 0.0)
        columns: dict[str, list[float | None]] = {"t": [round(row["t"] - start, 4) for row in self.rows]}
        return {
            "seconds": self.seconds,
            "columns": columns | {key: [row.get(key) for row in self.rows] for key in keys},
        }
