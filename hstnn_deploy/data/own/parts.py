"""Which samples train, which choose the epoch and which test: as folders or a list say, or drawn from what is left.

A draw sorts samples by a hash of seed and name: it is the same on every machine. Without groups, a new file moves
two others of its class at most: one of those that test, and one of those that choose the epoch.
Shapes: N samples.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data.dataset import Protocol, Shape
from hstnn_deploy.data.own.config import Drawn
from hstnn_deploy.data.splits import Split, Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief

Numbers = NDArray[np.int64]

SPLITS = ("train", "valid", "test")

SAID = {
    "train": 0, "training": 0,
    "valid": 1, "val": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip
"""What folders and lists call the splits."""

_TRIES = 100
"""Draws of groups that are looked at for one that has every class on both sides."""


class Samples(NamedTuple):
    """What is known of samples before they are divided."""

    labels: NDArray[np.int32]
    """The class of each by number, [N]; 0 where samples have no class."""
    classes: Sequence[str]
    """Their names; none where samples have no class."""
    key: Callable[[int], str]
    """Returns what tells a sample from all others, whatever else there is: the file's name, or its number."""
    split: NDArray[np.int8] | None = None
    """0 train, 1 valid, 2 test, [N]; None: not given."""
    groups: Sequence[str] | None = None
    """[N]; None: there are none."""
    where: object = "the data"
    """What holds them, for messages."""


def divide(samples: Samples, how: Drawn, measured: bool = False) -> dict[str, Numbers]:
    """Return the numbers of the samples of each split, ascending; none of them is empty.

    Args:
        samples: what is known of them.
        how: the draw.
        measured: whether nothing is trained on them: if no splits are given, each split is all samples.

    Raises:
        DataError: a class has too few samples to be on every side, a group is on two, or there is nothing to train on.
    """
    every = np.arange(len(samples.labels))
    if measured and samples.split is None:
        return dict.fromkeys(SPLITS, every)
    parts = dict.fromkeys(SPLITS, every[:0])
    if samples.split is None:
        parts["train"] = every
    else:
        parts = {name: every[samples.split == place] for place, name in enumerate(SPLITS)}
        _check_groups(samples)
    if measured:
        return parts
    if not len(parts["train"]):
        raise DataError(f"{samples.where} assigns no sample to train", "assign some to train")
    for name in ("test", "valid"):
        if not len(parts[name]):
            share = how.test if name == "test" else how.valid
            # What is drawn next must find something to be drawn from.
            leave = 2 if name == "test" and not len(parts["valid"]) else 1
            parts["train"], parts[name] = _draw(samples, parts["train"], share, how.seed, name, leave)
    _check_classes(samples, parts)
    return parts


def by_protocol(parts: Mapping[str, Numbers], protocol: Protocol) -> dict[str, Tensor]:
    """Return the numbers of the samples of each split; of the protocol `test`, what would choose the epoch trains."""
    found = {name: torch.from_numpy(numbers) for name, numbers in parts.items()}
    if protocol == "test":
        found["train"] = torch.cat([found["train"], found["valid"]]).sort().values
    return found


def as_splits(shape: Shape | None, splits: Mapping[str, Split], protocol: Protocol, origin: str) -> Splits:
    """Return the splits of data that was looked at.

    Args:
        shape: its size.
        splits: its samples by split.
        protocol: of `test`, the epoch is chosen on the test split.
        origin: where they came from, in a line.
    """
    assert shape is not None, "the data was looked at"
    return Splits(
        splits["train"],
        splits["test" if protocol == "test" else "valid"],
        splits["test"],
        shape.inputs,
        shape.classes,
        origin,
        family=shape.family,
        size=shape.size,
        frame=shape.frame,
        targets=shape.targets,
    )


def group_of(name: str, text: str) -> str:
    """Return the group of a file: its name, without its folders, up to a text.

    Raises:
        DataError: the name does not hold it.
    """
    group, found, _ = name.rpartition("/")[2].partition(text)
    if not found:
        raise DataError(
            f"{name}: its name does not contain {brief(text)}, which data.split.group says ends the group",
            "rename it, or give another text",
        )
    return group


