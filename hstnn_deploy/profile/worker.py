"""One measured process: takes a configuration, measures it, and leaves a record.

    python -m hstnn_deploy.profile.worker CONFIGURATION.json RECORD.json FOLDER

`FOLDER` holds what `prepare` wrote. Nothing but the standard library is imported before the configuration is known,
and of the engines only the one that is measured: a process's memory is part of its result.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from hstnn_deploy import environment
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.lifeline import end_with_starter
from hstnn_deploy.profile import gpu
from hstnn_deploy.profile.probes import CpuCores, HostMemory, OtherWork, Probe
from hstnn_deploy.profile.records import Configuration, Record
from hstnn_deploy.profile.values import Value


def measure(configuration: Configuration, folder: Path) -> Record:
    """Measure a configuration in this process. What goes wrong becomes a record that says so."""
    # Made first: its baseline is the device before this process uses it.
    driver = gpu.DriverMemory(0) if configuration.device != "cpu" else None
    probes: list[Probe] = [HostMemory(), *([driver] if driver else []), OtherWork(), CpuCores()]
    values: list[Value] = []
    facts: dict[str, Any] = {}
    reason = ""
    try:
        if configuration.phase == "train":
            values, facts = _train(configuration, probes)
        else:
            values, facts = _infer(configuration, probes, folder)
        if driver is None:
            values += gpu.absent(configuration.no_cuda)
    except HstnnError as error:
        reason = error.message
    except MemoryError:
        reason = "out of host memory"
    except Exception as error:  # a row says why, whatever it was
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    facts |= _machine(configuration)
    return Record(configuration, "failed" if reason else "measured", values, facts, reason)


def _train(configuration: Configuration, probes: list[Probe]) -> tuple[list[Value], dict[str, Any]]:
    import torch

    from hstnn_deploy.profile import inputs, networks
    from hstnn_deploy.profile.training import Epoch

    device = gpu.torch_device(configuration)
    recipe = networks.recipe_of(configuration)
    data, what = inputs.splits(recipe, Path(configuration.data_dir) if configuration.data_dir else None)
    network = networks.fresh_network(configuration).to(device)
    if device.type == "cuda":
        probes = [gpu.TorchMemory(device), *probes]
    values, facts = Epoch(configuration, recipe, network, data.train, data.valid).measure(probes)
    return values, {**facts, "data": what, "runs_on": f"torch {device}", "threads": torch.get_num_threads()}


def _infer(configuration: Configuration, probes: list[Probe], folder: Path) -> tuple[list[Value], dict[str, Any]]:
    from hstnn_deploy.profile import inference

    on_gpu = configuration.device != "cpu"
    if on_gpu and configuration.engine != "onnxruntime":
        probes = [gpu.TorchMemory(gpu.torch_device(configuration)), *probes]
    values, facts = inference.measure(configuration, folder, probes)
    if on_gpu and configuration.engine == "onnxruntime":
        absent = gpu.absent("ONNX Runtime does not use torch's allocator")
        values += [value for value in absent if value.name != "cuda_process"]
    return values, facts


def _machine(configuration: Configuration) -> dict[str, Any]:
    """Return what was measured on. Asked after the measurement, so that asking costs it nothing."""
    facts: dict[str, Any] = {
        "cpu": environment.cpu_name(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": environment.versions(),
    }
    if configuration.device != "cpu":
        try:
            uuid = gpu.device_uuid(0)
            facts["driver"], found = gpu.devices()
            facts["gpu"] = next((f"{each.name} ({each.uuid})" for each in found if uuid in each.uuid), uuid)
        except HstnnError as error:
            facts["gpu"] = f"unknown: {error.message}"
    return facts


def main() -> None:
    """Read the configuration, measure, write the record."""
    end_with_starter()
    configuration = Configuration.from_plain(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    record = measure(configuration, Path(sys.argv[3]))
    Path(sys.argv[2]).write_text(json.dumps(record.plain(), allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    main()
