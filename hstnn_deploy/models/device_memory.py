"""How many bits of RRAM and SRAM the weights of a network on devices take, and what is left in float32 beside them.

    RRAM      a weight takes the bits of its quantiser; ternary ones, of three levels, take 2
    SRAM      the same; for pruned layers a quantiser without a level at zero takes 1 bit more, for what is pruned
    groups    of pruned layers alone the groups that are not zero, and a bit for each group that says which they are

The uniform quantiser does not clamp: weights beyond 1 have levels that these bits do not hold. They are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hstnn_deploy.models.rram import Quantiser, Weights, grouped, kept, quantised


@dataclass(frozen=True)
class DeviceMemory:
    """Bits of memory of one network."""

    weights: int
    """Weights of convolutions, which are on devices."""
    rram: int
    """Bits of RRAM."""
    sram: int
    """Bits of SRAM, every weight stored; 0 without an SRAM part."""
    sram_groups: int
    """Bits of SRAM where pruned layers store only groups that are not zero, and which these are."""
    other: int
    """Bits of everything else: linear layers, biases, normalisations with their statistics, in float32."""
    beyond: int
    """Weights of RRAM and SRAM whose level needs more bits."""
    reads_rram: int
    """Bits of RRAM that are read for one weight."""
    reads_sram: int
    """Bits of SRAM that are read for one weight; 0 without an SRAM part."""
    parts: tuple[str, ...]
    """The layers whose weights they are, such as "layer1.conv"."""

    @property
    def sram_least(self) -> int:
        """Bits of SRAM in the smaller of both ways to store it."""
        return min(self.sram, self.sram_groups)

    @property
    def devices(self) -> int:
        """Bits of RRAM and SRAM, SRAM in the smaller of both ways to store it."""
        return self.rram + self.sram_least

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self) | {"parts": list(self.parts)}


def bits_of(quantiser: Quantiser, bits: int) -> int:
    """Return how many bits a weight takes: ternary ones 2, whatever a recipe says."""
    return 2 if quantiser == "ternary" else bits


@torch.no_grad()
def device_memory(devices: Weights, layers: Sequence[Any], state: Mapping[str, torch.Tensor]) -> DeviceMemory:
    """Count the bits that a network with weights on devices takes.

    Args:
        devices: what its recipe says of them.
        layers: its convolutions.
        state: all its parameters and statistics by name.
    """
    rram_bits = bits_of(devices.quantiser, devices.bits)
    sram_bits = bits_of(devices.quantiser, devices.sram.bits or devices.bits)
    sram = sram_groups = beyond = 0
    for number, layer in enumerate(layers):
        weight, fixed = layer.weight, getattr(layer, "fixed", None)
        beyond += _beyond(weight if fixed is None else fixed, devices.quantiser, devices.bits)
        if fixed is None:
            continue
        pruned = devices.step == "prune" and (number > 0 or devices.prune.first)
        each = sram_bits + (pruned and devices.quantiser != "ternary")
        zero = kept(weight, devices.prune.threshold) == 0
        beyond += _beyond(weight, devices.quantiser, devices.sram.bits or devices.bits, zero if pruned else None)
        sram += weight.numel() * each
        if pruned:
            groups = grouped(zero.float(), devices.prune.group)
            alive = int((groups == 0).any(-1).sum())
            sram_groups += alive * groups.shape[-1] * each + groups.shape[0] * groups.shape[1]
        else:
            sram_groups += weight.numel() * each
    weights = sum(layer.weight.numel() for layer in layers)
    everything = sum(
        value.numel() * value.element_size() * 8 for name, value in state.items() if not name.endswith(".fixed")
    )
    return DeviceMemory(
        weights=weights,
        rram=weights * rram_bits,
        sram=sram,
        sram_groups=sram_groups,
        other=everything - 32 * weights,
        beyond=beyond,
        reads_rram=rram_bits,
        reads_sram=sram_bits if devices.compensated else 0,
        parts=tuple(f"layer{layer.number}.{layer.kind}" for layer in layers),
    )


def _beyond(weight: torch.Tensor, quantiser: Quantiser, bits: int, without: torch.Tensor | None = None) -> int:
    """Return how many levels lie beyond 1, which only the uniform quantiser has."""
    if quantiser != "uniform":
        return 0
    far = quantised(weight, quantiser, bits).abs() > 1
    return int((far if without is None else far & ~without).sum())
