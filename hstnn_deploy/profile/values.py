"""Measured values: a number with its unit and source, or "not measured" with the reason. Never 0 for the latter.

Standard library only, so that a measured process can use it without its memory growing.

A value as plain data is one of

    {"name": "host_ram_peak", "value": 314572800, "unit": "B", "source": "/proc/self/status VmHWM", "note": ""}
    {"name": "cuda_allocated_peak", "value": null, "reason": "measured on the CPU: no CUDA device is visible to torch"}

Names, with their units:

    train_pass, eval_pass, epoch              s          the passes of one epoch, and their sum
    latency_p50, latency_p90, latency_p99     s          one call, from input in host memory to logits in host memory
    throughput                                samples/s  of the training pass, or of calls back to back
    cpu_cores                                 cores      CPU time of the process over wall time, while measured
    cpu_cores_others                          cores      the same of everything else on the machine meanwhile
    host_ram_peak                             B          largest resident memory of the process, imports included
    host_ram_before                           B          resident memory before the work: imports, data, network
    cuda_allocated_peak, cuda_reserved_peak   B          torch's allocator
    cuda_process                              B          the process's memory as the driver counts it (NVML)
    cuda_device_change                        B          where NVML cannot see the process: growth of the whole device
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hstnn_deploy.errors import ProfileError


@dataclass(frozen=True)
class Measured:
    """A number that was measured."""

    name: str
    number: float
    unit: str
    source: str
    """Where it was read, such as "/proc/self/status VmHWM"."""
    note: str = ""
    """What to know before using it, such as "extrapolated from 40 of 540 steps"."""

    def plain(self) -> dict[str, Any]:
        """Return the value as plain data."""
        return {
            "name": self.name,
            "value": self.number,
            "unit": self.unit,
            "source": self.source,
            "note": self.note,
        }


@dataclass(frozen=True)
class NotMeasured:
    """A value that could not be measured."""

    name: str
    reason: str

    def plain(self) -> dict[str, Any]:
        """Return the value as plain data."""
        return {"name": self.name, "value": None, "reason": self.reason}


Value = Measured | NotMeasured


def value_from(data: dict[str, Any]) -> Value:
    """Return the value that plain data describes.

    Raises:
        ProfileError: it describes none.
    """
    try:
        if data["value"] is None:
            return NotMeasured(str(data["name"]), str(data["reason"]))
        number = data["value"]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"value {number!r} is not a number")
        return Measured(str(data["name"]), number, str(data["unit"]), str(data["source"]), str(data.get("note", "")))
    except (KeyError, TypeError) as error:
        raise ProfileError(f"a record holds a damaged value: {error}") from error


def find(values: Iterable[Value], name: str) -> Value:
    """Return the value of a name; not measured, where it is not among them."""
    return next((value for value in values if value.name == name), NotMeasured(name, "not part of this measurement"))
