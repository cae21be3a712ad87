"""Whether what is to run at the same time fits into memory: a lower bound, known before anything is started."""

import contextlib
from dataclasses import replace
from pathlib import Path

from hstnn_deploy.errors import HstnnError, OutOfMemoryError
from hstnn_deploy.profile.meter import gpu
from hstnn_deploy.profile.phases import inputs
from hstnn_deploy.profile.phases.networks import recipe_of, trained_network
from hstnn_deploy.profile.record import Configuration

_CGROUP = Path("/sys/fs/cgroup")
_TORCH, _RUNTIME, _CONTEXT = 200_000_000, 50_000_000, 200_000_000
"""Bytes that no process goes below: with torch loaded, with ONNX Runtime alone, and of a GPU with a CUDA context."""
SHARE = 0.9
"""Of the main memory that is free, what a process that runs a foreign file may take."""
_COPIES = {"sgd": 3, "adam": 4}
"""Copies of the parameters in training: the parameters, their gradients, and the optimiser's state."""


def check(configuration: Configuration, instances: int) -> None:
    """Refuse concurrent processes of a configuration that need more memory than there is, by a lower bound.

    Args:
        configuration: one of them; where several devices work at once, each runs `instances` of them.
        instances: how many.

    Raises:
        OutOfMemoryError: with how many would fit.
    """
    devices = len(configuration.at_once) or 1
    if instances * devices == 1:
        return
    there = free() // devices
    _refuse(configuration, instances, needed(configuration), there, "free main memory is")
    if configuration.device != "cpu":
        one = _CONTEXT + _of_network(configuration)
        _refuse(configuration, instances, one, _device(configuration), "the GPU has")


def free() -> int:
    """Return the bytes of main memory that may be taken: what is left of the machine, or of the container if less."""
    import psutil

    left: int = psutil.virtual_memory().available
    # Without a limit, memory.max says "max", which is no number.
    with contextlib.suppress(OSError, ValueError):
        limit, taken = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        left = min(left, max(0, limit - taken))
    return left


def bounded(configuration: Configuration) -> Configuration:
    """Return a configuration with the memory that its process may take: of a foreign file on the CPU, what is free.

    There is no such limit on a GPU, whose driver reserves far more addresses than memory, nor for a torch module, which
    is the user's own code.
    """
    foreign = configuration.foreign
    if foreign is None or foreign["kind"] != "onnx" or configuration.device != "cpu":
        return configuration
    return replace(configuration, memory_limit=int(SHARE * free()))


def needed(configuration: Configuration) -> int:
    """Return bytes of main memory that a configuration's process needs at the very least: program, network and data."""
    if configuration.phase == "infer" and configuration.engine == "onnxruntime":
        return _RUNTIME + _of_network(configuration)
    base = _TORCH + (_of_network(configuration) if configuration.device == "cpu" else 0)
    return base if configuration.phase == "infer" else base + inputs.held(configuration, recipe_of(configuration))


def _of_network(configuration: Configuration) -> int:
    import torch

    # Sizes alone: nothing is allocated.
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in trained_network(configuration).parameters())
    copies = (
        _COPIES[recipe_of(configuration).stage(configuration.stage).optimiser]
        if configuration.phase in {"train", "restore"}
        else 1
    )
    return 4 * copies * parameters


def _device(configuration: Configuration) -> int | None:
    try:
        _, found = gpu.devices()
        uuid = gpu.device_uuid(int(configuration.device.removeprefix("cuda:")))
    except HstnnError:
        return None
    return next((each.memory for each in found if uuid in each.uuid), None)


def _refuse(first: Configuration, count: int, one: int, there: int | None, where: str) -> None:
    if there is None or count * one <= there:
        return
    fit = there // one
    raise OutOfMemoryError(
        f"{count} instances of {first.subject} need at least {count * one / 1e9:.1f} GB; {where} {there / 1e9:.1f} GB",
        f"at most {fit} fit: --instances {fit}" if fit else "measure a smaller network, or use a larger machine",
    )
