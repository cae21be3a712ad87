"""CIFAR10-DVS: images of CIFAR-10 that move on a screen before an event camera, {class}/cifar10_{class}_{number}.aedat.

No split is published. This is SpikingJelly's `split_to_train_test_set(0.9, …)`: of each class, files by name, nine
tenths train, rounded up, and the others test. Of fewer than ten files of a class, one tests. `events.aedat2` says how
the files are read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.cache import fingerprint
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Recordings, Source
from hstnn_deploy.data.events.aedat2 import read_aedat2
from hstnn_deploy.data.events.events import Events, Sensor, check
from hstnn_deploy.data.events.recordings import EventConfig, Known, inspect, make_splits, not_here
from hstnn_deploy.data.events.transforms import Downsample, TimeAlignment, Transform
from hstnn_deploy.data.files.folder import find
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.pictures.events import draw_events
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN

_FILES = {
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
"""Each class's archive at figshare: its number there, and its MD5 (both as SpikingJelly has them)."""
_CLASSES = tuple(_FILES)
_KNOWN = Known("CIFAR10-DVS", 10, {"train": 9000, "test": 1000}, "SpikingJelly's split, nine tenths of each class")
_NAMES = ("cifar10-dvs", "CIFAR10DVS", "cifar10dvs")


class Cifar10DvsConfig(EventConfig):
    """CIFAR10-DVS; 20 frames of 65 ms from the first event, 128 x 128 down to 64 x 64."""

    sensor: ClassVar[Sensor] = Sensor(128, 128)
    longest: ClassVar[int] = 1_500_000

    name: Literal["cifar10-dvs"] = "cifar10-dvs"
    transforms: list[Transform] = Field([TimeAlignment(), Downsample(factor=2)])
    frame_time: PositiveInt = 65_000
    steps: PositiveInt | None = 20


@dataclass(frozen=True)
class Cifar10DvsRecordings(Recordings):
    """The recordings of a split; the label is the folder's name."""

    folder: Path
    paths: Sequence[Path]

    @property
    @override
    def target(self) -> Tensor:
        return torch.tensor([_CLASSES.index(path.parent.name) for path in self.paths], dtype=torch.int64)

    @override
    def read(self, number: int) -> Events:
        return read_recording(self.paths[number])

    @override
    def name(self, number: int) -> str:
        return str(self.paths[number])

    @override
    def fingerprint(self) -> str:
        return fingerprint(self.folder, self.paths)


def read_recording(path: Path) -> Events:
    """Return the events of a file.

    Raises:
        DataError: it cannot be read, is damaged, is of another camera, or holds no events or impossible ones.
    """
    found, sensor = read_aedat2(path), Cifar10DvsConfig.sensor
    if found.sensor != sensor:
        raise DataError(f"{path} is from a {found.camera}; CIFAR10-DVS is from a DVS128", "remove it from the data set")
    if len(found.events) == 0:
        raise DataError(f"{path} contains no events", AGAIN)
    return check(found.events, sensor, path)


def recordings_in(given: Path | None) -> dict[str, Recordings]:
    """Return the recordings of each split.

    Raises:
        DataError: they are not there, or a file has not the name of its folder.
    """
    folder = _find(given)
    if lacking := missing_files(given):
        layout = "its folders airplane … truck, all or some,"
        raise not_here(CIFAR10_DVS, _KNOWN.title, folder, lacking[0], layout, ())
    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for label in _CLASSES:
        paths = sorted((folder / label).glob("*.aedat"))
        for path in paths:
            if not re.fullmatch(rf"cifar10_{label}_\d+", path.stem, re.ASCII):
                raise DataError(
                    f"{path} is not named cifar10_{label}_NUMBER.aedat, as the files of its folder are",
                    "take it out of the data set",
                )
        held = max(len(paths) // 10, 1) if len(paths) > 1 else 0
        parts["train"] += paths[: len(paths) - held]
        parts["test"] += paths[len(paths) - held :]
    return {split: Cifar10DvsRecordings(folder, paths) for split, paths in parts.items()}


def missing_files(given: Path | None) -> list[str]:
    """Return the folders that are not in the data folder; none where some are, and no others are on their way."""
    folder = _find(given)
    absent = [name for name in _CLASSES if not (folder / name).is_dir()]
    coming = any((folder / each).exists() for name in absent for each in (f"{name}.zip", f".{name}.zip.part"))
    return absent if coming or len(absent) == len(_CLASSES) else []


def load_cifar10_dvs(config: Cifar10DvsConfig, source: Source) -> Splits:
    """Return CIFAR10-DVS, or what there is of it, from its folders in the data folder.

    Raises:
        DataError: it is not there, or a recording is damaged.
    """
    return make_splits(config, "cifar10-dvs", recordings_in(source.folder), _KNOWN, _find(source.folder), source)


def _find(given: Path | None) -> Path:
    def holds(place: Path) -> bool:
        return any(next((place / name).glob("cifar10_*.aedat"), None) for name in _CLASSES)

    return find(given, _NAMES, holds)


def _picture(config: Cifar10DvsConfig, source: Source, choice: Choice) -> Picture:
    return draw_events(config.name, recordings_in(source.folder), config, source.protocol, choice, CIFAR10_DVS.card)


CIFAR10_DVS = DataSet(
    "cifar10-dvs",
    Cifar10DvsConfig,
    Card(
        "10 000 recordings of CIFAR-10's images, moving on a screen, by an event camera of 128 x 128 pixels",
        "classification, 10 classes",
        "as its page says; cite Li et al. 2017",
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        "`hstnn data prepare cifar10-dvs`; or unpack airplane.zip … truck.zip into cifar10-dvs/ (some of them will do)",
        # 1.3 s with some 180 000 events of 8 bytes each: one recording's figures, which others report.
        14_000_000_000,
        _CLASSES,
    ),
    load_cifar10_dvs,
    lambda config: config.shape(9000, 1000, 10),
    lambda _, folder: missing_files(folder),
    place=lambda _, folder: _find(folder),
    remotes=tuple(
        Remote(f"{name}.zip", f"https://ndownloader.figshare.com/files/{number}", f"md5:{checksum}", name)
        for name, (number, checksum) in _FILES.items()
    ),
    recordings=lambda _, folder: recordings_in(folder),
    inspect=lambda _, folder: inspect(recordings_in(folder)),
    picture=_picture,
)
