"""Layers of weights: linear, convolution in one or two dimensions, and embedding."""

from math import prod
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.layers.base import Shape, Stateless, several
from hstnn_deploy.models.layers.norm import Norm

Init = Literal["torch", "xavier", "kaiming"]
"""How weights start: as torch's own layers do, or by `xavier_uniform` or `kaiming_uniform` times `gain`."""


def started(weight: Tensor, init: Init, gain: float) -> None:
    """Draw the weights of a fresh layer in place; those of `torch` have been drawn."""
    if init == "xavier":
        nn.init.xavier_uniform_(weight, gain=gain)
    elif init == "kaiming":
        nn.init.kaiming_uniform_(weight)
        with torch.no_grad():
            weight.mul_(gain)


class _Weights(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bias: bool = True
    init: Init = "torch"
    gain: float = Field(1.0, gt=0)


class LinearConfig(_Weights):
    """`{linear: 110, bias: false}`: y = x W^T + b of units."""

    linear: PositiveInt

    def build(self, shape: Shape) -> tuple["Linear", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are maps.
        """
        if len(shape) != 1:
            raise ValueError(f"a linear layer takes units, not {_shown(shape)}: put flatten before it")
        return Linear(shape[0], self), (self.linear,)


class Linear(nn.Linear, Stateless):
    """y = x W^T + b. Weights (outputs, inputs)."""

    kind = "linear"

    def __init__(self, inputs: int, config: LinearConfig) -> None:
        super().__init__(inputs, config.linear, config.bias)
        started(self.weight, config.init, config.gain)

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.linear_at_each(x, self, "product")


class ConvConfig(_Weights):
    """`{conv: 128, kernel: 3, padding: 1, bias: false}`: a convolution of maps [C, H, W] or rows [C, L]."""

    conv: PositiveInt
    """Output channels."""
    kernel: PositiveInt | list[PositiveInt] = 3
    stride: PositiveInt | list[PositiveInt] = 1
    padding: int | list[int] = Field(0)
    dilation: PositiveInt | list[PositiveInt] = 1
    groups: PositiveInt = 1

    def build(self, shape: Shape) -> tuple["Rows | Maps", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are no maps or rows, smaller than the kernel, or not divided by the groups.
        """
        if len(shape) not in (2, 3):
            raise ValueError(f"a convolution takes maps [C, H, W] or rows [C, L], not {_shown(shape)}")
        axes = len(shape) - 1
        if shape[0] % self.groups or self.conv % self.groups:
            raise ValueError(
                f"{self.groups} groups must divide the {shape[0]} input and the {self.conv} output channels"
            )
        if any(each < 0 for each in several(self.padding, axes)):
            raise ValueError(f"padding is {self.padding}: it must be 0 or more")
        how = tuple(several(each, axes) for each in (self.kernel, self.stride, self.padding, self.dilation))
        after = []
        for length, kernel, stride, padding, dilation in zip(shape[1:], *how, strict=True):
            left = length + 2 * padding - dilation * (kernel - 1) - 1
            if left < 0:
                raise ValueError(f"a kernel of {kernel} does not fit into {_shown(shape)} with padding {padding}")
            after.append(left // stride + 1)
        if (weights := self.conv * shape[0] // self.groups * prod(how[0])) > 2**31:
            raise ValueError(f"it would have {weights} weights")
        layer = Rows(shape[0], self, how) if axes == 1 else Maps(shape[0], self, how)
        return layer, (self.conv, *after)


class _OnDevices:
    """What convolutions share whose weights may be on devices: see `models.rram`."""

    effective: Tensor | None = None
    """What takes the place of the weights during a forward pass."""


class Rows(_OnDevices, nn.Conv1d, Stateless):
    """A convolution over rows [C, L]. Weights (outputs, inputs / groups, kernel)."""

    kind = "conv"
    over_time = False

    def __init__(self, inputs: int, config: ConvConfig, how: Any) -> None:
        kernel, stride, padding, dilation = how
        super().__init__(inputs, config.conv, kernel, stride, padding, dilation, config.groups, config.bias)
        started(self.weight, config.init, config.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of rows [N, C, L]."""
        y: Tensor = self._conv_forward(x, self.weight if self.effective is None else self.effective, self.bias)
        return y

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.convolve(x, self, "product")


class Maps(_OnDevices, nn.Conv2d, Stateless):
    """A convolution over maps [C, H, W]. Weights (outputs, inputs / groups, kernel, kernel)."""

    kind = "conv"
    over_time = False

    def __init__(self, inputs: int, config: ConvConfig, how: Any) -> None:
        kernel, stride, padding, dilation = how
        super().__init__(inputs, config.conv, kernel, stride, padding, dilation, config.groups, config.bias)
        started(self.weight, config.init, config.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of maps [N, C, H, W]."""
        y: Tensor = self._conv_forward(x, self.weight if self.effective is None else self.effective, self.bias)
        return y

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.convolve(x, self, "product")


class EmbeddingConfig(BaseModel):
    """`{embedding: 100, words: 10000}`: a row for each token; the first layer, of inputs that are tokens."""

    model_config = ConfigDict(extra="forbid")

    embedding: PositiveInt
    words: PositiveInt

    def build(self, shape: Shape) -> tuple["Embedding", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are not tokens.
        """
        if shape != ():
            raise ValueError(f"an embedding takes tokens (input: []), not {_shown(shape)}")
        return Embedding(self), (self.embedding,)


class Embedding(nn.Embedding, Stateless):
    """The row of each token. Weights (words, n)."""

    kind = "embedding"

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(config.words, config.embedding)

    @override
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        return o.embed(x, self, "row")


def _shown(shape: Shape) -> str:
    match len(shape):
        case 0:
            return "tokens"
        case 1:
            return f"{shape[0]} units"
        case _:
            return " x ".join(map(str, shape))


def weights_of(network: nn.Module) -> list[nn.Parameter]:
    """Return a network's weights: parameters with two axes or more, but for biases, norms and neurons' numbers.

    Such may have two axes too: a norm has numbers of each step, neurons of maps have some of each channel.
    """
    found: dict[int, nn.Parameter] = {}
    for module in network.modules():
        if not isinstance(module, Norm):
            numbers = getattr(module, "own", {})
            for name, value in module.named_parameters(recurse=False):
                if value.ndim > 1 and not name.startswith("bias") and name not in numbers:
                    found[id(value)] = value
    return [value for value in network.parameters() if id(value) in found]
