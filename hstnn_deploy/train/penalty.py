"""Penalties that a training adds to its loss: for too many or too few spikes, and for weights to zero in groups."""

from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hstnn_deploy.models.network import SPIKES, Network
from hstnn_deploy.recipe.sections import Regularise


class Penalty:
    """Looks at the spikes of every spiking layer during a forward pass; a context manager around it.

    With r the spikes of a unit per step, a mean over the valid steps of a batch, and means over the units of a layer,
    then over layers: spikes * r + rate.weight * (max(0, low - r)^2 + max(0, r - high)^2); and `weight_penalty`.
    """

    def __init__(self, network: Network, regularise: Regularise | None) -> None:
        spiking = [units for tap, units in network.taps.items() if tap.name == SPIKES]
        self._network, self._units = network, [] if regularise is None else spiking
        self._how = regularise
        self._found: dict[int, list[tuple[Tensor, Tensor | float]]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._found = {}
        self._handles = [units.register_forward_hook(self._noting(place)) for place, units in enumerate(self._units)]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _noting(self, place: int) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], result: tuple[Tensor, Any]) -> None:
            spikes, lengths = result[0], inputs[2] if len(inputs) > 2 else None
            steps: Tensor | float = float(spikes.shape[0] * spikes.shape[1])
            if lengths is not None:
                valid = torch.arange(len(spikes), device=spikes.device)[:, None] < lengths
                spikes = torch.where(valid.view(*valid.shape, *[1] * (spikes.ndim - 2)), spikes, 0)
                steps = valid.sum()
            # Convolutional hybrids run a window in parts.
            self._found.setdefault(place, []).append((spikes.sum((0, 1)), steps))

        return hook

    def value(self) -> Tensor:
        """Return what is added to the loss, scalar, of the passes since the context was entered."""
        how, of_weights = self._how, self._network.weight_penalty()
        total = torch.zeros(())
        for parts in self._found.values():
            rate = sum(spikes for spikes, _ in parts) / sum(steps for _, steps in parts)
            assert isinstance(rate, Tensor)
            assert how is not None
            penalty = how.spikes * rate.mean()
            if how.rate is not None:
                off = (how.rate.low - rate).clamp(min=0) + (rate - how.rate.high).clamp(min=0)
                penalty = penalty + how.rate.weight * off.square().mean()
            total = total.to(penalty.device) + penalty
        spikes = total / max(1, len(self._found))
        return spikes if of_weights is None else spikes.to(of_weights.device) + of_weights
