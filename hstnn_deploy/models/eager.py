"""The reading that runs: tensors, one operation after another, differentiable as often as you like.

It is the definition run as it stands: the oracle of every kernel, and what selection's second derivatives go through.
`Fast` is the same reading with whole windows given to the kernels of `models.kernels`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, Comparison, Convolution, Fires, Normed, Pooling, Sizes, Strand, Units
from hstnn_deploy.models.surrogates import Surrogate


def fired(membrane: Tensor, threshold: Tensor | float, fires: Fires) -> Tensor:
    """Return how often neurons fire; see `Algebra.spike`."""
    match fires:
        case "above":
            return (membrane > threshold).to(membrane.dtype)
        case "at":
            return (membrane >= threshold).to(membrane.dtype)
        case "several":
            return torch.floor(membrane / threshold).clamp(min=0)


class _Spike(torch.autograd.Function):
    """Step forward, the surrogate backward; which is itself a constant to second derivatives."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: Surrogate, spikes: Tensor | None, at: bool) -> Tensor:
        """Return `spikes`, or 1 where `distance` = m - threshold is positive (or zero, where `at`)."""
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        if spikes is not None:
            return spikes
        return (distance >= 0 if at else distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Multiply the gradient with the surrogate."""
        (distance,) = ctx.saved_tensors
        return ctx.surrogate.times(grads[0], distance), None, None, None


class Eager(Algebra[Tensor]):
    """Tensors.

    Args:
        lengths: valid steps per sample, [B], or None where all are; steps past them change no state and no sum.
    """

    reads = "torch"

    def __init__(self, lengths: Tensor | None = None) -> None:
        self.lengths = lengths
        self.masks: dict[int, Tensor] = {}
        """Of the layers whose dropout is one for the whole window, by their number."""

    @override
    def add(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        return a + b  # type: ignore[return-value]

    @override
    def sub(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        return a - b  # type: ignore[return-value]

    @override
    def mul(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        return a * b  # type: ignore[return-value]

    @override
    def sigmoid(self, a: Tensor, name: str = "") -> Tensor:
        return torch.sigmoid(a)

    @override
    def tanh(self, a: Tensor, name: str = "") -> Tensor:
        return torch.tanh(a)

    @override
    def relu(self, a: Tensor, name: str = "") -> Tensor:
        return torch.relu(a)

    @override
    def clip(self, a: Tensor, low: float | None, high: float | None, name: str = "") -> Tensor:
        """At a bound the gradient is 0, as in sinabs."""
        bounded = a if low is None else functional.threshold(a, low, low)
        return bounded if high is None else -functional.threshold(-bounded, -high, -high)

    @override
    def parameter(self, value: Tensor) -> Tensor:
        return value

    @override
    def share(self, total: Tensor, count: Tensor, name: str = "") -> Tensor:
        return total / count.clamp(min=1)

    @override
    def spike(
        self,
        membrane: Tensor,
        threshold: Tensor | float,
        surrogate: Surrogate,
        name: str = "spikes",
        fires: Fires = "above",
    ) -> Tensor:
        several = None
        if fires == "several":
            with torch.no_grad():
                several = fired(membrane, threshold, fires)
        spikes: Tensor = _Spike.apply(  # type: ignore[no-untyped-call]
            membrane - threshold, surrogate, several, fires == "at"
        )
        return spikes

    @override
    def fixed(self, a: Tensor) -> Tensor:
        return a.detach()

    @override
    def product(self, x: Tensor, weight: Tensor, name: str = "") -> Tensor:
        if weight.ndim == 2:
            return x @ weight
        several: Tensor = (x @ weight.flatten(1)).unflatten(-1, weight.shape[1:])
        return several

    @override
    def linear(self, x: Tensor, layer: nn.Linear, name: str = "") -> Tensor:
        output: Tensor = layer(x)
        return output

    @override
    def linear_at_each(self, x: Tensor, layer: nn.Linear, name: str = "") -> Tensor:
        output: Tensor = layer(x)
        return output

    @override
    def dropout(self, x: Tensor, layer: nn.Dropout) -> Tensor:
        output: Tensor = layer(x)
        return output

    @override
    def convolve(self, x: Tensor, layer: Convolution, name: str = "") -> Tensor:
        return _at_each(layer, x, layer.weight.ndim)

    @override
    def normalise(self, x: Tensor, norm: Normed, step: Tensor | None = None, name: str = "") -> Tensor:
        """What normalises while training is the layer itself; this is with statistics at rest."""
        if step is None:
            return functional.batch_norm(x, norm.mean, norm.variance, norm.scale, norm.shift, eps=norm.eps)
        beside = (..., *[None] * (x.ndim - 2))
        at = step[:, 0].long()
        factor = torch.rsqrt(norm.variance[at] + norm.eps)
        y = (x - norm.mean[at][beside]) * (factor if norm.scale is None else factor * norm.scale[at])[beside]
        return y if norm.shift is None else y + norm.shift[at][beside]

    @override
    def embed(self, tokens: Tensor, layer: nn.Embedding, name: str = "") -> Tensor:
        output: Tensor = layer(tokens)
        return output

    @override
    def likeliest(self, logits: Tensor, name: str = "") -> Tensor:
        return logits.softmax(-1).amax(-1)

    @override
    def mean_scale(self, norm: Normed, step: Tensor, name: str = "") -> Tensor:
        assert norm.scale is not None
        return norm.scale.abs().mean(1)[step[:, 0].long()]

    @override
    def compared(self, a: Tensor, how: Comparison, threshold: float, name: str = "") -> Tensor:
        return (a >= threshold if how == "at least" else a < threshold).to(a.dtype)

    @override
    def parts(self, x: Tensor, count: int, name: str = "") -> list[Tensor]:
        return list(x.unbind(1))

    @override
    def concat(self, values: Sequence[Tensor], axis: int, name: str = "") -> Tensor:
        if len(values) == 1:
            return values[0]
        if all(lies_by_pixels(each) for each in values) and axis % values[0].ndim == values[0].ndim - 3:
            return torch.cat([each.movedim(-3, -1) for each in values], -1).movedim(-1, -3)
        return torch.cat(list(values), dim=axis)

    @override
    def pool(self, x: Tensor, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> Tensor:
        return _at_each(lambda maps: pooled(maps, how, size, stride, padding), x, len(size) + 2)

    @override
    def flatten(self, x: Tensor, name: str = "") -> Tensor:
        return x.flatten(1)

    @override
    def vote(self, x: Tensor, voters: int, name: str = "") -> Tensor:
        mean: Tensor = x.unflatten(-1, (-1, voters)).mean(-1)
        return mean

    @override
    def total(self, x: Tensor, name: str = "") -> Tensor:
        if self.lengths is not None:
            valid = torch.arange(len(x), device=x.device)[:, None] < self.lengths
            x = torch.where(_beside(valid, x), x, 0)
        return x.sum(0)

    @override
    def length(self, x: Tensor, name: str = "") -> Tensor:
        if self.lengths is None:
            return x.new_full((x.shape[1], 1), len(x))
        return self.lengths[:, None].to(x.dtype)

    @override
    def loop(
        self, strands: Sequence[Strand[Tensor]], state: Mapping[str, Tensor]
    ) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        rows: list[list[Tensor]] = [[] for _ in strands]
        now = {name: state[name] for strand in strands for name in strand.states}
        # unbind, not x[t]: indexing in a loop makes backward quadratic in T.
        for t, each in enumerate(zip(*(strand.over.unbind(0) for strand in strands), strict=True)):
            after: dict[str, Tensor] = {}
            for strand, x, row in zip(strands, each, rows, strict=True):
                emitted, new = strand.step(self, x, now)
                after |= new
                if strand.needed:
                    row.append(emitted)
            now = {name: self.valid(t, after[name], now[name]) for name in now}
        return [torch.stack(row) if row else None for row in rows], now

    def from_step(self, t: int) -> Self:
        """Return the reading of what is left of a window from step t on."""
        return self if self.lengths is None else self._with(lengths=(self.lengths - t).clamp(min=0))

    def valid(self, t: int, after: Tensor, before: Tensor) -> Tensor:
        """Return a state after step t, or as it was in samples that have ended."""
        return after if self.lengths is None else torch.where(_beside(t < self.lengths, after), after, before)


class Fast(Eager):
    """Tensors, the windows of groups of units run by the kernels of `models.kernels`."""

    @override
    def whole(
        self, group: Units, x: Tensor, state: Mapping[str, Tensor], needed: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return group(x, dict(state), self.lengths)  # type: ignore[no-any-return]


def channels_last(x: Tensor) -> Tensor:
    """Return maps [T, B, C, H, W] with the channels of a pixel side by side in memory, where that is faster.

    On a processor, convolution, normalisation and pooling take vectors of channels then, and hand on the same layout: a
    training step of SpikingJelly's network for gestures takes 0.7 of its time so. Rounding differs in the last bits.
    """
    # Of one sample, torch cannot tell the layouts apart, and its normalisation mixes them up backward.
    if x.ndim != 5 or x.device.type != "cpu" or x.shape[1] == 1:
        return x
    rows = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return rows.view(*x.shape[:2], *rows.shape[1:])


def lies_by_pixels(x: Tensor) -> bool:
    """Whether maps […, C, H, W] lie with the channels of a pixel side by side in memory, and in no other way."""
    return x.ndim > 3 and not x.is_contiguous() and x.movedim(-3, -1).is_contiguous()


def _beside(samples: Tensor, values: Tensor) -> Tensor:
    """Return a mask over samples that is broadcast over their values."""
    return samples[(..., *[None] * (values.ndim - samples.ndim))]


def pooled(maps: Tensor, how: Pooling, size: Sizes, stride: Sizes, padding: Sizes = ()) -> Tensor:
    """Return the mean, the largest or the sum of each `size` of maps [N, n, H, W] or rows [N, n, L]; see `pool`."""
    padding = padding or (0,) * len(size)
    if len(size) == 1:
        return pooled(maps.unsqueeze(-2), how, (1, *size), (1, *stride), (0, *padding)).squeeze(-2)
    if how == "max":
        # The first of equals takes the gradient.
        return functional.max_pool2d(maps, size, stride, padding)
    whole = not any(length % part for length, part in zip(maps.shape[2:], size, strict=True))
    if size == stride and whole and not any(padding) and maps.requires_grad and torch.is_grad_enabled():
        means: Tensor = _Mean.apply(maps, size, how == "sum")  # type: ignore[no-untyped-call]
        return means
    return functional.avg_pool2d(maps, size, stride, padding, divisor_override=1 if how == "sum" else None)


class _Mean(torch.autograd.Function):
    """The mean or sum of windows side by side. Unlike torch's own, it keeps no maps for the way back."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, size: tuple[int, int], total: bool) -> Tensor:
        ctx.size, ctx.count = size, 1 if total else size[0] * size[1]
        return functional.avg_pool2d(maps, size, divisor_override=ctx.count)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        spread = functional.interpolate(grads[0] / ctx.count, scale_factor=ctx.size, mode="nearest")
        return spread, None, None


def _at_each(function: Any, x: Tensor, dimensions: int) -> Tensor:
    """Apply a function of values with a number of dimensions to every step of x[T, …] as well."""
    result: Tensor = function(x) if x.ndim == dimensions else function(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return result
