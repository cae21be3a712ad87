"""What a bundle's graphs take, checked before they see it: arrays x, raw pixels, or raw events.

Raw samples go in where preprocessing is in the graph. Each kind says the same things of what it takes: whether it can
be, how many samples and steps it is, and how it is taken step by step. Needs numpy alone.

Shapes: T time, B batch, N events of all recordings of a batch.
"""

import math
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError
from hstnn_deploy.export.runtime.ranges import ANY, Range, trained_range

Array = NDArray[Any]

_FIELDS = ("recording", "time", "x", "y", "polarity")
"""Of a row of raw events."""


class Taking(Protocol):
    """What graphs take."""

    name: str
    """Of the input of a window graph."""
    values: int
    """How many numbers a step of one sample is, at most."""

    def shaped(self, x: Any, batch: int | None = None) -> Array:
        """Return a window as an array whose values are still to be checked; see `pieces`.

        Raises:
            DataError: it has another shape or type.
        """
        ...

    def checked(self, x: Any, time: bool = True, batch: int | None = None) -> Array:
        """Return x as the graphs take it.

        Args:
            x: a window, or what comes in one step.
            time: whether it is a window.
            batch: B, where it must be this.

        Raises:
            DataError: it is not possible.
        """
        ...

    def batch(self, x: Array) -> int:
        """Return how many samples a window is of."""
        ...

    def steps(self, x: Array, state: Mapping[str, Array] | None = None) -> int:
        """Return how many steps a window has.

        Args:
            x: the window.
            state: of raw events, the states before; None: the recordings begin.

        Raises:
            DataError: whole recordings, which differ in length, side by side.
        """
        ...

    def split(self, x: Array, frames: int | None = None, state: Mapping[str, Array] | None = None) -> Iterator[Array]:
        """Yield what of a window comes in each step.

        Args:
            x: the window.
            frames: of raw events, how many steps there are; None: as `steps` says.
            state: of raw events, the states before; None: the recordings begin.
        """
        ...

    def pieces(
        self, x: Array, length: int, frames: int | None = None, state: Mapping[str, Array] | None = None
    ) -> Iterator[tuple[Array, int | None]]:
        """Yield a window in pieces of `length` steps, the last one shorter, each checked when its turn comes.

        Args:
            x: the window, as `shaped` returned it.
            length: steps of a piece.
            frames: of raw events, how many steps there are; None: as `steps` says.
            state: of raw events, the states before; None: the recordings begin.

        Yields:
            What the graphs take; and, of raw events, how many frames it is.

        Raises:
            DataError: a value is not possible.
        """
        ...

    def samples(self, x: Array, start: int, stop: int) -> Array:
        """Return some samples of a window; of raw events, which are not in order, all."""
        ...

    def window(self, x: Array) -> Array:
        """Return a single step as a window."""
        ...


class Values:
    """Arrays x[T, B, …]: what a network takes; of a step [B, …].

    Args:
        step: the shape of one time step of one sequence; () where it is a word's number.
        words: how many words there are, where x is words by number; else None.
        trained: what x was in training, where it is not words.
    """

    def __init__(self, step: tuple[int, ...], words: int | None, trained: Range = ANY) -> None:
        self.name = "x"
        self.values = math.prod(step)
        self._step, self._words, self._trained = step, words, trained
        self._dtype = np.dtype(np.float32 if words is None else np.int64)

    def shaped(self, x: Any, batch: int | None = None) -> Array:
        """x must hold real numbers, or words by number."""
        values = self._shaped(x, ("T", "B" if batch is None else batch, *self._step))
        if batch is None:
            self._trained.check_steps(values.shape)
        return values

    def checked(self, x: Any, time: bool = True, batch: int | None = None) -> Array:
        """x must hold finite numbers that training can have had; or words that there are."""
        if time:
            return self._valued(self.shaped(x, batch))
        # What comes step by step comes as it should, as a rule: that costs nothing to see.
        if not (type(x) is np.ndarray and x.dtype == self._dtype and x.shape == (batch, *self._step)):
            x = self._shaped(x, ("B" if batch is None else batch, *self._step))
        return self._valued(x)

    def _shaped(self, x: Any, axes: tuple[Any, ...]) -> Array:
        values = _array(x)
        if values.dtype.kind not in ("biuf" if self._words is None else "iu"):
            wanted = "real numbers" if self._words is None else "whole numbers, the words'"
            raise DataError(f"x has type {values.dtype}; the network takes {wanted}")
        _fitting("x", values, axes)
        return values

    def _valued(self, values: Array, first: int = 0) -> Array:
        if self._words is not None:
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= self._words:
                raise DataError(f"x contains {low if low < 0 else high}; words are numbered 0 to {self._words - 1}")
            return np.ascontiguousarray(values, np.int64)
        if values.dtype != self._dtype:
            with np.errstate(over="ignore"):
                values = values.astype(self._dtype)
        values = np.ascontiguousarray(values)
        self._trained.check(values, first)
        return values

    def batch(self, x: Array) -> int:
        return int(x.shape[1])

    def steps(self, x: Array, state: Mapping[str, Array] | None = None) -> int:
        return len(x)

    def split(self, x: Array, frames: int | None = None, state: Mapping[str, Array] | None = None) -> Iterator[Array]:
        yield from x

    def pieces(
        self, x: Array, length: int, frames: int | None = None, state: Mapping[str, Array] | None = None
    ) -> Iterator[tuple[Array, None]]:
        for start in range(0, len(x), length):
            yield self._valued(x[start : start + length], start), None

    def samples(self, x: Array, start: int, stop: int) -> Array:
        return x[:, start:stop]

    def window(self, x: Array) -> Array:
        return x[None]


