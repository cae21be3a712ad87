"""Samples that are handed over in Python as arrays: of one length, or each of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from hstnn_deploy.data.given.checks import Wanted, as_tensor, check_sample, check_target, check_x, time_first
from hstnn_deploy.data.splits import PADDING, ArraySplit, Batch, Split
from hstnn_deploy.errors import DataError


def from_arrays(x: Any, y: Any, wanted: Wanted, name: str) -> Split:
    """Return the split of arrays.

    Args:
        x: [N, T, ...], or a list of N arrays [T, ...].
        y: classes [N]; [N, T], or a list of N arrays [T], where every step has one; values [N, K] of a regression.
        wanted: by the network.
        name: of the split, in errors.

    Raises:
        DataError: a wrong shape or type, or a class that the network has no score for.
    """
    if isinstance(x, list | tuple) and x and not isinstance(x[0], int | float | list | tuple):
        return from_list(x, y, wanted, name)
    inputs, target = as_tensor(x, f"x of {name}"), as_tensor(y, f"y of {name}")
    check_x(inputs, wanted, f"x of {name}", ("N", "T"), len(target) if target.ndim else None)
    target = check_target(target, wanted, f"y of {name}")
    if wanted.per_step and target.shape != inputs.shape[:2]:
        raise DataError(
            f"y of {name} has shape {list(target.shape)}, but x has {list(inputs.shape[:2])} samples and steps"
        )
    if wanted.tokens or wanted.per_step:
        return DenseSplit(inputs.to(torch.int64 if wanted.tokens else torch.float32), target)
    return ArraySplit(inputs, target)


def from_list(x: Sequence[Any], y: Any, wanted: Wanted, name: str) -> "ListSplit":
    """Return the split of samples of several lengths; see `from_arrays`."""
    answers = list(y) if wanted.per_step else as_tensor(y, f"y of {name}")
    if len(answers) != len(x):
        raise DataError(
            f"x of {name} contains {len(x)} samples, and y {len(answers)}", "give one class for each sample"
        )
    if isinstance(answers, Tensor):
        answers = check_target(answers, wanted, f"y of {name}")
    pairs = [check_sample(pair, wanted, f"{name} sample {n}") for n, pair in enumerate(zip(x, answers, strict=True))]
    return ListSplit([each for each, _ in pairs], [each for _, each in pairs])


@dataclass(frozen=True, repr=False)
class DenseSplit(Split):
    """Samples of one length: of tokens, or with an answer at every step.

    Args:
        x: [N, T, ...].
        target: [N] or [N, T], int64; or values [N, K], float32.
    """

    x: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        target = self.target[indices]
        return Batch(
            self.x[indices].to(device).movedim(0, 1).contiguous(),
            time_first(target).to(device).contiguous(),
        )


@dataclass(frozen=True, repr=False)
class ListSplit(Split):
    """Samples each of its own length; a batch is padded with zeros, and says how long each is.

    Args:
        x: [T, ...] each.
        answers: a class each, or [T] of them; or values [K].
    """

    x: list[Tensor]
    answers: list[Tensor]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def target(self) -> Tensor:
        """The class of each sample, [N], or its values, [N, K].

        Raises:
            AttributeError: every step has one.
        """
        if self.answers and _per_step(self.answers[0]):
            raise AttributeError("every step has a class of its own")
        return torch.stack(self.answers)

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return padded([self.x[n] for n in indices.tolist()], [self.answers[n] for n in indices.tolist()], device)


@dataclass(frozen=True, repr=False)
class PartSplit(Split):
    """Some samples of a split, which are not copied."""

    whole: Split
    numbers: Tensor
    """Which, by their numbers in the whole."""
    target: Tensor
    """The class of each, [N], or its values, [N, K]."""

    def __len__(self) -> int:
        return len(self.numbers)

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return self.whole.batch(self.numbers[indices], device)


def _per_step(answer: Tensor) -> bool:
    return answer.ndim > 0 and not answer.is_floating_point()


def padded(x: Sequence[Tensor], answers: Sequence[Tensor], device: torch.device) -> Batch:
    """Return samples x[T, ...] as one batch, with their lengths where these differ."""
    lengths = torch.tensor([len(each) for each in x])
    target = pad_sequence(list(answers), padding_value=PADDING) if _per_step(answers[0]) else torch.stack(list(answers))
    same = bool((lengths == lengths[0]).all())
    return Batch(pad_sequence(list(x)).to(device), target.to(device), None if same else lengths.to(device))
