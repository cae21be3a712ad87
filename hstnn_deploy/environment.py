"""Where something ran: versions, machine, threads, git state. Written with every result."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hstnn_deploy
from hstnn_deploy.foreign import one_line

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scikit-learn", "nvidia-ml-py")


def versions() -> dict[str, str]:
    """Return the versions of hstnn-deploy and of its installed dependencies."""
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
    """Return the processor's name from the operating system."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _own_state() -> dict[str, Any] | None:
    """Return the state of this package's checkout at the first call in this process, which runs that code."""
    return git_state(Path(__file__))


def git_state(file: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that tracks `file` and whether it has changes, or None outside of one."""
    folder = file.parent
    try:
        # Installed into an environment inside somebody's repository, the package is not of that repository.
        _git(folder, "ls-files", "--error-unmatch", file.name)
        return _state(folder)
    except (OSError, subprocess.SubprocessError):
        return None


def project(module: str = "") -> dict[str, Any]:
    """Return the commit of the user's own project: that of the module that is run, or of the working directory.

    This package's own checkout is not the user's project: a program that runs in it has no commit.

    Args:
        module: a module of the user's, such as "nets.conv"; it is not imported.

    Returns:
        `of` (what the commit is of), `commit`, and `changed` (whether tracked files differ from it); or `commit` None
        and the `reason`.
    """
    if module and (found := _module_state(module.partition(".")[0])) is not None:
        return found
    folder, of = Path.cwd(), "the working directory"
    try:
        root = _git(folder, "rev-parse", "--show-toplevel")
        if Path(root).resolve() == Path(hstnn_deploy.__file__).resolve().parent.parent:
            return {"commit": None, "reason": "the working directory is in the repository of hstnn-deploy itself"}
        return {"of": of, **_state(folder)}
    except FileNotFoundError:
        return {"commit": None, "reason": "git is not installed"}
    except subprocess.CalledProcessError as error:
        said = one_line(" ".join(error.stderr.split()))
        known = {"not a git repository": f"{of} is in no git repository", "HEAD": "the repository has no commit"}
        why = next((told for words, told in known.items() if words in said), f"git says: {said}")
        return {"commit": None, "reason": why}
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "reason": f"git did not answer: {one_line(str(error))}"}


def _module_state(name: str) -> dict[str, Any] | None:
    """Return the commit of the repository that tracks a module outside the working directory; None if there is none."""
    if any((Path.cwd() / each).exists() for each in (name, f"{name}.py")):
        return None
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    state = git_state(Path(spec.origin)) if spec is not None and spec.origin else None
    return None if state is None else {"of": f"the module {name}", **state}


def _state(folder: Path) -> dict[str, Any]:
    changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    return {"commit": _git(folder, "rev-parse", "HEAD"), "changed": changed}


def _git(folder: Path, *words: str) -> str:
    # A repository may be somebody else's: its own settings name no program to run, and nothing is written into it.
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", str(folder), *words]
    # In a hook, git names its own repository in the environment.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"LC_ALL": "C"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, timeout=10, env=variables
    )
    return done.stdout.strip()


def describe(device: str) -> dict[str, Any]:
    """Return versions, machine and git state, and torch's settings for work on `device`."""
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


def command() -> list[str]:
    """Return the command that started this process: `hstnn` or the name of a script, with the arguments."""
    name = Path(sys.argv[0]).name
    package = Path(sys.argv[0]).parent.name == "hstnn_deploy" or Path(sys.argv[0]).parent.parent.name == "hstnn_deploy"
    return ["hstnn" if name == "hstnn" or package else name or "python", *sys.argv[1:]]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two environments on which the bits of a result depend, in words.

    Both come from `describe`, with the number of `processes` of the training.
    """
    compared = (
        ("thread count", before.get("threads"), now["threads"]),
        ("torch", before.get("versions", {}).get("torch"), now["versions"].get("torch")),
        ("device", before.get("device"), now["device"]),
        ("number of processes", before.get("processes", 1), now["processes"]),
    )
    return [f"{what} was {old}, is {new}" for what, old, new in compared if old != new]
