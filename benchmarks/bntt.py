"""BNTT networks against the original's way: a loop over time, through all layers at each step, a norm module for each.

    python -m benchmarks bntt [--rounds N] [--json FILE]
    python -m benchmarks.bntt [--case NAME …] [--rounds N] [--cpu --threads 1]

`Original` is written in plain PyTorch from BNTT's equations, without the copies of spikes that its authors' code makes
on the way. Both sides have the same weights, images, encoding and variation, and CIFAR's sizes. A train step is: free
the gradients, encode, forward, loss, backward; without an optimiser. Before anything is timed, losses must agree.

Every side has a process of its own; they take turns. Peak memory is that of two train steps beyond what the process
held before its first. Both sides run with THP_MEM_ALLOC_ENABLE=1, as `hstnn train` does.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Result, Times, environment, turns
from benchmarks.processes import Worker, memory
from benchmarks.report import record, table
from hstnn_deploy.data.images import encoded
from hstnn_deploy.models.rram import SIGMA
from hstnn_deploy.models.stack import Stack, StackConfig

TOLERANCE = 1e-9
LEAK, EPS, CLASSES = 0.95, 1e-4, 10


class Case(NamedTuple):
    """A network, and how large its input is."""

    maps: tuple[int | str, ...]
    """Channels of the convolutions, P for pooling."""
    units: int
    """Of the hidden linear layer."""
    steps: int
    batch: int
    bits: int | None = None
    """Of weights on RRAM that vary; None: weights are numbers."""


VGG5: tuple[int | str, ...] = (64, "P", 128, 128, "P")
VGG9: tuple[int | str, ...] = (64, 64, "P", 128, 128, "P", 256, 256, 256, "P")
NARROW: tuple[int | str, ...] = (16, 16, "P", 32, 32, "P", 64, 64, 64, "P")
CASES = {
    "VGG5": Case(VGG5, 1024, 20, 32),
    "VGG5, RRAM 4 bits": Case(VGG5, 1024, 20, 32, bits=4),
    "VGG9 of a quarter": Case(NARROW, 256, 25, 32),
    "VGG9 of a quarter, RRAM 4 bits": Case(NARROW, 256, 25, 32, bits=4),
    "VGG9": Case(VGG9, 1024, 25, 8),
}


class _Surrogate(torch.autograd.Function):
    """[z > 0], whose slope is 0.3 max(0, 1 - |z|)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        (z,) = ctx.saved_tensors
        slope: Tensor = grads[0] * 0.3 * (1 - z.abs()).clamp(min=0)
        return slope


class Original(nn.Module):
    """The original's way, from the equations."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, channels, side = case, 3, 32
        self.convolutions, self.norms, self.pooled = nn.ModuleList(), nn.ModuleList(), list[bool]()
        for each in case.maps:
            if isinstance(each, str):
                self.pooled[-1], side = True, side // 2
                continue
            self.convolutions.append(nn.Conv2d(channels, each, 3, padding=1, bias=False))
            self.norms.append(self._norms(nn.BatchNorm2d, each))
            self.pooled.append(False)
            channels = each
        self.hidden = nn.Linear(channels * side * side, case.units, bias=False)
        self.hidden_norms = self._norms(nn.BatchNorm1d, case.units)
        self.out = nn.Linear(case.units, CLASSES, bias=False)

    def _norms(self, kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d], width: int) -> nn.ModuleList:
        norms = nn.ModuleList(kind(width, eps=EPS, momentum=0.1) for _ in range(self.case.steps))
        for norm in norms:
            norm.register_parameter("bias", None)
        return norms

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images x [B, 3, 32, 32], encoded anew at each step."""
        membranes: list[Tensor | float] = [0.0] * (len(self.convolutions) + 1)
        total: Tensor | float = 0.0
        for t in range(self.case.steps):
            now = encoded(x, torch.rand(x.shape))
            for place, convolution in enumerate(self.convolutions):
                norm = cast(nn.ModuleList, self.norms[place])[t]
                now, membranes[place] = _fired(membranes[place], norm(convolution(now)))
                if self.pooled[place]:
                    now = functional.avg_pool2d(now, 2)
            current = self.hidden_norms[t](self.hidden(now.flatten(1)))
            now, membranes[-1] = _fired(membranes[-1], current)
            total = total + self.out(now)
        assert isinstance(total, Tensor)
        return total / self.case.steps


