"""Profile records as tables. All of `hstnn profile`'s layout that reports know stands here, so that it may grow.

A record's values are taken by name, whatever there are; tables show those of `HEADLINES` and `SHARED`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hstnn_deploy.errors import UsageError, nearest
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import several
from hstnn_deploy.profile.show.cells import digits
from hstnn_deploy.profile.show.report import protocol
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet

HEADLINES: dict[str, dict[str, tuple[str, str, float]]] = {
    "train": {
        "epoch": ("seconds", "epoch", 1.0),
        "train_pass": ("seconds", "training", 1.0),
        "eval_pass": ("seconds", "evaluation", 1.0),
    },
    "infer": {
        "latency_p50": ("milliseconds", "median", 1e3),
        "latency_p90": ("milliseconds", "p90", 1e3),
        "latency_p99": ("milliseconds", "p99", 1e3),
    },
    "step": {
        "step_p50": ("milliseconds", "median", 1e3),
        "step_p90": ("milliseconds", "p90", 1e3),
        "step_p99": ("milliseconds", "p99", 1e3),
    },
}
"""By phase, what a table shows of a record first: heading, column and scale of a value. JSON and CSV hold all."""
SHARED: dict[str, tuple[str, str, float]] = {
    "throughput": ("per second", "samples", 1.0),
    "host_ram_peak": ("memory, MB", "RAM", 1e-6),
    "cuda_allocated_peak": ("memory, MB", "torch CUDA", 1e-6),
    "cuda_process": ("memory, MB", "CUDA", 1e-6),
    "cpu_cores": ("CPU", "cores", 1.0),
}
"""What a table shows of every phase after that."""

_SCALES = {"s": {"s": 1.0, "ms": 1e3, "us": 1e6}, "B": {"b": 1.0, "kb": 1e-3, "mb": 1e-6, "gb": 1e-9}}
"""By a value's unit, the units that a metric's name may end in."""
_SHOWN = {"b": "B", "kb": "kB", "mb": "MB", "gb": "GB"}
"""How such an ending is written as a unit."""


class Metric(NamedTuple):
    """A value that records hold, in a unit of the user's choice."""

    name: str
    value: str
    """The value's name in a record."""
    scale: float
    base: str
    """The unit that records have it in; empty where it was not measured."""
    unit: str
    """The unit in which `of` returns it."""

    def of(self, record: Record) -> float | None:
        """Return the number, or None where it was not measured."""
        value = record.value(self.value)
        return value.number * self.scale if isinstance(value, Measured) else None


def names(records: Sequence[Record]) -> dict[str, str]:
    """Return the values that some records hold, measured or not, with the unit where one was measured."""
    units: dict[str, str] = {}
    for record in records:
        for value in record.values:
            units[value.name] = value.unit if isinstance(value, Measured) else units.get(value.name, "")
    return units


def metric(name: str, records: Sequence[Record]) -> Metric | None:
    """Return what a user means by a metric's name, such as "epoch", "p99_ms" or "host_ram_peak_mb".

    None where no record has such a value.
    """
    known = names(records)
    stem, _, suffix = name.rpartition("_")
    for candidate, unit in ((name, ""), (stem, suffix.lower())):
        for full in (candidate, f"latency_{candidate}"):
            if full in known and (not unit or unit in _SCALES.get(known[full], {})):
                base = known[full]
                return Metric(name, full, _SCALES[base][unit] if unit else 1.0, base, _SHOWN.get(unit, unit) or base)
    return None


def find_metric(name: str, records: Sequence[Record]) -> Metric:
    """Return what `metric` returns.

    Raises:
        UsageError: no record has such a value.
    """
    found = metric(name, records)
    if found is None:
        raise UsageError(f"unknown metric {name!r}", nearest(name, names(records)))
    return found


def network(record: Record) -> tuple[str, float | None]:
    """Return the kind of a record's network, and its ratio where the kind has one and selection has been done."""
    asked = record.configuration
    kind = asked.kind
    with_ratio = kind in {"ffs", "hybrid"} and asked.stage != "adapt"
    return kind, float(asked.recipe["ratio"]) if with_ratio else None


_NOT_IDENTITY = {
    *("subject", "recipe", "network", "sizes", "no_cuda", "ckpt", "ckpt_sha256", "data_dir", "seconds", "max_steps"),
    *("instance", "repeat", "foreign"),
}


def identity(record: Record) -> tuple[tuple[str, Any], ...]:
    """Return what two records have in common that measure the same thing, whatever checkpoint or seed it was."""
    plain = record.configuration.plain()
    kind, ratio = network(record)
    asked = [(key, str(value)) for key, value in plain.items() if key not in _NOT_IDENTITY]
    if record.configuration.foreign is not None:
        asked.append(("inputs", str(record.configuration.foreign["inputs"])))
    # The precision is asked for like the rest, though it is a key of the recipe.
    asked += [
        ("precision", record.configuration.precision),
        ("mode", str((plain["recipe"].get("network") or {}).get("mode"))),
    ]
    return (("recipe", plain["recipe"].get("name", plain["subject"])), ("kind", kind), ("ratio", ratio), *asked)


_OF_A_NETWORK = {"recipe", "kind", "ratio", "stage", "steps", "inputs"}


