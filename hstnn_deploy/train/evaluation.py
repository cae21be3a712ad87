"""Score a network on a split."""

from collections.abc import Iterator
from typing import Any

import torch

from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.train.tasks import Task

PROTOCOLS = {
    "validation": "best epoch chosen on a validation split held out of training",
    "test": "best epoch chosen on the TEST split (the demo's protocol; overstates)",
}


def batches(split: Split, size: int, order: torch.Tensor | None, device: torch.device) -> Iterator[Batch]:
    """Yield a split in batches of `size`, in the given order of samples or as they stand; the last may be smaller."""
    numbers = torch.arange(len(split)) if order is None else order
    for chosen in numbers.split(size):
        yield split.batch(chosen, device)


@torch.no_grad()
def evaluate(network: HybridNetwork, task: Task, split: Split, batch: int, device: torch.device) -> dict[str, Any]:
    """Return `loss`, the task's metric, and `samples`, of a network in evaluation mode."""
    network.eval()
    loss = torch.zeros((), dtype=torch.float64)
    correct, count = 0, 0
    for x, target, lengths in batches(split, batch, None, device):
        output, _ = network(x, None, lengths)
        loss += task.loss(output, target).double().cpu() * len(target)
        correct += int(task.correct(output, target))
        count += len(target)
    return {"loss": float(loss) / count, task.metric: 100 * correct / count, "samples": count}
