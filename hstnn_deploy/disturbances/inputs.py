"""Splits of a data set whose samples are disturbed when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.dataset import Recordings
from hstnn_deploy.data.encoding import as_steps
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.preprocessing import Frames, framed
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances.adversary import ATTACKS
from hstnn_deploy.disturbances.disturbance import stream
from hstnn_deploy.disturbances.events import EVENTS, Recorded
from hstnn_deploy.disturbances.values import VALUES, Range
from hstnn_deploy.disturbances.words import WORDS
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task

_KEPT = 2**30
"""Bytes of raw events that are kept in memory from one level to the next."""


def range_of(split: Split, size: int) -> Range:
    """Return between which values the inputs of a split lie; steps past a sample's length do not count.

    Raises:
        UsageError: they are all the same.
    """
    low, high = np.inf, -np.inf
    for numbers in torch.arange(len(split)).split(size):
        x, _, lengths = split.batch(numbers, torch.device("cpu"))
        valid = x if lengths is None else x[torch.arange(len(x))[:, None] < lengths]
        low, high = min(low, float(valid.min())), max(high, float(valid.max()))
    if not low < high:
        raise UsageError(f"all values of the split are {low:g}, so there is no range to disturb them in")
    return Range(low, high)


@dataclass(frozen=True)
class DisturbedValues:
    """A split whose values are disturbed, sample by sample."""

    whole: Split
    name: str
    level: float
    draw: int
    span: Range
    longest: int | None = None
    """The most steps that the network takes; None: any."""

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """See `Split`.

        Raises:
            UsageError: a sample becomes longer than the network takes.
        """
        x, target, lengths = self.whole.batch(indices, torch.device("cpu"))
        _, apply = VALUES[self.name]
        ends = [len(x)] * x.shape[1] if lengths is None else lengths.tolist()
        made = [
            apply(x[:end, place].numpy(), self.level, self.span, stream(self.name, self.draw, number))
            for place, (end, number) in enumerate(zip(ends, indices.tolist(), strict=True))
        ]
        most = max(map(len, made))
        if self.longest is not None and most > self.longest:
            raise UsageError(
                f"--disturb {self.name}={self.level:g} makes {most} steps, but the network takes {self.longest} at most"
            )
        return _joined(made, target, lengths is not None, device)


OF_THE_PICTURE = ("gaussian", "salt-pepper", "occlusion", "contrast", "sign-noise")
"""What acts on a whole image itself, before it becomes steps; else each of its steps would be disturbed by itself."""


@dataclass(frozen=True)
class DisturbedImages:
    """A split of whole images that are disturbed before they are normalised and encoded; 0 is black, 1 white."""

    whole: ImageSplit
    name: str
    level: float
    draw: int

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """See `Split`."""
        whole, (_, apply) = self.whole, VALUES[self.name]
        chosen = indices if whole.numbers is None else whole.numbers[indices]
        pixels = whole.pixels[chosen].cpu().numpy().astype(np.float32) / whole.white
        numbers = indices.tolist()
        made = [
            apply(image[None], self.level, Range(0.0, 1.0), stream(self.name, self.draw, number))[0]
            for image, number in zip(pixels, numbers, strict=True)
        ]
        x = as_steps(np.stack(made), 1, whole.how, numbers)
        return Batch(torch.from_numpy(x).to(device), whole.target[indices].to(device))


def disturbed_values(
    split: Split, name: str, level: float, draw: int, span: Callable[[], Range], longest: int | None
) -> Split:
    """Return a split whose values are disturbed: whole images themselves, where a disturbance acts on these.

    Args:
        split: as evaluation sees it.
        name: of the disturbance.
        level: how strong.
        draw: the number of the draw.
        span: gives the range of the inputs, where it is needed.
        longest: the most steps that the network takes; None: any.
    """
    if isinstance(split, ImageSplit) and name in OF_THE_PICTURE:
        return DisturbedImages(split, name, level, draw)
    return DisturbedValues(split, name, level, draw, span(), longest)


@dataclass(frozen=True)
class DisturbedEvents:
    """A split of recordings whose raw events are disturbed before they are framed."""

    recordings: Recordings
    how: Frames
    name: str
    level: float
    draw: int
    known: dict[int, Events] = field(repr=False)
    """Raw events by the number of the recording, as far as they are kept."""

    def __len__(self) -> int:
        return len(self.recordings.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """See `Split`."""
        _, apply = EVENTS[self.name]
        made = []
        for number in indices.tolist():
            events = self._raw(number)
            fixed = self.how.steps * self.how.frame_time if self.how.steps else None
            span = fixed or (int(events["t"][-1]) + 1 if len(events) else 1)
            seen = Recorded(self.how.sensor, span, stream(f"{self.name} of the sensor", self.draw))
            disturbed = apply(events, self.level, seen, stream(self.name, self.draw, number))
            made.append(framed(disturbed, self.how).numpy())
        return _joined(made, self.recordings.target[indices], self.how.length is None, device)

    def _raw(self, number: int) -> Events:
        if number not in self.known:
            events = self.recordings.read(number)
            if sum(each.nbytes for each in self.known.values()) + events.nbytes > _KEPT:
                return events
            self.known[number] = events
        return self.known[number]


def _joined(made: Sequence[Any], target: Tensor, padded: bool, device: torch.device) -> Batch:
    """Return samples [T', …] as a batch; where they are not of one length, or were not, with their lengths."""
    ends = [len(each) for each in made]
    x = torch.zeros((max(ends), len(made), *made[0].shape[1:]))
    for place, each in enumerate(made):
        x[: len(each), place] = torch.from_numpy(np.ascontiguousarray(each, np.float32))
    lengths = torch.tensor(ends, device=device) if padded or len(set(ends)) > 1 else None
    return Batch(x.to(device), target.to(device), lengths)


@dataclass(frozen=True)
class DisturbedText(TextSplit):
    """A text of which other words are read than are to be predicted."""

    seen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """[N] int64: what is read at each place."""

    def windows(self, batch: int, device: torch.device) -> Any:
        """See `TextSplit`."""
        read = replace(self, tokens=self.seen)
        theirs = TextSplit.windows(read, batch, device)
        for true, other in zip(TextSplit.windows(self, batch, device), theirs, strict=True):
            yield Batch(other.x, true.target)


def disturbed_text(split: TextSplit, name: str, level: float, draw: int) -> DisturbedText:
    """Return a text of which other words are read."""
    _, apply = WORDS[name]
    seen = torch.from_numpy(apply(split.tokens.numpy(), level, stream(name, draw)))
    return DisturbedText(split.tokens, split.bptt, split.name, seen)


@dataclass(frozen=True)
class Attacked:
    """A split whose samples are those that an adversary makes of them."""

    whole: Split
    name: str
    level: float
    draw: int
    span: Range
    network: Network
    """Whose gradient the adversary knows."""
    task: Task

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """See `Split`."""
        batch = self.whole.batch(indices, device)
        _, attack = ATTACKS[self.name]
        draws = [stream(self.name, self.draw, number) for number in indices.tolist()]
        self.network.eval()
        return batch._replace(x=attack(self.network, self.task, batch, self.level, self.span, draws))
