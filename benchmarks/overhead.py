"""What measuring costs: the same work with and without the ledger, and the sampler's own CPU time over wall time."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

import torch

from benchmarks.harness import Measure, Result, Spread, turns, wall
from hstnn_deploy.profile.meter.ledger import Ledger

SECONDS = 20.0
"""Of work in each round, as `hstnn profile` measures by default; shorter stretches weigh the sampler's edges more."""
_IDLE = "import sys; block = b'x' * 100_000_000; sys.stdin.read()"

CASES = {"200 MB": (0, 0), "1.2 GB": (1_000_000_000, 0), "200 MB and 4 workers": (0, 4)}
"""Bytes that are resident besides, and processes of 100 MB that wait meanwhile."""


def overhead(rounds: int) -> Iterator[Result]:
    """Time matrix products in turns: alone, and inside a span of a ledger that reads ten times a second."""
    a = torch.rand(400, 400)
    products = 200
    per_product = min(_seconds(a, products) for _ in range(3)) / products
    count = int(SECONDS / per_product)
    for case, (size, workers) in CASES.items():
        with ExitStack() as stack:
            block = bytearray(size)
            block[::4096] = b"x" * len(block[::4096])
            for _ in range(workers):
                process = subprocess.Popen([sys.executable, "-c", _IDLE], stdin=subprocess.PIPE)
                stack.callback(process.communicate)
            shares: list[float] = []
            times = turns({"baseline": wall(lambda: _work(a, count)), "ours": _watched(a, count, shares)}, rounds, 1)
            share = Spread.of([100 * each for each in shares])
            note = f"sampler: {share.show()} % of a core"
            yield Result("overhead", case, times, {"sampler_percent_of_a_core": asdict(share)}, note)


def _work(a: torch.Tensor, count: int) -> None:
    for _ in range(count):
        torch.mm(a, a)


def _seconds(a: torch.Tensor, count: int) -> float:
    start = time.perf_counter()
    _work(a, count)
    return time.perf_counter() - start


def _watched(a: torch.Tensor, count: int, shares: list[float]) -> Measure:
    def measure() -> float:
        with Ledger() as ledger, ledger.span("work"):
            _work(a, count)
        shares.append(ledger.sampler["cores"])
        # The work's own time: starting and ending the sampler stands outside of what is measured.
        return ledger.spans[0].seconds

    return measure
