"""Input that tells options of neurons from one another: membranes come to their thresholds, and to both sides."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.importing.parts import Part
from hstnn_deploy.importing.stacks import start
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.network import State
from hstnn_deploy.models.stack import Stack

NEAR = 1e-8
"""How far from its threshold a membrane is brought, as a share of it; rounding in float64 is some 1e-15."""


@dataclass
class Counts:
    """What was seen of thresholds: membranes exactly at them, above them, and all."""

    met: int = 0
    spikes: int = 0
    units: int = 0
    membrane: Tensor | None = None
    """At the last step."""
    threshold: Any = None


class Counting(Eager):
    """Tensors, with a count of membranes that are exactly at their threshold, and of spikes."""

    def __init__(self) -> None:
        super().__init__()
        # One object, which the copies of this reading for each layer share.
        self.count = Counts()

    @override
    def spike(self, membrane: Tensor, threshold: Any, *others: Any, **named: Any) -> Tensor:
        found = super().spike(membrane, threshold, *others, **named)
        self.count.met += int((membrane == threshold).sum())
        self.count.spikes += int((found > 0).sum())
        self.count.units += found.numel()
        self.count.membrane, self.count.threshold = membrane, threshold
        return found


def counted(network: Stack, x: Tensor, state: State | None = None) -> tuple[Tensor, Any, Counts]:
    """Run a stack's layers over a window; return what they give, their states, and what was seen of thresholds."""
    o = Counting()
    found, after = network.layers.run(o, x, start(network, x) if state is None else state, True)
    return found, after, o.count


def eighths(sizes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return multiples of 1/8 that reach twice the threshold, and below 0."""
    return torch.randint(-8, 17, sizes, generator=generator).double() / 8


def pulses(sizes: tuple[int, ...], generator: torch.Generator) -> Iterator[Tensor]:
    """Yield multiples of 1/8; few and large pulses leave membranes whose fractions are short."""
    yield eighths(sizes, generator)
    for size in (1.0, 2.0, 4.0):
        found = torch.tensor([0, 0, 0, 0.5, 0.5, 1, 1, 1, 2, -1]).double() * size
        yield found[torch.randint(0, len(found), sizes, generator=generator)]


def audible(network: Stack, x: Tensor) -> tuple[Tensor, Counts]:
    """Return input times a power of 2 under which neurons fire, but not always."""
    tried = []
    for power in (0, *(sign * each for each in range(1, 25) for sign in (1, -1))):
        _, _, count = counted(network, x * 2.0**power)
        share = count.spikes / max(1, count.units)
        if not count.units or 0.05 < share < 0.7:
            return x * 2.0**power, count
        tried.append((count.spikes == 0, abs(share - 0.3), power, count))
    best = min(tried, key=lambda each: each[:2])
    return x * 2.0 ** best[2], best[3]


def seeking(network: Stack, parts: list[Part], x: Tensor, near: float, generator: torch.Generator) -> Tensor:
    """Return input that brings about half of the membranes next to their threshold at every step, on either side.

    Args:
        network: the stack of a module of neurons; its membranes are linear in what comes in at a step.
        parts: what it is made of.
        x: the input to begin from, [T, B, …].
        near: how near, as a share of the threshold; 0 is at it.
        generator: of what is drawn.
    """
    into = parts[0].weights["weight"].double() if "linear" in parts[0].config else None
    several = any("several" in (part.config.get(kind) or {}).values() for part in parts for kind in ("lif", "feedback"))
    state, rows = start(network, x), []
    for now in x:
        _, _, count = counted(network, now[None], state)
        m, threshold = count.membrane, count.threshold
        if m is None:
            return x
        sides = torch.randint(0, 2, m.shape, generator=generator).double() * 2 - 1
        often = torch.randint(1, 4 if several else 2, m.shape, generator=generator).double()
        missing = threshold * often * (1 + near * sides) - m
        if into is None:
            step = torch.ones_like(now)
        else:
            # Through a layer of weights, one unit of each sample is led, by its largest weight.
            unit = torch.randint(0, len(into), (len(now),), generator=generator)
            largest = into[unit].abs().argmax(1, keepdim=True)
            weight = into[unit].gather(1, largest)
            # Where all is to be exact, only by a weight that divides exactly: a power of 2.
            usable = (weight != 0) if near else (weight.frexp().mantissa.abs() == 0.5)
            step = torch.zeros_like(now).scatter(1, largest, torch.where(usable, 1 / weight, 0.0))
        _, _, moved = counted(network, (now + step)[None], state)
        assert moved.membrane is not None
        gain = moved.membrane - m
        share = torch.where(gain.abs() > 1e-9, missing / gain, 0.0)
        if into is None:
            share = share.reshape(now.shape) * (torch.rand(now.shape, generator=generator) < 0.5)
        else:
            share = share.flatten(0, -2)[torch.arange(len(now)), unit][:, None]
        now = now + share * step
        rows.append(now)
        _, state, _ = counted(network, now[None], state)
    return torch.stack(rows)
