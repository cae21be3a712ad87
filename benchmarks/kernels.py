"""The neuron kernels alone, forward and backward over one window: fused against plain, and against a floor."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.floor import flops, recurrent, runner
from benchmarks.harness import Result, turns, wall
from benchmarks.networks import BATCH, STEPS
from hstnn_deploy.models.kernels import fused, plain
from hstnn_deploy.models.neurons import Lif

UNITS = 800


def kernels(rounds: int) -> Iterator[Result]:
    """Time lif and rnn over a window [28, 100, 800]."""
    torch.manual_seed(0)
    shape = (STEPS, BATCH, UNITS)
    current, gradient, state = torch.randn(shape).requires_grad_(), torch.randn(shape), torch.zeros(shape[1:])
    weight = (torch.randn(UNITS, UNITS) / UNITS**0.5).requires_grad_()

    def lif(form: Any) -> list[Tensor]:
        spikes, _ = form.lif(current, state, Lif())
        return [spikes.detach(), *torch.autograd.grad(spikes, current, gradient)]

    def rnn(form: Any) -> list[Tensor]:
        h = form.rnn(current, state, weight)
        return [h.detach(), *torch.autograd.grad(h, [current, weight], gradient)]

    # The fewest bytes of lif, 6 windows: forward reads the currents and writes spikes and membranes, backward reads
    # membranes and gradient and writes a gradient. A copy reads one window and writes one.
    windows = [(torch.zeros(shape), torch.rand(shape)) for _ in range(3)]

    def move() -> None:
        for target, source in windows:
            target.copy_(source)

    products = recurrent(UNITS, train=True)
    yield _measure("lif", lif, move, rounds, {"mbyte": 6 * current.nbytes / 1e6})
    yield _measure("rnn", rnn, runner(products), rounds, {"gflop": flops(products) / 1e9})


def _measure(
    name: str, kernel: Callable[[Any], list[Tensor]], floor: Callable[[], None], rounds: int, facts: dict[str, Any]
) -> Result:
    for expected, found in zip(kernel(plain), kernel(fused), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    candidates = {"baseline": wall(lambda: kernel(plain)), "ours": wall(lambda: kernel(fused)), "floor": wall(floor)}
    return Result("kernels", name, turns(candidates, rounds), facts)
