"""The tables of a report: the paper's columns, training, selection and export, inference, work. They fit 80 columns.

Records of processes that ran at the same time are one column or row, from the least to the most of them.
"""

from collections.abc import Sequence

from rich.console import RenderableType

from hstnn_deploy.profile import resource_table
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.show.cells import Form, Notes
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.screen import Table

Together = Sequence[Record]
"""Records of one configuration, of several where instances ran at the same time."""

_TRAINING: tuple[tuple[str, str, Form], ...] = (
    ("train_pass", "training pass", cells.seconds),
    ("train_steps", "  steps measured", cells.digits),
    ("eval_pass", "evaluation pass", cells.seconds),
    ("eval_steps", "  steps measured", cells.digits),
    ("epoch", "epoch (both passes)", cells.seconds),
    ("throughput", "{unit}", cells.digits),
    ("step_p50", "training step, median", cells.duration),
    ("step_p99", "  p99", cells.duration),
    ("step_wait", "  waits for data", cells.duration),
    ("step_transfer", "  transfer", cells.duration),
    ("step_forward", "  forward, loss", cells.duration),
    ("step_backward", "  backward", cells.duration),
    ("step_optimiser", "  clipping, optimiser", cells.duration),
    ("host_ram_peak", "main memory, peak", cells.memory),
    ("host_pss_peak", "  proportional (PSS)", cells.memory),
    ("host_ram_before", "  before training", cells.memory),
    ("cpu_cores", "CPU cores in use", cells.cores),
    ("cuda_process", "CUDA memory, process", cells.memory),
    ("cuda_allocated_peak", "  torch allocated, peak", cells.memory),
    ("cuda_reserved_peak", "  torch reserved, peak", cells.memory),
    ("cuda_graph_pools", "  for CUDA graphs", cells.memory),
    ("gpu_busy", "GPU busy", cells.percent),
    ("gpu_energy", "GPU energy, this pass", cells.joules),
)

_SELECTION: tuple[tuple[str, str, Form], ...] = (
    ("selection", "selection", cells.seconds),
    ("traces", "  Hessian traces", cells.seconds),
    ("probe_p50", "    per probe, median", cells.duration),
    ("ranking", "  ranking, bootstraps", cells.seconds),
    ("cutting", "  cutting", cells.duration),
    *(row for row in _TRAINING if row[0].startswith(("host_", "cpu_", "cuda_", "gpu_"))),
)

_EXPORT: tuple[tuple[str, str, Form], ...] = (
    *(
        (f"export_{form}{end}", f"{form}{label}", show)
        for form in ("onnx", "torchscript", "pt2")
        for end, label, show in (("", "", cells.seconds), ("_size", ", size", cells.memory))
    ),
    ("host_ram_peak", "main memory, peak", cells.memory),
)

_QUANTITIES = {"train": _TRAINING, "restore": _TRAINING, "select": _SELECTION, "export": _EXPORT}
_TITLES = {"train": "Training", "restore": "Restoration", "select": "Selection", "export": "Export"}
_HEADS = {"train": "one epoch", "restore": "one epoch", "select": "once", "export": "once"}

MORE = "--json"
"""Where a table that is too wide says that all of it is."""

_PUBLISHED = ("experiment", "CPU cores", "CUDA memory", "main memory", "epoch time")
"""The columns of the paper's resource table."""

_STEPS = ("train_steps", "eval_steps")
_CUDA = ("cuda_allocated_peak", "cuda_reserved_peak", "cuda_process")


def quantities(columns: Sequence[Together], notes: Notes) -> RenderableType:
    """Return the table of one network's training, selection or export: a row per quantity, a column per way it ran."""
    first = columns[0][0].configuration
    row = resource_table.matching(first.experiment) if first.phase == "train" else None
    row = row if row and row.figures else None
    title = f"{_TITLES[first.phase]}: {first.subject}, {first.network}"
    if first.phase != "export":
        title += f", batch {first.batch}, T {first.steps}"
    heads = [_HEADS[first.phase], *(f">{column_name(together)}" for together in columns)]
    heads += [] if row is None else [f">{'published' if row.source else 'paper'}: {row.experiment}"]
    table = Table(heads, title=title, whole=True)
    published = _published(row)
    for place, (name, label, form) in enumerate(_QUANTITIES[first.phase]):
        trial = Notes()
        trial.texts = notes.texts.copy()
        shown = [_cell(together, name, form, trial, first=place == 0) for together in columns]
        # What a figure consists of is left out where there is no figure; the row above it says why.
        part = label.startswith("  ") or name.startswith("gpu_")
        if not any(shown) or (part and all(cell.startswith("n/a") for cell in shown)):
            continue
        notes.texts = trial.texts
        label = label.format(unit=_unit(columns, name))
        table.add_row(label, *shown, *([published.get(name, "")] if row else []))
    return table


