"""A user's arrays: samples with their classes, or with target values.

Shapes: N samples, K numbers of a target, T time, B batch.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data.array_input import STEPS, as_input
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.files.arrays import read_array
from hstnn_deploy.data.own.array_files import check_real, find_parts
from hstnn_deploy.data.own.config import FoundArrays, Normalise, OwnArrays
from hstnn_deploy.data.own.files import check_same, place
from hstnn_deploy.data.own.labels import LABELS
from hstnn_deploy.data.own.listing import ARRAYS, list_own
from hstnn_deploy.data.own.names import class_names
from hstnn_deploy.data.own.parts import SPLITS, Numbers, Samples, as_splits, by_protocol, divide
from hstnn_deploy.data.splits import Batch, Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN

Array = NDArray[Any]

_BY_NUMBER = {1: "T", 2: "TI", 3: "CHW", 4: "TCHW"}
"""What the axes of a sample are taken as, by their number."""
_WHOLE = 2**53
"""Up to which whole number fractions hold each."""
_LEVELS = 256
"""Steps of float32 within which all values of a channel may not lie."""
_HASHED = 2**26
"""Bytes of an array that are hashed, about."""
_AT_ONCE = 2**22
"""Numbers that are checked at once."""


class Held(NamedTuple):
    """Samples in memory, or mapped from files."""

    x: Sequence[Array]
    """Arrays [n, …] one behind the other: N samples in all."""
    labels: NDArray[np.int32]
    """[N]; 0 where samples have numbers."""
    numbers: NDArray[np.float32] | None
    """Targets [N, K]; None where samples have classes."""
    classes: tuple[str, ...]
    parts: dict[str, Numbers]
    digest: str
    where: Path
    names: Sequence[str]
    """Of the arrays, for messages."""


@dataclass(frozen=True)
class ArrayFileSplit:
    """Samples of arrays that may be mapped from files, brought to a network's form when a batch is asked for."""

    x: Sequence[Array]
    """Arrays [n, …], one after another; see `Held`."""
    starts: Array
    """The number of each array's first sample."""
    target: Tensor
    """[n], int64; or [n, K], float32."""
    numbers: Tensor
    """Which of all samples these are, [n]."""
    axes: str
    steps: int
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        chosen = self.numbers[indices].numpy()
        owner = np.searchsorted(self.starts, chosen, side="right") - 1
        rows = np.stack([self.x[at][number - self.starts[at]] for at, number in zip(owner, chosen, strict=True)])
        x = as_input(rows, self.axes, self.steps, self.mean, self.std)
        return Batch(torch.from_numpy(x).to(device), self.target[indices].to(device))

    def storages(self) -> list[Tensor]:
        """Return what is held beside the files."""
        return [self.target, self.numbers]

    def take(self, indices: Tensor) -> "ArrayFileSplit":
        """Return the split of some of the samples."""
        return replace(self, target=self.target[indices], numbers=self.numbers[indices])


def look(config: OwnArrays, given: Path | None = None, known: Sequence[str] = ()) -> FoundArrays:
    """Return what is found of arrays; all of their numbers are looked at once.

    Raises:
        DataError: they are not there, do not belong together, or hold NaN or infinities.
    """
    held = hold(config, given, known)
    shape = held.x[0].shape[1:]
    axes = axes_of(config, shape, held.names[0])
    for x, name in zip(held.x, held.names, strict=True):
        _check_finite(x, name)
        _check_told_apart(by_channel(x, axes), name)
    mean, std = _normal(config, held, axes)
    return FoundArrays(
        listing=held.digest,
        classes=list(held.classes),
        axes=axes,
        shape=list(shape),
        outputs=None if held.numbers is None else held.numbers.shape[1],
        mean=mean,
        std=std,
        **_counts(held),
    )


def axes_of(config: OwnArrays, shape: Sequence[int], name: str) -> str:
    """Return what the axes of a sample are, as the configuration says or by their number.

    Raises:
        DataError: there are more or fewer.
    """
    axes = config.axes or _BY_NUMBER.get(len(shape), "")
    if len(axes) != len(shape):
        raise DataError(
            f"{name} contains samples with shape {list(shape)}"
            + (f", but data.axes is {axes}" if axes else ", more axes than samples have"),
            "specify the axes: --set data.axes=TI (also T, I, CL, TCL, CHW, TCHW, in the file's order)",
        )
    return axes


