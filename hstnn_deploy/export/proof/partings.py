"""Where two runs of one network may part, and how many samples may: an excuse is earned, step by step.

Engines round differently, so a membrane next to its threshold tips over in one and not in the other, and what follows
differs. A sample is excused only if all of its run is certified (`replay`: every step from the engine's own spikes and
states), and if the first spike at which the two runs differ is of a membrane within eps of its threshold.

Shapes: T time, B batch, C classes, V words.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hstnn_deploy.export.graph.interface import Interface
from hstnn_deploy.export.proof.certificate import Certificate, Run
from hstnn_deploy.export.proof.engines import Engine, State
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.network import Network

LOGIT_TOLERANCE = 1e-4
"""Of logits between engines, relative to 1 + the largest logit."""
_FEW, _SHARE = 3, 0.005
"""Samples that may part at a borderline spike: this number, or this share of those asked, whichever is more."""


def handful(samples: int) -> int:
    """Return how many of `count` samples may part at a borderline spike."""
    return max(_FEW, math.ceil(_SHARE * samples))


def differing(first: Tensor, second: Tensor, face: Interface) -> tuple[Tensor, float]:
    """Return which samples' logits differ by more than the tolerance, [B], and by how much the others do at most."""
    difference = _per_sample((first - second).abs(), face)
    # Written so that NaN counts as different.
    differs = ~(difference <= LOGIT_TOLERANCE * (1 + _per_sample(second.abs(), face)))
    return differs, 0.0 if differs.all() else float(difference[~differs].max())


def _per_sample(values: Tensor, face: Interface) -> Tensor:
    """Return the largest of each sample's values, [B]."""
    return values.amax(dim=(0, 2)) if face.every_step else values.amax(dim=1)


def identical(first: Run, second: Run) -> bool:
    """Return whether two runs have the same logits and states, to the bit.

    A first run without states, of a graph that keeps them inside, is compared by its logits. Exits must be equal too.
    """
    left = [each.exit for each in (first, second)]
    if (left[0] is None) != (left[1] is None) or (left[0] is not None and not _same_bits(*left)):  # type: ignore[arg-type]
        return False
    return (not first.state or first.state.keys() == second.state.keys()) and all(
        _same_bits(one, two)
        for one, two in [(first.logits, second.logits), *((first.state[n], second.state[n]) for n in first.state)]
    )


def _same_bits(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one.view(torch.int32), two.view(torch.int32))


def excused(
    network: Network,
    x: Tensor,
    start: State | None,
    run: Run,
    other: Run,
    which: Tensor,
    shown: Engine | None = None,
) -> Tensor:
    """Return which samples of an engine's run may differ from another run, [B].

    Args:
        network: what both should compute.
        x: the input, [T, B, …].
        start: the states both started from; None for zeros.
        run: of the engine.
        other: the run it differs from, its layers shown.
        which: samples that are asked about, [B].
        shown: an engine that computes the same as this one, to the bit, and shows its layers; None: this one does.
    """
    found, certificate = torch.zeros_like(which), certified(network, x, start, run, other, which, shown)
    if certificate is not None:
        found[which] = certificate.explained
    return found


def certified(
    network: Network,
    x: Tensor,
    start: State | None,
    run: Run,
    other: Run,
    which: Tensor,
    shown: Engine | None = None,
) -> Certificate | None:
    """Return the replay of some samples of an engine's run beside another run; None where it shows no layers.

    See `excused`.
    """
    if shown is not None:
        again = shown(x, start)
        if not identical(run, again):
            return None
        run = again
    if not run.taps:
        return None
    chosen = which.nonzero()[:, 0]
    axis = 1 if run.logits.ndim == 3 else 0
    layers, others = ({tap: values[:, chosen] for tap, values in each.taps.items()} for each in (run, other))
    part = Run(
        run.logits.index_select(axis, chosen),
        layers,
        {name: value[chosen] for name, value in run.state.items()},
        None if run.exit is None else run.exit[chosen],
    )
    before = None if start is None else {name: value[chosen] for name, value in start.items()}
    return replay(network, x[:, chosen], part, before, others)


@dataclass
class Tally:
    """The outcomes of the compared samples."""

    samples: int = 0
    excused: int = 0
    """Samples that part at a borderline spike."""
    unexplained: int = 0
    """Samples that differ for no such reason."""

    def add(self, which: Tensor, excused: Tensor) -> None:
        """Count a batch: which samples differ, and which are excused, [B] each."""
        self.samples += len(which)
        self.excused += int((which & excused).sum())
        self.unexplained += int((which & ~excused).sum())

    @property
    def passed(self) -> bool:
        """Whether no sample differs without a reason, and no more than a handful with one."""
        return not self.unexplained and self.excused <= handful(self.samples)

    def __str__(self) -> str:
        if not self.excused + self.unexplained:
            return ""
        most = handful(self.samples)
        many = f" (more than {most})" if self.excused > most else ""
        return f", {self.excused} part at a borderline spike{many}, {self.unexplained} differ without that reason"
