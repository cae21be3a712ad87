"""What the registry knows of a data set: its configuration, its card, its size, and how to load it."""

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel
from torch import Tensor

from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.splits import DataSizes, Family, Splits, Targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Protocol = Literal["validation", "test"]
"""Where the best epoch is chosen: on a validation split held out of training, or on the test split as the demo does."""

Cache = Literal["none", "disk", "memory", "device"]
"""Where samples that have to be computed are kept: nowhere, packed on disk, in memory, or on the training's device."""

CACHES: tuple[Cache, ...] = ("none", "disk", "memory", "device")


class Shape(NamedTuple):
    """How large a data set of equal samples is, known without having it."""

    train: int
    """Samples that are trained or chosen on: the training and the validation split together."""
    test: int
    steps: int
    """Time steps T of a sample."""
    inputs: int
    """Values per time step; of frames, channels."""
    classes: int
    """Where targets are values: how many a sample has."""
    size: int | None = None
    """Height and width of a frame; None where a time step is a plain vector."""
    frame: tuple[int, ...] | None = None
    """The shape of a time step that is neither a plain vector nor a square frame."""
    targets: Targets = "classes"
    """What a sample's target is."""

    @property
    def step(self) -> tuple[int, ...]:
        """The shape of one time step of a sample: (inputs,) or (inputs, size, size), or what `frame` says."""
        if self.frame is not None:
            return self.frame
        return (self.inputs,) if self.size is None else (self.inputs, self.size, self.size)

    @property
    def family(self) -> Family:
        """Which family of networks the data is for."""
        return "sequence" if len(self.step) == 1 else "convolutional"

    @property
    def sizes(self) -> "DataSizes":
        """What a network has to fit."""
        return DataSizes(self.inputs, self.classes, self.size, self.steps, self.step, self.targets)


class Recordings(typing.Protocol):
    """The recordings of a split where they lie."""

    @property
    def target(self) -> Tensor:
        """The class of each, [N], int64."""
        ...

    def read(self, number: int) -> Events:
        """Return one, checked.

        Raises:
            DataError: it is damaged; says which file and which event.
        """
        ...

    def name(self, number: int) -> str:
        """Return the file of a recording, and which one it is where a file holds several."""
        ...

    def fingerprint(self) -> str | None:
        """Return what changes when a file changes; None where there are no files."""
        ...


class Card(NamedTuple):
    """What a person wants to know about a data set before using it."""

    about: str
    """One line: what it is."""
    task: str
    """The task of a network: "classification, 10 classes", "language model"."""
    licence: str
    home: str
    """Where it is published."""
    get: str = "it comes with the dependencies"
    """How its files get into the data folder."""
    bytes: int = 0
    """Size of its files, about; 0 where there are none."""
    classes: tuple[str, ...] = ()
    """The names of its classes by number, where they are more than their number."""


@dataclass(frozen=True)
class Inspected:
    """A file of a data set as it was found when it was read whole and checked."""

    file: str
    """Its path; of a set without files, where it comes from."""
    split: str
    """The published split that it belongs to."""
    count: int = 0
    """Samples, or words of a text."""
    classes: Mapping[int, int] = field(default_factory=dict)
    """Samples by class, where the file says."""
    how: str = ""
    """What it is and how it was checked, in the plural: "files with the published checksum"."""
    problem: str = ""
    """What is wrong with it; empty where nothing is."""


@dataclass(frozen=True)
class Choice:
    """Which samples to draw."""

    split: str
    index: int | None = None
    """The first sample, by number; None for one of each class, or the first ones."""
    label: int | None = None
    """The class of all of them, or None for any."""
    count: int | None = None
    """How many; None for as many as the picture has good room for."""


class Picture(NamedTuple):
    """Samples drawn, and in words."""

    figure: "Figure"
    lines: list[str]


Progress = Callable[[str, int, int], None]
"""Told of work that takes a while: what is done, how much of it is done, and of how much."""


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


class Source(NamedTuple):
    """From where and how a data set is loaded; of these, only the protocol changes what a training computes."""

    protocol: Protocol = "validation"
    folder: Path | None = None
    """The data folder, or None for `HSTNN_DATA` or the user's cache folder."""
    cache: Cache = "disk"
    progress: Progress = _silent


C = TypeVar("C", bound=BaseModel)


def _nothing(_config: Any, _folder: Path | None) -> list[str]:
    return []


@dataclass(frozen=True)
class DataSet(Generic[C]):
    """A data set by name. What its functions raise is a `DataError` with one line and a hint."""

    name: str
    config: type[C]
    """What a recipe says of it; its field `name` is the name."""
    card: Card
    load: Callable[[C, Source], Splits]
    shape: Callable[[C], Shape | None]
    """Its size from its published description; None of a text, whose size depends on its files."""
    missing: Callable[[C, Path | None], list[str]] = _nothing
    """The names of its files that are not in the data folder; nothing is downloaded."""
    downloads: bool = False
    """Whether `load` fetches missing files where the network allows."""
    place: Callable[[C, Path | None], Path] | None = None
    """The folder where its files are, or would be put; None where it has none."""
    remotes: tuple[Remote, ...] = ()
    """Its published files, for `prepare`; empty if it has none, or none that a program may fetch."""
    recordings: Callable[[C, Path | None], Mapping[str, Recordings]] | None = None
    """The recordings of each split as they were recorded; None where it holds none."""
    inspect: Callable[[C, Path | None], Iterator[Inspected]] | None = None
    """Read and check its files one after another; a damaged one is yielded with its problem, not raised."""
    picture: Callable[[C, Source, Choice], Picture] | None = None
    """Draw some of its samples."""
