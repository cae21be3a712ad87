"""Attacks on the input that use a network's gradient, through its surrogate.

    FGSM   x' = x + eps * sign(dL/dx)                               (Goodfellow et al., ICLR 2015)
    PGD    x' <- x' + a * sign(dL/dx'), brought back into |x' - x| <= eps, from a random start, several times
                                                                    (Madry et al., ICLR 2018)

eps is a share of the input's range, and x' stays within the range. The gradient is the surrogate's: it may mislead, so
that an attack made on another network can be the stronger one; then the network masks its gradient, and is no safer.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.disturbances.disturbance import Disturbance
from hstnn_deploy.disturbances.values import Range
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task

STEPS = 10
"""Of PGD; each goes a share 2.5 / STEPS of eps."""


Level = float | Tensor


class Attack(Protocol):
    """A way to find x' of a batch."""

    def __call__(
        self,
        network: Network,
        task: Task,
        batch: Batch,
        level: Level,
        span: Range,
        draws: Sequence[np.random.Generator],
        /,
    ) -> Tensor:
        """Return x' [T, B, …].

        Args:
            network: whose gradient is known.
            task: its loss.
            batch: what is attacked.
            level: eps; or one for each sample, [B].
            span: the range of the inputs.
            draws: what is drawn from, for each sample.
        """
        ...


def fgsm(
    network: Network, task: Task, batch: Batch, level: Level, span: Range, _draws: Sequence[np.random.Generator]
) -> Tensor:
    """Return x' of the fast gradient sign method; nothing is drawn."""
    x = batch.x
    moved = x + _eps(level, span, x) * _gradient(network, task, batch, x).sign()
    return moved.clamp(span.low, span.high)


def pgd(
    network: Network, task: Task, batch: Batch, level: Level, span: Range, draws: Sequence[np.random.Generator]
) -> Tensor:
    """Return x' of projected gradient descent."""
    x, eps = batch.x, _eps(level, span, batch.x)
    start = np.stack([draw.uniform(-1, 1, (len(x), *x.shape[2:])) for draw in draws], axis=1)
    moved = (x + eps * torch.from_numpy(start).to(x)).clamp(span.low, span.high)
    for _ in range(STEPS):
        moved = moved + 2.5 / STEPS * eps * _gradient(network, task, batch, moved).sign()
        moved = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(span.low, span.high)
    return moved


def _eps(level: Level, span: Range, x: Tensor) -> Level:
    """Return by how much values of x[T, B, …] move at most."""
    if not isinstance(level, Tensor):
        return level * span.width
    return (level.double() * span.width).to(x.dtype).view(-1, *[1] * (x.ndim - 2))


def _gradient(network: Network, task: Task, batch: Batch, x: Tensor) -> Tensor:
    """Return dL/dx. Of a sample whose loss does not change with x, it is zero."""
    seen = x.detach().requires_grad_()
    with torch.enable_grad():
        output, _ = network(seen, None, batch.lengths)
        # Of the sum, so that how far a sample goes does not depend on those beside it.
        loss = task.loss(output, batch.target, len(seen)) * task.answers(batch)
        (gradient,) = torch.autograd.grad(loss, seen)
    return gradient


_LEVELS = (0.02, 0.05, 0.1)

ATTACKS: dict[str, tuple[Disturbance, Attack]] = {
    each.name: (each, attack)
    for each, attack in (
        (
            Disturbance(
                "fgsm",
                "one step along the gradient's sign",
                "eps as a share of the input's range",
                "adversary",
                _LEVELS,
                1,
            ),
            fgsm,
        ),
        (
            Disturbance(
                "pgd",
                f"{STEPS} steps along the gradient's sign",
                "eps as a share of the input's range",
                "adversary",
                _LEVELS,
                1,
            ),
            pgd,
        ),
    )
}
"""By name: what they are, and what they do."""
