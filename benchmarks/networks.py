"""The same network twice: the textbook's and ours, with the same weights, and proof that they compute the same."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import textbook
from hstnn_deploy.models.hybrid.groups import RnnGroup, SpikingGroup
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.sizes import Sizes

INPUTS, CLASSES, STEPS, BATCH = 28, 10, 28, 100
"""S-MNIST: 28 columns of 28 pixels, in batches of 100."""

SIZES = (Sizes(800, 800), Sizes(400, 400), Sizes(800, 0))
"""Redundant hybrid, hybrid cut to half, spiking only. Both layers have the same size."""

TOLERANCE = 1e-3
"""Largest relative error of a parameter's gradient, ||ours - theirs|| / ||theirs||.

Rounding alone gives some 1e-6. But products of different shape round differently, and now and then a membrane within an
ulp of its threshold fires in one network only; one spike of 4 million moves a gradient by up to some 1e-4.
"""


@dataclass(frozen=True)
class Pair:
    """Two networks with equal weights and one batch."""

    theirs: torch.nn.Module
    ours: SequenceClassifier
    x: Tensor
    """[T, B, I], contiguous: as `data` gives it."""
    x_theirs: Tensor
    """The same as [B, T, I], contiguous: as the textbook takes it."""
    target: Tensor

    def forward_theirs(self) -> Tensor:
        """Return the textbook's logits."""
        logits: Tensor = self.theirs(self.x_theirs)
        return logits

    def forward_ours(self) -> Tensor:
        """Return our logits."""
        logits: Tensor = self.ours(self.x)[0]
        return logits

    def step_theirs(self) -> Tensor:
        """Do the textbook's train step: free the gradients, forward, loss, backward; no optimiser. Return the loss."""
        self.theirs.zero_grad(set_to_none=True)
        return self._descend(self.forward_theirs())

    def step_ours(self) -> Tensor:
        """Do the same with ours."""
        self.ours.zero_grad(set_to_none=True)
        return self._descend(self.forward_ours())

    def _descend(self, logits: Tensor) -> Tensor:
        loss = functional.cross_entropy(logits, self.target)
        loss.backward()
        return loss.detach()


def make_pair(sizes: Sizes, seed: int = 0) -> Pair:
    """Return both networks with two layers of the given size, and a batch of uniform random pixels."""
    torch.manual_seed(seed)
    theirs: Any = textbook.SequenceClassifier(INPUTS, *sizes)  # type: ignore[no-untyped-call]
    ours = SequenceConfig(inputs=INPUTS, classes=CLASSES, units=[1, 1]).build([sizes, sizes])
    with torch.no_grad():
        for number, layer in enumerate(ours.stack):
            for group in layer.groups.values():
                match group:
                    case SpikingGroup():
                        group.weight.copy_(theirs.w_s[number])
                    case RnnGroup():
                        group.weight_input.copy_(theirs.w_i[number])
                        group.weight_recurrent.copy_(theirs.w_h[number])
    ours.readout.load_state_dict(theirs.readout.state_dict())
    x = torch.rand(STEPS, BATCH, INPUTS)
    return Pair(theirs, ours, x, x.transpose(0, 1).contiguous(), torch.randint(CLASSES, (BATCH,)))


def check_same(pair: Pair) -> dict[str, float]:
    """Return how far the two networks' losses and gradients are apart.

    Raises:
        AssertionError: further than rounding and the odd spike explain.
    """
    losses = [float(step()) for step in (pair.step_theirs, pair.step_ours)]
    loss_error = abs(losses[1] / losses[0] - 1)
    gradient_error = max(
        float((ours - theirs).norm() / theirs.norm()) for theirs, ours in zip(*_gradients(pair), strict=True)
    )
    assert loss_error < TOLERANCE, f"the losses differ: {losses}"
    assert gradient_error < TOLERANCE, f"the gradients differ by {gradient_error:.1e}"
    return {"loss_error": loss_error, "gradient_error": gradient_error}


def _gradients(pair: Pair) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients of both networks in the same order: kind by kind, layer by layer."""
    ours = dict(pair.ours.named_parameters())
    names = {"w_s": "snn.weight", "w_i": "rnn.weight_input", "w_h": "rnn.weight_recurrent"}
    first, second = [], []
    for name, parameter in pair.theirs.named_parameters():
        kind, _, number = name.partition(".")
        match = ours[f"layers.{number}.{names[kind]}" if kind in names else name]
        assert parameter.grad is not None
        assert match.grad is not None
        first.append(parameter.grad)
        second.append(match.grad)
    return first, second
