"""Recordings of one's own, read one by one: sensor, duration, rate, polarities, and what their readers say of them."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking.checked import Checked, Example, Measure, spread, told
from hstnn_deploy.data.checking.listed import Asked, Folder, survey
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.own.config import FoundEvents, OwnEvents
from hstnn_deploy.data.own.events import Reader, looked_at, sensor_said, usual_span
from hstnn_deploy.data.own.listing import list_own
from hstnn_deploy.data.readers import event_files
from hstnn_deploy.data.readers.event_options import parse_options
from hstnn_deploy.data.readers.event_report import Recording
from hstnn_deploy.errors import DataError

_FEW = 10
"""Events that are too few for anything to be seen in them."""
_ODD = 10
"""So many times as long, or as short, as the others: an oddity."""
_HOT = 0.2
"""The share of all events that a pixel must not have."""
_STEPS = 100
"""Points in time at which an example of a sensor of one row is drawn."""
_WIDEST = 2**15


class _Row(NamedTuple):
    """What is kept of a recording."""

    number: int
    events: int
    milliseconds: float
    brighter: float
    """The share of events to brighter."""
    busiest: float
    """The share of events of one pixel."""


def check(found: Checked, config: OwnEvents, asked: Asked) -> None:
    """Read the recordings of a configuration; see `Checked`.

    Raises:
        DataError: nothing could be listed.
    """
    listing = list_own(config, event_files.EVENT_FILES, tell=found.notes.refuse)
    folder = survey(found, listing, asked)
    sensor, how = _sensor(found, config, folder, asked)
    seen = FoundEvents(
        listing="0" * 64, classes=list(listing.classes)[:1], train=[], valid=[], test=[], sensor=sensor, longest=1
    )
    reader = Reader(listing, config.model_copy(update={"found": seen}))
    seen = seen.model_copy(update={"span": _span(reader)})
    reader = Reader(listing, config.model_copy(update={"found": seen}))
    rows: list[_Row] = []
    read: Counter[str] = Counter()
    drawn: set[int] = set()
    for done, number in enumerate(folder.numbers.tolist(), 1):
        asked.progress("reading recordings", done, len(folder.numbers))
        try:
            recording = reader.recording(number)
            folder.contents.add_file(number, listing.path(number))
        except DataError as error:
            found.notes.refuse(error, folder.name(number))
            continue
        rows.append(_row(number, recording.events, sensor))
        _tell_report(found, folder, number, recording, read)
        if (label := folder.label(number)) not in drawn:
            drawn.add(label)
            found.examples.append(Example(label, folder.name(number), "events", _seen(recording.events, sensor)))
    _tell_rows(found, folder, rows)
    folder.tell_copies(found)
    _write(found, folder, rows, sensor, how, read)


def _span(reader: Reader) -> int | None:
    """Return how long recordings are, in microseconds, as a training finds it from some; None: none can be read."""
    seen: list[Events] = []
    for number in looked_at(len(reader.listing.names)):
        try:
            seen.append(reader.read(number))
        except DataError:
            continue  # it is told when it is read again
    return usual_span(seen) if seen else None


def _sensor(found: Checked, config: OwnEvents, folder: Folder, asked: Asked) -> tuple[Sensor, str]:
    """Return the sensor as it was said, or as a file states it; else what all events fit on, which is refused."""
    options = parse_options(config.events)
    if (said := sensor_said(config, options)) is not None:
        return said, f"as {'data.events' if config.sensor_size is None else 'data.sensor_size'} says"
    reach = [0, 0]
    for done, number in enumerate(folder.numbers.tolist(), 1):
        asked.progress("looking for the sensor", done, len(folder.numbers))
        try:
            columns = event_files.read_columns(folder.listing.path(number), options)
        except DataError:
            continue  # it is told when it is read
        if columns.sensor is not None:
            return Sensor(*columns.sensor), f"as {folder.listing.path(number)} states"
        for axis, each in enumerate("xy"):
            values = np.asarray(columns.columns.get(each, np.zeros(1)))
            if values.dtype.kind in "iuf" and values.size:
                most = float(np.nanmax(values)) if not np.isnan(values).all() else 0.0
                reach[axis] = max(reach[axis], int(min(max(most, 0.0), _WIDEST - 1)))
    width, height = reach[0] + 1, reach[1] + 1
    error = DataError(
        f"no recording states its sensor size; the events of those that were read fit on {width} x {height}",
        f"specify it: --set data.sensor_size=[{width},{height}], or larger, if that is the sensor",
    )
    found.notes.refuse(error)
    return Sensor(width, height, 1 if height == 1 else 2), "not given: as large as the events reach"


def _row(number: int, events: Events, sensor: Sensor) -> _Row:
    place_ = events["y"].astype(np.int64) * sensor.width + events["x"]
    busiest = int(np.unique(place_, return_counts=True)[1].max())
    span = float(events["t"].max() - events["t"].min()) / 1000
    return _Row(number, len(events), span, float((events["p"] == 1).mean()), busiest / len(events))


def _tell_report(found: Checked, folder: Folder, number: int, recording: Recording, read: Counter[str]) -> None:
    """Note what a reader left out, changed or found odd; count what it took for granted."""
    report, name = recording.report, folder.name(number)
    path = folder.listing.path(number)
    read[f"{report.form}; times in {report.unit.partition(' ')[0]}; polarity {report.polarity.partition(' (')[0]}"] += 1
    for what, count in report.dropped.items():
        if count:
            found.notes.of_file(f"{path}: left out {count} {what}", "nothing, if that is correct", name)
    for note in report.notes:
        if note.endswith("?") or "were sorted" in note or "has fractions" in note:
            found.notes.of_file(
                f"{path}: {note}", "inspect it: `hstnn run` and data.events control how it is read", name
            )


def _tell_rows(found: Checked, folder: Folder, rows: list[_Row]) -> None:
    if not rows:
        return
    usual = float(np.median([row.events for row in rows]))
    long = float(np.median([row.milliseconds for row in rows]))
    for row in rows:
        name = folder.name(row.number)
        path = folder.listing.path(row.number)

        def note(message: str, hint: str, name: str = name, path: object = path) -> None:
            found.notes.of_file(f"{path} {message}", hint, name)

        if row.events < _FEW or row.events < usual / 100:
            note(f"has {row.events} events; {usual:.0f} are usual", "inspect it; remove it if it is empty")
        elif row.milliseconds == 0:
            note("has all its events at the same time", "is its unit of time correct? --set data.events=unit=…")
        elif row.milliseconds > _ODD * long or row.milliseconds < long / _ODD:
            note(
                f"lasts {row.milliseconds:.4g} ms; {long:.4g} are usual",
                "inspect it: does it have the same unit of time as the others, and was it cut?",
            )
        if row.busiest > _HOT and row.events >= _FEW:
            note(
                f"has {100 * row.busiest:.0f} % of its events at one pixel",
                "is that pixel broken? data.transforms can drop its events: refractory-period, denoise",
            )
    one = [row.number for row in rows if row.brighter in (0, 1)]
    if one and len(one) < len(rows):
        for number in one:
            found.notes.of_file(
                f"{folder.listing.path(number)} has events of one polarity only",
                "did the other one get lost? --set data.events=p=OFF/ON says which numbers they are",
                folder.name(number),
            )


def _write(found: Checked, folder: Folder, rows: list[_Row], sensor: Sensor, how: str, read: Counter[str]) -> None:
    table = np.array(rows, np.float64).reshape(-1, 5)
    labels = folder.listing.labels[table[:, 0].astype(np.int64)]
    count, long, brighter = table[:, 1], table[:, 2], table[:, 3]
    # A recording at one time has no rate.
    lasting = long > 0
    rate = count[lasting] / long[lasting]
    found.measures += [
        Measure("duration, ms", long, labels),
        Measure("events", count, labels),
        Measure("events per ms", rate, labels[lasting]),
    ]
    by_class: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(folder.listing.classes):
        of = labels == label
        by_class[name] = {
            "read": int(of.sum()),
            "milliseconds": spread(long[of]),
            "events": spread(count[of]),
            "per_ms": spread(rate[labels[lasting] == label]),
            "brighter": round(float(brighter[of].mean()), 3) if of.any() else None,
        }
    found.facts |= {
        "sensor": list(sensor),
        "sensor_from": how,
        "milliseconds": spread(long),
        "events": spread(count),
        "per_ms": spread(rate),
        "by_class": by_class,
        "read_as": dict(read.most_common(20)),
    }
    if len(read) > 1:
        kinds = "; or ".join(f"{what} ({times})" for what, times in read.most_common(4))
        found.notes.note(
            f"recordings are read in {len(read)} ways: {kinds}", "is each of them correct? data.events says"
        )
    found.lines += [
        f"sensor: {sensor.width} x {sensor.height}, {sensor.polarities} polarities, {how}",
        *(f"read as: {what} ({times})" for what, times in read.most_common(4)),
        f"duration: {told(found.facts['milliseconds'], 'ms')}",
        f"events of a recording: {told(found.facts['events'])}",
        f"rate: {told(found.facts['per_ms'], 'events per ms')}",
    ]
    if 1 < len(by_class) <= 12:
        for name, each in by_class.items():
            if each["read"]:
                share = 100 * each["brighter"]
                found.lines.append(
                    f"  {name}: {told(each['milliseconds'], 'ms')}; {told(each['per_ms'], 'events per ms')}; "
                    f"{share:.0f} % of events to brighter"
                )


def _seen(events: Events, sensor: Sensor) -> NDArray[np.float64]:
    """Return counts [P, H, W] of a recording; of a sensor of one row [P, W, steps], for it is seen over time."""
    places = sensor.height > 1
    step = max(1, max(sensor.width, sensor.height if places else 1) // 256)
    x = events["x"] // step
    width = -(-sensor.width // step)
    if places:
        found = np.zeros((sensor.polarities, -(-sensor.height // step), width))
        np.add.at(found, (events["p"], events["y"] // step, x), 1)
        return found
    found = np.zeros((sensor.polarities, width, _STEPS))
    span = int(events["t"].max()) + 1
    np.add.at(found, (events["p"], x, np.minimum(events["t"] * _STEPS // span, _STEPS - 1)), 1)
    return found
