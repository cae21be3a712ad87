"""Train step and forward pass against the textbook's, and against the floor of their matrix products."""

from collections.abc import Iterator

import torch

from benchmarks.floor import flops, network_products, runner
from benchmarks.harness import Measure, Result, turns, wall
from benchmarks.networks import SIZES, Pair, check_same, make_pair


def train_step(rounds: int) -> Iterator[Result]:
    """Time forward + loss + backward; gradients are freed before, the optimiser is left out."""
    for sizes in SIZES:
        pair = make_pair(sizes)
        facts = check_same(pair)
        yield _measure("train", pair, rounds, facts)


def forward(rounds: int) -> Iterator[Result]:
    """Time the forward pass without gradients."""
    for sizes in SIZES:
        pair = make_pair(sizes)
        facts = check_same(pair)
        with torch.no_grad():
            yield _measure("forward", pair, rounds, facts)


def _measure(name: str, pair: Pair, rounds: int, facts: dict[str, float]) -> Result:
    sizes = pair.ours.sizes[0]
    train = name == "train"
    products = network_products(sizes, train)
    candidates: dict[str, Measure] = {
        "baseline": wall(pair.step_theirs if train else pair.forward_theirs),
        "ours": wall(pair.step_ours if train else pair.forward_ours),
        "floor": wall(runner(products)),
    }
    case = f"{sizes.snn}+{sizes.rnn}" if sizes.rnn else f"SNN {sizes.snn}"
    note = f"gradients agree to {facts['gradient_error']:.0e}" if train else ""
    return Result(name, case, turns(candidates, rounds), facts | {"gflop": flops(products) / 1e9}, note)
