"""From the columns of a file to events that a network may see, and the report of what was made of them.

Every format comes through here: units, polarity, order, the beginning of time, the sensor. What a file does not say is
said by the user, or detected and reported, or refused. Nothing is guessed in silence.

Time begins with the file's clock where the first event lies in the frames that the network sees; else, as with a camera
that was switched on long before, at the first event. The report says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import Events, Sensor, check, make_events
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.data.readers.event_options import NAMES, EventOptions, Unit
from hstnn_deploy.errors import DataError

_NANOSECONDS: Mapping[str, int] = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_SHORT, _LONG = 300, 3.3
"""How many times shorter or longer than the longest of the training a recording may be for its unit to be believed. A
wrong unit is off by 1000, so that it is never believed of a recording whose right one would be."""
_USUAL = 10
"""Times as long as what a network sees: the longest recording, where that is not known."""
_SHORTER = "say the unit of its times, begin at the first event (--events unit=…,start=first), or cut it"
_MOST = 2**31
"""Values that the frames of a whole recording may have."""


@dataclass(frozen=True)
class Found:
    """The columns of a file, as they stand there."""

    form: str
    """What the file is, in words."""
    columns: Mapping[str, Any]
    """t, x, y and p, each [N]; y may lack where the sensor is 1 high, p where it has one polarity."""
    unit: Unit | None = None
    """The unit of t, where the format fixes it."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """What else the file holds and is left out, and how many of each."""
    notes: tuple[str, ...] = ()
    """What was detected while it was read."""
    sensor: tuple[int, int] | None = None
    """Width and height of the sensor, where the file states it."""


@dataclass(frozen=True)
class Expected:
    """What a network was trained on."""

    how: Frames
    data_set: str = ""
    continued: bool = False
    """Whether its states say how many frames came before, so that time goes on by the file's clock."""

    @property
    def sensor(self) -> Sensor:
        """What the recordings came from."""
        return Sensor(*self.how.sensor)

    @property
    def window(self) -> int | None:
        """The microseconds that the network sees; None: all of a recording."""
        return self.how.steps * self.how.frame_time if self.how.steps else None

    @property
    def aligned(self) -> bool:
        """Whether a transform lets time begin at the first event."""
        return any(each.name == "time-alignment" for each in self.how.transforms)

    @cached_property
    def longest(self) -> int | None:
        """The microseconds of the longest recording of the training, about; None where nothing is known of it."""
        from hstnn_deploy.data.sets.lengths import longest

        return longest(self.data_set) or (self.window * _USUAL if self.window else None)


