"""The same tables as CSV, Markdown and JSON; `latex` has them for papers."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from statistics import fmean, pvariance
from typing import Any

import hstnn_deploy
from hstnn_deploy.errors import UsageError
from hstnn_deploy.metrics import shown
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.report import costs, networks, robust, variation
from hstnn_deploy.report.aggregate import Cell, Study
from hstnn_deploy.report.collect import Collected, Run
from hstnn_deploy.report.page import provenance
from hstnn_deploy.report.sheets import Sheet, by_seed, summary

SCHEMA, VERSION = "hstnn-report", 1


def markdown(sheets: Sequence[Sheet]) -> str:
    """Return tables as Markdown (pipe tables, as GitHub and pandoc read them)."""
    parts = []
    for sheet in sheets:
        names = [
            _markdown(f"{column.group}: {column.name}" if column.group else column.name) for column in sheet.columns
        ]
        rule = ["---:" if column.numeric else ":---" for column in sheet.columns]
        rows = [[_markdown(entry.text) for entry in row] for row in sheet.rows]
        lines = [f"| {' | '.join(row)} |" for row in (names, rule, *rows)]
        notes = [f"- {_markdown(note)}" for note in sheet.notes]
        parts.append("\n".join([f"### {_markdown(sheet.title)}", "", *lines, *(["", *notes] if notes else [])]))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text)


def csv_results(studies: Sequence[Study]) -> str:
    """Return every cell of every study as a row: all there is to know of it, in full precision."""
    seeds = sorted({seed for study in studies for seed in study.seeds})
    names = ["study", "protocol", "metric", "network", "kind", "recurrent", "ratio", *map(str, seeds)]
    names += ["n", "mean", "sd", "half_width_95", "published", "difference", "complete", "missing"]
    rows = [
        [
            study.title,
            study.protocol,
            study.task.metric,
            f"{cell.network.family}{' redundant' if cell.stage == 'adapt' else ''}",
            cell.network.kind,
            "" if cell.network.kind == "snn" else cell.network.recurrent,
            cell.network.ratio,
            *(cell.values.get(seed) for seed in seeds),
            *cell.summary,
            cell.published,
            cell.difference,
            "yes" if cell.whole else "no",
            "; ".join(f"{seed}: {reason}" for seed, reason in cell.missing.items()),
        ]
        for study in studies
        for cell in study.cells
    ]
    return _csv([names, *rows])


def csv_records(records: Sequence[Record]) -> str:
    """Return every value of every record as a row."""
    names = ["record", "subject", "network", "phase", "engine", "batch", "steps", "device", "status"]
    rows: list[list[Any]] = []
    for number, record in enumerate(records, 1):
        asked = record.configuration
        about = [
            number,
            asked.subject,
            asked.network,
            asked.phase,
            asked.engine,
            asked.batch,
            asked.steps,
            asked.device,
        ]
        if not record.values:
            rows.append([*about, record.status, "", None, "", "", record.reason])
        for value in record.values:
            rest = [value.number, value.unit, value.source, value.note] if isinstance(value, Measured) else None
            rows.append([*about, record.status, value.name, *(rest or [None, "", "", value.reason])])  # type: ignore[union-attr]
    return _csv([[*names, "name", "value", "unit", "source", "note"], *rows])


def csv_demo(study: Study, family: str) -> str:
    """Return a study in the layout of the demo's results files: one column family, two decimals
    (four digits of an error, which the demo does not have).

    A row each for the recurrent network, every ratio ascending and the spiking network; `avg` is the mean and `squ` the
    population variance over the seeds, both empty where a seed is missing.
    """
    lines = []
    for label in study.rows:
        row = study.row(label)
        cell = row.get(family) or next((one for one in row.values() if one.network.ratio is None), None)
        if cell is None:
            continue
        values = [cell.values.get(seed) for seed in study.seeds]
        there = [value for value in values if value is not None]
        ends = [fmean(there), pvariance(there)] if cell.whole else [None, None]
        name = cell.network.kind if cell.network.ratio is None else _demo_ratio(cell.network.ratio)
        lines.append([name, *("" if value is None else shown(study.task.metric, value) for value in [*values, *ends])])
    return _csv([["type", *map(str, study.seeds), "avg", "squ"], *lines])


def _demo_ratio(ratio: float) -> str:
    """Return a ratio with at least two decimals: 0.5 is printed as 0.50."""
    return max(f"{ratio:g}", f"{ratio:.2f}", key=len)


def demo_files(studies: Sequence[Study]) -> dict[str, str]:
    """Return the demo's files by name: one for each study and kind that has a ratio.

    Raises:
        UsageError: there is no run.
    """
    if not studies:
        raise UsageError("--csv-layout demo needs runs, but there are only profile records", "leave out the option")
    made = {}
    for study in studies:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", study.title).strip("-")
        for family in study.families or ["pure"]:
            made[f"{name}-{family}.csv"] = csv_demo(study, family)
    return made


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def every_sheet(studies: Sequence[Study], collected: Collected) -> list[Sheet]:
    """Return all tables of a report: studies, networks, variation, robustness, trade-off and profile records."""
    of_runs = [make(study) for study in studies for make in (summary, by_seed)]
    varied = [sheet for measured in collected.variations.values() for sheet in variation.sheets(measured)]
    records = [profile.record for profile in collected.profiles]
    each_network = networks.sheet(collected)
    return [
        *of_runs,
        *([] if each_network is None else [each_network]),
        *varied,
        *robust.sheets(collected),
        *costs.sheets(records),
    ]


def plain(studies: Sequence[Study], collected: Collected) -> dict[str, Any]:
    """Return everything as plain data; None stands for what is not known."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "hstnn_deploy": hstnn_deploy.__version__,
        "studies": [_plain_study(study) for study in studies],
        "variations": [measured.plain() for measured in collected.variations.values()],
        "robustness": [each.plain() for each in collected.robustness.values()],
        "tradeoff": robust.plain(robust.compared(collected)),
        "records": [profile.plain for profile in collected.profiles],
        "provenance": provenance.plain(provenance.sources(studies, collected)),
        "problems": collected.problems,
    }


