"""How every command speaks: results to standard output, errors to standard error, JSON when asked."""

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
"""Letters of an error."""


_plugins = list[str]()

out = Screen()
"""Results: standard output."""
err = Screen(stderr=True)
"""Errors, and what is wrong with files: standard error, always."""
aside = Screen(stderr=True)
"""What goes with the work, such as progress, notes and the names of written files: standard error, silent with -q."""

_speech = {"quiet": False, "verbose": False}


def speak(quiet: bool, verbose: bool) -> None:
    """Set how much is said: with `quiet` results and errors alone, with `verbose` also what is left out otherwise."""
    _speech.update(quiet=quiet, verbose=verbose)
    aside.quiet = quiet


def quiet() -> bool:
    """Whether results and errors alone are wanted."""
    return _speech["quiet"]


def verbose() -> bool:
    """Whether what is left out otherwise is wanted too: tracebacks, times, where defaults came from."""
    return _speech["verbose"]


def told_more(message: str) -> None:
    """Print on standard error what is said with `verbose` alone."""
    if verbose():
        err.print(Text.assemble(("more: ", "dim"), message), soft_wrap=True)


def report(as_json: bool) -> Console:
    """Return the console for results that a person reads: standard output, or `aside` where that carries JSON."""
    return aside if as_json else out


def working(as_json: bool) -> Console:
    """Return the console for the progress of work: that of `report`, or one that is silent where nobody asks."""
    return aside if as_json or quiet() else out


def advise(lines: str) -> None:
    """Print what to do next, where that is wanted."""
    if not quiet():
        out.print(lines, markup=False, soft_wrap=True)


def emit(value: Any) -> None:
    """Write plain data to standard output as JSON."""
    write(escaped(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n")


def write(text: str) -> None:
    """Write text to standard output as it is, without what a terminal would obey."""
    sys.stdout.write(visible(text))


def use_plugins(modules: Sequence[str]) -> None:
    """Note which modules this command line named by `--plugin`, for `again`."""
    _plugins[:] = dict.fromkeys(modules)


def again(command: str) -> str:
    """Return a command to go on with, with the plug-ins that this command needed."""
    return command + "".join(f" --plugin {module}" for module in _plugins)


def error(message: str, hint: str = "") -> None:
    """Print an error as one line, and what would work as another."""
    err.print(Text.assemble(("error: ", "bold red"), _line(message)), soft_wrap=True)
    if hint:
        err.print(Text.assemble(("hint: ", "cyan"), _line(hint)), soft_wrap=True)


def _line(text: str) -> str:
    """Return text as one line, without its middle where it is very long."""
    line = " ".join(text.split("\n"))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def note(message: str) -> None:
    """Print on standard error, as one line, what a person should know of a result."""
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
    """Return a number of bytes for people."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def print_sheet(sheet: "Sheet") -> None:
    """Print a table of a report: its title, its rows, and its notes below."""
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
