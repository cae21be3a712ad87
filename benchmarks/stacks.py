"""Whole networks against the libraries they come from: SpikingJelly's and snnTorch's for gestures, sinabs' for speech.

    python -m benchmarks stacks [--rounds N] [--json FILE]
    python -m benchmarks.stacks [--case NAME …] [--rounds N]

Both sides run with THP_MEM_ALLOC_ENABLE=1, as `hstnn train` does: torch then asks Linux for large pages for large
tensors. `--small-pages` leaves that out, on both sides.

Both have the same weights and input, forward, loss and backward without an optimiser. Before anything is timed, losses
must agree. Every side has a process of its own; they take turns. Peak memory is that of two train steps beyond what the
process held before its first.

Not a dependency of this project: `pip install --no-deps snntorch spikingjelly sinabs nirtorch samna loguru pbr`.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Result, Times, environment, turns
from benchmarks.processes import Worker, memory
from benchmarks.report import record, table
from hstnn_deploy.models.stack import StackConfig

PAGES = "THP_MEM_ALLOC_ENABLE"

TOLERANCE = 1e-3
SJ = {
    "tau": 2.0,
    "threshold": 1.0,
    "input_decay": True,
    "fires": "at",
    "detach_reset": True,
    "surrogate": {"arctan": 2.0},
}
LEAKY = {
    "decay": 0.5,
    "threshold": 1.0,
    "reset": "subtract",
    "delayed_reset": True,
    "surrogate": {"fast-sigmoid": 25.0},
}
IAF = {"decay": 1.0, "threshold": 1.0, "fires": "several", "reset": "subtract", "surrogate": {"exponential": 0.5}}

Run = Callable[[Tensor], Tensor]
"""From x [T, B, …] to an answer [B, classes]."""


class Case(NamedTuple):
    """A network, and how large its input is."""

    steps: int
    batch: int
    shape: tuple[int, ...]
    classes: int
    package: str
    config: dict[str, Any]
    theirs: Callable[[], tuple[nn.Module, Run]]


def _dvs(neuron: dict[str, Any], channels: int) -> dict[str, Any]:
    block = [{"conv": channels, "padding": 1, "bias": False}, {"norm": {}}, {"lif": neuron}, {"pool": "max", "size": 2}]
    return {
        "input": [2, 128, 128],
        "layers": [
            {"repeat": 5, "layers": block},
            "flatten",
            {"linear": 4 * channels, "bias": False},
            {"lif": neuron},
            {"linear": 110, "bias": False},
            {"lif": neuron},
            {"vote": 10},
        ],
        "readout": "mean",
    }


def _spikingjelly(learned: bool, channels: int) -> tuple[nn.Module, Run]:
    from spikingjelly.activation_based import functional as of_net
    from spikingjelly.activation_based import layer, neuron, surrogate

    def units() -> nn.Module:
        how: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
        node: nn.Module = neuron.ParametricLIFNode(init_tau=2.0, **how) if learned else neuron.LIFNode(tau=2.0, **how)
        return node

    parts: list[nn.Module] = []
    for number in range(5):
        conv = layer.Conv2d(channels if number else 2, channels, 3, padding=1, bias=False)
        parts += [conv, layer.BatchNorm2d(channels), units(), layer.MaxPool2d(2)]
    parts += [layer.Flatten(), layer.Linear(16 * channels, 4 * channels, bias=False), units()]
    parts += [layer.Linear(4 * channels, 110, bias=False), units(), layer.VotingLayer(10)]
    network = nn.Sequential(*parts)
    of_net.set_step_mode(network, "m")

    def run(x: Tensor) -> Tensor:
        of_net.reset_net(network)
        rate: Tensor = network(x).mean(0)
        return rate

    return network, run


def _snntorch() -> tuple[nn.Module, Run]:
    import snntorch
    from snntorch import surrogate

    def units() -> Any:
        return snntorch.Leaky(beta=0.5, spike_grad=surrogate.fast_sigmoid(slope=25))

    parts = [nn.Conv2d(2, 12, 5), nn.MaxPool2d(2), units(), nn.Conv2d(12, 32, 5), nn.MaxPool2d(2), units()]
    parts += [nn.Flatten(), nn.Linear(800, 11), units()]
    network = nn.Sequential(*parts)

    def run(x: Tensor) -> Tensor:
        membranes = {place: part.init_leaky() for place, part in enumerate(parts) if isinstance(part, snntorch.Leaky)}
        total = x.new_zeros(())
        for now in x.unbind(0):
            for place, part in enumerate(parts):
                if place in membranes:
                    now, membranes[place] = part(now, membranes[place])
                else:
                    now = part(now)
            total = total + now
        return total

    return network, run


def _sinabs() -> tuple[nn.Module, Run]:
    import sinabs.layers

    parts: list[nn.Module] = []
    for inputs in (100, 128, 128):
        parts += [nn.Linear(inputs, 128), sinabs.layers.IAF()]
    network = nn.Sequential(*parts, nn.Linear(128, 35))
    layers = [part for part in network if isinstance(part, sinabs.layers.IAF)]

    def run(x: Tensor) -> Tensor:
        for part in layers:
            part.reset_states()
        total: Tensor = network(x.transpose(0, 1)).sum(1)
        return total

    return network, run


_HIDDEN = [{"linear": 128}, {"lif": IAF}]
CASES = {
    "SpikingJelly LIF, C 32": Case(
        16, 4, (2, 128, 128), 11, "spikingjelly", _dvs(SJ, 32), partial(_spikingjelly, False, 32)
    ),
    "SpikingJelly PLIF, C 32": Case(
        *(16, 4, (2, 128, 128), 11, "spikingjelly"), _dvs(SJ | {"learn": "decay"}, 32), partial(_spikingjelly, True, 32)
    ),
    "snnTorch Leaky, 32x32": Case(
        *(25, 64, (2, 32, 32), 11, "snntorch"),
        {
            "input": [2, 32, 32],
            "layers": [
                *({"conv": 12, "kernel": 5}, {"pool": "max", "size": 2}, {"lif": LEAKY}),
                *({"conv": 32, "kernel": 5}, {"pool": "max", "size": 2}, {"lif": LEAKY}),
                *("flatten", {"linear": 11}, {"lif": LEAKY}),
            ],
            "readout": "sum",
        },
        _snntorch,
    ),
    "sinabs IAF, T 250": Case(
        *(250, 128, (100,), 35, "sinabs"),
        {"input": [100], "layers": [*_HIDDEN, *_HIDDEN, *_HIDDEN, {"linear": 35}], "readout": "sum"},
        _sinabs,
    ),
}


class Side(NamedTuple):
    """One library at work."""

    network: nn.Module
    run: Run
    x: Tensor
    target: Tensor

    def step(self) -> float:
        """Free the gradients, forward, loss, backward; return the loss."""
        self.network.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.run(self.x), self.target)
        loss.backward()
        return float(loss.detach())

    def look(self) -> None:
        """Forward in evaluation mode, without gradients."""
        self.network.eval()
        with torch.no_grad():
            self.run(self.x)
        self.network.train()


def side(case: Case, ours: bool) -> Side:
    """Return a side with the weights and input that both have."""
    torch.manual_seed(0)
    if ours:
        network: Any = StackConfig.model_validate(case.config).build([]).train()
        run: Run = lambda x: network(x)[0]  # noqa: E731
    else:
        network, run = case.theirs()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # In order, and the same for both: names differ.
        for value in (each for each in network.parameters() if each.ndim > 1 and each.requires_grad):
            bound = 3 / value[0].numel() ** 0.5
            value.uniform_(-bound, bound, generator=generator)
        for value in (each for each in network.parameters() if each.ndim == 1 and each.requires_grad):
            if float(value.std()) > 0:
                value.uniform_(-0.1, 0.1, generator=generator)
    events = torch.poisson(torch.full((case.steps, case.batch, *case.shape), 0.1), generator=generator)
    return Side(network, run, events, torch.arange(case.batch) % case.classes)


def stacks(rounds: int) -> Iterator[Result]:
    """Time train step and forward pass of every network whose library is installed."""
    for name in CASES:
        yield from measure(name, rounds)


def measure(name: str, rounds: int) -> Iterator[Result]:
    """Yield the train step and the forward pass of one network."""
    case = CASES[name]
    try:
        version = importlib.metadata.version(case.package)
    except importlib.metadata.PackageNotFoundError:
        print(f"stacks: {case.package} is not installed, so {name} is not measured", flush=True)
        return
    # Shown on few steps and samples: a membrane within rounding of its threshold may fall on either side.
    small = case._replace(batch=2, steps=5)
    losses = side(small, True).step(), side(small, False).step()
    assert abs(losses[1] / losses[0] - 1) < TOLERANCE, f"{name}: its loss is {losses[1]}, ours {losses[0]}"
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        ask = {
            who: stack.enter_context(Worker("benchmarks.stacks", name, who, threads=threads)).ask
            for who in ("ours", "baseline")
        }
        peaks = {who: question("peak") for who, question in ask.items()}
        for part in ("train", "forward"):
            times = turns({who: partial(question, part) for who, question in ask.items()}, rounds, warm_up=1)
            facts: dict[str, Any] = {"version": version}
            note = [f"{case.package} {version}, T {case.steps}, batch {case.batch}"]
            if part == "train":
                facts |= {"peak_bytes": peaks["baseline"], "ours_peak_bytes": peaks["ours"]}
                note.append(f"peak {peaks['baseline'] / 1e6:.0f} MB, ours {peaks['ours'] / 1e6:.0f} MB")
            yield Result(
                f"stacks {part}", name, Times(times.seconds, times.repeated, times.disturbed), facts, "; ".join(note)
            )


def serve(name: str, who: str) -> None:
    """Answer what standard input asks, a line each: the seconds of `train` or `forward`, or the `peak` in bytes."""
    mine = side(CASES[name], who == "ours")
    before = memory("VmRSS")
    for line in sys.stdin:
        question = line.strip()
        start = time.perf_counter()
        if question == "forward":
            mine.look()
        else:
            mine.step()
        if question == "peak":
            mine.step()
            print(memory("VmHWM") - before, flush=True)
        else:
            print(time.perf_counter() - start, flush=True)


def main() -> None:
    """Run what the command line asks for."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--case", action="append", choices=CASES, help="which; repeatable; default all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--small-pages", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.small_pages:
        del os.environ[PAGES]
    if options.serve:
        serve(*options.serve)
        return
    before = environment()
    results = [each for name in options.case or CASES for each in measure(name, options.rounds)]
    Console(width=130).print(table(results, options.rounds), highlight=False)
    if options.json:
        options.json.write_text(json.dumps(record(before, options.rounds, results), indent=1) + "\n")


if __name__ == "__main__":
    main()
