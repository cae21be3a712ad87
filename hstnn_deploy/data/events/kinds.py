"""Other ways than frames at fixed times to cut a recording into frames, each as the library that it comes from does it.

    frames: {by: time, time: 4000, from: first-event}    tonic's time_window: windows from the first event on
    frames: {by: bins, bins: 25}                         tonic's n_time_bins: as many equal times
    frames: {by: parts, parts: 16}                       SpikingJelly's split by time: the last takes the rest
    frames: {by: number, number: 16}                     SpikingJelly's split by number: as many equal numbers of events
    frames: {by: count, count: 2000, steps: 60}          tonic's event_count: this number of events a frame

Each looks at all events of a recording after the transforms. Shapes: N events.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer
from typing_extensions import override

from hstnn_deploy.data.events.transforms import CropTime, Transform

Cut = tuple[NDArray[np.int64], int]
"""The frame of each event, [N], -1 of those that are dropped; and how many frames there are."""


class _Kind(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid")

    by: str
    whole: ClassVar[str]
    """Why a graph that sees events one after another cannot make such frames."""

    pick: int | None = Field(None, gt=1)
    """Keep only every `pick`-th pixel of the frames in y and x; null: keep all.

    This is how torch's `interpolate` downsamples frames. The transform `pick` does the same before events are cut into
    frames, which gives other frames."""

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `pick` where all pixels are kept, and write `from`, which cannot be a name in Python."""
        found = {"from" if key == "begin" else key: value for key, value in handler(self).items()}
        return {key: value for key, value in found.items() if (key, value) != ("pick", None)}

    @property
    @abstractmethod
    def fixed(self) -> int | None:
        """Frames of every recording; None where that depends on the recording."""

    @abstractmethod
    def most(self, lasts: int) -> int:
        """Return the most frames of a recording that lasts `span` microseconds from its first to its last event."""

    @abstractmethod
    def cut(self, time: NDArray[np.int64]) -> Cut:
        """Return the frames of events at these times, microseconds, ascending."""

    @abstractmethod
    def told(self) -> str:
        """Return what the frames are, in words."""


class ByTime(_Kind):
    """Windows of equal time from the first event on; the last may reach past the last event.

    An event at the end of the last window is dropped, as tonic's `ToFrame(time_window, include_incomplete=True)` does.
    """

    whole: ClassVar[str] = "begin at the first event and end with the last one"

    by: Literal["time"] = "time"
    time: PositiveInt
    """Length of a frame in microseconds."""
    begin: Literal["first-event"] = Field("first-event", alias="from")
    """Where the first window begins."""

    @property
    @override
    def fixed(self) -> None:
        pass

    @override
    def most(self, lasts: int) -> int:
        return max(1, -(-lasts // self.time))

    @override
    def cut(self, time: NDArray[np.int64]) -> Cut:
        if len(time) == 0:
            return time, 1
        frame, count = (time - time[0]) // self.time, self.most(int(time[-1] - time[0]))
        return np.where(frame < count, frame, -1), count

    @override
    def told(self) -> str:
        return f"frames of {self.time / 1000:g} ms from the first event on"


class ByBins(_Kind):
    """Equal times, as many as requested, rounded down to microseconds; what comes after the last is dropped.

    So does tonic's `ToFrame(n_time_bins)`; where all frames are as long as can be, that is the last event.
    """

    whole: ClassVar[str] = "divide the time from the first event to the last"

    by: Literal["bins"] = "bins"
    bins: PositiveInt
    """Number of frames."""

    @property
    @override
    def fixed(self) -> int:
        return self.bins

    @override
    def most(self, lasts: int) -> int:
        return self.bins

    @override
    def cut(self, time: NDArray[np.int64]) -> Cut:
        span = int(time[-1] - time[0]) // self.bins if len(time) else 0
        if span == 0:
            return np.full(len(time), -1, np.int64), self.bins
        frame = (time - time[0]) // span
        return np.where(frame < self.bins, frame, -1), self.bins

    @override
    def told(self) -> str:
        return f"{self.bins} frames of equal time from the first event to the last"


class ByParts(_Kind):
    """Equal times, as many as requested; the last takes the rest: no event is dropped.

    So does SpikingJelly's split by `time`, which fails where a frame holds no event; here that frame is all zeros.
    """

    whole: ClassVar[str] = "divide the time from the first event to the last"

    by: Literal["parts"] = "parts"
    parts: PositiveInt
    """Number of frames."""

    @property
    @override
    def fixed(self) -> int:
        return self.parts

    @override
    def most(self, lasts: int) -> int:
        return self.parts

    @override
    def cut(self, time: NDArray[np.int64]) -> Cut:
        span = int(time[-1] - time[0]) // self.parts if len(time) else 0
        if span == 0:
            return np.full(len(time), self.parts - 1, np.int64), self.parts
        return np.minimum((time - time[0]) // span, self.parts - 1), self.parts

    @override
    def told(self) -> str:
        return f"{self.parts} frames of equal time, the last takes the rest"


class ByNumber(_Kind):
    """Equal numbers of events; the last frame takes the rest: SpikingJelly's split by `number`.

    Of fewer events than frames, all are in the last.
    """

    whole: ClassVar[str] = "divide the events of a whole recording"

    by: Literal["number"] = "number"
    number: PositiveInt
    """Number of frames."""

    @property
    @override
    def fixed(self) -> int:
        return self.number

    @override
    def most(self, lasts: int) -> int:
        return self.number

    @override
    def cut(self, time: NDArray[np.int64]) -> Cut:
        events = len(time) // self.number
        if events == 0:
            return np.full(len(time), self.number - 1, np.int64), self.number
        return np.minimum(np.arange(len(time)) // events, self.number - 1), self.number

    @override
    def told(self) -> str:
        return f"{self.number} frames of equal numbers of events"


class ByCount(_Kind):
    """A fixed number of events per frame, in order: tonic's `ToFrame(event_count)`.

    A recording of fewer events is one frame, whatever is done with an incomplete one.
    """

    whole: ClassVar[str] = "have a fixed number of events each"

    by: Literal["count"] = "count"
    count: PositiveInt
    """Events of a frame."""
    keep_incomplete: bool = False
    """Whether a last frame of fewer events is kept."""
    steps: PositiveInt
    """Frames at most; what comes after them is dropped."""

    @property
    @override
    def fixed(self) -> None:
        pass

    @override
    def most(self, lasts: int) -> int:
        return self.steps

    @override
    def cut(self, time: NDArray[np.int64]) -> Cut:
        full = -(-len(time) // self.count) if self.keep_incomplete else len(time) // self.count
        count = min(max(1, full), self.steps)
        frame = np.arange(len(time)) // self.count
        return np.where(frame < count, frame, -1), count

    @override
    def told(self) -> str:
        return f"frames of {self.count} events, {self.steps} at most,"


FrameKind = Annotated[ByTime | ByBins | ByParts | ByNumber | ByCount, Field(discriminator="by")]


def lasting(longest: int, transforms: Sequence[Transform]) -> int:
    """Return the microseconds from the first event to the last of the longest recording, at most, after transforms."""
    first, last = 0, longest
    for each in transforms:
        if isinstance(each, CropTime):
            first, last = max(first, each.start), min(last, each.stop - 1)
    return max(0, last - first)
