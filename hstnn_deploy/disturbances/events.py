"""Disturbances of raw events, before they are transformed and framed. Times are in microseconds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hstnn_deploy.data.events.events import Events, Sensor, make_events
from hstnn_deploy.disturbances.disturbance import Disturbance

Draw = np.random.Generator

HOT_RATE = 100.0
"""Events per second of a hot pixel, in either polarity at random."""


@dataclass(frozen=True)
class Recorded:
    """What a disturbance knows beside the events."""

    sensor: Sensor
    span: int
    """Microseconds from the recording's beginning to its end, as far as the network sees it."""
    device: Draw
    """What is drawn once for all recordings, as a fault of the sensor is."""


def drop(events: Events, level: float, _seen: Recorded, draw: Draw) -> Events:
    """Return the events without those that are, with probability `level` each, lost."""
    return events[draw.random(len(events)) >= level]


def background(events: Events, level: float, seen: Recorded, draw: Draw) -> Events:
    """Return the events and noise: at every pixel, `level` events a second, a Poisson process of random polarity."""
    width, height, polarities = seen.sensor
    count = int(draw.poisson(level * 1e-6 * seen.span * width * height))
    noise = make_events(
        draw.integers(0, width, count),
        draw.integers(0, height, count),
        draw.integers(0, max(1, seen.span), count),
        draw.integers(0, polarities, count),
    )
    return _merged(events, noise)


def hot_pixels(events: Events, level: float, seen: Recorded, draw: Draw) -> Events:
    """Return the events and those of hot pixels: a share `level` of them, the same in all recordings of a draw."""
    places = _pixels(level, seen)
    times = np.arange(0, seen.span, round(1e6 / HOT_RATE))
    # Each begins at a time of its own, so that they do not fire in step.
    late = seen.device.integers(0, round(1e6 / HOT_RATE), len(places))
    t = (times[:, None] + late).ravel()
    x, y = (np.broadcast_to(each, (len(times), len(places))).ravel() for each in _xy(places, seen.sensor))
    inside = t < seen.span
    noise = make_events(x, y, t, draw.integers(0, seen.sensor.polarities, len(t)))[inside]
    return _merged(events, noise)


def dead_pixels(events: Events, level: float, seen: Recorded, _draw: Draw) -> Events:
    """Return the events but those of dead pixels: a share `level` of them, the same in all recordings of a draw."""
    dead = np.zeros(seen.sensor.width * seen.sensor.height, bool)
    dead[_pixels(level, seen)] = True
    kept: Events = events[~dead[events["y"] * seen.sensor.width + events["x"]]]
    return kept


def flip(events: Events, level: float, seen: Recorded, draw: Draw) -> Events:
    """Return the events, each with probability `level` of the other polarity; one polarity stays as it is."""
    if seen.sensor.polarities != 2:
        return events
    changed = events.copy()
    changed["p"] ^= draw.random(len(events)) < level
    return changed


def jitter(events: Events, level: float, _seen: Recorded, draw: Draw) -> Events:
    """Return the events, each late or early by level * z, z normal, in order of time; none before the beginning."""
    changed = events.copy()
    changed["t"] = np.maximum(events["t"] + np.rint(level * draw.standard_normal(len(events))).astype(np.int64), 0)
    return changed[np.argsort(changed["t"], kind="stable")]


def shift(events: Events, level: float, seen: Recorded, draw: Draw) -> Events:
    """Return the events `level` pixels further, in one of eight directions; those outside are lost."""
    across, down = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)][draw.integers(8)]
    changed = events.copy()
    changed["x"] += int(level) * across
    changed["y"] += int(level) * down * (seen.sensor.height > 1)
    width, height, _ = seen.sensor
    inside = (changed["x"] >= 0) & (changed["x"] < width) & (changed["y"] >= 0) & (changed["y"] < height)
    return changed[inside]


def _pixels(level: float, seen: Recorded) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    count = seen.sensor.width * seen.sensor.height
    # All pixels are put in order first: the faulty ones of a weaker level are among those of a stronger one.
    return seen.device.permutation(count)[: round(level * count)]


def _xy(places: np.ndarray[tuple[int], np.dtype[np.int64]], sensor: Sensor) -> tuple[Events, Events]:
    return places % sensor.width, places // sensor.width


def _merged(events: Events, noise: Events) -> Events:
    both = np.concatenate([make_events(*(events[name] for name in "xytp")), noise])
    return both[np.argsort(both["t"], kind="stable")]


Apply = Callable[[Events, float, Recorded, Draw], Events]
"""The events of a recording, the level, the sensor, what is drawn from -> events in order of time."""


def _events(
    name: str, about: str, unit: str, levels: tuple[float, ...], most: float, whole: bool = False
) -> Disturbance:
    return Disturbance(name, about, unit, "events", levels, most, whole)


_SHARES = (0.05, 0.1, 0.2, 0.4)

EVENTS: dict[str, tuple[Disturbance, Apply]] = {
    each.name: (each, apply)
    for each, apply in (
        (_events("event-drop", "events lost", "share of the events", (0.1, 0.3, 0.5, 0.7), 1), drop),
        (_events("background", "background activity", "events per pixel and second", (0.1, 1, 5, 20), 1e4), background),
        (
            _events("hot-pixels", "pixels that fire 100 times a second", "share of the pixels", (0.001, 0.01, 0.05), 1),
            hot_pixels,
        ),
        (_events("dead-pixels", "pixels without events", "share of the pixels", _SHARES, 1), dead_pixels),
        (
            _events("polarity-flip", "events of the other polarity", "share of the events", (0.05, 0.1, 0.2, 0.5), 1),
            flip,
        ),
        (
            _events("event-jitter", "events late or early", "standard deviation in us", (1e3, 5e3, 2e4, 1e5), 1e9),
            jitter,
        ),
        (_events("sensor-shift", "the sensor moved", "pixels", (1, 2, 4, 8), 1e4, whole=True), shift),
    )
}
"""By name: what they are, and what they do."""
