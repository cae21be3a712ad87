"""The tables of a report: one for training with the paper's row beside it, one for inference. They fit 80 columns."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hstnn_deploy.profile import cells, paper
from hstnn_deploy.profile.cells import Form, Notes
from hstnn_deploy.profile.records import Record
from hstnn_deploy.profile.values import Measured

_TRAINING: tuple[tuple[str, str, Form], ...] = (
    ("train_pass", "training pass", cells.seconds),
    ("train_steps", "  steps measured", cells.digits),
    ("eval_pass", "evaluation pass", cells.seconds),
    ("eval_steps", "  steps measured", cells.digits),
    ("epoch", "epoch: their sum", cells.seconds),
    ("throughput", "samples per second", cells.digits),
    ("host_ram_peak", "main memory, peak", cells.memory),
    ("host_ram_before", "  of it before training", cells.memory),
    ("cpu_cores", "CPU cores in use", cells.cores),
    ("cuda_process", "CUDA memory, process", cells.memory),
    ("cuda_allocated_peak", "  torch allocated, peak", cells.memory),
    ("cuda_reserved_peak", "  torch reserved, peak", cells.memory),
)

_STEPS = ("train_steps", "eval_steps")
_CUDA = ("cuda_allocated_peak", "cuda_reserved_peak", "cuda_process")


def training(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of one network's training: a row per quantity, a column per device, and the paper's."""
    first = records[0].configuration
    row = paper.matching(first.experiment)
    title = f"Training: {first.subject}, {first.network}, batch {first.batch}, T {first.steps}"
    table = _table()
    table.add_column("one epoch", no_wrap=True)
    for record in records:
        table.add_column(record.configuration.device, justify="right")
    if row is not None:
        table.add_column(f"paper: {row.experiment}", justify="right")
    published = _published(row)
    for name, label, form in _TRAINING:
        shown = [_cell(record, name, form, notes, first=name == _TRAINING[0][0]) for record in records]
        table.add_row(label, *map(escape, shown), *([published.get(name, "")] if row else []))
    return _titled(title, table)


def inference(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of one network's inference on one device: a row per engine and batch size."""
    first = records[0].configuration
    on_gpu = first.device != "cpu"
    title = f"Inference: {first.subject}, {first.network}, T {first.steps}, {first.device}"
    table = _table()
    table.add_column("engine", no_wrap=True)
    for column in ("batch", "median\nms", "p90\nms", "p99\nms", "samples\n/s", "RAM\nMB", "CPU\ncores"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(
        "CUDA MB: allocated/\nreserved/process" if on_gpu else "CUDA\nMB", justify="right", no_wrap=not on_gpu
    )
    for record in records:
        engine, batch = record.configuration.engine, str(record.configuration.batch)
        if record.status == "failed":
            table.add_row(engine, batch, escape("failed" + notes.mark(record.reason)), *[""] * 6)
            continue
        speeds = [_cell(record, f"latency_p{share}", cells.milliseconds, notes) for share in (50, 90, 99)]
        slowest = record.value("latency_p99")
        if isinstance(slowest, Measured) and slowest.note:
            speeds[2] += notes.mark(f"p99 {slowest.note}")
        rest = [
            _cell(record, name, form, notes)
            for name, form in (
                ("throughput", cells.digits),
                ("host_ram_peak", cells.megabytes),
                ("cpu_cores", cells.cores),
            )
        ]
        cuda = [_cell(record, name, cells.megabytes, notes) for name in _CUDA]
        table.add_row(engine, batch, *map(escape, [*speeds, *rest, "/".join(dict.fromkeys(cuda))]))
    return _titled(title, table)


def published() -> RenderableType:
    """Return the paper's whole resource table, for where no experiment of it was measured."""
    table = _table()
    for column in ("experiment", "CPU cores", "CUDA memory", "main memory", "epoch time"):
        table.add_column(column)
    for row in paper.ROWS:
        values = _published(row)
        names = ("cpu_cores", "cuda_process", "host_ram_peak", "epoch")
        table.add_row(row.experiment, *(values[name] for name in names))
    return _titled("Published resources, for comparison", table, f"On {paper.MACHINE}; {paper.CAVEAT}.")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)


def _titled(title: str, *below: RenderableType) -> RenderableType:
    # Not the table's own title, which would be wrapped to the table's width.
    return Group(Text(title, style="bold"), *below)


def _published(row: paper.Row | None) -> dict[str, str]:
    """Return the paper's figures under the names of what they compare with."""
    if row is None:
        return {}
    return {
        "cpu_cores": row.cpu_cores,
        "cuda_process": f"{cells.between(row.cuda_mb)} MB",
        "host_ram_peak": f"{cells.between(row.ram_gb)} GB",
        "epoch": f"{cells.between(row.epoch_s)} s" + (f" {row.note}" if row.note else ""),
    }


def _cell(record: Record, name: str, form: Form, notes: Notes, first: bool = False) -> str:
    if record.status == "failed":
        return "failed" + notes.mark(record.reason) if first else ""
    if name in _STEPS:
        return _steps(record, name)
    change = record.value("cuda_device_change")
    if name == "cuda_process" and isinstance(change, Measured):
        return form(change.number) + notes.mark(f"{change.source}: {change.note}")
    return notes.show(record.value(name), form)


def _steps(record: Record, name: str) -> str:
    """Return how many steps of a pass were measured, such as "5 x 13" whole passes or "40 of 540" steps."""
    done, whole, repeats = (record.facts[f"{name}{end}"] for end in ("", "_of", "_repeats"))
    if done < whole:
        return f"{done} of {whole}"
    return f"{repeats} x {whole}" if repeats > 1 else f"all {whole}"
