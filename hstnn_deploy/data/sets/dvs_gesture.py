"""DVS128 Gesture: 11 hand gestures by 29 people, as tonic distributes it or as it was recorded.

ibmGestureTrain/userNN_LIGHT/CLASS.npy    tonic's: one gesture each, [N, 4] of x, y, p and milliseconds
ibmGestureTest/…
trials_to_train.txt, trials_to_test.txt   the original: the names of AEDAT files, each with several gestures,
userNN_LIGHT.aedat                        whose class (from 1), beginning and end in microseconds are in
userNN_LIGHT_labels.csv                   a table beside it
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data.cache import fingerprint
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Recordings, Source
from hstnn_deploy.data.events.aedat import read_aedat
from hstnn_deploy.data.events.events import Events, Sensor, check, make_events
from hstnn_deploy.data.events.recordings import EventConfig, Known, inspect, make_splits, not_here
from hstnn_deploy.data.events.transforms import Downsample, TimeAlignment, Transform
from hstnn_deploy.data.files.folder import find
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.pictures.events import draw_events
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, TEXT_LIMIT, brief, read_bytes, reading

_FOLDERS = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_KNOWN = Known("DVS-Gesture", 11, {"train": 1077, "test": 264}, "tonic's cuts, 1077 + 264")
_BY_TABLES = replace(_KNOWN, counts={"train": 1176, "test": 288}, cuts="cut by the tables, 1176 + 288")
"""What the tables beside the original files name. Figures on the two sets do not compare."""
_CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)


class DvsGestureConfig(EventConfig):
    """DVS-Gesture; 60 frames of 20 ms from the first event, 128 x 128 down to 32 x 32; training: a random 1.2 s."""

    sensor: ClassVar[Sensor] = Sensor(128, 128)
    longest: ClassVar[int] = 18_500_000

    name: Literal["dvs-gesture"] = "dvs-gesture"
    transforms: list[Transform] = Field([TimeAlignment(), Downsample(factor=4)])
    frame_time: PositiveInt = 20_000
    steps: PositiveInt | None = 60
    crop: Literal["first", "random"] = "random"


@dataclass(frozen=True)
class NpyRecordings(Recordings):
    """A split as tonic distributes it; the label is the name of the file."""

    folder: Path
    paths: Sequence[Path]

    @classmethod
    def of(cls, folder: Path) -> "NpyRecordings":
        """Return the recordings below a folder, by name.

        Raises:
            DataError: a file whose name is not a class.
        """
        paths = sorted(folder.glob("*/*.npy"))
        for path in paths:
            if not path.stem.isdigit() or int(path.stem) >= _KNOWN.classes:
                raise DataError(
                    f"{path} is not named after a class, 0 to {_KNOWN.classes - 1}", "remove it from the data set"
                )
        return cls(folder, paths)

    @property
    @override
    def target(self) -> Tensor:
        return torch.tensor([int(path.stem) for path in self.paths], dtype=torch.int64)

    @override
    def read(self, number: int) -> Events:
        return read_npy(self.paths[number])

    @override
    def name(self, number: int) -> str:
        return str(self.paths[number])

    @override
    def fingerprint(self) -> str:
        return fingerprint(self.folder, self.paths)


def read_npy(path: Path) -> Events:
    """Return the events of a file of tonic's: plain rows [N, 4] of x, y, p and milliseconds.

    Raises:
        DataError: it cannot be read, is damaged, or holds impossible events.
    """
    with reading(path, "a .npy file of numbers"):
        rows = np.load(path, allow_pickle=False)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 4 or len(rows) == 0:
        raise DataError(f"{path} does not contain events [N, 4] of x, y, p and t", AGAIN)
    if rows.dtype.kind not in "biuf" or not np.isfinite(rows).all():
        raise DataError(f"{path} contains values that are not numbers, in an array of type {rows.dtype}", AGAIN)
    x, y, p, milliseconds = rows.T
    # What is too large for a wider type, or for microseconds, becomes infinite, which no event may be.
    with reading(path, "a file of events"), np.errstate(over="ignore"):
        events = make_events(x, y, milliseconds.astype(np.float64) * 1000, p)
    return check(events, DvsGestureConfig.sensor, path)


class _Gesture(NamedTuple):
    path: Path
    """The AEDAT file."""
    label: int
    start: int
    """Microseconds by the file's clock."""
    stop: int


