"""A disturbance: a named, seeded function of one number, its level, with a unit; level 0 does nothing.

What a disturbance draws follows from its name, the number of the draw and, where it acts on samples, the sample's
number alone: the words of Philox4x64-10 (Salmon et al., SC 2011) under that key. So a sample is disturbed alike in any
batch, in any process and on any machine. Of a training, the seed, the epoch and perhaps the step take the place of the
draw's number: they are the upper words of the counter, which are 0 in measurements.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import UsageError, nearest

Array = NDArray[Any]

Where = Literal["values", "events", "words", "weights", "neurons", "spikes", "adversary"]
"""What it acts on: the input's values, raw events, words; or weights, neurons or spikes of the network; or the values,
by an adversary who knows a network's gradient."""

INPUTS: tuple[Where, ...] = ("values", "events", "words")
"""Where a disturbance acts on the input alone, so that a bundle can be disturbed too."""

BOUNDLESS = 1e6
"""The largest level if the meaning sets no limit; far larger levels would give NaN or infinity."""


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb a network or its input."""

    name: str
    about: str
    """What it does, as a sentence."""
    unit: str
    """What a level is, such as "share of the events"."""
    where: Where
    levels: tuple[float, ...]
    """The default levels, from weak to strong."""
    most: float = BOUNDLESS
    """The largest level that has a meaning."""
    whole: bool = False
    """Whether levels are whole numbers."""
    falling: bool = False
    """Whether a smaller level disturbs more, as with bits; 0 is still no disturbance."""

    def severity(self, level: float) -> float:
        """Return where a level lies on the axis of a curve: itself; of bits, the rounding step 2^(1 - bits)."""
        return 2.0 ** (1 - level) if self.falling and level else level

    def check(self, level: float, asked: str = "--disturb ") -> float:
        """Return a level after checking it.

        Args:
            level: which one.
            asked: what stands before the name where it was asked for.

        Raises:
            UsageError: it is below 0, above `most`, or not whole where it must be.
        """
        if not 0 <= level <= self.most or (self.falling and level == 1) or (self.whole and level != int(level)):
            bound = f"from 0 to {self.most:g}" if level > 0 or self.most < BOUNDLESS else "0 or more"
            bound = f"0 (none), or from 2 to {self.most:g}" if self.falling else bound
            number = "a whole number " if self.whole else ""
            raise UsageError(f"{asked}{self.name}: level {level:g} must be {number}{bound} ({self.unit})")
        return level

    def ordered(self, levels: "tuple[float, ...] | list[float]") -> list[float]:
        """Return levels from weak to strong, each once, without 0."""
        return sorted({self.check(level) for level in levels} - {0.0}, key=self.severity)


@dataclass(frozen=True)
class Trained:
    """What a training draws by, in the place of the number of a draw."""

    seed: int
    epoch: int
    """From 1 on."""
    step: int = 0
    """Of the epoch, from 1 on; 0 for what is drawn for samples, whatever batch they come in."""


Draw = int | Trained
"""The number of a draw, 0 or more; or the place in a training."""


def stream(name: str, draw: Draw, number: int = 0) -> np.random.Generator:
    """Return what a disturbance draws from.

    Args:
        name: of the disturbance.
        draw: which draw.
        number: of the sample, 0 or more.
    """
    measured, place = (draw, (0, 0, 0)) if isinstance(draw, int) else (0, (draw.step, draw.epoch, draw.seed))
    key = np.array([(zlib.crc32(name.encode()) << 32) | (measured & 0xFFFF_FFFF), number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, *place], np.uint64)))


def drawn(disturbance: Disturbance, level: float, draw: Draw, number: int = 0) -> tuple[float, np.random.Generator]:
    """Return at which level something is disturbed, and what else is drawn from.

    In a measurement it is the level that is asked for. In a training it is drawn evenly from 0 to that level, of whole
    numbers with both ends.

    Args:
        disturbance: which one.
        level: the strongest.
        draw: which draw.
        number: of the sample, 0 or more.
    """
    generator = stream(disturbance.name, draw, number)
    if isinstance(draw, int):
        return level, generator
    return float(generator.integers(int(level) + 1) if disturbance.whole else generator.uniform(0, level)), generator


def parse(text: str, known: Mapping[str, Disturbance]) -> tuple[Disturbance, list[float]]:
    """Return the disturbance and the levels of `NAME` or `NAME=LEVEL,LEVEL,…`.

    Raises:
        UsageError: an unknown disturbance, or an invalid level.
    """
    name, equals, listed = text.partition("=")
    if name.strip() not in known:
        raise UsageError(f"unknown disturbance {name.strip()!r}", nearest(name.strip(), known))
    found = known[name.strip()]
    if not equals:
        return found, found.ordered(found.levels)
    levels = []
    for word in listed.split(","):
        try:
            levels.append(found.check(float(word)))
        except ValueError:
            example = f"--disturb {found.name}={','.join(f'{level:g}' for level in found.levels)}"
            raise UsageError(f"--disturb {text}: {word.strip()!r} is not a number", f"such as {example}") from None
    return found, found.ordered(levels)
