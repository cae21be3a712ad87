"""The surrogates: what takes the place of a spike's slope ds/dm in the backward pass, each written once.

Every one has area 1. With x = (m - threshold) / lens:

    rectangular   1 / (2 * lens) where |x| < 1, else 0             (the published networks')
    triangular    max(0, 1 - |x|) / lens
    arctan        1 / (2 * lens) / (1 + (pi / 2 * x)^2)            (SpikingJelly's ATan with alpha = 1 / lens)
"""

import math
from typing import Literal, NamedTuple

from torch import Tensor

Shape = Literal["rectangular", "triangular", "arctan"]


class Surrogate(NamedTuple):
    """A shape and its width."""

    shape: Shape
    lens: float
    """Half the width of the surrogate's window, in membrane units."""

    @property
    def peak(self) -> float:
        """The largest value, at the threshold."""
        return 1 / self.lens if self.shape == "triangular" else 1 / (2 * self.lens)

    def times(self, gradient: Tensor, distance: Tensor) -> Tensor:
        """Return a gradient times the slope at `distance` = m - threshold."""
        away = distance.detach().abs()
        match self.shape:
            case "rectangular":
                return gradient * (away < self.lens).to(away.dtype) / (2 * self.lens)
            case "triangular":
                return gradient * (1 - away / self.lens).clamp(min=0) / self.lens
            case "arctan":
                return gradient / (1 + (math.pi / (2 * self.lens) * away).square()) / (2 * self.lens)
