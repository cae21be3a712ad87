"""What a module is taken as: layers of a stack with their weights, one after another or in branches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.models.layers.base import Shape


class Folded(int):
    """One axis before what a sample has at a step, which is batch and time together."""


FOLDED = Folded(1)
Twin = Callable[[nn.Module], None]
"""Gives a module constants that are multiples of 1/8, so that a membrane meets its threshold exactly."""


@dataclass
class Part:
    """A layer as a recipe has it, and its weights under the layer's own names."""

    config: dict[str, Any]
    weights: dict[str, Tensor] = field(default_factory=dict)
    path: str = ""
    """Of the module it was made of."""
    shape: Shape | None = None
    """What comes into that module at a step of a sample; None: it was made of no module."""
    axes: int = 1
    """How many stand before that: 1 the batch, 2 time too; `FOLDED`: both as one."""
    membrane: bool = False
    """Whether it stands for a module's membrane, the last of what that gives, and not for the first."""


@dataclass
class Branches:
    """Chains that all see the same, and come together: `residual` adds two, `parallel` puts channels side by side."""

    how: Literal["residual", "parallel"]
    chains: list["Chain"]
    path: str = ""


Chain = list[Part | Branches]


@dataclass
class Taken:
    """What one module is taken as."""

    chain: Chain
    twin: Twin | None = None
    """Of neurons: how a copy of the module gets constants under which its threshold is met exactly."""
    note: str = ""
    """What the stack does not take over, such as a surrogate that there is no counterpart of."""


def configs(chain: Sequence[Part | Branches]) -> list[dict[str, Any]]:
    """Return layers as a recipe has them."""
    found = []
    for each in chain:
        if isinstance(each, Part):
            found.append(each.config)
            continue
        inside = [configs(branch) for branch in each.chains]
        if each.how == "parallel":
            found.append({"parallel": inside})
        else:
            found.append({"residual": inside[0]} | ({"shortcut": inside[1]} if len(inside) > 1 and inside[1] else {}))
    return found


def every_part(chain: Sequence[Part | Branches]) -> Iterator[Part]:
    """Yield the parts in order, those of branches too."""
    return (each for each in leaves(chain) if each is not None)


def leaves(chain: Sequence[Part | Branches]) -> Iterator[Part | None]:
    """Yield the parts in the order of a stack's leaves; None where a block itself has a number."""
    for each in chain:
        if isinstance(each, Part):
            yield each
            continue
        for branch in each.chains:
            yield from leaves(branch)
        yield None


@torch.no_grad()
def coarse(value: Tensor) -> None:
    """Make weights -1, 0 and 1, and single values multiples of 1/8, in place: sums of them often meet a threshold."""
    if value.ndim > 1:
        value.copy_(value.sign() * (value.abs() >= value.abs().median()))
    else:
        value.copy_((value * 8).round() / 8)


def own_value(name: str, value: Any, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Put a neuron's number into its configuration: one for all, or one for each unit, with its values as weights.

    Args:
        name: the number, such as `decay`.
        value: a number, or a tensor that is one value, or fits the layer's shape.
        shape: of the layer, without time and batch.
        config: the neuron's keys, which get it.
        weights: the layer's weights, which get its values.

    Raises:
        ImportRefused: it fits no such layer, or holds a number that is not finite.
    """
    values = torch.as_tensor(value).detach()
    if not torch.isfinite(values).all():
        raise ImportRefused(f"{name} contains a value that is not finite")
    if values.numel() == 1 or bool((values == values.flatten()[0]).all()):
        config[name] = float(values.flatten()[0])
        return
    while values.ndim > len(shape) and len(values) == 1:
        values = values[0]
    try:
        spread = values.expand(shape)
    except RuntimeError as error:
        raise ImportRefused(f"{name} has shape {list(values.shape)}, which does not fit {list(shape)}") from error
    channels = spread[(slice(None), *[slice(0, 1)] * (len(shape) - 1))]
    by_channel = len(shape) > 1 and bool((spread == channels).all())
    config[name] = float(values.mean())
    config.setdefault("each", {})[name] = "channel" if by_channel else "unit"
    weights[name] = (channels if by_channel else spread).clone()
