"""Data that is handed over in Python, whatever it is, as splits like those of any data set.

(x, y)       arrays or tensors: x[N, T, ...], sample-first; or x a list of arrays [T, ...] of several lengths;
             y[N] classes, or y[N, K] values of a regression
list         of samples (x[T, ...], class or values)
Dataset      map-style, torch's or any with __len__ and __getitem__: items (x[T, ...], class or values)
DataLoader   of such a Dataset; its collate_fn gives (x[B, T, ...], y[B]) or (x, y, lengths)
Split        of a data set of this package
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hstnn_deploy.data.dataset import Progress
from hstnn_deploy.data.given.arrays import PartSplit, from_arrays
from hstnn_deploy.data.given.checks import Wanted
from hstnn_deploy.data.given.datasets import DatasetSplit, from_dataset, from_loader
from hstnn_deploy.data.splits import Split, hold_out
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = torch.Tensor | NDArray[Any] | Sequence[object]

    class MapStyle(Protocol):
        """Samples by number, such as a Dataset of tonic, which is not a Dataset of torch."""

        def __len__(self) -> int: ...

        def __getitem__(self, number: int, /) -> Any: ...

    Data = tuple[Array, Array] | list[tuple[Any, Any]] | Dataset[Any] | MapStyle | DataLoader[Any] | Split
else:
    Array = Data = Any
"""What is taken as data."""

HELD_OUT = 0.1
"""The share of the training samples that is held out where no validation data is given."""

_NO_DATA = (tuple, list, dict, str, bytes, np.ndarray, torch.Tensor)
"""Things with a length that are no samples by themselves."""

_KINDS = "give (x, y) with x[N, T, ...], a torch Dataset of (x[T, ...], y), a DataLoader, or a split of a data set"


def split_of(data: Any, wanted: Wanted, name: str, progress: Progress) -> Split:
    """Return data as a split, checked.

    Args:
        data: see the module.
        wanted: what the network takes.
        name: what it is for (train, valid, test), in errors.
        progress: told how many samples of a Dataset were looked at.

    Raises:
        DataError: says what is wrong, of a sample with its number.
    """

    def look(done: int, total: int) -> None:
        progress(f"looking at {name}", done, total)

    if isinstance(data, tuple) and len(data) == 2:
        return from_arrays(*data, wanted, name)
    if isinstance(data, DataLoader):
        return from_loader(data, wanted, name, look)
    if is_split(data):
        return _fitting(data, wanted, name)
    if isinstance(data, list) and data and all(isinstance(each, tuple | list) and len(each) == 2 for each in data):
        return from_dataset(data, wanted, name, look)
    by_number = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, Dataset) or (by_number and not isinstance(data, _NO_DATA)):
        return from_dataset(data, wanted, name, look)
    what = f"a {type(data).__name__} of {len(data)}" if isinstance(data, tuple | list) else type(data).__name__
    pair = isinstance(data, list) and len(data) == 2
    raise DataError(f"{name} is {what}, which is not data", "give a tuple: (x, y), not [x, y]" if pair else _KINDS)


def is_split(data: Any) -> TypeGuard[Split]:
    """Whether something is a split of this package's."""
    return hasattr(data, "batch") and hasattr(data, "__len__") and not hasattr(data, "__getitem__")


def _fitting(split: Split, wanted: Wanted, name: str) -> Split:
    if isinstance(split, TextSplit):
        if not wanted.tokens or not wanted.per_step:
            raise DataError(f"{name} is a text, but the network does not answer with a word at every step")
        return split
    if not len(split):
        raise DataError(f"{name} has no sample")
    batch = split.batch(torch.tensor([0]), torch.device("cpu"))
    if tuple(batch.x.shape[2:]) != wanted.step:
        shown = [len(split), *batch.x.shape[:1], *batch.x.shape[2:]]
        raise DataError(f"{name} has shape {shown}, but the network takes {wanted.shown('N', 'T')}")
    target = getattr(split, "target", None)
    if target is not None and target.is_floating_point() != wanted.values:
        has, right = ("classes", "cross-entropy") if wanted.values else ("values", "regression")
        raise DataError(f"{name} has {has} for targets, which the loss does not take", f'give loss="{right}"')
    if wanted.values and target is not None and target.shape[1] != wanted.classes:
        raise DataError(f"{name} has {target.shape[1]} values a sample, but the network has {wanted.classes} outputs")
    if target is not None and not wanted.values and target.ndim == 1 and int(target.max()) >= wanted.classes:
        raise DataError(f"{name} has class {int(target.max())}, but the network has {wanted.classes} scores")
    return split


def held_out(train: Split, seed: int) -> tuple[Split, Split]:
    """Return a split without 10 % of its samples, and those: drawn by the seed, each class, if any, in its share.

    Raises:
        DataError: its samples have no class each, or are too few.
    """
    target = None if isinstance(train, TextSplit) else getattr(train, "target", None)
    if target is None or (target.ndim != 1 and not target.is_floating_point()):
        raise DataError("no validation data is given, and train has no classes to hold some out by", "give valid=")
    try:
        rest, held = hold_out(target.cpu(), HELD_OUT, seed % 2**32)
    except DataError as error:
        raise DataError(error.message, "give valid=, or more samples of each class") from error
    if isinstance(train, DatasetSplit):
        return train.take(rest), train.take(held)
    classes = target.cpu()
    return PartSplit(train, rest, classes[rest]), PartSplit(train, held, classes[held])


def fingerprint(split: Split) -> str:
    """Return what tells data apart from other data: the SHA-256 of its number of samples, their classes, and some.

    Of a Dataset no sample is in it, since it may give another one each time.
    """
    digest = hashlib.sha256(str(len(split)).encode())
    if isinstance(split, TextSplit):
        digest.update(split.tokens.numpy().tobytes())
        return digest.hexdigest()
    target = getattr(split, "target", None)
    if target is not None:
        digest.update(target.cpu().contiguous().numpy().tobytes())
    if not isinstance(split, DatasetSplit):
        chosen = torch.linspace(0, len(split) - 1, min(16, len(split))).long()
        batch = split.batch(chosen, torch.device("cpu"))
        digest.update(batch.x.contiguous().numpy().tobytes())
    return digest.hexdigest()
