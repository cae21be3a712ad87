"""scikit-learn's digits as events: each image is moved past a simulated event camera, and what it emits is framed.

The camera (DVS) has a logarithmic receptor per pixel. A pixel emits an event whenever its log intensity has moved by
`_THRESHOLD` since its last event: polarity 1 for brighter, 0 for darker. As in the recordings of N-MNIST, the movement
is three saccades along a triangle, back to where it began. Recordings are in tonic's form: a structured array with
fields x, y, t (microseconds) and p, in order of time. Nothing is random.
"""

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hstnn_deploy.data.dataset import Card, DataSet, Shape, Source
from hstnn_deploy.data.splits import ArraySplit, Splits, hold_out, with_validation

EVENT = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
"""An event, as tonic's data sets give it."""

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

Events = NDArray[Any]


class DigitEventsConfig(BaseModel):
    """What a recipe says of the digits as events."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["digit-events"] = "digit-events"


def load_digit_events(_config: DigitEventsConfig, source: Source) -> Splits:
    """Return the digits as frames of event counts, [T, 2, 16, 16]; split as `data.digits` splits them."""
    frames, target = _frames_and_labels()
    whole = ArraySplit(frames, target)
    rest, held = hold_out(whole.target, 0.2)
    test = whole.take(held)
    train, valid = with_validation(whole.take(rest), source.protocol)
    return Splits(
        train,
        valid or test,
        test,
        inputs=2,
        classes=10,
        origin="scikit-learn's digits, 1797 real images moved past a simulated event camera",
        family="convolutional",
        size=SENSOR,
    )


@cache
def _frames_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    recordings = record(np.asarray(bundle.images, dtype=np.float64) / 16)
    frames = np.stack([to_frames(events, FRAMES, FRAME_TIME, SENSOR) for events in recordings])
    return torch.from_numpy(frames), torch.tensor(bundle.target, dtype=torch.int64)


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
    """Draw images [N, 8, 8] moved by so many pixels of the sensor, bilinearly; dark around them."""
    across, along = _sampling(right), _sampling(down)
    drawn: NDArray[np.float64] = along @ images @ across.T
    return drawn


def _sampling(offset: float) -> NDArray[np.float64]:
    """Return the matrix [16, 8] that samples a row of 8 at the 16 pixels of the sensor, moved by `offset` pixels."""
    # A pixel of the image is 1.75 wide, so that the moving digit stays in view.
    middle = (np.arange(SENSOR) - (SENSOR - 1) / 2 - offset + 1.5) / 1.75 + 3.5
    weights: NDArray[np.float64] = np.maximum(1 - np.abs(middle[:, None] - np.arange(8, dtype=np.float64)), 0)
    return weights


def to_frames(events: Events, count: int, duration: int, size: int) -> NDArray[np.uint8]:
    """Count events per frame, polarity and pixel: [count, 2, size, size]; later events are left out."""
    number = events["t"] // duration
    bins = ((number * 2 + events["p"]) * size + events["y"]) * size + events["x"]
    counts = np.bincount(bins[number < count], minlength=count * 2 * size * size)
    return counts.astype(np.uint8).reshape(count, 2, size, size)


DIGIT_EVENTS = DataSet(
    "digit-events",
    DigitEventsConfig,
    Card(
        "the digits of scikit-learn moved past a simulated event camera of 16 x 16 pixels",
        "classification, 10 classes",
        "CC BY 4.0 (the images)",
        "https://archive.ics.uci.edu/dataset/80",
        "nothing to get: it is simulated from what comes with scikit-learn",
    ),
    load_digit_events,
    lambda _: Shape(train=1437, test=360, steps=FRAMES, inputs=2, classes=10, size=SENSOR),
)