def load(config: OwnArrays, source: Source) -> Splits:
    """Return the arrays as splits.

    Raises:
        DataError: see `look`; or they are not what the recipe was made for.
    """
    found = config.found or look(config, source.folder)
    held = hold(config, source.folder, found.classes)
    check_same(config, found.model_copy(update={"listing": held.digest, **_counts(held)}), held.where)
    config = config.model_copy(update={"found": found})
    shape = config.found_shape()
    assert shape is not None
    targets = torch.from_numpy(held.labels.astype(np.int64) if held.numbers is None else held.numbers)
    starts = np.cumsum([0, *(len(x) for x in held.x)])[:-1]
    splits = {
        split: ArrayFileSplit(
            held.x, starts, targets[some], some, found.axes, config.steps or STEPS, found.mean, found.std
        )
        for split, some in by_protocol(held.parts, source.protocol).items()
    }
    what = f"{shape.classes} {shape.targets}"
    return as_splits(shape, splits, source.protocol, f"your arrays in {held.where}, {len(targets)} samples of {what}")


def _counts(held: Held) -> dict[str, list[int]]:
    if held.numbers is not None:
        return {split: [len(some)] for split, some in held.parts.items()}
    return {
        split: np.bincount(held.labels[some], minlength=len(held.classes)).tolist()
        for split, some in held.parts.items()
    }


