"""The sampler: a process of its own that watches another one, and everything it has started, from outside.

    python -m hstnn_deploy.profile.meter.sampler PID SECONDS DEVICE

DEVICE is `cpu`, or the number of a CUDA device. It says `ready` on standard output, then reads a row of numbers (see
`host` and `nvml`) at a fixed interval. Standard input takes commands, one a line, each answered by a line:

    mark NAME   reads everything now, as the edge where the span NAME begins (none, without a name); peaks start again
    end         answers with all rows, edges, reasons and the sampler's own cost as JSON, and ends

It ends too when standard input closes. What is expensive to read (uss, pss) is read so seldom that it costs less than a
hundredth of the time; when there are more rows than a picture can show, neighbours are merged and it reads half as
often.
"""

import json
import os
import select
import signal
import sys
import time
from typing import Any

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.profile.meter.host import Reading, Tree

MOST_ROWS = 2000
_DEAR_SHARE, _CHEAP_SHARE = 0.005, 0.005
"""Of the time that passes, what reading may cost."""
_SECONDS_BETWEEN_DEAR = 0.5
_JUST_NOW = 0.05
"""Seconds in which uss and pss need not be read again outside of all spans."""


class Sampler:
    """Rows of one process's life.

    Args:
        pid: the process.
        seconds: from one row to the next, at least.
        device: `cpu`, or the number of a CUDA device.
    """

    def __init__(self, pid: int, seconds: float, device: str) -> None:
        self.pid, self.seconds = pid, seconds
        self.tree = Tree(pid, besides=(os.getpid(),))
        self.rows: list[Reading] = []
        self.edges: list[dict[str, Any]] = []
        self.reasons: dict[str, str] = {}
        self.exact_peaks = self.tree.forget_peaks()
        self._last_dear = 0.0
        self._weighed: Reading = {}
        self._pause = seconds
        self._dear_pause = max(seconds, _SECONDS_BETWEEN_DEAR)
        self._device: Any = None
        self._began = time.monotonic()
        self._cost = time.process_time()
        if device != "cpu":
            self._open(int(device))

    def _open(self, ordinal: int) -> None:
        try:
            from hstnn_deploy.profile.meter.nvml import Device

            self._device = Device(ordinal, self.tree.pids())
        except HstnnError as error:
            self.reasons["gpu"] = error.message

    def read(self, edge: bool = False) -> Reading:
        """Read a row; at an edge, everything of it."""
        before = time.process_time()
        now = time.monotonic()
        row = self.tree.read()
        if self._device is not None:
            row |= self._device.read(self.tree.pids())
        cheap = time.process_time()
        self._pause = max(self.seconds, (cheap - before) / _CHEAP_SHARE)
        age = now - self._last_dear
        if row and (edge or age >= self._dear_pause):
            # Where one span has just ended and the next begins, nothing was done that is measured.
            between = edge and age < _JUST_NOW and bool(self.edges) and not self.edges[-1]["name"]
            if not between:
                self._weighed = self.tree.weigh()
                self._last_dear = time.monotonic()
                cost = time.process_time() - cheap
                self._dear_pause = max(self.seconds, _SECONDS_BETWEEN_DEAR, cost / _DEAR_SHARE)
            row |= self._weighed
        return {"t": now, **row} if row else {}

    def sample(self) -> None:
        """Add a row."""
        if row := self.read():
            self.rows.append(row)
        if len(self.rows) > MOST_ROWS:
            self.rows = [merged(*self.rows[place : place + 2]) for place in range(0, len(self.rows), 2)]
            self.seconds *= 2

    def mark(self, name: str) -> None:
        """Add an edge: the end of the span before, and the beginning of the span `name`."""
        row = self.read(edge=True)
        row |= self.tree.peaks() if self.exact_peaks else {}
        self.edges.append({"name": name, "row": row})
        if row:
            self.rows.append({key: value for key, value in row.items() if key != "peak"})
        self.exact_peaks = self.exact_peaks and self.tree.forget_peaks()

    def everything(self) -> dict[str, Any]:
        """Return all that was read, as plain data."""
        if self._device is not None:
            self.reasons |= self._device.reasons
        return {
            "rows": self.rows,
            "edges": self.edges,
            "reasons": self.reasons,
            "seconds": self.seconds,
            "sampler": {
                "cpu_seconds": time.process_time() - self._cost,
                "start_cpu_seconds": self._cost,
                "wall_seconds": time.monotonic() - self._began,
                "samples": len(self.rows),
            },
        }

    def serve(self) -> None:
        """Sample until told to end, or until the listening process is gone."""
        descriptor = sys.stdin.fileno()
        waiting = b""
        due = time.monotonic()
        while True:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, due - time.monotonic()))
            if not readable:
                self.sample()
                due = time.monotonic() + self._pause
                continue
            if not (got := os.read(descriptor, 4096)):
                return
            *lines, waiting = (waiting + got).split(b"\n")
            for line in lines:
                command, _, name = line.decode().partition(" ")
                if command == "end":
                    print(json.dumps(self.everything()), flush=True)
                    return
                self.mark(name)
                print("ok", flush=True)


def merged(*rows: Reading) -> Reading:
    """Return one row that stands for several: counters as they ended, levels at their highest."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: max(row[key] for row in rows if key in row) for key in keys}


def main() -> None:
    """Do what the command line says."""
    # Ctrl-C at the terminal is for the process that is watched; it closes our input when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sampler = Sampler(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
    print("ready", flush=True)
    sampler.serve()


if __name__ == "__main__":
    main()
