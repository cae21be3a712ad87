"""Samples of an array as a network takes them, in training and deployment alike. Needs numpy alone.

    x = (value - mean) / std      of each channel, float32

Shapes: T time, B samples, I inputs, C channels, L places of a row, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ORDERS = ("T", "I", "TI", "CL", "TCL", "CHW", "TCHW")
"""What the axes of a sample may be, in the order in which a network takes them."""

STEPS = 10
"""Default number of steps for which a sample without time is shown."""


def order_of(axes: str) -> str:
    """Return axes in the order in which a network takes them."""
    return next(each for each in ORDERS if sorted(each) == sorted(axes))


def as_input(values: Array, axes: str, steps: int, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Array:
    """Return samples as x[T, B, …], float32.

    Args:
        values: [B, …], the axes of a sample as `axes` says.
        axes: a letter for each; of samples without T, one sample is shown at every step; with T alone, a step is [1].
        steps: T of samples without time.
        mean: subtracted from each channel, or one number for all; none where values stay as they are.
        std: what that is divided by.
    """
    order = order_of(axes)
    x = values.astype(np.float32).transpose(0, *(1 + axes.index(letter) for letter in order))
    if order == "T":
        x = x[..., None]
    if mean:
        # The channels are the axis behind time, or the first where there is none.
        behind = x.ndim - (3 if "T" in order else 2)
        shape = (-1,) + (1,) * behind
        x = (x - np.array(mean, np.float32).reshape(shape)) / np.array(std, np.float32).reshape(shape)
    if "T" not in order:
        return np.ascontiguousarray(np.broadcast_to(x, (steps, *x.shape)))
    return np.ascontiguousarray(x.swapaxes(0, 1))
