"""CUDA graphs: work that is the same at every call, recorded once and then started as one, kernel launches and all.

A graph is trusted only after it has answered as the work itself does; where it cannot be recorded, or differs, the work
is done as it stands, and a message says so.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.foreign import first_line
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.models.tasks import Task

Work = Callable[..., Sequence[Tensor]]
"""Takes and returns tensors on a GPU, always of the same shapes; does nothing else."""

TOLERANCE = 2e-2
"""Largest relative error of an output, ||graph - work|| / ||work||. In a graph another algorithm may be chosen for a
product, so that a spike falls otherwise; a graph that is wrong is wrong by about 1."""

_WARM_UP = 3


def replayed(
    work: Work, inputs: Sequence[Tensor], note: Callable[[str], None], stream: torch.cuda.Stream | None = None
) -> Work:
    """Return what does `work` on inputs of these shapes by replaying a CUDA graph, or `work` itself.

    The next replay overwrites the result. Random numbers continue as they would without a graph.

    Args:
        work: what to do.
        inputs: such as it will get; it is done on them a few times.
        note: told why, where there is no graph.
        stream: where to record, if it must be a certain one: that of a forward pass whose backward pass the work is.
    """
    if not inputs[0].is_cuda:
        return work
    try:
        return checked(work, inputs, record(work, inputs, stream))
    except RuntimeError as error:
        note(f"no CUDA graph, so slower: {first_line(error)}")
        return work


def record(work: Work, inputs: Sequence[Tensor], stream: torch.cuda.Stream | None = None) -> Work:
    """Return a CUDA graph of `work`, recorded with zeros as inputs.

    Raises:
        RuntimeError: something in the work cannot be recorded.
    """
    placed = [torch.zeros_like(each) for each in inputs]
    stream = stream or torch.cuda.Stream(inputs[0].device)
    stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
    with torch.cuda.device_of(inputs[0]), torch.random.fork_rng([inputs[0].device]):
        # What is compiled, chosen and allocated at first use must not be while the graph is recorded.
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                work(*placed)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            outputs = work(*placed)
    torch.cuda.current_stream(inputs[0].device).wait_stream(stream)

    def replay(*given: Tensor) -> Sequence[Tensor]:
        for place, each in zip(placed, given, strict=True):
            place.copy_(each)
        graph.replay()
        return outputs

    return replay


def checked(work: Work, inputs: Sequence[Tensor], graph: Work) -> Work:
    """Return the graph after checking that it does the work.

    Raises:
        RuntimeError: it does something else.
    """
    answers = []
    for each in (work, graph):
        with torch.random.fork_rng([inputs[0].device] if inputs[0].is_cuda else []):
            answers.append([output.detach().double().clone() for output in each(*inputs)])
    for number, (expected, found) in enumerate(zip(*answers, strict=True)):
        error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
        if not error <= TOLERANCE:
            raise RuntimeError(f"its output {number} differs from the work's by {error:.1e}")
    return graph


class Gradients:
    """The forward and backward pass of batches, those of the first one's shape by replaying a graph."""

    def __init__(self, network: Network, task: Task, precision: Precision, note: Callable[[str], None]) -> None:
        self.network, self.task, self.precision, self.note = network, task, precision, note
        self.parameters = list(network.parameters())
        self._shapes: list[torch.Size] | None = None
        self._carries = False
        self._work: Work = self._compute
        self._names: list[str] = []
        self._after: list[str] = []

    def fits(self, batch: Batch, state: State | None) -> bool:
        """Whether a batch can be replayed: it is shaped as the first one, and all its steps are valid."""
        if batch.lengths is not None:
            return False
        if self._shapes is None:
            zeros = self.network.initial_state(batch.x)
            self._carries = self.task.carried(self.network, batch.x, zeros) is not None
            self._names = list(zeros) if self._carries else []
            inputs = self._inputs(batch, state)
            self._shapes = [each.shape for each in inputs]
            self._work = replayed(self._compute, inputs, self.note)
        return [batch.x.shape, batch.target.shape] == self._shapes[:2]

    def __call__(self, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State]:
        """Set every parameter's gradient; return the mean loss, how many answers are right, and the state after."""
        loss, right, *rest = self._work(*self._inputs(batch, state))
        count = len(self.parameters)
        for parameter, gradient in zip(self.parameters, rest[:count], strict=True):
            parameter.grad = gradient
        return loss, right, dict(zip(self._after, rest[count:], strict=True))

    def _inputs(self, batch: Batch, state: State | None) -> list[Tensor]:
        if state is None and self._carries:
            state = self.network.initial_state(batch.x)
        return [batch.x, batch.target, *(state[name] for name in self._names if state is not None)]

    def _compute(self, x: Tensor, target: Tensor, *values: Tensor) -> list[Tensor]:
        state = dict(zip(self._names, values, strict=True)) or None
        with products(self.precision):
            with forward(self.precision, x.device):
                output, after = self.network(x, state)
            output = output.to(torch.promote_types(output.dtype, torch.float32))
            loss = self.task.loss(output, target, len(x))
            gradients = torch.autograd.grad(loss, self.parameters)
        self._after = list(after)
        right = self.task.correct(output.detach(), target)
        return [loss.detach(), right, *gradients, *(value.detach() for value in after.values())]
