"""Two groups of profile records, side by side: a row for each configuration and figure, tested over processes."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from hstnn_deploy.foreign import one_line
from hstnn_deploy.profile import caveats
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.report import costs
from hstnn_deploy.report.comparing.pairing import Row, by_process, counted, paired

COSTS = ("epoch", "p50_ms", "p99_ms", "throughput", "host_ram_peak_mb", "cuda_allocated_peak_mb", "cuda_process_mb")
"""What is compared where no metric is named, as far as both sides have measured it.

Of inference these are six figures at most: few enough for 5 and 5 processes to tell a difference in them (6 * 0.0079).
"""

_RESOURCES = ("host_", "cpu_", "cuda_", "gpu_", "disk_", "page_", "threads_", "processes_")
"""How names of values begin that a process used, and that are not counted of a network."""


def rows_of(
    first: Sequence[Record], second: Sequence[Record], chosen: bool, wanted: Sequence[str]
) -> tuple[list[Row], list[str]]:
    """Return a row for each configuration that both sides have and each figure, and notes.

    Args:
        first: the records of A.
        second: those of B.
        chosen: whether `wanted` alone is compared; else the usual figures too.
        wanted: names of figures.

    Raises:
        ReportError: the two have no configuration in common.
        UsageError: a figure that no record has.
    """
    notes = [
        "Difference: mean of B minus mean of A over processes. Each process gives one figure; processes that ran at "
        "the same time count as one. ± 95 %: Welch's interval."
    ]
    pairs = _paired(_measured(first, "A", notes), _measured(second, "B", notes), notes)
    every = [*first, *second]
    usual = {} if chosen else {name: costs.metric(name, every) for name in COSTS}
    metrics = {name: metric for name, metric in usual.items() if metric is not None}
    if not chosen and any(each.configuration.phase == "step" for each in every):
        metrics["step_p50_ms"] = costs.find_metric("step_p50_ms", every)
    asked = {name: costs.find_metric(name, every) for name in wanted}
    # One figure in two units would be two tests.
    same = {metric.value for metric in asked.values()}
    metrics = {name: metric for name, metric in metrics.items() if metric.value not in same} | asked
    rows = []
    for group, like in pairs:
        title = _title(group[0], like[0])
        doubts = _doubts(group, like)
        for name, metric in metrics.items():
            mine, theirs = _numbers(metric, group), _numbers(metric, like)
            # What is counted is the same in every process, and has one; what counting it took is no figure of interest.
            work = group[0].configuration.phase == "work"
            if work and not metric.value.startswith(_RESOURCES):
                rows += counted(title, name, mine, theirs, metric.unit)
            elif not work or name in wanted:
                own = doubts if caveats.depends_on_time(metric.base) else []
                rows += by_process(title, name, mine, theirs, metric.unit, own)
    compared = [[record for pair in pairs for record in pair[side]] for side in (0, 1)]
    return rows, [*notes, *_remarks(compared)]


def check_alike(first: Sequence[Configuration], second: Sequence[Configuration]) -> None:
    """Refuse configurations whose records could not be compared.

    Raises:
        ReportError: none of A has its like in B.
    """
    a, b = ([[Record(each, "measured")] for each in side] for side in (first, second))
    _paired(a, b, [])


def _paired(
    first: Sequence[list[Record]], second: Sequence[list[Record]], notes: list[str]
) -> list[tuple[list[Record], list[Record]]]:
    keys: list[Callable[[list[Record]], Hashable]] = [
        lambda group: costs.identity(group[0]),
        lambda group: costs.setting(group[0]),
    ]
    nothing = "no measured configuration of A has a counterpart in B"
    return paired(first, second, keys, lambda group: costs.title(group[0]), notes, nothing)


def _measured(records: Sequence[Record], side: str, notes: list[str]) -> list[list[Record]]:
    """Gather the records of each configuration; note those that failed, and what does not belong together."""
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        if record.status == "measured":
            groups.setdefault(costs.identity(record), []).append(record)
        else:
            notes.append(f"{side}: {costs.title(record)} {record.status}: {record.reason}")
    for group in groups.values():
        networks = len({each.configuration.ckpt_sha256 or each.configuration.subject for each in group})
        if networks > 1:
            title = costs.title(group[0])
            notes.append(f"{side}: {title} covers {networks} networks: their spread counts as that of processes.")
    return list(groups.values())


def _title(first: Record, second: Record) -> str:
    """Return what tells a pair from others: both networks where they differ, and how they were measured."""
    titles = costs.title(first), costs.title(second)
    networks = costs.label(first), costs.label(second)
    ways = [title.removeprefix(network) for title, network in zip(titles, networks, strict=True)]
    if ways[0] == ways[1]:
        return " : ".join(dict.fromkeys(networks)) + ways[0]
    return " : ".join(titles)


def _numbers(metric: costs.Metric, group: Iterable[Record]) -> dict[int, float]:
    """Return a value for each measurement: of processes that ran at the same time, the mean."""
    values: dict[int, list[float]] = {}
    turns: Counter[Any] = Counter()
    for record in group:
        asked = record.configuration
        turns[asked.instance] += 1
        if (number := metric.of(record)) is not None:
            values.setdefault(turns[asked.instance], []).append(number)
    return {turn: math.fsum(numbers) / len(numbers) for turn, numbers in values.items()}


def _doubts(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """Return the caveats of a pair: what was the matter, on which side, and in how many processes."""
    found = []
    for side, group in zip("AB", (first, second), strict=True):
        counts = Counter(name for record in group for name in caveats.of(record))
        found += [f"{side}: {name} in {number} of {len(group)} processes" for name, number in counts.items()]
    machines = dict.fromkeys(_machine(record) for record in (*first, *second))
    if len(machines) > 1:
        found.append(f"measured on {len(machines)} different machines: {'; '.join(machines)}")
    return found


def _machine(record: Record) -> str:
    facts = record.facts
    gpu = f", {facts['gpu'].partition(' (')[0]}" if facts.get("gpu") else ""
    return one_line(f"{facts.get('cpu')}, {facts.get('cores')} cores{gpu}")


def _remarks(sides: Sequence[Sequence[Record]]) -> list[str]:
    """Return notes on when the sides were measured, and on their commits."""
    notes = []
    times = [
        sorted(str(record.facts["measured_at"]) for record in side if "measured_at" in record.facts) for side in sides
    ]
    if all(times) and (times[0][-1] < times[1][0] or times[1][-1] < times[0][0]):
        notes.append(
            "One side was measured after the other, not in turns, so a change of the machine in between counts as a "
            "difference. `hstnn compare --run` measures in turns."
        )
    commits = [list(dict.fromkeys(map(_commit, side))) for side in sides]
    if any(not each.startswith("n/a") for side in commits for each in side):
        notes.append(f"Commit of the user's project: A {', '.join(commits[0])}; B {', '.join(commits[1])}.")
    return notes


def _commit(record: Record) -> str:
    project = record.facts.get("project") or {}
    if not project.get("commit"):
        return one_line(f"n/a ({project.get('reason') or 'the record does not state it'})")
    return one_line(str(project["commit"])[:12]) + (" with changes" if project.get("changed") else "")
