"""How often the spiking units of each layer fire while a network runs. Shapes: T time, B batch, n units."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hstnn_deploy.models.network import SPIKES, Network

Extreme = Literal["silent", "saturated"]


class Activity:
    """Context that counts the spikes of every spiking layer; steps past a sample's length do not count."""

    def __init__(self, network: Network) -> None:
        self._groups = {tap.layer: units for tap, units in network.taps.items() if tap.name == SPIKES}
        self.counts = torch.zeros((len(self._groups), 2), dtype=torch.float64, device=network.device)
        """For each spiking layer: spikes, and the most there could have been. Ranks may sum theirs."""
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [
            group.register_forward_hook(self._counting(place)) for place, group in enumerate(self._groups.values())
        ]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _counting(self, place: int) -> Any:
        @torch.no_grad()
        def hook(_group: Any, inputs: tuple[Any, ...], result: tuple[Tensor, Any]) -> None:
            spikes, lengths = result[0].flatten(2), inputs[2] if len(inputs) > 2 else None
            # Over time first: in float32 such a sum is exact, and much faster than one in float64.
            precise = torch.promote_types(spikes.dtype, torch.float32)
            if lengths is None:
                self.counts[place, 0] += spikes.sum(0, dtype=precise).sum(dtype=torch.float64)
                self.counts[place, 1] += spikes.numel()
            else:
                valid = torch.arange(len(spikes), device=spikes.device)[:, None] < lengths
                # What is emitted at other steps is unspecified: it is left out, not multiplied by zero.
                by_step = torch.where(valid, spikes.sum(2, dtype=precise), 0.0)
                self.counts[place, 0] += by_step.sum(dtype=torch.float64)
                self.counts[place, 1] += valid.sum() * spikes.shape[2]

        return hook

    def rates(self) -> dict[int, float]:
        """Return spikes per unit and step by the number of the layer, from 1; exactly 0 or 1 where none or all fired.

        A layer without spiking units has none. Where spikes are pooled, it is their mean.
        """
        return {
            number: fired / sites
            for number, (fired, sites) in zip(self._groups, self.counts.tolist(), strict=True)
            if sites
        }


def extremes(rates: Mapping[int, float]) -> dict[int, Extreme]:
    """Return the layers that pass on no information: no unit ever spikes, or every unit spikes at every step."""
    return {number: "saturated" if rate else "silent" for number, rate in rates.items() if rate in (0, 1)}
