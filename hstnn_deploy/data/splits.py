"""The interface of a data set: three splits that return time-major batches."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.errors import DataError

Family = Literal["sequence", "language", "convolutional"]
"""Which family of networks a data set is for."""

Targets = Literal["classes", "values"]
"""What a sample's target is: the number of its class, or numbers that a regression is to give."""


PADDING = -100
"""The target of a step past a sample's length, where every step has one."""


class Batch(NamedTuple):
    """Samples as a network takes them."""

    x: Tensor
    """[T, B, …], float32; tokens [T, B], int64, of a text."""
    target: Tensor
    """[B] for classification; values [B, K], float32, for regression; [T, B] for a language model (`PADDING` past a
    sample's length)."""
    lengths: Tensor | None = None
    """Valid steps per sample, [B], or None where all are."""


class Split(Protocol):
    """A finite set of samples, indexed by number."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`, on `device`."""
        ...


def frame_of(step: tuple[int, ...]) -> tuple[int | None, tuple[int, ...] | None]:
    """Return `size` and `frame` of a time step of a shape; see `Splits`. Both are None of a plain vector."""
    if len(step) == 3 and step[1] == step[2]:
        return step[1], None
    return None, step if len(step) > 1 else None


class DataSizes(NamedTuple):
    """What a network has to fit: the sizes of a data set."""

    inputs: int
    """Values per time step; of frames, channels."""
    classes: int
    """Of a text: the words of its vocabulary."""
    size: int | None = None
    """Height and width of a square frame."""
    steps: int | None = None
    """Time steps of every sample; None: samples differ, or it is unknown."""
    step: tuple[int, ...] = ()
    """The shape of one time step of a sample; () of a text."""
    targets: Targets = "classes"
    """What a sample's target is."""


class Labelled(Protocol):
    """Samples with one class or row of values each, with `take` to select some."""

    @property
    def target(self) -> Tensor:
        """The class of each sample, [N], int64; or its values, [N, K], float32."""
        ...

    def take(self, indices: Tensor) -> Self:
        """Return some of the samples."""
        ...


L = TypeVar("L", bound=Labelled)


_RESIDENT = 2**30
"""Bytes up to which a split in memory is held on the GPU as a whole: a batch then costs the host its numbers alone."""


