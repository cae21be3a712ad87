"""Several processes of one configuration: the median over them for tables, and how far they lie apart."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from rich.console import RenderableType

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.show.tables import MORE
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.screen import Table

ENOUGH = 5
"""Processes a side from which an exact test can find a difference in a few figures at once."""

_SHOWN: dict[str, tuple[tuple[str, str, cells.Form], ...]] = {
    "train": (("epoch", "epoch", cells.seconds),),
    "restore": (("epoch", "epoch", cells.seconds),),
    "select": (("selection", "selection", cells.seconds),),
    "export": (("export_onnx", "ONNX", cells.seconds),),
    "infer": (("latency_p50", "median", cells.duration), ("latency_p99", "p99", cells.duration)),
    "step": (("step_p50", "median", cells.duration), ("step_p99", "p99", cells.duration)),
}
"""By phase, what is shown of each process: a value, what it is called, and how it looks."""


def grouped(records: Sequence[Record]) -> list[list[Record]]:
    """Return records by configuration: those of one process after another stand together.

    What was measured again elsewhere, with the same numbers of processes, is a group of its own.
    """
    groups: list[list[Record]] = []
    last: dict[str, list[Record]] = {}
    for record in records:
        key, number = record.configuration.repeated, record.configuration.repeat
        if key not in last or any(each.configuration.repeat == number for each in last[key]):
            last[key] = []
            groups.append(last[key])
        last[key].append(record)
    return groups


def middle(records: Sequence[Record]) -> list[Record]:
    """Return one record for each configuration: every value is the median over the processes that measured it."""
    return [_one(members) for members in grouped(records)]


def _one(members: Sequence[Record]) -> Record:
    measured = [record for record in members if record.status == "measured"]
    if len(members) == 1 or not measured:
        return members[0]
    first = measured[0]
    values = [_over([record.value(value.name) for record in measured]) for value in first.values]
    return replace(first, configuration=replace(first.configuration, repeat=1), values=values)


def _over(values: Sequence[Value]) -> Value:
    """Return the median of a value over processes; where one of them did not measure it, that one's reason."""
    numbers = []
    for value in values:
        if not isinstance(value, Measured):
            return value
        numbers.append(value.number)
    first = values[0]
    assert isinstance(first, Measured)
    if len(numbers) == 1:
        return first
    return replace(first, number=median(numbers), source=f"{first.source}; median of {len(numbers)} processes")


def spread(records: Sequence[Record]) -> RenderableType | None:
    """Return a table of how far the processes of a configuration lie apart; None where each has one."""
    several = [
        (members, measured)
        for members in grouped(records)
        if len(measured := [each for each in members if each.status == "measured"]) > 1
        and measured[0].configuration.phase in _SHOWN
    ]
    if not several:
        return None
    subjects = {members[0].configuration.subject for members, _ in several}
    title = f"Spread over processes: {min(subjects)}" if len(subjects) == 1 else "Spread over processes"
    table = Table(["configuration", ">processes", ">figure", ">median", ">lowest", ">highest"], title=title, more=MORE)
    for members, measured in several:
        asked = measured[0].configuration
        label = replace(asked, repeat=1).label
        name = label.removeprefix(f"{asked.subject}: ") if len(subjects) == 1 else label
        count = f"{len(measured)}" if len(measured) == len(members) else f"{len(measured)} of {len(members)}"
        for key, what, form in _SHOWN[asked.phase]:
            numbers = [value.number for each in measured if isinstance(value := each.value(key), Measured)]
            if numbers:
                shown = [form(number) for number in (median(numbers), min(numbers), max(numbers))]
                table.add_row(name, count, what, *shown)
                name = count = ""
    return table


def protocol(records: Sequence[Record]) -> list[str]:
    """Return how many processes were measured of each configuration, and what that is enough for, in a line."""
    timed = [
        record
        for record in records
        if record.status == "measured" and record.configuration.phase in _SHOWN and not record.configuration.find_batch
    ]
    counts = sorted({len(members) for members in grouped(timed)})
    if not counts:
        return []
    if counts == [1]:
        return [
            "Each configuration ran in one process. Calls of one process are not independent samples, so a comparison"
            f" needs several processes (--repeats {ENOUGH}). `hstnn compare --run A B` measures two checkpoints in"
            " turns."
        ]
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [
        f"Each configuration ran in {number} processes, in turns with the other configurations; the tables give their"
        " median."
    ]
