"""How near the neurons' Triton kernels come to what a GPU's memory allows, kind by kind, beside predictions.

    python -m benchmarks.gpu_neurons [--rounds N] [--json FILE]

A window runs forward and backward. The bytes that it must move are those of its input, of what is handed out, of both
their gradients, and of what the kernel of this neuron keeps for the way back (written and read); states add one step.
The floor is the time of a copy that moves as many bytes, measured in the same run. Predictions were written before any
of this ran on a GPU, for an H100 (3.35 TB/s): there a share of 0.8 is some 0.37 ms for each GB. `fused` is what runs
such neurons where Triton is missing. That the results are right, `python -m benchmarks.gpu` checks.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import DEVICE, Line, milliseconds, recorded, reported
from hstnn_deploy.models import kernels
from hstnn_deploy.models.kernels import Form
from hstnn_deploy.models.kernels.generated import reverse, triton_text
from hstnn_deploy.models.kernels.generated.graph import remembered
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif

PEAK = 3.35e12
"""Bytes a second of the GPU that the predictions are for: an H100 with HBM3, as NVIDIA states it."""

LARGE, SMALL, MAPS = (500, 16, 16000), (28, 100, 800), (20, 16, 64, 64, 64)


class Row(NamedTuple):
    """A kind of neuron, and what was predicted of it."""

    name: str
    neuron: Any
    share: str
    """Of the floor."""
    fused: str
    """The time of the form without Triton, in times of ours."""


ROWS = (
    Row("LIF", Lif(), "0.8 to 0.95", "10x"),
    Row("LIF, reset detached (two bits kept)", Lif(detach_reset=True), "0.75 to 0.95", "14x"),
    Row("LIF by subtraction (a bit kept)", Lif(reset="subtract"), "0.75 to 0.95", "14x"),
    Row("LIF, arctan", Lif(surrogate="arctan"), "0.8 to 0.95", "10x"),
    Row("IAF, several spikes a step", Lif(decay=1.0, reset="subtract", fires="several"), "0.75 to 0.95", "15x"),
    Row("LIF, synaptic current", Lif(current_decay=0.5, reset="subtract"), "0.75 to 0.95", "40x"),
    Row("LIF, one decay learned", Lif(learn=["decay"], input_decay=True), "0.75 to 0.9", "10x"),
    Row("LIF, a decay and a threshold each, learned",
        Lif(learn=["decay", "threshold"], each={"decay": "unit", "threshold": "unit"}, reset="subtract"),
        "0.75 to 0.9", "40x"),
    Row("adaptive LIF", AdaptiveLif(), "0.75 to 0.9", "40x"),
    Row("integrator", Integrator(), "0.8 to 0.95", "25x"),
)  # fmt: skip


def moved(neuron: Any, shape: tuple[int, ...], dtype: torch.dtype, pooled: bool = False) -> int:
    """Return the bytes that a window moves forward and backward; see above."""
    own = neuron.fresh(shape[2:])
    graph, operands = remembered(neuron, own)
    learned = [n for n, each in enumerate(operands) if each.requires_grad]
    step = reverse.backward(graph, learned, packed=True)
    numbers, bits = triton_text.buffers(graph, step, pooled)
    count = math.prod(shape)
    handed = graph.nodes[graph.emitted]
    exact = handed.op == "spike" and handed.what[0] != "several"
    size = dtype.itemsize if exact else torch.float32.itemsize
    out = count // 4 * size if pooled else count * size
    total = 2 * count * dtype.itemsize + 2 * out + 2 * count * torch.float32.itemsize * len(numbers)
    total += 2 * math.ceil(shape[0] / triton_text.WORD) * math.prod(shape[1:]) * torch.int32.itemsize * len(bits)
    for place in step.kept:
        # Read once more on the way back: what is there anyway.
        if graph.nodes[place : place + 1] and graph.nodes[place].op == "drive":
            total += count * dtype.itemsize
        elif place == graph.emitted and not pooled and place not in bits:
            total += out
    each_state = 4 * math.prod(shape[1:]) * torch.float32.itemsize
    return total + each_state * len(graph.states)


def window(neuron: Any, shape: tuple[int, ...], dtype: torch.dtype, pooled: bool = False) -> Callable[[Form], object]:
    """Return what runs a window forward and backward in a form."""
    current = torch.randn(shape, device=DEVICE, dtype=dtype).requires_grad_()
    state = {name: torch.zeros(shape[1:], device=DEVICE) for name in neuron.states}
    own = {}
    for name, value in neuron.fresh(shape[2:]).items():
        own[name] = value.detach().to(DEVICE).requires_grad_(value.requires_grad)
    learned = [each for each in own.values() if each.requires_grad]
    rows = (*shape[:3], shape[3] // 2, shape[4] // 2) if pooled else shape
    gradients = {kind: torch.randn(rows, device=DEVICE).to(kind) for kind in (dtype, torch.float32)}
    run_window = kernels.spiking_pooled if pooled else kernels.spiking

    def run(form: Form) -> object:
        with kernels.using(form):
            out, _ = run_window(current, state, neuron, None, own)
        return torch.autograd.grad(out, [current, *learned], gradients[out.dtype])

    return run


def measured(row: Row, shape: tuple[int, ...], dtype: torch.dtype, rounds: int, pooled: bool = False) -> Iterator[Line]:
    """Measure a kind of neuron in one window."""
    name = f"{row.name}, {list(shape)}{' pooled' if pooled else ''} {str(dtype).removeprefix('torch.')}"
    run, size = window(row.neuron, shape, dtype, pooled), moved(row.neuron, shape, dtype, pooled)
    ours: Form = "triton"
    begin = time.perf_counter()
    run(ours)
    torch.cuda.synchronize()
    first = time.perf_counter() - begin
    target, source = (torch.empty(size // 2, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    floor = milliseconds(partial(target.copy_, source), rounds)
    found = milliseconds(recorded(partial(run, ours)), rounds)
    predicted = f"share {row.share} ({size / PEAK * 1e3:.3f} ms at 3.35 TB/s)"
    figures = f"{found:.3f} ms, floor {floor:.3f} ms ({size / floor / 1e9:.2f} TB/s): share {floor / found:.2f}"
    yield Line(f"{name}: {size / math.prod(shape):.2f} bytes a unit and step", predicted, figures)
    yield Line(f"{name}: first use", "0.5 to 4 s, 0.1 s from Triton's cache", f"{first:.2f} s")
    if shape == SMALL:
        as_called = milliseconds(partial(run, ours), rounds)
        fused = milliseconds(partial(run, "fused"), max(rounds // 3, 1), 2)
        ratio = f"{as_called:.3f} ms, fused {fused:.3f} ms: {fused / as_called:.1f}x"
        yield Line(f"{name}: as called, and fused", f"0.1 to 0.3 ms; fused {row.fused}", ratio)


def speeds(rounds: int) -> Iterator[Line]:
    """Measure every figure."""
    for row in ROWS:
        yield from measured(row, LARGE, torch.float32, rounds)
        yield from measured(row, SMALL, torch.float32, rounds)
    for row in ROWS[:3]:
        yield from measured(row, LARGE, torch.bfloat16, rounds)
    for row in (*ROWS[:3], ROWS[8]):
        # Loads of 8 bytes, and a row is two of them.
        yield from measured(row._replace(share="0.6 to 0.85"), MAPS, torch.float32, rounds, pooled=True)


if __name__ == "__main__":
    reported("benchmarks.gpu_neurons", __doc__, speeds)