class Images:
    """Raw pixels of images [B, height, T], or [B, height, T, 3] in colours; of a step a column of them, without T.

    Args:
        how: the preprocessing that is in the graph, as plain data; see `data.preprocessing.Pixels`.
    """

    def __init__(self, how: Mapping[str, Any]) -> None:
        self.name = "image"
        self._height, self._white = int(how["height"]), int(how["white"])
        self._colours = (3,) if how["colours"] == 3 else ()
        self.values = self._height * int(how["colours"])

    def shaped(self, x: Any, batch: int | None = None) -> Array:
        return self.checked(x, batch=batch)

    def checked(self, x: Any, time: bool = True, batch: int | None = None) -> Array:
        """Pixels are bytes, up to what is white in the training's files."""
        values, name = _array(x), self.name if time else "column"
        if values.dtype != np.uint8:
            raise DataError(
                f"{name} has type {values.dtype}; the graph takes raw pixels, uint8 (0 to {self._white})",
                "preprocessing is in the graph: give pixels as an image file has them",
            )
        axes = ("B" if batch is None else batch, self._height, *(("T",) if time else ()), *self._colours)
        _fitting(name, values, axes)
        if (high := int(values.max())) > self._white:
            raise DataError(
                f"{name} contains {high}; white is {self._white} in the training data",
                f"scale pixels to 0 to {self._white}; `hstnn run` does so with image files",
            )
        return np.ascontiguousarray(values)

    def batch(self, x: Array) -> int:
        return len(x)

    def steps(self, x: Array, state: Mapping[str, Array] | None = None) -> int:
        return int(x.shape[2])

    def split(self, x: Array, frames: int | None = None, state: Mapping[str, Array] | None = None) -> Iterator[Array]:
        for column in range(x.shape[2]):
            yield np.ascontiguousarray(x[:, :, column])

    def pieces(
        self, x: Array, length: int, frames: int | None = None, state: Mapping[str, Array] | None = None
    ) -> Iterator[tuple[Array, None]]:
        for start in range(0, x.shape[2], length):
            yield np.ascontiguousarray(x[:, :, start : start + length]), None

    def samples(self, x: Array, start: int, stop: int) -> Array:
        return x[start:stop]

    def window(self, x: Array) -> Array:
        return x[:, :, None]


