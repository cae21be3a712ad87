"""The ways to load a data set that are measured side by side: how to prepare each, and what memory it takes where.

Each has objects of its own, and what it writes goes into a folder of its own: no cache of the user's is read or filled.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key
from hstnn_deploy.data.dataset import Cache, Recordings
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.events.frames import EventSplit, Kept, Resident, make_store
from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.events.strategies import Dense, Naive, Sparse, TonicDisk
from hstnn_deploy.data.events.transforms import chain
from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.splits import ArraySplit, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.values import Measured, NotMeasured, Value

SHARE = 0.5
"""Of the memory that is free, that a strategy may take."""

_EVERY = 0.5
"""Seconds between reports."""

Sizes = dict[str, Value]
"""Bytes held, as `host`, `device` and `disk`."""

ABOUT = {
    "naive": "reads each recording and frames it with tonic's ToFrame at every access",
    "tonic disk, first epoch": "tonic's DiskCachedDataset writes one HDF5 file of frames per recording",
    "tonic disk, later epochs": "tonic's DiskCachedDataset reads these files",
    "memory, dense": "dense frames, int16, in host memory",
    "device, dense": "dense frames, int16, on the device",
    "device, sparse": "a torch.sparse tensor per recording on the device, to_dense per batch",
    "--cache none": "ours: reads and packs each recording at every access",
    "--cache disk, first epoch": "ours: packs every recording into one file, then reads from it",
    "--cache disk, later epochs": "ours: maps that file of packed recordings",
    "--cache memory": "ours: packed recordings in host memory",
    "--cache device": "ours: packed recordings on the device",
    "as loaded": "what training uses, whatever --cache is",
}
"""The strategies by name, in the order in which they are shown."""


class NoRoom(Exception):
    """A strategy needs more memory than it may take; says so in words."""


@dataclass(frozen=True)
class Strategy:
    """One way to load."""

    name: str
    make: Callable[[], Split]
    """Make it ready.

    Raises:
        NoRoom: memory does not hold it.
    """
    sizes: Callable[[Split], Sizes]
    """Return the bytes that it keeps."""
    reset: Callable[[], None] | None = None
    """Of a first epoch: forget what was kept. Each epoch then begins by making it ready."""

    @property
    def option(self) -> Cache | None:
        """Which `--cache` it is; None where none is."""
        kept: Any = self.name.partition(",")[0].removeprefix("--cache ")
        return kept if self.name.startswith("--cache") else None


@dataclass(frozen=True)
class Absent:
    """A strategy that does not apply."""

    name: str
    reason: str


@dataclass(frozen=True)
class Subject:
    """The recordings that are loaded, and how they become frames."""

    recordings: Recordings
    config: EventConfig
    device: torch.device
    folder: Path
    """Where strategies write."""
    report: Report

    def naive(self) -> Naive:
        """Return them as a plain data set that keeps nothing."""
        return Naive(self.read(), self.config.framing, self.recordings.target)

    def read(self) -> Callable[[int], Events]:
        """Return what reads and transforms a recording."""
        recordings, transform = self.recordings, chain(self.config.transforms, self.config.sensor)
        return lambda number: transform(recordings.read(number))

    def told(self, name: str) -> Callable[[int, int], None]:
        """Return what reports how many recordings are made ready for a strategy, seldom: it is timed too."""
        said = 0.0

        def told(done: int, total: int) -> None:
            nonlocal said
            if (now := time.monotonic()) - said > _EVERY:
                said = now
                self.report(f"preparing {name}", done, total, "recordings")

        return told

    def originals(self) -> Value:
        """Return the bytes of the recordings' own files."""
        paths = [Path(self.recordings.name(number)) for number in range(len(self.recordings.target))]
        if not all(path.is_file() for path in paths):
            return NotMeasured("disk", "the recordings are not single files")
        return Measured("disk", sum(path.stat().st_size for path in paths), "B", "sizes of the recordings' files")


