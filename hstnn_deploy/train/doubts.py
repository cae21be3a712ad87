"""Signs that a training learns nothing: layers without spikes, a loss no better than a constant answer's."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.models.activity import extremes
from hstnn_deploy.models.neurons import SpikingNeuron
from hstnn_deploy.models.tasks import Task

PATIENCE = 3
"""Epochs after which a loss should be below that of a constant answer."""
_NO_BETTER = 0.995
"""A loss above this share of that of a constant answer is no better than it."""
_ASTRONOMIC = 100.0
"""A loss this many times that of a constant answer diverges."""
RATE = "spike_rate.layer"
"""What a layer's spike rate is called in an epoch's row, its number behind."""
WARNINGS = "warnings"
"""What the doubts are called in an epoch's row."""


_LOSS = frozenset({"loss"})


class Doubt(NamedTuple):
    """One reason to look at a training."""

    about: frozenset[str]
    """The subjects, such as {"layer 1 silent"}; each gets one warning per stage."""
    finding: str
    advice: str


class Doubts:
    """Looks at each epoch's row of a stage.

    Args:
        neuron: of the network; None where each layer has its own.
        constant: the loss of the best constant answer.
    """

    def __init__(self, neuron: SpikingNeuron | None, constant: float) -> None:
        self._threshold, self._width = "threshold of their neurons", ""
        if neuron is not None:
            self._threshold = f"network.neuron.threshold (it is {neuron.threshold:g})"
            self._width = f" (network.neuron.lens is {neuron.lens:g})"
        self.constant = constant
        self._said: set[str] = set()
        self._learned = False
        self._losses: list[float] = []

    def look(self, row: dict[str, Any]) -> list[str]:
        """Put an epoch's doubts into its row, under `WARNINGS`; return the new warnings."""
        found = [*self._of_spikes(row), *self._of_loss(row)]
        new = [doubt for doubt in found if not doubt.about <= self._said]
        self._said |= {each for doubt in found for each in doubt.about}
        if found:
            row[WARNINGS] = [doubt.finding for doubt in found]
        return [f"warning: {doubt.finding}; {doubt.advice}" for doubt in new]

    def _of_spikes(self, row: dict[str, Any]) -> list[Doubt]:
        rates = {int(key.removeprefix(RATE)): rate for key, rate in row.items() if key.startswith(RATE)}
        found: dict[str, list[int]] = {}
        for number, extreme in extremes(rates).items():
            found.setdefault(extreme, []).append(number)
        doubts = []
        if silent := found.get("silent"):
            doubts.append(
                Doubt(
                    frozenset(f"layer {number} silent" for number in silent),
                    f"{layers(silent)} did not spike once in the validation pass of epoch {row['epoch']}",
                    f"a lower {self._threshold}, larger inputs or weights, or a wider surrogate{self._width} would "
                    "help",
                )
            )
        if saturated := found.get("saturated"):
            doubts.append(
                Doubt(
                    frozenset(f"layer {number} saturated" for number in saturated),
                    f"every unit of {layers(saturated)} spiked at every step of the validation pass of epoch "
                    f"{row['epoch']}",
                    f"a higher {self._threshold}, smaller inputs or weights, or another surrogate width{self._width} "
                    "would help",
                )
            )
        return doubts

    def _of_loss(self, row: dict[str, Any]) -> list[Doubt]:
        loss = row["train_loss"]
        self._learned |= loss < _NO_BETTER * self.constant
        self._losses = [*self._losses[-PATIENCE:], loss]
        beside = f"the training loss is {loss:.4g} after epoch {row['epoch']}"
        if max(loss, row["valid_loss"]) > _ASTRONOMIC * self.constant:
            beside += (
                f" and the validation loss {row['valid_loss']:.4g}, against {self.constant:.4g} for a constant answer"
            )
            return [Doubt(_LOSS, beside, "lower the learning rate, or clip the gradient")]
        if row["epoch"] >= PATIENCE and not self._learned:
            finding = f"{beside}, and was never clearly below the {self.constant:.4g} of a constant answer"
            return [
                Doubt(
                    _LOSS,
                    finding,
                    "the network has learned nothing so far: try another learning rate, and check the spikes",
                )
            ]
        grown = all(before < after for before, after in pairwise(self._losses))
        if grown and len(self._losses) > PATIENCE and loss > self.constant:
            finding = f"{beside}, above the {self.constant:.4g} of a constant answer, and grew for {PATIENCE} epochs"
            return [Doubt(_LOSS, finding, "lower the learning rate, or clip the gradient")]
        return []


def constant_loss(task: Task, splits: Splits) -> float:
    """Return the loss on the training split of the best answer that does not look at the input."""
    train: Any = splits.train
    answers: Tensor | None = train.tokens if isinstance(train, TextSplit) else getattr(train, "target", None)
    if answers is None and task.asks == "values":
        # The spread of the values is unknown: no loss counts as no better than a constant's.
        return math.inf
    # As if every class came as often as any other, where that is not known.
    return task.constant(torch.arange(splits.classes) if answers is None else answers, splits.classes)


def layers(numbers: list[int]) -> str:
    """Return "layer 2" or "layers 1 and 2"."""
    names = [str(number) for number in numbers]
    return f"layer {names[0]}" if len(names) == 1 else f"layers {', '.join(names[:-1])} and {names[-1]}"
