"""Recordings of events in the files that cameras and data sets write, told apart by how they begin and are called.

One reader and one report: file -> `Found` columns (by `FORMATS`) -> `Recording` (event_columns). The table for people
is in docs/event-files.md.
"""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.data.readers import event_arrays, event_bags, event_cameras, event_hdf5, event_matlab, event_texts
from hstnn_deploy.data.readers.event_columns import Expected, Found, Recording, make_recording
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError, nearest
from hstnn_deploy.foreign import reading

Read = Callable[[Path, EventOptions], Found]


class Format(NamedTuple):
    """A kind of files."""

    title: str
    """What it is, in words."""
    suffixes: tuple[str, ...]
    """How such files are called."""
    by: str
    """What reads it: this project, or a library of that name."""
    read: Read
    takes: tuple[str, ...] = ()
    """What `--events` may say of it beside what it may say of all: order, names, part, recording."""
    starts: tuple[bytes, ...] = ()
    """How such files begin, where that says what they are."""


def _alone(read: Callable[[Path], Found]) -> Read:
    """Return a reader of files that say all of themselves."""
    return lambda path, _: read(path)


FORMATS: Mapping[str, Format] = {
    "aedat2": Format("AEDAT 2.0 (jAER)", (".aedat",), "hstnn", _alone(event_cameras.read_aedat2), (), (b"#!AER-DAT2",)),
    "aedat4": Format(
        "AEDAT 4 (DV)", (".aedat4",), "hstnn, lz4", event_cameras.read_aedat4, ("part",), (b"#!AER-DAT4",)
    ),
    "aedat": Format("AEDAT 3.0, 3.1 (cAER)", (".aedat",), "tonic", event_cameras.read_aedat3, (), (b"#!AER-DAT",)),
    "bag": Format("ROS bag 2.0", (".bag",), "rosbags", event_bags.read_bag, ("part",), (b"#ROSBAG V2",)),
    "hdf5": Format(
        *("HDF5 (Metavision, DSEC, SHD, SSC, tables)", (".h5", ".hdf5"), "h5py", event_hdf5.read_hdf5),
        *(("order", "names", "part", "recording"), (b"\x89HDF\r\n",)),
    ),
    "mat": Format(
        *("Matlab (structs, variables, ST-MNIST)", (".mat",), "hstnn, h5py", event_matlab.read_matlab),
        *(("order", "names", "part"), (b"MATLAB 5.0 MAT", b"MATLAB 7.3 MAT")),
    ),
    "numpy": Format(
        *("numpy's arrays", (".npy", ".npz"), "numpy", event_arrays.read_numpy),
        *(("order", "names", "part"), (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")),
    ),
    "text": Format("text", (".txt", ".csv", ".tsv"), "numpy", event_texts.read_text, ("order", "names")),
    "bin": Format("40-bit events (N-MNIST, N-Caltech101)", (".bin",), "tonic", _alone(event_cameras.read_bin)),
    "dat": Format("Prophesee .dat", (".dat",), "hstnn", _alone(event_cameras.read_dat)),
    "raw": Format("Prophesee .raw (EVT2, EVT3)", (".raw",), "hstnn", _alone(event_cameras.read_raw)),
}
"""The kinds that are read, by the names that `--events format=` takes; those before are tried first."""

EVENT_FILES = tuple(dict.fromkeys(suffix for each in FORMATS.values() for suffix in each.suffixes))
"""How files of events are called."""

TEXTS = FORMATS["text"].suffixes
"""How texts are called."""

_NUMPY = FORMATS["numpy"].starts
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff")
_OTHERS: Mapping[bytes, tuple[str, str]] = {
    b"SQLite format 3": ("a bag of ROS 2 (SQLite)", "rosbags-convert writes it as a .bag of ROS 1"),
    b"\x89MCAP0": ("a bag of ROS 2 (MCAP)", "rosbags-convert writes it as a .bag of ROS 1"),
    b"#ROSBAG": ("a ROS bag of another version than 2.0", "rosbag migrates it: rosbag fix"),
    b"\x1f\x8b": ("packed by gzip", "unpack it first: gunzip"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it first"),
    b"Rar!": ("a rar archive", "unpack it first"),
}
_OPTIONS = {
    "order": "whose columns have their own order",
    "names": "whose fields have fixed names",
    "part": "which has no parts",
    "recording": "which contains one recording",
}


def read_recording(path: Path, expected: Expected, options: EventOptions | None = None) -> Recording:
    """Return the events of a recording, as a network may see them, and the report of what was made of it.

    Args:
        path: a file of one of `FORMATS`; or DVS-Gesture's own, for a network that was trained on it.
        expected: what the network was trained on.
        options: what the file does not say of itself.

    Raises:
        DataError: no such file, of another kind or damaged, or changed while it is read; or it says too little, or has
            impossible events; see `event_columns.make_recording`.
    """
    options = options or EventOptions()
    before = _state(path)
    try:
        recording = make_recording(str(path), _found(path, expected, options), expected, options)
    except DataError:
        _check_still(path, before)
        raise
    _check_still(path, before)
    return recording


def read_columns(path: Path, options: EventOptions | None = None) -> Found:
    """Return the columns of a recording as they stand in its file; nothing is known of a network.

    Raises:
        DataError: no such file, of another kind or damaged, or changed while it is read.
    """
    how = Frames(sensor=Sensor(2**15, 2**15), transforms=[], frame_time=1, steps=None, binary=False)
    before = _state(path)
    found = _found(path, Expected(how), options or EventOptions())
    _check_still(path, before)
    return found


def is_recording(path: Path, step: tuple[int, ...]) -> bool:
    """Return whether a file holds events and not time steps of the shape `step`, as arrays and texts may, or an image.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    start = _start(path)
    if start.startswith(_IMAGES):
        return False
    if start.startswith(_NUMPY):
        return event_arrays.are_events(event_arrays.open_arrays(path), step)
    return event_texts.is_text_of_events(path, step) if path.suffix.lower() in TEXTS else True


def are_rows(path: Path) -> bool:
    """Return whether a file holds raw events as graphs take them: whole numbers [N, 5], the recording first."""
    if not _start(path).startswith(_NUMPY):
        return False
    arrays = list(event_arrays.open_arrays(path).values())
    return len(arrays) == 1 and arrays[0].dtype.kind in "iu" and arrays[0].ndim == 2 and arrays[0].shape[1] == 5


def _found(path: Path, expected: Expected, options: EventOptions) -> Found:
    kind = _format(path, _start(path), options)
    for each, why in _OPTIONS.items():
        if each not in kind.takes and getattr(options, each) not in (None, {}):
            said = "t=NAME" if each == "names" else f"{each}={getattr(options, each)}"
            raise DataError(f"--events {said} does not apply to {path}: it is {kind.title}, {why}", "leave it out")
    if kind is FORMATS["numpy"] and (found := _own(path, expected, options)):
        return found
    return kind.read(path, options)


def _format(path: Path, start: bytes, options: EventOptions) -> Format:
    """Return what a file is: as said, as it begins, or as it is called."""
    if options.format is not None:
        if options.format not in FORMATS:
            raise DataError(f"--events format={options.format}: unknown format", nearest(options.format, FORMATS))
        return FORMATS[options.format]
    suffix = path.suffix.lower()
    for each in FORMATS.values():
        if start.startswith(each.starts):
            return each
    for begins, (what, hint) in _OTHERS.items():
        if start.startswith(begins) and suffix not in (".bin", ".dat", ".raw"):
            raise DataError(f"{path} is {what}, which hstnn does not read", hint)
    able = [each for each in FORMATS.values() if suffix in each.suffixes]
    if not able:
        raise DataError(
            f"{path} is not a recording of events that hstnn reads, judging by its first bytes and its name",
            f"known names: {', '.join(EVENT_FILES)}; or specify the format: --events format={'|'.join(FORMATS)}",
        )
    # A file of version 4 of Matlab begins with nothing of its own, as HDF5 may behind 512 bytes.
    if able[0].starts and suffix != ".mat":
        raise DataError(f"{path} is truncated or not a {suffix} file", "copy or download it again")
    return able[0]


def _own(path: Path, expected: Expected, options: EventOptions) -> Found | None:
    """Return plain rows as DVS-Gesture's own files hold them, for a network that was trained on it; None of others."""
    if expected.data_set != "dvs-gesture" or options.order or options.unit or options.part:
        return None
    from hstnn_deploy.data.sets.dvs_gesture import read_npy

    try:
        events = read_npy(path)
    except DataError:
        return None
    columns = {"t": events["t"] / 1000, **{each: events[each] for each in "xyp"}}
    return Found("DVS-Gesture's own rows of x, y, p and t", columns, "ms")


def _state(path: Path) -> tuple[int, int]:
    """Return the size of a file, and when it was changed."""
    if path.is_dir():
        raise DataError(f"{path} is a folder", "give a file")
    with reading(path, "a recording"):
        now = path.stat()
    if not stat.S_ISREG(now.st_mode):
        raise DataError(f"{path} is a pipe or a device, which has no known end", "give a file")
    return now.st_size, now.st_mtime_ns


def _check_still(path: Path, before: tuple[int, int]) -> None:
    """Refuse a file that was written to while it was read: what was read is neither the one nor the other."""
    if (now := _state(path)) != before:
        raise DataError(
            f"{path} changed while hstnn read it: it had {before[0]} bytes and now has {now[0]}",
            "wait until recording or copying it has ended",
        )


def _start(path: Path) -> bytes:
    _state(path)
    with reading(path, "a recording"), path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise DataError(f"{path} is empty", "copy or download it again")
    return start