class RawEvents:
    """Raw events [N, 5] of B recordings: recording, microseconds since it began, x, y, polarity; in any order.

    A step takes those of its frame; events of other frames do no harm.

    Args:
        how: the preprocessing that is in the graph, as plain data; see `data.preprocessing.Frames`.
    """

    def __init__(self, how: Mapping[str, Any]) -> None:
        self.name = "events"
        self._sizes: tuple[int, int, int] = tuple(how["sensor"])
        self._frame_time, self._steps = int(how["frame_time"]), how["steps"]
        self._aligned = any(each["name"] == "time-alignment" for each in how["transforms"])
        self.values = math.prod(self._sizes)

    def shaped(self, x: Any, batch: int | None = None) -> Array:
        return self.checked(x, batch=batch)

    def checked(self, x: Any, time: bool = True, batch: int | None = None) -> Array:
        """Events lie on the sensor and after the beginning."""
        values = _array(x)
        if values.dtype.kind not in "iu":
            raise DataError(
                f"events have type {values.dtype}; the graph takes raw events, whole numbers",
                "preprocessing is in the graph: give events as they were recorded",
            )
        if values.ndim != 2 or values.shape[1] != len(_FIELDS):
            raise DataError(
                f"events have the shape {shown(values.shape)}; the graph takes [N, 5]: {', '.join(_FIELDS)}"
            )
        ends = (batch, None, *self._sizes)
        for number, (field, end) in enumerate(zip(_FIELDS, ends, strict=True)):
            column = values[:, number]
            wrong = np.flatnonzero((column < 0) | (column >= end) if end is not None else column < 0)
            if len(wrong):
                what = f"event {wrong[0]} of {len(values)} has {field} {column[wrong[0]]}"
                raise DataError(f"{what}; it must be 0 {'or more' if end is None else f'to {end - 1}'}")
        if batch is None and len(values) and (most := int(values[:, 0].max())) >= len(values):
            raise DataError(
                f"recording {most} of {len(values)} events: fewer events than recordings",
                f"the columns are {', '.join(_FIELDS)}; with a batch of many empty recordings, give their number",
            )
        return np.ascontiguousarray(values, np.int64)

    def batch(self, x: Array) -> int:
        """Recordings are numbered from 0; what comes after the last event's is not seen."""
        return int(x[:, 0].max(initial=0)) + 1

    def steps(self, x: Array, state: Mapping[str, Array] | None = None) -> int:
        """As many as in training; of whole recordings, as many as are still to come."""
        if self._steps:
            return int(self._steps)
        if (count := self.batch(x)) > 1:
            raise DataError(
                f"events of {count} recordings: whole recordings differ in length", "give one recording at a time"
            )
        return max(0, int(self._frames(x, state or {}).max(initial=0))) + 1

    def split(self, x: Array, frames: int | None = None, state: Mapping[str, Array] | None = None) -> Iterator[Array]:
        """Each step is given the events of its frame."""
        for now, _ in self.pieces(x, 1, frames, state):
            yield now

    def pieces(
        self, x: Array, length: int, frames: int | None = None, state: Mapping[str, Array] | None = None
    ) -> Iterator[tuple[Array, int]]:
        """Each piece is given the events of its frames."""
        steps = frames or self.steps(x, state)
        frame = self._frames(x, state or {})
        order = np.argsort(frame, kind="stable")
        ordered = frame[order]
        first = int(np.searchsorted(ordered, 0))
        for start in range(0, steps, length):
            stop = min(start + length, steps)
            last = int(np.searchsorted(ordered, stop))
            # The graph looks for the first event itself.
            yield x if self._aligned and start == 0 else x[order[first:last]], stop - start
            first = last

    def samples(self, x: Array, start: int, stop: int) -> Array:
        return x

    def _frames(self, x: Array, before: Mapping[str, Array]) -> Array:
        """Return each event's frame, counted from those seen before."""
        recording, time = x[:, 0], x[:, 1]
        nothing = np.zeros(int(recording.max(initial=0)) + 1, np.int64)
        if self._aligned:
            first = np.full_like(before.get("began", nothing), np.iinfo(np.int64).max)
            np.minimum.at(first, recording, time)
            began = before.get("began", nothing)
            time = time - np.where(began > 0, began - 1, first)[recording]
        found: Array = time // self._frame_time - before.get("frames_seen", nothing)[recording]
        return found

    def window(self, x: Array) -> Array:
        return x


def taking(tensors: Mapping[str, Any], how: Mapping[str, Any], any_range: bool = False) -> Taking:
    """Return what a file of a bundle takes.

    Args:
        tensors: what the manifest says of the file.
        how: the preprocessing of the bundle, as plain data.
        any_range: whether arrays x may hold what training cannot have had.

    Raises:
        DataError: it takes raw events, and the preprocessing is not one that a graph can hold.
    """
    x = tensors["inputs"][0]
    match x["name"]:
        case "image" | "column":
            return Images(how)
        case "events" | "frame_events":
            if "frame_time" not in how:
                raise DataError(
                    "the bundle takes raw events, but its preprocessing has no frame_time", "export the bundle again"
                )
            return RawEvents(how)
        case _:
            step = x["shape"][1 if tensors["form"] == "step" else 2 :]
            if x["dtype"] == "int64":
                return Values(tuple(step), tensors["outputs"][0]["shape"][-1])
            return Values(tuple(step), None, ANY if any_range else trained_range(how))


def shown(shape: Collection[Any]) -> str:
    """Return a shape or place in words."""
    return f"[{', '.join(map(str, shape))}]"


def _array(x: Any) -> Array:
    # Whoever made a masked array has imported what it takes.
    if "numpy.ma" in sys.modules and isinstance(x, np.ma.MaskedArray):
        raise DataError("x is a masked array: its masked values are unknown", "give x.filled(…)")
    try:
        return np.asarray(x)
    except ValueError as error:
        raise DataError("x is not an array: its rows differ in length") from error


def _fitting(name: str, values: Array, axes: tuple[Any, ...]) -> None:
    """Refuse an array of another shape; an axis that is free goes by its name."""
    fits = values.ndim == len(axes) and all(
        size > 0 if isinstance(axis, str) else size == axis for size, axis in zip(values.shape, axes, strict=True)
    )
    if not fits:
        raise DataError(f"{name} has shape {shown(values.shape)}; the network takes {shown(axes)}")
