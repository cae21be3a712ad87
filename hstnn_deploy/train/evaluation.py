"""Walk through a split, and score a network on it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hstnn_deploy.data.given.datasets import DatasetSplit
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import UsageError, nearest
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.plugins import registry as plugins
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
    """Share of the batch's samples, 0..1. At 0 none was left for this rank: its sample must not count."""


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
            per_step = batch.target.ndim > 1 and not batch.target.is_floating_point()
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
    shown: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
) -> dict[str, Any]:
    """Return `loss`, the task's metric, and how many samples (or words) it is of, of a network in evaluation mode.

    Each rank runs its part; all return the figures of the whole. `shown` is called with outputs and targets of each
    batch, such as `PerOutput.take`.
    """
    network.eval()
    # They stay on the device: reading one would wait for it, once per batch.
    loss = torch.zeros((), dtype=torch.float64, device=device)
    # Of a loss of a user's own, `correct` may be a sum of errors.
    correct = torch.zeros(1, dtype=torch.float64, device=device)
    count = torch.zeros(1, dtype=torch.long, device=device)
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
            if shown is not None:
                shown(output, batch.target)
    ranks.sum(loss, correct, count)
    mean = float(loss) / int(count)
    return {"loss": mean, task.metric: task.score(mean, float(correct), int(count)), task.counts: int(count)}


class Figures:
    """Custom metrics over a split: pass `take` to `evaluate`.

    Args:
        names: which; see `hstnn_deploy.custom.metric`.
        task: what the network is trained for.

    Raises:
        UsageError: one is not registered, or the network answers at every step.
    """

    def __init__(self, names: Sequence[str], task: Task) -> None:
        if isinstance(names, str):
            raise UsageError(f"metrics is {brief(names)}, not a list of names", f"give [{brief(names)}]")
        self._functions = {name: _metric(name) for name in names}
        if names and task.asks == "words":
            raise UsageError(f"metric {names[0]} needs one answer per sample, but a text has one at every word")
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def take(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Take a batch's outputs [B, C] and targets [B] or [B, K]."""
        if self._functions:
            self._outputs.append(output.detach().cpu())
            self._targets.append(target.cpu())

    def plain(self) -> dict[str, float]:
        """Return each figure by its name.

        Raises:
            UsageError: a metric raises, or returns no finite number.
        """
        found = {}
        for name, function in self._functions.items():
            with their_code(f"metric {name} raises"):
                figure = function(torch.cat(self._outputs), torch.cat(self._targets))
            if isinstance(figure, torch.Tensor) and figure.numel() == 1 and not figure.is_complex():
                figure = figure.item()
            if not isinstance(figure, int | float | np.integer | np.floating):
                told = list(figure.shape) if isinstance(figure, torch.Tensor) else type(figure).__name__
                raise UsageError(f"metric {name} returns {told}, not one number", "return a float")
            try:
                found[name] = float(figure)
            except OverflowError:
                found[name] = math.inf
            if not math.isfinite(found[name]):
                raise UsageError(f"metric {name} is {found[name]}, not a finite number")
        return found


def _metric(name: str) -> Any:
    part = plugins.find("metrics", name)
    if part is None:
        known = plugins.names("metrics")
        hint = f"{nearest(name, known)}; " if known else ""
        raise UsageError(f"unknown metric {brief(name)}", f"{hint}{plugins.hint('metrics')}")
    return part.value


class PerOutput:
    """The error of each output of a regression over a split: pass `take` to `evaluate`."""

    def __init__(self) -> None:
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def take(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Take a batch's outputs [B, K] and targets [B, K]."""
        self._outputs.append(output.cpu())
        self._targets.append(target.cpu())

    def plain(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return of each output its number, its name if it has one, its root mean squared error, and R².

        R² is 1 minus the sum of squared errors over that of the targets' distances from their mean, on the samples that
        were taken (1: all is explained; 0: as good as their mean). It is None where all targets are equal.
        """
        outputs, targets = (torch.cat(each).double() for each in (self._outputs, self._targets))
        squares = (outputs - targets).square()
        apart = (targets - targets.mean(0)).square().sum(0)
        found = []
        for number, (error, total, sum_) in enumerate(zip(squares.mean(0), apart, squares.sum(0), strict=True)):
            name = {"name": names[number]} if names else {}
            # Equal targets have a mean that is one of them, but for rounding.
            equal = bool((targets[:, number] == targets[0, number]).all())
            r2 = None if equal else 1 - float(sum_) / float(total)
            found.append({"output": number, **name, "rmse": math.sqrt(float(error)), "r2": r2})
        return found
