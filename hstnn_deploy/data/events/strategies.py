"""Other ways to store event recordings, as splits, to measure against ours: their batches equal ours.

They hold what tonic makes: a recording's frames as an array of int16, [T, polarities, height, width]. Frames that are
kept cannot be cropped at another time, so that of these splits `Naive` alone crops at random.

Shapes: T frames, B batch, N recordings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data.events.frames import Framing, Read
from hstnn_deploy.data.splits import Batch, Split

Frames = NDArray[np.int16]
"""[T, polarities, height, width]."""
Told = Callable[[int, int], None]
"""Told how many of how many recordings are done."""


@dataclass(frozen=True)
class Naive:
    """Every recording is read, transformed and framed by tonic's ToFrame whenever it is asked for; nothing is kept."""

    read: Read
    framing: Framing
    target: Tensor
    """[N], int64."""

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, number: int) -> tuple[Frames, int]:
        """Return one recording from its beginning, and its class, as a data set of tonic's does.

        Raises:
            IndexError: there are fewer.
        """
        return self.frames(number), int(self.target[number])

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`. Random crops are drawn as `EventSplit` draws them."""
        random = self.framing.random
        drawn: Sequence[float | None] = (
            torch.rand(len(indices), dtype=torch.float64).tolist() if random else [None] * len(indices)
        )
        framed = [self.frames(int(number), at) for number, at in zip(indices, drawn, strict=True)]
        return _collated(framed, self.target[indices], self.framing, device)

    def frames(self, number: int, drawn: float | None = None) -> Frames:
        """Return one recording's frames.

        Args:
            number: which.
            drawn: 0 to 1: where among the possible beginnings the first frame begins; None: with the recording.
        """
        from tonic.functional import to_frame_numpy

        events, framing = self.read(number), self.framing
        start, last = 0, int(events["t"][-1]) if len(events) else 0
        if framing.steps is None:
            length = (last // framing.frame_time + 1) * framing.frame_time
        else:
            length = framing.steps * framing.frame_time
            if drawn is not None:
                room = last // framing.tick + 1 - framing.steps * framing.per_frame
                start = int(drawn * (max(room, 0) + 1)) * framing.tick
        found: Frames = to_frame_numpy(
            events, tuple(framing.sensor), time_window=framing.frame_time, start_time=start, end_time=start + length
        )
        return found.clip(max=1) if framing.binary else found


@dataclass(frozen=True)
class TonicDisk:
    """tonic's DiskCachedDataset: a compressed HDF5 file of frames for each recording, written when it is first read."""

    kept: Any
    framing: Framing
    target: Tensor

    @classmethod
    def of(cls, naive: Naive, folder: Path) -> "TonicDisk":
        """Return the recordings of `naive`, kept in a folder."""
        from tonic import DiskCachedDataset

        return cls(DiskCachedDataset(naive, str(folder)), naive.framing, naive.target)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        framed = [self.kept[int(number)][0] for number in indices]
        return _collated(framed, self.target[indices], self.framing, device)


@dataclass(frozen=True)
class Dense:
    """All frames as one tensor, in host memory or on a device."""

    frames: Tensor
    """[N, T, …], int16; of whole recordings, T is the longest one's."""
    target: Tensor
    lengths: Tensor | None
    """Frames of each, [N], of whole recordings; else None."""

    @classmethod
    def of(cls, naive: Naive, device: torch.device, steps: int, told: Told) -> "Dense":
        """Return the recordings of `naive`, which have at most `steps` steps, on a device."""
        frames = torch.zeros(len(naive), steps, *naive.framing.sensor.step, dtype=torch.int16)
        lengths = torch.full((len(naive),), steps)
        for number in range(len(naive)):
            one = torch.from_numpy(naive.frames(number)).flatten(1).view(-1, *naive.framing.sensor.step)
            frames[number, : len(one)], lengths[number] = one, len(one)
            told(number + 1, len(naive))
        kept = lengths if naive.framing.steps is None else None
        return cls(frames.to(device), naive.target, kept)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        lengths = None if self.lengths is None else self.lengths[indices]
        x = self.frames[indices.to(self.frames.device)]
        x = x if lengths is None else x[:, : int(lengths.max())]
        x = x.to(device).movedim(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return Batch(x, self.target[indices].to(device), None if lengths is None else lengths.to(device))

    def storages(self) -> list[Tensor]:
        """Return what is kept."""
        return [self.frames, self.target, *([] if self.lengths is None else [self.lengths])]


@dataclass(frozen=True)
class Sparse:
    """Each recording's frames as a sparse tensor on a device, `to_dense` per batch."""

    frames: Sequence[Tensor]
    """N of [T, …], float32, coordinates (COO); of whole recordings, T is the longest one's."""
    target: Tensor
    lengths: Tensor | None
    """Frames of each, [N], of whole recordings; else None."""

    @classmethod
    def of(cls, naive: Naive, device: torch.device, steps: int, told: Told) -> "Sparse":
        """Return the recordings of `naive`, which have at most `steps` steps, on a device."""
        found, lengths = [], []
        for number in range(len(naive)):
            one = torch.from_numpy(naive.frames(number)).flatten(1).view(-1, *naive.framing.sensor.step)
            kept = one.float().to_sparse()
            whole = torch.sparse_coo_tensor(
                kept.indices(), kept.values(), (steps, *one.shape[1:]), is_coalesced=True, check_invariants=False
            )
            found.append(whole.to(device))
            lengths.append(len(one))
            told(number + 1, len(naive))
        return cls(found, naive.target, torch.tensor(lengths) if naive.framing.steps is None else None)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        x = torch.stack([self.frames[int(number)] for number in indices], dim=1).to_dense().to(device)
        lengths = None if self.lengths is None else self.lengths[indices]
        if lengths is not None:
            x = x[: int(lengths.max())]
        return Batch(x, self.target[indices].to(device), None if lengths is None else lengths.to(device))

    def storages(self) -> list[Tensor]:
        """Return what is kept."""
        parts = [part for each in self.frames for part in (each.indices(), each.values())]
        return [*parts, self.target, *([] if self.lengths is None else [self.lengths])]


def equal(one: Batch, other: Batch) -> bool:
    """Return whether two batches are the same to the bit."""
    if one.lengths is None or other.lengths is None:
        same = one.lengths is other.lengths
    else:
        same = torch.equal(one.lengths, other.lengths)
    return (
        same
        and one.x.dtype == other.x.dtype
        and one.x.is_contiguous() == other.x.is_contiguous()
        and torch.equal(one.x, other.x)
        and torch.equal(one.target, other.target)
    )


def first_difference(splits: dict[str, Split], indices: Tensor, device: torch.device) -> str | None:
    """Return the name of the first split whose batch of `indices` is not equal to the first one's; None: all are.

    Random crops are drawn alike for each, from torch's global generator, which is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        first: Batch | None = None
        for name, split in splits.items():
            torch.manual_seed(0)
            batch = split.batch(indices, device)
            first = first or batch
            if not equal(first, batch):
                return name
    return None


def _collated(framed: Sequence[Frames], target: Tensor, framing: Framing, device: torch.device) -> Batch:
    """Return frames of single recordings, padded to the longest, as a batch."""
    lengths = None
    if framing.steps is None:
        lengths = torch.tensor([len(each) for each in framed])
        longest = int(lengths.max())
        framed = [np.pad(each, ((0, longest - len(each)), (0, 0), (0, 0), (0, 0))) for each in framed]
    stacked = torch.from_numpy(np.stack(framed)).flatten(2).view(len(framed), -1, *framing.sensor.step)
    x = stacked.to(device).movedim(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return Batch(x, target.to(device), None if lengths is None else lengths.to(device))
