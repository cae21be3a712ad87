"""Whole images as the steps of a sample, as evaluation and deployment see them. Needs numpy alone.

    x = (pixel / white - mean) / std
    poisson   e_t = sign(x) where 2 u_t <= |x|, else 0, with u_t drawn from [0, 1) for each value (BNTT's encoder)
    repeat    e_t = x

The draws of a sample follow from a seed and the sample's number alone, on every machine: they are the words of
Philox4x64-10 (Salmon et al., SC 2011) under the key (seed, number), which numpy promises not to change.

Shapes: T time, B batch, C colours.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Encoding(Protocol):
    """How images become steps."""

    @property
    def steps(self) -> int:
        """T."""

    @property
    def encoding(self) -> str:
        """`poisson` or `repeat`."""

    @property
    def mean(self) -> Sequence[float]:
        """Subtracted from each colour, of 0 to 1; one number, or one for each colour."""

    @property
    def std(self) -> Sequence[float]:
        """Divides the difference."""

    @property
    def seed(self) -> int:
        """Of the draws."""


def normalised(pixels: Array, white: int, how: Encoding) -> Array:
    """Return x of raw pixels [B, C, H, W], float32."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (how.mean, how.std))
    x: Array = (pixels.astype(np.float32) / np.float32(white) - mean) / std
    return x


def draws(seed: int, number: int, shape: Sequence[int]) -> Array:
    """Return the draws of a sample from [0, 1), float32: multiples of 2^-24.

    Args:
        seed: of all samples, 0 or more.
        number: of the sample, 0 or more.
        shape: of what is returned.
    """
    count = int(np.prod(shape))
    words = np.random.Philox(key=np.array([seed, number], np.uint64)).random_raw(-(-count // 2))
    # Each word of 64 bits is two draws, its lower half first, whatever the order of bytes of a machine.
    halves = words.astype("<u8").view("<u4")[:count] >> np.uint32(8)
    return (halves.astype(np.float32) * np.float32(2.0**-24)).reshape(tuple(shape))


def spikes(x: Array, u: Array) -> Array:
    """Return signed spikes of x[…] for draws u[T, …], float32."""
    return np.where(2 * u <= np.abs(x), np.sign(x), np.float32(0))


def as_steps(pixels: Array, white: int, how: Encoding, numbers: Sequence[int]) -> Array:
    """Return images as the steps of samples, [T, B, C, H, W], float32.

    Args:
        pixels: raw ones, [B, C, H, W].
        white: the level that is white.
        how: how they become steps.
        numbers: of the samples; each is drawn by its own.
    """
    x = normalised(pixels, white, how)
    made = np.empty((how.steps, *x.shape), np.float32)
    for place, (one, number) in enumerate(zip(x, numbers, strict=True)):
        poisson = how.encoding == "poisson"
        made[:, place] = spikes(one, draws(how.seed, number, (how.steps, *one.shape))) if poisson else one
    return made
