"""`python -m benchmarks.aa_rate`: how often a network is called different from itself.

A pool of processes measures one network, on an idle machine and on a busy one. From the pool comparisons are drawn in
which A and B are the same network: twice `--repeats` processes at random, in the order in which they were measured,
given to A and B in turns, as `hstnn compare --run` measures them. Of 200 comparisons at most 17 may have p < 0.05: that
many or fewer come with 98.6 % where the rate of false alarms is 0.05.

Beside it stand all runs of consecutive processes, and the way that was replaced: two processes, and Mann and Whitney's
test of all their calls.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.stats import binom, mannwhitneyu

from hstnn_deploy import environment
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record, lines
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.run import launch
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.report.comparing.over_processes import LEVEL, contrast

LIMIT, OF = 17, 200
"""Comparisons with p below the level, at most, and of how many."""
FIGURES = ("latency_p50", "latency_p99", "throughput")
LOADS = ("idle", "busy")

T = TypeVar("T")
Sides = tuple[list[T], list[T]]


class Rate(NamedTuple):
    """How many comparisons of a network with itself called it different."""

    alarms: int
    of: int

    @property
    def limit(self) -> int:
        """The most alarms that are no sign of a rate above the level; 17 of 200."""
        return LIMIT if self.of == OF else int(binom.ppf(binom.cdf(LIMIT, OF, LEVEL), self.of, LEVEL))

    def __str__(self) -> str:
        """Return it in words, with the limit."""
        return f"{self.alarms} of {self.of} ({'at most' if self.alarms <= self.limit else 'MORE THAN'} {self.limit})"


def in_turns(some: Sequence[T]) -> Sides[T]:
    """Return every other one to A and the rest to B."""
    return list(some[::2]), list(some[1::2])


def drawn(pool: Sequence[T], repeats: int, comparisons: int, seed: int = 0) -> Iterator[Sides[T]]:
    """Draw comparisons: `repeats` processes for each side, in the order of the pool, in turns."""
    generator = np.random.default_rng(seed)
    for _ in range(comparisons):
        places = np.sort(generator.choice(len(pool), 2 * repeats, replace=False))
        yield in_turns([pool[place] for place in places])


def consecutive(pool: Sequence[T], repeats: int) -> Iterator[Sides[T]]:
    """Return every run of `2 * repeats` processes that were measured one after another, in turns."""
    for first in range(len(pool) - 2 * repeats + 1):
        yield in_turns(pool[first : first + 2 * repeats])


def over_processes(sides: Sides[float]) -> float:
    """Return p of a comparison over processes: a figure of each process on both sides."""
    p = contrast(*sides).p
    assert p is not None
    return p


def over_calls(sides: tuple[Any, Any]) -> float:
    """Return p of the way that was replaced: all calls of one process against all of another's, as arrays or lists."""
    return float(mannwhitneyu(*sides).pvalue)


def rate(comparisons: Iterator[T], test: Callable[[T], float]) -> Rate:
    """Count the comparisons of a network with itself that call it different."""
    ps = [test(each) for each in comparisons]
    return Rate(sum(p < LEVEL for p in ps), len(ps))


def judged(pool: Sequence[Record], repeats: int, comparisons: int) -> dict[str, dict[str, Rate]]:
    """Return the rates that a pool gives, by figure and way."""
    found: dict[str, dict[str, Rate]] = {}
    for name in FIGURES:
        numbers = [value.number for record in pool if isinstance(value := record.value(name), Measured)]
        found[name] = {
            "drawn": rate(drawn(numbers, repeats, comparisons), over_processes),
            "consecutive": rate(consecutive(numbers, repeats), over_processes),
        }
    calls = [record.series["latency"] for record in pool]
    found["latency_p50"]["calls of two"] = rate(pairwise(calls), over_calls)
    return found


def measured(path: Path, size: int, seconds: float) -> list[Record]:
    """Measure a pool, or what is missing of it in a file; every process is written when it is done."""
    planned = asked(size, seconds)
    old = read(path) if path.exists() else []
    pool = []
    for record in launch.resumed(planned, old, lambda rest: launch.run(rest)):
        if record.status != "measured":
            raise SystemExit(f"a process could not measure: {record.reason}")
        # Two hundred timelines are not looked at.
        pool.append(replace(record, timeline={}, spans=[]))
        path.write_text(lines([*pool, *old[len(pool) :]]))
        print(f"\r{path.stem}: {len(pool)} of {size}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return pool


def asked(size: int, seconds: float) -> list[Configuration]:
    """Return what is measured: calls of a small network of the recipe `digits` in ONNX Runtime, one sample a call."""
    options: dict[str, Any] = {"phases": ["infer"], "engines": ["onnxruntime"], "batches": [1], "gpus": [None]}
    return plan([load_recipe("digits", [])], **options, threads=[1], seconds=seconds, repeats=size)


_SPIN = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
while True:
    pass
"""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep a number of cores busy meanwhile, by processes that end with this one."""
    command = [sys.executable, "-c", _SPIN]
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(process.kill)
        yield


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aa_rate", description=__doc__)
    parser.add_argument("--pool", type=int, default=200, help="processes per load (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="processes a side (default %(default)s)")
    parser.add_argument("--comparisons", type=int, default=OF, help="comparisons drawn (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each process (default %(default)s)")
    parser.add_argument("--loads", default=",".join(LOADS), metavar="LIST", help="default %(default)s")
    parser.add_argument(
        "--busy", type=int, default=2, metavar="N", help="processes of the load busy (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="pools, kept and continued; rates.json")
    options = parser.parse_args(words)
    loads = options.loads.split(",")
    if unknown := [load for load in loads if load not in LOADS]:
        parser.error(f"no load is called {unknown[0]}; there are {', '.join(LOADS)}")
    if options.repeats < 2 or options.pool < 2 * options.repeats:
        parser.error("a comparison needs --repeats of 2 at least, and --pool of twice that")
    options.out.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"machine": environment.cpu_name(), "repeats": options.repeats, "rates": {}}
    failed = False
    for load in loads:
        with busy(options.busy if load == "busy" else 0):
            pool = measured(options.out / f"{load}.jsonl", options.pool, options.seconds)
        rates = judged(pool, options.repeats, options.comparisons)
        told["rates"][load] = {
            figure: {way: each._asdict() for way, each in ways.items()} for figure, ways in rates.items()
        }
        for figure, ways in rates.items():
            for way, each in ways.items():
                print(f"{load}, {figure}, {way}: {each}")
            failed = failed or ways["drawn"].alarms > ways["drawn"].limit
    (options.out / "rates.json").write_text(json.dumps(told, indent=1) + "\n")
    if failed:
        raise SystemExit("a network was called different from itself too often")


if __name__ == "__main__":
    main()