def of_recordings(subject: Subject) -> list[Strategy | Absent]:
    """Return every way to load recordings."""
    folder = subject.folder
    found: dict[str, Strategy | Absent] = {}

    def add(name: str, make: Callable[[], Split], sizes: Callable[[Split], Sizes], first: Path | None = None) -> None:
        reset = None if first is None else partial(shutil.rmtree, first, ignore_errors=True)
        found[name] = Strategy(name, make, sizes, reset)

    keeps = "it caches nothing in memory"
    originals = subject.originals()
    unkept = _places(host=keeps, device=keeps) | {"disk": originals}
    add("naive", subject.naive, lambda _: unkept)
    add("--cache none", partial(_ours, subject, "none", None), lambda _: unkept)
    for epoch in ("first epoch", "later epochs"):
        first = epoch == "first epoch"
        for kind in ("tonic", "ours"):
            name = f"{'tonic' if kind == 'tonic' else '--cache'} disk, {epoch}"
            place = folder / f"{kind}-{epoch.partition(' ')[0]}"
            # A first epoch is timed from its beginning, and says nothing meanwhile.
            some = replace(subject, report=silent) if first else subject
            make = partial(_ours, some, "disk", place) if kind == "ours" else partial(_tonic, some, place, first)
            add(name, make, partial(_on_disk, place, kind), place if first else None)
    if subject.config.crop == "random":
        tonics = [f"tonic disk, {epoch}" for epoch in ("first epoch", "later epochs")]
        for name in (*tonics, "memory, dense", "device, dense", "device, sparse"):
            found[name] = Absent(name, "training crops at a new time at every access; cached frames have a fixed one")
    else:
        add("memory, dense", partial(_dense, subject, "memory, dense", torch.device("cpu")), _of_frames)
        add("device, dense", partial(_dense, subject, "device, dense", subject.device), _of_frames)
        add("device, sparse", partial(_sparse, subject), _of_frames)
    add("--cache memory", partial(_ours, subject, "memory", None), _of_packed)
    add("--cache device", partial(_ours, subject, "device", None), partial(_of_packed, device=subject.device))
    return [found[name] for name in ABOUT if name in found]


def of_loaded(split: Split, name: str) -> list[Strategy | Absent]:
    """Return the one way to load a data set without recordings, and why the others do not apply."""
    if isinstance(split, TextSplit):
        held = f"{name} is a text, kept in memory as numbers"
        kept = f"{held}; a pass copies all of it to the device"
        sparse = "words are numbers, not frames"
    else:
        held = f"{name} contains images, all read at loading"
        kept = f"{held}; on a GPU, up to 1.07 GB of them stay there unchanged"
        sparse = "images are dense"
    nothing = f"{held}; it has no recordings to read, frame or cache"
    reasons = {
        "memory, dense": f"{held}; this is the same as 'as loaded'",
        "device, dense": kept,
        "device, sparse": f"{held}; {sparse}",
    }
    found: list[Strategy | Absent] = [Absent(each, reasons.get(each, nothing)) for each in ABOUT if each != "as loaded"]
    return [*found, Strategy("as loaded", lambda: split, _of_loaded)]


