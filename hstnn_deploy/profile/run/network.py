"""`hstnn_deploy.profile_network`: time and memory of one network, whatever it is, from Python.

found = hstnn_deploy.profile_network("model.onnx", "x=28,1,28")
found = hstnn_deploy.profile_network("nets.conv:make", "28,B,28", batch=32)
found = hstnn_deploy.profile_network(module, x)
found = hstnn_deploy.profile_network("best.pt")
print(found.latency, found.value("host_ram_peak"), found.training)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hstnn_deploy import devices, environment
from hstnn_deploy.errors import ProfileError, UsageError
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.network import Network, is_network
from hstnn_deploy.profile.foreign import shapes, torch_module
from hstnn_deploy.profile.foreign.names import is_foreign
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.plan.plan import check_numbers, plan
from hstnn_deploy.profile.record import Configuration, Phase, Record
from hstnn_deploy.profile.run import foreign_plan, launch, worker
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.shown import Sheet, Shown

SECONDS = 5.0
_STEPS = 28
"""Time steps of a window of a network of this package, if not given."""
_HERE = "memory of this whole Python process; give PACKAGE.MODULE:FACTORY to measure in a separate process"


@dataclass(frozen=True, repr=False)
class NetworkProfile(Shown):
    """What `profile_network` found. Each figure is a `Measured` with `number`, `unit` and `source`, or a `NotMeasured`
    with its `reason`.
    """

    name: str
    records: list[Record]
    """One of each phase and way it ran, as `hstnn profile` writes them (docs/records.md)."""

    @property
    def inference(self) -> Record | None:
        """The first record of inference."""
        return self._of("infer")

    @property
    def training(self) -> Record | None:
        """The record of training: of whole passes of hstnn's own networks, of single steps of others."""
        return self._of("step") or self._of("train") or self._of("restore")

    @property
    def latency(self) -> Value:
        """The median of a call, in seconds."""
        return self.value("latency_p50")

    @property
    def spread(self) -> Value:
        """From the first to the third quartile of the calls, in seconds."""
        return self.value("latency_iqr")

    @property
    def first_call(self) -> Value:
        """The first call, in seconds."""
        return self.value("first_call")

    @property
    def step(self) -> Value:
        """The median of a training step, in seconds."""
        return self.value("step_p50", self.training)

    @property
    def memory(self) -> Value:
        """The peak of main memory of the process that called it, in bytes."""
        return self.value("host_ram_peak")

    @property
    def parameters(self) -> Value:
        """How many parameters there are."""
        return self.value(
            "parameters", next((each for each in self.records if each.value("parameters").plain()["value"]), None)
        )

    def value(self, name: str, record: Record | None = None) -> Value:
        """Return a figure by its name in a record (of inference, unless another one is given)."""
        record = record or self.inference or (self.records[0] if self.records else None)
        if record is None:
            return NotMeasured(name, "nothing was measured")
        return record.value(name) if record.status == "measured" else NotMeasured(name, record.reason)

    def __repr__(self) -> str:
        """Return the main figures in one line."""
        figures = [
            _figure("a call", self.latency, cells.duration),
            _figure("a training step", self.step, cells.duration),
            _figure("peak memory", self.memory, cells.memory),
        ]
        return f"<NetworkProfile {brief(self.name)}: {', '.join(figures)}>"

    def sheet(self) -> Sheet:
        """Return the main figures: a row for each, and where one was not measured why; `records` have all of them."""
        chosen = [
            ("a call, median", self.latency, cells.duration),
            ("spread, first to third quartile", self.spread, cells.duration),
            ("the first call", self.first_call, cells.duration),
            ("a training step, median", self.step, cells.duration),
            ("peak of main memory", self.memory, cells.memory),
            ("parameters", self.parameters, lambda number: f"{number:.0f}"),
        ]
        rows = [
            (what, form(value.number), value.source) if isinstance(value, Measured) else (what, "n/a", value.reason)
            for what, value, form in chosen
        ]
        return Sheet(f"Profile of {brief(self.name)}", ("figure", "value", "how it was obtained"), rows)

    def _of(self, phase: Phase) -> Record | None:
        return next((each for each in self.records if each.configuration.phase == phase), None)


