"""One measured process: takes a configuration, measures it, and leaves a record.

    python -m hstnn_deploy.profile.run.worker CONFIGURATION.json RECORD.json FOLDER [MEETING]

`FOLDER` has what `prepare` wrote; `MEETING` is a folder where processes that are measured at the same time wait for
each other. Nothing but the standard library is imported before the configuration is known, and of the engines only the
one that is measured: a process's memory is part of its result.
"""

import contextlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hstnn_deploy import environment
from hstnn_deploy.errors import ExportError, HstnnError
from hstnn_deploy.processes import end_with_starter
from hstnn_deploy.profile.meter import gpu
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Absent, Findings, Meet
from hstnn_deploy.profile.record import Configuration, Record, Status
from hstnn_deploy.profile.values import Measured, NotMeasured, Value

if TYPE_CHECKING:
    from hstnn_deploy.data.splits import Splits
    from hstnn_deploy.models.network import Network
    from hstnn_deploy.recipe.recipe import Recipe

READY, GO = "ready", "go"
"""In the meeting's folder: a file for each process that is ready, and the one that lets all of them begin."""


Measurement = Callable[[Configuration, Path, Ledger, Meet], Findings]


def measure(
    configuration: Configuration,
    folder: Path,
    meet: Meet = lambda: None,
    how: Measurement | None = None,
    device: str | None = None,
) -> Record:
    """Measure a configuration in this process. What goes wrong becomes a record that says so.

    Args:
        configuration: what is asked for.
        folder: what `prepare` wrote.
        meet: see `Meet`.
        how: what measures it; None: what the phase asks for.
        device: where it is measured, as this process numbers devices; None: on the only one that it sees.
    """
    findings = Findings([], {})
    reason = _why_not(configuration)
    if reason:
        return Record(configuration, "n/a", [], _machine(configuration.device), reason)
    status: Status = "measured"
    device = device or ("cpu" if configuration.device == "cpu" else "cuda:0")
    how = how or (_foreign if configuration.foreign is not None else _MEASURES[configuration.phase])
    ledger = Ledger(device, no_cuda=configuration.no_cuda)
    loaded = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    try:
        with ledger:
            findings = how(configuration, folder, ledger, meet)
    except HstnnError as error:
        # That there is no export form to measure is no failure; that a file does not run is one.
        absent = isinstance(error, Absent) or (configuration.phase == "export" and isinstance(error, ExportError))
        reason, status = error.message, "n/a" if absent else "failed"
    except MemoryError:
        reason, status = "out of host memory", "failed"
    except Exception as error:  # a row says why, whatever it was
        said = " ".join(str(error).split())
        reason, status = f"{type(error).__name__}: {said}", "failed"
        if "can't allocate memory" in said:
            asked = re.search(r"tried to allocate (\d+) bytes", said)
            more = f"torch needed {int(asked[1]) / 1e6:.0f} MB more" if asked else said
            reason = f"out of host memory: {more}"
    if "bad_alloc" in reason:
        reason = "out of host memory: ONNX Runtime could not allocate more"
    facts = {**findings.facts, **_machine(device), "sampler": ledger.sampler, "load_average": loaded}
    values = [*findings.values, *_resources(configuration, ledger, findings.main)] if status == "measured" else []
    return Record(configuration, status, values, facts, reason, ledger.spans, findings.series, ledger.timeline)


def _why_not(configuration: Configuration) -> str:
    """Return why there is nothing to measure; empty where there is."""
    if configuration.phase == "train" and (configuration.recipe.get("data") or {}).get("name") == "none":
        return "the checkpoint has no recipe, so its loss and training are unknown: name a recipe with it"
    return ""


def _resources(configuration: Configuration, ledger: Ledger, main: str) -> list[Value]:
    """Return the memory of the whole life, and what the main span used."""
    found: list[Value] = []
    for name, kind in (("host_ram_peak", "rss"), ("host_uss_peak", "uss"), ("host_pss_peak", "pss")):
        value = ledger[f"{kind}_peak"]
        if isinstance(value, Measured):
            found.append(Measured(name, value.number, value.unit, value.source, value.note))
        else:
            found.append(NotMeasured(name, value.reason))
    if configuration.foreign is not None:
        found.append(_added(ledger))
    span = ledger.span_named(main)
    for value in span.values:
        if value.name == "rss_start" and isinstance(value, Measured):
            found.append(Measured("host_ram_before", value.number, value.unit, value.source))
        if value.name not in {"rss_start", "rss_peak", "uss_peak", "pss_peak", "seconds"}:
            found.append(value)
    if configuration.device == "cpu":
        found += [value for value in ledger.values if value.name.startswith(("cuda_", "gpu_"))]
    return found


def _added(ledger: Ledger) -> Value:
    """Return by how much resident memory grew from where a foreign network was loaded, or first called, to its peak."""
    first = next((span for span in ledger.spans if span.name in {"load", "first call", "first step"}), None)
    before, peak = first.value("rss_start") if first else None, ledger["rss_peak"]
    if isinstance(before, Measured) and isinstance(peak, Measured):
        source = f"{peak.source}, minus the value at the start of the span {first.name}" if first else ""
        return Measured("host_ram_added", max(0.0, peak.number - before.number), "B", source)
    return NotMeasured("host_ram_added", "resident memory was not read")


