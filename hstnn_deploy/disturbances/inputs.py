"""Splits of a data set that disturb samples on access."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.dataset import Recordings
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.events.frames import EventSplit
from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.preprocessing import Frames, framed
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances.adversary import ATTACKS
from hstnn_deploy.disturbances.disturbance import Draw, Trained, drawn, stream
from hstnn_deploy.disturbances.events import EVENTS, Recorded
from hstnn_deploy.disturbances.values import VALUES, Range
from hstnn_deploy.disturbances.words import WORDS, Level
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task

_KEPT = 2**30
"""Bytes of raw events that are kept in memory from one level to the next."""


def range_of(split: Split, size: int) -> Range:
    """Return between which values the inputs of a split lie; steps past a sample's length do not count.

    Raises:
        UsageError: they are all equal.
    """
    low, high = np.inf, -np.inf
    for numbers in torch.arange(len(split)).split(size):
        x, _, lengths = split.batch(numbers, torch.device("cpu"))
        valid = x if lengths is None else x[torch.arange(len(x))[:, None] < lengths]
        low, high = min(low, float(valid.min())), max(high, float(valid.max()))
    if not low < high:
        raise UsageError(f"all values of the split are {low:g}, so they have no range for a disturbance")
    return Range(low, high)


@dataclass(frozen=True)
class DisturbedValues(Split):
    """A split whose values are disturbed, sample by sample."""

    whole: Split
    name: str
    level: float
    draw: Draw
    span: Range
    longest: int | None = None
    """The most steps that the network takes; None: any."""

    def __len__(self) -> int:
        return len(self.whole)

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`, disturbed, on `device`.

        Raises:
            UsageError: a sample becomes longer than the network takes.
        """
        x, target, lengths = self.whole.batch(indices, torch.device("cpu"))
        disturbance, apply = VALUES[self.name]
        ends = [len(x)] * x.shape[1] if lengths is None else lengths.tolist()
        made = []
        for place, (end, number) in enumerate(zip(ends, indices.tolist(), strict=True)):
            level, generator = drawn(disturbance, self.level, self.draw, number)
            made.append(apply(x[:end, place].numpy(), level, self.span, generator))
        most = max(map(len, made))
        if self.longest is not None and most > self.longest:
            raise UsageError(
                f"{self.name} of {self.level:g} makes {most} steps, but the network takes at most {self.longest}"
            )
        return _joined(made, target, lengths is not None, device)


OF_THE_PICTURE = ("gaussian", "salt-pepper", "occlusion", "contrast", "sign-noise")
"""What acts on a whole image itself, before it becomes steps; else each of its steps would be disturbed by itself."""


def disturbed_images(split: ImageSplit, names: Mapping[str, float], draw: Draw) -> ImageSplit:
    """Return a split of whole images that are disturbed before they are normalised and encoded; 0 is black, 1 white.

    Args:
        split: of images.
        names: the disturbances, one after another, and their levels.
        draw: which draw.
    """

    def changed(images: Tensor, numbers: Sequence[int]) -> Tensor:
        made = images.cpu().numpy().copy()
        for name, most in names.items():
            disturbance, apply = VALUES[name]
            for place, number in enumerate(numbers):
                level, generator = drawn(disturbance, most, draw, number)
                made[place] = apply(made[place][None], level, Range(0.0, 1.0), generator)[0]
        return torch.from_numpy(made).to(images.device)

    return replace(split, changed=changed)


def disturbed_values(
    split: Split, name: str, level: float, draw: Draw, span: Callable[[], Range], longest: int | None
) -> Split:
    """Return a split whose values are disturbed: whole images themselves, where a disturbance acts on these.

    Args:
        split: as evaluation sees it.
        name: of the disturbance.
        level: how strong.
        draw: which draw.
        span: gives the range of the inputs, where it is needed.
        longest: the most steps that the network takes; None: any.
    """
    if isinstance(split, ImageSplit) and name in OF_THE_PICTURE:
        return disturbed_images(split, {name: level}, draw)
    return DisturbedValues(split, name, level, draw, span(), longest)


