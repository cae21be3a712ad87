"""What a user specifies about a recording where its file does not: unit of time, order of columns, names of fields."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args

from hstnn_deploy.errors import UsageError, nearest

Unit = Literal["s", "ms", "us", "ns"]
Start = Literal["file", "first"]

NAMES: Mapping[str, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""The units of time in words."""

NANOSECONDS: Mapping[str, int] = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

KEYS: Mapping[str, str] = {
    "unit": "unit=s|ms|us|ns",
    "order": "order=txyp (or its columns one by one: t=us,x,y,p)",
    "start": "start=file|first",
    "offset": "offset=-250ms",
    "sort": "sort",
    "origin": "origin=0|1",
    "flip": "flip=x|y|xy",
    "drop": "drop=nan",
    "sensor": "sensor=WxH",
    "recording": "recording=N",
    "part": "part=NAME",
    "format": "format=NAME",
    "t": "t=NAME (also x, y, p)",
    "p": "p=OFF/ON, such as p=-1/+1, or p=1/0 for the two swapped",
}
"""The options, and how they are written."""

SYNTAX = ", ".join(KEYS.values())

_LETTERS = "txyp"


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
    part: str | None = None
    """Which part of a file that has several holds the events: a dataset, a variable, a topic, or a stream."""
    format: str | None = None
    """What the file is, by a name of `event_files.FORMATS`; None: as it begins and is called."""
    offset: float | None = None
    """Microseconds that are added to its times; events that come before 0 then are left out."""
    origin: Literal[0, 1] | None = None
    """From which number on the file counts x and y; None: as its format says, 0 where it says nothing."""
    flip: str = ""
    """Which of x and y are counted from the other side."""
    drop_nan: bool = False
    """Whether events with a number that is not finite are left out, not refused."""
    polarity: tuple[int, int] | None = None
    """The file's numbers of an event to darker and of one to brighter; None: 0 and 1, or -1 and 1."""

    def over(self, others: "EventOptions") -> "EventOptions":
        """Return these options, and where they say nothing, others; of a file of a said format, these alone."""
        if self.format is not None:
            return self
        usual = EventOptions()._asdict()
        silent = {key for key, value in self._asdict().items() if value == usual[key]}
        return self._replace(**{key: value for key, value in others._asdict().items() if key in silent})


def parse_options(text: str | None) -> EventOptions:
    """Return the options that `--events` gives, such as `unit=s,order=txyp` or `t=s,x,y,p`; none without it.

    Raises:
        UsageError: an unknown key or an impossible value, or a thing said twice and otherwise.
    """
    options = EventOptions()
    names: dict[str, str] = {}
    columns, bare = "", False
    for word in (text or "").split(","):
        key, equals, value = (part.strip() for part in word.strip().partition("="))
        if not key and not equals:
            continue
        match key:
            case "t" if value in get_args(Unit):
                options, columns = _unit(options, value), columns + "t"
            case "t" | "x" | "y" | "p" | "-" if not equals:
                columns, bare = columns + key, True
            case "p" if pair := re.fullmatch(r"([+-]?\d{1,9})/([+-]?\d{1,9})", value, re.ASCII):
                options, columns = options._replace(polarity=(int(pair[1]), int(pair[2]))), columns + "p"
                if int(pair[1]) == int(pair[2]):
                    raise UsageError(f"--events: p is {value!r}", "give two different numbers for the polarities")
            case "t" | "x" | "y" | "p" if value and not re.fullmatch(r"[\d+/-]*/[\d+/-]*", value, re.ASCII):
                names[key] = value
            case "unit" if value in get_args(Unit):
                options = _unit(options, value)
            case "order" if _is_order(value):
                options = options._replace(order=value)
            case _:
                options = _others(options, key, value, bool(equals))
    options = options._replace(names=names)
    # `t=us` alone says the unit; with bare columns beside it, their order too.
    if not bare:
        return options
    if not _is_order(columns) or (options.order and options.order != columns):
        raise UsageError(
            f"--events: the columns are {','.join(columns)}", f"name each once, including t and x: {KEYS['order']}"
        )
    return options._replace(order=columns)


def _unit(options: EventOptions, unit: str) -> EventOptions:
    if options.unit not in (None, unit):
        raise UsageError(f"--events: the unit is given twice, {options.unit} and {unit}", "give it once")
    return options._replace(unit=cast(Unit, unit))


def _others(options: EventOptions, key: str, value: str, equals: bool) -> EventOptions:
    """Return the options with one more, of those that are no column."""
    match key:
        case "start" if value in get_args(Start):
            return options._replace(start=cast(Start, value))
        case "sort" if not equals or value == "yes":
            return options._replace(sort=True)
        case "recording" if value.isascii() and value.isdigit() and len(value) < 10:
            return options._replace(recording=int(value))
        case "sensor" if size := re.fullmatch(r"(\d{1,5})x(\d{1,5})", value, re.ASCII):
            if int(size[1]) and int(size[2]):
                return options._replace(sensor=(int(size[1]), int(size[2])))
        case "offset" if moved := re.fullmatch(r"([+-]?\d{1,15}(?:\.\d{1,9})?)(s|ms|us|ns)", value, re.ASCII):
            return options._replace(offset=float(moved[1]) * NANOSECONDS[moved[2]] / 1000)
        case "origin" if value in ("0", "1"):
            return options._replace(origin=1 if value == "1" else 0)
        case "flip" if value in ("x", "y", "xy"):
            return options._replace(flip=value)
        case "drop" if value == "nan":
            return options._replace(drop_nan=True)
        case "part" if value:
            return options._replace(part=value)
        case "format" if value:
            return options._replace(format=value)
    if key in KEYS or key in _LETTERS:
        raise UsageError(f"--events: invalid {key} {value!r}", f"known: {SYNTAX}")
    raise UsageError(f"--events: unknown key {key!r}", nearest(key, tuple(KEYS)))


def _is_order(text: str) -> bool:
    letters = text.replace("-", "")
    return len(text) <= 16 and {"t", "x"} <= set(letters) <= set(_LETTERS) and len(letters) == len(set(letters))
