"""Probes of the host: each starts, stops, and returns named values with unit and source.

Standard library only. What a probe cannot read it reports as not measured, with the reason; it never raises.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hstnn_deploy.profile.values import Measured, NotMeasured, Value

_STATUS, _STAT = Path("/proc/self/status"), Path("/proc/stat")
_SHORTEST = 0.2
"""Seconds; /proc/stat counts hundredths."""


class Probe(Protocol):
    """Measures something of this process between start and stop."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> list[Value]:
        """End, and return what was measured."""
        ...


@contextmanager
def measured(probes: Sequence[Probe], synchronise: Callable[[], None] = lambda: None) -> Iterator[list[Value]]:
    """Run a block under probes; the list that is yielded holds their values once the block has ended.

    Args:
        probes: started in order and stopped in reverse, so that the last one encloses the block most tightly.
        synchronise: waits until the device has done all work asked of it, so that a clock sees all of it.
    """
    values: list[Value] = []
    synchronise()
    for probe in probes:
        probe.start()
    yield values
    synchronise()
    for probe in reversed(probes):
        values += probe.stop()


class WallClock:
    """Seconds of wall time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start = 0.0

    def start(self) -> None:
        """See `Probe`."""
        self._start = time.perf_counter()

    def stop(self) -> list[Value]:
        """See `Probe`."""
        return [Measured(self.name, time.perf_counter() - self._start, "s", "time.perf_counter")]


class CpuCores:
    """CPU cores in use: CPU time of all threads of the process, user and system, over wall time."""

    def __init__(self) -> None:
        self._cpu = self._wall = 0.0

    def start(self) -> None:
        """See `Probe`."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> list[Value]:
        """See `Probe`."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        if wall <= 0:
            return [NotMeasured("cpu_cores", "the measured work was too short for the clock")]
        return [Measured("cpu_cores", cpu / wall, "cores", "time.process_time / time.perf_counter")]


class OtherWork:
    """CPU cores that other processes used meanwhile: time that the machine was busy, less this process's own.

    Where own and others' cores together reach what the machine has, the measured times are too long.
    """

    name = "cpu_cores_others"

    def __init__(self) -> None:
        self._busy: float | None = None
        self._cpu = self._wall = 0.0

    def start(self) -> None:
        """See `Probe`."""
        self._busy, self._cpu, self._wall = _busy_seconds(), time.process_time(), time.perf_counter()

    def stop(self) -> list[Value]:
        """See `Probe`."""
        busy, cpu, wall = _busy_seconds(), time.process_time() - self._cpu, time.perf_counter() - self._wall
        if busy is None or self._busy is None:
            return [NotMeasured(self.name, f"there is no /proc/stat on {sys.platform}")]
        if wall < _SHORTEST:
            return [NotMeasured(self.name, f"less than {_SHORTEST} s are too short for /proc/stat")]
        others = max(0.0, busy - self._busy - cpu) / wall
        return [Measured(self.name, others, "cores", "/proc/stat less time.process_time")]


def _busy_seconds() -> float | None:
    """Return the seconds that all cores together have worked since the machine started, or None if it cannot tell."""
    try:
        first = _STAT.read_text().splitlines()[0].split()
        # user, nice, system, idle, iowait, irq, softirq, steal; a virtual machine's stolen time is others' work too.
        ticks = [int(number) for number in first[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


class HostMemory:
    """Resident memory of the process: before the measured work, and the peak of its whole life.

    The peak includes interpreter, imports and data: it is what a machine must have to run this.
    """

    def __init__(self) -> None:
        self._before: Value = NotMeasured("host_ram_before", "the probe was not started")

    def start(self) -> None:
        """See `Probe`."""
        self._before = _resident("VmRSS", "host_ram_before")

    def stop(self) -> list[Value]:
        """See `Probe`."""
        return [self._before, _peak()]


def _resident(key: str, name: str) -> Value:
    """Return a memory line of /proc/self/status, in bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return Measured(name, int(line.split()[1]) * 1024, "B", f"/proc/self/status {key}")
    except (OSError, ValueError, IndexError):
        pass
    return NotMeasured(name, f"there is no {key} in /proc/self/status on {sys.platform}")


def _peak() -> Value:
    # Not ru_maxrss where VmHWM is to be had: on Linux the former survives exec, so a child starts with its parent's.
    peak = _resident("VmHWM", "host_ram_peak")
    if isinstance(peak, Measured):
        return peak
    try:
        import resource
    except ImportError:
        return NotMeasured("host_ram_peak", f"{sys.platform} tells no peak of resident memory")
    unit = 1 if sys.platform == "darwin" else 1024
    note = "may include memory of the process that started this one" if sys.platform == "linux" else ""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Measured("host_ram_peak", most, "B", "getrusage ru_maxrss", note)
