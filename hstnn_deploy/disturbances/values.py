"""Disturbances of the values x[T, …] of a sample: images column by column, whole images, frames of events, series.

Shapes: T time steps of the sample, and the shape of a step: (I,), or (C, H, W).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hstnn_deploy.disturbances.disturbance import BOUNDLESS, Array, Disturbance

Draw = np.random.Generator


@dataclass(frozen=True)
class Range:
    """Between which values the undisturbed inputs of a split lie."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """From the lowest to the highest."""
        return self.high - self.low


def gaussian(x: Array, level: float, span: Range, draw: Draw) -> Array:
    """Return x + level * width * z, z from a normal distribution of its own for each value. Nothing is clipped."""
    noisy: Array = x + np.float32(level * span.width) * draw.standard_normal(x.shape, np.float32)
    return noisy


def salt_and_pepper(x: Array, level: float, span: Range, draw: Draw) -> Array:
    """Return x with each value, with probability `level`, set to the lowest or the highest one, evenly."""
    u = draw.random(x.shape, np.float32)
    return np.where(u < level / 2, np.float32(span.low), np.where(u < level, np.float32(span.high), x))


def frame_loss(x: Array, level: float, _span: Range, draw: Draw) -> Array:
    """Return x with each time step, with probability `level`, lost: all its values are 0."""
    return np.where(_steps(draw.random(len(x)) < level, x), np.float32(0), x)


def frame_repeat(x: Array, level: float, _span: Range, draw: Draw) -> Array:
    """Return x where each time step but the first, with probability `level`, repeats the one shown before it."""
    fresh = draw.random(len(x)) >= level
    fresh[0] = True
    return x[np.maximum.accumulate(np.where(fresh, np.arange(len(x)), 0))]


def frame_jitter(x: Array, level: float, _span: Range, draw: Draw) -> Array:
    """Return x with its time steps in the order in which they come when each is late by level * z steps, z normal."""
    return x[np.argsort(np.arange(len(x)) + level * draw.standard_normal(len(x)), kind="stable")]


def occlusion(x: Array, level: float, span: Range, draw: Draw) -> Array:
    """Return x with a part of it, as large as a share `level` of its area, set to the lowest value.

    Of frames it is a rectangle at the same random place at every step; of rows of values, one over steps and values.
    """
    rows, columns = x.shape[-2:] if x.ndim > 2 else x.shape
    # The sides shrink alike; what rounding takes from the shorter one, the longer one gives back: one value a step, as
    # of S-MNIST, stays one value, and a share of the steps is covered.
    short, long = sorted((rows, columns))
    least = max(1, round(short * level**0.5))
    other = max(1, min(long, round(level * short * long / least)))
    high, wide = (least, other) if rows <= columns else (other, least)
    top, left = draw.integers(rows - high + 1), draw.integers(columns - wide + 1)
    covered = x.copy()
    covered[..., top : top + high, left : left + wide] = span.low
    return covered


def contrast(x: Array, level: float, _span: Range, _draw: Draw) -> Array:
    """Return mean + (1 - level) * (x - mean), the mean being that of the sample."""
    mean = x.mean(dtype=np.float64)
    flatter: Array = (mean + (1 - level) * (x - mean)).astype(np.float32)
    return flatter


def stretch(x: Array, level: float, _span: Range, _draw: Draw) -> Array:
    """Return x slower by the factor 1 + level: step t is step floor(t / (1 + level)), for round(T * (1 + level))."""
    return x[_resampled(len(x), 1 + level)]


def compress(x: Array, level: float, _span: Range, _draw: Draw) -> Array:
    """Return x faster by the factor 1 + level: steps are left out, none are averaged."""
    return x[_resampled(len(x), 1 / (1 + level))]


def sign_noise(x: Array, level: float, span: Range, draw: Draw) -> Array:
    """Return x + level * width * s, s being -1 or 1 at random: of the same norm as an attack of that eps."""
    signs = draw.integers(0, 2, x.shape).astype(np.float32) * 2 - 1
    moved: Array = np.clip(x + np.float32(level * span.width) * signs, span.low, span.high)
    return moved


def _steps(chosen: Array, x: Array) -> Array:
    return chosen.reshape(-1, *[1] * (x.ndim - 1))


def _resampled(steps: int, factor: float) -> Array:
    count = max(1, round(steps * factor))
    return np.minimum(np.floor(np.arange(count) / factor + 1e-9).astype(np.int64), steps - 1)


def _input(name: str, about: str, unit: str, levels: tuple[float, ...], most: float = BOUNDLESS) -> Disturbance:
    return Disturbance(name, about, unit, "values", levels, most)


Apply = Callable[[Array, float, Range, Draw], Array]
"""x[T, …] of one sample, the level, the range of the inputs, what is drawn from -> x[T', …]."""

_SHARES = (0.05, 0.1, 0.2, 0.4)
_WIDTH = "as a share of the input's range"

VALUES: dict[str, tuple[Disturbance, Apply]] = {
    each.name: (each, apply)
    for each, apply in (
        (_input("gaussian", "Gaussian noise", f"standard deviation, {_WIDTH}", (0.05, 0.1, 0.2, 0.4)), gaussian),
        (
            _input("salt-pepper", "values at the lowest or the highest", "share of the values", _SHARES, 1),
            salt_and_pepper,
        ),
        (_input("frame-loss", "time steps lost", "share of the time steps", _SHARES, 1), frame_loss),
        (
            _input("frame-repeat", "time steps that repeat the one before", "share of the time steps", _SHARES, 1),
            frame_repeat,
        ),
        (
            _input("frame-jitter", "time steps out of order", "standard deviation in time steps", (0.5, 1, 2, 4)),
            frame_jitter,
        ),
        (_input("occlusion", "a covered rectangle", "share of the area", _SHARES, 1), occlusion),
        (_input("contrast", "less contrast", "share of the contrast lost", (0.2, 0.4, 0.6, 0.8), 1), contrast),
        (_input("stretch", "slower", "time added, as a share", (0.1, 0.25, 0.5, 1), 9), stretch),
        (_input("compress", "faster", "speed added, as a share", (0.1, 0.25, 0.5, 1), 9), compress),
        (_input("sign-noise", "random noise of an attack's norm", f"size, {_WIDTH}", (0.02, 0.05, 0.1), 1), sign_noise),
    )
}
"""By name: what they are, and what they do."""