def _draw(
    samples: Samples, numbers: Numbers, share: float, seed: int, name: str, leave: int
) -> tuple[Numbers, Numbers]:
    """Return the samples that are left, of each class `leave` at least, and those that are held out."""
    if samples.groups is not None:
        return _draw_groups(samples, samples.groups, numbers, share, seed, name, leave)
    held: list[Numbers] = []
    labels = samples.labels[numbers]
    for label in np.unique(labels):
        members = numbers[labels == label]
        if len(members) <= leave:
            raise _too_few(samples, int(label), len(members), name)
        order = sorted(members.tolist(), key=lambda number: _hash(seed, name, samples.key(number)))
        held.append(np.array(order[: min(max(1, round(share * len(members))), len(members) - leave)]))
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(numbers, chosen, assume_unique=True), chosen


def _draw_groups(
    samples: Samples, groups: Sequence[str], numbers: Numbers, share: float, seed: int, name: str, leave: int
) -> tuple[Numbers, Numbers]:
    names = sorted({groups[number] for number in numbers.tolist()})
    if len(names) <= leave:
        raise DataError(
            f"{samples.where}: {len(names)} of the groups are left ({', '.join(map(brief, names))}), too few to hold "
            f"one out for {name}",
            "a group stays on one side: to draw splits, give samples of at least 3 groups",
        )
    place = {each: at for at, each in enumerate(names)}
    owner = np.array([place[groups[number]] for number in numbers.tolist()])
    counts = np.bincount(owner, minlength=len(names))
    labels = samples.labels[numbers]
    there = set(np.unique(labels).tolist())
    best: tuple[int, Numbers, Numbers] | None = None
    for attempt in range(_TRIES):
        order = sorted(range(len(names)), key=lambda at: _hash(seed + attempt, name, names[at]))
        before = np.concatenate([[0], np.cumsum(counts[order])])
        # As near to the share as whole groups come, with one at least on each side.
        taken = int(np.clip(np.abs(before - share * len(numbers)).argmin(), 1, len(names) - leave))
        held = np.isin(owner, order[:taken])
        left = set(labels[~held].tolist())
        if there == left:
            missing = len(there - set(labels[held].tolist()))
            if best is None or missing < best[0]:
                best = missing, numbers[~held], numbers[held]
            if not missing:
                break
    if best is None:
        raise DataError(
            f"{samples.where}: a group stays on one side, and no draw leaves samples of every class to train",
            "give samples of more groups of each class, or define the splits in folders or in labels.csv",
        )
    return best[1], best[2]


def _check_groups(samples: Samples) -> None:
    """Refuse a group that is on two sides."""
    if samples.groups is None or samples.split is None:
        return
    sides: dict[str, int] = {}
    for group, side in zip(samples.groups, samples.split.tolist(), strict=True):
        if sides.setdefault(group, side) != side:
            raise DataError(
                f"{samples.where}: the group {brief(group)} is in {SPLITS[sides[group]]} and in {SPLITS[side]}",
                "a subject must not be in both: put all its samples on one side",
            )


def _check_classes(samples: Samples, parts: dict[str, Numbers]) -> None:
    there = set(samples.labels[parts["train"]].tolist())
    for name in ("valid", "test"):
        if strange := sorted(set(samples.labels[parts[name]].tolist()) - there):
            raise DataError(
                f"{samples.where}: the class {brief(samples.classes[strange[0]])} is in {name} but not in train",
                "add samples of it to train, or remove it",
            )


def _too_few(samples: Samples, label: int, count: int, name: str) -> DataError:
    what = f"the class {brief(samples.classes[label])}" if samples.classes else "it"
    return DataError(
        f"{samples.where}: {what} has {count} sample{'s' * (count != 1)}, too few to hold some out for {name}",
        "to draw splits, give at least 3 samples of each class; or define the splits in folders or in labels.csv",
    )


def _hash(seed: int, split: str, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{split}/{key}".encode("utf-8", "surrogateescape")).digest()
