"""From what a user asks for to a device that is really there. Never a silent fall back."""

import re

import torch

from hstnn_deploy.errors import DeviceError, UsageError


def resolve(asked: str, threads: int | None = None) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`, and set how many CPU threads torch uses (None: its own).

    Raises:
        UsageError: not one of these.
        DeviceError: it is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "cpu":
        return torch.device("cpu")
    if not (match := re.fullmatch(r"cuda(?::(\d+))?", asked)):
        raise UsageError(f"unknown device {asked!r}", "choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise DeviceError(f"device {asked!r} was asked for, but {why_no_cuda()}", "use --device cpu or --device auto")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device {asked!r} does not exist: torch sees {count} GPU(s), numbered 0 to {count - 1}")
    return torch.device("cuda", index)


def why_no_cuda() -> str:
    """Say why torch cannot use CUDA here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if torch.cuda.device_count() == 0:
        return "no CUDA device is visible to torch"
    return "CUDA is not available to torch"
