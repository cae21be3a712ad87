"""What a network is trained for: its loss and its metric. They belong to the task, not to the network."""

from typing import Protocol

from torch import Tensor
from torch.nn import functional


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