def profile_network(
    network: nn.Module | Recipe | Path | str,
    x: Any = None,
    *,
    batch: int | None = None,
    steps: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
    time_limit: float = launch.TIME_LIMIT,
) -> NetworkProfile:
    """Measure time and memory of a network.

    A torch module is measured in this process, is on its own device, and is put back afterwards as it was but for the
    states of snnTorch, SpikingJelly and sinabs, which are reset. Everything else is measured in a process of its own.

    Args:
        network: a torch module; `PACKAGE.MODULE:FACTORY`, whose code is run; an ONNX file; a checkpoint of hstnn's; a
            recipe, or its name.
        x: of a module or a factory, what it is called with: shapes as `hstnn profile --input` takes them, such as
            "28,B,28"; a tuple of whole numbers is one shape. Of a module also arrays or tensors: one, a sequence of
            them, or a mapping of names; of a network of this package x[T, B, ...], or None for random numbers. Of an
            ONNX file, shapes of inputs whose size the file leaves open, such as "x=28,1,28", or a mapping of names to
            shapes. Of a checkpoint and a recipe None: their data says it.
        batch: what B stands for in shapes; of hstnn's own networks the batch of inference. None: 1.
        steps: what T stands for in shapes; of hstnn's own networks the time steps of a sample.
        device: "cpu" or "cuda:N"; None: a module's own, else the first GPU if there is one.
        threads: CPU threads; None: as they are.
        seconds: how long to measure each phase for.
        time_limit: seconds that one process may take.

    Returns:
        What was found. A phase that a network does not have is in it, with the reason.

    Raises:
        UsageError: an invalid name, shape or number.
        ProfileError: the network cannot be run, or a file is not what it should be.
        HstnnError: see `profile.run.foreign_plan.plan` and `profile.plan.plan.plan`.
    """
    if isinstance(network, nn.Module):
        check_numbers(batches=[batch], steps=[steps], threads=[threads], seconds=[seconds])
        if device is not None:
            raise UsageError("a module is measured on its own device", f"move it first: module.to({device!r})")
        if is_network(network):
            x = _window_of(network, steps) if x is None else x
            network = _Answer(network)
        return _here(network, x, batch, steps, threads, seconds)
    batches, counts = [batch] if batch is not None else [], [steps] if steps is not None else []
    shared: dict[str, Any] = {"threads": [threads], "seconds": seconds, "gpus": _gpus(device), "steps": counts}
    if not isinstance(network, Recipe) and is_foreign(str(network)):
        planned = foreign_plan.plan(str(network), _texts(x), batches=batches, time_limit=time_limit, **shared)
        configurations = planned.configurations
    else:
        if x is not None:
            raise UsageError("x was given, but this network's inputs follow from its recipe", "leave out x")
        is_file = not isinstance(network, Recipe) and Path(network).suffix in {".pt", ".ckpt"}
        subject: dict[str, Any] = {"ckpt": Path(str(network))} if is_file else {"recipes": [_recipe(network)]}
        configurations = plan(**subject, batches=batches or [1], **shared)
    records = list(launch.run(configurations, time_limit=time_limit))
    name = network.name if isinstance(network, Recipe) else str(network)
    return _whole(name, records)


class _Answer(nn.Module):
    """A network of this package as a module: its answer to a window, without its state."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer to x[T, B, ...]."""
        output: Tensor = self.network(x)[0]
        return output


def _window_of(network: Network, steps: int | None) -> str:
    """Return the shape of a window of a network, as text."""
    longest = min(_STEPS, network.longest or _STEPS) if steps is None else steps
    return ",".join([str(longest), "B", *map(str, network.input_shape)]) + (":int64" if network.tokens else "")


def _recipe(network: Any) -> Any:
    return network if isinstance(network, Recipe) else str(network)


def _whole(name: str, records: list[Record]) -> NetworkProfile:
    if failed := [each for each in records if each.status == "failed"]:
        raise ProfileError(f"{name} could not be measured: {failed[0].reason}")
    return NetworkProfile(name, records)


def _gpus(device: str | None) -> list[int | None] | None:
    if device is None:
        return None
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number or "0").isdecimal()):
        raise UsageError(f"unknown device {brief(device)}", 'give "cpu" or "cuda:N"')
    return [None] if device == "cpu" else [int(number or 0)]


