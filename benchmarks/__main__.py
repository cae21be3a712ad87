"""`python -m benchmarks [NAME ...]`: run all benchmarks or those named, print a table, write JSON when asked."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.bntt import bntt
from benchmarks.data_loading import data_loading
from benchmarks.harness import Result, environment, keep_heap
from benchmarks.inference import inference
from benchmarks.kernels import kernels
from benchmarks.overhead import overhead
from benchmarks.peers import peers
from benchmarks.report import machine, record, table
from benchmarks.scheduling import scheduling
from benchmarks.selection import selection
from benchmarks.stacks import stacks
from benchmarks.startup import startup
from benchmarks.training import forward, train_step
from hstnn_deploy.errors import DataError

BENCHMARKS: dict[str, Callable[[int], Iterator[Result]]] = {
    "train": train_step,
    "forward": forward,
    "inference": inference,
    "kernels": kernels,
    "selection": selection,
    "startup": startup,
    "overhead": overhead,
    "data_loading": data_loading,
    "peers": peers,
    "stacks": stacks,
    "bntt": bntt,
    "scheduling": scheduling,
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--rounds", type=int, default=20, help="turns per case (default %(default)s)")
    parser.add_argument("--threads", type=int, help="threads torch uses (default: its own choice)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where nmnist/ is, for data_loading")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time measured, and the summary")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: there is no spread of one")
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_heap()
    before = environment()
    # A pipe has no width of its own; the table needs this much.
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(machine(before), highlight=False)
    results: list[Result] = []
    benchmarks = BENCHMARKS | {"data_loading": partial(data_loading, folder=options.data_dir)}
    for name in options.names or benchmarks:
        for result in _results(benchmarks[name](options.rounds), name):
            results.append(result)
            print(f"{result.benchmark} {result.case}: done", file=sys.stderr)
            if options.json:
                # After every case, so that an interrupted run keeps what it has.
                options.json.write_text(json.dumps(record(before, options.rounds, results), indent=1) + "\n")
    console.print(table(results, options.rounds))


def _results(results: Iterator[Result], name: str) -> Iterator[Result]:
    """Yield the results of a benchmark; where its data is not at hand, say so instead."""
    try:
        yield from results
    except DataError as error:
        print(f"{name} was not run: {error.message} ({error.hint})", file=sys.stderr)


if __name__ == "__main__":
    main()