@dataclass(frozen=True)
class ArraySplit:
    """Samples of equal length held in memory; on a GPU that asks for them too, if they are few.

    Args:
        x: [N, T, …], any dtype.
        target: classes [N], int64; or values [N, K], float32, see `as_values`.
        scale: what x is multiplied with to give a network's input.
    """

    x: Tensor
    target: Tensor
    scale: float = 1.0
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.target)

    def __repr__(self) -> str:
        """Return how large it is."""
        return f"<ArraySplit: {len(self)} samples, x{list(self.x.shape)} of {self.x.dtype}>"

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        samples, target = self.x, self.target
        if device.type == "cuda" and samples.nbytes <= _RESIDENT:
            if device not in self._copies:
                self._copies[device] = samples.to(device), target.to(device)
            samples, target = self._copies[device]
            # Not waited for: what is not pinned is read before the call returns.
            indices = indices.to(device, non_blocking=True)
        x = samples[indices].to(device).movedim(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return Batch(x.contiguous().mul_(self.scale), target[indices].to(device))

    def storages(self) -> list[Tensor]:
        """Return what is held: the samples, and their copies on GPUs."""
        return [self.x, self.target, *(tensor for copies in self._copies.values() for tensor in copies)]

    def take(self, indices: Tensor) -> "ArraySplit":
        """Return the split of some of the samples."""
        return ArraySplit(self.x[indices], self.target[indices], self.scale)


@dataclass(frozen=True)
class Splits:
    """A data set as a recipe uses it."""

    train: Split
    valid: Split
    """Where the best epoch is chosen; equal to `test` under the demo's protocol."""
    test: Split
    inputs: int
    """Values per time step; of frames, channels."""
    classes: int
    """Of a text: the words of its vocabulary; where targets are values: how many a sample has, K."""
    origin: str
    """One line: where the data came from."""
    family: Family = "sequence"
    vocabulary: str = ""
    """Of a text: the SHA-256 of its words in the order of their tokens."""
    words: tuple[str, ...] = ()
    """Of a text: its words in the order of their tokens."""
    size: int | None = None
    """Height and width of a frame; None where a time step is a plain vector."""
    frame: tuple[int, ...] | None = None
    """The shape of a time step that is neither a plain vector nor a square frame."""
    targets: Targets = "classes"
    """What a sample's target is. Of a text it says nothing: its targets are the words that follow."""

    @property
    def sizes(self) -> DataSizes:
        """What a network has to fit."""
        step = self.frame
        if step is None:
            step = (self.inputs,) if self.size is None else (self.inputs, self.size, self.size)
        step = () if self.family == "language" else step
        return DataSizes(self.inputs, self.classes, self.size, step=step, targets=self.targets)

    def __repr__(self) -> str:
        """Return in one line what it is."""
        return f"<Splits: {len(self.train)} train, {len(self.valid)} valid, {len(self.test)} test: {self.origin}>"

    def split(self, name: str) -> Split:
        """Return a split by its name."""
        split: Split = getattr(self, name)
        return split


def hold_out(target: Tensor, fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split sample numbers in two, stratified by class: the rest, and `fraction` of them (both ascending).

    Values [N, K] have no classes: of them the split is plain, that of `train_test_split(random_state=seed)`.

    The stratified split is that of scikit-learn's `train_test_split(stratify=target, random_state=seed)`; its steps
    stand here so that published splits change with no version of it, and because importing it takes as long as
    importing torch.

    Raises:
        DataError: there are too few samples for every class, or any sample, to be on both sides.
    """
    if target.is_floating_point():
        return _plainly(len(target), fraction, seed)
    _, classes, counts = np.unique(target.numpy(), return_inverse=True, return_counts=True)
    held_count = math.ceil(fraction * len(classes))
    rest_count = len(classes) - held_count
    if len(counts) == 0 or counts.min() < 2 or min(held_count, rest_count) < len(counts):
        raise DataError(
            f"cannot hold out {100 * fraction:g} % of {len(target)} samples with every class on both sides",
            "give more samples of each class; protocol=test needs no validation split",
        )
    draw = np.random.RandomState(seed)
    resting = _shares(counts, rest_count, draw)
    holding = _shares(counts - resting, held_count, draw)
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    rest, held = [], []
    for members, stay, go in zip(by_class, resting, holding, strict=True):
        members = members[draw.permutation(len(members))]
        rest.append(members[:stay])
        held.append(members[stay : stay + go])
    return torch.from_numpy(np.sort(np.concatenate(rest))), torch.from_numpy(np.sort(np.concatenate(held)))


def _plainly(samples: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    held_count = math.ceil(fraction * samples)
    if not 0 < held_count < samples:
        raise DataError(
            f"cannot hold out {100 * fraction:g} % of {samples} samples with samples on both sides",
            "give more samples; protocol=test needs no validation split",
        )
    order = np.random.RandomState(seed).permutation(samples)
    return torch.from_numpy(np.sort(order[held_count:])), torch.from_numpy(np.sort(order[:held_count]))


def as_values(target: Tensor, source: str) -> Tensor:
    """Return the targets of a regression as splits hold them: [N, K], float32; [N] becomes [N, 1].

    They stay in the unit they come in: nothing is normalised, so that the metric is in that unit too.

    Args:
        target: of N samples, [N] or [N, K], floating-point.
        source: named in errors.

    Raises:
        DataError: targets of another shape or type, such as one for each time step, or values that are not finite
            numbers of float32.
    """
    shape = list(target.shape)
    if not target.is_floating_point():
        raise DataError(f"{source} has type {target.dtype}", "targets of a regression must be floating-point numbers")
    if target.ndim not in {1, 2} or 0 in shape:
        more = "a target for each time step is not supported" if target.ndim > 2 else "there is nothing to learn"
        raise DataError(f"{source} contains targets with shape {shape}: {more}", "give [N] or [N, K], a row per sample")
    found = target.to(torch.float32).reshape(len(target), -1)
    if not found.isfinite().all():
        row = int((~found.isfinite()).any(1).nonzero()[0, 0])
        which = f": sample {row}" if len(found) > 1 else ""
        raise DataError(
            f"{source} contains a target that is not a finite number of float32{which}", "leave that sample out"
        )
    return found


def _shares(counts: NDArray[np.int64], total: int, draw: np.random.RandomState) -> NDArray[np.int64]:
    """Return how many of `total` each class gives: its proportion, rounded; equal remainders are drawn by lot."""
    exact = counts / counts.sum() * total
    shares: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    remainders = exact - shares
    missing = int(total - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if missing > 0:
            (tied,) = np.nonzero(remainders == remainder)
            chosen = draw.choice(tied, size=min(len(tied), missing), replace=False)
            shares[chosen] += 1
            missing -= len(chosen)
    return shares


def with_validation(train: L, protocol: str) -> tuple[L, L | None]:
    """Return what is trained on and what the epoch is chosen on, by protocol.

    Under `validation`, 10 % of the training samples are held out (stratified, if they have classes) by a seed of its
    own, so that every training seed sees the same split. Under `test` nothing is held out: the epoch will be chosen on
    the test split.
    """
    if protocol == "test":
        return train, None
    rest, held = hold_out(train.target, 0.1)
    return train.take(rest), train.take(held)
