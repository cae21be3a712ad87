"""N-MNIST: MNIST's digits shown to an event camera that moves in three saccades, from its {Train,Test}/digit/id.bin."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.cache import fingerprint
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Recordings, Source
from hstnn_deploy.data.events.events import EVENT, Events, Sensor, check
from hstnn_deploy.data.events.recordings import EventConfig, Known, inspect, make_splits, not_here
from hstnn_deploy.data.files.folder import find
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.pictures.events import draw_events
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, reading

_FOLDERS = {"train": "Train", "test": "Test"}
_KNOWN = Known("N-MNIST", 10, {"train": 60_000, "test": 10_000})
_EVENT_BYTES = 5
_URL = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
_MD5 = ("20959b8e626244a1b502305a9e6e2031", "69ca8762b2fe404d9b9bad1103e97832")


class NMnistConfig(EventConfig):
    """N-MNIST; the first 15 frames of 3 ms, counts, 34 x 34."""

    sensor: ClassVar[Sensor] = Sensor(34, 34)
    longest: ClassVar[int] = 340_000

    name: Literal["nmnist"] = "nmnist"
    frame_time: PositiveInt = 3000
    steps: PositiveInt | None = 15


@dataclass(frozen=True)
class NMnistRecordings(Recordings):
    """The recordings of a split; the label is the name of the folder."""

    folder: Path
    """Train or Test."""
    paths: Sequence[Path]

    @classmethod
    def of(cls, folder: Path) -> "NMnistRecordings":
        """Return the recordings below a folder, by digit and then by name."""
        return cls(folder, [path for digit in range(10) for path in sorted((folder / str(digit)).glob("*.bin"))])

    @property
    @override
    def target(self) -> Tensor:
        return torch.tensor([int(path.parent.name) for path in self.paths], dtype=torch.int64)

    @override
    def read(self, number: int) -> Events:
        return read_bin(self.paths[number])

    @override
    def name(self, number: int) -> str:
        return str(self.paths[number])

    @override
    def fingerprint(self) -> str:
        return fingerprint(self.folder, self.paths)


def read_bin(path: Path, sensor: Sensor | None = NMnistConfig.sensor) -> Events:
    """Return the events of a .bin file: 40 bits each, x, y, polarity and time; y = 240 marks an overflow of the time.

    Args:
        path: the file.
        sensor: what the events must come from; None: they are not checked.

    Raises:
        DataError: it cannot be read, is empty or ends within an event, or holds impossible events.
    """
    from tonic.io import read_mnist_file

    with reading(path, "a .bin file of events"):
        size = path.stat().st_size
        if size == 0 or size % _EVENT_BYTES:
            what = "is empty" if size == 0 else f"is truncated: {size} bytes are not whole events of {_EVENT_BYTES}"
            raise DataError(f"{path} {what}", AGAIN)
        events: Events = read_mnist_file(str(path), dtype=EVENT)
    return check(events, sensor, path) if sensor else events


def load_nmnist(config: NMnistConfig, source: Source) -> Splits:
    """Return N-MNIST, or what there is of it, from its two folders in the data folder.

    Raises:
        DataError: a folder is missing or empty, or a recording is damaged.
    """
    return make_splits(config, "nmnist", recordings_in(source.folder), _KNOWN, _find(source.folder), source)


def recordings_in(given: Path | None) -> dict[str, Recordings]:
    """Return the recordings of each split.

    Raises:
        DataError: a folder is missing.
    """
    folder = _find(given)
    if lacking := missing_files(given):
        raise not_here(
            NMNIST, _KNOWN.title, folder, lacking[0], "its folders Train and Test", ("Train.zip", "Test.zip")
        )
    return {split: NMnistRecordings.of(folder / name) for split, name in _FOLDERS.items()}


def missing_files(given: Path | None) -> list[str]:
    """Return the names of the folders that are not in the data folder."""
    folder = _find(given)
    return [name for name in _FOLDERS.values() if not (folder / name).is_dir()]


def _find(given: Path | None) -> Path:
    return find(given, ("nmnist", "NMNIST"), lambda place: any((place / name).is_dir() for name in _FOLDERS.values()))


def _picture(config: NMnistConfig, source: Source, choice: Choice) -> Picture:
    return draw_events(config.name, recordings_in(source.folder), config, source.protocol, choice, NMNIST.card)


NMNIST = DataSet(
    "nmnist",
    NMnistConfig,
    Card(
        "70 000 recordings of MNIST's digits by an event camera of 34 x 34 pixels that moves",
        "classification, 10 classes",
        "CC BY-SA 4.0",
        "https://www.garrickorchard.com/datasets/n-mnist",
        "`hstnn data prepare nmnist`; or unpack train.zip and test.zip into nmnist/ (a part of them will do)",
        1_450_000_000,
    ),
    load_nmnist,
    lambda config: config.shape(60_000, 10_000, 10),
    lambda _, folder: missing_files(folder),
    place=lambda _, folder: _find(folder),
    remotes=(
        Remote("train.zip", f"{_URL}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded", f"md5:{_MD5[0]}", "Train"),
        Remote("test.zip", f"{_URL}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded", f"md5:{_MD5[1]}", "Test"),
    ),
    recordings=lambda _, folder: recordings_in(folder),
    inspect=lambda _, folder: inspect(recordings_in(folder)),
    picture=_picture,
)
