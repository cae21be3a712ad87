"""What all sets of event recordings share: their keys in a recipe, and how they become splits.

recordings on disk -> checked events -> transforms -> packed cells (cache) -> frames, per batch
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.cache import Key
from hstnn_deploy.data.dataset import DataSet, Inspected, Recordings, Shape, Source
from hstnn_deploy.data.events.augment import Augmentation, augmentation, kept_events
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.events.frames import Change, Computed, EventSplit, Framing, make_store
from hstnn_deploy.data.events.kinds import FrameKind, lasting
from hstnn_deploy.data.events.transforms import Transform, chain, sensor_after
from hstnn_deploy.data.files.folder import VARIABLE
from hstnn_deploy.data.splits import Splits, frame_of, with_validation
from hstnn_deploy.errors import DataError, RecipeError
from hstnn_deploy.foreign import brief

_OF_FIXED_TIMES = ("frame_time", "steps", "crop")
"""Keys that belong to frames at fixed times."""

_KEPT = 2**30
"""Bytes of raw training events that are kept in memory if they change from epoch to epoch."""


class EventConfig(BaseModel):
    """What a recipe says of event recordings."""

    model_config = ConfigDict(extra="forbid")

    sensor: ClassVar[Sensor]
    """What the recordings come from."""
    longest: ClassVar[int]
    """Microseconds of the longest recording, about."""

    transforms: list[Transform] = []
    """Transforms of the events before they are cut into frames, in order."""
    frame_time: PositiveInt
    """Length of a frame in microseconds."""
    steps: PositiveInt | None
    """Frames per sample, from the start of the recording; null: the whole recording, in padded batches."""
    crop: Literal["first", "random"] = "first"
    """Whether training uses the first frames, or frames from a random start time in every epoch."""
    binary: bool = False
    """Whether a pixel of a frame is 1 if there were events, instead of their number."""
    frames: FrameKind | None = None
    """How a recording is cut into frames; null: at fixed times from its start, as set by the three keys above."""
    augment: list[Augmentation] = []
    """Random augmentations of the transformed events, new in every epoch, in order."""
    square: ClassVar[bool] = True
    """Whether frames must be as high as they are wide."""

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, given: Any) -> Any:
        """Refuse what belongs to frames at fixed times beside `frames`; null counts as not given."""
        if not isinstance(given, dict) or given.get("frames") is None:
            return given
        given = {key: value for key, value in given.items() if key not in _OF_FIXED_TIMES or value is not None}
        if wrong := [key for key in _OF_FIXED_TIMES if key in given]:
            raise RecipeError(
                f"data.{wrong[0]} is {brief(given[wrong[0]])}, but data.frames already defines the frames",
                f"leave {wrong[0]} out: --set data.{wrong[0]}=null, or data.frames=null",
            )
        return given

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing: `frames` of old recipes, and else what belongs to frames at fixed times."""
        return self.shortened(handler(self))

    def shortened(self, told: dict[str, Any]) -> dict[str, Any]:
        """Return what is written down, without what says nothing."""
        without = ("frames",) if self.frames is None else _OF_FIXED_TIMES
        return {key: value for key, value in told.items() if key not in without and (key, value) != ("augment", [])}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.frames is None and self.crop == "random" and self.steps is None:
            raise ValueError("whole recordings (steps null) cannot be cropped at random: give steps")
        seen = self.framing.sensor
        if self.square and 1 < seen.height != seen.width:
            raise ValueError(f"the transforms leave frames of {seen.width} x {seen.height}, which are not square")
        return self

    @property
    def framing(self) -> Framing:
        """How the transformed events become frames."""
        if self.frames is not None:
            return Framing.of_kind(self.sensor, self.transforms, self.frames, self.binary)
        seen = sensor_after(self.transforms, self.sensor)
        return Framing(seen, self.frame_time, self.steps, self.crop == "random", self.binary)

    def shape(self, train: int, test: int, classes: int) -> Shape:
        """Return the size of a data set of a number of recordings; whole ones count as long as the longest."""
        seen = self.framing.sensor
        if self.frames is not None:
            steps = self.frames.most(lasting(self.longest, self.transforms))
        else:
            steps = self.steps or -(-self.longest // self.frame_time)
        size, frame = frame_of(seen.step)
        return Shape(train, test, steps, seen.step[0], classes, size, frame)


@dataclass(frozen=True)
class SomeRecordings(Recordings):
    """Some of the recordings of a split."""

    whole: Recordings
    numbers: Tensor
    """Their numbers there, ascending."""

    @property
    @override
    def target(self) -> Tensor:
        return self.whole.target[self.numbers]

    @override
    def read(self, number: int) -> Events:
        return self.whole.read(int(self.numbers[number]))

    @override
    def name(self, number: int) -> str:
        return self.whole.name(int(self.numbers[number]))

    def fingerprint(self) -> None:
        """Return None: what is cached on disk is a whole split."""

    def take(self, indices: Tensor) -> "SomeRecordings":
        """Return some of them."""
        return SomeRecordings(self.whole, self.numbers[indices])


@dataclass(frozen=True)
class Known:
    """What is published of a set."""

    title: str
    classes: int
    counts: Mapping[str, int]
    """Recordings per split."""
    cuts: str = ""
    """Whose recordings they are, where a set is published in several ways that do not compare."""


def make_splits(
    config: EventConfig, name: str, parts: Mapping[str, Recordings], known: Known, where: Path | str, source: Source
) -> Splits:
    """Return the splits of a set.

    Args:
        config: what the recipe says of it.
        name: of the data set.
        parts: `train`, `test` and, where the set has one of its own, `valid`.
        known: what is published of it.
        where: the folder, for `origin`.
        source: protocol, cache, and whom to tell of progress.

    Raises:
        DataError: a split is empty, a recording is damaged, or the cache cannot be written.
    """
    for split, recordings in parts.items():
        if len(recordings.target) == 0:
            raise DataError(
                f"{known.title} from {where} contains no {split} recordings", "copy or download the set again"
            )
    splits = {
        split: _augmented(config, name, recordings, source)
        if split == "train" and config.augment
        else _split(config, name, split, recordings, source)
        for split, recordings in parts.items()
    }
    train, test = splits["train"], splits["test"]
    if "valid" in splits:
        valid: EventSplit | None = None if source.protocol == "test" else splits["valid"]
    else:
        train, valid = with_validation(train, source.protocol)
    if config.framing.random:
        train = train.cropped_at_random()
    train = replace(train, remade=partial(_changed, config, _Raw(parts["train"])))
    step = config.framing.sensor.step
    size, frame = frame_of(step)
    held = " and ".join(
        f"{len(recordings.target)} of {known.counts[split]} {split}" for split, recordings in parts.items()
    )
    cuts = f" ({known.cuts})" if known.cuts else ""
    return Splits(
        train,
        valid or test,
        test,
        inputs=step[0],
        classes=known.classes,
        origin=f"{known.title}{cuts} from {where}, {held} recordings",
        family="sequence" if len(step) == 1 else "convolutional",
        size=size,
        frame=frame,
    )


def as_trained(parts: Mapping[str, Recordings], protocol: str) -> Mapping[str, Recordings]:
    """Return the recordings of each split as a training has them: with a validation split, if need be out of `train`.

    Raises:
        DataError: there are too few to hold some out.
    """
    if "valid" in parts:
        return parts
    whole = parts["train"]
    train, valid = with_validation(SomeRecordings(whole, torch.arange(len(whole.target))), protocol)
    return {"train": train, "valid": valid or parts["test"], "test": parts["test"]}


def not_here(
    data_set: DataSet[Any], title: str, folder: Path, missing: str, layout: str, more: Iterable[str]
) -> DataError:
    """Return the error for a set that is not in its folder, with how to get it.

    Args:
        data_set: which one.
        title: what it is called.
        folder: where it should be.
        missing: what is not there.
        layout: what would have to be, in words.
        more: archives, beside the published ones, in which it may lie there.
    """
    packed = [remote.name for remote in data_set.remotes if not remote.at_hand(folder)]
    if lying := next((folder / name for name in packed if (folder / name).is_file()), None):
        hint = f"`hstnn data prepare {data_set.name}` checks and unpacks {lying}"
    elif lying := next((folder / name for name in more if (folder / name).is_file()), None):
        hint = f"unpack {lying} there first"
    else:
        hint = (
            f"`hstnn data prepare {data_set.name}` gets it; or put {layout} there, or give their folder with "
            f"--data-dir or {VARIABLE}"
        )
    return DataError(f"{title} is not at {folder} ({missing} is missing)", hint)


def _augmented(config: EventConfig, name: str, recordings: Recordings, source: Source) -> EventSplit:
    """Return the training split as it is drawn anew at every presentation.

    The transformed events are kept where cells otherwise are, and cut into frames after they were drawn.
    """
    transform, count = chain(config.transforms, config.sensor), len(recordings.target)
    read = kept_events(
        lambda number: transform(recordings.read(number)),
        count,
        source.cache,
        _key(config, name, "train-events", recordings),
        partial(source.progress, f"preparing {name} train"),
    )
    drawn = augmentation(config.augment, sensor_after(config.transforms, config.sensor))
    framing = config.framing
    return EventSplit.of(Computed(lambda number: drawn(read(number)), framing), framing, recordings.target)


def _changed(config: EventConfig, raw: "_Raw", change: Change) -> Computed:
    """Return recordings for training, whose raw events are changed whenever they are asked for."""
    transform = chain(config.transforms, config.sensor)
    drawn = augmentation(config.augment, sensor_after(config.transforms, config.sensor)) if config.augment else None

    def read(number: int) -> Events:
        events = transform(change(number, raw.read(number)))
        return events if drawn is None else drawn(events)

    return Computed(read, config.framing)


class _Raw:
    """Raw events, kept in memory from one time to the next as far as `_KEPT` bytes go."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings, self._held = recordings, 0
        self._known: dict[int, Events] = {}

    def read(self, number: int) -> Events:
        """Return a recording."""
        if (events := self._known.get(number)) is None:
            events = self._recordings.read(number)
            if self._held + events.nbytes <= _KEPT:
                self._known[number], self._held = events, self._held + events.nbytes
        return events


def _key(config: EventConfig, name: str, split: str, recordings: Recordings) -> Key | None:
    if (files := recordings.fingerprint()) is None:
        return None
    told = {key: value for key, value in config.model_dump(mode="json").items() if key not in ("augment", "found")}
    return Key(name, split, {"files": files, "tonic": version("tonic"), **told})


def _split(config: EventConfig, name: str, split: str, recordings: Recordings, source: Source) -> EventSplit:
    framing, transform = config.framing, chain(config.transforms, config.sensor)
    if split != "train":
        # Nothing but training is cropped at random: only what the first frames need is kept.
        framing = framing.fixed()
    key = _key(config, name, split, recordings)
    store = make_store(
        lambda number: transform(recordings.read(number)),
        len(recordings.target),
        framing,
        source.cache,
        key,
        partial(source.progress, f"preparing {name} {split}"),
    )
    return EventSplit.of(store, framing, recordings.target)


def inspect(parts: Mapping[str, Recordings]) -> Iterator[Inspected]:
    """Read and check every recording of a set; see `DataSet`."""
    for split, recordings in parts.items():
        for number, label in enumerate(recordings.target.tolist()):
            name = recordings.name(number)
            try:
                recordings.read(number)
            except DataError as error:
                yield Inspected(name, split, problem=error.message)
            else:
                how = "recordings, events in order of time and on the sensor"
                yield Inspected(name, split, 1, {label: 1}, how)
