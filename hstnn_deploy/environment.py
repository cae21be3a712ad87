"""Where something ran: versions, machine, threads, git state. Written beside every result."""

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import hstnn_deploy

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scikit-learn", "nvidia-ml-py")


def versions() -> dict[str, str]:
    """Return the version of hstnn-deploy and of each package it depends on, where installed."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"hstnn-deploy": hstnn_deploy.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """Return the processor's name as the operating system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _own_state() -> dict[str, Any] | None:
    """Return the state of this package's checkout when this process first asked: it runs the code that was there."""
    return git_state(Path(__file__))


def git_state(file: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that tracks `file` and whether it has changes, or None outside of one."""
    folder = file.parent
    try:
        # Installed into an environment inside somebody's repository, the package is not of that repository.
        _git(folder, "ls-files", "--error-unmatch", file.name)
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def describe(device: str) -> dict[str, Any]:
    """Return versions, machine and git state, and how torch is set up for work on `device`."""
    import torch

    facts: dict[str, Any] = {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "git": _own_state(),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two environments that a result depends on to the bit, in words.

    Both are as `describe` has them, with the number of `processes` of the training.
    """
    compared = (
        ("thread count", before.get("threads"), now["threads"]),
        ("torch", before.get("versions", {}).get("torch"), now["versions"].get("torch")),
        ("device", before.get("device"), now["device"]),
        ("number of processes", before.get("processes", 1), now["processes"]),
    )
    return [f"{what} was {old}, is {new}" for what, old, new in compared if old != new]
