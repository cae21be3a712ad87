"""torch's map-style Datasets as splits: looked at once before training, and read again for every batch.

A DataLoader lends its Dataset, its way to collate and its workers; samples are drawn by the training itself, so that a
seed gives the same order everywhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from hstnn_deploy.data.given.arrays import from_arrays, padded
from hstnn_deploy.data.given.checks import Wanted, as_tensor, check_sample, check_target, check_x, time_first
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.errors import DataError, HstnnError
from hstnn_deploy.foreign import one_line

Look = Callable[[int, int], None]
"""Told how many samples were looked at, of how many."""

_LOOK = 32
"""Samples that are looked at between two reports."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Failed:
    """What was wrong with a sample; it travels from a worker as plain text."""

    message: str
    hint: str = ""


class _Items(Dataset[Any]):
    """A Dataset whose samples come with their numbers, and never raise."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            return index, self.dataset[index]
        except Exception as error:  # the user's own code
            said = one_line(f"{type(error).__name__}: {error}")[:300]
            what = f"sample {index} of {type(self.dataset).__name__} fails for {self.name}: {said}"
            return index, _Failed(what, f"dataset[{index}] shows where")


@dataclass(frozen=True)
class _Collate:
    """Makes batches of samples; runs in workers too."""

    wanted: Wanted
    name: str
    own: Callable[[list[Any]], Any] | None
    """The user's way; None: each sample by itself, padded where lengths differ."""

    def __call__(self, items: Sequence[tuple[int, Any]]) -> Batch | _Failed:
        for _, item in items:
            if isinstance(item, _Failed):
                return item
        try:
            if self.own is not None:
                return self._by_own(items)
            pairs = [check_sample(item, self.wanted, f"{self.name} sample {index}") for index, item in items]
            return padded([x for x, _ in pairs], [y for _, y in pairs], _CPU)
        except HstnnError as error:
            return _Failed(error.message, error.hint)

    def _by_own(self, items: Sequence[tuple[int, Any]]) -> Batch | _Failed:
        assert self.own is not None
        what = f"the batch of {self.name} that begins with sample {items[0][0]}"
        try:
            given = self.own([item for _, item in items])
        except Exception as error:  # the user's own code
            return _Failed(f"collate_fn fails for {what}: {one_line(f'{type(error).__name__}: {error}')[:300]}")
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            return _Failed(
                f"collate_fn returns neither (x, y) nor (x, y, lengths) for {what}", "x is [B, T, ...], y [B]"
            )
        x, y = as_tensor(given[0], f"x of {what}"), as_tensor(given[1], f"y of {what}")
        check_x(x, self.wanted, f"x of {what}", ("B", "T"), len(y) if y.ndim else None)
        target = check_target(y, self.wanted, f"y of {what}")
        x = x.to(torch.int64 if self.wanted.tokens else torch.float32)
        lengths = as_tensor(given[2], f"lengths of {what}").to(torch.int64) if len(given) == 3 else None
        if lengths is not None and (lengths.shape != (len(x),) or bool(((lengths < 1) | (lengths > x.shape[1])).any())):
            return _Failed(f"lengths of {what} are not one number from 1 to {x.shape[1]} for each of {len(x)} samples")
        return Batch(x.movedim(0, 1).contiguous(), time_first(target).contiguous(), lengths)