@dataclass(frozen=True)
class AedatRecordings(Recordings):
    """A split as it was recorded: gestures cut out of AEDAT files by the tables beside them."""

    folder: Path
    gestures: Sequence[_Gesture]

    @classmethod
    def of(cls, folder: Path, names: str) -> "AedatRecordings":
        """Return the gestures of those files of a list that are there.

        Raises:
            DataError: a table is missing or damaged.
        """
        with reading(folder / names, "a list of AEDAT files"):
            listed = [line.strip() for line in read_bytes(folder / names, TEXT_LIMIT).decode("utf-8").splitlines()]
            if outside := [name for name in listed if name != Path(name).name]:
                raise DataError(f"{folder / names} names a file of another folder, {brief(outside[0])}", AGAIN)
            paths = [folder / name for name in listed if name and (folder / name).is_file()]
        return cls(folder, [gesture for path in paths for gesture in _gestures(path)])

    @property
    @override
    def target(self) -> Tensor:
        return torch.tensor([gesture.label for gesture in self.gestures], dtype=torch.int64)

    @override
    def read(self, number: int) -> Events:
        path, label, start, stop = self.gestures[number]
        with reading(path, "an AEDAT file"):
            events = check(read_aedat(path), DvsGestureConfig.sensor, path)
        first, after = np.searchsorted(events["t"], (start, stop))
        if first == after:
            raise DataError(f"{path} contains no event of its gesture {label + 1}, {start} to {stop} us", AGAIN)
        cut = events[first:after].copy()
        cut["t"] -= start
        return cut

    @override
    def name(self, number: int) -> str:
        return f"{self.gestures[number].path}, gesture at {self.gestures[number].start} us"

    @override
    def fingerprint(self) -> str:
        paths = dict.fromkeys(gesture.path for gesture in self.gestures)
        return fingerprint(self.folder, [file for path in paths for file in (path, _table(path))])


def _table(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labels.csv")


def _gestures(path: Path) -> list[_Gesture]:
    table = _table(path)
    with reading(table, "a table of class, startTime_usec and endTime_usec", says=False):
        text = read_bytes(table, TEXT_LIMIT).decode("utf-8")
        found = [
            _Gesture(path, int(row["class"]) - 1, int(row["startTime_usec"]), int(row["endTime_usec"]))
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    for gesture in found:
        possible = 0 <= gesture.label < _KNOWN.classes and 0 <= gesture.start < gesture.stop < 2**63
        if not possible:
            raise DataError(
                f"{table} contains a gesture of class {gesture.label + 1} from {gesture.start} to {gesture.stop} us, "
                f"which is impossible",
                AGAIN,
            )
    return found


def load_dvs_gesture(config: DvsGestureConfig, source: Source) -> Splits:
    """Return DVS-Gesture, or what there is of it, from either of its layouts in the data folder.

    Raises:
        DataError: a part is missing or empty, or a recording is damaged.
    """
    parts, folder = recordings_in(source.folder), _find(source.folder)
    layouts = {type(each) for each in parts.values()}
    known = _BY_TABLES if layouts == {AedatRecordings} else _KNOWN
    if len(layouts) > 1:
        known = replace(known, cuts="tonic's cuts of one split and the tables' of the other")
    return make_splits(config, "dvs-gesture", parts, known, folder, source)


def recordings_in(given: Path | None) -> dict[str, Recordings]:
    """Return the recordings of each split.

    Raises:
        DataError: a part is missing, or a table of gestures is damaged.
    """
    folder = _find(given)
    if lacking := missing_files(given):
        layout = "ibmGestureTrain and ibmGestureTest"
        raise not_here(DVS_GESTURE, _KNOWN.title, folder, lacking[0], layout, ("DvsGesture.tar.gz",))
    parts: dict[str, Recordings] = {}
    for split, name in _FOLDERS.items():
        there = (folder / name).is_dir()
        parts[split] = NpyRecordings.of(folder / name) if there else AedatRecordings.of(folder, _LISTS[split])
    return parts


def missing_files(given: Path | None) -> list[str]:
    """Return the names of the folders that are not in the data folder; the original layout has none."""
    folder = _find(given)
    return [
        name
        for split, name in _FOLDERS.items()
        if not (folder / name).is_dir() and not (folder / _LISTS[split]).is_file()
    ]


def _find(given: Path | None) -> Path:
    marks = (*_FOLDERS.values(), *_LISTS.values())
    return find(
        given, ("dvs-gesture", "DVSGesture", "DvsGesture"), lambda place: any((place / mark).exists() for mark in marks)
    )


def _picture(config: DvsGestureConfig, source: Source, choice: Choice) -> Picture:
    return draw_events(config.name, recordings_in(source.folder), config, source.protocol, choice, DVS_GESTURE.card)


DVS_GESTURE = DataSet(
    "dvs-gesture",
    DvsGestureConfig,
    Card(
        "1341 recordings of 11 hand gestures by an event camera of 128 x 128 pixels (DVS128 Gesture)",
        "classification, 11 classes",
        "CC BY 4.0",
        "https://research.ibm.com/dvsgesture",
        "`hstnn data prepare dvs-gesture` (tonic's form); or unpack the original DvsGesture.tar.gz into dvs-gesture/",
        3_000_000_000,
        _CLASSES,
    ),
    load_dvs_gesture,
    lambda config: config.shape(1077, 264, 11),
    lambda _, folder: missing_files(folder),
    place=lambda _, folder: _find(folder),
    remotes=(
        Remote(
            "ibmGestureTrain.tar.gz",
            "https://figshare.com/ndownloader/files/38022171",
            "md5:3a8f0d4120a166bac7591f77409cb105",
            "ibmGestureTrain",
        ),
        Remote(
            "ibmGestureTest.tar.gz",
            "https://figshare.com/ndownloader/files/38020584",
            "md5:56070e45dadaa85fff82e0fbfbc06de5",
            "ibmGestureTest",
        ),
    ),
    recordings=lambda _, folder: recordings_in(folder),
    inspect=lambda _, folder: inspect(recordings_in(folder)),
    picture=_picture,
)
