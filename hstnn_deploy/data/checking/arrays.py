"""Check a user's arrays: shapes, ranges, NaN and infinity, features that never change, and copies.

Shapes: N samples.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking import classes, duplicates
from hstnn_deploy.data.checking.checked import Checked, Example, Measure, spread, told
from hstnn_deploy.data.checking.listed import Asked, survey
from hstnn_deploy.data.checking.ranges import Ranges
from hstnn_deploy.data.checking.sample import SEED
from hstnn_deploy.data.own.array_files import find_parts
from hstnn_deploy.data.own.arrays import Held, axes_of, by_channel, check_coarse, hold, in_folders, read_sample
from hstnn_deploy.data.own.config import OwnArrays
from hstnn_deploy.data.own.files import place
from hstnn_deploy.data.own.listing import ARRAYS, list_own
from hstnn_deploy.data.own.parts import SPLITS
from hstnn_deploy.errors import DataError

Array = NDArray[Any]

_BYTES = 2**30
"""Bytes of the arrays that are read by default."""
_AT_ONCE = 2**22
"""Numbers that are checked at once."""


def check(found: Checked, config: OwnArrays, asked: Asked) -> None:
    """Look at the arrays of a configuration; see `Checked`.

    Raises:
        DataError: nothing could be listed, or no array be opened.
    """
    where = place(config, None)
    if in_folders(where):
        _check_folders(found, config, asked)
        return
    try:
        held = hold(config)
    except DataError as error:
        found.notes.refuse(error)
        parts, _ = find_parts(where)
        unlike = len({part.x.shape[1:] for part in parts}) > 1
        parts = parts[:1] if unlike else parts
        labels = np.zeros(sum(len(part.x) for part in parts), np.int32)
        held = Held([part.x for part in parts], labels, None, (), {}, "", where, [part.name for part in parts])
    _check_held(found, config, held, asked)


def _check_held(found: Checked, config: OwnArrays, held: Held, asked: Asked) -> None:
    found.total = len(held.labels)
    found.classes = held.classes
    found.how = "y" + ("" if len(held.x) > 1 else f", splits drawn with seed {config.split.seed}")
    sides = np.full(found.total, -1, np.int8)
    for split, numbers in held.parts.items():
        sides[numbers] = SPLITS.index(split)
        counted = np.bincount(held.labels[numbers], minlength=len(held.classes)) if held.classes else [len(numbers)]
        found.counts[split] = [int(each) for each in counted]
    if held.parts:
        classes.tell_names(found.notes, held.classes)
        classes.tell_splits(found.notes, held.classes, found.counts)
        classes.tell_weights(found.notes, held.classes, found.counts["train"])
    numbers = _drawn(held.x, asked)
    found.read = len(numbers)
    shape = held.x[0].shape[1:]
    axes = _axes(found, config, shape, held.names[0])
    ranges, contents = Ranges(shape), duplicates.Contents()
    measured: list[tuple[int, float, float]] = []
    drawn: set[int] = set()
    done = 0
    for name, first, rows, x in _pieces(held, numbers):
        asked.progress("reading arrays", done := done + len(rows), len(numbers))
        ranges.add(x, found.notes, name, rows - first)
        for number, sample in zip(rows.tolist(), x, strict=True):
            contents.add(number, np.ascontiguousarray(sample).tobytes())
            with np.errstate(all="ignore"):
                wide = sample.astype(np.float64)
                measured.append((number, float(wide.mean()), float(wide.std())))
            if (label := int(held.labels[number])) not in drawn and axes:
                drawn.add(label)
                found.examples += _example(label, f"sample {number}", sample, axes)
    found.facts["copies"] = duplicates.tell(
        found.notes, contents.groups(), _told_apart(held), sides, lambda number: f"sample {number}", "sample"
    )
    _write(found, config, ranges, measured, held.labels, axes)
    if held.numbers is not None:
        values = spread(held.numbers.ravel())
        found.facts["targets"] = values
        found.lines.append(f"target values, {held.numbers.shape[1]} per sample: {told(values)}")
        for k in range(min(2, held.numbers.shape[1])):
            zeros = np.zeros(len(held.numbers), np.int32)
            found.measures.append(Measure(f"y[{k}]", held.numbers[:, k].astype(np.float64), zeros))
        if constant := [k for k in range(held.numbers.shape[1]) if np.ptp(held.numbers[:, k]) == 0]:
            found.notes.note(
                f"y[:, {constant[0]}] is the same for every sample", "a network learns nothing from it: leave it out"
            )


def _told_apart(held: Held) -> NDArray[np.int32]:
    """Return a number for each target, so that equal samples with other targets are seen."""
    if held.numbers is None:
        return held.labels
    found: NDArray[np.int32] = np.unique(held.numbers, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    return found


def _drawn(x: Sequence[Array], asked: Asked) -> NDArray[np.int64]:
    """Return the samples that are read: all, or as many as `_BYTES` hold."""
    count = sum(len(each) for each in x)
    one = max(1, x[0][0].nbytes)
    if asked.most is None or count * one <= _BYTES:
        return np.arange(count)
    most = max(1, min(count, max(asked.most, _BYTES // one)))
    return np.sort(np.random.default_rng(SEED).permutation(count)[:most])


def _pieces(held: Held, numbers: NDArray[np.int64]) -> Iterator[tuple[str, int, NDArray[np.int64], Array]]:
    """Yield samples in pieces: the name of their array, the number of its first sample, theirs, and they."""
    starts = np.cumsum([0, *(len(x) for x in held.x)])
    for x, name, first, after in zip(held.x, held.names, starts, starts[1:], strict=False):
        own = numbers[(numbers >= first) & (numbers < after)]
        step = max(1, _AT_ONCE // max(1, x[0].size))
        for begin in range(0, len(own), step):
            some = own[begin : begin + step]
            yield name, int(first), some, x[some - first]


def _axes(found: Checked, config: OwnArrays, shape: Sequence[int], name: str) -> str:
    try:
        return axes_of(config, shape, name)
    except DataError as error:
        found.notes.refuse(error)
        return ""


def _check_folders(found: Checked, config: OwnArrays, asked: Asked) -> None:
    listing = list_own(config, ARRAYS, tell=found.notes.refuse)
    folder = survey(found, listing, asked)
    shapes: Counter[tuple[int, ...]] = Counter()
    ranges: Ranges | None = None
    axes = ""
    measured: list[tuple[int, float, float]] = []
    drawn: set[int] = set()
    for done, number in enumerate(folder.numbers.tolist(), 1):
        asked.progress("reading arrays", done, len(folder.numbers))
        try:
            sample = read_sample(listing.path(number))
            folder.contents.add_file(number, listing.path(number))
        except DataError as error:
            found.notes.refuse(error, folder.name(number))
            continue
        shapes[sample.shape] += 1
        if ranges is None:
            ranges = Ranges(sample.shape)
            axes = _axes(found, config, sample.shape, str(listing.path(number)))
        if sample.shape != ranges.shape:
            unlike = DataError(
                f"{listing.path(number)} has shape {list(sample.shape)}, and others of {list(ranges.shape)}",
                "all samples must have the same shape: cut or pad them first",
            )
            found.notes.refuse(unlike, folder.name(number))
            continue
        ranges.add(sample[None], found.notes, str(listing.path(number)), None, folder.name(number))
        with np.errstate(all="ignore"):
            wide = sample.astype(np.float64)
            measured.append((number, float(wide.mean()), float(wide.std())))
        if (label := folder.label(number)) not in drawn and axes:
            drawn.add(label)
            found.examples += _example(label, folder.name(number), sample, axes)
    folder.tell_copies(found)
    found.facts["shapes"] = {"x".join(map(str, shape)): count for shape, count in shapes.most_common(20)}
    if ranges is not None:
        _write(found, config, ranges, measured, listing.labels, axes)


def _example(label: int, name: str, sample: Array, axes: str) -> list[Example]:
    """Return one sample to be drawn, as a picture or as a series."""
    values = np.nan_to_num(sample.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if "H" in axes:
        # The first step and the first channel.
        index = tuple(slice(None) if letter in "HW" else 0 for letter in axes)
        drawn = values[index]
        return [Example(label, name, "map", drawn if axes.index("H") < axes.index("W") else drawn.T)]
    if "T" not in axes:
        return [Example(label, name, "series", values.reshape(-1)[:4096, None])]
    time = np.moveaxis(values, axes.index("T"), 0)
    return [Example(label, name, "series", time.reshape(len(time), -1)[:4096, :32])]


def _write(
    found: Checked,
    config: OwnArrays,
    ranges: Ranges,
    measured: Sequence[tuple[int, float, float]],
    labels: NDArray[np.int32],
    axes: str,
) -> None:
    ranges.tell(found.notes, config.normalise is not None)
    if axes and ranges.each is not None and ranges.dtype is not None:
        low, high = (by_channel(values, axes) for values in ranges.each)
        channels = low.shape[-1]
        try:
            check_coarse(
                low.reshape(-1, channels).min(0), high.reshape(-1, channels).max(0), ranges.dtype, str(config.path)
            )
        except DataError as error:
            found.notes.refuse(error)
    rows = np.array(measured, np.float64).reshape(-1, 3)
    finite = np.isfinite(rows).all(1)
    rows = rows[finite]
    of = labels[rows[:, 0].astype(np.int64)]
    found.measures += [
        Measure("mean of a sample", rows[:, 1], of),
        Measure("deviation within a sample", rows[:, 2], of),
    ]
    found.facts |= {"shape": list(ranges.shape), "axes": axes, **ranges.plain()}
    found.lines += [f"a sample: {list(ranges.shape)}{f', axes {axes}' if axes else ''}", *ranges.lines()]
