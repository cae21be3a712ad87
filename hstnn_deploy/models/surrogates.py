"""The surrogates: what takes the place of a spike's slope ds/dm in the backward pass, each written once.

With x = (m - threshold) / width:

    rectangular    1 / (2 * width) where |x| < 1, else 0             (the published hybrid networks')
    triangular     max(0, 1 - |x|) / width
    arctan         1 / (2 * width) / (1 + (pi / 2 * x)^2)            (SpikingJelly's ATan with alpha = 1 / width)
    sigmoid        1 / width * sigmoid(x) * (1 - sigmoid(x))         (SpikingJelly's Sigmoid with alpha = 1 / width)
    exponential    1 / width * e^-|x|                                (sinabs' SingleExponential, of width / theta)
    fast-sigmoid   1 / (1 + |x|)^2                                   (snnTorch's fast_sigmoid with slope = 1 / width)

All but the last two have area 1; those are as their libraries have them. Each is multiplied by `scale`.
"""

import math
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

Shape = Literal["rectangular", "triangular", "arctan", "sigmoid", "exponential", "fast-sigmoid"]

SHARPNESS: frozenset[Shape] = frozenset({"arctan", "sigmoid", "fast-sigmoid"})
"""Which shapes libraries give by how steep they are, 1 / width, and not by their width."""


def spelt_out(given: dict[str, Any]) -> dict[str, Any]:
    """Return a neuron's keys with `surrogate: {shape: width}` as `surrogate` and `lens`.

    Raises:
        ValueError: it is not one shape with a width above 0, or `lens` is there too.
    """
    surrogate = given.get("surrogate")
    if not isinstance(surrogate, dict):
        return given
    if len(surrogate) != 1 or "lens" in given:
        raise ValueError("surrogate must be one shape with its width, such as {arctan: 2.0}")
    ((shape, width),) = surrogate.items()
    if shape not in get_args(Shape):
        return given | {"surrogate": shape}
    if not isinstance(width, int | float) or not width > 0:
        raise ValueError(f"the width of the surrogate is {width}: it must be above 0")
    return given | {"surrogate": shape, "lens": 1 / width if shape in SHARPNESS else float(width)}


class Surrogate(NamedTuple):
    """A shape, its width, and its scale."""

    shape: Shape
    lens: float
    """The width, in membrane units: half that of the window of a rectangular or triangular one."""
    scale: float = 1.0

    def times(self, gradient: Tensor, distance: Tensor) -> Tensor:
        """Return a gradient times the slope at `distance` = m - threshold."""
        if self.scale != 1:
            gradient = gradient * self.scale
        away = distance.detach().abs()
        match self.shape:
            case "rectangular":
                return gradient * (away < self.lens).to(away.dtype) / (2 * self.lens)
            case "triangular":
                return gradient * (1 - away / self.lens).clamp(min=0) / self.lens
            case "arctan":
                return gradient / (1 + (math.pi / (2 * self.lens) * away).square()) / (2 * self.lens)
            case "sigmoid":
                rising = (away / self.lens).sigmoid()
                return gradient * rising * (1 - rising) / self.lens
            case "exponential":
                return gradient * (-away / self.lens).exp() / self.lens
            case "fast-sigmoid":
                return gradient / (1 + away / self.lens).square()
