"""What a user says about a recording where its file does not: unit of time, order of columns, names of fields."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args

from hstnn_deploy.errors import UsageError, nearest

Unit = Literal["s", "ms", "us", "ns"]
Start = Literal["file", "first"]

NAMES: Mapping[str, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""The units of time in words."""

SYNTAX = "unit=s|ms|us|ns, order=txyp, start=file|first, sort, recording=N, sensor=WxH, t=NAME (also x, y, p)"

_KEYS = ("unit", "order", "start", "sort", "recording", "sensor", "t", "x", "y", "p")


class EventOptions(NamedTuple):
    """How a recording is to be read."""

    unit: Unit | None = None
    """The unit of its times; None: as its format or its times say."""
    order: str | None = None
    """What its columns are, one letter each of t, x, y and p; `-` for a column to leave out. None: detected."""
    start: Start | None = None
    """Where time begins: with the file's clock or at the first event. None: see `event_columns`."""
    sort: bool = False
    """Whether events that are not in order of time are put in order, not refused."""
    recording: int | None = None
    """Which recording of a file that holds several, from 0."""
    sensor: tuple[int, int] | None = None
    """Width and height of its sensor, whatever the file states."""
    names: Mapping[str, str] = {}
    """What the fields t, x, y and p are called in the file, where they are called otherwise."""


def parse_options(text: str | None) -> EventOptions:
    """Return the options that `--events` gives, such as `unit=s,order=txyp`; none where it is not given.

    Raises:
        UsageError: an unknown key or an impossible value.
    """
    options = EventOptions()
    names: dict[str, str] = {}
    for word in (text or "").split(","):
        key, equals, value = (part.strip() for part in word.strip().partition("="))
        if not key and not equals:
            continue
        match key:
            case "unit" if value in get_args(Unit):
                options = options._replace(unit=cast(Unit, value))
            case "order" if _is_order(value):
                options = options._replace(order=value)
            case "start" if value in get_args(Start):
                options = options._replace(start=cast(Start, value))
            case "sort" if not equals or value == "yes":
                options = options._replace(sort=True)
            case "recording" if value.isascii() and value.isdigit() and len(value) < 10:
                options = options._replace(recording=int(value))
            case "sensor" if size := re.fullmatch(r"(\d{1,5})x(\d{1,5})", value, re.ASCII):
                options = options._replace(sensor=(int(size[1]), int(size[2])))
            case "t" | "x" | "y" | "p" if value:
                names[key] = value
            case _ if key in _KEYS:
                raise UsageError(f"--events: {key} cannot be {value!r}", f"known: {SYNTAX}")
            case _:
                raise UsageError(f"--events: there is no {key!r}", nearest(key, _KEYS))
    return options._replace(names=names)


def _is_order(text: str) -> bool:
    letters = text.replace("-", "")
    return len(text) <= 16 and {"t", "x"} <= set(letters) <= set("txyp") and len(letters) == len(set(letters))
