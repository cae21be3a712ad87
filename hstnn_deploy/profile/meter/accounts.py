"""From readings to values: what was used between two edges, and how high levels stood meanwhile. Pure functions.

Readings are those of `host` and `nvml`; a value names the reading it comes from as its source.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hstnn_deploy.profile.meter.host import Reading
from hstnn_deploy.profile.values import Measured, NotMeasured, Value

_BETWEEN = "peaks between two readings are missed"
_SHORTEST = 0.2
"""Seconds; the kernel counts the machine's work in hundredths."""


class Stretch(NamedTuple):
    """What was read of one span of time."""

    before: Reading
    """Everything, where it begins."""
    after: Reading
    """Everything, where it ends; `peak` is that of the stretch."""
    rows: Sequence[Reading]
    """Between them."""
    seconds: float
    cpu: float | None
    """CPU seconds that the first process counted for itself, or None where it was not asked."""
    reasons: dict[str, str]
    """Why a key is absent."""
    device: bool = False
    """Whether a GPU was asked for."""
    sampler_cpu: float = 0.0
    """CPU seconds per second that the sampler itself uses: it is no other's work."""


def values(stretch: Stretch) -> list[Value]:
    """Return the values of a stretch, in the order in which they are documented in `values`."""
    if not stretch.before or not stretch.after:
        reason = stretch.reasons.get("all", "the process could not be read from outside")
        return [NotMeasured(name, reason) for name in ("rss_peak", "cpu_seconds", "cpu_cores")]
    found = [*_memory(stretch), *_processor(stretch), *_counters(stretch)]
    return [*found, *(_device(stretch) if stretch.device else [])]


def _memory(stretch: Stretch) -> list[Value]:
    levels = [stretch.before, *stretch.rows, stretch.after]
    readings = [row["rss"] for row in levels if "rss" in row]
    found: list[Value] = [Measured("rss_start", stretch.before["rss"], "B", "/proc/PID/stat")]
    alone = max(row.get("processes", 1) for row in levels) == 1
    if alone and "peak" in stretch.after:
        found.append(Measured("rss_peak", stretch.after["peak"], "B", "/proc/PID/status VmHWM"))
    else:
        # The high-water marks of several processes were not reached at one time: only readings can be added up.
        most = max(readings)
        found.append(Measured("rss_peak", most, "B", f"{len(readings)} readings of rss", _BETWEEN))
    for key in ("uss", "pss"):
        heavy = [row[key] for row in levels if key in row]
        if heavy:
            source = f"{len(heavy)} readings of /proc/PID/smaps_rollup"
            found.append(Measured(f"{key}_peak", max(heavy), "B", source, _BETWEEN))
        else:
            found.append(NotMeasured(f"{key}_peak", f"this system does not report {key.upper()}"))
    return found


def _processor(stretch: Stretch) -> list[Value]:
    before, after, seconds = stretch.before, stretch.after, stretch.seconds
    cpu, source = after["cpu"] - before["cpu"], "/proc/PID/stat"
    if stretch.cpu is not None and "cpu_own" in after and "cpu_own" in before:
        # The process's own clock is finer than the kernel's hundredths.
        workers = max(0.0, cpu - (after["cpu_own"] - before["cpu_own"]))
        cpu, source = stretch.cpu + workers, "time.process_time; of what it started, /proc/PID/stat"
    found: list[Value] = [Measured("cpu_seconds", cpu, "s", source)]
    if seconds > 0:
        found.append(Measured("cpu_cores", cpu / seconds, "cores", "cpu_seconds / time.perf_counter"))
    else:
        found.append(NotMeasured("cpu_cores", "the measured work was too short for the clock"))
    wall = after["t"] - before["t"]
    if "busy" not in before or "busy" not in after:
        found.append(NotMeasured("cpu_cores_others", "this system does not report how busy it was"))
    elif wall < _SHORTEST:
        found.append(NotMeasured("cpu_cores_others", f"shorter than {_SHORTEST} s, too short for /proc/stat"))
    else:
        tree = after["cpu"] - before["cpu"]
        others = max(0.0, (after["busy"] - before["busy"] - tree) / wall - stretch.sampler_cpu)
        found.append(Measured("cpu_cores_others", others, "cores", "/proc/stat minus cpu_seconds and the sampler"))
    if "throttled" in before and "throttled" in after:
        held = after["throttled"] - before["throttled"]
        found.append(Measured("cpu_throttled", held, "s", "cgroup cpu.stat throttled_usec"))
    return found