def _fired(membrane: Tensor | float, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return a step's spikes, and the membrane after its reset."""
    m = LEAK * membrane + current
    z = m / 1.0 - 1
    spikes: Tensor = _Surrogate.apply(z)  # type: ignore[no-untyped-call]
    return spikes, m - 1.0 * (z > 0).to(m.dtype)


class Side(Protocol):
    """One way of a train step."""

    def step(self) -> float:
        """Free the gradients, encode, forward, loss, backward; return the loss."""


class Theirs:
    """The original's way. Weights on RRAM take the place of the trained ones before a forward pass, and go after it."""

    def __init__(self, network: Original, x: Tensor, target: Tensor) -> None:
        self.network, self.x, self.target = network, x, target

    def step(self) -> float:
        """See `Side`."""
        network, bits = self.network, self.network.case.bits
        network.zero_grad(set_to_none=True)
        torch.manual_seed(2)
        kept = []
        for layer in network.convolutions if bits else ():
            weight = cast(nn.Parameter, layer.weight)
            kept.append((weight, weight.data.clone()))
            weight.data = _on_rram(weight.data, cast(int, bits))
        torch.manual_seed(3)
        loss = functional.cross_entropy(network(self.x), self.target)
        loss.backward()
        for weight, before in kept:
            weight.data = before
        return float(loss.detach())


def _on_rram(w: Tensor, bits: int) -> Tensor:
    """Return weights quantised and varied, from the equations."""
    n, k = 2**bits - 1, 2 ** (bits - 1)
    q = 2 * (torch.round((w + 1) / 2 * n) / n - 0.5)
    levels = torch.round(q * k) / k
    varied = torch.minimum(levels.abs() * torch.exp(torch.randn_like(levels) * SIGMA[bits]), levels.max())
    on_rram: Tensor = levels.sign() * varied
    return on_rram


class Ours:
    """This project's way: what `hstnn train` does with such a stack and images encoded by Poisson draws."""

    def __init__(self, network: Stack, x: Tensor, target: Tensor, steps: int) -> None:
        self.network, self.x, self.target, self.steps = network, x, target, steps

    def step(self) -> float:
        """See `Side`."""
        self.network.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        spikes = encoded(self.x, torch.rand(self.steps, *self.x.shape))
        torch.manual_seed(2)
        loss = functional.cross_entropy(self.network(spikes)[0], self.target)
        loss.backward()
        return float(loss.detach())


def config(case: Case) -> dict[str, Any]:
    """Return the network as the recipes bntt-vgg5 and bntt-vgg9 have it, of other widths and steps."""
    norm = {"norm": {"over": "step", "steps": case.steps, "shift": False, "eps": EPS}}
    lif = {"lif": {"decay": LEAK, "threshold": 1.0, "reset": "subtract", "detach_reset": True}}
    lif["lif"] |= {"surrogate": {"triangular": 1.0}, "surrogate_scale": 0.3}
    layers: list[Any] = []
    for each in case.maps:
        if isinstance(each, str):
            layers.append({"pool": "mean", "size": 2})
        else:
            layers += [{"conv": each, "kernel": 3, "padding": 1, "bias": False}, norm, lif]
    layers += ["flatten", {"linear": case.units, "bias": False}, norm, lif, {"linear": CLASSES, "bias": False}]
    weights = {"weights": {"bits": case.bits, "step": "vat"}} if case.bits else {}
    return {"input": [3, 32, 32], "layers": layers, "readout": "mean"} | weights


def side(case: Case, ours: bool) -> Side:
    """Return a side with the weights and images that both have."""
    torch.manual_seed(0)
    original = Original(case)
    for layer in original.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=2)
    x, target = torch.randn(case.batch, 3, 32, 32), torch.arange(case.batch) % CLASSES
    if not ours:
        return Theirs(original.train(), x, target)
    network = StackConfig.model_validate(config(case)).build([])
    weights = [value for value in original.parameters() if value.ndim > 1]
    with torch.no_grad():
        # In order, as names differ; scales are 1 on both sides.
        places = [value for name, value in network.named_parameters() if name.endswith(".weight")]
        for place, value in zip(places, weights, strict=True):
            place.copy_(value)
    return Ours(network.train(), x, target, case.steps)


