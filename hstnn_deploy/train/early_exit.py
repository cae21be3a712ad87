"""Answering before all time steps are seen: what it saves, and what it costs.

    steps        all samples stop after a number of steps
    confidence   a sample stops at the first step at which its largest probability reaches a threshold
    scale        all samples stop at the first step at which every normalisation's mean scale is below a threshold

The last two are those of `models.exits`, which a step graph may have as an output.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.train.evaluation import batches

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SCALES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)


class Exit(NamedTuple):
    """The result of a rule at a threshold."""

    rule: str
    threshold: float
    mean_steps: float
    accuracy: float
    """In percent."""


@dataclass(frozen=True)
class Answers:
    """What a network answers after each step."""

    right: Tensor
    """[T, N], whether the answer after step t is right."""
    confidence: Tensor
    """[T, N], the largest probability after step t."""
    scales: Tensor | None
    """[layers, T], the mean |scale| of each step; None where no layer normalises each step by itself."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.right)

    @property
    def largest_scales(self) -> list[float] | None:
        """The largest mean scale of each step; None where no layer normalises each step by itself."""
        return None if self.scales is None else [float(value) for value in self.scales.amax(0)]

    def after(self, steps: int) -> Exit:
        """Return the result of stopping all samples after `steps` steps."""
        return self._exit("steps", steps, torch.full((self.right.shape[1],), steps - 1))

    def confident(self, threshold: float) -> Exit:
        """Return the result of the confidence rule."""
        reached = self.confidence >= threshold
        reached[-1] = True
        return self._exit("confidence", threshold, reached.int().argmax(0))

    def scaled(self, threshold: float) -> Exit:
        """Return the result of the scale rule.

        Raises:
            UsageError: no layer normalises each step by itself with a scale.
        """
        if self.scales is None:
            raise UsageError("no layer normalises each step by itself with a scale", "use the rule confidence")
        below = (self.scales < threshold).all(0)
        below[-1] = True
        return self._exit("scale", threshold, below.int().argmax().expand(self.right.shape[1]))

    def every(self) -> list[Exit]:
        """Return each number of steps, and each rule at some thresholds."""
        found = [self.after(steps) for steps in range(1, self.steps + 1)]
        found += [self.confident(threshold) for threshold in CONFIDENCES]
        return found + ([] if self.scales is None else [self.scaled(threshold) for threshold in SCALES])

    def _exit(self, rule: str, threshold: float, at: Tensor) -> Exit:
        right = self.right.gather(0, at[None].long())[0]
        return Exit(rule, threshold, float(at.double().mean()) + 1, 100 * float(right.double().mean()))


@torch.no_grad()
def answers(network: Network, split: Split, batch: int, device: torch.device, precision: Precision) -> Answers:
    """Run a split step by step, and keep the network's answer after each.

    Args:
        network: of one answer a sample.
        split: samples of equal length.
        batch: samples of a batch.
        device: where it is computed.
        precision: in which it is computed.

    Raises:
        UsageError: the network answers at every step, or samples differ in length or have values for classes.
    """
    if network.every_step:
        raise UsageError("an early exit needs a network with one answer per sample", "this one answers at every step")
    network.eval()
    right, confidence = [], []
    for each in batches(split, batch, None, device):
        if each.target.is_floating_point():
            raise UsageError("measuring an early exit needs samples with a class", "these have values (regression)")
        if each.lengths is not None:
            raise UsageError("measuring an early exit needs samples of equal length", "these differ in length")
        state: State | None = None
        rows = []
        for t in range(len(each.x)):
            with products(precision), forward(precision, device):
                output, state = network(each.x[t : t + 1], state, None)
            rows.append((Eager().likeliest(output.float()), output.argmax(-1) == each.target))
        confidence.append(torch.stack([values for values, _ in rows]).cpu())
        right.append(torch.stack([answered for _, answered in rows]).cpu())
    found = torch.cat(right, 1)
    return Answers(found, torch.cat(confidence, 1), _scales(network, len(found), device))


def _scales(network: Network, steps: int, device: torch.device) -> Tensor | None:
    numbers = torch.arange(steps, device=device)[:, None]
    found = [Eager().mean_scale(norm, numbers).cpu() for norm in network.step_norms().values()]
    return torch.stack(found) if found else None