def _train(configuration: Configuration, _folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    with ledger.span("import"):
        from hstnn_deploy.profile.phases.training import Epoch

    recipe, network, data, facts = _at_hand(configuration, ledger)
    findings = Epoch(configuration, recipe, network, data.train, data.valid).measure(ledger, meet)
    findings.facts |= facts
    return findings


def _select(configuration: Configuration, _folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    with ledger.span("import"):
        from hstnn_deploy.profile.phases import selecting

    recipe, network, data, facts = _at_hand(configuration, ledger)
    findings = selecting.measure(configuration, recipe, network, data.train, ledger, meet)
    findings.facts |= facts
    return findings


def _at_hand(configuration: Configuration, ledger: Ledger) -> "tuple[Recipe, Network, Splits, dict[str, Any]]":
    """Load a recipe's data and build its network; return what both are, and what a record says of them."""
    import torch

    from hstnn_deploy.profile.phases import inputs, networks

    device = gpu.torch_device(configuration)
    recipe = networks.recipe_of(configuration)
    with ledger.span("load"):
        data, what = inputs.splits_of(configuration, recipe)
    with ledger.span("build"):
        network = networks.trained_network(configuration).to(device)
    return recipe, network, data, {"data": what, "threads": torch.get_num_threads()}


def _export(configuration: Configuration, _folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    with ledger.span("import"):
        from hstnn_deploy.profile.phases import exporting, networks
    with ledger.span("build"):
        network = networks.fresh_network(configuration).eval()
    return exporting.measure(network, ledger, meet)


def _infer(configuration: Configuration, folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    from hstnn_deploy.profile.phases import inference

    return inference.measure(configuration, folder, ledger, meet)


def _work(configuration: Configuration, _folder: Path, ledger: Ledger, _meet: Meet) -> Findings:
    with ledger.span("import"):
        from hstnn_deploy.profile.phases import inputs, networks, work
    with ledger.span("load"):
        recipe = networks.recipe_of(configuration)
        data, what = inputs.splits_of(configuration, recipe)
    with ledger.span("build"):
        network = networks.fresh_network(configuration).eval()
    with ledger.span("counting"):
        findings = work.measure(configuration, network, data.test)
    findings.facts |= {"data": what}
    return findings


def _foreign(configuration: Configuration, _folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    assert configuration.foreign is not None
    if configuration.foreign["kind"] == "onnx":
        from hstnn_deploy.profile.foreign import onnx_graph

        return onnx_graph.measure(configuration, ledger, meet)
    with ledger.span("import"):
        from hstnn_deploy.factories import load_factory
        from hstnn_deploy.profile.foreign import shapes, torch_module
    device = gpu.torch_device(configuration)
    with ledger.span("load"):
        start = time.perf_counter()
        network = load_factory(configuration.subject).to(device)
        load = time.perf_counter() - start
    with ledger.span("inputs"):
        arrays = shapes.values([shapes.Input(**each) for each in configuration.foreign["inputs"]])
        given = torch_module.arguments(arrays)
    run = torch_module.infer if configuration.phase == "infer" else torch_module.step
    findings = run(configuration, configuration.subject, network, given, device, ledger, meet)
    note = "importing the module and what it imports besides torch, and calling the factory"
    findings.values.insert(0, Measured("load", load, "s", "time.perf_counter, once", note))
    findings.facts |= {"data": shapes.RANGES}
    return findings


_MEASURES: dict[str, Measurement] = {
    "work": _work,
    "train": _train,
    "select": _select,
    "restore": _train,
    "export": _export,
    "infer": _infer,
}


def _machine(device: str) -> dict[str, Any]:
    """Return what was measured on. Asked after the measurement, so that asking costs it nothing."""
    facts: dict[str, Any] = {
        "cpu": environment.cpu_name(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": environment.versions(),
    }
    if device != "cpu":
        try:
            uuid = gpu.device_uuid(int(device.removeprefix("cuda:")))
            facts["driver"], found = gpu.devices()
            facts["gpu"] = next((f"{each.name} ({each.uuid})" for each in found if uuid in each.uuid), uuid)
        except HstnnError as error:
            facts["gpu"] = f"unknown: {error.message}"
    return facts


def _meet(folder: Path, number: int) -> Meet:
    """Return what waits, in a folder, until all processes that are measured at the same time are warm."""

    def meet() -> None:
        (folder / f"{READY}{number}").touch()
        while not (folder / GO).exists():
            time.sleep(0.01)

    return meet


def limit(memory: int | None) -> None:
    """Let this process fail, rather than the machine, where it would take more memory."""
    if memory is None:
        return
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def main() -> None:
    """Read the configuration, measure, write the record."""
    end_with_starter()
    configuration = Configuration.from_plain(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    meet = _meet(Path(sys.argv[4]), os.getpid()) if len(sys.argv) > 4 else lambda: None
    limit(configuration.memory_limit)
    record = measure(configuration, Path(sys.argv[3]), meet)
    Path(sys.argv[2]).write_text(json.dumps(record.plain(), allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    main()