def bntt(rounds: int) -> Iterator[Result]:
    """Time the train step of every network."""
    for name in CASES:
        yield measure(name, rounds)


def measure(name: str, rounds: int, what: str = "train") -> Result:
    """Return the train step of one network: times (`train`: of the clock, `cpu`: of the processor), and peak memory."""
    case = CASES[name]
    losses = losses_in_double(case)
    assert abs(losses[1] / losses[0] - 1) < TOLERANCE, f"{name}: the original's loss is {losses[1]}, ours {losses[0]}"
    with ExitStack() as stack:
        threads = torch.get_num_threads()
        ask = {
            who: stack.enter_context(Worker("benchmarks.bntt", name, who, threads=threads)).ask
            for who in ("ours", "baseline")
        }
        peaks = {who: question("peak") for who, question in ask.items()}
        full = {who: question("loss") for who, question in ask.items()}
        candidates = {who: partial(question, what) for who, question in ask.items()}
        # Of processor time others take little: no round is repeated for them.
        times = turns(candidates, rounds, warm_up=0, patience=0 if what == "cpu" else 120)
    facts = {"peak_bytes": peaks["baseline"], "ours_peak_bytes": peaks["ours"], "losses": full}
    note = (
        f"{'processor time; ' if what == 'cpu' else ''}T {case.steps}, batch {case.batch}; "
        f"peak {peaks['baseline'] / 1e6:.0f} MB, ours {peaks['ours'] / 1e6:.0f} MB; "
        f"loss {full['baseline']:.6f}, ours {full['ours']:.6f}"
    )
    return Result("bntt train", name, Times(times.seconds, times.repeated, times.disturbed), facts, note)


def losses_in_double(case: Case) -> tuple[float, float]:
    """Return our loss and the original's, of few steps and samples.

    In double precision: in single, a membrane within rounding of its threshold may fall on either side.
    """
    small = case._replace(batch=4, steps=4)
    try:
        torch.set_default_dtype(torch.float64)
        return side(small, True).step(), side(small, False).step()
    finally:
        torch.set_default_dtype(torch.float32)


def serve(name: str, who: str) -> None:
    """Answer what standard input asks, a line each: the seconds of `train` or `cpu`, `peak` in bytes, or the `loss`."""
    mine = side(CASES[name], who == "ours")
    before = memory("VmRSS")
    for line in sys.stdin:
        question = line.strip()
        start, used = time.perf_counter(), time.process_time()
        loss = mine.step()
        took, used = time.perf_counter() - start, time.process_time() - used
        if question == "peak":
            mine.step()
        answers = {"train": took, "cpu": used, "loss": loss, "peak": memory("VmHWM") - before}
        print(answers[question], flush=True)


def main() -> None:
    """Run what the command line asks for."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.bntt", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--case", action="append", choices=CASES, help="which; repeatable; default all")
    parser.add_argument("--cpu", action="store_true", help="processor time, for a machine that others use too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.serve:
        serve(*options.serve)
        return
    before = environment()
    results = [measure(name, options.rounds, "cpu" if options.cpu else "train") for name in options.case or CASES]
    Console(width=140).print(table(results, options.rounds), highlight=False)
    if options.json:
        options.json.write_text(json.dumps(record(before, options.rounds, results), indent=1) + "\n")


if __name__ == "__main__":
    main()
