"""How a network does under draws of the variation of its weights, each of which is one device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.images import as_evaluated
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.rram import Weights
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.train.evaluation import batches, evaluate


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
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """The standard deviation, of a sample; infinite of a single draw, which says nothing of it."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("inf")

    @property
    def half_width(self) -> float:
        """Half the width of the mean's 95 % interval (Student's t); infinite of a single draw."""
        from scipy.stats import t

        count = len(self.values)
        return float(t.ppf(0.975, count - 1)) * self.deviation / count**0.5 if count > 1 else float("inf")

    def quantile(self, share: float) -> float:
        """Return a quantile."""
        return float(np.quantile(self.values, share))

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data; a deviation or interval that is unknown is None."""
        known = len(self.values) > 1
        return {
            "draws": self.values,
            "mean": self.mean,
            "deviation": self.deviation if known else None,
            "half_width_95": self.half_width if known else None,
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
    """
    weights: Any = getattr(checkpoint.architecture, "weights", None)
    assert isinstance(weights, Weights)
    precision = checkpoint.resolved_recipe().precision

    def metric(draw: int | None) -> float:
        network = checkpoint.deployed(draw).network().to(device)
        if readapt and draw is not None:
            _readapt(network, splits, batch, device, readapt, draw)
        return float(evaluate(network, task, as_evaluated(splits.split(split)), batch, device, precision)[task.metric])

    sigma = weights.model_copy(update={"step": "vat"}).sigma
    return Draws([metric(draw) for draw in range(draws)], metric(None), sigma)


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
