"""What a reader finds in a file, what a network expects of it, and the report of what was made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.data.readers.event_options import Unit

_USUAL = 10
"""Times as long as what a network sees: the longest recording, where that is not known."""


@dataclass(frozen=True)
class Found:
    """The columns of a file, as they stand there."""

    form: str
    """What the file is, in words."""
    columns: Mapping[str, Any]
    """t, x, y and p, each [N]; y may lack where the sensor is 1 high, p where it has one polarity."""
    unit: Unit | None = None
    """The unit of t, where the format fixes it, or a name in the file says it."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """What else the file holds and is left out, and how many of each."""
    notes: tuple[str, ...] = ()
    """What was detected while it was read."""
    sensor: tuple[int, int] | None = None
    """Width and height of the sensor, where the file states it."""
    origin: Literal[0, 1] = 0
    """From which number on the format counts x and y."""
    polarity: tuple[int, int] | None = None
    """The format's numbers of an event to darker and of one to brighter, where they are others than 0 and 1."""
    unit_from: str = "by the format"
    """How the unit is known."""


@dataclass(frozen=True)
class Expected:
    """What a network was trained on."""

    how: Frames
    data_set: str = ""
    continued: bool = False
    """Whether its states say how many frames came before, so that time continues by the file's clock."""
    span: int | None = None
    """The microseconds from first to last event of the longest recording of one's own data; None: it is not known."""

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
    """What the two polarities are in the file."""
    start: str
    """Where time begins."""
    dropped: Mapping[str, int]
    notes: tuple[str, ...]
    sensor_from: str
    """How the size of the sensor is known."""

    def lines(self) -> list[str]:
        """Return it for a person: one line, and one for each thing that was detected, changed or left out."""
        about = (
            f"{self.form}, {self.count} events on {self.sensor.width} x {self.sensor.height}, "
            f"{ms(self.first)} to {ms(self.last)} ms by its clock; times in {self.unit}; polarity {self.polarity}; "
            f"{self.start}"
        )
        left = [f"left out: {count} {what}" for what, count in self.dropped.items() if count]
        return [f"{self.file}: {line}" for line in (about, *left, *self.notes)]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "form": self.form,
            "events": self.count,
            "sensor": list(self.sensor),
            "sensor_from": self.sensor_from,
            "first_us": self.first,
            "last_us": self.last,
            "unit": self.unit,
            "polarity": self.polarity,
            "start": self.start,
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Recording:
    """Events in order of time, on the sensor, from 0 on; and the report."""

    events: Events
    report: Report


def ms(microseconds: float) -> str:
    """Return microseconds as milliseconds in words."""
    return f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".")
