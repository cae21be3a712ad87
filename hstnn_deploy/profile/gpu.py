"""GPUs as the driver sees them, and probes of their memory.

CUDA and NVML number devices each in their own way, so a CUDA ordinal is taken to NVML by UUID. Neither torch nor a CUDA
context is needed to ask.
"""

import ctypes
import os
import sys
from typing import Any, NamedTuple

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.records import Configuration
from hstnn_deploy.profile.values import Measured, NotMeasured, Value


class Gpu(NamedTuple):
    """A GPU, as NVML tells of it."""

    name: str
    uuid: str
    memory: int
    """Bytes."""


def nvml() -> Any:
    """Return the initialised `pynvml` module.

    Raises:
        ProfileError: it is not installed, or there is no NVIDIA driver.
    """
    try:
        import pynvml
    except ImportError as error:
        raise ProfileError("nvidia-ml-py is not installed", "pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise ProfileError(f"NVML cannot be used: {error}") from error
    return pynvml


def devices() -> tuple[str, list[Gpu]]:
    """Return the driver's version and all GPUs, in NVML's order.

    Raises:
        ProfileError: NVML cannot be used.
    """
    library = nvml()
    try:
        found = []
        for index in range(library.nvmlDeviceGetCount()):
            handle = library.nvmlDeviceGetHandleByIndex(index)
            memory = library.nvmlDeviceGetMemoryInfo(handle).total
            found.append(
                Gpu(_text(library.nvmlDeviceGetName(handle)), _text(library.nvmlDeviceGetUUID(handle)), memory)
            )
        return _text(library.nvmlSystemGetDriverVersion()), found
    except library.NVMLError as error:
        raise ProfileError(f"NVML cannot list the GPUs: {error}") from error


def _text(value: Any) -> str:
    # Older bindings return bytes.
    return value.decode() if isinstance(value, bytes) else str(value)


def device_uuid(ordinal: int) -> str:
    """Return the UUID, without a prefix, of the device that CUDA numbers `ordinal` in this process.

    Raises:
        ProfileError: the driver is not there, or has no such device.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        codes = (
            driver.cuInit(0),
            driver.cuDeviceGet(ctypes.byref(device), ordinal),
            driver.cuDeviceGetUuid_v2(ctypes.byref(raw), device),
        )
    except (OSError, AttributeError) as error:
        raise ProfileError(f"the CUDA driver cannot be asked: {error}") from error
    if any(codes):
        raise ProfileError(f"the CUDA driver has no device {ordinal} (codes {codes})")
    text = bytes(raw).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def torch_device(configuration: Configuration) -> Any:
    """Return the torch device to measure on, and set torch's threads.

    A measured process sees one GPU alone (see `processes`), which is number 0 to it.

    Raises:
        DeviceError: the device is not there; there is no fall back.
    """
    import torch

    from hstnn_deploy import devices

    if configuration.threads is not None:
        torch.set_num_threads(configuration.threads)
    return devices.resolve("cpu" if configuration.device == "cpu" else "cuda:0")


class TorchMemory:
    """Peaks of torch's CUDA allocator: what tensors took, and what torch reserved of the device for them."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def start(self) -> None:
        """See `Probe`. The peaks of the warm-up are forgotten."""
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)

    def stop(self) -> list[Value]:
        """See `Probe`."""
        import torch

        allocated = torch.cuda.max_memory_allocated(self.device)
        reserved = torch.cuda.max_memory_reserved(self.device)
        return [
            Measured("cuda_allocated_peak", allocated, "B", "torch.cuda.max_memory_allocated"),
            Measured("cuda_reserved_peak", reserved, "B", "torch.cuda.max_memory_reserved"),
        ]


class DriverMemory:
    """Device memory of this process as NVML counts it: context, libraries and allocator together.

    To be made before the process first uses the device: what the device holds then is the baseline. Read once, when
    the probe stops: allocators keep what they have taken, so that is close to the peak.
    """

    def __init__(self, ordinal: int) -> None:
        self._failure = ""
        self._pid = os.getpid()
        try:
            self._library = nvml()
            self._handle = self._find(device_uuid(ordinal))
            self._baseline = self._used()
            # A foreign process that happens to have our number: NVML counts another name space's processes.
            self._stranger = self._of_process() is not None
        except ProfileError as error:
            self._failure = error.message

    def start(self) -> None:
        """See `Probe`."""

    def stop(self) -> list[Value]:
        """See `Probe`."""
        if self._failure:
            return [NotMeasured("cuda_process", self._failure)]
        try:
            mine = None if self._stranger else self._of_process()
            if mine is not None:
                return [Measured("cuda_process", mine, "B", "NVML compute process", "read at the end")]
            change = self._used() - self._baseline
        except ProfileError as error:
            return [NotMeasured("cuda_process", error.message)]
        return [
            NotMeasured("cuda_process", "NVML does not see this process, as in a container with its own numbers"),
            Measured(
                "cuda_device_change",
                change,
                "B",
                "NVML device memory, against the baseline before CUDA started",
                "growth of the whole device: other processes' changes count too",
            ),
        ]

    def _find(self, uuid: str) -> Any:
        for prefix in ("GPU-", "MIG-"):
            try:
                return self._library.nvmlDeviceGetHandleByUUID(prefix + uuid)
            except self._library.NVMLError:
                continue
        raise ProfileError(f"NVML has no device with the UUID {uuid} that CUDA tells")

    def _used(self) -> int:
        try:
            return int(self._library.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._library.NVMLError as error:
            raise ProfileError(f"NVML cannot tell the device's memory: {error}") from error

    def _of_process(self) -> int | None:
        """Return this process's bytes, or None where NVML does not list it or not its memory."""
        try:
            running = self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._library.NVMLError:
            return None
        found = [process.usedGpuMemory for process in running if process.pid == self._pid]
        return sum(found) if found and None not in found else None


def absent(reason: str) -> list[Value]:
    """Return the CUDA values of a process that uses no GPU."""
    names = ("cuda_allocated_peak", "cuda_reserved_peak", "cuda_process")
    return [NotMeasured(name, reason) for name in names]