def _texts(x: Any) -> list[str]:
    """Return shapes as `--input` takes them."""
    if x is None:
        return []
    if isinstance(x, str):
        return [x]
    if isinstance(x, Mapping):
        return [f"{name}={_shape(shape)}" for name, shape in x.items()]
    if isinstance(x, Sequence) and not any(isinstance(each, int) for each in x):
        return [_shape(each) for each in x]
    return [_shape(x)]


def _shape(shape: Any) -> str:
    if isinstance(shape, str):
        return shape
    if isinstance(shape, Sequence) and all(
        isinstance(each, int | str) and not isinstance(each, bool) for each in shape
    ):
        return ",".join(map(str, shape))
    raise UsageError(f"{brief(shape)} is not a shape", 'give a shape such as (28, 1, 28), or as text: "28,B,28"')


def _here(
    network: nn.Module, x: Any, batch: int | None, steps: int | None, threads: int | None, seconds: float
) -> NetworkProfile:
    """Measure a module in this process."""
    name = type(network.network if isinstance(network, _Answer) else network).__name__
    given, resolved = _given(x, batch, steps)
    places = {each.device for each in (*network.parameters(), *network.buffers())}
    if len(places) > 1:
        raise UsageError(f"{name} is on {len(places)} devices", "move it to one device")
    device = next(iter(places), torch.device("cpu"))
    where = "cpu" if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    why = "" if where != "cpu" else f"measured on the CPU, the module's device; {devices.why_no_cuda()}"
    if where == "cpu" and torch.cuda.is_available():
        why = "measured on the CPU, the module's device"
    kept, before = torch_module.Kept(network), torch.get_num_threads()
    records: list[Record] = []
    if threads is not None:
        torch.set_num_threads(threads)
    forked = [] if where == "cpu" else [device.index or 0]
    try:
        with torch.random.fork_rng(forked):
            torch_module.try_once(name, network, given.on(device))
            for phase in foreign_plan.PHASES:
                configuration = Configuration(
                    subject=name, recipe={"name": name}, sizes=[], stage="train", phase=phase, engine="eager",
                    network=f"torch module on {', '.join(map(str, resolved.inputs)) or 'no input'}",
                    batch=resolved.batch, steps=resolved.steps, device=where, no_cuda=why, threads=threads,
                    seconds=seconds,
                    foreign={"kind": "module", "inputs": [each.plain() for each in resolved.inputs]},
                )  # fmt: skip

                def how(asked: Configuration, _folder: Path, ledger: Ledger, meet: Meet) -> Findings:
                    run = torch_module.infer if asked.phase == "infer" else torch_module.step
                    return run(asked, name, network, given, device, ledger, meet)

                record = worker.measure(configuration, Path(), how=how, device=where)
                record.values[:] = [_noted(each) for each in record.values]
                record.facts["project"] = environment.project()
                records.append(record)
    finally:
        kept.put_back()
        torch.set_num_threads(before)
    return _whole(name, records)


def _noted(value: Value) -> Value:
    """Say of memory that it is this process's."""
    if isinstance(value, Measured) and value.name.startswith("host_"):
        return Measured(value.name, value.number, value.unit, value.source, _HERE)
    return value


def _given(x: Any, batch: int | None, steps: int | None) -> tuple[torch_module.Arguments, shapes.Resolved]:
    """Return what to call a module with: what was given, or made up of the shapes that were given."""
    values = x.values() if isinstance(x, Mapping) else x if isinstance(x, list | tuple) else [x]
    if not any(isinstance(each, Tensor | np.ndarray) for each in values):
        resolved = shapes.of_module(shapes.parse(_texts(x)), batch, steps)
        return torch_module.arguments(shapes.values(resolved.inputs)), resolved
    tensors = [torch.as_tensor(each) for each in values]
    names = list(x) if isinstance(x, Mapping) else [""] * len(tensors)
    inputs = [
        shapes.Input(name, list(each.shape), str(each.dtype).removeprefix("torch."))
        for name, each in zip(names, tensors, strict=True)
    ]
    if isinstance(x, Mapping):
        return torch_module.Arguments([], dict(zip(names, tensors, strict=True))), shapes.Resolved(
            inputs, batch or 0, steps or 0
        )
    return torch_module.Arguments(tensors, {}), shapes.Resolved(inputs, batch or 0, steps or 0)


def _figure(what: str, value: Value, form: cells.Form) -> str:
    return f"{what} {form(value.number) if isinstance(value, Measured) else 'n/a'}"
