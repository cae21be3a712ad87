"""Walk through a split, and score a network on it."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from hstnn_deploy.data.given.datasets import DatasetSplit
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.train.ranks import ALONE, Ranks

PROTOCOLS = {
    "validation": "best epoch chosen on a validation split held out of training",
    "test": "best epoch chosen on the TEST split (the demo's protocol; overstates)",
}


def batches(split: Split, size: int, order: torch.Tensor | None, device: torch.device) -> Iterator[Batch]:
    """Yield a split in batches of `size`, in the given order of samples or as they stand; the last may be smaller.

    A text has an order of its own: it is read in `size` columns, window after window.
    """
    if isinstance(split, TextSplit):
        yield from split.windows(size, device)
        return
    numbers = torch.arange(len(split)) if order is None else order
    if isinstance(split, DatasetSplit):
        # It may have workers that read ahead.
        yield from split.batches(numbers, size, device)
        return
    for chosen in numbers.split(size):
        yield split.batch(chosen, device)


class Part(NamedTuple):
    """What one rank takes of a batch."""

    batch: Batch
    share: float
    """Of the batch's samples, 0..1. At 0 there was none left for this rank: its sample is one that must not count."""


def parts(split: Split, size: int, order: torch.Tensor | None, device: torch.device, ranks: Ranks) -> Iterator[Part]:
    """Yield this rank's part of each of `batches`: as many of the samples, or columns of a text, as others have."""
    if ranks.size == 1:
        yield from (Part(batch, 1.0) for batch in batches(split, size, order, device))
    elif isinstance(split, TextSplit):
        own = ranks.part(torch.arange(size))
        columns = (own if len(own) else torch.zeros(1, dtype=torch.long)).to(device)
        for batch in split.windows(size, device):
            yield Part(Batch(batch.x[:, columns], batch.target[:, columns]), len(own) / size)
    else:
        numbers = torch.arange(len(split)) if order is None else order
        for chosen in numbers.split(size):
            own = ranks.part(chosen)
            yield Part(split.batch(own if len(own) else chosen[:1], device), len(own) / len(chosen))


def unpadded(walk: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches as they come, but the samples of a padded batch one by one and unpadded.

    For what runs whole windows and knows no lengths, such as an exported graph.
    """
    for batch in walk:
        if batch.lengths is None:
            yield batch
            continue
        for number, length in enumerate(batch.lengths.tolist()):
            per_step = batch.target.ndim > 1
            target = batch.target[:length, [number]] if per_step else batch.target[[number]]
            yield Batch(batch.x[:length, [number]], target)


def count_batches(split: Split, size: int) -> int:
    """Return how many batches `batches` yields of a whole split."""
    return split.steps(size) if isinstance(split, TextSplit) else math.ceil(len(split) / size)


@torch.no_grad()
def evaluate(
    network: Network,
    task: Task,
    split: Split,
    size: int,
    device: torch.device,
    precision: Precision = "fp32",
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Return `loss`, the task's metric, and how many samples (or words) it is of, of a network in evaluation mode.

    Each rank runs its part; all return the figures of the whole.
    """
    network.eval()
    # They stay on the device: asking for one would wait for it, once per batch.
    loss = torch.zeros((), dtype=torch.float64, device=device)
    correct, count = torch.zeros((2, 1), dtype=torch.long, device=device)
    state: State | None = None
    with products(precision):
        for batch, share in parts(split, size, None, device, ranks):
            if not share:
                continue
            with forward(precision, device):
                output, state = network(batch.x, task.carried(network, batch.x, state), batch.lengths)
            output, answers = output.to(torch.promote_types(output.dtype, torch.float32)), task.answers(batch)
            loss += task.loss(output, batch.target, len(batch.x)).double() * answers
            correct += task.correct(output, batch.target)
            count += answers
    ranks.sum(loss, correct, count)
    mean = float(loss) / int(count)
    return {"loss": mean, task.metric: task.score(mean, int(correct), int(count)), task.counts: int(count)}
