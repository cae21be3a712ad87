"""What a recording is: events in tonic's form, on a sensor of known size; checked before they are believed."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError

EVENT = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
"""An event, as tonic's data sets give it: place, microseconds since the recording began, polarity."""

Events = NDArray[Any]
"""[N], a structured array with at least the fields of `EVENT`, in order of time."""


class Sensor(NamedTuple):
    """How large a sensor is. A cochlea is 1 high and has one polarity."""

    width: int
    height: int
    polarities: int = 2

    @property
    def places(self) -> int:
        """How many different places an event can have."""
        return self.width * self.height * self.polarities

    @property
    def step(self) -> tuple[int, ...]:
        """The shape of one frame: (polarities, height, width), or (width * polarities,) where the height is 1."""
        return (self.polarities, self.height, self.width) if self.height > 1 else (self.places,)


def make_events(x: Any, y: Any, t: Any, p: Any) -> Events:
    """Return events from their fields; each may be an array or one number for all.

    Raises:
        ValueError: a number is NaN or does not fit into 64 bits.
    """
    events = np.empty(len(x), EVENT)
    for name, values in (("x", x), ("y", y), ("t", t), ("p", p)):
        column = np.asarray(values)
        # NaN fails both comparisons; a cast would make some number of it.
        if column.dtype.kind in "uf" and column.size and not (column.min() >= -(2.0**63) and column.max() < 2.0**63):
            raise ValueError(f"{name} is from {column.min()} to {column.max()}, but an event has 64 bits")
        events[name] = column
    return events


def unwrapped(times: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return times of a counter of `bits` bits that wrapped around, as if it had not."""
    return times + (np.cumsum(np.diff(times, prepend=times[:1]) < -(1 << (bits - 1))) << bits)


def event_rows(events: Events, recording: int = 0) -> NDArray[np.int64]:
    """Return a recording's events as plain rows [N, 5]: the recording's number, t, x, y, p."""
    fields = [np.full(len(events), recording), *(events[name] for name in "txyp")]
    return np.stack(fields, axis=1).astype(np.int64)


def check(events: Events, sensor: Sensor, name: str | Path) -> Events:
    """Return the events of the recording `name` if they are valid.

    Raises:
        DataError: an event before the one that stands before it, before the beginning, or outside the sensor; it says
            which, counting from 0.
    """
    late = np.flatnonzero(events["t"][1:] < events["t"][:-1])
    if len(late):
        number = int(late[0]) + 1
        times = events["t"]
        raise _wrong(name, events, number, f"is at {times[number]} us, before the one before it ({times[number - 1]})")
    if len(events) and events["t"][0] < 0:
        raise _wrong(name, events, 0, f"is at {events['t'][0]} us, before the recording began")
    for field, size in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        outside = np.flatnonzero((events[field] < 0) | (events[field] >= size))
        if len(outside):
            number = int(outside[0])
            what = "polarity" if field == "p" else field
            raise _wrong(name, events, number, f"has {what} {events[field][number]}, but the sensor ends at {size - 1}")
    return events


def _wrong(name: str | Path, events: Events, number: int, what: str) -> DataError:
    return DataError(
        f"{name}: event {number} of {len(events)} {what}", "copy or download it again, or remove it from the data set"
    )
