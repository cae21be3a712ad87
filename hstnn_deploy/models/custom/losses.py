"""Custom losses and metrics: functions; see docs/python.md."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.errors import UsageError
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief, first_line
from hstnn_deploy.metrics import ACCURACY, PERPLEXITY, RMSE
from hstnn_deploy.models.tasks import Classification, Regression, Task
from hstnn_deploy.plugins import registry as plugins

plugins.reserve("losses", ("cross-entropy", "mse", "count", "next-word", "regression"))
plugins.reserve("metrics", ("loss", "samples", "words", "outputs", ACCURACY, PERPLEXITY, RMSE))

Asked = Literal["classes", "values"]
_Loss = TypeVar("_Loss", bound=Callable[..., Tensor])
_Metric = TypeVar("_Metric", bound=Callable[[Tensor, Tensor], float])


class OwnLoss:
    """A registered loss: a function, and the targets that it needs."""

    def __init__(self, name: str, function: Callable[..., Tensor], asks: Asked) -> None:
        self.name, self.function, self.asks = name, function, asks

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the function does not take.

        Raises:
            ValueError: says which.
        """
        try:
            inspect.signature(self.function).bind(None, None, 1, **options)
        except TypeError as error:
            raise ValueError(f"loss {self.name} does not take these options: {first_line(error)}") from error

    def task(self, options: Mapping[str, Any]) -> Task:
        """Return the task: this loss, with the metric of what it asks."""
        return (_OwnClasses if self.asks == "classes" else _OwnValues)(self, options)

    def __call__(self, output: Tensor, target: Tensor, steps: int, options: Mapping[str, Any]) -> Tensor:
        """Return the loss of a batch.

        Raises:
            UsageError: the function raises, modifies its arguments, or returns anything but one number that follows
                from the outputs.
        """
        before = _versions(output, target)
        with their_code(f"loss {self.name} raises"):
            found = self.function(output, target, steps, **options)
        if not isinstance(found, Tensor) or found.ndim or not found.is_floating_point():
            told = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(f"loss {self.name} returns {told}, not one number", "return a mean over the batch")
        if _versions(output, target) != before:
            # The metric uses them too.
            raise UsageError(f"loss {self.name} modifies its arguments", "return a new value: x + 1, not x.add_(1)")
        if torch.is_grad_enabled() and output.requires_grad and not found.requires_grad:
            hint = "compute it from output in torch, without detach, item, argmax or numpy"
            raise UsageError(f"loss {self.name} has no gradient", hint)
        return found


def _versions(*given: Tensor) -> list[int]:
    """Return how often tensors were written."""
    return [each._version for each in given if not each.is_inference()]


class _OwnClasses(Classification):
    """The metric of classification with another loss."""

    def __init__(self, own: OwnLoss, options: Mapping[str, Any]) -> None:
        self._own, self._options = own, dict(options)

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the user's loss of scores [B, C] against classes [B]."""
        return self._own(output, target, steps, self._options)

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return infinity: it is unknown, so no loss counts as no better than a constant's."""
        return math.inf


class _OwnValues(Regression):
    """The metric of a regression, the root of the mean squared error, with another loss."""

    def __init__(self, own: OwnLoss, options: Mapping[str, Any]) -> None:
        self._own, self._options = own, dict(options)

    def loss(self, output: Tensor, target: Tensor, steps: int = 1) -> Tensor:
        """Return the user's loss of outputs [B, K] against values [B, K]."""
        return self._own(output, target, steps, self._options)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the batch of the squared errors, each sample's a mean over its outputs."""
        return functional.mse_loss(output, target).double() * len(target)

    def score(self, loss: float, correct: float, answers: int) -> float:
        """Return the root of the mean squared error."""
        return math.sqrt(correct / answers)

    def constant(self, answers: Tensor, outputs: int) -> float:
        """Return infinity: it is unknown, so no loss counts as no better than a constant's."""
        return math.inf


def loss(name: str, *, asks: Asked = "classes") -> Callable[[_Loss], _Loss]:
    """Return a decorator that registers a loss under a name.

    The function takes outputs, targets and the number of steps, and returns a scalar, a mean over the batch. More
    arguments with defaults are its options: `loss: {name: focal, options: {gamma: 2}}`.

    Args:
        name: as recipes and `hd.fit(loss=…)` have it.
        asks: what targets are: classes [B], with the metric accuracy; or values [B, K], with the metric rmse.

    Raises:
        UsageError: the name is another part's, or the function takes other arguments.
    """
    if asks not in ("classes", "values"):
        raise UsageError(f"asks is {brief(asks)}", "use classes or values")

    def registered(function: _Loss) -> _Loss:
        own = OwnLoss(name, function, asks)
        try:
            own.check({})
        except (TypeError, ValueError) as error:
            raise UsageError(f"loss {name} is not a loss: {error}", "write def loss(output, target, steps)") from error
        plugins.register("losses", name, own, function)
        return function

    return registered


def metric(name: str) -> Callable[[_Metric], _Metric]:
    """Return a decorator that registers a metric under a name: a figure that is reported beside the task's own.

    The function takes the outputs of all samples [N, C] and their targets, classes [N] or values [N, K], on the CPU,
    and returns a number. No epoch is chosen by it.

    Raises:
        UsageError: the name is another figure's, or the function takes other arguments.
    """

    def registered(function: _Metric) -> _Metric:
        try:
            inspect.signature(function).bind(None, None)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"metric {name} is not a metric: {first_line(error)}", "write def metric(outputs, targets) -> float"
            ) from error
        plugins.register("metrics", name, function, function)
        return function

    return registered
