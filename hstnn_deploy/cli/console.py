"""The output of every command: results to standard output, errors to standard error, and JSON with --json."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from hstnn_deploy.foreign import escaped, visible
from hstnn_deploy.screen import Cell, Screen, Table

if TYPE_CHECKING:
    from hstnn_deploy.report.sheets import Sheet


_LONGEST = 2000
"""Characters of an error message, at most."""


_plugins = list[str]()

out = Screen()
"""Results: standard output."""
err = Screen(stderr=True)
"""Errors and warnings: standard error, even with -q."""
aside = Screen(stderr=True)
"""Progress, notes and the names of written files: standard error, silent with -q."""

_speech = {"quiet": False, "verbose": False}


def speak(quiet: bool, verbose: bool) -> None:
    """Set how much is printed: only results and errors with `quiet`, more than usual with `verbose`."""
    _speech.update(quiet=quiet, verbose=verbose)
    aside.quiet = quiet


def quiet() -> bool:
    """Whether only results and errors are printed."""
    return _speech["quiet"]


def verbose() -> bool:
    """Whether tracebacks, times and the sources of defaults are printed too."""
    return _speech["verbose"]


def told_more(message: str) -> None:
    """Print a line on standard error, only with `verbose`."""
    if verbose():
        err.print(Text.assemble(("more: ", "dim"), message), soft_wrap=True)


def report(as_json: bool) -> Console:
    """Return the console for readable results: standard output, or `aside` if that carries JSON."""
    return aside if as_json else out


def working(as_json: bool) -> Console:
    """Return the console for progress: that of `report`, or `aside` with `quiet`."""
    return aside if as_json or quiet() else out


def advise(lines: str) -> None:
    """Print suggested next commands, unless `quiet`."""
    if not quiet():
        out.print(lines, markup=False, soft_wrap=True)


def emit(value: Any) -> None:
    """Write plain data to standard output as JSON."""
    write(escaped(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n")


def write(text: str) -> None:
    """Write text to standard output as it is, with terminal control characters made visible."""
    sys.stdout.write(visible(text))


def use_plugins(modules: Sequence[str]) -> None:
    """Remember the modules that `--plugin` named, for `again`."""
    _plugins[:] = dict.fromkeys(modules)


def again(command: str) -> str:
    """Return a follow-up command with the plug-ins that this command needed."""
    return command + "".join(f" --plugin {module}" for module in _plugins)


def error(message: str, hint: str = "") -> None:
    """Print an error in one line, and its hint in another."""
    err.print(Text.assemble(("error: ", "bold red"), _line(message)), soft_wrap=True)
    if hint:
        err.print(Text.assemble(("hint: ", "cyan"), _line(hint)), soft_wrap=True)


def _line(text: str) -> str:
    """Return text as one line; a very long one loses its middle."""
    line = " ".join(text.split("\n"))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def note(message: str) -> None:
    """Print a note about a result on standard error, in one line."""
    aside.print(Text.assemble(("note: ", "yellow"), message), soft_wrap=True)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    caption: str = "",
    dense: bool = False,
    drop: Sequence[str] = (),
    more: str = "--json",
) -> Table:
    """Return a table; see `screen.Table`. A dense one has no box."""
    made = Table(columns, title=title, caption=caption, style="dense" if dense else "lines", drop=drop, more=more)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text | Cell) else str(cell) for cell in row))
    return made


def counted(count: int, what: str) -> str:
    """Return a number of things, such as "1 thread" and "2 threads"."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def size(count: int) -> str:
    """Return a number of bytes with a unit, such as "1.5 MB"."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def print_sheet(sheet: "Sheet") -> None:
    """Print a table of a report: title, rows, and the notes below."""
    made = Table(
        [f">{column.name}" if column.numeric else column.name for column in sheet.columns],
        title=sheet.title,
        groups=[column.group for column in sheet.columns],
        drop=sheet.drop,
    )
    for row in sheet.rows:
        made.add_row(*(entry.text for entry in row))
    out.print(made)
    for note in sheet.notes:
        out.print(note, markup=False, soft_wrap=True)
    out.print()
