"""Recordings of events in the files that cameras and data sets write, told apart by how they are called and begin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hstnn_deploy.data.events import Events, Sensor, check, make_events
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading, silenced

_AGAIN = "copy or download it again"


def read_events(path: Path, sensor: Sensor) -> Events:
    """Return the events of a recording.

    Args:
        path: N-MNIST's .bin; AEDAT 3.1 or 4; Prophesee's .dat; or .npy with the fields x, y, t (microseconds) and p.
        sensor: what it must come from.

    Raises:
        DataError: no such file, of another kind, damaged, or with events that the sensor cannot have.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    reader = _READERS.get(path.suffix.lower())
    if start.startswith(b"#!AER-DAT"):
        reader = _aedat4 if start.startswith(b"#!AER-DAT4") else _aedat
    if reader is None:
        raise DataError(f"{path} is no recording of events that hstnn reads", f"known: {', '.join(EVENT_FILES)}")
    try:
        with reading(path, "a recording of events", DataError, _AGAIN):
            return check(reader(path), sensor, path)
    except DataError as error:
        if "sensor" in error.message:
            hint = f"these are not recordings of a sensor of {sensor.width} x {sensor.height}, which were trained on"
            raise DataError(error.message, hint) from error
        raise


def _bin(path: Path) -> Events:
    from hstnn_deploy.data.nmnist import read_bin

    return read_bin(path)


def _aedat(path: Path) -> Events:
    from hstnn_deploy.data.aedat import read_aedat

    return _from_the_first(read_aedat(path))


def _aedat4(path: Path) -> Events:
    from tonic.io import read_aedat4

    try:
        with silenced():  # a panic of the package speaks for itself, at length
            found = read_aedat4(str(path))
    except ImportError as error:
        raise DataError(
            f"{path} is an AEDAT 4 file: tonic reads it through the package aedat", "pip install aedat"
        ) from error
    except Exception as error:  # the package's errors share no public base
        raise DataError(f"{path} is truncated or not an AEDAT 4 file: {_line(error)}", _AGAIN) from error
    return _from_the_first(_made(found))


def _dat(path: Path) -> Events:
    from expelliarmus import Wizard

    try:
        # The header: lines of text, then the type and size of an event in a byte each.
        raw = path.read_bytes()
        start = 0
        while raw[start : start + 1] == b"%":
            start = raw.index(b"\n", start) + 1
        if start == 0 or len(raw) < start + 2 or (len(raw) - start - 2) % 8:
            raise ValueError("it does not hold a header and whole events of 8 bytes")
        found = Wizard(encoding="dat").read(str(path))
    except Exception as error:  # the package's errors share no public base
        raise DataError(f"{path} is truncated or not a .dat file of events: {_line(error)}", _AGAIN) from error
    return _from_the_first(_made(found))


def _npy(path: Path) -> Events:
    try:
        # Mapped, not read: a header may claim any size, but no more can be mapped than there is.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python, which may fail with anything
        raise DataError(f"{path} is truncated or not a .npy file", _AGAIN) from error
    if not {"x", "y", "t", "p"} <= set(found.dtype.names or ()):
        raise DataError(f"{path} holds no events: an array with the fields x, y, t and p")
    return _made(found)


_READERS: dict[str, Callable[[Path], Events]] = {
    ".bin": _bin,
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".dat": _dat,
    ".npy": _npy,
}

EVENT_FILES = tuple(_READERS)
"""How files of events are called."""


def _made(found: Any) -> Events:
    return make_events(found["x"], found["y"], found["t"].astype(np.int64), found["p"])


def _from_the_first(events: Events) -> Events:
    """Let time begin at the first event: a camera's clock does not begin with the recording."""
    if len(events):
        events = events.copy()
        events["t"] -= events["t"][0]
    return events


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
