"""From the columns of a file to events that a network may see, and the report of what was made of them.

Every format comes through here: units, polarity, order, the beginning of time, the sensor. What a file does not say is
said by the user, or detected and reported, or refused. Nothing is guessed in silence.

Time begins with the file's clock where the first event lies in the frames that the network sees; else, as with a camera
that was switched on long before, at the first event. The report says which.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import Events, Sensor, check, make_events
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.data.readers.event_report import Expected, Found, Recording, Report, ms
from hstnn_deploy.data.readers.event_times import microseconds, moved
from hstnn_deploy.errors import DataError

__all__ = ["Expected", "Found", "Recording", "Report", "as_order", "make_recording", "see"]

_SHORTER = "specify the unit of its times, begin at the first event (--events unit=…,start=first), or cut it"
_MOST = 2**31
"""Values that the frames of a whole recording may have."""


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
    sensor, notes, dropped = expected.sensor, list(found.notes), dict(found.dropped)
    if (stated := options.sensor or found.sensor) and stated != sensor[:2]:
        size = f"{sensor.width} x {sensor.height}"
        raise DataError(
            f"{name} is from a sensor of {stated[0]} x {stated[1]}; the network was trained on one of {size}",
            f"crop or scale it, or take it as it is: --events sensor={sensor.width}x{sensor.height}",
        )
    columns = _numbers(name, found, sensor, options, dropped)
    time, unit = microseconds(name, columns["t"], found, expected, options)
    p, polarity = _polarity(name, columns["p"], sensor, options.polarity or found.polarity, options)
    fields = _places(name, columns, found, sensor, options, notes)
    events = make_events(fields["x"], fields["y"], time, p)
    if (late := int((time[1:] < time[:-1]).sum())) and options.sort:
        late = int((time < np.maximum.accumulate(time)).sum())
        events = events[np.argsort(time, kind="stable")]
        notes.append(f"{late} of {len(events)} events were out of order in time and were sorted")
        late = 0
    first, last = int(events["t"].min()), int(events["t"].max())
    events["t"], start, after = moved(events["t"], expected, options)
    if not after.all():
        dropped["events before the recording began, at its offset"] = int((~after).sum())
        events = events[after]
        if not len(events):
            raise DataError(f"{name}: all {len(after)} events come before 0 at its offset", "--events offset=…")
    try:
        check(events, sensor, name)
    except DataError as error:
        raise DataError(error.message, _why_not(events, sensor, late, options)) from error
    width, height = int(events["x"].max()) + 1, int(events["y"].max()) + 1
    if sensor.height > 1 and 2 * width <= sensor.width and 2 * height <= sensor.height:
        notes.append(f"all events are within {width} x {height}: is it from a smaller sensor?")
    notes += see(name, events["t"], expected)
    sensor_from = "as given" if options.sensor else "as the file states" if found.sensor else "as the network's"
    return Recording(
        events,
        Report(
            *(name, found.form, len(events), sensor, first, last, unit, polarity, start, dropped, tuple(notes)),
            sensor_from=sensor_from,
        ),
    )


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
            raise DataError(f"{name}: it makes {count} {kind.told()}, too many", _SHORTER)
        return []
    frame, steps = expected.how.frame_time, expected.how.steps
    seen = time - time.min() if expected.aligned else time
    span = f"{ms(int(seen.min()))} to {ms(int(seen.max()))} ms"
    inside = seen
    if steps:
        inside = seen[(seen >= 0) & (seen < steps * frame)]
        window = f"{steps} frames of {ms(frame)} ms"
        if len(inside) == 0:
            raise DataError(
                f"{name}: none of its {len(seen)} events is within the {window} that the network sees, but at {span}",
                "specify the unit of its times, or begin at the first event: --events unit=s|ms|us|ns,start=first",
            )
    elif int(seen.max()) // frame * expected.sensor.places >= _MOST:
        raise DataError(
            f"{name}: its last event, at {ms(int(seen.max()))} ms, makes {int(seen.max()) // frame + 1} frames of "
            f"{ms(frame)} ms, too many",
            _SHORTER,
        )
    notes = []
    if len(inside) < len(seen):
        notes.append(f"{len(inside)} of {len(seen)} events are in the {window} that the network sees")
    if steps != 1 and len(inside) > 1 and len(np.unique(inside // frame)) == 1:
        where = f"frame {int(inside[0]) // frame}" + (f" of {steps}" if steps else "")
        notes.append(f"all {len(inside)} events that the network sees are in {where}: is the unit of time correct?")
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
            f"{name} contains plain numbers {list(rows.shape)}, but which column is which is not certain",
            "specify it: --events order=txyp, in the order of the columns, with - for one to leave out",
        )
    (t,), (p,), (x, y) = kinds["t"], kinds["p"], kinds[""]
    order = "".join({t: "t", p: "p", x: "x", y: "y"}.get(number, "-") for number in columns)
    return order, f"plain columns, detected as {', '.join(order)} (t ascends, p has two values, x before y)"


# ------------------------------------------------------------------------------------------------------------ columns


def _numbers(
    name: str, found: Found, sensor: Sensor, options: EventOptions, dropped: dict[str, int]
) -> dict[str, NDArray[Any]]:
    """Return the columns as arrays of real, finite numbers (times may be datetimes), all of one length."""
    columns = {each: np.asarray(values) for each, values in found.columns.items()}
    if "y" not in columns and sensor.height == 1:
        columns["y"] = np.full(len(columns["t"]), options.origin or found.origin)
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
        raise DataError(f"{name}: its columns differ in length: {told}", "give one number of each to an event")
    if len(columns["t"]) == 0:
        left = "".join(f"; {count} {what} were left out" for what, count in dropped.items() if count)
        raise DataError(f"{name} contains no events{left}", "there is nothing for the network to see")
    kept = np.ones(len(columns["t"]), bool)
    for each, values in columns.items():
        if values.dtype.kind not in ("biufmM" if each == "t" else "biuf"):
            raise DataError(f"{name}: {each} has type {values.dtype}", "the columns of events must be real numbers")
        wrong = np.isnat(values) if values.dtype.kind in "mM" else ~np.isfinite(values)
        kept &= ~wrong
        if wrong.any() and not options.drop_nan:
            number = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{name}: event {number} of {len(values)} has {each} {values[number]}, which is not a number "
                f"({int(wrong.sum())} such events)",
                "remove these events first, or drop them: --events drop=nan",
            )
    if kept.all():
        return columns
    dropped["events with a value that is not a number"] = int((~kept).sum())
    if not kept.any():
        raise DataError(f"{name} contains no event that is all numbers", "there is nothing for the network to see")
    return {each: values[kept] for each, values in columns.items()}


def _places(
    name: str,
    columns: dict[str, NDArray[Any]],
    found: Found,
    sensor: Sensor,
    options: EventOptions,
    notes: list[str],
) -> dict[str, NDArray[np.int64]]:
    """Return x and y as whole numbers from 0 on, counted from the left and from above."""
    fields = {}
    for each in "xy":
        values = columns[each]
        whole = np.floor(values) if values.dtype.kind == "f" else values
        if values.dtype.kind == "f" and (broken := int((whole != values).sum())):
            notes.append(f"{each} of {broken} events has fractions; the whole part is taken")
        if max(abs(float(whole.min())), abs(float(whole.max()))) >= 2**31:
            raise DataError(f"{name}: {each} reaches {whole.max():g}", f"these are no {each} of events")
        fields[each] = whole.astype(np.int64)
    origin = found.origin if options.origin is None else options.origin
    if origin:
        how = "by the format" if options.origin is None else "as given"
        notes.append(f"x and y are counted from 1 ({how}): 1 is taken off those of {len(fields['x'])} events")
        fields = {each: values - origin for each, values in fields.items()}
    for each in options.flip:
        notes.append(f"{each} of {len(fields[each])} events is counted from the other side, as given")
        fields[each] = (sensor.width if each == "x" else sensor.height) - 1 - fields[each]
    return fields


def _polarity(
    name: str, values: NDArray[Any], sensor: Sensor, pair: tuple[int, int] | None, options: EventOptions
) -> tuple[NDArray[np.int64], str]:
    """Return polarities as 0 and 1, and what they were in the file."""
    low, high = float(values.min()), float(values.max())
    if pair is None and sensor.polarities == 1 and low == high:
        return np.zeros(len(values), np.int64), "none" if low == 0 else f"{low:g} everywhere, taken as the one"
    if pair is None:
        pair = (-1, 1) if low == -1 else (0, 1)
    if not np.isin(values, pair).all():
        wrong = int((~np.isin(values, pair)).sum())
        known = f"{pair[0]} and {pair[1]}, as given" if options.polarity else "0 and 1, or -1 and 1"
        raise DataError(
            f"{name}: polarity is {low:g} to {high:g}; {known} are expected ({wrong} of {len(values)} events)",
            "specify which number means darker and which brighter (--events p=1/2), or which column it is "
            "(order=txyp or p=NAME)",
        )
    made = (values == pair[1]).astype(np.int64)
    if pair == (0, 1):
        return made, "0 and 1"
    changed = int((made != values).sum())
    how = ", as given" if options.polarity else ""
    return made, f"{pair[0]} and {pair[1]}, taken as 0 and 1{how} ({changed} of {len(values)} events changed)"


def _why_not(events: Events, sensor: Sensor, late: int, options: EventOptions) -> str:
    """Return what would work for events that the sensor cannot have, or that are not in order."""
    outside = any(
        (events[each] < 0).any() or (events[each] >= size).any() for each, size in zip("xy", sensor[:2], strict=True)
    )
    if late and not outside:
        return (
            f"{late} events are earlier than the one before them: --events sort sorts them and reports how many moved"
        )
    if int(events["t"].min()) < 0 and not outside:
        return "let time begin at the first event: --events start=first"
    counted = [
        (int(events[each].min()), int(events[each].max()), size) for each, size in zip("xy", sensor[:2], strict=True)
    ]
    if options.origin is None and all(low == 1 and high == size for low, high, size in counted):
        return "they seem to be counted from 1: --events origin=1"
    reach = ", ".join(f"{each} {int(events[each].min())} to {int(events[each].max())}" for each in "xy")
    return (
        f"its events have {reach}; the network was trained on recordings of a sensor of "
        f"{sensor.width} x {sensor.height}"
    )