@dataclass(frozen=True)
class DisturbedEvents(Split):
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

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        _, apply = EVENTS[self.name]
        made = []
        for number in indices.tolist():
            events = self._raw(number)
            seen = Recorded(self.how.sensor, _lasting(events, self.how), stream(_sensor(self.name), self.draw))
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


def disturbed_recordings(split: EventSplit, how: Frames, names: Mapping[str, float], draw: Trained) -> EventSplit:
    """Return a split of recordings that a training reads, whose raw events are disturbed.

    Args:
        split: of a data set, so that it knows its raw events.
        how: how they become frames.
        names: the disturbances, one after another, and their levels.
        draw: which draw. Faults of the sensor, such as hot pixels, are other ones in each recording.
    """
    assert split.remade is not None

    def changed(number: int, events: Events) -> Events:
        # Of a random crop any part may be seen.
        span = _lasting(events, how if not split.random else None)
        for name, most in names.items():
            disturbance, apply = EVENTS[name]
            level, generator = drawn(disturbance, most, draw, number)
            seen = Recorded(how.sensor, span, stream(_sensor(name), draw, number))
            events = apply(events, level, seen, generator)
        return events

    return replace(split, store=split.remade(changed))


def _lasting(events: Events, how: Frames | None) -> int:
    """Return the microseconds of a recording that a network sees."""
    fixed = how.steps * how.frame_time if how is not None and how.steps else None
    return fixed or (int(events["t"][-1]) + 1 if len(events) else 1)


def _sensor(name: str) -> str:
    """Return what is drawn by for a sensor's faults."""
    return f"{name} of the sensor"


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
    """A text whose input words differ from the words to predict."""

    seen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """[N] int64: what is read at each place."""

    @override
    def windows(self, batch: int, device: torch.device) -> Any:
        read = replace(self, tokens=self.seen)
        theirs = TextSplit.windows(read, batch, device)
        for true, other in zip(TextSplit.windows(self, batch, device), theirs, strict=True):
            yield Batch(other.x, true.target)


def disturbed_text(split: TextSplit, name: str, level: float, draw: Draw) -> DisturbedText:
    """Return a text with other input words.

    In a training each stretch of the text as long as a window has a level of its own, drawn evenly from 0 to `level`.
    """
    _, apply = WORDS[name]
    generator = stream(name, draw)
    strength: Level = level
    read = split.seen if isinstance(split, DisturbedText) else split.tokens
    if isinstance(draw, Trained):
        levels = generator.uniform(0, level, -(-len(read) // split.bptt))
        strength = np.repeat(levels, split.bptt)[: len(read)]
    seen = torch.from_numpy(apply(read.numpy(), strength, generator))
    return DisturbedText(split.tokens, split.bptt, split.name, seen)


@dataclass(frozen=True)
class Attacked(Split):
    """A split whose samples are those that an adversary makes of them."""

    whole: Split
    name: str
    level: float
    draw: Draw
    span: Range
    network: Network
    """Whose gradient the adversary knows."""
    task: Task

    def __len__(self) -> int:
        return len(self.whole)

    @override
    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        batch = self.whole.batch(indices, device)
        disturbance, attack = ATTACKS[self.name]
        places = [drawn(disturbance, self.level, self.draw, number) for number in indices.tolist()]
        levels = torch.tensor([level for level, _ in places], dtype=torch.float64, device=batch.x.device)
        training = self.network.training
        # Of training, nothing is counted (as a norm's statistics are) and nothing drawn for an attack's own passes.
        with torch.random.fork_rng([batch.x.device] if batch.x.is_cuda else []):
            self.network.eval()
            x = attack(self.network, self.task, batch, levels, self.span, [generator for _, generator in places])
            self.network.train(training)
        return batch._replace(x=x)
