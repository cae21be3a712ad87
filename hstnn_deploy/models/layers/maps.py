"""Layers without weights: pooling, flattening, voting, scaling, delay and dropout."""

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, Pooling, Sizes, V
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Layer, Shape, Stateless, several, stepped
from hstnn_deploy.models.neurons.numbers import Each, spread


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PoolConfig(_Config):
    """`{pool: max, size: 2}`: mean, maximum or sum of each window; or `{pool: mean, to: 1}`, of this many windows."""

    pool: Pooling
    size: PositiveInt | list[PositiveInt] | None = None
    stride: PositiveInt | list[PositiveInt] | None = None
    """From one window to the next; null: as far as a window is large."""
    padding: NonNegativeInt | list[NonNegativeInt] = 0
    """Positions added on both sides of an axis: zeros for a mean or sum, left out for a maximum."""
    to: PositiveInt | None = None
    """In the place of size: how many windows along each axis, which must divide its length."""

    def build(self, shape: Shape) -> tuple["Pool", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are no maps or rows, or smaller than a window; or `to` does not divide them.
        """
        if len(shape) not in (2, 3):
            raise ValueError(f"pooling takes maps [C, H, W] or rows [C, L], not the shape {list(shape)}")
        axes = shape[1:]
        if (self.size is None) == (self.to is None):
            raise ValueError(f"pooling takes size or to, and {'neither is' if self.to is None else 'both are'} given")
        if self.to is not None:
            to = self.to
            if self.stride is not None or any(several(self.padding, len(axes))):
                raise ValueError("pooling takes stride and padding with size, not with to")
            if any(length % to for length in axes):
                raise ValueError(
                    f"a map of {' x '.join(map(str, axes))} does not divide into {to} equal windows per axis"
                )
            size = stride = tuple(length // to for length in axes)
            around = (0,) * len(axes)
        else:
            size = several(self.size, len(axes))
            stride = size if self.stride is None else several(self.stride, len(axes))
            around = several(self.padding, len(axes))
            if any(2 * sides > window for sides, window in zip(around, size, strict=True)):
                raise ValueError(f"a padding of {list(around)} is more than half of a pool of {list(size)}")
        axes = tuple(length + 2 * sides for length, sides in zip(axes, around, strict=True))
        if any(window > length for window, length in zip(size, axes, strict=True)):
            shown = " x ".join(map(str, axes))
            raise ValueError(f"a pool of {' x '.join(map(str, size))} is larger than the map of {shown}")
        after = tuple((length - window) // step + 1 for length, window, step in zip(axes, size, stride, strict=True))
        return Pool(self.pool, size, stride, around if any(around) else ()), (shape[0], *after)


class Pool(Stateless):
    """The mean, largest or sum of each window; of equal ones, the gradient goes to the first."""

    kind = "pool"
    over_time = False

    def __init__(self, how: Pooling, size: Sizes, stride: Sizes, padding: Sizes) -> None:
        super().__init__()
        self.how, self.size, self.stride, self.padding = how, size, stride, padding

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.pool(x, self.how, self.size, self.stride, "pooled", self.padding)


class FlattenConfig(_Config):
    """`flatten`: maps as units, channel by channel."""

    flatten: Literal[True] | None = True

    def build(self, shape: Shape) -> tuple["Flatten", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Flatten(), (prod(shape),)


class Flatten(Stateless):
    """x[B, C, H, W] as [B, n]."""

    kind = "flatten"
    over_time = False

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        if window:
            assert isinstance(x, Tensor)
            return x.flatten(2)  # type: ignore[return-value]
        return o.flatten(x, "flat")


class VoteConfig(_Config):
    """`{vote: 10}`: the mean of each 10 consecutive units, that is one output."""

    vote: PositiveInt

    def build(self, shape: Shape) -> tuple["Vote", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are no units, or not divided by the voters.
        """
        if len(shape) != 1 or shape[0] % self.vote:
            what = f"{shape[0]} units" if len(shape) == 1 else f"the shape {list(shape)}"
            raise ValueError(f"{what} do not divide into groups of {self.vote} voters")
        return Vote(self.vote), (shape[0] // self.vote,)


class Vote(Stateless):
    """The mean of each few consecutive units."""

    kind = "vote"
    over_time = False

    def __init__(self, voters: int) -> None:
        super().__init__()
        self.voters = voters

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.vote(x, self.voters, "vote")


class ActivationConfig(_Config):
    """`{activation: relu}`: a function of every value."""

    activation: Literal["relu", "tanh", "sigmoid"]

    def build(self, shape: Shape) -> tuple["Activation", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Activation(self.activation), shape


class Activation(Stateless):
    """relu, tanh or sigmoid of every value."""

    kind = "activation"

    def __init__(self, function: Literal["relu", "tanh", "sigmoid"]) -> None:
        super().__init__()
        self.function = function

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        match self.function:
            case "relu":
                return o.relu(x, "activated")
            case "tanh":
                return o.tanh(x, "activated")
            case "sigmoid":
                return o.sigmoid(x, "activated")


class ScaleConfig(_Config):
    """`{scale: 0.5}`: every value times a number; `{scale: 1, each: unit}`: each times its own."""

    scale: float
    each: Each | None = None
    """Who has a number of its own, in the layer's weights, at first as said above; null: it is one for all."""

    def build(self, shape: Shape) -> tuple["Scale", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Scale(self.scale, self.each, shape), shape


class Scale(Stateless):
    """x times a number, or times a number for each unit or channel."""

    kind = "scale"

    def __init__(self, factor: float, each: Each | None, shape: Shape) -> None:
        super().__init__()
        self.factor, self.each = factor, each
        self.factors: Tensor | None = None
        if each is not None:
            del self.factors
            self.register_buffer("factors", spread(factor, each, shape))

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.mul(x, self.factor if self.factors is None else o.parameter(self.factors), "scaled")


class DelayConfig(_Config):
    """`{delay: 2}`: what came this many steps before; zeros at first."""

    delay: PositiveInt = Field(le=1000)

    def build(self, shape: Shape) -> tuple["Delay", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Delay(self.delay, shape), shape


class Delay(Layer):
    """x of some steps before. State: the values on their way, the oldest last."""

    kind = "delay"
    over_time = False

    def __init__(self, steps: int, shape: Shape) -> None:
        super().__init__()
        self.names = [f"late{step}_" for step in range(1, steps + 1)]
        self.carries = {
            name: (shape, f"what came to layer {{layer}} {step} steps ago") for step, name in enumerate(self.names, 1)
        }

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        moved = [x, *(state[name] for name in self.names[:-1])]
        # A value of its own under each name: a graph may not hand out one twice.
        after = {name: o.mul(value, 1.0, name) for name, value in zip(self.names, moved, strict=True)}
        return state[self.names[-1]], after

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Tensors only."""
        return stepped(self, o, x, state)  # type: ignore[no-any-return]


class DropoutConfig(_Config):
    """`{dropout: 0.5, shared_over_time: true}`: while training, each value is dropped with this probability."""

    dropout: float = Field(ge=0, lt=1)
    shared_over_time: bool = False
    """Whether a sample keeps one mask for the whole window."""

    def build(self, shape: Shape) -> tuple["Dropout", Shape]:
        """Return the layer for inputs of a shape, and the shape after it."""
        return Dropout(self.dropout, self.shared_over_time), shape


class Dropout(Stateless):
    """x with a part of it dropped while training, and the rest divided by the share that is left."""

    kind = "dropout"

    def __init__(self, share: float, shared: bool) -> None:
        super().__init__()
        self.share, self.shared = share, shared
        self.mask: Tensor | None = None
        """In the place of one that is drawn, [B, …]: for comparisons with other libraries."""

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return self._dropped(o, x, window) if self.training and isinstance(o, Eager) else x

    def _dropped(self, o: Any, x: Any, window: bool) -> Any:
        if self.mask is not None:
            return x * self.mask
        if not self.shared:
            return functional.dropout(x, self.share)
        like = x[0] if window else x
        if self.number not in o.masks:
            # Numbers are drawn in the order of memory, which must not hang on the layout that x has.
            ones = torch.ones_like(like, memory_format=torch.contiguous_format)
            o.masks[self.number] = functional.dropout(ones, self.share)
        return x * o.masks[self.number]