def _plain_study(study: Study) -> dict[str, Any]:
    published = study.published
    return {
        "title": study.title,
        "recipe": study.runs[0].recipe.name,
        "protocol": study.protocol,
        "metric": study.task.metric,
        "unit": study.task.unit.strip(),
        "higher_is_better": study.task.higher_is_better,
        "seeds": study.seeds,
        "cells": [plain_cell(cell) for cell in study.cells],
        "published": None if published is None else published.model_dump(mode="json"),
        "notes": study.notes,
    }


def plain_cell(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain data."""
    summary = cell.summary
    return {
        "network": str(cell.network),
        "kind": cell.network.kind,
        "recurrent": cell.network.recurrent,
        "family": cell.network.family,
        "step": cell.network.step,
        "ratio": cell.network.ratio,
        "stage": cell.stage,
        "n": summary.number,
        "mean": summary.mean,
        "sd": summary.sd,
        "half_width_95": summary.half,
        "published": cell.published,
        "difference": cell.difference,
        "complete": cell.whole,
        "missing": {str(seed): reason for seed, reason in cell.missing.items()},
        "runs": [_plain_run(run) for run in cell.runs.values()],
    }


def _plain_run(run: Run) -> dict[str, Any]:
    return {
        "seed": run.recipe.seed,
        "value": run.value,
        "path": str(run.path),
        "units": [list(size) for size in run.sizes],
        "figures": run.figures,
        "warnings": run.warnings,
        "stability": None if run.selection is None else run.selection.mean_stability_of_kept,
    }


def dumps(value: Any) -> str:
    """Return plain data as JSON text."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
