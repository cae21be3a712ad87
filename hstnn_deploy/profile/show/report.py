"""Records for people: tables, footnotes, and how all of it was measured."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from hstnn_deploy import files
from hstnn_deploy.profile import caveats, resource_table
from hstnn_deploy.profile.record import Record, lines
from hstnn_deploy.profile.show import cells, foreign, several
from hstnn_deploy.profile.show.cells import Notes
from hstnn_deploy.profile.show.devices import devices
from hstnn_deploy.profile.show.tables import (
    column_name,
    experiments,
    inference,
    largest_batches,
    quantities,
    work,
)
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.screen import Screen

_WIDTH = 100


def tables(records: Sequence[Record]) -> list[RenderableType]:
    """Return what to print of some records, in order: tables, footnotes, and the protocol.

    Of several processes of one configuration the tables give the median.

    Args:
        records: see `launch.run`.
    """
    notes = Notes()
    shown: list[RenderableType] = []
    every, records = records, several.middle(records)
    strangers = [record for record in records if record.configuration.foreign is not None]
    shown += [foreign.table(group, notes) for group in _networks(strangers)]
    measured = [
        record for record in records if not record.configuration.find_batch and record.configuration.foreign is None
    ]
    if rows := [together for together in at_once(measured) if _compared(together)]:
        shown.append(experiments(rows, notes))
    searched = [record for record in records if record.configuration.find_batch]
    shown += [largest_batches(group, notes) for group in _networks(searched)]
    for group in _tables(measured):
        phase = group[0][0].configuration.phase
        if phase == "work":
            records_of_work = [record for together in group for record in together]
            shown.append(work(records_of_work, notes))
            if any(isinstance(record.value("rram_bits"), Measured) for record in records_of_work):
                shown.append(devices(records_of_work, notes))
        else:
            shown.append(inference(group, notes) if phase == "infer" else quantities(group, notes))
    if (apart := several.spread(every)) is not None:
        shown.append(apart)
    # A table has no line below it: what follows begins after an empty one.
    parted = [part for table in shown for part in (table, Text())]
    numbered = [Text(f"[{number}] {note}") for number, note in enumerate(notes.texts, 1)]
    return [*parted, *numbered, *([Text()] if numbered else []), *(Text(line) for line in protocol(every))]


def at_once(records: Sequence[Record]) -> list[list[Record]]:
    """Return records by configuration: those of processes that ran at the same time stand together."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.configuration.together, []).append(record)
    return list(found.values())


def text(records: Sequence[Record], width: int = _WIDTH) -> str:
    """Return the report as plain text."""
    stream = io.StringIO()
    console = Screen(file=stream, width=width)
    for part in tables(records):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def write(folder: Path, records: Sequence[Record]) -> list[Path]:
    """Write `records.jsonl` and `report.txt` into a folder, in place of files of that name; return the paths.

    Raises:
        RunError: the folder cannot be written.
    """
    written = [folder / "records.jsonl", folder / "report.txt"]
    files.write_text(written[0], lines(records))
    files.write_text(written[1], text(records))
    return written


def protocol(records: Sequence[Record]) -> list[str]:
    """Return how the records were measured, in lines."""
    measured = [record for record in records if record.status == "measured"]
    if not measured:
        return []
    searched = [record for record in measured if record.configuration.find_batch]
    own = [record for record in measured if record.configuration.foreign is None]
    phases = {record.configuration.phase for record in own if not record.configuration.find_batch}
    said = ["1 MB is 10^6 bytes."]
    if len(searched) < len(measured):
        said = [f"Each configuration ran in its own process, after a warm-up. {said[0]}"]
    said.append(
        "Main memory (RAM): the peak of resident memory of the process and its children, with interpreter, libraries,"
        " data and network."
    )
    said += _search(searched)
    if phases & {"train", "restore"}:
        said.append(
            "Training: whole passes of the recipe's own steps. Where the time does not allow a whole pass, it is"
            " extrapolated from as many steps as fit (~)."
        )
    if "work" in phases:
        said.append(
            "Work: for each weight that it reaches, a spike costs an accumulate (AC), any other number a"
            " multiply-accumulate (MAC), and a zero nothing. Dense MACs count zeros too."
        )
        sources = _distinct(str(record.value("energy").plain().get("source", "")) for record in measured)
        said += [f"Energy is an {source}; it covers arithmetic only, not memory." for source in sources]
    if "infer" in phases:
        calls = sorted({record.facts["calls"] for record in own if "calls" in record.facts})
        said.append(
            f"Inference: {_range(calls)} calls back to back on one batch of whole sequences, each from input in host"
            " memory to logits in host memory."
        )
    said += foreign.protocol(measured)
    said += _distinct(
        f"Data for {record.configuration.subject}: {record.facts['data']}."
        for record in measured
        if "data" in record.facts
    )
    fresh = _distinct(record.configuration.subject for record in own if record.configuration.ckpt is None)
    if fresh:
        said.append(f"Weights of {', '.join(fresh)}: random; time and memory do not depend on them.")
    said += _distinct(_machine(record) for record in measured)
    nodes = _distinct(str(record.facts["node"]) for record in measured if "node" in record.facts)
    if len(nodes) > 1:
        said.append(
            f"Measured on {len(nodes)} nodes: records.jsonl gives the node of each row. Do not compare figures of"
            " different machines."
        )
    said += [*_busy(measured), *_slowed(measured), *_unsteady(measured), *_sampler(measured)]
    said += several.protocol(records)
    if any(row and not row.source for row in map(_row, measured)):
        said.append(f"Paper: {resource_table.MACHINE}; {resource_table.CAVEAT}.")
    return said


