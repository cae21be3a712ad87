"""Transforms of events as a recipe names them, tonic's but for `pick`: typed, without randomness, before framing.

    transforms:
      - {name: denoise, filter_time: 10000}
      - {name: downsample, factor: 4}

Each says what it makes of the sensor. What draws at random belongs to training, not here: see `frames`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from hstnn_deploy.data.events.events import Events, Sensor

Chain = Callable[[Events], Events]


class _Transform(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @abstractmethod
    def build(self, sensor: Sensor) -> Chain:
        """Return tonic's transform for events of a sensor."""

    def after(self, sensor: Sensor) -> Sensor:
        """Return the sensor that the transformed events seem to come from."""
        return sensor


class Denoise(_Transform):
    """Drop events without a neighbour in place and time."""

    name: Literal["denoise"] = "denoise"
    filter_time: float = Field(10_000, gt=0)
    """Microseconds within which one of the four neighbouring pixels must have had an event."""

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("Denoise", filter_time=self.filter_time)


class Downsample(_Transform):
    """Take pixels together, `factor` by `factor`; no event is dropped."""

    name: Literal["downsample"] = "downsample"
    factor: int = Field(gt=1)

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("Downsample", spatial_factor=(1 / self.factor, 1 / self.factor))

    @override
    def after(self, sensor: Sensor) -> Sensor:
        return sensor._replace(width=-(-sensor.width // self.factor), height=-(-sensor.height // self.factor))


class Pick(_Transform):
    """Keep every `factor`-th pixel in x and y, and drop the events of all others."""

    name: Literal["pick"] = "pick"
    factor: int = Field(gt=1)

    @override
    def build(self, sensor: Sensor) -> Chain:
        return self._picked

    def _picked(self, events: Events) -> Events:
        kept: Events = events[(events["x"] % self.factor == 0) & (events["y"] % self.factor == 0)]
        kept["x"] //= self.factor
        kept["y"] //= self.factor
        return kept

    @override
    def after(self, sensor: Sensor) -> Sensor:
        return sensor._replace(width=-(-sensor.width // self.factor), height=-(-sensor.height // self.factor))


class CenterCrop(_Transform):
    """Keep the middle of the sensor, `size` by `size`."""

    name: Literal["center-crop"] = "center-crop"
    size: int = Field(gt=0)

    @override
    def build(self, sensor: Sensor) -> Chain:
        after = self.after(sensor)
        return _tonic("CenterCrop", sensor_size=tuple(sensor), size=(after.width, after.height))

    @override
    def after(self, sensor: Sensor) -> Sensor:
        return sensor._replace(width=min(self.size, sensor.width), height=min(self.size, sensor.height))


class CropTime(_Transform):
    """Keep the events of a span of time; their times stay as they are."""

    name: Literal["crop-time"] = "crop-time"
    start: int = Field(0, ge=0)
    """Microseconds."""
    stop: int = Field(gt=0)
    """Microseconds; an event at this time is dropped."""

    @model_validator(mode="after")
    def _not_empty(self) -> "CropTime":
        if self.stop <= self.start:
            raise ValueError(f"stop {self.stop} is not after start {self.start}")
        return self

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("CropTime", min=self.start, max=self.stop - 1)


class TimeAlignment(_Transform):
    """Let time begin at the first event."""

    name: Literal["time-alignment"] = "time-alignment"

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("TimeAlignment")


class RefractoryPeriod(_Transform):
    """Drop a pixel's events that follow another of its events too soon."""

    name: Literal["refractory-period"] = "refractory-period"
    delta: int = Field(gt=0)
    """Microseconds."""

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("RefractoryPeriod", delta=self.delta)


class Decimation(_Transform):
    """Keep every n-th event of each pixel."""

    name: Literal["decimation"] = "decimation"
    n: int = Field(gt=1)

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("Decimation", n=self.n)


class HotPixels(_Transform):
    """Drop all events of pixels that fire more often than a pixel can."""

    name: Literal["hot-pixels"] = "hot-pixels"
    frequency: int = Field(gt=0)
    """Events per second."""

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("DropPixel", hot_pixel_frequency=self.frequency)


class MergePolarities(_Transform):
    """Forget the polarity of events."""

    name: Literal["merge-polarities"] = "merge-polarities"

    @override
    def build(self, sensor: Sensor) -> Chain:
        return _tonic("MergePolarities")

    @override
    def after(self, sensor: Sensor) -> Sensor:
        return sensor._replace(polarities=1)


Transform = Annotated[
    Denoise
    | Downsample
    | Pick
    | CenterCrop
    | CropTime
    | TimeAlignment
    | RefractoryPeriod
    | Decimation
    | HotPixels
    | MergePolarities,
    Field(discriminator="name"),
]


def chain(transforms: Sequence[Transform], sensor: Sensor) -> Chain:
    """Return the transforms one after another, for events of a sensor. tonic is imported here, not before."""
    if not transforms:
        return lambda events: events
    built = []
    for each in transforms:
        built.append(each.build(sensor))
        sensor = each.after(sensor)
    return _tonic("Compose", transforms=built)


def sensor_after(transforms: Sequence[Transform], sensor: Sensor) -> Sensor:
    """Return the sensor that events seem to come from after the transforms."""
    for each in transforms:
        sensor = each.after(sensor)
    return sensor


def _tonic(name: str, **parameters: Any) -> Chain:
    import tonic.transforms

    made: Chain = getattr(tonic.transforms, name)(**parameters)
    return made
