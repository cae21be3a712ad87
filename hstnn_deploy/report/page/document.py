"""The report as one HTML page that needs nothing but itself: tables in the page, pictures drawn from data within it."""

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import hstnn_deploy
from hstnn_deploy.metrics import titled
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.report import costs, networks, robust, sheets, variation
from hstnn_deploy.report.aggregate import Study
from hstnn_deploy.report.collect import Collected
from hstnn_deploy.report.page import drawn, provenance
from hstnn_deploy.report.sheets import Column, Entry, Sheet
from hstnn_deploy.robustness.record import Measured as Disturbed
from hstnn_deploy.train.variation import Measurement

_MANY = 9
"""Columns of a table that fit on a printed page."""
_SCRIPTS = ("charts", "save", "figures", "robust", "behaviour", "page")
"""In the order in which they run."""


def page(studies: Sequence[Study], collected: Collected) -> str:
    """Return the page.

    Args:
        studies: of the runs.
        collected: what was read, with the profile records and the problems.
    """
    varied = list(collected.variations.values())
    sections = [
        *(_study(study, number) for number, study in enumerate(studies)),
        *(_variation(measured, number) for number, measured in enumerate(varied)),
    ]
    each_network = networks.sheet(collected)
    if each_network is not None:
        sections.insert(len(studies), f'<section id="networks"><h2>Networks</h2>{_table(each_network)}</section>')
    robust_sheets, disturbed = robust.sheets(collected), robust.by_data(collected)
    traded = drawn.of_tradeoff(collected)
    if robust_sheets:
        sections.append(_robust(robust_sheets, disturbed, bool(traded)))
    if collected.profiles:
        sections.append(_costs(collected))
    came = provenance.sources(studies, collected)
    origin = provenance.sheet(came)
    if origin is not None:
        recipes = [_folded(f"Recipe of {study.title}", _text(provenance.recipe(study))) for study in studies]
        every = provenance.commands(came)
        recipes += [_folded("Every command", _text(every))] if every else []
        inside = f"{_table(origin, wrapped=True)}{''.join(recipes)}"
        sections.append(f'<section id="provenance"><h2>Provenance</h2>{inside}</section>')
    if collected.problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in collected.problems)
        sections.append(
            f'<section id="problems"><h2>What could not be read</h2><ul class="notes">{items}</ul></section>'
        )
    titles = [
        *(study.title for study in studies),
        *(["Networks"] if each_network is not None else []),
        *map(variation.heading, varied),
        *(["Robustness"] if robust_sheets else []),
        *(["Costs"] if collected.profiles else []),
        *(["Provenance"] if origin is not None else []),
    ]
    targets = [f"study-{number}" for number in range(len(studies))]
    targets += ["networks"] if each_network is not None else []
    targets += [f"variation-{number}" for number in range(len(varied))]
    targets += (["robustness"] if robust_sheets else []) + (["costs"] if collected.profiles else [])
    targets += ["provenance"] if origin is not None else []
    links = "".join(f'<a href="#{target}">{escape(title)}</a>' for target, title in zip(targets, titles, strict=True))
    data = {
        "studies": [drawn.of_study(study) for study in studies],
        "variations": [variation.charted(measured) for measured in varied],
        "disturbed": [drawn.of_disturbed(measured) for measured in disturbed],
        "tradeoff": traded,
        "records": [drawn.of_record(profile.record, profile.plain) for profile in collected.profiles],
    }
    return Template(_asset("page.html")).substitute(
        title=escape(", ".join(titles)),
        heading=escape(", ".join(study.title for study in studies) or ", ".join(titles)),
        version=escape(hstnn_deploy.__version__),
        nav=f'<nav aria-label="Parts">{links}</nav>' if len(titles) > 1 else "",
        sections="\n".join(sections),
        data=embedded(data),
        style=_asset("page.css"),
        script="".join(_asset(f"{name}.js") for name in _SCRIPTS),
    )


