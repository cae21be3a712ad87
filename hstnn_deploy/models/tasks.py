"""What a network is trained for: its loss, its metric, and what it carries from batch to batch.

They belong to the task, not to the network. Shapes: T time, B batch, C classes, V words, K values.
"""

import math
from typing import Annotated, Any, Protocol, get_args

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.data.splits import PADDING, Batch
from hstnn_deploy.errors import RecipeError, UsageError, nearest
from hstnn_deploy.metrics import ACCURACY, PERPLEXITY, RMSE
from hstnn_deploy.models.network import Asked, LossName, Network, State
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.plugins import registry as plugins


class Task(Protocol):
    """A loss and a metric."""

    metric: str
    unit: str
    """What stands behind the metric's figure, such as " %"."""
    higher_is_better: bool
    counts: str
    """What the metric is a mean over, in the plural."""
    asks: Asked
    """What the network has to predict."""

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean loss over the batch, scalar; `steps` is T of its windows."""
        ...

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many answers of the batch are correct, scalar; 0 if the metric does not need it."""
        ...

    def answer(self, output: Tensor) -> Tensor:
        """Return what an output says: of scores the number of the largest, [...]; of values themselves, [..., K]."""
        ...

    def answers(self, batch: Batch) -> int:
        """Return how many answers a batch asks for."""
        ...

    def score(self, loss: float, correct: float, answers: int) -> float:
        """Return the metric of a pass: from its mean loss, and how many answers were right of how many."""
        ...

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return the loss of the best answer that does not look at the input.

        Args:
            answers: all that are right: classes or words, of any shape; or values [N, K].
            outputs: how many classes or words there are, or values.
        """
        ...

    def carried(self, network: Network, x: Tensor, after: State | None) -> State | None:
        """Return the state that a batch x starts from, `after` being that after the batch before it in the pass."""
        ...


class Classification:
    """Cross-entropy; the metric is accuracy in percent, larger is better. Every batch starts from zeros."""

    metric, unit, higher_is_better, counts = ACCURACY, " %", True, "samples"
    asks: Asked = "classes"

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean cross-entropy of logits [B, C] against classes [B]."""
        return functional.cross_entropy(output, target)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many logits [B, C] are largest at the class [B]."""
        return (output.argmax(1) == target).sum()

    def answer(self, output: Tensor) -> Tensor:
        """Return the class with the largest of logits [..., C]."""
        return output.argmax(-1)

    def answers(self, batch: Batch) -> int:
        """Return B."""
        return len(batch.target)

    def score(self, loss: float, correct: float, answers: int) -> float:
        """Return the share of right answers in percent."""
        return 100 * correct / answers

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return the entropy of the classes."""
        return _entropy(answers, outputs)

    def carried(self, network: Network, x: Tensor, after: State | None) -> None:
        """Return None: samples are independent of each other."""


class OneHot(Classification):
    """Mean squared error against the one-hot label; the metric is that of classification."""

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean over batch and classes of the squared error of scores [B, C] against classes [B]."""
        return functional.mse_loss(output, functional.one_hot(target, output.shape[1]).to(output.dtype))

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return the mean over the classes of p (1 - p), p being how often each occurs."""
        shares = _shares(answers, outputs)
        return float((shares * (1 - shares)).mean())


class SpikeCount(Classification):
    """Mean squared error of spike counts against a share of the steps, divided by the number of steps.

    snnTorch's `mse_count_loss`: of T steps, the class should spike int(T * correct) times, every other int(T *
    incorrect) times. The metric is that of classification; outputs are counts, a stack's `readout: sum`.
    """

    def __init__(self, correct: float, incorrect: float) -> None:
        self.shares = (correct, incorrect)

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean over batch and classes of the squared error of counts [B, C], over T."""
        right, wrong = (int(steps * share) for share in self.shares)
        wanted = functional.one_hot(target, output.shape[1]) * (right - wrong) + wrong
        return functional.mse_loss(output, wanted.to(output.dtype)) / steps

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return infinity: it depends on the number of steps, so no loss counts as no better than a constant's."""
        return math.inf


