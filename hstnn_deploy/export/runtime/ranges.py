"""What x was in training: which values it could have, and how many steps. Needs numpy alone.

A network answers any input, also wrong ones, such as raw pixels instead of x in 0..1. What
preprocessing cannot have given is refused, in one pass over x that looks for NaN and infinities as well.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError

Array = NDArray[Any]

_MOST = float(np.finfo(np.float32).max)
_ROUNDING = 1e-5
"""How far a value may be outside where it comes from another arithmetic than the training's."""
_ANYWAY = "; any_range=True (`hstnn run --any-range`) takes x as it is"


_EQUAL = {"bins", "parts", "number"}
"""Kinds of frames that give every recording the same number of frames."""


class Range(NamedTuple):
    """What x was in training."""

    low: float = -_MOST
    high: float = _MOST
    whole: bool = False
    """Whether its values are whole numbers."""
    steps: int | None = None
    """T of every sequence; None: any, or unknown."""
    trained: str = ""
    """What it was, in words."""
    hint: str = ""

    def check(self, x: Array, first: int = 0) -> None:
        """Check values.

        Args:
            x: not empty, float32.
            first: how many entries of the first axis come before these, for the message.

        Raises:
            DataError: names the first impossible value, and where it is.
        """
        # Both are NaN where there is one: then neither comparison holds.
        inside = np.minimum.reduce(x, axis=None) >= self.low and np.maximum.reduce(x, axis=None) <= self.high
        if inside and not (self.whole and np.count_nonzero(np.floor(x) != x)):
            return
        finite = np.isfinite(x)
        wrong = ~finite if not finite.all() else (x < self.low) | (x > self.high)
        if not wrong.any():
            wrong = np.floor(x) != x
        place = [int(i) for i in np.unravel_index(int(wrong.argmax()), x.shape)]
        value = x[tuple(place)]
        place[0] += first
        if not np.isfinite(value):
            raise DataError(f"x contains {value} at {place}; the network takes finite numbers")
        raise DataError(f"x contains {value:.6g} at {place}; the network was trained on {self.trained}", self.hint)

    def check_steps(self, shape: tuple[int, ...]) -> None:
        """Check that x[T, B, …] of this shape does not look like [B, T, …].

        Raises:
            DataError: not T is that of training, but B.
        """
        if self.steps is None or len(shape) < 2 or shape[0] == self.steps or shape[1] != self.steps:
            return
        raise DataError(
            f"x has {shape[0]} steps of {shape[1]} sequences; the network was trained on {self.steps} steps: "
            "it looks like [B, T, …]",
            f"x is [T, B, …]: give x.swapaxes(0, 1){_ANYWAY}",
        )


ANY = Range()
"""Of finite numbers."""


def trained_range(how: Mapping[str, Any]) -> Range:
    """Return what x was in training, from the preprocessing of a bundle as plain data; see `data.preprocessing`."""
    match how.get("kind"):
        case "pixels":
            white, shape = how["white"], f"[B, {how['height']}, {how['width']}{', 3' if how['colours'] == 3 else ''}]"
            return Range(
                0 - _ROUNDING,
                1 + _ROUNDING,
                steps=how["width"],
                trained=f"0 to 1, pixels times 1 / {white}",
                hint=f"divide by the white level, or give raw pixels {shape}, uint8 (0 to {white}){_ANYWAY}",
            )
        case "images":
            poisson = how["encoding"] == "poisson"
            ends = [(level - mean) / std for level in (0, 1) for mean, std in _numbers(how)]
            low, high = (-1 if min(ends) < 0 else 0, 1) if poisson else (min(ends), max(ends))
            room = 0.0 if poisson else _ROUNDING * (1 + max(abs(low), abs(high)))
            spikes = f"spikes, {'-1, 0 and 1' if low else '0 and 1'}"
            return Range(
                low - room,
                high + room,
                whole=poisson,
                steps=how["steps"],
                trained=spikes if poisson else f"pixels of 0 to 1 minus mean, divided by std: {low:.4g} to {high:.4g}",
                hint=f"give `hstnn run` the image itself, or raw pixels, uint8 (0 to {how['white']}){_ANYWAY}",
            )
        case "frames":
            binary: bool = how["binary"]
            kind = how.get("frames") or {}
            return Range(
                0,
                1 if binary else _MOST,
                whole=True,
                steps=how["steps"] if "steps" in how else kind.get(kind["by"]) if kind["by"] in _EQUAL else None,
                trained="0 and 1, whether there were events" if binary else "counts of events, whole numbers from 0",
                hint=f"give frames of event counts{_ANYWAY}",
            )
        case _:
            return ANY


def _numbers(how: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return mean and std of each colour."""
    means, stds = how["mean"], how["std"]
    count = max(len(means), len(stds))
    return [(means[n % len(means)], stds[n % len(stds)]) for n in range(count)]