_COUNTERS = (
    ("faults_minor", "page_faults_minor", "faults", "/proc/PID/stat minflt"),
    ("faults_major", "page_faults_major", "faults", "/proc/PID/stat majflt"),
    ("disk_read", "disk_read", "B", "/proc/PID/io read_bytes"),
)


def _counters(stretch: Stretch) -> list[Value]:
    levels = [stretch.before, *stretch.rows, stretch.after]
    found: list[Value] = []
    for key in ("threads", "processes"):
        most = max((row[key] for row in levels if key in row), default=None)
        if most is not None:
            found.append(Measured(f"{key}_peak", most, key, f"{len(levels)} readings of /proc/PID/stat"))
    for key, name, unit, source in _COUNTERS:
        if key in stretch.before and key in stretch.after:
            used = max(0.0, stretch.after[key] - stretch.before[key])
            found.append(Measured(name, used, unit, source))
        else:
            found.append(NotMeasured(name, "this system does not report it"))
    return found


_DEVICE_NAMES = ("cuda_process", "gpu_busy", "gpu_power", "gpu_energy", "gpu_clock")


def no_device(reason: str) -> list[Value]:
    """Return the values of a device, not measured."""
    return [NotMeasured(name, reason) for name in _DEVICE_NAMES]


def _device(stretch: Stretch) -> list[Value]:
    if failure := stretch.reasons.get("gpu"):
        return no_device(failure)
    levels = [stretch.before, *stretch.rows, stretch.after]

    def series(key: str) -> list[tuple[float, float]]:
        return [(row["t"], row[key]) for row in levels if key in row]

    def absent(name: str, key: str) -> NotMeasured:
        return NotMeasured(name, stretch.reasons.get(key, "NVML did not answer"))

    found: list[Value] = []
    mine = [size for _, size in series("gpu_process")]
    if mine and "gpu_process" in stretch.after:
        found.append(Measured("cuda_process", max(mine), "B", f"NVML compute process, {len(mine)} readings"))
    else:
        found.append(absent("cuda_process", "gpu_process"))
    for key, name, unit, source in (
        ("gpu_busy", "gpu_busy", "share", "NVML utilisation rate"),
        ("gpu_power", "gpu_power", "W", "NVML power usage"),
        ("gpu_clock", "gpu_clock", "MHz", "NVML clock of the multiprocessors"),
    ):
        points = series(key)
        if points:
            note = "the whole device, all processes" if key != "gpu_clock" else _slowed(series("gpu_throttled"))
            found.append(
                Measured(name, mean_over_time(points), unit, f"{source}, mean of {len(points)} readings", note)
            )
        else:
            found.append(absent(name, key))
    return [*found, _energy(stretch, series("gpu_power"))]


def _energy(stretch: Stretch, power: Sequence[tuple[float, float]]) -> Value:
    note = "the whole device, idle power included"
    if "gpu_energy" in stretch.before and "gpu_energy" in stretch.after:
        used = stretch.after["gpu_energy"] - stretch.before["gpu_energy"]
        return Measured("gpu_energy", used, "J", "NVML total energy consumption", note)
    if len(power) > 1:
        used = mean_over_time(power) * (power[-1][0] - power[0][0])
        return Measured("gpu_energy", used, "J", f"integral of NVML power usage, {len(power)} readings", note)
    return NotMeasured("gpu_energy", stretch.reasons.get("gpu_energy", "NVML did not answer"))


def _slowed(points: Sequence[tuple[float, float]]) -> str:
    slowed = sum(flag > 0 for _, flag in points)
    return f"limited by power or heat in {slowed} of {len(points)} readings" if slowed else ""


def mean_over_time(points: Sequence[tuple[float, float]]) -> float:
    """Return the mean of a level over time, by trapezoids; of a single reading, itself."""
    span = points[-1][0] - points[0][0]
    if span <= 0:
        return points[-1][1]
    pairs = pairwise(points)
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs) / span


def device_change(baseline: Reading, stretch: Stretch) -> Value:
    """Return by how much the whole device's memory has grown since the process had not used it yet, at its highest."""
    levels = [stretch.before, *stretch.rows, stretch.after]
    used = [row["gpu_used"] for row in levels if "gpu_used" in row]
    if not used or "gpu_used" not in baseline:
        return NotMeasured("cuda_device_change", stretch.reasons.get("gpu_used", "NVML did not answer"))
    return Measured(
        "cuda_device_change",
        max(used) - baseline["gpu_used"],
        "B",
        f"NVML device memory, {len(used)} readings, against the baseline before CUDA started",
        "growth on the whole device, other processes included",
    )
