"""The reading of a network's equations that torch.export takes (see `models.algebra`): time and batch stay free.

Shapes: T time, B batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

# No public name for the scan operator yet (torch 2.11 to 2.13).
from torch._higher_order_ops.scan import scan
from typing_extensions import override

from hstnn_deploy.export.graph.interface import taps_of
from hstnn_deploy.models.algebra import Fires, Strand
from hstnn_deploy.models.eager import Eager, fired
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.surrogates import Surrogate


class Traced(Eager):
    """The eager reading with time inside a scan. What it taps is noted in `taps`, by name."""

    def __init__(self, tapped: bool = False) -> None:
        super().__init__()
        self.tapped = tapped
        self.taps: dict[str, Tensor] = {}

    @override
    def _with(self, **changes: object) -> Self:
        # Dynamo in torch 2.11 does not trace __dict__.
        other = type(self)(self.tapped)
        other.layer, other.taps = self.layer, self.taps
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    @override
    def tap(self, a: Tensor, name: str) -> Tensor:
        if self.tapped:
            self.taps[f"layer{self.layer}_{name}"] = a
        return a

    @override
    def spike(
        self,
        membrane: Tensor,
        threshold: Tensor | float,
        surrogate: Surrogate,
        name: str = "spikes",
        fires: Fires = "above",
    ) -> Tensor:
        """There is no backward pass."""
        return fired(membrane, threshold, fires)

    @override
    def clip(self, a: Tensor, low: float | None, high: float | None, name: str = "") -> Tensor:
        """There is no backward pass."""
        return a.clamp(low, high)

    @override
    def share(self, total: Tensor, count: Tensor, name: str = "") -> Tensor:
        """A window has at least one step."""
        return total / count

    @override
    def dropout(self, x: Tensor, layer: nn.Dropout) -> Tensor:
        """Nothing is dropped."""
        return x

    @override
    def length(self, x: Tensor, name: str = "") -> Tensor:
        # Counted: the length itself would be that of the example.
        return torch.ones_like(x[..., :1]).sum(0)

    @override
    def loop(
        self, strands: Sequence[Strand[Tensor]], state: Mapping[str, Tensor]
    ) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        names = [name for strand in strands for name in strand.states]

        def step(
            carry: dict[str, Tensor], now: list[Tensor]
        ) -> tuple[dict[str, Tensor], tuple[list[Tensor], dict[str, Tensor]]]:
            # Nothing outside may be changed within a scan.
            inside = self._with(taps={})
            after: dict[str, Tensor] = {}
            rows = []
            for strand, x in zip(strands, now, strict=True):
                handed, new = strand.step(inside, x, carry)
                after |= new
                if strand.needed:
                    rows.append(handed.clone())
            # A scan may not hand out one tensor twice, and h is both.
            taps = {name: value.clone() for name, value in inside.taps.items()}
            return {name: after[name].clone() for name in carry}, (rows, taps)

        after, (rows, taps) = scan(step, {name: state[name] for name in names}, [strand.over for strand in strands])
        self.taps.update(taps)
        found = iter(rows)
        return [next(found) if strand.needed else None for strand in strands], after


class Program(nn.Module):
    """A network as `logits, state = program(x, state)`, all states given, for torch.export.

    One with an exit returns as a third whether the answer after the window may be given, [B].

    Args:
        network: see `interface.frozen`.
        tapped: whether what every layer's units handed out is returned as well, see `interface.taps_of`.
    """

    def __init__(self, network: Network, tapped: bool = False) -> None:
        super().__init__()
        self.frozen, self.tapped = network, tapped

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> Any:
        """Run a window x[T, B, …] from `state`; return the logits, the state after it, the exit, and the taps."""
        o = Traced(self.tapped)
        logits, after = self.frozen.window(o, x, state)
        after = {name: after[name] for name in state}
        found: tuple[Any, ...] = (logits, after)
        if self.frozen.exit is not None:
            found += (self.frozen.may_leave(o, logits, after),)
        return (*found, [o.taps[name] for name in taps_of(self.frozen)]) if self.tapped else found
