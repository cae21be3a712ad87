"""Train step of the convolutional classifier against the textbook's: time and peak memory, a process for each.

    python -m benchmarks.conv_memory [--rounds N] [--threads N] [--json FILE]

Batch 4, T 60, frames of 2 x 32 x 32 with event counts, DVS-Gesture form, three layers: 128, 256 and 384 spiking
channels, and half-and-half (64+64, 128+128, 192+192). Forward, mean squared error, backward; no optimiser. Peak memory
is the high-water mark of the process less what it held before its first step: network and input are not in it. The
processes of a round run one after another, every other round in reverse; ratios are taken within a round. First both
sides prove on a short sequence that they compute the same loss and gradients.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import textbook
from benchmarks.harness import Spread, environment
from benchmarks.processes import child, memory
from hstnn_deploy.models.hybrid.convolutional import ConvClassifier, ConvolutionalConfig
from hstnn_deploy.models.sizes import Sizes

BATCH, STEPS, SIZE, CLASSES = 4, 60, 32, 11
CASES = {
    "snn": [Sizes(128, 0), Sizes(256, 0), Sizes(384, 0)],
    "half": [Sizes(64, 64), Sizes(128, 128), Sizes(192, 192)],
}
SIDES = ("textbook", "ours")
MODULE = "benchmarks.conv_memory"


def networks(sizes: list[Sizes]) -> tuple[torch.nn.Module, ConvClassifier]:
    """Return the textbook's network and ours with the same weights."""
    torch.manual_seed(0)
    spiking, recurrent = tuple(size.snn for size in sizes), tuple(size.rnn for size in sizes)
    theirs: Any = textbook.ConvClassifier(spiking, recurrent, SIZE, CLASSES)  # type: ignore[no-untyped-call]
    ours = ConvolutionalConfig(classes=CLASSES, units=[1, 1, 1], size=SIZE).build(sizes)
    ours.load_state_dict({our_name(name): value for name, value in theirs.state_dict().items()})
    return theirs, ours


def our_name(name: str) -> str:
    """Return our name of one of the textbook's parameters."""
    inside = {"c_s": "snn.conv_input", "c_i": "rnn.conv_input", "c_h": "rnn.conv_recurrent"}
    group, layer, *rest = name.split(".")
    return ".".join(["layers", layer, inside[group], *rest]) if group in inside else name


def step(side: str, sizes: list[Sizes], batch: int, steps: int) -> tuple[Callable[[], Tensor], torch.nn.Module]:
    """Return a side's train step, which returns the loss, and its network."""
    theirs, ours = networks(sizes)
    network = theirs if side == "textbook" else ours
    generator = torch.Generator().manual_seed(1)
    x = torch.poisson(torch.full((steps, batch, 2, SIZE, SIZE), 0.3), generator=generator)
    if side == "textbook":
        x = x.permute(1, 2, 3, 4, 0).contiguous()
    target = functional.one_hot(torch.arange(batch) % CLASSES, CLASSES).float()

    def run() -> Tensor:
        network.zero_grad(set_to_none=True)
        output = network(x) if side == "textbook" else network(x)[0]
        loss = functional.mse_loss(output, target)
        loss.backward()
        return loss.detach()

    return run, network


def proof(case: str) -> dict[str, float]:
    """Return the relative difference of loss and of all gradients together between both sides, on 6 steps."""
    losses, gradients = [], []
    for side in SIDES:
        run, network = step(side, CASES[case], 2, 6)
        losses.append(float(run()))
        name = our_name if side == "textbook" else str
        gradients.append({name(key): p.grad.double() for key, p in network.named_parameters() if p.grad is not None})
    theirs, ours = gradients
    apart = sum(float((value - ours[key]).square().sum()) for key, value in theirs.items())
    whole = sum(float(value.square().sum()) for value in theirs.values())
    return {"loss": abs(losses[0] - losses[1]) / losses[0], "gradient": float((apart / whole) ** 0.5)}


def measure(case: str, side: str) -> dict[str, float]:
    """Do a warm-up step and two timed ones; return the faster one's seconds and the peak in bytes."""
    run, _ = step(side, CASES[case], BATCH, STEPS)
    before = memory("VmRSS")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds[1:]), "peak": memory("VmHWM") - before}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conv_memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: there is no spread of one")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.child:
        what, case, *side = options.child
        print(json.dumps(proof(case) if what == "proof" else measure(case, *side)))
        return
    before = environment()
    report = {}
    for case in CASES:
        same = child(MODULE, "proof", case, threads=options.threads)
        if max(same.values()) > 1e-3:
            sys.exit(f"{case}: the sides do not compute the same: {same}")
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(options.rounds):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                found[side].append(child(MODULE, "measure", case, side, threads=options.threads))
        report[case] = {"same": same, "measured": found}
        print(line(case, found), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"environment": before, "cases": report}, indent=1) + "\n")


def line(case: str, found: dict[str, list[dict[str, float]]]) -> str:
    """Return a case in words: medians, and the ratios' median and quartiles."""
    parts = []
    for key, unit, scale in (("seconds", "s", 1.0), ("peak", "MB", 1e-6)):
        theirs, ours = ([scale * row[key] for row in found[side]] for side in SIDES)
        ratio = Spread.of([a / b for a, b in zip(theirs, ours, strict=True)])
        medians = f"{statistics.median(theirs):.4g} / {statistics.median(ours):.4g} {unit}"
        parts.append(f"{key} textbook / ours {medians} = {ratio.show()}")
    return f"{case}: " + "; ".join(parts)


if __name__ == "__main__":
    main()