def embedded(value: Any) -> str:
    """Return plain data as JSON that is safe inside a script element: it can end neither that nor a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (resources.files("hstnn_deploy.report") / "page" / name).read_text(encoding="utf-8")


def _study(study: Study, number: int) -> str:
    figures = [
        _table(sheets.summary(study)),
        # A stack of layers has no share of spiking units.
        *(
            [_figure("ratio", number, f"Test {study.task.metric} against the spiking share of the units")]
            if any(cell.network.kind != "plain" for cell in study.cells)
            else []
        ),
        _table(sheets.by_seed(study)),
        _figure("curves", number, "Learning curves"),
    ]
    chosen = sheets.kept(study)
    if chosen is not None:
        figures += [
            _figure("kept", number, "Units kept in each layer"),
            _table(chosen),
            _figure("importance", number, "Importance of the units and stability of the kept set"),
        ]
    figures += _behaviour(study, number)
    figures.append(_folded("Every run", _table(sheets.every_run(study))))
    return f'<section id="study-{number}"><h2>{escape(study.title)}</h2>{"".join(figures)}</section>'


def _behaviour(study: Study, number: int) -> list[str]:
    """Return what the networks of a study do: spike rates, rasters, confusion matrices and tables of classes."""
    parts = []
    rates = networks.rates(study)
    if rates is not None:
        parts.append(_table(rates))
    seen = networks.seen(study)
    if not seen:
        what = "Confusion matrix and spike raster: n/a" if study.task.asks == "classes" else "Spike raster: n/a"
        return [*parts, f'<p class="aside">{what}; run {escape(networks.EVALUATE)}.</p>']
    behaviours = [run.behaviour for _, runs in seen for run in runs if run.behaviour is not None]
    if any(each.layers and each.steps for each in behaviours):
        parts.append(_figure("raster", number, "Spikes of one sample"))
    if any(0 < len(each.confusion) <= networks.DRAWN_CLASSES for each in behaviours):
        parts.append(_figure("confusion", number, "Confusion matrix"))
    elif any(each.confusion for each in behaviours):
        most = f"n/a; the page draws at most {networks.DRAWN_CLASSES} classes"
        parts.append(f'<p class="aside">Confusion matrix: {most}.</p>')
    tables = "".join(map(_table, networks.classes(study)))
    return [*parts, *([_folded("Classes of each network", tables)] if tables else [])]


def _variation(measured: Measurement, number: int) -> str:
    accuracy, memory = variation.sheets(measured)
    metric = titled(measured.networks[0].metric)
    parts = [
        _table(accuracy),
        _figure("variation", number, f"{metric} against variation", "variations"),
        _table(memory),
        _figure("memory", number, f"{metric} against bits of RRAM and SRAM", "variations"),
    ]
    heading = escape(variation.heading(measured))
    return f'<section id="variation-{number}"><h2>{heading}</h2>{"".join(parts)}</section>'


def _robust(tables: Sequence[Sheet], disturbed: Sequence[Sequence[Disturbed]], traded: bool) -> str:
    parts = [_table(sheet) for sheet in tables]
    for number, measured in enumerate(disturbed):
        title = f"{measured[0].data}: {measured[0].metric} under disturbances"
        parts.insert(2 * number + 1, _figure("disturbances", number, title, "disturbed"))
    if traded:
        parts.append(_figure("tradeoff", 0, "Accuracy, robustness and cost", "tradeoff"))
    return f'<section id="robustness"><h2>Robustness</h2>{"".join(parts)}</section>'


def _costs(collected: Collected) -> str:
    records = [profile.record for profile in collected.profiles]
    plains = [profile.plain for profile in collected.profiles]
    parts = [_table(sheet) for sheet in costs.sheets(records)]
    if len({costs.network(record)[1] for record in records} - {None}) > 1:
        parts.append(_figure("cost", 0, "Cost against the spiking share of the units"))
    if any(costs.latencies(plain) for plain in plains):
        parts.append(_figure("latency", 0, "Distribution of the time of one call"))
    if any(costs.timeline(plain) for plain in plains):
        parts.append(_figure("timeline", 0, "Memory over time, by phase"))
    parts.append(_folded("Every value of every record", _table(_every_value(collected))))
    return f'<section id="costs"><h2>Costs</h2>{"".join(parts)}</section>'


def _every_value(collected: Collected) -> Sheet:
    columns = [Column("configuration", numeric=False), Column("value", numeric=False), Column("number"),
               *(Column(name, numeric=False) for name in ("unit", "source", "note"))]  # fmt: skip
    rows = []
    for profile in collected.profiles:
        name = Entry(costs.title(profile.record))
        for value in profile.record.values:
            if isinstance(value, Measured):
                number = Entry(f"{value.number:.6g}", value.number)
                rows.append(
                    [name, Entry(value.name), number, Entry(value.unit), Entry(value.source), Entry(value.note)]
                )
            else:
                rows.append([name, Entry(value.name), Entry(sheets.NONE), Entry(""), Entry(""), Entry(value.reason)])
    return Sheet("Every value of every record", columns, rows)


def _figure(kind: str, number: int, title: str, of: str = "studies") -> str:
    return (
        f'<figure class="chart" data-chart="{kind}" data-of="{of}" data-number="{number}">'
        f'<figcaption>{escape(title)}</figcaption><div class="controls"></div><div class="plots"></div></figure>'
    )


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def _text(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _table(sheet: Sheet, wrapped: bool = False) -> str:
    head = ""
    if any(name for name, _ in sheet.groups):
        cells = "".join(
            f'<th scope="colgroup" colspan="{span}">{escape(name)}</th>' if name else f'<td colspan="{span}"></td>'
            for name, span in sheet.groups
        )
        head = f'<tr class="groups">{cells}</tr>'
    names = "".join(
        f'<th scope="col"{_right(column)}><button type="button" class="sort">{escape(column.name)}</button></th>'
        for column in sheet.columns
    )
    rows = "".join(f"<tr>{''.join(map(_cell, sheet.columns, row, range(len(row))))}</tr>" for row in sheet.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    # Many columns are set smaller on paper, which does not scroll.
    look = "table wrapped" if wrapped else "table wide" if len(sheet.columns) > _MANY else "table"
    return (
        f'<div class="{look}"><div class="scroll" tabindex="0" role="region" aria-label="{escape(sheet.title)}">'
        f"<table><caption><span>{escape(sheet.title)}</span></caption><thead>{head}<tr>{names}</tr></thead><tbody>{rows}</tbody></table>"
        f"</div>{f'<ul class=notes>{notes}</ul>' if notes else ''}</div>"
    )


def _cell(column: Column, entry: Entry, place: int) -> str:
    value = "" if entry.number is None else f' data-value="{entry.number!r}"'
    return (
        f'<th scope="row"{value}>{escape(entry.text)}</th>'
        if place == 0
        else f"<td{_right(column)}{value}>{escape(entry.text)}</td>"
    )


def _right(column: Column) -> str:
    return ' class="number"' if column.numeric else ""
