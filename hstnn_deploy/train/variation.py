"""Measure networks under draws of the variation of their weights, at one scale or several; each draw is one device."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.images import as_evaluated
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.models.device_memory import DeviceMemory, bits_of
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.rram import Step, Variation, Weights
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.stats import summarise
from hstnn_deploy.train.evaluation import batches, evaluate

FORMAT, VERSION = "hstnn-variation", 1
"""Of a measurement as plain data."""


@dataclass(frozen=True)
class Draws:
    """The metric of each draw."""

    values: list[float]
    clean: float
    """The metric without variation."""
    sigma: float
    """The deviation of ln(w' / w)."""

    @property
    def mean(self) -> float:
        """The mean."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None for a single draw, which cannot show it."""
        return summarise(self.values).sd

    @property
    def half_width(self) -> float | None:
        """Half the width of the mean's 95 % interval (Student's t); None of a single draw."""
        return summarise(self.values).half

    def quantile(self, share: float) -> float:
        """Return a quantile."""
        return float(np.quantile(self.values, share))

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data; a deviation or interval that is unknown is None."""
        return {
            "draws": self.values,
            "mean": self.mean,
            "deviation": self.deviation,
            "half_width_95": self.half_width,
            "quantiles": {str(share): self.quantile(share) for share in (0.05, 0.25, 0.5, 0.75, 0.95)},
            "without_variation": self.clean,
            "sigma": self.sigma,
        }


def under_variation(
    checkpoint: Checkpoint,
    task: Task,
    splits: Splits,
    split: str,
    batch: int,
    device: torch.device,
    draws: int,
    readapt: int = 0,
    scale: float | None = None,
    clean: float | None = None,
) -> Draws:
    """Measure a network with weights on devices on a split, once for each of some draws.

    Args:
        checkpoint: of such a network; one that was trained without variation is measured with it as well.
        task: its metric.
        splits: the data.
        split: which of it.
        batch: samples of a batch.
        device: where it is computed.
        draws: how many; draw n is seeded with n, and stays for the whole split.
        readapt: after how many training batches, without a gradient, the norms' statistics are taken.
        scale: what sigma is multiplied with; None: what the recipe says. Draw n has the same noise at every scale.
        clean: the metric without variation, where it is known.

    Raises:
        UsageError: no sigma is known for the network's bits.
    """
    weights: Any = getattr(checkpoint.architecture, "weights", None)
    assert isinstance(weights, Weights)
    if scale is not None:
        varied = Variation(sigma=weights.variation.sigma, scale=scale)
        weights = weights.model_copy(update={"variation": varied})
        architecture = checkpoint.architecture.model_copy(update={"weights": weights})
        checkpoint = checkpoint.model_copy(update={"architecture": architecture})
    sigma = weights.drawn().sigma
    precision = checkpoint.resolved_recipe().precision

    def metric(draw: int | None) -> float:
        network = checkpoint.deployed(draw).network().to(device)
        if readapt and draw is not None:
            _readapt(network, splits, batch, device, readapt, draw)
        return float(evaluate(network, task, as_evaluated(splits.split(split)), batch, device, precision)[task.metric])

    return Draws([metric(draw) for draw in range(draws)], metric(None) if clean is None else clean, sigma)


@torch.no_grad()
def _readapt(network: Network, splits: Splits, batch: int, device: torch.device, count: int, seed: int) -> None:
    """Let the running statistics follow some training batches; no weight changes."""
    torch.manual_seed(seed)
    network.train()
    while count:
        order = torch.randperm(len(splits.train))
        for each in batches(splits.train, batch, order, device):
            network(each.x, None, each.lengths)
            count -= 1
            if not count:
                break
    network.eval()


@dataclass(frozen=True)
class Curve:
    """One network under variation of several scales."""

    checkpoint: str
    """Where it was read."""
    name: str
    """Of its recipe."""
    seed: int
    step: Step
    bits: int
    """Of a weight in RRAM."""
    metric: str
    clean: float
    """The metric without variation."""
    scales: dict[float, Draws]
    """By what sigma was multiplied with, in order; 0 is not among them, as all its draws are the clean network."""
    sparsity: tuple[float, float] | None
    """Which shares of the SRAM weights that may be pruned, and of their groups, are zero; None without pruning."""
    memory: DeviceMemory

    @property
    def nominal(self) -> float | None:
        """The scale to compare networks at: 1 where it was measured, else the largest one; None where none was."""
        return 1.0 if 1.0 in self.scales else max(self.scales, default=None)

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        element, group = self.sparsity or (None, None)
        return {
            "checkpoint": self.checkpoint,
            "recipe": self.name,
            "seed": self.seed,
            "step": self.step,
            "bits": self.bits,
            "metric": self.metric,
            "clean": self.clean,
            "variation": [{"scale": scale, **draws.plain()} for scale, draws in self.scales.items()],
            "element_sparsity": element,
            "group_sparsity": group,
            "memory_bits": self.memory.plain(),
        }


def curve(
    checkpoint: Checkpoint,
    source: str,
    task: Task,
    splits: Splits,
    split: str,
    batch: int,
    device: torch.device,
    draws: int,
    scales: Sequence[float],
    readapt: int = 0,
) -> Curve:
    """Measure one network at every scale of the variation.

    Args:
        checkpoint: of a network with weights on devices.
        source: where it was read.
        task: its metric.
        splits: the data.
        split: which of it.
        batch: samples of a batch.
        device: where it is computed.
        draws: how many draws of each scale; draw n is seeded with n at every scale and of every network.
        scales: what sigma is multiplied with.
        readapt: see `under_variation`.

    Raises:
        UsageError: no sigma is known for the network's bits.
    """
    recipe, network = checkpoint.resolved_recipe(), checkpoint.network()
    weights: Any = getattr(checkpoint.architecture, "weights", None)
    memory = network.device_memory()
    assert isinstance(weights, Weights)
    assert memory is not None

    def at(scale: float, count: int, clean: float | None) -> Draws:
        return under_variation(checkpoint, task, splits, split, batch, device, count, readapt, scale, clean)

    # Without a draw there is the clean figure alone.
    clean = at(0.0, 0, None).clean
    return Curve(
        source,
        recipe.name,
        recipe.seed,
        weights.step,
        bits_of(weights.quantiser, weights.bits),
        task.metric,
        clean,
        {scale: at(scale, draws, clean) for scale in sorted(set(scales) - {0.0})},
        network.sparsity(),
        memory,
    )


@dataclass(frozen=True)
class Measurement:
    """Networks under variation, all measured alike."""

    split: str
    draws: int
    """Of each network at each scale."""
    readapted: int
    """After how many training batches the norms' statistics were taken; 0: as they were trained."""
    networks: list[Curve]

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "split": self.split,
            "draws": self.draws,
            "readapted": self.readapted,
            "networks": [each.plain() for each in self.networks],
        }
