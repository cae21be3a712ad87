"""The requested device, if it exists; never a silent fallback."""

import os
import re

import torch

from hstnn_deploy.errors import DeviceError, UsageError


def resolve(asked: str, threads: int | None = None) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`, and set torch's number of CPU threads (None: default).

    Raises:
        UsageError: not one of these.
        DeviceError: it is not available.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "cpu":
        return torch.device("cpu")
    if not (match := re.fullmatch(r"cuda(?::(\d+))?", asked)):
        came = " (from HSTNN_DEVICE)" if os.environ.get("HSTNN_DEVICE") == asked else ""
        raise UsageError(f"unknown device {asked!r}{came}", "choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise DeviceError(f"device {asked!r} is not available: {why_no_cuda()}", "use --device cpu or --device auto")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device {asked!r} does not exist: torch sees {count} GPU(s), numbered 0 to {count - 1}")
    return torch.device("cuda", index)


def one_of(device: torch.device, count: int, local: int, named: bool) -> torch.device:
    """Return the device of process `local` of `count`: each has its own GPU; all share the CPU.

    Args:
        device: the result of `resolve` for all.
        count: processes on this machine.
        local: the number of this process.
        named: whether the user named one GPU.

    Raises:
        UsageError: one GPU was named for several processes.
        DeviceError: there are fewer GPUs.
    """
    if device.type == "cpu":
        return device
    if named:
        raise UsageError(f"--device {device} is one GPU, but --nproc asks for {count}", "give --device cuda")
    if count > (there := torch.cuda.device_count()):
        raise DeviceError(f"--nproc is {count}, but torch sees {there} GPU(s)", f"give --nproc {there}")
    return torch.device("cuda", local)


def why_no_cuda() -> str:
    """Return why torch cannot use CUDA here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if torch.cuda.device_count() == 0:
        return "no CUDA device is visible to torch"
    return "CUDA is not available to torch"
