"""Which columns of a table are t, x, y and p: by their names, as said, or as detected where that is certain."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from hstnn_deploy.data.readers.event_columns import Found, as_order
from hstnn_deploy.data.readers.event_options import EventOptions, Unit
from hstnn_deploy.errors import DataError

ALIASES: Mapping[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
}
"""What fields are called that are known without a word; capital letters are as small ones."""

WIDTHS = (4, 5)
"""Columns of plain rows of events; a fifth is constant."""

_WITH_UNIT = re.compile(r"(\w+?)(?:_| ?[\[(])(s|ms|us|ns)[\])]?")
"""A name of times that says their unit, such as `t_us` or `timestamp [ns]`."""


def named(
    path: Path,
    form: str,
    columns: Mapping[str, Any],
    options: EventOptions,
    unit: Unit | None = None,
) -> Found:
    """Return columns by their names, or names that mean the same; their order is only for names that mean nothing.

    Args:
        path: the file, for messages.
        form: what it is, in words.
        columns: its columns by name, in its order.
        options: what the user says of it.
        unit: of its times, where its format says it.

    Raises:
        DataError: no t or x, or two that may be it.
    """
    told = ", ".join(map(str, columns)) or "none"
    if lacking := [name for name in options.names.values() if name not in columns]:
        raise DataError(f"{path} has no field {lacking[0]!r}", f"it has {told}")
    taken = _by_order(path, columns, options) if options.order else _by_name(path, columns, options)
    if "t" not in taken or "x" not in taken:
        raise DataError(
            f"{path} contains no events: its fields are {told}",
            "events have t, x, y and p; give the names of the others: --events t=NAME,x=NAME",
        )
    other = {each: name for each, name in taken.items() if each != name}
    notes: tuple[str, ...] = (
        (f"fields taken as: {', '.join(f'{name} as {each}' for each, name in other.items())}",) if other else ()
    )
    left = [name for name in columns if name not in taken.values()]
    notes += (f"fields that are not part of an event: {', '.join(left)}",) if left else ()
    how = "by the format"
    if unit is None and (says := _WITH_UNIT.fullmatch(taken["t"].lower())):
        unit, how = cast(Unit, says[2]), f"by its name, {taken['t']}"
    return Found(form, {each: columns[name] for each, name in taken.items()}, unit, notes=notes, unit_from=how)


def plain(path: Path, rows: NDArray[Any], options: EventOptions, form: str) -> Found:
    """Return the columns of plain rows [N, 4] or [N, 5], as said or as detected.

    Raises:
        DataError: they have another shape, no row, or columns that are not certain.
    """
    if rows.ndim != 2 or (options.order is None and rows.shape[1] not in WIDTHS):
        raise DataError(
            f"{path} contains plain numbers {list(rows.shape)}; rows of events are [N, 4] or [N, 5]",
            "say what their columns are: --events order=txyp",
        )
    if len(rows) == 0:
        raise DataError(f"{path} contains no events", "there is nothing for the network to see")
    if options.names:
        each, name = next(iter(options.names.items()))
        raise DataError(
            f"{path} has columns without names; there is no {name!r}", f"--events order=… says which is {each}"
        )
    if options.order and len(options.order) != rows.shape[1]:
        raise DataError(
            f"{path} has {rows.shape[1]} columns; --events order={options.order} names {len(options.order)}",
            "name each once, with - for one to leave out",
        )
    order, how = (options.order, f"columns {options.order}, as given") if options.order else as_order(str(path), rows)
    columns = {letter: rows[:, number] for number, letter in enumerate(order) if letter != "-"}
    return Found(form, columns, notes=(how,))


def letter(name: str, options: EventOptions) -> str | None:
    """Return which of t, x, y and p a field is."""
    if said := next((each for each, called in options.names.items() if called == name), None):
        return said
    small = name.lower()
    if (says := _WITH_UNIT.fullmatch(small)) and says[1] in ALIASES["t"]:
        small = says[1]
    return next((each for each, names in ALIASES.items() if each not in options.names and small in names), None)


def _by_name(path: Path, columns: Mapping[str, Any], options: EventOptions) -> dict[str, str]:
    taken: dict[str, str] = {}
    for each in "txyp":
        able = [name for name in columns if letter(name, options) == each]
        # The letter itself is meant, whatever else is there.
        able = [name for name in able if name == each] or able
        if len(able) > 1:
            raise DataError(f"{path}: {' or '.join(able)} may be {each}", f"specify which: --events {each}={able[0]}")
        if able:
            taken[each] = able[0]
    return taken


def _by_order(path: Path, columns: Mapping[str, Any], options: EventOptions) -> dict[str, str]:
    order = options.order or ""
    if len(order) != len(columns):
        raise DataError(
            f"{path} has {len(columns)} columns, {', '.join(columns)}; --events order={order} names {len(order)}",
            "name each once, with - for one to leave out; or omit order, since they have names",
        )
    for each, name in zip(order, columns, strict=True):
        if (means := letter(name, options)) and each not in ("-", means):
            raise DataError(
                f"{path}: its column {name!r} is {means}; --events order={order} takes it as {each}",
                "leave order out, or name the fields: --events t=NAME",
            )
    return {each: name for each, name in zip(order, columns, strict=True) if each != "-"}
