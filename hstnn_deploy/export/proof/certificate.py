"""What an engine computed of a window, and what a replay of it found: spike by spike, value by value.

Shapes: T time, B batch, C classes, V words, n units of a group. Of convolutional layers a unit is a channel of maps.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.models.network import Tap


class Run(NamedTuple):
    """What an engine computed of a window."""

    logits: Tensor
    """[B, C], or of a language model [T, B, V]."""
    taps: dict[Tap, Tensor]
    """What was handed out at every step, [T, B, n, …], maps not yet pooled; empty where the engine does not show it."""
    state: dict[str, Tensor]
    """The states after the window."""
    exit: Tensor | None = None
    """[B], whether the answer after the window may be given; None where the engine does not say."""


@dataclass(frozen=True)
class Divergence:
    """Where an engine's output does not follow from its own past."""

    layer: int
    """Counted from 1; 0 for the readout."""
    what: str
    """The tap or state that differs: spikes, h, state v, readout."""
    step: int
    sample: int
    unit: int
    place: tuple[int, ...]
    """Within the unit's map, of convolutional layers."""
    distance: float
    """How far off: |m - threshold| of a wrong spike, or the error of a value."""
    bound: float
    """How far off it may be."""

    def __str__(self) -> str:
        where = self.what if self.layer == 0 else f"layer {self.layer} {self.what}"
        unit = f"unit {self.unit}" + (f" at {self.place}" if self.place else "")
        return (
            f"{where}, step {self.step}, sample {self.sample}, {unit}: "
            f"off by {self.distance:.3g}, bound {self.bound:.3g}"
        )


@dataclass
class Certificate:
    """What a replay found."""

    spikes: int = 0
    """Spikes checked (units x steps x samples)."""
    borderline: int = 0
    """Of these, membranes so near the threshold that either answer is right in float32."""
    values: int = 0
    """Recurrent outputs and cells checked."""
    exits: int = 0
    """Exits checked."""
    exits_borderline: int = 0
    """Of these, answers so near the threshold that either is right in float32."""
    worst: float = 0.0
    """The largest error of a recurrent output, state or logit, as a share of its bound."""
    divergences: list[Divergence] = field(default_factory=list)
    """The first divergence of each tap and state, and of the readout."""
    failed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    """[B]: which samples diverge anywhere."""
    parted: Tensor = field(default_factory=lambda: torch.empty(0))
    """[B]: the first step at which each sample's spikes differ from another run's; infinite where none do."""
    parted_borderline: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    """[B]: whether a membrane whose spike differs there, in the lowest layer that differs, is borderline."""

    exit_near: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    """[B]: whether the answer, within the bound of its logits, may be on either side of the exit's threshold."""

    @property
    def passed(self) -> bool:
        """Whether nothing diverged."""
        return not self.divergences

    def __str__(self) -> str:
        if not self.passed:
            return f"diverges first at {self.divergences[0]}"
        parts = []
        if self.spikes:
            parts.append(f"{self.spikes} spikes identical ({self.borderline} borderline)")
        if self.values:
            parts.append(
                f"{self.values} recurrent values within the rounding bound "
                f"(largest error {100 * self.worst:.0f} % of it)"
            )
        if self.exits:
            parts.append(f"{self.exits} exits identical ({self.exits_borderline} borderline)")
        return ", ".join(parts)

    @property
    def explained(self) -> Tensor:
        """Which samples [B] may rightly differ from the other run: nothing diverges, and they part at a borderline."""
        return ~self.failed & self.parted_borderline

    @property
    def exit_explained(self) -> Tensor:
        """Which samples [B] may rightly leave where the other run does not, or stay: as above, or a near exit."""
        return ~self.failed & (self.parted_borderline | self.exit_near)

    def exits_of(self, exits: Tensor, expected: Tensor, bound: Tensor, place: "Place") -> None:
        """Record checked exits [B]: 0 or 1 each, and either where the bound is 1."""
        self.exits += exits.numel()
        self.exits_borderline += int((bound > 0).sum())
        wrong = ~((exits - expected).abs() <= bound) | ((exits != 0) & (exits != 1))
        self._note(wrong[:, None], (exits - expected).abs()[:, None], bound[:, None], place)

    def spikes_of(self, wrong: Tensor, distance: Tensor, eps: Tensor, place: "Place") -> None:
        """Record checked spikes [B, n, …]: which are wrong, how far their membranes are from the threshold, and eps."""
        self.spikes += wrong.numel()
        self.borderline += int((distance < eps).sum())
        self._note(wrong, distance, eps, place)

    def beside(self, differ: Tensor, near: Tensor, step: int) -> None:
        """Record which spikes [B, n, …] of a step differ from another run's, and which membranes are borderline.

        Steps come in order within a layer, layers from the input side.
        """
        first = differ.flatten(1).any(1) & (step < self.parted)
        self.parted = torch.where(first, step, self.parted)
        self.parted_borderline = torch.where(first, (differ & near).flatten(1).any(1), self.parted_borderline)

    def values_of(self, values: Tensor, expected: Tensor, bound: Tensor, place: "Place") -> None:
        """Record checked values [B, n, …]."""
        error = (values - expected).abs()
        # Written so that NaN, which compares false with everything, counts as wrong.
        wrong = ~(error <= bound)
        if len(error):
            # A membrane that was set to zero has no error, and no room for one.
            share = torch.where(error == 0, 0, error / bound)
            self.worst = max(self.worst, float(share.nan_to_num(torch.inf).max()))
        self._note(wrong, error, bound, place)

    def _note(self, wrong: Tensor, distance: Tensor, bound: Tensor, place: "Place") -> None:
        self.failed = self.failed | wrong.flatten(1).any(1)
        if any((found.layer, found.what) == (place.layer, place.what) for found in self.divergences):
            return
        if wrong.any():
            sample, unit, *rest = (int(i) for i in wrong.nonzero()[0])
            at = (sample, unit, *rest)
            self.divergences.append(
                Divergence(*place, sample, unit, tuple(rest), float(distance[at]), float(bound[at]))
            )


class Place(NamedTuple):
    """Where checked values stand."""

    layer: int
    what: str
    step: int
