"""`hstnn report`: tables and an HTML page from runs, profile records and measurements under variation."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hstnn_deploy.report.aggregate import Study
    from hstnn_deploy.report.collect import Collected

FILES = {"csv": "csv", "markdown": "md", "latex": "tex", "json": "json", "html": "html", "png": "png"}
"""The file formats and their suffixes."""
CURVES = "curves.png"


class CsvLayout(StrEnum):
    """Layouts of CSV."""

    full = "full"
    demo = "demo"


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Folders of runs; folders or files of profile records (records.jsonl) or of hstnn evaluate --variation"
            " (variation.json).",
        ),
    ],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Any of console, csv, markdown, latex, json, html, png (default: console; with --out: all others).",
        ),
    ] = None,
    csv_layout: Annotated[
        CsvLayout,
        typer.Option(help="full: every cell with all its details; demo: the layout of the original demo's files."),
    ] = CsvLayout.full,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="Write report.html, .md, .tex, .csv, .json and pictures to this folder; or write one file, chosen by "
            "its suffix.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write every figure for a paper to this folder: PDF and SVG with fonts, and the data as CSV.",
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(metavar="INCHES", help="Width of figures and LaTeX tables (default: 3.5, one column)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Gather runs, profile records and accuracy under variation into tables, and into one HTML page.

    The page is one file and works offline. With --figures alone, no table is printed.
    """
    _check_width(width)
    import_torch()
    from hstnn_deploy.report.aggregate import studies
    from hstnn_deploy.report.collect import collect

    chosen, out = _formats(formats, out, as_json)
    if width is not None and figures is None and "latex" not in chosen:
        raise UsageError(
            "--width applies to figures and LaTeX tables, and neither is written",
            "add --figures DIR or --format latex",
        )
    collected = collect(paths)
    for problem in collected.problems:
        console.err.print(f"warning: {problem}", soft_wrap=True, markup=False)
    gathered = studies(collected.runs)
    if figures is not None:
        _write_figures(figures, width, gathered, collected)
        if out is None and formats is None and not as_json:
            return
    if out is None:
        if chosen == ["console"]:
            _print(gathered, collected)
        else:
            print(_only(_texts(chosen, csv_layout, width, gathered, collected)), end="")
        return
    drawn = _pictures(gathered, collected) if "png" in chosen else {}
    written = _write(out, _texts(chosen, csv_layout, width, gathered, collected), drawn)
    console.aside.print(f"written: {', '.join(map(str, written))}", soft_wrap=True, markup=False)


def _check_width(width: float | None) -> None:
    from hstnn_deploy.report.paper.draw import NARROWEST, WIDEST

    if width is not None and not NARROWEST <= width <= WIDEST:
        raise UsageError(
            f"--width {width:g} is not between {NARROWEST:g} and {WIDEST:g} inches",
            "a column is 3.5 inches wide, a page 7.16",
        )


def _write_figures(folder: Path, width: float | None, gathered: "list[Study]", collected: "Collected") -> None:
    from hstnn_deploy.report.paper.draw import COLUMN, write
    from hstnn_deploy.report.paper.make import plots

    found = plots(gathered, collected)
    if not found:
        raise UsageError("these folders contain nothing to draw", "give finished runs, or records of measurements")
    written = write(found, folder, width or COLUMN)
    count = console.counted(len(found), "figure")
    console.aside.print(
        f"written: {count} as PDF, SVG and CSV, {len(written)} files in {folder}", soft_wrap=True, markup=False
    )


def _formats(given: str | None, out: Path | None, as_json: bool) -> tuple[list[str], Path | None]:
    """Return the formats to write, and the folder or file for them; None: standard output."""
    known = ["console", *FILES]
    chosen = [word.strip() for word in (given or "").split(",") if word.strip()]
    if unknown := next((word for word in chosen if word not in known), None):
        raise UsageError(f"unknown format {unknown!r}", nearest(unknown, known))
    if as_json and chosen not in ([], ["json"]):
        raise UsageError("--json and --format are mutually exclusive", "--out DIR writes several formats")
    if as_json:
        chosen = ["json"]
    if out is None:
        if "png" in chosen:
            raise UsageError("the format png needs a file", f"for example --out {CURVES}")
        if len(chosen) > 1:
            raise UsageError(f"--format {given}: standard output takes only one format", "write files: --out DIR")
        return chosen or ["console"], None
    if out.suffix and not out.is_dir():
        by_suffix = {f".{suffix}": name for name, suffix in FILES.items()}
        name = by_suffix.get(out.suffix)
        if name is None or chosen not in ([], [name]):
            raise UsageError(
                f"--out {out}: {'unsupported file format' if name is None else f'this file format is {name}'}",
                f"known: {', '.join(by_suffix)}; or give a folder",
            )
        return [name], out
    if "console" in chosen:
        raise UsageError("the format console cannot be written to files", "leave --out out")
    return chosen or list(FILES), out