def column_name(together: Together) -> str:
    """Return what tells one way of running from another: device, threads, precision, instances."""
    asked = together[0].configuration
    parts = [" + ".join(asked.at_once) + " at once" if asked.at_once else asked.device]
    if asked.precision != "fp32":
        parts.append(asked.precision)
    if asked.threads is not None:
        parts.append(f"{asked.threads} thr.")
    if asked.instances > 1:
        parts.append(f"{asked.instances} instances")
    return ", ".join(parts)


def inference(rows: Sequence[Together], notes: Notes) -> RenderableType:
    """Return the table of one network's inference on one device: a row per engine and batch size."""
    first = rows[0][0].configuration
    on_gpu = first.device != "cpu"
    title = f"Inference: {first.subject}, {first.network}, T {first.steps}, {column_name(rows[0])}"
    heads = ["engine", ">batch", ">median\nms", ">p90\nms", ">p99\nms", ">samples\n/s", ">RAM\nMB", ">CPU\ncores"]
    heads.append(">CUDA MB: allocated/\nreserved/process" if on_gpu else ">CUDA\nMB")
    table = Table(heads, title=title, drop=["CPU\ncores", "p90\nms"], more=MORE)
    for together in rows:
        engine, batch = together[0].configuration.engine, str(together[0].configuration.batch)
        if problem := _problem(together, notes):
            table.add_row(engine, batch, problem, *[""] * 6)
            continue
        speeds = [_cell(together, f"latency_p{share}", cells.milliseconds, notes) for share in (50, 90, 99)]
        slowest = together[0].value("latency_p99")
        if isinstance(slowest, Measured) and slowest.note:
            speeds[2] += notes.mark(f"p99 {slowest.note}")
        rest = [
            _cell(together, name, form, notes)
            for name, form in (
                ("throughput", cells.digits),
                ("host_ram_peak", cells.megabytes),
                ("cpu_cores", cells.cores),
            )
        ]
        cuda = [_cell(together, name, cells.megabytes, notes) for name in _CUDA]
        table.add_row(engine, batch, *speeds, *rest, "/".join(dict.fromkeys(cuda)))
    return table