def hold(config: OwnArrays, given: Path | None = None, known: Sequence[str] = ()) -> Held:
    """Return the arrays of a configuration, and which samples train.

    Raises:
        DataError: they are not there, do not belong together, or cannot be divided.
    """
    where = place(config, given)
    if in_folders(where):
        return _of_folders(config, given, where, known)
    parts, files = find_parts(where)
    first = parts[0]
    for part in parts[1:]:
        if part.x.shape[1:] != first.x.shape[1:]:
            raise DataError(
                f"{first.name} contains samples with shape {list(first.x.shape[1:])}, but {part.name} has "
                f"{list(part.x.shape[1:])}",
                "all samples must have the same shape",
            )
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\n{path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    for part in parts:
        digest.update(_some(part.x))
    labels, numbers, classes = _targets(config, [part.y for part in parts], known, where)
    digest.update(labels.tobytes() if numbers is None else numbers.tobytes())
    split = None
    if first.split:
        split = np.concatenate([np.full(len(part.x), SPLITS.index(part.split), np.int8) for part in parts])
    groups = None
    if any(part.groups is not None for part in parts):
        if lacking := next((part for part in parts if part.groups is None), None):
            raise DataError(f"{lacking.name} has no groups, but other arrays have", "give all of them groups, or none")
        groups = [str(each) for part in parts if part.groups is not None for each in part.groups.tolist()]
    divided = divide(Samples(labels, classes, str, split, groups, where), config.split, config.measured)
    names = [part.name for part in parts]
    return Held([part.x for part in parts], labels, numbers, classes, divided, digest.hexdigest(), where, names)


def in_folders(where: Path) -> bool:
    """Whether each sample is a file of its own, in folders by class or in a list."""
    return where.is_dir() and (
        (where / LABELS).is_file() or any(each.is_dir() and not each.name.startswith(".") for each in where.iterdir())
    )


def _of_folders(config: OwnArrays, given: Path | None, where: Path, known: Sequence[str]) -> Held:
    """Return samples, each from a file of its own."""
    listing = list_own(config, ARRAYS, given, known)
    rows: list[Array] = []
    for path in listing.paths:
        row = read_sample(path)
        if rows and row.shape != rows[0].shape:
            raise DataError(
                f"{path} has shape {list(row.shape)}, but {listing.path(0)} has {list(rows[0].shape)}",
                "all samples must have the same shape: cut or pad them first",
            )
        rows.append(row)
    x = np.stack(rows)
    parts = divide(listing.samples, config.split, config.measured)
    digest = hashlib.sha256(listing.digest.encode() + _some(x)).hexdigest()
    return Held([x], listing.labels, None, listing.classes, parts, digest, where, [str(where)])


def read_sample(path: Path) -> Array:
    """Return the numbers of a file that is one sample.

    Raises:
        DataError: it is damaged, or holds no array of real numbers.
    """
    sample = read_array(path)
    check_real(sample, str(path))
    if sample.ndim == 0 or 0 in sample.shape:
        raise DataError(f"{path} has shape {list(sample.shape)}", "give a sample with at least one number")
    return sample


def _some(x: Array) -> bytes:
    """Return the values of some samples, of a small array of all: arrays of other values have the same sizes."""
    return np.ascontiguousarray(x[:: max(1, -(-x.nbytes // _HASHED))]).tobytes()


def _targets(
    config: OwnArrays, given: Sequence[Array], known: Sequence[str], where: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32] | None, tuple[str, ...]]:
    """Return labels, targets and the names of classes of arrays y.

    Raises:
        DataError: they may be classes or numbers, or are neither.
    """
    if len({(y.ndim, y.shape[1:], y.dtype.kind in "US") for y in given}) > 1:
        raise DataError(f"{where}: the arrays y of the splits differ in shape or type", "save all alike")
    y = np.concatenate(given)
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            place_ = [int(each) for each in np.argwhere(~np.isfinite(y))[0]]
            raise DataError(f"{where}: y contains {y[tuple(place_)]} at {place_}", "remove the sample, or fix it")
        whole = np.array_equal(np.floor(y), y)
        if config.targets is None and whole:
            raise DataError(
                f"{where}: y contains whole numbers as fractions, such as {y.flat[0]}: are they classes, or values?",
                "specify it: --set data.targets=classes, or data.targets=values",
            )
        if config.targets == "classes":
            if not whole:
                odd = y[np.floor(y) != y][0]
                raise DataError(
                    f"{where}: y contains {odd}, but data.targets is classes", "--set data.targets=values with a loss "
                    "of regression, or give whole numbers"
                )  # fmt: skip
            if np.abs(y).max() > _WHOLE:
                raise DataError(
                    f"{where}: y contains {np.abs(y).max()}, too large for the number of a class", "count from 0"
                )
            y = y.astype(np.int64)
    numbers = config.targets == "values" or y.dtype.kind == "f"
    if numbers and y.dtype.kind == "U":
        raise DataError(f"{where}: y contains names, but data.targets is values", "--set data.targets=classes")
    if numbers:
        if y.ndim > 2:
            raise DataError(f"{where}: y has shape {list(y.shape)}", "give [N] or [N, K] numbers")
        with np.errstate(over="ignore"):
            told = y.astype(np.float32).reshape(len(y), -1)
        if not np.isfinite(told).all():
            raise DataError(f"{where}: y contains {np.abs(y).max()}, too large for float32", "scale the values")
        _check_told_apart(y.reshape(len(y), -1), f"{where}: y")
        return np.zeros(len(y), np.int32), told, ()
    if y.ndim != 1:
        column, one_hot = y.shape[1:] == (1,), y.ndim == 2 and set(np.unique(y).tolist()) <= {0, 1}
        raise DataError(
            f"{where}: y has shape {list(y.shape)}, but each sample needs one class",
            "save y[:, 0]" if column
            else "one-hot rows as classes: save y.argmax(1)" if one_hot
            else "--set data.targets=values learns all of them",
        )  # fmt: skip
    values, place_of = np.unique(y, return_inverse=True)
    names = [str(each) for each in values.tolist()]
    classes = class_names(names, where, known)
    to = {name: number for number, name in enumerate(classes)}
    return np.array([to[name] for name in names], np.int32)[place_of], None, classes


def _chunks(x: Array) -> Iterator[tuple[int, Array]]:
    """Yield an array in pieces, each with the number of its first sample."""
    rows = max(1, _AT_ONCE // max(1, x[0].size))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]


def _check_finite(x: Array, name: str) -> None:
    if x.dtype.kind != "f":
        return
    for start, some in _chunks(x):
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(some.astype(np.float32))
        if wrong.any():
            at = [int(each) for each in np.argwhere(wrong)[0]]
            value = some[tuple(at)]
            at[0] += start
            raise DataError(
                f"{name} contains {value} at {at}", f"samples must be finite float32 numbers; {AGAIN}, or fix it"
            )


def by_channel(x: Array, axes: str) -> Array:
    """Return samples with their channels as the last axis, a view."""
    channel = next((axes.index(letter) for letter in "IC" if letter in axes), None)
    return x[..., None] if channel is None else np.moveaxis(x, 1 + channel, -1)


def _check_told_apart(values: Array, name: str) -> None:
    """Refuse values that float32 rounds to steps: small changes of large numbers, such as Unix times.

    Args:
        values: [N, …, channels].
        name: what they are called in messages.
    """
    if _within_float32(values.dtype):
        return
    pieces = [some.reshape(-1, some.shape[-1]) for _, some in _chunks(values)]
    low, high = np.min([some.min(0) for some in pieces], 0), np.max([some.max(0) for some in pieces], 0)
    check_coarse(low, high, values.dtype, name)


def check_coarse(low: Array, high: Array, dtype: np.dtype[Any], name: str) -> None:
    """Refuse channels whose values float32 cannot distinguish.

    Args:
        low: the least value of each channel, [channels].
        high: the largest, [channels].
        dtype: the type that the values have in their file.
        name: what they are called in messages.

    Raises:
        DataError: names the first such channel.
    """
    if _within_float32(dtype):
        return
    spacing = np.spacing(np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64))).astype(np.float32))
    span = high.astype(np.float64) - low.astype(np.float64)
    # Whole numbers that float32 represents are distinct, however large.
    coarse = (span > 0) & (span < _LEVELS * spacing) & ((spacing > 1) | (dtype.kind == "f"))
    if not coarse.any():
        return
    at = int(np.flatnonzero(coarse)[0])
    raise DataError(
        f"{name} channel {at} ranges from {low[at]} to {high[at]}, where float32 has steps of {spacing[at]:g}",
        "subtract a number first, such as the first time, or leave the channel out",
    )


def _within_float32(dtype: np.dtype[Any]) -> bool:
    """Return whether float32 holds every value of a type."""
    return dtype.kind == "b" or dtype.itemsize < 4 or dtype == np.float32


def _normal(config: OwnArrays, held: Held, axes: str) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel, as they were given or over the training samples."""
    if config.normalise is None:
        return [], []
    sizes = dict(zip(axes, held.x[0].shape[1:], strict=True))
    channels = sizes.get("I") or sizes.get("C") or 1
    if isinstance(config.normalise, Normalise):
        for key in ("mean", "std"):
            if len(getattr(config.normalise, key)) not in (1, channels):
                given = len(getattr(config.normalise, key))
                raise DataError(
                    f"data.normalise.{key} has {given} numbers, but a sample has {channels} channels",
                    "give one, or one for each",
                )
        return config.normalise.mean, config.normalise.std
    # Of what is left of each sample without the first: sums of large numbers would lose it.
    first_of: Array | None = None
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    starts = np.cumsum([0, *(len(x) for x in held.x)])
    for x, first, after in zip(held.x, starts, starts[1:], strict=False):
        own = held.parts["train"]
        own = own[(own >= first) & (own < after)] - first
        for start in range(0, len(own), rows := max(1, _AT_ONCE // max(1, x[0].size))):
            some = as_input(x[own[start : start + rows]], axes, 1).astype(np.float64)
            # x[T, B, channel, …]
            flat = np.moveaxis(some, 2, 0).reshape(some.shape[2], -1)
            first_of = flat[:, :1].copy() if first_of is None else first_of
            flat = flat - first_of
            total += flat.sum(1)
            squares += (flat**2).sum(1)
            count += flat.shape[1]
    assert first_of is not None, "some samples train"
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    mean += first_of[:, 0]
    # A channel that never changes carries no information and stays at 0.
    std[std < np.maximum(1e-12, np.spacing(np.abs(mean).astype(np.float32)))] = 1.0
    return [float(f"{each:.9g}") for each in mean], [float(f"{each:.9g}") for each in std]
