"""Measure any torch module as it is: calls in evaluation mode, and training steps where its output allows them.

A training step is a forward pass in training mode, the mean of the squares of the output as its loss, a backward pass,
and a step of plain SGD with learning rate 0: every operation is done, and the network stays what it is.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from hstnn_deploy.errors import OutOfMemoryError, ProfileError, out_of_memory
from hstnn_deploy.foreign import first_line
from hstnn_deploy.profile.foreign.absent import not_counted, throughput
from hstnn_deploy.profile.foreign.states import Reset, find_reset
from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Absent, Findings, Meet
from hstnn_deploy.profile.phases.inference import WARM_UP_SHARE, repeated
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.train.schedules import SGD

PARTS = ("forward", "backward", "optimiser")
LOSS = "the mean of the squares of the output"


class Arguments(NamedTuple):
    """What a module is called with, in host memory."""

    positional: list[Any]
    named: dict[str, Any]

    def on(self, device: torch.device) -> "Arguments":
        """Return them on a device."""
        moved = [_to(each, device) for each in self.positional]
        return Arguments(moved, {name: _to(each, device) for name, each in self.named.items()})


def arguments(arrays: Mapping[str, Any]) -> Arguments:
    """Return arrays as arguments: those whose name is a number by position, others by name."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Arguments(
        [each for name, each in tensors.items() if name.isdigit()],
        {name: each for name, each in tensors.items() if not name.isdigit()},
    )


def try_once(name: str, network: nn.Module, given: Arguments) -> None:
    """Call a module once in evaluation mode.

    Raises:
        ProfileError: it raises, such as for an input of another shape.
        OutOfMemoryError: it does not fit into memory.
    """
    network.eval()
    # States of calls before may be of another batch.
    find_reset(network).run()
    shapes = ", ".join(str(list(each.shape)) for each in _tensors((given.positional, given.named)))
    with torch.no_grad():
        _called(f"{name} cannot run on {shapes}", lambda: network(*given.positional, **given.named))


def infer(
    configuration: Configuration, name: str, network: nn.Module, given: Arguments, device: torch.device, ledger: Ledger,
    meet: Meet,
) -> Findings:  # fmt: skip
    """Call a module in evaluation mode: once, then until it is steady, then repeatedly, its states reset before each.

    Args:
        configuration: how long to measure, and what is known of the batch.
        name: of the module, for errors.
        network: the module, on `device`.
        given: its arguments.
        device: where it is.
        ledger: gets spans.
        meet: see `Meet`.

    Raises:
        ProfileError: it raises.
        OutOfMemoryError: it does not fit into memory.
    """
    network.eval()
    reset = find_reset(network)

    def call() -> Any:
        here = given.on(device)
        return [_to(each, torch.device("cpu")) for each in _tensors(network(*here.positional, **here.named))]

    def timed() -> tuple[float, Any]:
        start = time.perf_counter()
        output = _called(f"{name} raises an error when called", call)
        return time.perf_counter() - start, output

    def once() -> float:
        reset.run()
        return timed()[0]

    with torch.no_grad():
        with ledger.span("first call"):
            reset.run()
            first, before = timed()
        with ledger.span("warm-up"):
            states = _states(reset, before, timed()[1])
            warm = stats.warm_up(once, WARM_UP_SHARE * configuration.seconds)
        meet()
        with ledger.span("inference"):
            spent = repeated(once, configuration.seconds)
        reset.run()
    found: list[Value] = [
        Measured("first_call", first, "s", "time.perf_counter, once"),
        *stats.distribution("latency", spent, "time.perf_counter", "calls"),
        throughput(configuration.batch, spent),
        *_size(network),
        *not_counted("a torch module as it is"),
    ]
    facts = _facts(warm, spent, device) | {
        "states": states,
        "outputs": [f"{list(each.shape)} {str(each.dtype).removeprefix('torch.')}" for each in before],
    }
    return Findings(found, facts, {"latency": spent}, "inference")


def _facts(warm: stats.WarmUp, spent: list[float], device: torch.device) -> dict[str, Any]:
    return {
        "warm_up": warm.facts(),
        "calls": len(spent),
        "runs_on": f"torch {device}",
        "threads": torch.get_num_threads(),
    }


