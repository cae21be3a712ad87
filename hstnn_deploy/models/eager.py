"""The reading that runs: tensors, one operation after another, differentiable as often as you like.

It is the definition run as it stands: the oracle of every kernel, and what selection's second derivatives go through.
`Fast` is the same reading with whole windows given to the kernels of `models.kernels`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hstnn_deploy.models.algebra import Algebra, Strand, Units
from hstnn_deploy.models.surrogates import Surrogate


class _Spike(torch.autograd.Function):
    """Heaviside step forward, the surrogate backward; which is itself a constant to second derivatives."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: Surrogate) -> Tensor:
        """Return 1 where `distance` = m - threshold is positive."""
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Multiply the gradient with the surrogate."""
        (distance,) = ctx.saved_tensors
        return ctx.surrogate.times(grads[0], distance), None


class Eager(Algebra[Tensor]):
    """Tensors.

    Args:
        lengths: valid steps per sample, [B], or None where all are; steps past them change no state and no sum.
    """

    reads = "torch"

    def __init__(self, lengths: Tensor | None = None) -> None:
        self.lengths = lengths

    def add(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        """See `Algebra`."""
        return a + b  # type: ignore[return-value]

    def sub(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        """See `Algebra`."""
        return a - b  # type: ignore[return-value]

    def mul(self, a: Tensor | float, b: Tensor | float, name: str = "") -> Tensor:
        """See `Algebra`."""
        return a * b  # type: ignore[return-value]

    def sigmoid(self, a: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return torch.sigmoid(a)

    def tanh(self, a: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return torch.tanh(a)

    def relu(self, a: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return torch.relu(a)

    def share(self, total: Tensor, count: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return total / count.clamp(min=1)

    def spike(self, membrane: Tensor, threshold: Tensor | float, surrogate: Surrogate, name: str = "spikes") -> Tensor:
        """See `Algebra`."""
        spikes: Tensor = _Spike.apply(membrane - threshold, surrogate)  # type: ignore[no-untyped-call]
        return spikes

    def fixed(self, a: Tensor) -> Tensor:
        """See `Algebra`."""
        return a.detach()

    def product(self, x: Tensor, weight: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        if weight.ndim == 2:
            return x @ weight
        several: Tensor = (x @ weight.flatten(1)).unflatten(-1, weight.shape[1:])
        return several

    def linear(self, x: Tensor, layer: nn.Linear, name: str = "") -> Tensor:
        """See `Algebra`."""
        output: Tensor = layer(x)
        return output

    def linear_at_each(self, x: Tensor, layer: nn.Linear, name: str = "") -> Tensor:
        """See `Algebra`."""
        output: Tensor = layer(x)
        return output

    def dropout(self, x: Tensor, layer: nn.Dropout) -> Tensor:
        """See `Algebra`."""
        output: Tensor = layer(x)
        return output

    def convolve(self, x: Tensor, layer: nn.Conv2d, name: str = "") -> Tensor:
        """See `Algebra`."""
        return _on_maps(layer, x)

    def embed(self, tokens: Tensor, layer: nn.Embedding, name: str = "") -> Tensor:
        """See `Algebra`."""
        output: Tensor = layer(tokens)
        return output

    def parts(self, x: Tensor, count: int, name: str = "") -> list[Tensor]:
        """See `Algebra`."""
        return list(x.unbind(1))

    def concat(self, values: Sequence[Tensor], axis: int, name: str = "") -> Tensor:
        """See `Algebra`."""
        return values[0] if len(values) == 1 else torch.cat(list(values), dim=axis)

    def mean_pool(self, x: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return _on_maps(lambda maps: functional.avg_pool2d(maps, 2), x)

    def flatten(self, x: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        return x.flatten(1)

    def total(self, x: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        if self.lengths is not None:
            valid = torch.arange(len(x), device=x.device)[:, None] < self.lengths
            x = torch.where(_beside(valid, x), x, 0)
        return x.sum(0)

    def length(self, x: Tensor, name: str = "") -> Tensor:
        """See `Algebra`."""
        if self.lengths is None:
            return x.new_full((x.shape[1], 1), len(x))
        return self.lengths[:, None].to(x.dtype)

    def loop(
        self, strands: Sequence[Strand[Tensor]], state: Mapping[str, Tensor]
    ) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """See `Algebra`."""
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
            now = {name: self._valid(t, after[name], now[name]) for name in now}
        return [torch.stack(row) if row else None for row in rows], now

    def _valid(self, t: int, after: Tensor, before: Tensor) -> Tensor:
        """Return a state after step t, or as it was in samples that have ended."""
        return after if self.lengths is None else torch.where(_beside(t < self.lengths, after), after, before)


class Fast(Eager):
    """Tensors, the windows of groups of units run by the kernels of `models.kernels`."""

    def whole(
        self, group: Units, x: Tensor, state: Mapping[str, Tensor], needed: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Algebra`."""
        return group(x, dict(state), self.lengths)  # type: ignore[no-any-return]


def _beside(samples: Tensor, values: Tensor) -> Tensor:
    """Return a mask over samples that is broadcast over their values."""
    return samples[(..., *[None] * (values.ndim - samples.ndim))]


def _on_maps(function: Any, x: Tensor) -> Tensor:
    """Apply what takes maps [N, n, H, W] to those of every step of x[T, B, n, H, W] as well."""
    maps: Tensor = function(x) if x.ndim == 4 else function(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return maps
