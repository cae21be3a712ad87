"""GPUs as the driver and torch see them.

CUDA and NVML number devices each in their own way, so a CUDA ordinal is taken to NVML by UUID. Neither torch nor a CUDA
context is needed to ask the driver.
"""

import ctypes
import sys
from typing import Any, NamedTuple

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.record import Configuration
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
        raise ProfileError(f"the CUDA driver does not answer: {error}") from error
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


def _torch_on(device: str) -> Any:
    """Return torch where this process has loaded it and uses the device, else None: a measurement starts neither."""
    torch = sys.modules.get("torch")
    return torch if device != "cpu" and torch is not None and torch.cuda.is_initialized() else None


def synchronise(device: str) -> None:
    """Wait until a device has done all work that torch has asked of it; `cpu` has no such queue."""
    if torch := _torch_on(device):
        torch.cuda.synchronize(device)


def allocator(device: str) -> list[Value]:
    """Return the peaks of torch's CUDA allocator since the last call, and let them start again.

    What CUDA graphs own is not in "allocated" once they are captured, so their private pools are named apart.
    Empty where torch is not at work on the device.
    """
    torch = _torch_on(device)
    if torch is None:
        return []
    allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    index = torch.device(device).index or 0
    pools = sum(
        segment["total_size"]
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == index and tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)
    )
    torch.cuda.reset_peak_memory_stats(device)
    return [
        Measured("cuda_allocated_peak", allocated, "B", "torch.cuda.max_memory_allocated"),
        Measured("cuda_reserved_peak", reserved, "B", "torch.cuda.max_memory_reserved"),
        Measured("cuda_graph_pools", pools, "B", "torch.cuda.memory_snapshot, segments of private pools", "at the end"),
    ]


def no_allocator(reason: str) -> list[Value]:
    """Return what `allocator` would, not measured."""
    return [NotMeasured(name, reason) for name in ("cuda_allocated_peak", "cuda_reserved_peak", "cuda_graph_pools")]