def _texts(
    chosen: list[str], layout: CsvLayout, width: float | None, gathered: "list[Study]", collected: "Collected"
) -> dict[str, str]:
    """Return the texts to write, by file name."""
    from hstnn_deploy.report import formats, latex, robust, variation
    from hstnn_deploy.report.page.document import page

    texts: dict[str, str] = {}
    for name in chosen:
        match name:
            case "csv" if layout is CsvLayout.demo:
                texts |= formats.demo_files(gathered)
            case "csv":
                if gathered:
                    texts["report.csv"] = formats.csv_results(gathered)
                if collected.variations:
                    of_variation = "variation.csv" if texts else "report.csv"
                    texts[of_variation] = variation.as_csv([*collected.variations.values()])
                if collected.robustness:
                    of_robust = "robustness.csv" if texts else "report.csv"
                    texts[of_robust] = robust.as_csv(robust.networks(collected))
                if collected.profiles:
                    of_costs = "costs.csv" if texts else "report.csv"
                    texts[of_costs] = formats.csv_records([profile.record for profile in collected.profiles])
            case "markdown":
                texts["report.md"] = formats.markdown(formats.every_sheet(gathered, collected))
            case "latex":
                texts["report.tex"] = latex.latex(formats.every_sheet(gathered, collected), width or latex.COLUMN)
            case "json":
                texts["report.json"] = formats.dumps(formats.plain(gathered, collected))
            case "html":
                texts["report.html"] = page(gathered, collected)
    return texts


def _only(texts: dict[str, str]) -> str:
    """Return the only text."""
    if len(texts) > 1:
        raise UsageError(f"there are {len(texts)} files to write: {', '.join(texts)}", "give a folder: --out DIR")
    return next(iter(texts.values()))


def _pictures(gathered: "list[Study]", collected: "Collected") -> "dict[str, Figure]":
    """Return the pictures by file name, learning curves first."""
    from hstnn_deploy.data.pictures.variation import draw_memory, draw_variation
    from hstnn_deploy.report import robust
    from hstnn_deploy.report.curves import curves

    learning = curves(gathered)
    pictures = {} if learning is None else {CURVES: learning}
    pictures |= robust.drawn(collected)
    for number, measured in enumerate(collected.variations.values(), 1):
        end = ".png" if number == 1 else f"-{number}.png"
        pictures[f"variation{end}"] = draw_variation(measured.networks)
        pictures[f"memory{end}"] = draw_memory(measured.networks)
    return pictures


def _write(out: Path, texts: dict[str, str], drawn: "dict[str, Figure]") -> list[Path]:
    """Write texts and pictures into a folder, or the one text or the first picture into a file; return the paths."""
    from hstnn_deploy import files
    from hstnn_deploy.data.pictures.figure import save

    one = bool(out.suffix) and not out.is_dir()
    if one and not texts and not drawn:
        raise UsageError("there are no learning curves: no epoch is finished", "give a folder that hstnn train wrote")
    if one and texts:
        texts = {out.name: _only(texts)}
    folder = out.parent if one else files.make_folder(out)
    for name, text in texts.items():
        files.write_text(folder / name, text)
    written = [folder / name for name in texts]
    for name, picture in list(drawn.items())[: 1 if one else None]:
        written.append(out if one else folder / name)
        save(picture, written[-1])
    return written


def _print(gathered: "list[Study]", collected: "Collected") -> None:
    from hstnn_deploy.profile.show import report as profiles
    from hstnn_deploy.report import robust, sheets, variation

    for study in gathered:
        for sheet in (sheets.summary(study), sheets.by_seed(study)):
            console.print_sheet(sheet)
    for measured in collected.variations.values():
        for sheet in variation.sheets(measured):
            console.print_sheet(sheet)
    for sheet in robust.sheets(collected):
        console.print_sheet(sheet)
    if collected.profiles:
        for part in profiles.tables([profile.record for profile in collected.profiles]):
            console.out.print(part)