_ORDER = ("train", "select", "restore", "export", "infer", "work")


def _tables(records: Sequence[Record]) -> list[list[list[Record]]]:
    """Return the records of each table: one per network and phase, of inference per way it ran too; one of work."""
    groups: dict[tuple[object, ...], list[list[Record]]] = {}
    for together in sorted(at_once(records), key=lambda each: _ORDER.index(each[0].configuration.phase)):
        asked = together[0].configuration
        key: tuple[object, ...] = (asked.phase,)
        if asked.phase != "work":
            key += (asked.subject, asked.network, asked.steps)
        if asked.phase == "infer":
            key += (column_name(together),)
        elif asked.phase != "work":
            key += (asked.batch,)
        groups.setdefault(key, []).append(together)
    return list(groups.values())


def _compared(records: Iterable[Record]) -> bool:
    """Whether a training among the records answers to a row of the resource table."""
    return any(_row(record) is not None for record in records)


def _row(record: Record) -> resource_table.Row | None:
    """Return the published row that a training answers to."""
    asked = record.configuration
    return resource_table.matching(asked.experiment) if asked.phase == "train" else None


def _networks(records: Sequence[Record]) -> list[list[Record]]:
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        asked = record.configuration
        groups.setdefault((asked.subject, asked.network, asked.steps), []).append(record)
    return list(groups.values())


def _search(records: Sequence[Record]) -> list[str]:
    """Return how the largest batches were searched for."""
    said = _distinct(f"Largest batch: {record.facts['search']}." for record in records if "search" in record.facts)
    if limits := [limit for record in records for limit in record.facts.get("memory_limit", [])]:
        between = " to ".join(dict.fromkeys(cells.memory(limit) for limit in (min(limits), max(limits))))
        said.append(f"On the CPU a trial could use up to {between}, without libraries.")
    return said


def _machine(record: Record) -> str:
    facts = record.facts
    versions = facts["versions"]
    names = ("python", "torch", "onnxruntime-gpu", "onnxruntime")
    parts = [facts["cpu"], f"{facts['cores']} cores"]
    if "gpu" in facts:
        parts.append(f"{facts['gpu']}, driver {facts.get('driver', 'unknown')}")
    parts.append(", ".join(f"{name} {versions[name]}" for name in names if name in versions))
    threads = record.configuration.threads
    parts.append(f"{threads} thread{'s' if threads > 1 else ''}" if threads else "each engine's default threads")
    name = f"Machine, node {facts['node']}" if "node" in facts else "Machine"
    return f"{name}: {'; '.join(parts)}."


def _busy(records: Sequence[Record]) -> list[str]:
    """Return a warning where other processes had the cores meanwhile."""
    crowded = [others for record in records if (others := caveats.crowding(record))]
    if not crowded:
        return []
    return [
        f"Busy machine: other processes used up to {max(crowded):.1f} of {records[0].facts['cores']} cores during"
        f" {len(crowded)} of {len(records)} measurements; these times may be too long."
    ]


def _slowed(records: Sequence[Record]) -> list[str]:
    """Return warnings where the container or the GPU was held back."""
    said = []
    if held := [seconds for record in records if (seconds := caveats.throttled(record)) > 0]:
        said.append(
            f"Throttled: the container's CPU limit paused {len(held)} measurements, for up to {max(held):.1f} s."
        )
    clocks = _distinct(map(caveats.gpu_clock, records))
    return said + [f"Throttled GPU: clock {note}; these times may be too long." for note in clocks]


def _unsteady(records: Sequence[Record]) -> list[str]:
    count = sum(map(caveats.unsteady, records))
    rules = _distinct(record.facts.get("warm_up", {}).get("rule", "") for record in records)
    said = [f"Warm-up: {rule}." for rule in rules]
    if count:
        said.append(
            f"Not steady: {count} of {len(records)} measurements began before their times were steady, as the warm-up"
            " ran out of time."
        )
    return said


def _sampler(records: Sequence[Record]) -> list[str]:
    shares = [record.facts["sampler"]["cores"] for record in records if record.facts.get("sampler")]
    return [f"The sampler used up to {100 * max(shares):.1f} % of a core, in its own process."] if shares else []


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))
