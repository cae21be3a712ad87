"""What a process and the device it uses show through NVML, read from outside; the driver is asked, never torch.

CUDA and NVML number devices each in their own way, so a CUDA ordinal is taken to NVML by UUID. A reading is one
moment's plain numbers; a key that cannot be read is absent, and `reasons` says why.

    gpu_used       bytes of the whole device that are taken
    gpu_process    bytes of the processes asked for, as NVML counts them: context, libraries and allocator together
    gpu_busy       share of the driver's last sample period in which a kernel ran, 0 to 1
    gpu_power      W;  gpu_energy: J since the driver was loaded
    gpu_clock      MHz of the multiprocessors
    gpu_throttled  1 where power, heat or hardware holds the clock down, else 0
"""

from collections.abc import Callable, Collection
from typing import Any

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.meter.gpu import device_uuid, nvml

Reading = dict[str, float]

_SLOWED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Software power cap, hardware slowdown, software thermal, hardware thermal, hardware power brake."""


class Device:
    """One GPU as NVML sees it.

    To be made before the process that is watched uses the device: what is listed under its number then is another
    name space's process, not ours.

    Args:
        ordinal: the device's number as CUDA counts in this process.
        pids: the processes that are watched.

    Raises:
        ProfileError: NVML cannot be used, or has no such device.
    """

    def __init__(self, ordinal: int, pids: Collection[int]) -> None:
        self.reasons: dict[str, str] = {}
        self._library = nvml()
        self._handle = self._find(device_uuid(ordinal))
        self._strangers = {pid for pid in self._running() or {} if pid in set(pids)}

    def read(self, pids: Collection[int]) -> Reading:
        """Return what the device shows now.

        Args:
            pids: of the processes whose memory `gpu_process` adds up.
        """
        library, handle = self._library, self._handle
        reading: Reading = {}

        def ask(key: str, answer: Callable[[], float | None]) -> None:
            try:
                value = answer()
            except (library.NVMLError, AttributeError) as error:
                # AttributeError: a binding older or newer than the call.
                self.reasons[key] = f"NVML: {error}"
                return
            if value is not None:
                reading[key] = value
                self.reasons.pop(key, None)

        ask("gpu_used", lambda: int(library.nvmlDeviceGetMemoryInfo(handle).used))
        ask("gpu_process", lambda: self._of(pids))
        ask("gpu_busy", lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        ask("gpu_power", lambda: library.nvmlDeviceGetPowerUsage(handle) / 1e3)
        ask("gpu_energy", lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
        ask("gpu_clock", lambda: float(library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM)))
        ask(
            "gpu_throttled",
            lambda: float(bool(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle) & _SLOWED)),
        )
        return reading

    def _find(self, uuid: str) -> Any:
        for prefix in ("GPU-", "MIG-"):
            try:
                return self._library.nvmlDeviceGetHandleByUUID(prefix + uuid)
            except self._library.NVMLError:
                continue
        raise ProfileError(f"NVML has no device with CUDA's UUID {uuid}")

    def _running(self) -> dict[int, int | None] | None:
        """Return each listed process's bytes, None where NVML does not tell them; None where it lists none at all."""
        try:
            running = self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._library.NVMLError as error:
            self.reasons["gpu_process"] = f"NVML: {error}"
            return None
        return {process.pid: process.usedGpuMemory for process in running}

    def _of(self, pids: Collection[int]) -> float | None:
        running = self._running()
        if running is None:
            return None
        found = [running[pid] for pid in pids if pid in running and pid not in self._strangers]
        known = [size for size in found if size is not None]
        if not found or len(known) < len(found):
            self.reasons["gpu_process"] = (
                "NVML does not see this process, as in a container with its own process numbers"
                if not found
                else "NVML lists the process, but not its memory"
            )
            return None
        return sum(known)
