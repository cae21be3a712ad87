"""The table of a foreign network: a row per quantity, a column per way it ran."""

from collections.abc import Sequence

from rich.console import RenderableType

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.show.cells import Form, Notes
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.screen import Table

_ROWS: tuple[tuple[tuple[str, ...], str, Form], ...] = (
    (("latency_p50", "step_p50"), "median", cells.duration),
    (("latency_iqr", "step_iqr"), "  spread (quartiles)", cells.duration),
    (("latency_p99", "step_p99"), "  p99", cells.duration),
    (("step_forward",), "  forward, loss", cells.duration),
    (("step_backward",), "  backward", cells.duration),
    (("step_optimiser",), "  optimiser", cells.duration),
    (("first_call", "first_step"), "first run", cells.duration),
    (("load",), "loading", cells.duration),
    (("throughput",), "samples per second", cells.digits),
    (("host_ram_peak",), "main memory, peak", cells.memory),
    (("host_ram_added",), "  added by loading and running", cells.memory),
    (("cpu_cores",), "CPU cores in use", cells.cores),
    (("cuda_process",), "CUDA memory, process", cells.memory),
    (("cuda_allocated_peak",), "  torch allocated, peak", cells.memory),
    (("file_bytes",), "file size", cells.prefixed),
    (("parameters",), "parameters", cells.prefixed),
    (("buffers",), "buffers", cells.prefixed),
    (("macs",), "operations, spikes, energy", cells.prefixed),
)
_UNITS = {"file_bytes": "B"}


def table(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of one foreign network on the same inputs.

    Args:
        records: its records.
        notes: gets footnotes.
    """
    first = records[0].configuration
    heads = ["", *(f">{_column(record)}" for record in records)]
    made = Table(heads, title=f"{first.subject}: {first.network}", whole=True)
    for place, (names, label, form) in enumerate(_ROWS):
        values = [_value(record, names) for record in records]
        if not any(values):
            continue
        # What a figure consists of is left out where there is no figure; the row above it says why.
        if label.startswith("  ") and not any(isinstance(value, Measured) for value in values):
            continue
        shown = []
        for record, value in zip(records, values, strict=True):
            if record.status != "measured":
                shown.append(f"{record.status}{notes.mark(record.reason)}" if place == 0 else "")
            else:
                unit = _UNITS.get(names[0], "")
                shown.append(f"{notes.show(value, form)}{unit if isinstance(value, Measured) else ''}" if value else "")
        made.add_row(label, *shown)
    return made


def _column(record: Record) -> str:
    asked = record.configuration
    parts = ["training step" if asked.phase == "step" else "inference", asked.device]
    if asked.threads is not None:
        parts.append(f"{asked.threads} thr.")
    return ", ".join(parts)


def _value(record: Record, names: Sequence[str]) -> Value | None:
    """Return the first value of these names; None where the record has none of them."""
    if record.status != "measured":
        return NotMeasured(names[0], record.reason) if names[0] == _ROWS[0][0][0] else None
    return next((value for name in names for value in record.values if value.name == name), None)


def protocol(records: Sequence[Record]) -> list[str]:
    """Return how foreign networks were measured, in lines."""
    some = [record for record in records if record.configuration.foreign is not None]
    said = []
    if any(record.configuration.phase == "infer" for record in some):
        calls = sorted({record.facts["calls"] for record in some if record.configuration.phase == "infer"})
        between = f"{calls[0]}" if len(calls) == 1 else f"{calls[0]} to {calls[-1]}"
        said.append(f"Inference: {between} calls back to back, from input in host memory to output in host memory.")
    steps = [record for record in some if record.configuration.phase == "step"]
    if steps:
        said.append(
            f"Training step: forward pass, loss ({steps[0].facts['loss']}), backward pass, SGD with learning rate 0;"
            " its input is already on the device."
        )
    for record in some:
        if states := record.facts.get("states"):
            what = "training" if record.configuration.phase == "step" else "inference"
            said.append(f"States of {record.configuration.subject}, {what}: {states}.")
    return list(dict.fromkeys(said))
