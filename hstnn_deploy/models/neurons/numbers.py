"""Numbers of a neuron that each unit or channel has of its own, or that are learned."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from hstnn_deploy.models.algebra import Algebra, V

Each = Literal["unit", "channel"]
"""Who has a number of its own: every unit, or every channel of maps or rows (of single units, that is the same)."""

Operand = Any
"""A value of the reading, or a number."""

RATE = "rate"
"""The name of a learned decay's w, with decay = 1 - sigmoid(w)."""


class Extended(BaseModel):
    """A neuron's configuration, to which keys were added over time."""

    later: ClassVar[dict[str, Any]] = {}
    """Keys that recipes, bundles and run folders did not always have, and what they meant then."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out of what is written down what there was not always, where it is as it was then."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if key not in self.later or value != self.later[key]}


def spread(number: float, each: Each | None, shape: tuple[int, ...]) -> Tensor:
    """Return a number as often as a layer of a shape has it: once (None), for each unit, or for each channel."""
    if each is None:
        return torch.tensor(number)
    return torch.full(shape if each == "unit" else (shape[0], *[1] * (len(shape) - 1)), number)


def with_own(neuron: Any, name: str) -> Any:
    """Return a neuron's configuration with a number for each unit under a name, no longer learned."""
    learn = [each for each in neuron.learn if each != name]
    return neuron.model_copy(update={"each": {**neuron.each, name: "unit"}, "learn": learn})


def number(o: Algebra[V], neuron: Any, own: Mapping[str, Tensor], name: str) -> Operand:
    """Return a neuron's number as an operand: that of its configuration, or what the layer holds under its name."""
    return o.parameter(own[name]) if name in own else getattr(neuron, name)


def share_left(o: Algebra[V], neuron: Any, own: Mapping[str, Tensor], name: str = "decay") -> tuple[Operand, Operand]:
    """Return the share that is left after a step, and 1 minus it.

    One that is learned as `rate` is 1 - sigmoid(w); one that is learned as it is, is brought between 0 and 1, as
    snnTorch does.
    """
    if name == "decay" and RATE in own:
        gain = o.sigmoid(o.parameter(own[RATE]), RATE)
        return o.sub(1.0, gain, "decay"), gain
    left = number(o, neuron, own, name)
    if isinstance(left, float | int):
        return left, 1 - left
    if name in neuron.learn:
        left = o.clip(left, 0.0, 1.0, f"{name}_clipped")
    return left, o.sub(1.0, left, f"{name}_passed")


def towards_rest(o: Algebra[V], neuron: Any, own: Mapping[str, Tensor], drive: V, gain: V | float) -> V:
    """Return a drive and (1 - decay) * rest, where the membrane leaks towards another value than 0."""
    if not neuron.rest and "rest" not in own:
        return drive
    rest = number(o, neuron, own, "rest")
    if isinstance(gain, float | int) and isinstance(rest, float | int):
        return o.add(drive, gain * rest, "rested")
    return o.add(drive, o.mul(rest, gain, "leak"), "rested")
