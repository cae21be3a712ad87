"""The spiking Heidelberg sets: spoken digits (SHD) and commands (SSC) through a model of the cochlea, from HDF5.

A file holds `spikes/times` (seconds) and `spikes/units` (0 to 699), one row per recording, and `labels`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.cache import fingerprint
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Recordings, Source
from hstnn_deploy.data.events.events import Events, Sensor, check, make_events
from hstnn_deploy.data.events.recordings import EventConfig, Known, inspect, make_splits, not_here
from hstnn_deploy.data.files.folder import find
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.pictures.events import draw_events
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, reading

_DEFLATED = 1100
"""How many times smaller than its content a compressed table can be."""


class HeidelbergConfig(EventConfig):
    """What a recipe says of a set of spoken words; {name: downsample, factor: 5} makes 140 of the 700 inputs."""

    sensor: ClassVar[Sensor] = Sensor(700, 1, 1)

    frame_time: PositiveInt = 10_000
    steps: PositiveInt | None = 100


class ShdConfig(HeidelbergConfig):
    """Spiking Heidelberg Digits, from shd_{train,test}.h5."""

    longest: ClassVar[int] = 1_400_000

    name: Literal["shd"] = "shd"
    frame_time: PositiveInt = 14_000


class SscConfig(HeidelbergConfig):
    """Spiking Speech Commands, from ssc_{train,valid,test}.h5."""

    longest: ClassVar[int] = 1_100_000

    name: Literal["ssc"] = "ssc"


_KNOWN = {
    "shd": Known("SHD", 20, {"train": 8156, "test": 2264}),
    "ssc": Known("SSC", 35, {"train": 75_466, "valid": 9981, "test": 20_382}),
}


@dataclass(frozen=True)
class Hdf5Recordings(Recordings):
    """A split in its file, which stays open."""

    path: Path
    classes: int

    @cached_property
    def _file(self) -> Any:
        """The open file, its three tables known to be there and of one length."""
        import h5py

        # HDF5's own words take several lines.
        with reading(self.path, "an HDF5 file", says=False):
            return self._checked(h5py.File(self.path, "r"))

    def _checked(self, file: Any) -> Any:
        import h5py

        names = ("spikes/times", "spikes/units", "labels")
        tables = [file.get(name) for name in names]
        lacking = [name for name, table in zip(names, tables, strict=True) if not isinstance(table, h5py.Dataset)]
        counts = set() if lacking else {len(table) for table in tables}
        if lacking or len(counts) > 1:
            file.close()
            what = (
                f"contains no {lacking[0]}"
                if lacking
                else f"has times, units and labels of {sorted(counts)} recordings"
            )
            raise DataError(f"{self.path} {what}", AGAIN)
        return file

    @cached_property
    @override
    def target(self) -> Tensor:
        with reading(self.path, "a file of labels", says=False):
            table = self._table("labels")
            if table.ndim != 1 or table.nbytes > self.path.stat().st_size * _DEFLATED:
                raise ValueError("its labels are not a list")
            labels = torch.from_numpy(table[()].astype(np.int64))
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise DataError(f"{self.path} contains a label beyond {self.classes - 1}", AGAIN)
        return labels

    def _table(self, name: str) -> Any:
        return self._file[name]

    @override
    def read(self, number: int) -> Events:
        name = self.name(number)
        with reading(name, "a recording", says=False):
            times, units = self._table("spikes/times")[number], self._table("spikes/units")[number]
            return self._events(np.asarray(times, np.float64), np.asarray(units, np.int64), name)

    def _events(self, times: Any, units: Any, name: str) -> Events:
        if len(times) != len(units) or not np.isfinite(times).all():
            what = (
                f"{len(times)} times for {len(units)} units" if len(times) != len(units) else "a time is not a number"
            )
            raise DataError(f"{name}: {what}", AGAIN)
        # Times are kept in half precision: widened before they are scaled, as tonic does.
        with reading(name, "a recording"), np.errstate(over="ignore"):
            events = make_events(units, 0, times * 1e6, 0)
        # A row is a set of pairs: unlike a camera's file, it does not promise an order.
        return check(events[np.argsort(events["t"], kind="stable")], HeidelbergConfig.sensor, name)

    @override
    def name(self, number: int) -> str:
        return f"{self.path}, recording {number}"

    @override
    def fingerprint(self) -> str:
        return fingerprint(self.path.parent, [self.path])


def load_heidelberg(config: ShdConfig | SscConfig, source: Source) -> Splits:
    """Return SHD or SSC from its HDF5 files in the data folder; SSC has a validation split of its own.

    Raises:
        DataError: a file is missing, truncated or empty, or a recording is damaged.
    """
    parts, folder = recordings_in(config.name, source.folder), _find(config.name, source.folder)
    return make_splits(config, config.name, parts, _KNOWN[config.name], folder, source)


def recordings_in(name: str, given: Path | None) -> dict[str, Recordings]:
    """Return the recordings of each split.

    Raises:
        DataError: a file is missing.
    """
    known = _KNOWN[name]
    folder = _find(name, given)
    if lacking := missing_files(name, given):
        data_set, layout = SHD if name == "shd" else SSC, ", ".join(_files(name))
        raise not_here(data_set, known.title, folder, lacking[0], layout, [f"{each}.gz" for each in lacking])
    return {
        split: Hdf5Recordings(folder / each, known.classes)
        for split, each in zip(known.counts, _files(name), strict=True)
    }


def missing_files(name: str, given: Path | None) -> list[str]:
    """Return the names of the files that are not in the data folder."""
    folder = _find(name, given)
    return [each for each in _files(name) if not (folder / each).is_file()]


def _files(name: str) -> list[str]:
    return [f"{name}_{split}.h5" for split in _KNOWN[name].counts]


def _find(name: str, given: Path | None) -> Path:
    return find(given, (name, name.upper()), lambda place: any((place / each).is_file() for each in _files(name)))


def _remotes(**checksums: str) -> tuple[Remote, ...]:
    base = "https://zenkelab.org/datasets"
    return tuple(
        Remote(f"{name}.h5.zip", f"{base}/{name}.h5.zip", f"md5:{checksum}", f"{name}.h5")
        for name, checksum in checksums.items()
    )


def _picture(config: ShdConfig | SscConfig, source: Source, choice: Choice) -> Picture:
    card = (SHD if config.name == "shd" else SSC).card
    return draw_events(config.name, recordings_in(config.name, source.folder), config, source.protocol, choice, card)


SHD = DataSet(
    "shd",
    ShdConfig,
    Card(
        "10 420 recordings of spoken digits, German and English, through a cochlea of 700 channels (SHD)",
        "classification, 20 classes",
        "CC BY 4.0",
        "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd",
        "`hstnn data prepare shd`; or unpack shd_train.h5.zip and shd_test.h5.zip into shd/",
        400_000_000,
    ),
    load_heidelberg,
    lambda config: config.shape(8156, 2264, 20),
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _find(config.name, folder),
    remotes=_remotes(
        shd_train="f3252aeb598ac776c1b526422d90eecb",
        shd_test="1503a5064faa34311c398fb0a1ed0a6f",
    ),
    recordings=lambda config, folder: recordings_in(config.name, folder),
    inspect=lambda config, folder: inspect(recordings_in(config.name, folder)),
    picture=_picture,
)

SSC = DataSet(
    "ssc",
    SscConfig,
    Card(
        "105 829 recordings of 35 spoken commands through a cochlea of 700 channels (SSC)",
        "classification, 35 classes",
        "CC BY 4.0",
        "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd",
        "`hstnn data prepare ssc`; or unpack ssc_train.h5.zip, ssc_valid.h5.zip and ssc_test.h5.zip into ssc/",
        4_000_000_000,
    ),
    load_heidelberg,
    lambda config: config.shape(85_447, 20_382, 35),
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _find(config.name, folder),
    remotes=_remotes(
        ssc_train="d102be95e7144fcc0553d1f45ba94170",
        ssc_valid="b4eee3516a4a90dd0c71a6ac23a8ae43",
        ssc_test="a35ff1e9cffdd02a20eb850c17c37748",
    ),
    recordings=lambda config, folder: recordings_in(config.name, folder),
    inspect=lambda config, folder: inspect(recordings_in(config.name, folder)),
    picture=_picture,
)
