"""What is drawn of events while training, and never else: tonic's random transforms by name.

    augment:
      - {name: drop-event, p: 0.1}
      - {name: time-jitter, std: 1000}
      - {name: flip}

tonic draws from numpy's global generator. It is seeded for each recording from torch's, and put back: a training that
goes on has the same draws as one that was never interrupted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key
from hstnn_deploy.data.dataset import Cache
from hstnn_deploy.data.events.events import EVENT, Events, Sensor
from hstnn_deploy.errors import DataError

Draw = Callable[[Events], Events]
Read = Callable[[int], Events]


class _Augmentation(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @abstractmethod
    def build(self, sensor: Sensor) -> Draw:
        """Return tonic's transform for events of a sensor."""


class DropEvent(_Augmentation):
    """Leave out a share of the events, chosen at random."""

    name: Literal["drop-event"] = "drop-event"
    p: float = Field(gt=0, lt=1)
    """The share."""

    @override
    def build(self, sensor: Sensor) -> Draw:
        return _tonic("DropEvent", p=self.p)


class TimeJitter(_Augmentation):
    """Move each event in time by a draw from a normal distribution; one that comes before the beginning is left out."""

    name: Literal["time-jitter"] = "time-jitter"
    std: float = Field(gt=0, le=1e9)
    """Microseconds."""

    @override
    def build(self, sensor: Sensor) -> Draw:
        return _tonic("TimeJitter", std=self.std, clip_negative=True, sort_timestamps=True)


class Flip(_Augmentation):
    """Turn some recordings left to right."""

    name: Literal["flip"] = "flip"
    p: float = Field(0.5, gt=0, le=1)
    """How often."""

    @override
    def build(self, sensor: Sensor) -> Draw:
        return _tonic("RandomFlipLR", sensor_size=tuple(sensor), p=self.p)


Augmentation = Annotated[DropEvent | TimeJitter | Flip, Field(discriminator="name")]


def augmentation(given: Sequence[Augmentation], sensor: Sensor) -> Draw:
    """Return augmentations one after another, seeded from torch's global generator at each call."""
    built = [each.build(sensor) for each in given]

    def draw(events: Events) -> Events:
        seed = int(torch.randint(2**31, ()))
        before = np.random.get_state()
        try:
            np.random.seed(seed)
            for each in built:
                events = each(events)
        finally:
            np.random.set_state(before)
        return events

    return draw


def kept_events(read: Read, count: int, where: Cache, key: Key | None, progress: Callable[[int, int], None]) -> Read:
    """Return what reads transformed events from where they are kept; they are prepared now, unless nothing is kept.

    Args:
        read: reads and transforms one recording.
        count: how many there are.
        where: what keeps them; on a device they are in memory.
        key: of the entry on disk; None: they are in memory.
        progress: told how many of how many are prepared.

    Raises:
        DataError: a recording is damaged or too long, or the cache cannot be written.
    """
    if where == "none":
        return read

    def rows() -> Iterator[NDArray[np.int32]]:
        for number in range(count):
            yield _as_row(read(number))
            progress(number + 1, count)

    kept = cache.on_disk(key, rows) if where == "disk" and key is not None else cache.in_memory(key, rows)

    def again(number: int) -> Events:
        row = kept.values[int(kept.offsets[number]) : int(kept.offsets[number + 1])].numpy().reshape(4, -1)
        events = np.empty(row.shape[1], EVENT)
        for name, column in zip("xytp", row, strict=True):
            events[name] = column
        return events

    return again


def _as_row(events: Events) -> NDArray[np.int32]:
    if len(events) and int(events["t"][-1]) >= 2**31:
        raise DataError(
            f"a recording of {events['t'][-1] / 1e6:.0f} s is too long to be drawn from", "crop it in time (crop-time)"
        )
    return np.concatenate([events[name].astype(np.int32) for name in "xytp"])


def _tonic(name: str, **parameters: Any) -> Draw:
    import tonic.transforms

    made: Draw = getattr(tonic.transforms, name)(**parameters)
    return made
