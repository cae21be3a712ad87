"""What a network is trained for: its loss and its metric. They belong to the task, not to the network."""

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from hstnn_deploy.models.registry import NetworkConfig


class Task(Protocol):
    """A loss and a metric."""

    metric: str

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the batch, scalar."""
        ...

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many answers of the batch are right, scalar."""
        ...


class Classification:
    """Cross-entropy; the metric is accuracy in percent, larger is better."""

    metric = "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits [B, C] against classes [B]."""
        return functional.cross_entropy(output, target)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many logits [B, C] are largest at the class [B]."""
        return (output.argmax(1) == target).sum()


class OneHot(Classification):
    """Mean squared error against the one-hot label; the metric is that of classification."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over batch and classes of the squared error of scores [B, C] against classes [B]."""
        return functional.mse_loss(output, functional.one_hot(target, output.shape[1]).to(output.dtype))


def task_for(network: NetworkConfig) -> Task:
    """Return what a network of this family is trained for (docs/mathematics.md, section 2)."""
    return OneHot() if network.family == "convolutional" else Classification()
