"""The spiking stack against the well-known libraries: snnTorch, SpikingJelly, sinabs and Norse.

    python -m benchmarks peers [--rounds N] [--threads N] [--json FILE]      train step and forward pass, CPU
    python -m benchmarks.peers [--device cuda] [--case NAME …] …             all cases; scaling, the large layer, a GPU

Every library runs its LIF neuron as `benchmarks.peer_neurons` makes it. Linear layers run over the whole sequence at
once on every side, which is the kindest to libraries that step through time. Before anything is timed, each peer must
compute our loss; those whose neuron and surrogate are ours must compute our gradients too.

Every library has a process of its own, as it has where it is used; they take turns. In one process, what one library
has grown the heap to saves the next from asking the system for memory at every step.

Not a dependency of this project: `pip install --no-deps snntorch spikingjelly sinabs norse nirtorch samna loguru pbr`.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.floor import dense, runner
from benchmarks.harness import Measure, Result, Times, environment, turns
from benchmarks.peer_neurons import OURS, PEERS, Peer, version
from benchmarks.processes import Worker, memory
from benchmarks.report import record, table

CLASSES = 10
TOLERANCE = 1e-3
"""Largest relative error of loss and gradients; see `benchmarks.networks`."""
FLOOR = "floor"


class Case(NamedTuple):
    """A stack of dense spiking layers, or one layer alone where there is no input width."""

    steps: int
    batch: int
    widths: tuple[int, ...]
    inputs: int | None = 28
    alone: bool = False
    """Whether the memory holds one library at a time only: then each measurement has a process of its own."""


CASES = {
    "28-800-800": Case(28, 100, (800, 800)),
    "T 100": Case(100, 100, (800, 800)),
    "T 250": Case(250, 100, (800, 800)),
    "batch 1": Case(28, 1, (800, 800)),
    "batch 16": Case(28, 16, (800, 800)),
    "width 400": Case(28, 100, (400, 400)),
    "width 1600": Case(28, 100, (1600, 1600)),
    "16k neurons, T 500, batch 16": Case(500, 16, (16_384,), None, alone=True),
}


def case_of(name: str) -> Case:
    """Return a case by its name, or the stack 28-n-n that `T,B,n` gives the sizes of; see `benchmarks.growth`."""
    if name in CASES:
        return CASES[name]
    steps, batch, width = map(int, name.split(","))
    return Case(steps, batch, (width, width))


class Stack(nn.Module):
    """The stack of a case over one library's neurons: mean of the last spikes over time, linear readout."""

    def __init__(self, case: Case, peer: Peer) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = [] if case.inputs is None else [case.inputs, *case.widths]
        self.weights = nn.ParameterList(
            nn.init.kaiming_uniform_(torch.empty(before, after)) for before, after in pairwise(widths)
        )
        self.readout = nn.Linear(case.widths[-1], CLASSES)
        self.neurons = [peer.make() for _ in case.widths]
        self.time = 1 if peer.batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of x [T, B, I], or [B, T, I] where the library wants that."""
        for number, neuron in enumerate(self.neurons):
            x = neuron(x @ self.weights[number] if len(self.weights) else x)
        logits: Tensor = self.readout(x.mean(self.time))
        return logits


class Side(NamedTuple):
    """One library at work on a case."""

    network: Stack
    x: Tensor
    target: Tensor

    def step(self) -> Tensor:
        """Free the gradients, forward, loss, backward; no optimiser. Return the loss."""
        self.network.zero_grad(set_to_none=True)
        self.x.grad = None
        loss = functional.cross_entropy(self.network(self.x), self.target)
        loss.backward()
        return loss.detach()

    def look(self) -> Tensor:
        """Forward without gradients."""
        with torch.no_grad():
            logits: Tensor = self.network(self.x)
        return logits


def side(case: Case, peer: Peer, device: torch.device) -> Side:
    """Return a library's stack with the case's weights and batch, the same for all."""
    network = Stack(case, peer).to(device)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(case.steps, case.batch, case.inputs or case.widths[0], generator=generator)
    x = (x.transpose(0, 1).contiguous() if peer.batch_first else x).to(device)
    # A layer alone has no weights: its gradient is that of its input.
    x.requires_grad_(case.inputs is None)
    return Side(network, x, (torch.arange(case.batch) % CLASSES).to(device))


def prove(ours: Side, theirs: Side, name: str, peer: Peer) -> float:
    """Return the relative error of a peer's gradients, or nan where they need not be ours.

    Raises:
        AssertionError: the peer does not compute what it should.
    """
    losses = float(ours.step()), float(theirs.step())
    assert abs(losses[1] / losses[0] - 1) < TOLERANCE, f"{name}: its loss is {losses[1]}, ours {losses[0]}"
    if not peer.gradients:
        return math.nan
    pairs = list(zip(ours.network.parameters(), theirs.network.parameters(), strict=True))
    pairs += [] if ours.x.grad is None else [(ours.x, theirs.x)]  # type: ignore[list-item]
    found = []
    for mine, other in pairs:
        assert mine.grad is not None
        assert other.grad is not None
        found.append(float((mine.grad - other.grad).norm() / mine.grad.norm()))
    assert max(found) < TOLERANCE, f"{name}: its gradients differ by {max(found):.1e}"
    return max(found)


def peers(rounds: int) -> Iterator[Result]:
    """Time train step and forward pass of the main case on the CPU."""
    yield from measure("28-800-800", rounds, torch.device("cpu"))


def measure(name: str, rounds: int, device: torch.device, among: Collection[str] = PEERS) -> Iterator[Result]:
    """Yield a result per peer `among` those at hand for a case: the train step, then the forward pass."""
    case = CASES[name]
    there = {each: PEERS[each] for each in among if version(PEERS[each])}
    if absent := sorted(set(among) - set(there)):
        print(f"peers: not installed, so not measured: {', '.join(absent)}", flush=True)
    if not there:
        return
    # Shown on fewer steps and samples: among more membranes one within an ulp of its threshold is sure to be found, and
    # its spike, which other roundings turn round, moves the gradients by more than they differ.
    short = case._replace(steps=min(case.steps, 28), batch=min(case.batch, 16))
    errors = {
        each: prove(side(short, OURS, device), side(short, peer, device), each, peer) for each, peer in there.items()
    }
    threads = torch.get_num_threads()
    with ExitStack() as stack:

        def started(who: str) -> Worker:
            return Worker("benchmarks.peers", name, who, str(device), threads=threads)

        ask: dict[str, Callable[[str], float]]
        if case.alone:
            ask = {each: partial(_alone, partial(started, each)) for each in ("ours", *there, FLOOR)}
        else:
            ask = {each: stack.enter_context(started(each)).ask for each in ("ours", *there, FLOOR)}
        peaks = {each: question("peak") for each, question in ask.items() if each != FLOOR}
        for part in ("train", "forward"):
            times = turns(
                {each: partial(question, part) for each, question in ask.items()},
                rounds,
                warm_up=0 if case.alone else 2,
            )
            for each, peer in there.items():
                facts: dict[str, Any] = {"gradient_error": errors[each], "version": version(peer)}
                note = [f"{each} {facts['version']}", *filter(None, [peer.differs])]
                if part == "train":
                    facts |= {"peak_bytes": peaks[each], "ours_peak_bytes": peaks["ours"]}
                    note.append(f"peak {peaks[each] / 1e6:.0f} MB, ours {peaks['ours'] / 1e6:.0f} MB")
                chosen = {"ours": times.seconds["ours"], "baseline": times.seconds[each], "floor": times.seconds[FLOOR]}
                yield Result(
                    f"peers {part}", name, Times(chosen, times.repeated, times.disturbed), facts, "; ".join(note)
                )


def _alone(start: Callable[[], Worker], question: str) -> float:
    """Ask a process of its own: the second time, or the peak, which is of two steps."""
    with start() as worker:
        if question != "peak":
            worker.ask(question)
        return worker.ask(question)


def serve(name: str, who: str, device: torch.device) -> None:
    """Answer what standard input asks, a line each: the seconds of `train` or `forward`, or the `peak` in bytes."""
    case, before = case_of(name), 0.0
    if who == FLOOR:
        work = {part: _clocked(floor(case, part == "train", device), device) for part in ("train", "forward")}
    else:
        peer = OURS if who == "ours" else PEERS[who]
        # What a library or torch imports at its first step is no step's memory.
        side(case._replace(steps=2, batch=1), peer, device).step()
        mine = side(case, peer, device)
        work = {"train": _clocked(mine.step, device), "forward": _clocked(mine.look, device)}
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else memory("VmRSS")
    for line in sys.stdin:
        question = line.strip()
        print(work[question]() if question in work else _peak(work["train"], before, device), flush=True)


def _peak(step: Measure, before: float, device: torch.device) -> float:
    """Return the peak of two train steps in bytes: of the device's allocator, or this process's beyond its start."""
    for _ in range(2):
        step()
    return (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory("VmHWM")) - before


def floor(case: Case, train: bool, device: torch.device) -> Callable[[], None]:
    """Return the least that any side must do: a stack's matrix products, or a layer's reading and writing.

    A layer alone reads currents and writes spikes; for its gradient it writes and reads what it keeps (at least a bit
    per neuron and step: not counted), and reads and writes a gradient: two copies of a window.
    """
    if case.inputs is None:
        shape = (case.steps, case.batch, case.widths[0])
        windows = [[torch.zeros(shape, device=device) for _ in range(2)] for _ in range(2 if train else 1)]

        def move() -> None:
            for target, source in windows:
                target.copy_(source)

        return move
    products, rows = [], case.steps * case.batch
    for number, (before, after) in enumerate(pairwise([case.inputs, *case.widths])):
        products += dense(rows, before, after, train, input_gradient=number > 0)
    products += dense(case.batch, case.widths[-1], CLASSES, train, input_gradient=True)
    return runner([tuple(each.to(device) for each in product) for product in products])  # type: ignore[misc]


def _clocked(run: Callable[[], object], device: torch.device) -> Measure:
    def measured() -> float:
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        return time.perf_counter() - start

    return measured


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Run what the command line asks for."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", action="append", choices=CASES, help="which; repeatable; default all")
    parser.add_argument("--peer", action="append", choices=PEERS, help="which; repeatable; default all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.serve:
        case, who, device_name = options.serve
        serve(case, who, torch.device(device_name))
        return
    before, device = environment(), torch.device(options.device)
    results: list[Result] = []
    for name in options.case or CASES:
        size = CASES[name]
        # A library that keeps some ten windows of every layer must not bring the machine down.
        need = 12 * 4 * size.steps * size.batch * sum(size.widths)
        if device.type == "cpu" and need > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"):
            print(f"{name}: not run, it may need {need / 1e9:.0f} GB", flush=True)
            continue
        for result in measure(name, options.rounds, device, options.peer or PEERS):
            results.append(result)
            print(
                f"{result.benchmark} {result.case} {result.note}: {result.times.ratio('baseline', 'ours').show()}",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps(record(before, options.rounds, results), indent=1) + "\n")
    Console(width=150).print(table(results, options.rounds))


if __name__ == "__main__":
    main()
