"""What makes a measurement doubtful: a busy machine, a processor that was held back, a start that was not steady."""

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.values import Measured

_CROWD = 0.1
"""Others' share of the machine's cores from which they are worth a warning."""
_FULL = 0.9
"""Share of the cores in use from which the others' work takes time from the measured one."""

BUSY, THROTTLED, GPU_THROTTLED, UNSTEADY = "busy machine", "throttled", "throttled GPU", "not steady"

_TIMED = ("s", "cores", "J", "W")
"""Units of what depends on time; memory and counts do not."""


def depends_on_time(unit: str) -> bool:
    """Whether a caveat makes a value of this unit doubtful: true for times, rates, cores and energy."""
    return unit in _TIMED or unit.endswith("/s")


def of(record: Record) -> dict[str, str]:
    """Return the caveats of a measurement: what was the matter in a word or two, and how much of it."""
    found = {}
    if others := crowding(record):
        found[BUSY] = f"other processes used {others:.1f} of {record.facts['cores']} cores"
    if held := throttled(record):
        found[THROTTLED] = f"the container's CPU limit paused it for {held:.1f} s"
    if clock := gpu_clock(record):
        found[GPU_THROTTLED] = f"clock {clock}"
    if unsteady(record):
        found[UNSTEADY] = "the warm-up ran out of time before it was steady"
    return found


def crowding(record: Record) -> float:
    """Return how many cores other processes used, where that took time from the measured one; else 0."""
    own, others, cores = record.value("cpu_cores"), record.value("cpu_cores_others"), record.facts.get("cores", 1)
    if not isinstance(own, Measured) or not isinstance(others, Measured):
        return 0.0
    crowded = others.number >= _CROWD * cores and own.number + others.number >= _FULL * cores
    return others.number if crowded else 0.0


def throttled(record: Record) -> float:
    """Return for how many seconds the container's CPU limit held the process back."""
    value = record.value("cpu_throttled")
    return value.number if isinstance(value, Measured) else 0.0


def gpu_clock(record: Record) -> str:
    """Return what is to be known of the GPU's clock where it was held back; else an empty text."""
    return str(record.value("gpu_clock").plain().get("note", ""))


def unsteady(record: Record) -> bool:
    """Whether measuring began before the calls, or steps, were steady."""
    return (record.facts.get("warm_up") or {}).get("steady") is False