@dataclass(frozen=True, repr=False)
class DatasetSplit:
    """Samples of a map-style Dataset."""

    items: _Items
    collate: _Collate
    numbers: Tensor
    """Which of the Dataset's samples belong to the split, [N]."""
    answers: Tensor | None = None
    """The class of each, [N], or its values, [N, K]; None where every step has a class."""
    workers: dict[str, Any] = field(default_factory=dict)
    """How a DataLoader starts them."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def target(self) -> Tensor:
        """The class of each sample, [N], or its values, [N, K], as they were when it was looked at.

        Raises:
            AttributeError: every step has one.
        """
        if self.answers is None:
            raise AttributeError("every step has a class of its own")
        return self.answers

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`, read in this process; see `Split`.

        Raises:
            DataError: the Dataset raises, or gives something else than before.
        """
        return _moved(self.collate([self.items[n] for n in self.numbers[indices].tolist()]), device)

    def batches(self, order: Tensor, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield the samples in an order, in batches of `size`; with workers, where the DataLoader has some."""
        for batch in self._read(order, size, self.collate):
            yield _moved(batch, device)

    def take(self, indices: Tensor) -> "DatasetSplit":
        """Return the split of some of the samples."""
        answers = None if self.answers is None else self.answers[indices]
        return DatasetSplit(self.items, self.collate, self.numbers[indices], answers, self.workers)

    def looked_at(self, look: Look) -> "DatasetSplit":
        """Return the split with its classes known: every sample is read once.

        Raises:
            DataError: a sample cannot be read, or is of a wrong shape, type or class.
        """
        found: list[Tensor] = []
        for answers in self._read(torch.arange(len(self)), _LOOK, _One(self.collate)):
            if isinstance(answers, _Failed):
                raise DataError(answers.message, answers.hint)
            found += answers
            look(len(found), len(self))
        known = None if self.collate.wanted.per_step else torch.stack(found)
        return DatasetSplit(self.items, self.collate, self.numbers, known, self.workers)

    def _read(self, order: Tensor, size: int, collate: Callable[[Any], Any]) -> Iterator[Any]:
        groups = [group.tolist() for group in self.numbers[order].split(size)]
        if not self.workers:
            yield from (collate([self.items[n] for n in group]) for group in groups)
            return
        yield from DataLoader(self.items, batch_sampler=cast(Any, groups), collate_fn=collate, **self.workers)


@dataclass(frozen=True)
class _One:
    """Looks at samples one by one; gives the class of each."""

    collate: _Collate

    def __call__(self, items: Sequence[tuple[int, Any]]) -> list[Tensor] | _Failed:
        found = []
        for each in items:
            batch = self.collate([each])
            if isinstance(batch, _Failed):
                return batch
            found.append(batch.target.reshape(-1) if self.collate.wanted.per_step else batch.target[0])
        return found


def _moved(batch: Batch | _Failed, device: torch.device) -> Batch:
    if isinstance(batch, _Failed):
        raise DataError(batch.message, batch.hint)
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    return Batch(batch.x.to(device), batch.target.to(device), lengths)


def from_dataset(dataset: Any, wanted: Wanted, name: str, look: Look) -> Split:
    """Return the split of a map-style Dataset, or of a list, of samples (x[T, ...], class).

    Raises:
        DataError: it is iterable only, empty, or a sample is refused; says which.
    """
    if (tensors := _tensors(dataset)) is not None:
        return from_arrays(*tensors, wanted, name)
    return _split(dataset, wanted, name, None, {}).looked_at(look)


def from_loader(loader: DataLoader[Any], wanted: Wanted, name: str, look: Look) -> Split:
    """Return the split of a DataLoader's Dataset.

    Raises:
        DataError: it draws samples in a way of its own; and see `from_dataset`.
    """
    sampler, batches = loader.sampler, loader.batch_sampler
    usual = type(batches) in (BatchSampler, type(None)) and type(sampler) in (RandomSampler, SequentialSampler)
    if not usual and not isinstance(loader.dataset, IterableDataset):
        own = batches if type(batches) is not BatchSampler and batches is not None else sampler
        raise DataError(
            f"the DataLoader of {name} draws samples by {type(own).__name__}; the training draws them itself, each "
            "once an epoch",
            "give the Dataset, or a DataLoader with shuffle=True or without a sampler",
        )
    own_collate = None if loader.collate_fn is default_collate else loader.collate_fn
    if own_collate is None and (tensors := _tensors(loader.dataset)) is not None:
        return from_arrays(*tensors, wanted, name)
    workers: dict[str, Any] = {}
    if loader.num_workers:
        workers = {
            key: getattr(loader, key)
            for key in ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
        } | {"prefetch_factor": loader.prefetch_factor}
    return _split(loader.dataset, wanted, name, own_collate, workers).looked_at(look)


def _split(
    dataset: Any, wanted: Wanted, name: str, own: Callable[[list[Any]], Any] | None, workers: dict[str, Any]
) -> DatasetSplit:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{name} is {type(dataset).__name__}, which does not give samples by number",
            "give a map-style Dataset (__len__ and __getitem__), or arrays (x, y)",
        )
    if not len(dataset):
        raise DataError(f"{name} is {type(dataset).__name__} with no samples")
    return DatasetSplit(_Items(dataset, name), _Collate(wanted, name, own), torch.arange(len(dataset)), None, workers)


def _tensors(dataset: Any) -> tuple[Tensor, Tensor] | None:
    """Return x and y of a Dataset of two tensors, or of a part of one; None of others."""
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    if type(dataset) is Subset and (whole := _tensors(dataset.dataset)) is not None:
        chosen = torch.as_tensor(list(dataset.indices), dtype=torch.int64)
        return whole[0][chosen], whole[1][chosen]
    return None