def free(device: torch.device) -> int:
    """Return the bytes of memory that are free on a device; of the CPU, of the machine or container."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else memory.free()


def _ours(subject: Subject, where: Cache, folder: Path | None) -> Split:
    framing, target = subject.config.framing, subject.recordings.target
    parameters = subject.config.model_dump(mode="json")
    key = None if folder is None else Key(parameters["name"], "train", parameters)
    with cache.elsewhere(folder or subject.folder):
        store = make_store(subject.read(), len(target), framing, where, key, subject.told(f"--cache {where}"))
    split = EventSplit.of(store, framing, target)
    split = split.cropped_at_random() if subject.config.crop == "random" else split
    if where == "device":
        # It is taken there by the first batch.
        split.batch(torch.zeros(1, dtype=torch.int64), subject.device)
    return split


def _tonic(subject: Subject, folder: Path, first: bool) -> TonicDisk:
    split = TonicDisk.of(subject.naive(), folder)
    if not first:
        told = subject.told("tonic disk")
        for number in range(len(split)):
            split.kept[number]
            told(number + 1, len(split))
    return split


def _steps(subject: Subject) -> int:
    """Return the frames of the longest recording, or what each is cut to."""
    if subject.config.steps is not None:
        return subject.config.steps
    read, longest = subject.read(), 0
    for number in range(len(subject.recordings.target)):
        events = read(number)
        longest = max(longest, int(events["t"][-1]) if len(events) else 0)
    return longest // subject.config.frame_time + 1


def _dense(subject: Subject, name: str, device: torch.device) -> Dense:
    steps = _steps(subject)
    needed = 2 * len(subject.recordings.target) * steps * subject.config.framing.sensor.places
    # They are made in host memory, whichever device they then go to.
    for place in {torch.device("cpu"), device}:
        if needed > SHARE * (there := free(place)):
            where = "in host memory" if place.type == "cpu" else "on the device"
            raise NoRoom(f"it needs {needed / 1e9:.3g} GB, more than half of the {there / 1e9:.3g} GB free {where}")
    return Dense.of(subject.naive(), device, steps, subject.told(name))


def _sparse(subject: Subject) -> Sparse:
    return Sparse.of(subject.naive(), subject.device, _steps(subject), subject.told("device, sparse"))


def _places(**known: int | str) -> Sizes:
    """Return bytes by place, or the reason why there are none."""
    return {
        place: NotMeasured(place, each) if isinstance(each, str) else Measured(place, each, "B", "sizes of tensors")
        for place, each in known.items()
    }


_UNWRITTEN = "it writes nothing"
_IN_HOST = "it caches nothing on the device"


def _of_tensors(tensors: list[Tensor]) -> Sizes:
    """Return the storage that tensors hold, each storage once."""
    bytes: dict[str, dict[int, int]] = {"cpu": {}, "cuda": {}}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        bytes[tensor.device.type][storage.data_ptr()] = storage.nbytes()
    host, device = sum(bytes["cpu"].values()), sum(bytes["cuda"].values())
    return _places(host=host or "it caches nothing in host memory", device=device or _IN_HOST, disk=_UNWRITTEN)


def _of_frames(split: Split) -> Sizes:
    assert isinstance(split, Dense | Sparse)
    return _of_tensors(split.storages())


def _of_packed(split: Split, device: torch.device | None = None) -> Sizes:
    assert isinstance(split, EventSplit)
    store = split.store
    assert isinstance(store, Kept | Resident)
    tensors = [*store.packed.rows, split.target]
    if isinstance(store, Resident) and device is not None:
        there, _ = store.fetch(split.numbers[:1], device)
        tensors += there.rows
    return _of_tensors(tensors)


def _on_disk(folder: Path, kind: str, _split: Split) -> Sizes:
    bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    mapped = "the file is mapped; the system's page cache keeps what was read"
    host = mapped if kind == "ours" else "it caches nothing in memory"
    return _places(host=host, device=_IN_HOST) | {"disk": Measured("disk", bytes, "B", "sizes of the files it wrote")}


def _of_loaded(split: Split) -> Sizes:
    if isinstance(split, TextSplit):
        return _of_tensors([split.tokens])
    if not isinstance(split, ArraySplit | ImageSplit):
        unknown = f"a {type(split).__name__} does not report its size"
        return _places(host=unknown, device=unknown, disk=_UNWRITTEN)
    return _of_tensors(split.storages())


def plain(sizes: Mapping[str, Value]) -> dict[str, Any]:
    """Return bytes by place as plain data: the number, or null and the reason."""
    return {
        place: {"bytes": value.number, "source": value.source}
        if isinstance(value, Measured)
        else {"bytes": None, "reason": value.reason}
        for place, value in sizes.items()
    }