def step(
    configuration: Configuration, name: str, network: nn.Module, given: Arguments, device: torch.device, ledger: Ledger,
    meet: Meet,
) -> Findings:  # fmt: skip
    """Train a module for some steps; see the module's docstring, and `infer` for the arguments.

    Raises:
        Absent: it has no parameter to train, gives something else than one floating-point tensor, or raises.
        OutOfMemoryError: it does not fit into memory.
    """
    network.train()
    reset = find_reset(network)
    trained = [each for each in network.parameters() if each.requires_grad]
    if not trained:
        raise Absent(f"{name} has no parameter that requires a gradient")
    optimiser = SGD(trained, lr=0.0)
    here = given.on(device)
    parts: list[dict[str, float]] = []

    def run() -> None:
        marks = [time.perf_counter()]

        def mark() -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            marks.append(time.perf_counter())

        optimiser.zero_grad(set_to_none=True)
        loss = _loss(name, network(*here.positional, **here.named))
        mark()
        loss.backward()
        mark()
        optimiser.step()
        mark()
        parts.append(dict(zip(PARTS, (after - before for before, after in pairwise(marks)), strict=True)))

    def once() -> float:
        reset.run()
        _called(f"a training step of {name} raises", run, Absent)
        return sum(parts[-1].values())

    with ledger.span("first step"):
        first = once()
    with ledger.span("warm-up"):
        warm = stats.warm_up(once, WARM_UP_SHARE * configuration.seconds)
    meet()
    parts.clear()
    with ledger.span("training steps"):
        spent = repeated(once, configuration.seconds)
    reset.run()
    optimiser.zero_grad(set_to_none=True)
    source = "time.perf_counter" + (", after synchronising the device" if device.type == "cuda" else "")
    found: list[Value] = [
        Measured("first_step", first, "s", f"{source}, once"),
        *stats.distribution("step", spent, source, "steps"),
        *(
            Measured(
                f"step_{part}", stats.percentile(sorted(each[part] for each in parts), 50), "s", f"{source}, median"
            )
            for part in PARTS
        ),
        throughput(configuration.batch, spent),
        *_size(network),
        *not_counted("a torch module as it is"),
    ]
    facts = _facts(warm, spent, device) | {
        "loss": LOSS,
        "states": f"reset before each step by {reset.how}"
        if reset.how
        else "not reset: hstnn knows no reset function for this module",
    }
    series = {"step": spent} | {f"step_{part}": [each[part] for each in parts] for part in PARTS}
    return Findings(found, facts, series, "training steps")


def _loss(name: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        leaves = _tensors(output)
        what = f"{type(output).__name__} with {len(leaves)} tensors" if leaves else type(output).__name__
        raise Absent(f"{name} gives a {what}, not one tensor, so it has no defined loss")
    if not output.is_floating_point():
        raise Absent(
            f"{name} gives {str(output.dtype).removeprefix('torch.')}, not floating point, so it has no gradient"
        )
    if not output.requires_grad:
        raise Absent(f"the output of {name} does not depend on a parameter that requires a gradient")
    return output.square().mean()


def _called(what: str, run: Callable[[], Any], error: type[ProfileError] = ProfileError) -> Any:
    """Run the user's code; what it raises becomes one error."""
    try:
        return run()
    except (ProfileError, OutOfMemoryError):
        raise
    except Exception as found:
        if full := out_of_memory(found):
            raise OutOfMemoryError(f"{what}: {full.message}", "give a smaller batch or smaller sizes") from found
        said, kind = first_line(found), type(found).__name__
        raise error(f"{what}: {kind}: {said}" if said != kind else f"{what}: {kind}") from found


def _states(reset: Reset, first: list[Tensor], second: list[Tensor]) -> str:
    """Return what is known of states between calls: the second call came after the first without a reset."""
    if reset.how:
        return f"reset before each call by {reset.how}"
    same = len(first) == len(second) and all(map(_equal, first, second))
    if same:
        return "two calls on the same input give the same output, so no state is visible"
    return (
        "two calls on the same input differ: the module keeps states that hstnn cannot reset, or it is random; nothing"
        " was reset"
    )


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=0.0, atol=0.0, equal_nan=True)


def _size(network: nn.Module) -> list[Value]:
    """Return how many parameters and buffers there are; what is shared counts once."""
    found: list[Value] = []
    for name, tensors in (("parameter", list(network.parameters())), ("buffer", list(network.buffers()))):
        known = [each for each in tensors if not is_lazy(each)]
        count, size = sum(each.numel() for each in known), sum(each.numel() * each.element_size() for each in known)
        found.append(Measured(f"{name}s", count, f"{name}s" if name == "parameter" else "values", "counted"))
        found.append(Measured(f"{name}_bytes", size, "B", "counted, as they are in memory"))
    return found


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


class Kept:
    """A module as it is before it is measured, to be put back: its weights, buffers, gradients and modes."""

    def __init__(self, network: nn.Module) -> None:
        self._modes = [(each, each.training) for each in network.modules()]
        self._parameters = [
            (each, each.detach().clone(), each.grad) for each in network.parameters() if not is_lazy(each)
        ]
        self._buffers = [
            (module, name, buffer, buffer.detach().clone())
            for module in network.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if not is_lazy(buffer)
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Let the module be what it was."""
        for module, mode in self._modes:
            module.training = mode
        for parameter, before, gradient in self._parameters:
            parameter.copy_(before)
            parameter.grad = gradient
        for module, name, buffer, before in self._buffers:
            if module._buffers.get(name) is buffer and buffer.shape == before.shape:
                with suppress(RuntimeError):  # a buffer made in inference mode
                    buffer.copy_(before)
                    continue
            module._buffers[name] = before
