"""Measured values: a number with its unit and source, or "not measured" with the reason. Never 0 for the latter.

Standard library only, so that a measured process can use it without its memory growing.

A value as plain data is one of

    {"name": "host_ram_peak", "value": 314572800, "unit": "B", "source": "/proc/self/status VmHWM", "note": ""}
    {"name": "cuda_allocated_peak", "value": null, "reason": "measured on the CPU: no CUDA device is visible to torch"}

Names, with their units. Of a record's whole:

    train_pass, eval_pass, epoch              s          the passes of one epoch, and their sum
    step_p50, step_p90, step_p95, step_p99    s          one training step; eval_step_p50 of evaluation
    step_wait, step_transfer, step_forward, step_backward, step_optimiser
                                              s          the median step's parts; wait: for data
    latency_p50, latency_p90, latency_p95, latency_p99
                                              s          one call, from input in host memory to output in host memory
    …_low, …_high                             s          95 % confidence interval: latency_p50, step_p50, train_pass
    …_iqr                                     s          spread: from the first to the third quartile
    throughput                                samples/s  of the training pass (words/s of a text), or of calls
    host_ram_peak, host_uss_peak, host_pss_peak
                                              B          memory of the process's whole life, imports included
    host_ram_before                           B          resident memory before the measured work
    host_ram_added                            B          of a foreign network: what loading and running it added
    load, first_call, first_step              s          of a foreign network: loading it, and the first of all
    file_bytes, parameter_bytes, buffer_bytes B          its size on disk, and in memory
    parameters, buffers                       parameters, values

Of the phase `work`, of weights on devices:

    rram_bits, sram_bits, sram_group_bits, other_bits
                                              bit        memory: see `models.device_memory`
    rram_reads, sram_reads                    bit        read for one sample, where every operation reads its weight
    energy_rram_reads, energy_sram_reads      J          of these
    energy_with_reads                         J          with that of the arithmetic

Of a record's measured work, and of every span (of the process and all that it started):

    seconds                                   s          wall time
    cpu_seconds, cpu_cores                    s, cores   CPU time, and CPU time over wall time
    cpu_cores_others                          cores      the same of everything else on the machine meanwhile
    cpu_throttled                             s          held back by the container's CPU limit
    threads_peak, processes_peak              threads, processes
    page_faults_minor, page_faults_major      faults
    disk_read                                 B          what really came from a disk
    rss_start, rss_peak, uss_peak, pss_peak   B          resident, unique and proportional memory
    cuda_allocated_peak, cuda_reserved_peak   B          torch's allocator
    cuda_graph_pools                          B          what it keeps for CUDA graphs
    cuda_process                              B          the process's memory as the driver counts it (NVML)
    cuda_device_change                        B          where NVML cannot see the process: growth of the whole device
    gpu_busy, gpu_power, gpu_clock, gpu_energy
                                              share, W, MHz, J   the whole device (NVML)
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

    def __str__(self) -> str:
        """Return number and unit."""
        return f"{self.number:.6g} {self.unit}".rstrip()

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

    def __str__(self) -> str:
        """Return why there is no number."""
        return f"n/a: {self.reason}"

    def plain(self) -> dict[str, Any]:
        """Return the value as plain data."""
        return {"name": self.name, "value": None, "reason": self.reason}


Value = Measured | NotMeasured


def value_from(data: dict[str, Any]) -> Value:
    """Return the value that plain data describes.

    Raises:
        ProfileError: it describes none.
    """
    if not isinstance(data, dict):
        raise ProfileError(f"a record has a damaged value: {data!r:.60}")
    try:
        if data["value"] is None:
            return NotMeasured(str(data["name"]), str(data["reason"]))
        number = data["value"]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"value {number!r} is not a number")
        return Measured(str(data["name"]), number, str(data["unit"]), str(data["source"]), str(data.get("note", "")))
    except KeyError as error:
        raise ProfileError(f"a record has a damaged value: it has no {error.args[0]}") from error
    except TypeError as error:
        raise ProfileError(f"a record has a damaged value: {error}") from error


def find(values: Iterable[Value], name: str) -> Value:
    """Return the value of a name; not measured, where it is not among them."""
    return next((value for value in values if value.name == name), NotMeasured(name, "not part of this measurement"))