@dataclass(frozen=True)
class Report:
    """What was read, and what was made of it."""

    file: str
    form: str
    count: int
    """Events that are left."""
    sensor: Sensor
    first: int
    """Microseconds of the first event by the file's clock."""
    last: int
    unit: str
    """The unit of the file's times, and how it is known."""
    polarity: str
    """What 0 and 1 were in the file."""
    start: str
    """Where time begins."""
    dropped: Mapping[str, int]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it for a person: one line, and one for each thing that was detected, changed or left out."""
        about = (
            f"{self.form}, {self.count} events on {self.sensor.width} x {self.sensor.height}, "
            f"{_ms(self.first)} to {_ms(self.last)} ms by its clock; times in {self.unit}; {self.start}"
        )
        left = [f"left out: {count} {what}" for what, count in self.dropped.items() if count]
        polarity = [self.polarity] if self.polarity else []
        return [f"{self.file}: {line}" for line in (about, *polarity, *left, *self.notes)]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "form": self.form,
            "events": self.count,
            "sensor": list(self.sensor),
            "first_us": self.first,
            "last_us": self.last,
            "unit": self.unit,
            "polarity": self.polarity or "0 and 1",
            "start": self.start,
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Recording:
    """Events in order of time, on the sensor, from 0 on; and the report."""

    events: Events
    report: Report


def make_recording(name: str, found: Found, expected: Expected, options: EventOptions) -> Recording:
    """Return what a network may see of a file.

    Args:
        name: the file's, for messages.
        found: its columns.
        expected: what the network was trained on.
        options: what the user says of it.

    Raises:
        DataError: no events; columns that are no numbers, of unequal length, or not finite; times whose unit is not
            known, or not in order; events outside of the sensor; or none in the frames that the network sees.
    """
    sensor, notes = expected.sensor, list(found.notes)
    if (stated := options.sensor or found.sensor) and stated != sensor[:2]:
        size = f"{sensor.width} x {sensor.height}"
        raise DataError(
            f"{name} is from a sensor of {stated[0]} x {stated[1]}; the network was trained on one of {size}",
            f"crop or scale it, or take it as it is: --events sensor={sensor.width}x{sensor.height}",
        )
    columns = _numbers(name, found, sensor)
    time, unit = _microseconds(name, columns["t"], found, expected, options)
    p, polarity = _polarity(name, columns["p"], sensor)
    fields = {"x": columns["x"], "y": columns["y"], "p": p}
    for field_, values in fields.items():
        whole = np.floor(values) if values.dtype.kind == "f" else values
        if values.dtype.kind == "f" and not np.array_equal(whole, values):
            notes.append(f"{field_} has fractions; the whole part is taken")
        if np.abs(whole).max() >= 2**31:
            raise DataError(f"{name}: {field_} reaches {whole.max():g}", f"these are no {field_} of events")
        fields[field_] = whole.astype(np.int64)
    events = make_events(fields["x"], fields["y"], time, fields["p"])
    if (late := int((time[1:] < time[:-1]).sum())) and options.sort:
        moved = int((time < np.maximum.accumulate(time)).sum())
        events = events[np.argsort(time, kind="stable")]
        notes.append(f"{moved} of {len(events)} events were not in order of time, and were put in order")
    first, last = int(events["t"].min()), int(events["t"].max())
    begin, start = _start(first, expected, options)
    events["t"] -= begin
    try:
        check(events, sensor, name)
    except DataError as error:
        raise DataError(error.message, _why_not(events, sensor, late)) from error
    width, height = int(events["x"].max()) + 1, int(events["y"].max()) + 1
    if sensor.height > 1 and 2 * width <= sensor.width and 2 * height <= sensor.height:
        notes.append(f"all events are within {width} x {height}: is it from a smaller sensor?")
    notes += see(name, events["t"], expected)
    report = Report(
        name, found.form, len(events), sensor, first, last, unit, polarity, start, found.dropped, tuple(notes)
    )
    return Recording(events, report)


def see(name: str, time: NDArray[np.int64], expected: Expected) -> list[str]:
    """Return what a person should know of the frames that a recording becomes.

    Args:
        name: the recording's, for messages.
        time: its times, microseconds from its beginning, [N].
        expected: what the network was trained on.

    Raises:
        DataError: no event is in the frames that the network sees, or there are too many frames.
    """
    if expected.continued:
        return []
    if (kind := expected.how.frames) is not None:
        if (count := kind.cut(time)[1]) * expected.sensor.places >= _MOST:
            raise DataError(f"{name}: it makes {count} {kind.told()}, which are too many", _SHORTER)
        return []
    frame, steps = expected.how.frame_time, expected.how.steps
    seen = time - time.min() if expected.aligned else time
    span = f"{_ms(int(seen.min()))} to {_ms(int(seen.max()))} ms"
    inside = seen
    if steps:
        inside = seen[(seen >= 0) & (seen < steps * frame)]
        window = f"{steps} frames of {_ms(frame)} ms"
        if len(inside) == 0:
            raise DataError(
                f"{name}: none of its {len(seen)} events is in the {window} that the network sees; they are at {span}",
                "say the unit of its times, or begin at the first event: --events unit=s|ms|us|ns,start=first",
            )
    elif int(seen.max()) // frame * expected.sensor.places >= _MOST:
        raise DataError(
            f"{name}: its last event, at {_ms(int(seen.max()))} ms, makes {int(seen.max()) // frame + 1} frames of "
            f"{_ms(frame)} ms, which are too many",
            _SHORTER,
        )
    notes = []
    if len(inside) < len(seen):
        notes.append(f"{len(inside)} of {len(seen)} events are in the {window} that the network sees")
    if steps != 1 and len(inside) > 1 and len(np.unique(inside // frame)) == 1:
        where = f"frame {int(inside[0]) // frame}" + (f" of {steps}" if steps else "")
        notes.append(f"all {len(inside)} events that the network sees are in {where}: is the unit of time right?")
    return notes


def as_order(name: str, rows: NDArray[Any]) -> tuple[str, str]:
    """Return what the columns of plain rows [N, 4] or [N, 5] are, and how that is known.

    Only what is certain is taken: the times are the one column that ascends beyond the sensor, the polarity is the
    one column of two values that are 0 and 1 or -1 and 1, a fifth column is constant, and x comes before y.

    Raises:
        DataError: it is not certain.
    """
    columns = dict(enumerate(rows.T))
    kinds: dict[str, list[int]] = {"t": [], "p": [], "-": [], "": []}
    for number, values in columns.items():
        different = set(np.unique(values[:100_000]).tolist()) if len(values) else set()
        if len(different) == 2 and different <= {-1, 0, 1} and set(np.unique(values).tolist()) == different:
            kinds["p"].append(number)
        elif len(different) == 1 and np.all(values == values[0]):
            kinds["-"].append(number)
        elif np.all(values[1:] >= values[:-1]):
            kinds["t"].append(number)
        else:
            kinds[""].append(number)
    if len(kinds["t"]) != 1 or len(kinds["p"]) != 1 or len(kinds[""]) != 2 or len(kinds["-"]) != len(columns) - 4:
        raise DataError(
            f"{name} holds plain numbers {list(rows.shape)}, and which column is which is not certain",
            "say it: --events order=txyp, in the order of the columns, with - for one to leave out",
        )
    (t,), (p,), (x, y) = kinds["t"], kinds["p"], kinds[""]
    order = "".join({t: "t", p: "p", x: "x", y: "y"}.get(number, "-") for number in columns)
    return order, f"plain columns, detected as {', '.join(order)} (t ascends, p has two values, x before y)"


# ------------------------------------------------------------------------------------------------------------ columns


def _numbers(name: str, found: Found, sensor: Sensor) -> dict[str, NDArray[Any]]:
    """Return the columns as arrays of real, finite numbers (times may be datetimes), all of one length."""
    columns = {each: np.asarray(values) for each, values in found.columns.items()}
    if "y" not in columns and sensor.height == 1:
        columns["y"] = np.zeros(len(columns["t"]), np.int64)
    if "p" not in columns and sensor.polarities == 1:
        columns["p"] = np.zeros(len(columns["t"]), np.int64)
    if lacking := [each for each in "txyp" if each not in columns]:
        names = ", ".join(columns)
        raise DataError(
            f"{name} has {names} but no {' and no '.join(lacking)}", f"name the field: --events {lacking[0]}=NAME"
        )
    shapes = {each: values.shape for each, values in columns.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) != 1:
        told = ", ".join(f"{each} {list(shape)}" for each, shape in shapes.items())
        raise DataError(f"{name}: its columns are not of one length: {told}", "give one number of each to an event")
    if len(columns["t"]) == 0:
        left = "".join(f"; {count} {what} were left out" for what, count in found.dropped.items() if count)
        raise DataError(f"{name} holds no events{left}", "there is nothing for the network to see")
    for each, values in columns.items():
        if values.dtype.kind not in ("biufmM" if each == "t" else "biuf"):
            raise DataError(f"{name}: {each} is of type {values.dtype}", "the columns of events are real numbers")
        wrong = np.isnat(values) if values.dtype.kind in "mM" else ~np.isfinite(values)
        if wrong.any():
            number = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{name}: event {number} of {len(values)} has {each} {values[number]}, which is no number "
                f"({int(wrong.sum())} such events)",
                "take such events out first",
            )
    return columns


def _polarity(name: str, values: NDArray[Any], sensor: Sensor) -> tuple[NDArray[Any], str]:
    """Return polarities as 0 and 1, and a line where they were not."""
    if values.dtype.kind == "b":
        return values.astype(np.int64), ""
    low, high = float(values.min()), float(values.max())
    if sensor.polarities == 1 and low == high:
        return np.zeros(len(values), np.int64), "" if low == 0 else f"polarity is {low:g} everywhere, taken as the one"
    if low == -1 and set(np.unique(values).tolist()) <= {-1, 1}:
        return (values > 0).astype(np.int64), "polarity is -1 and 1, taken as 0 and 1"
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{name}: polarity is {low:g} to {high:g}; it must be 0 and 1, or -1 and 1",
            "is this column the polarity? --events order=txyp or p=NAME says which is",
        )
    return values, ""


# --------------------------------------------------------------------------------------------------------------- time


def _microseconds(
    name: str, time: NDArray[Any], found: Found, expected: Expected, options: EventOptions
) -> tuple[NDArray[np.int64], str]:
    """Return times in microseconds, and the unit that they had and how that is known."""
    unit: Unit
    if time.dtype.kind in "mM":
        step, count = np.datetime_data(time.dtype)
        if step not in NAMES or count != 1:
            raise DataError(f"{name}: its times are of type {time.dtype}", "datetimes in s, ms, us or ns are read")
        unit, how = step, f"says their type, {time.dtype}"  # type: ignore[assignment]
        time = time.astype(np.int64)
    elif options.unit:
        unit, how = options.unit, "as said"
    elif found.unit:
        unit, how = found.unit, "by the format"
    else:
        unit, how = _detected(name, time, expected)
    scale = _NANOSECONDS[unit]
    if max(abs(float(time.min())), abs(float(time.max()))) * scale / 1000 >= 2**62:
        raise DataError(
            f"{name}: its times reach {float(time.max()):g} {NAMES[unit]}", "is that their unit? --events unit=…"
        )
    if time.dtype.kind == "f":
        made = np.rint(time.astype(np.float64) * (scale / 1000)).astype(np.int64)
        nearest = float(np.spacing(np.abs(time).max())) * scale / 1000
        if nearest > 1:
            how += f", given to the nearest {nearest:g} us only"
    else:
        made = time.astype(np.int64)
        made = made * (scale // 1000) if scale >= 1000 else made // 1000
    return made, f"{NAMES[unit]} ({how})"


def _detected(name: str, time: NDArray[Any], expected: Expected) -> tuple[Unit, str]:
    """Return the unit of times that do not say it, if that is certain enough to be reported."""
    span = float(time.max()) - float(time.min())
    usual = expected.longest

    def lasts(unit: str) -> float:
        return span * _NANOSECONDS[unit] / 1000

    def fits(unit: str) -> bool:
        return usual is None or usual / _SHORT <= lasts(unit) <= usual * _LONG

    whole = time.dtype.kind != "f" or np.array_equal(np.floor(time), time)
    if whole and (span == 0 or fits("us")):
        return "us", "whole numbers are taken as such"
    if not whole and fits("s") and span < 1000:
        return "s", f"fractions over {span:.3g} are taken as such"
    if not whole and usual and fits("us"):
        return "us", f"as long as those of the training, {_ms(usual)} ms at most"
    raw = "whole numbers" if whole else "fractions"
    most = f"; the recordings of the training last up to {_ms(usual)} ms" if usual else ""
    likely = next((unit for unit in NAMES if usual and fits(unit)), None)
    raise DataError(
        f"{name} does not say the unit of its times, {raw} over {span:.12g}: that is {_ms(lasts('us'))} ms in "
        f"microseconds{most}",
        f"--events unit={likely}, if they are {NAMES[likely]}" if likely else "say it: --events unit=s|ms|us|ns",
    )


def _start(first: int, expected: Expected, options: EventOptions) -> tuple[int, str]:
    """Return the time of the file's clock at which the recording begins, and where that is in words."""
    within = first >= 0
    if within and options.start is None and not expected.continued:
        bound = expected.window or expected.longest
        within = bound is None or first < bound
    if options.start == "file" or (options.start is None and within):
        return 0, "time begins with the file's clock"
    return first, "time begins at the first event"


def _why_not(events: Events, sensor: Sensor, late: int) -> str:
    """Return what would work for events that the sensor cannot have, or that are not in order."""
    if late:
        return f"{late} events are before the one before them: --events sort puts them in order and says how many moved"
    reach = ", ".join(f"{each} {int(events[each].min())} to {int(events[each].max())}" for each in "xy")
    return (
        f"its events have {reach}; these are not recordings of a sensor of {sensor.width} x {sensor.height}, "
        "which were trained on"
    )


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".")