def setting(record: Record) -> tuple[tuple[str, Any], ...]:
    """Return what two records have in common that were measured in the same way, whatever network it was."""
    return tuple((key, value) for key, value in identity(record) if key not in _OF_A_NETWORK)


def label(record: Record) -> str:
    """Return what network a record is of, such as "digits hybrid 0.25, seed 1111"; without a checkpoint no seed."""
    asked = record.configuration
    kind, ratio = network(record)
    seed = f", seed {asked.recipe.get('seed')}" if asked.ckpt and asked.foreign is None else ""
    return f"{asked.recipe.get('name', asked.subject)} {kind}" + ("" if ratio is None else f" {ratio:g}") + seed


_PHASES = {"step": "a training step", "select": "selection", "restore": "restoration"}


def title(record: Record) -> str:
    """Return one line that tells a record's configuration from others, without the path of a checkpoint."""
    asked = record.configuration
    what = f"infer, {asked.engine}" if asked.phase == "infer" else _PHASES.get(asked.phase, asked.phase)
    batch = f", batch {asked.batch}" if asked.batch else ""
    return f"{label(record)}: {what}{batch}, {asked.device}"


def sheets(records: Sequence[Record]) -> list[Sheet]:
    """Return a table for each phase of work, a row per configuration; the last says how all were measured.

    Of several processes of a configuration a row gives the median.
    """
    phases: dict[str, list[Record]] = {}
    for record in sorted(several.middle(records), key=lambda one: one.configuration.phase != "train"):
        phases.setdefault(record.configuration.phase, []).append(record)
    names = {"train": "training", "infer": "inference", "step": "a training step"}
    made = [
        _sheet(f"Cost of {names.get(phase, phase)}", some, HEADLINES.get(phase, {})) for phase, some in phases.items()
    ]
    if made:
        made[-1].notes.extend(protocol([record for record in records if record.status == "measured"]))
    return made


def _sheet(name: str, records: Sequence[Record], headlines: dict[str, tuple[str, str, float]]) -> Sheet:
    notes: list[str] = []
    shown = {value: how for value, how in (headlines | SHARED).items() if value in names(records)}
    columns = [
        *(Column(heading, numeric=False) for heading in ("network", "engine", "device")),
        Column("batch"),
        *(Column(heading, group) for group, heading, _ in shown.values()),
    ]
    rows = []
    for record in records:
        asked = record.configuration
        row = [
            *map(Entry, (label(record), asked.engine, asked.device)),
            Entry(str(asked.batch) if asked.batch else NONE, asked.batch or None),
        ]
        if record.status != "measured":
            row += [Entry(f"{record.status}{_mark(notes, record.reason)}"), *[Entry("")] * (len(shown) - 1)]
        else:
            row += [_entry(record.value(value), scale, notes) for value, (_, _, scale) in shown.items()]
        rows.append(row)
    return Sheet(name, columns, rows, [f"[{number}] {note}." for number, note in enumerate(notes, 1)])


def _entry(value: Value, scale: float, notes: list[str]) -> Entry:
    if not isinstance(value, Measured):
        return Entry(f"{NONE}{_mark(notes, value.reason)}")
    # What was not run whole is marked; the record has the rest.
    return Entry(("~" if "extrapolated" in value.note else "") + digits(value.number * scale), value.number * scale)


def _mark(notes: list[str], note: str) -> str:
    if note not in notes:
        notes.append(note)
    return f" [{notes.index(note) + 1}]"


def timeline(plain: dict[str, Any]) -> dict[str, Any] | None:
    """Return the memory over time of a record as plain data, or None where it has none.

    Returns:
        `t`, seconds from the start; `columns`, bytes at each of them by name; `spans`, the phases with `name`, `start`
        and `seconds`.
    """
    columns = (plain.get("timeline") or {}).get("columns") or {}
    memory = {name: values for name, values in columns.items() if name in _MEMORY_COLUMNS}
    if not memory or not columns.get("t"):
        return None
    spans = [{key: span.get(key) for key in ("name", "start", "seconds")} for span in plain.get("spans") or []]
    return {"t": columns["t"], "columns": memory, "spans": spans}


_MEMORY_COLUMNS = ("rss", "uss", "pss", "gpu_process", "gpu_used")


def calls(plain: dict[str, Any]) -> list[float]:
    """Return the seconds of every call of a record as plain data; empty where it does not hold them."""
    return [each for each in (plain.get("series") or {}).get("latency") or [] if each is not None]


def latencies(plain: dict[str, Any]) -> list[list[float]]:
    """Return what a record tells of its calls' times: pairs of a time in seconds and the share of calls within it.

    From the time of every call where the record has them, else from its percentiles.
    """
    shares = {}
    for value in plain.get("values", []):
        percentile = value["name"].removeprefix("latency_p")
        if percentile.isdigit() and value.get("value") is not None:
            shares[int(percentile) / 100] = value["value"]
    ordered = sorted(calls(plain))
    if ordered:
        # More than a picture can show says nothing more.
        step = max(1, len(ordered) // 400)
        return [[ordered[place], (place + 1) / len(ordered)] for place in range(0, len(ordered), step)]
    return [[shares[share], share] for share in sorted(shares)]
