"""Neurons whose input is normalised first, by statistics at rest: to scale and shift it is part of their kernel.

Without gradients, on a CPU. What is normalised never is in memory: a window is read and written once less. The bits are
those of torch's normalisation and the neurons' own kernel one after another.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.models.algebra import Normed

_FEWEST = 8
_LEAST = 2**20


def pays(x: Tensor) -> bool:
    """Whether a window [T, B, C, …] is faster so, and gets the bits that torch's own normalisation has.

    To spread the channels' numbers over all units takes as long as a step or two. LIF over maps, one thread, two
    kernels / one (medians of CPU time in turns), contiguous and with the channels last:

        2x32x64x32x32   4x64x32x22x22   8x16x32x16x16   16x16x64x8x8    16x16x16x32x32  16x4x64x32x32
        4.2M            4.0M            1.0M            1.0M            4.2M            4.2M values
        0.9  1.0        1.1  1.1        1.0  1.2        1.3  1.3        1.5  1.7        1.5  2.4

    At batch 1, [8, 1, 32, 16, 16] had 0.6.
    """
    return len(x) >= _FEWEST and x.numel() >= _LEAST and _torch_rounds_once()


class AfterNorm:
    """Neurons behind a normalisation, as far as a kernel is written from them."""

    def __init__(self, neuron: Any) -> None:
        self._neuron, self.states = neuron, neuron.states

    def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Mapping[str, Tensor]) -> Any:
        """Run one step; see `own`."""
        current = o.mul_add(drive, o.parameter(own[_FACTOR]), o.parameter(own[_OFFSET]))
        return self._neuron.step(o, current, state, own=own)


_FACTOR, _OFFSET = "norm factor", "norm offset"


def own(norm: Normed) -> dict[str, Tensor]:
    """Return what `AfterNorm` needs of a normalisation beside what its neurons have: factor and offset of a channel.

    From torch itself: of inputs 1 and 0.
    """
    one, zero = torch.ones_like(norm.mean), torch.zeros_like(norm.mean)
    return {
        name: functional.batch_norm(x[None], mean, norm.variance, norm.scale, shift, eps=norm.eps)[0].view(
            -1, *[1] * norm.maps
        )
        for name, x, mean, shift in ((_FACTOR, one, zero, None), (_OFFSET, zero, norm.mean, norm.shift))
    }


@functools.cache
def _torch_rounds_once() -> bool:
    """Whether torch scales and shifts in one rounding, as the kernel does: so on processors that can."""
    x, mean = torch.linspace(0.1, 3, 64), torch.linspace(1, 2, 64).sqrt()
    found = functional.batch_norm(x[None], mean, mean, mean, x)[0]
    factor = functional.batch_norm(torch.ones(1, 64), torch.zeros(64), mean, mean)[0]
    offset = functional.batch_norm(torch.zeros(1, 64), mean, mean, mean, x)[0]
    return torch.equal((x.double() * factor + offset.double()).float(), found)