class Regression:
    """Mean squared error of outputs against values; the metric is its root, in the values' own unit, lower is better.

    What is given is not normalised: values of about 1 in size suit the usual learning rates. Every batch starts from
    zeros.
    """

    metric, unit, higher_is_better, counts = RMSE, "", False, "samples"
    asks: Asked = "values"

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean over batch and outputs of the squared error of outputs [B, K] against values [B, K].

        Raises:
            UsageError: they differ in shape; torch would repeat one along the other.
        """
        if output.shape != target.shape:
            raise UsageError(
                f"the network gives {list(output.shape)}, but the targets are {list(target.shape)}",
                "loss regression needs one output per value, and one row of values per sample",
            )
        return functional.mse_loss(output, target)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 0: the error does not need it."""
        return torch.zeros((), dtype=torch.long, device=target.device)

    def answer(self, output: Tensor) -> Tensor:
        """Return the outputs."""
        return output

    def answers(self, batch: Batch) -> int:
        """Return B."""
        return len(batch.target)

    def score(self, loss: float, correct: float, answers: int) -> float:
        """Return the root of the mean squared error."""
        return math.sqrt(loss)

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return the variance of the values, a mean over the outputs: the error of answering with their mean."""
        return float(answers.double().var(0, correction=0).mean())

    def carried(self, network: Network, x: Tensor, after: State | None) -> None:
        """Return None: samples are independent of each other."""


class LanguageModelling:
    """Cross-entropy of the next word; the metric is perplexity, lower is better.

    From one window of text to the next, the recurrent states are kept, cut off from the gradient; the membranes start
    at zero in each.
    """

    metric, unit, higher_is_better, counts = PERPLEXITY, "", False, "words"
    asks: Asked = "words"

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the mean cross-entropy of logits [T, B, V] against words [T, B]; words `PADDING` do not count."""
        return functional.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=PADDING)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 0: perplexity does not need it."""
        return target.new_zeros(())

    def answer(self, output: Tensor) -> Tensor:
        """Return the word with the largest of logits [..., V]."""
        return output.argmax(-1)

    def answers(self, batch: Batch) -> int:
        """Return T * B, or the number of valid steps of a padded batch."""
        return batch.target.numel() if batch.lengths is None else int(batch.lengths.sum())

    def score(self, loss: float, correct: float, answers: int) -> float:
        """Return e to the mean loss."""
        # Beyond, a float has no such number; a training that gets there is lost either way.
        return math.exp(min(loss, 700.0))

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return the entropy of the words."""
        return _entropy(answers, outputs)

    def carried(self, network: Network, x: Tensor, after: State | None) -> State | None:
        """Return the recurrent states `after`, detached, and zeros for the membranes; None at the text's beginning."""
        if after is None:
            return None
        membranes = network.membranes()
        kept = {name: value.detach() for name, value in after.items() if name not in membranes}
        return network.initial_state(x) | kept


def _shares(answers: Tensor, outputs: int) -> Tensor:
    """Return how often each class occurs, [C], float64."""
    counts = torch.bincount(answers.flatten(), minlength=outputs)
    return counts.double() / counts.sum()


def _entropy(answers: Tensor, outputs: int) -> float:
    return float(torch.special.entr(_shares(answers, outputs)).sum())


LOSSES: tuple[str, ...] = get_args(LossName)


class LossConfig(BaseModel):
    """The loss in a recipe: a name and its options."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    """`cross-entropy` of logits; `mse` against the one-hot label; `count` of spikes; `next-word` for a text;
    `regression` for values; or a loss of your own, see `hstnn_deploy.custom`."""
    correct: float = Field(0.8, ge=0, le=1)
    """For count: the fraction of steps at which the class should spike."""
    incorrect: float = Field(0.2, ge=0, le=1)
    """For count: the fraction of steps at which every other output should spike."""
    outputs: list[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]] = Field([], max_length=10_000)
    """For regression: the name of each output; empty: its number."""

    options: dict[str, bool | int | float | str] = {}
    """Options of a custom loss."""

    @model_serializer(mode="wrap")
    def _its_own(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what belongs to another loss."""
        found: dict[str, Any] = handler(self)
        own = {"count": ("correct", "incorrect"), "regression": ("outputs",) if self.outputs else ()}
        more = own.get(self.name, ("options",) if self.options else ())
        return {key: found[key] for key in ("name", *more)}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in LOSSES and plugins.find("losses", name) is None:
            known = [*LOSSES, *plugins.names("losses")]
            raise ValueError(f"unknown loss; {nearest(name, known)}; {plugins.hint('losses')}")
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> "LossConfig":
        if own := _own(self.name):
            own.check(self.options)
        elif self.options:
            raise ValueError(f"options are for losses of your own, and {self.name} is built in")
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> "LossConfig":
        if self.outputs and self.name != "regression":
            raise RecipeError(f"loss.outputs names outputs, but loss.name is {self.name}", "leave loss.outputs out")
        if len(set(self.outputs)) < len(self.outputs):
            raise RecipeError("loss.outputs names an output twice", "give each a name of its own")
        return self

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


def task_for(config: NetworkConfig, loss: LossConfig | None = None) -> Task:
    """Return what a network is trained for: by the recipe's loss, or as its family is."""
    loss = loss or LossConfig(name=config.usual_loss)
    match loss.name:
        case "cross-entropy":
            return Classification()
        case "mse":
            return OneHot()
        case "count":
            return SpikeCount(loss.correct, loss.incorrect)
        case "next-word":
            return LanguageModelling()
        case "regression":
            return Regression()
        case _:
            task: Task = _own(loss.name).task(loss.options)
            return task


def _own(name: str) -> Any:
    """Return the custom loss of a name; None for a built-in one."""
    part = None if name in LOSSES else plugins.find("losses", name)
    return part.value if part else None
