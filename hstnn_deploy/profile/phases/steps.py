"""Look inside a training step without changing it: the step of `train.loop` itself runs, on objects that keep the time.

A step's parts, in order: wait (for data, apart from its transfer), transfer (to the device), forward (loss included),
backward, optimiser (clipping included). On a GPU the marks are CUDA events, which are in the device's own queue;
elsewhere a monotonic clock.
"""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models.network import State
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.train.loop import train_step

PARTS = ("wait", "transfer", "forward", "backward", "optimiser")


class Clock:
    """Marks in time that are read later: reading a CUDA event at once would make the device wait."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"

    def now(self) -> Any:
        """Return a mark."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the seconds between two marks; the device must have passed both."""
        return float(begin.elapsed_time(end) / 1e3 if self._on_gpu else end - begin)

    @property
    def source(self) -> str:
        """What it reads."""
        return "CUDA events" if self._on_gpu else "time.perf_counter"


class _Transfers(TorchFunctionMode):
    """Keeps the time of tensors' copies to a device while it is entered."""

    def __init__(self, clock: Clock, device: torch.device) -> None:
        super().__init__()
        self.clock, self.device = clock, device
        self.marks: list[tuple[Any, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch's; see `TorchFunctionMode`."""
        if func not in (Tensor.to, Tensor.cuda) or args[0].device == self.device:
            return func(*args, **(kwargs or {}))
        begin = self.clock.now()
        result = func(*args, **(kwargs or {}))
        if result.device == self.device:
            self.marks.append((begin, self.clock.now()))
        return result


class Step(NamedTuple):
    """One training step's marks."""

    marks: dict[str, Any]
    """Where the wait for data begins, and where wait, forward, backward and optimiser end."""
    transfers: list[tuple[Any, Any]]
    answers: int

    def seconds(self, clock: Clock) -> dict[str, float]:
        """Return what each part took, and all of it as `step`."""
        order = ["begin", "wait", "forward", "backward", "optimiser"]
        pairs = pairwise(order)
        parts = {name: clock.seconds(self.marks[before], self.marks[name]) for before, name in pairs}
        parts["transfer"] = sum(clock.seconds(*pair) for pair in self.transfers)
        parts["wait"] = max(0.0, parts["wait"] - parts["transfer"])
        parts["step"] = clock.seconds(self.marks["begin"], self.marks["optimiser"])
        return {name: parts[name] for name in (*PARTS, "step")}


class _TimedNetwork:
    """A network that is called as it is; who asks for its parameters is about to clip, so the gradient is there."""

    def __init__(self, network: nn.Module, step: "StepTimer") -> None:
        self._network, self._step = network, step

    def __call__(self, *inputs: Any) -> Any:
        return self._network(*inputs)

    def parameters(self) -> Iterator[nn.Parameter]:
        self._step.mark("backward")
        return self._network.parameters()


class _TimedTask:
    def __init__(self, task: Task, step: "StepTimer") -> None:
        self._task, self._step = task, step

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        loss = self._task.loss(output, target, steps)
        self._step.mark("forward")
        return loss

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return self._task.correct(output, target)


class _TimedOptimiser:
    def __init__(self, optimiser: torch.optim.Optimizer, step: "StepTimer") -> None:
        self._optimiser, self._step = optimiser, step

    def zero_grad(self, set_to_none: bool) -> None:
        self._optimiser.zero_grad(set_to_none)

    def step(self) -> None:
        self._step.mark("backward")
        self._optimiser.step()
        self._step.mark("optimiser")


class StepTimer:
    """Runs `train.loop.train_step` and keeps the time of its parts.

    Args:
        network: what is trained.
        task: what for.
        optimiser: of the network's parameters.
        clip: the largest norm of the gradient, or None.
        precision: see `models.precision`.
        device: where the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        optimiser: torch.optim.Optimizer,
        clip: float | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.clock = Clock(device)
        self._task, self._clip, self._precision, self._device = task, clip, precision, device
        self._timed: Any = (_TimedNetwork(network, self), _TimedTask(task, self), _TimedOptimiser(optimiser, self))
        self._marks: dict[str, Any] = {}

    def mark(self, name: str) -> None:
        """Mark where a part ends; of two marks of a name the first one counts."""
        self._marks.setdefault(name, self.clock.now())

    def fetch(self, source: Iterator[Batch]) -> Batch | None:
        """Take the next batch, or None at the end; a step begins."""
        self._marks = {}
        self.mark("begin")
        self._transfers = _Transfers(self.clock, self._device)
        if self._device.type == "cpu":
            batch = next(source, None)
        else:
            with self._transfers:
                batch = next(source, None)
        self.mark("wait")
        return batch

    def run(self, batch: Batch, state: State | None) -> tuple[Tensor, State, Step]:
        """Train on a batch; return its mean loss, the state after it, and the step's marks."""
        network, task, optimiser = self._timed
        loss, _, after = train_step(network, task, optimiser, self._clip, batch, state, self._precision)
        return loss, after, Step(self._marks, self._transfers.marks, self._task.answers(batch))