def work(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of what networks compute for one sample: a row per network, and one per group of its units."""
    heads = ["network", ">parameters", ">dense MACs", ">MACs", ">ACs", ">spikes\n/step", ">energy\nJ"]
    table = Table(heads, title="Work for one sample", drop=["dense MACs", "parameters"], more=MORE)
    for record in records:
        asked = record.configuration
        name = f"{asked.subject}, {asked.network}, T {asked.steps}"
        if problem := _problem([record], notes):
            table.add_row(name, problem, *[""] * 5)
            continue
        shown = [notes.show(record.value(key), cells.prefixed) for key in ("parameters", "macs_dense", "macs", "acs")]
        note = record.value("acs").plain().get("note", "")
        energy = notes.show(record.value("energy"), cells.prefixed)
        shown[3] += notes.mark(f"operations: {note}") if note else ""
        table.add_row(name, *shown, "", energy, style="bold")
        if isinstance(rate := record.value("spike_rate.input"), Measured):
            table.add_row("  input, as spikes", "", "", "", "", cells.percent(rate.number), "")
        for value in record.values:
            if value.name.startswith("macs_dense."):
                part = value.name.partition(".")[2]
                rate = record.value(f"spike_rate.{part}")
                cells_ = [
                    notes.show(record.value(f"{key}.{part}"), cells.prefixed) for key in ("macs_dense", "macs", "acs")
                ]
                spikes = cells.percent(rate.number) if isinstance(rate, Measured) else ""
                table.add_row(f"  {part}", "", *cells_, spikes, "")
    return table


def largest_batches(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of one network's largest batches that fit: a row per way of running."""
    first = records[0].configuration
    title = f"Largest batch that fits: {first.subject}, {first.network}, T {first.steps}"
    heads = ["phase", "device", ">largest\nbatch", ">does not\nfit", ">RAM\nMB", ">CUDA\nMB"]
    table = Table(heads, title=title, more=MORE)
    for record in records:
        asked = record.configuration
        phase = f"{asked.phase}, {asked.engine}" if asked.phase == "infer" else asked.phase
        if problem := _problem([record], notes):
            table.add_row(phase, column_name([record]), problem, *[""] * 3)
            continue
        first_not = record.value("smallest_batch_not")
        why = str(first_not.plain().get("note", ""))
        shown = [
            notes.show(record.value("largest_batch"), cells.digits),
            notes.show(first_not, cells.digits) + (notes.mark(f"does not fit: {why}") if why else ""),
            notes.show(record.value("host_ram_peak"), cells.megabytes),
            notes.show(record.value("cuda_reserved_peak"), cells.megabytes),
        ]
        table.add_row(phase, column_name([record]), *shown)
    return table


def experiments(rows: Sequence[Together], notes: Notes) -> RenderableType:
    """Return measured trainings in the columns of the paper's resource table, the published row under each."""
    title = "Resources in the paper's columns (a range: lowest to highest of the instances)"
    table = Table(_PUBLISHED, title=title, more=MORE)
    for together in rows:
        asked = together[0].configuration
        row = resource_table.matching(asked.experiment)
        assert row is not None
        name = f"{row.experiment}: {asked.kind}, {column_name(together)}"
        if problem := _problem(together, notes):
            table.add_row(name, problem, "", "", "")
        else:
            shown = [
                _cell(together, key, form, notes)
                for key, form in (
                    ("cpu_cores", cells.cores),
                    ("cuda_process", cells.memory),
                    ("host_ram_peak", cells.memory),
                    ("epoch", cells.seconds),
                )
            ]
            table.add_row(name, *shown)
        source = notes.mark(f"{row.experiment}: {row.source}") if row.source else ""
        table.add_row(f"  published{source}", *_published_row(row), style="dim")
    return table


def _published(row: resource_table.Row | None) -> dict[str, str]:
    """Return the paper's figures under the names of what they compare with."""
    if row is None:
        return {}
    names = ("cpu_cores", "cuda_process", "host_ram_peak", "epoch")
    return dict(zip(names, _published_row(row), strict=True))


_UNPUBLISHED = "not published"


def _published_row(row: resource_table.Row) -> tuple[str, str, str, str]:
    note = f" {row.note}" if row.note else ""
    return (
        row.cpu_cores or _UNPUBLISHED,
        f"{cells.between(row.cuda_mb)} MB" if row.cuda_mb else _UNPUBLISHED,
        f"{cells.between(row.ram_gb)} GB" if row.ram_gb else _UNPUBLISHED,
        f"{cells.between(row.epoch_s)} s{note}" if row.epoch_s else _UNPUBLISHED,
    )


def _problem(together: Together, notes: Notes) -> str:
    """Return what to show instead of figures where a process gave none; "" where all did."""
    for record in together:
        if record.status != "measured":
            return record.status + notes.mark(record.reason)
    return ""


def _unit(columns: Sequence[Together], name: str) -> str:
    values = [record.value(name) for together in columns for record in together]
    unit = next((value.unit for value in values if isinstance(value, Measured)), "samples/s")
    return unit.replace("/s", " per second")


def _cell(together: Together, name: str, form: Form, notes: Notes, first: bool = False) -> str:
    if problem := _problem(together, notes):
        return problem if first else ""
    if name in _STEPS:
        return _steps(together[0], name)
    changes = [record.value("cuda_device_change") for record in together]
    if name == "cuda_process" and all(isinstance(change, Measured) for change in changes):
        change = changes[0]
        assert isinstance(change, Measured)
        return notes.between(changes, form) + notes.mark(f"NVML device memory: {change.note}")
    return notes.between([record.value(name) for record in together], form)


def _steps(record: Record, name: str) -> str:
    """Return how many steps of a pass were measured, such as "5 x 13" whole passes or "40 of 540" steps."""
    done, whole, repeats = (record.facts.get(f"{name}{end}", 0) for end in ("", "_of", "_repeats"))
    if not done:
        return "not recorded"
    if done < whole:
        return f"{done} of {whole}"
    return f"{repeats} x {whole}" if repeats > 1 else f"all {whole}"
