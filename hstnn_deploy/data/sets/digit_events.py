"""scikit-learn's digits as events: each image is moved past a simulated event camera, and what it emits is framed.

The camera (DVS) has a logarithmic receptor per pixel. A pixel emits an event whenever its log intensity has moved by
`_THRESHOLD` since its last event: polarity 1 for brighter, 0 for darker. As in the recordings of N-MNIST, the movement
is three saccades along a triangle, back to where it began. Recordings are in tonic's form: a structured array with
fields x, y, t (microseconds) and p, in order of time. Nothing is random, and simulating them takes a second, so that
nothing is cached on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Recordings, Source
from hstnn_deploy.data.events.events import EVENT, Events, Sensor
from hstnn_deploy.data.events.recordings import EventConfig, Known, SomeRecordings, make_splits
from hstnn_deploy.data.pictures.events import draw_events
from hstnn_deploy.data.sets.digits import digit_images
from hstnn_deploy.data.splits import Splits, hold_out

SENSOR = 16
"""Height and width of the camera in pixels; an image is drawn over 14 of them and moves within the rest."""
FRAMES = 12
FRAME_TIME = 3000
"""Microseconds of a frame."""

_SUBSTEPS = 3
"""Positions per frame at which the camera looks."""
_CORNERS = ((0.0, 0.0), (3.0, 1.5), (0.0, 3.0), (0.0, 0.0))
"""Where the image is at the beginning and after each saccade: pixels right and down."""
_DARK = 0.1
"""Background light, of a white pixel's 1."""
_THRESHOLD = 0.4
"""Change of log intensity per event."""
_KNOWN = Known("scikit-learn's digits", 10, {"train": 1437, "test": 360})


class DigitEventsConfig(EventConfig):
    """The digits as events; all they emit, 12 frames of 3 ms, 16 x 16."""

    sensor: ClassVar[Sensor] = Sensor(SENSOR, SENSOR)
    longest: ClassVar[int] = FRAMES * FRAME_TIME

    name: Literal["digit-events"] = "digit-events"
    frame_time: PositiveInt = FRAME_TIME
    steps: PositiveInt | None = FRAMES


@dataclass(frozen=True)
class SimulatedRecordings:
    """Recordings in memory."""

    events: Sequence[Events]
    target: Tensor
    """The class of each, [N], int64."""

    def read(self, number: int) -> Events:
        """Return one."""
        return self.events[number]

    def name(self, number: int) -> str:
        """Return the name that messages call it by."""
        return f"recording {number}"

    def fingerprint(self) -> None:
        """Return None: there are no files."""


def load_digit_events(config: DigitEventsConfig, source: Source) -> Splits:
    """Return the digits as frames of event counts, [T, 2, 16, 16]; split as `data.sets.digits` splits them."""
    return make_splits(config, "digit-events", recordings(), _KNOWN, "a simulated event camera", source)


def recordings() -> dict[str, Recordings]:
    """Return the recordings of each split."""
    whole = _recordings()
    rest, held = hold_out(whole.target, 0.2)
    return {"train": SomeRecordings(whole, rest), "test": SomeRecordings(whole, held)}


@cache
def _recordings() -> SimulatedRecordings:
    images, target = digit_images()
    return SimulatedRecordings(record(images.double().numpy() / 16), target)


def record(images: NDArray[np.float64]) -> list[Events]:
    """Move images past the camera.

    Args:
        images: [N, 8, 8], 0 (dark) to 1.

    Returns:
        Each image's events, in order of time.
    """
    steps = FRAMES * _SUBSTEPS
    log = np.log(_DARK + (1 - _DARK) * _seen(images, 0.0))
    levels = log.copy()
    found = []
    for step in range(1, steps + 1):
        before, log = log, np.log(_DARK + (1 - _DARK) * _seen(images, step / steps))
        count = np.trunc((log - levels) / _THRESHOLD).astype(np.int64)
        for number in range(1, int(np.abs(count).max(initial=0)) + 1):
            n, y, x = np.nonzero(np.abs(count) >= number)
            sign = np.sign(count[n, y, x])
            # When the level of this event is crossed, the light changing evenly from one position to the next.
            crossed = levels[n, y, x] + sign * number * _THRESHOLD
            part = (crossed - before[n, y, x]) / (log[n, y, x] - before[n, y, x])
            time = (step - 1 + np.clip(part, 0, 1)) * FRAME_TIME / _SUBSTEPS
            # Just before the end of the step, so that the last event is still within the last frame.
            micro = np.minimum(time.astype(np.int64), step * FRAME_TIME // _SUBSTEPS - 1)
            found.append(np.stack([n, x, y, micro, sign > 0]))
        levels += count * _THRESHOLD
    n, x, y, t, p = np.concatenate(found, axis=1) if found else np.zeros((5, 0), dtype=np.int64)
    # By recording, then time, then place.
    order = np.argsort(((n * (FRAMES * FRAME_TIME) + t) * SENSOR + y) * SENSOR + x, kind="stable")
    events = np.empty(len(order), dtype=EVENT)
    for name, values in zip("xytp", (x, y, t, p), strict=True):
        events[name] = values[order]
    return np.split(events, np.searchsorted(n[order], np.arange(1, len(images))))


def _seen(images: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return what the camera sees of the images [N, 16, 16] after `share` of the movement."""
    part = share * (len(_CORNERS) - 1)
    leg = min(int(part), len(_CORNERS) - 2)
    (x0, y0), (x1, y1) = _CORNERS[leg], _CORNERS[leg + 1]
    return _shifted(images, x0 + (part - leg) * (x1 - x0), y0 + (part - leg) * (y1 - y0))


def _shifted(images: NDArray[np.float64], right: float, down: float) -> NDArray[np.float64]:
    """Draw images [N, 8, 8] moved by a number of pixels of the sensor, bilinearly; dark around them."""
    across, along = _sampling(right), _sampling(down)
    drawn: NDArray[np.float64] = along @ images @ across.T
    return drawn


def _sampling(offset: float) -> NDArray[np.float64]:
    """Return the matrix [16, 8] that samples a row of 8 at the 16 pixels of the sensor, moved by `offset` pixels."""
    # A pixel of the image is 1.75 wide, so that the moving digit stays in view.
    middle = (np.arange(SENSOR) - (SENSOR - 1) / 2 - offset + 1.5) / 1.75 + 3.5
    weights: NDArray[np.float64] = np.maximum(1 - np.abs(middle[:, None] - np.arange(8, dtype=np.float64)), 0)
    return weights


def _picture(config: DigitEventsConfig, source: Source, choice: Choice) -> Picture:
    return draw_events(config.name, recordings(), config, source.protocol, choice, DIGIT_EVENTS.card)


DIGIT_EVENTS = DataSet(
    "digit-events",
    DigitEventsConfig,
    Card(
        "the digits of scikit-learn moved past a simulated event camera of 16 x 16 pixels",
        "classification, 10 classes",
        "CC BY 4.0 (the images)",
        "https://archive.ics.uci.edu/dataset/80",
        "it is simulated from what comes with scikit-learn",
    ),
    load_digit_events,
    lambda config: config.shape(1437, 360, 10),
    recordings=lambda *_: recordings(),
    picture=_picture,
)
