"""What a process and all it has started use of the host, read from outside. A reading is one moment's plain numbers.

Levels (bytes, counts) hold for the moment; counters grow from the process's start, so that two readings tell what was
used between them. A key that cannot be read is absent. Standard library on Linux; elsewhere psutil, with fewer keys.

    rss        resident memory, shared pages in every process that has them     read by `read`
    uss, pss   memory of this process alone; shared pages by the sharer         read by `weigh`, which walks page tables
    peak       kernel's high-water mark of rss since `forget_peaks`             read by `peaks`
    cpu        CPU seconds of all processes, ended and waited-for ones too; cpu_own: of the first alone
    faults_minor, faults_major, disk_read, threads, processes
    busy       CPU seconds of the whole machine; throttled: seconds that the container's limit held it back
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

Reading = dict[str, float]

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup/cpu.stat")


class _Stat(NamedTuple):
    """One process's line of /proc/PID/stat."""

    minor: int
    major: int
    own: float
    """CPU seconds, user and system."""
    waited: float
    """The same of children that have ended and were waited for."""
    threads: int
    started: int
    rss: int


class Tree:
    """A process and its descendants.

    Args:
        root: the process's number.
        besides: numbers of processes that are left out, with their descendants.
    """

    def __init__(self, root: int, besides: tuple[int, ...] = ()) -> None:
        self.root, self.besides = root, frozenset(besides)
        self._disk: dict[tuple[int, int], int] = {}

    def read(self) -> Reading:
        """Return what is cheap to read: all but `uss`, `pss` and `peak`. Empty where the process is gone."""
        if sys.platform != "linux":
            return _portable(self.root, self.besides)
        found = self._stats()
        if self.root not in found:
            return {}
        for pid, stat in found.items():
            # Kept when a process has ended: what it read was read.
            with suppress(OSError, ValueError, IndexError):
                self._disk[pid, stat.started] = _line(_PROC / str(pid) / "io", "read_bytes:", 1)
        stats = found.values()
        reading: Reading = {
            "rss": sum(stat.rss for stat in stats),
            "cpu": sum(stat.own + stat.waited for stat in stats),
            "cpu_own": found[self.root].own,
            "threads": sum(stat.threads for stat in stats),
            "processes": len(found),
            "faults_minor": sum(stat.minor for stat in stats),
            "faults_major": sum(stat.major for stat in stats),
        }
        if self._disk:
            reading["disk_read"] = sum(self._disk.values())
        return reading | _machine()

    def weigh(self) -> Reading:
        """Return `uss` and `pss`. Costs milliseconds per GB: the kernel walks the page tables."""
        if sys.platform != "linux":
            return _portable_unique(self.root, self.besides)
        unique = proportional = 0
        try:
            for pid in self.pids():
                with suppress(FileNotFoundError, ProcessLookupError):
                    text = (_PROC / str(pid) / "smaps_rollup").read_text()
                    sizes = {words[0]: int(words[1]) for line in text.splitlines()[1:] if (words := line.split())}
                    unique += sizes["Private_Clean:"] + sizes["Private_Dirty:"]
                    proportional += sizes["Pss:"]
        except (OSError, KeyError, ValueError, IndexError):
            return {}
        return {"uss": unique * 1024, "pss": proportional * 1024} if proportional else {}

    def peaks(self) -> Reading:
        """Return `peak`: the sum of the living processes' high-water marks of resident memory."""
        total = 0
        try:
            for pid in self.pids():
                # A process that has ended and was not waited for yet has no such line, and no memory.
                with suppress(FileNotFoundError, ProcessLookupError, _NoLine):
                    total += _line(_PROC / str(pid) / "status", "VmHWM:", 1) * 1024
        except (OSError, ValueError, IndexError):
            return {}
        return {"peak": total} if total else {}

    def forget_peaks(self) -> bool:
        """Let every high-water mark start again from what is resident now; return whether the kernel did."""
        try:
            for pid in self.pids():
                with suppress(FileNotFoundError, ProcessLookupError):
                    (_PROC / str(pid) / "clear_refs").write_text("5")
        except OSError:
            return False
        return sys.platform == "linux"

    def pids(self) -> list[int]:
        """Return the numbers of all living processes of the tree, this one first."""
        found, waiting = [], [self.root]
        while waiting:
            pid = waiting.pop()
            if pid in self.besides:
                continue
            found.append(pid)
            with suppress(OSError):
                for task in (_PROC / str(pid) / "task").iterdir():
                    with suppress(OSError):
                        waiting += map(int, (task / "children").read_text().split())
        return found

    def _stats(self) -> dict[int, _Stat]:
        found = {}
        for pid in self.pids():
            with suppress(OSError, ValueError, IndexError):
                found[pid] = _stat(pid)
        return found


def _stat(pid: int) -> _Stat:
    # The name, in brackets, may hold spaces and brackets of its own.
    words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    minor, waited_minor, major, waited_major = (int(word) for word in words[7:11])
    own, waited = (sum(int(word) for word in part) / tick for part in (words[11:13], words[13:15]))
    return _Stat(
        minor=minor + waited_minor,
        major=major + waited_major,
        own=own,
        waited=waited,
        threads=int(words[17]),
        started=int(words[19]),
        rss=int(words[21]) * page,
    )


class _NoLine(ValueError):
    """A file has no line that begins with the key."""


def _line(path: Path, key: str, place: int) -> int:
    """Return the number at a place of the line that begins with a key."""
    for line in path.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[place])
    raise _NoLine(f"{path} has no line {key}")


def _machine() -> Reading:
    reading: Reading = {}
    with suppress(OSError, ValueError, IndexError):
        first = (_PROC / "stat").read_text().partition("\n")[0].split()
        # user, nice, system, idle, iowait, irq, softirq, steal; a virtual machine's stolen time is others' work too.
        ticks = [int(word) for word in first[1:9]]
        reading["busy"] = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    with suppress(OSError, ValueError, IndexError):
        reading["throttled"] = _line(_CGROUP, "throttled_usec", 1) / 1e6
    return reading


def _family(root: int, besides: frozenset[int]) -> list[Any]:
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(root)
        return [each for each in (process, *process.children(recursive=True)) if each.pid not in besides]
    return []


def _portable(root: int, besides: frozenset[int]) -> Reading:
    import psutil

    reading: Reading = {"rss": 0, "cpu": 0, "threads": 0, "processes": 0}
    for process in _family(root, besides):
        with suppress(psutil.Error):
            times = process.cpu_times()
            own = times.user + times.system
            if process.pid == root:
                reading["cpu_own"] = own
            reading["cpu"] += own + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
            reading["rss"] += process.memory_info().rss
            reading["threads"] += process.num_threads()
            reading["processes"] += 1
    times = psutil.cpu_times()
    busy = times.user + times.system + getattr(times, "nice", 0)
    return {**reading, "busy": busy} if reading["processes"] else {}


def _portable_unique(root: int, besides: frozenset[int]) -> Reading:
    import psutil

    try:
        return {"uss": sum(process.memory_full_info().uss for process in _family(root, besides))}
    except (psutil.Error, AttributeError):
        return {}
