"""`python -m benchmarks [NAME ...]`: run all benchmarks or those named, print a table, write JSON when asked."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result, environment
from benchmarks.kernels import kernels
from benchmarks.scheduling import scheduling
from benchmarks.selection import selection
from benchmarks.startup import startup
from benchmarks.training import forward, train_step

BENCHMARKS: dict[str, Callable[[int], Iterator[Result]]] = {
    "train": train_step,
    "forward": forward,
    "kernels": kernels,
    "selection": selection,
    "startup": startup,
    "scheduling": scheduling,
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--rounds", type=int, default=20, help="turns per case (default %(default)s)")
    parser.add_argument("--threads", type=int, help="threads torch uses (default: its own choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time measured, and the summary")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: there is no spread of one")
    if options.threads:
        torch.set_num_threads(options.threads)
    before = environment()
    # A pipe has no width of its own; the table needs this much.
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(machine(before), highlight=False)
    results: list[Result] = []
    for name in options.names or BENCHMARKS:
        for result in BENCHMARKS[name](options.rounds):
            results.append(result)
            print(f"{result.benchmark} {result.case}: done", file=sys.stderr)
            if options.json:
                # After every case, so that an interrupted run keeps what it has.
                options.json.write_text(json.dumps(record(before, options.rounds, results), indent=1) + "\n")
    console.print(table(results, options.rounds))


def record(before: dict[str, Any], rounds: int, results: list[Result]) -> dict[str, Any]:
    """Return what is known so far as plain data."""
    return {
        "environment": before,
        "load_average_after": environment()["load_average"],
        "rounds": rounds,
        "results": [result.plain() for result in results],
    }


def machine(facts: dict[str, Any]) -> str:
    """Return in a few words where this runs."""
    versions = facts["versions"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads; torch {versions['torch']}, "
        f"Python {versions['python']}; load average {facts['load_average'][0]}"
    )


def table(results: list[Result], rounds: int) -> Table:
    """Return the report: medians, and ratios with their quartiles."""
    drawn = Table(
        title=f"medians over {rounds} rounds; ratios within a round, quartiles in brackets", title_justify="left"
    )
    for column in ("benchmark", "case"):
        drawn.add_column(column)
    for column in ("baseline ms", "ours ms", "baseline / ours", "floor / ours"):
        drawn.add_column(column, justify="right", no_wrap=True)
    drawn.add_column("note")
    for result in results:
        times = result.times
        medians = [f"{times.median(name) * 1e3:.1f}" for name in ("baseline", "ours")]
        floor = times.ratio("floor", "ours").show() if "floor" in times.seconds else ""
        note = [result.note] if result.note else []
        if times.disturbed:
            note.append(f"{times.disturbed} rounds disturbed by other processes")
        ratio = times.ratio("baseline", "ours").show()
        drawn.add_row(result.benchmark, result.case, *medians, ratio, floor, "; ".join(note))
    return drawn


if __name__ == "__main__":
    main()
