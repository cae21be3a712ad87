"""The neuron kernels alone, forward and backward over one window: against plain, and against a floor."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.floor import flops, recurrent, runner
from benchmarks.harness import Result, turns, wall
from benchmarks.networks import BATCH, STEPS
from hstnn_deploy.models.kernels import Form, lstm, rnn, spiking, using
from hstnn_deploy.models.neurons import AdaptiveLif, Lif

UNITS = 800

WINDOWS = (
    ("lif", Lif(), (STEPS, BATCH, UNITS)),
    ("lif-16k", Lif(), (500, 16, 1024)),
    ("lif-batch-1", Lif(), (STEPS, 1, UNITS)),
    ("plif", Lif(learn=["decay"], input_decay=True), (STEPS, BATCH, UNITS)),
    ("adaptive-lif", AdaptiveLif(), (STEPS, BATCH, UNITS)),
)
"""Neurons and their windows."""


RECURRENT = (
    ("rnn", (STEPS, BATCH, UNITS), None),
    ("rnn-batch-1", (STEPS, 1, 128), None),
    ("lstm-batch-1", (STEPS, 1, 128), 4),
    ("lstm-16", (STEPS, 16, 128), 4),
)
"""Recurrent units, their windows, and their gates."""


def kernels(rounds: int) -> Iterator[Result]:
    """Time neurons and recurrent units over their windows."""
    torch.manual_seed(0)
    for name, neuron, shape in WINDOWS:
        yield _neurons(name, neuron, shape, rounds)
    for name, shape, gates in RECURRENT:
        yield _recurrent(name, shape, gates, rounds)


def _recurrent(name: str, shape: tuple[int, int, int], gates: int | None, rounds: int) -> Result:
    steps, batch, units = shape
    sizes = (units,) if gates is None else (gates, units)
    x, gradient, state = torch.randn(steps, batch, 1), torch.randn(shape), torch.zeros(batch, units)
    of_input = torch.randn(1, *sizes).requires_grad_()
    weight = (torch.randn(units, *sizes) / units**0.5).requires_grad_()

    def window(form: Form | None) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            with nullcontext() if form is None else using(form):
                h = rnn(x, of_input, state, weight) if gates is None else lstm(x, of_input, state, state, weight)
            return [h[0].detach(), *torch.autograd.grad(h[0], [of_input, weight], gradient)]

        return run

    # The input has one number: its product is next to nothing.
    products = recurrent(units, True, batch, gates or 1)
    runs = {"baseline": window("plain"), "fused": window("fused"), "ours": window(None)}
    return _measure(name, runs, runner(products), rounds, {"gflop": flops(products) / 1e9})


def _neurons(name: str, neuron: Any, shape: tuple[int, int, int], rounds: int) -> Result:
    current, gradient = torch.randn(shape).requires_grad_(), torch.randn(shape)
    state = {each: torch.zeros(shape[1:]) for each in neuron.states}
    own = neuron.fresh(shape[2:])
    wanted = [current, *(each for each in own.values() if isinstance(each, nn.Parameter))]

    def run(form: Form) -> Callable[[], list[Tensor]]:
        def window() -> list[Tensor]:
            with using(form):
                spikes, _ = spiking(current, state, neuron, None, own)
            return [spikes.detach(), *torch.autograd.grad(spikes, wanted, gradient)]

        return window

    # The fewest bytes of lif, 6 windows: forward reads the currents and writes spikes and membranes, backward reads
    # membranes and gradient and writes a gradient. A copy reads one window and writes one.
    windows = [(torch.zeros(shape), torch.rand(shape)) for _ in range(3)]

    def move() -> None:
        for target, source in windows:
            target.copy_(source)

    runs = {"baseline": run("plain"), "ours": run("fused")}
    return _measure(name, runs, move, rounds, {"mbyte": 6 * current.nbytes / 1e6})


def _measure(
    name: str,
    runs: dict[str, Callable[[], list[Tensor]]],
    floor: Callable[[], None],
    rounds: int,
    facts: dict[str, Any],
) -> Result:
    expected = runs["baseline"]()
    for other in runs.values():
        for one, found in zip(expected, other(), strict=True):
            torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-4 * max(1.0, float(one.abs().max())))
    candidates = {each: wall(run) for each, run in runs.items()} | {"floor": wall(floor)}
    return Result("kernels", name, turns(candidates, rounds), facts)
