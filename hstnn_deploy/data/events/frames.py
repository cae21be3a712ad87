"""From events to frames: recordings packed as ascending cell numbers, counted into dense frames per batch.

A cell is a place of the sensor at a tick of time: cell = (t // tick) * places + (p * height + y) * width + x. A frame
is `per_frame` ticks long. With frames at fixed times a tick is a frame, and only events within the window are packed;
with random crops it is a divisor of the frame of at most a millisecond, and the whole recording is packed, so that a
crop is a cut between two cells and its frames are exact. There is this one binning, whatever the cache.

Where a recording is cut into frames in another way (see `kinds`), a tick is a frame by number; where recordings differ
in how many they have, a last cell beyond all others says so.

Shapes: T frames, B batch, N recordings of a split.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key, Ragged
from hstnn_deploy.data.dataset import Cache
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.events.kinds import FrameKind
from hstnn_deploy.data.events.transforms import Transform, sensor_after
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.errors import DataError

_FINEST = 1000
"""Microseconds from one possible beginning of a random crop to the next: the resolution of tonic's DVS-Gesture."""

Read = Callable[[int], Events]
"""Returns a recording of a split by number, transformed."""


@dataclass(frozen=True)
class Framing:
    """How events become frames."""

    sensor: Sensor
    """What the events come from, after all transforms."""
    frame_time: int
    """Microseconds."""
    steps: int | None
    """Frames T per sample; None: as many as the recording has, at least 1."""
    random: bool = False
    """Whether the frames may begin at any time, not only with the recording."""
    binary: bool = False
    """Whether a frame says only that there were events, not how many."""
    kind: FrameKind | None = None
    """How a recording is cut into frames; None: at fixed times. See `of_kind`."""

    @classmethod
    def of_kind(cls, sensor: Sensor, transforms: Sequence[Transform], kind: FrameKind, binary: bool) -> "Framing":
        """Return the framing of a sensor's events by a kind, which says itself how many frames there are."""
        seen, factor = sensor_after(transforms, sensor), kind.pick or 1
        seen = seen._replace(width=-(-seen.width // factor), height=-(-seen.height // factor))
        return cls(seen, 1, kind.fixed, binary=binary, kind=kind)

    @property
    def ended(self) -> bool:
        """Whether a last cell of each row says how many frames it has."""
        return self.kind is not None and self.steps is None

    @property
    def tick(self) -> int:
        """Microseconds that a packed cell spans."""
        return math.gcd(self.frame_time, _FINEST) if self.random else self.frame_time

    @property
    def per_frame(self) -> int:
        """Ticks per frame."""
        return self.frame_time // self.tick

    def fixed(self) -> "Framing":
        """Return the same without random crops."""
        return replace(self, random=False)

    def pack(self, events: Events) -> NDArray[np.int32]:
        """Return the cells of events, ascending; one for each event, so that a count of c is c equal cells.

        Raises:
            DataError: the recording is too long for cells of 31 bits.
        """
        if self.kind is not None:
            return self._cut(events, self.kind)
        if len(events) == 0:
            return np.empty(0, np.int32)
        width, height, _ = self.sensor
        place = (events["p"].astype(np.int64) * height + events["y"]) * width + events["x"]
        cells = events["t"].astype(np.int64) // self.tick * self.sensor.places + place
        if self.steps is not None and not self.random:
            cells = cells[cells < self.steps * self.sensor.places]
        if len(cells) and cells.max() >= 2**31:
            raise self._too_long(f"{events['t'][-1] / 1e6:.0f} s of events")
        return np.sort(cells).astype(np.int32)

    def _cut(self, events: Events, kind: FrameKind) -> NDArray[np.int32]:
        frame, count = kind.cut(events["t"].astype(np.int64))
        width, height, places = self.sensor.width, self.sensor.height, self.sensor.places
        if count * places >= 2**31:
            raise self._too_long(f"{count} frames")
        x, y, kept = events["x"].astype(np.int64), events["y"].astype(np.int64), frame >= 0
        if kind.pick:
            kept &= (x % kind.pick == 0) & (y % kind.pick == 0)
            x, y = x // kind.pick, y // kind.pick
        cells = np.sort((frame * places + (events["p"].astype(np.int64) * height + y) * width + x)[kept])
        return (np.append(cells, count * places) if self.ended else cells).astype(np.int32)

    def _too_long(self, what: str) -> DataError:
        return DataError(
            f"{what} on {self.sensor.places} places are too many to pack",
            "downsample the events, or crop them in time",
        )


@dataclass(frozen=True)
class Packed:
    """Recordings as cells, on one device or mapped from disk."""

    rows: Ragged
    framing: Framing

    @cached_property
    def ends(self) -> Tensor:
        """The ticks from each recording's beginning to its end, just after its last event, at least 1; [N]."""
        first, after = self.rows.offsets[:-1], self.rows.offsets[1:]
        if len(self.rows.values) == 0:
            return torch.ones_like(first)
        last = self.rows.values[(after - 1).clamp(min=0)].long() // self.framing.sensor.places
        return last if self.framing.ended else torch.where(after > first, last + 1, 1)

    @cached_property
    def _halvings(self) -> int:
        """How often the longest recording can be halved."""
        lengths = self.rows.offsets.diff()
        return int(lengths.max()).bit_length() if len(lengths) else 0

    def draw(self, numbers: Tensor) -> Tensor:
        """Return the tick at which each recording's random crop begins, from torch's global generator; [B].

        A recording shorter than the crop begins at 0, and the last frames are empty.
        """
        framing = self.framing
        assert framing.steps is not None, "whole recordings are not cropped"
        room = (self.ends[numbers.to(self.ends.device)] - framing.steps * framing.per_frame).clamp(min=0)
        drawn = torch.rand(len(numbers), dtype=torch.float64).to(room.device)
        return (drawn * (room + 1)).long()

    def frames(self, numbers: Tensor, starts: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Count the events of some recordings into frames.

        Args:
            numbers: which, [B].
            starts: the tick at which each one's first frame begins, [B]; None: 0.
            device: where the frames are wanted; they are counted there.

        Returns:
            Frames [T, B, …], float32, and, of whole recordings, how many each one has, [B]; frames past them are empty.
        """
        framing, (values, offsets) = self.framing, self.rows
        places, span = framing.sensor.places, framing.per_frame * framing.sensor.places
        numbers = numbers.to(offsets.device)
        first, after = offsets[numbers], offsets[numbers + 1]
        if framing.ended:
            after = after - 1
        steps, lengths = framing.steps, None
        if steps is None:
            lengths = -(-self.ends[numbers] // framing.per_frame)
            steps = int(lengths.max())
        if starts is not None:
            begin = starts.to(offsets.device) * places
            first, after = self._search(first, after, begin), self._search(first, after, begin + steps * span)
        count = after - first
        # Where each cell that is wanted stands, and which sample of the batch it belongs to.
        total = int(count.sum())
        owner = torch.repeat_interleave(count, output_size=total)
        before = torch.repeat_interleave(first - (count.cumsum(0) - count), count, output_size=total)
        cells = values[before + torch.arange(total, device=values.device)]
        cells, owner = cells.to(device).long(), owner.to(device)
        if starts is not None:
            cells -= (starts.to(device) * places)[owner]
        seen = ((cells // span) * len(numbers) + owner) * places + cells % places
        frames = torch.zeros(steps * len(numbers) * places, device=device)
        # Sums of ones are exact in any order.
        frames.index_add_(0, seen, torch.ones(total, device=device))
        if framing.binary:
            frames.clamp_(max=1)
        return frames.view(steps, len(numbers), *framing.sensor.step), None if lengths is None else lengths.to(device)

    def _search(self, low: Tensor, high: Tensor, wanted: Tensor) -> Tensor:
        """Return where in each row [low, high) the first cell of at least `wanted` stands, or `high`; all [B]."""
        last = len(self.rows.values) - 1
        for _ in range(self._halvings + 1):
            middle = (low + high) // 2
            less = (low < high) & (self.rows.values[middle.clamp(max=last)] < wanted if last >= 0 else low < low)
            low, high = torch.where(less, middle + 1, low), torch.where(less, high, middle)
        return low


class Store(Protocol):
    """Where the recordings of a split are kept."""

    def fetch(self, numbers: Tensor, device: torch.device) -> tuple[Packed, Tensor]:
        """Return something that holds the recordings `numbers`, [B], and their numbers in there."""
        ...


@dataclass(frozen=True)
class Kept(Store):
    """All recordings packed, mapped from disk or in memory."""

    packed: Packed

    @override
    def fetch(self, numbers: Tensor, device: torch.device) -> tuple[Packed, Tensor]:
        return self.packed, numbers


@dataclass(frozen=True)
class Resident(Store):
    """All recordings packed, copied to each device on first use."""

    packed: Packed
    _there: dict[torch.device, Packed] = field(default_factory=dict)

    @override
    def fetch(self, numbers: Tensor, device: torch.device) -> tuple[Packed, Tensor]:
        if device not in self._there:
            self._there[device] = replace(self.packed, rows=self.packed.rows.to(device))
        return self._there[device], numbers


@dataclass(frozen=True)
class Computed(Store):
    """Nothing is kept: every recording is read and transformed each time it is needed."""

    read: Read
    framing: Framing

    @override
    def fetch(self, numbers: Tensor, device: torch.device) -> tuple[Packed, Tensor]:
        rows = cache.in_memory(None, lambda: (self.framing.pack(self.read(int(number))) for number in numbers))
        return Packed(rows, self.framing), torch.arange(len(numbers))


def make_store(
    read: Read, count: int, framing: Framing, where: Cache, key: Key | None, progress: Callable[[int, int], None]
) -> Store:
    """Return a store of the recordings 0 … count - 1, which are prepared now unless nothing is to be kept.

    Args:
        read: reads and transforms one.
        count: how many there are.
        framing: how they become frames.
        where: what keeps them.
        key: of the entry on disk; None: it is in memory what would be on disk.
        progress: told how many of how many are prepared.

    Raises:
        DataError: a recording is damaged, or the cache cannot be written.
    """
    if where == "none":
        return Computed(read, framing)

    def rows() -> Iterator[NDArray[np.int32]]:
        for number in range(count):
            yield framing.pack(read(number))
            progress(number + 1, count)

    kept = cache.on_disk(key, rows) if where == "disk" and key is not None else cache.in_memory(key, rows)
    packed = Packed(kept, framing)
    return Resident(packed) if where == "device" else Kept(packed)


Change = Callable[[int, Events], Events]
"""Returns other raw events of a recording by its number in the store."""


@dataclass(frozen=True)
class EventSplit:
    """Recordings as frames of event counts; or, of a cochlea, steps of channels."""

    store: Store
    framing: Framing
    target: Tensor
    """[n], int64."""
    numbers: Tensor
    """Which of the store's recordings these are, [n]."""
    random: bool = False
    """Whether a sample is cropped at a random time; otherwise it is the recording's beginning."""
    remade: Callable[[Change], Store] | None = field(default=None, repr=False, compare=False)
    """Returns a store of the same recordings whose raw events are changed whenever they are asked for; None: the raw
    events are not known."""

    @classmethod
    def of(cls, store: Store, framing: Framing, target: Tensor) -> "EventSplit":
        """Return the split of all recordings of a store."""
        return cls(store, framing, target, torch.arange(len(target)))

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`. Random crops are drawn from torch's global generator."""
        packed, rows = self.store.fetch(self.numbers[indices], device)
        starts = packed.draw(rows) if self.random else None
        if starts is None and self.framing.random:
            starts = torch.zeros(len(rows), dtype=torch.int64)
        x, lengths = packed.frames(rows, starts, device)
        return Batch(x, self.target[indices].to(device), lengths)

    def take(self, indices: Tensor) -> "EventSplit":
        """Return the split of some of the samples."""
        return replace(self, target=self.target[indices], numbers=self.numbers[indices])

    def cropped_at_random(self) -> "EventSplit":
        """Return the same samples, cropped at a random time at every presentation."""
        return replace(self, random=True)


def to_frames(events: Events, sensor: Sensor, frame_time: int, steps: int | None = None) -> Tensor:
    """Return one recording's events counted into frames [T, …]; see `Framing`."""
    return frames_of(events, Framing(sensor, frame_time, steps))


def frames_of(events: Events, framing: Framing) -> Tensor:
    """Return one recording's transformed events counted into frames [T, …]."""
    packed = Packed(cache.in_memory(None, lambda: [framing.pack(events)]), framing)
    return packed.frames(torch.zeros(1, dtype=torch.int64), None, torch.device("cpu"))[0][:, 0]
