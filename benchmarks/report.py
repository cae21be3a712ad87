"""Results as a table for people and as plain data for a file."""

from typing import Any

from rich.table import Table

from benchmarks.harness import Result, environment


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
