"""The AEDAT 3 format of event cameras: a text header, then packets of events of one kind each.

Version 3.0 differs from 3.1 in what matters here by y alone, which it counts from below (iniVation's "AEDAT 3.0").

tonic's reader of the text header is used; its reader of the packets takes packets of every kind for events and ends
quietly within one, and `tonic.io.read_dvs_ibm`, which calls both, does not run in tonic 1.7.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hstnn_deploy.data.events.events import Events, make_events
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, reading

_HEADER = 28
"""Bytes before a packet's events: kind and source (16 bits each), then the size of an event, where its time is, the
overflows of the time, room, events, and valid events (32 bits each)."""
_POLARITY, _POLARITY_BYTES = 1, 8
_PACKED = 0x8000
"""The bit of a packet's kind that says that it is compressed."""
_OTHERS = {0: "special events", 2: "frames", 3: "IMU events", 4: "IMU events"}


class Packets(NamedTuple):
    """What the packets of a file hold."""

    events: Events
    """The valid polarity events, by the file's clock."""
    dropped: Mapping[str, int]
    """How many events were marked invalid, and how many of other kinds there are."""
    version: float
    """3.0, whose y is counted from below, or 3.1."""


def read_aedat(path: Path) -> Events:
    """Return the valid polarity events of a file of version 3.1; see `read_packets`.

    Raises:
        DataError: it is of another version, or cannot be read.
    """
    if (found := read_packets(path)).version == 3:
        raise DataError(f"{path} is an AEDAT file of version 3, not 3.1: it counts y from below", AGAIN)
    return found.events


def read_packets(path: Path) -> Packets:
    """Return the polarity events of a file; the last reading is remembered, since a file holds several recordings.

    Raises:
        DataError: it cannot be read, is of another version, ends within a packet, or holds events of several cameras.
    """
    with reading(path, "an AEDAT file"):
        now = path.stat()
    return _read(path, now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, _size: int, _changed: int) -> Packets:
    from tonic.io import read_aedat_header_from_file

    with reading(path, "an AEDAT file: it does not begin with a header"):
        version, start = read_aedat_header_from_file(str(path))[:2]
        raw = path.read_bytes()
    if version not in (3, 3.1):
        raise DataError(f"{path} is an AEDAT file of version {version:g}, not 3.0 or 3.1", AGAIN)
    parts, sources = [make_events([], [], [], [])], set()
    dropped: dict[str, int] = {"events marked invalid": 0}
    while start < len(raw):
        if len(raw) - start < _HEADER:
            raise _truncated(path, start)
        kind, source = np.frombuffer(raw, "<u2", 2, start).tolist()
        size, _, overflows, room, count, valid = np.frombuffer(raw, "<u4", 6, start + 4).tolist()
        if kind & _PACKED:
            raise DataError(
                f"{path} is compressed: its packet at byte {start} says so",
                "write it with cAER's format RAW, or convert it with DV to AEDAT 4",
            )
        if start + _HEADER + size * room > len(raw):
            raise _truncated(path, start)
        if count > room or (kind == _POLARITY and size != _POLARITY_BYTES):
            what = f"{count} events of {size} bytes, with space for {room}"
            raise DataError(f"{path} is damaged: its packet at byte {start} claims {what}", AGAIN)
        if kind == _POLARITY:
            sources.add(source)
            rows = np.frombuffer(raw, "<u4", 2 * count, start + _HEADER).reshape(-1, 2).astype(np.int64)
            data, times = rows[(rows[:, 0] & 1) == 1].T
            if len(data) != valid:
                what = f"{valid} valid events, and {len(data)} are marked so"
                raise DataError(f"{path} is damaged: its packet at byte {start} counts {what}", AGAIN)
            dropped["events marked invalid"] += count - len(data)
            parts.append(make_events(data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, times + (overflows << 31), data >> 1 & 1))
        else:
            name = _OTHERS.get(kind, f"events of kind {kind}")
            dropped[name] = dropped.get(name, 0) + count
        start += _HEADER + size * room
    if len(sources) > 1:
        raise DataError(f"{path} contains events of {len(sources)} cameras", "write one camera's events to a file")
    return Packets(np.concatenate(parts), dropped, version)


def _truncated(path: Path, start: int) -> DataError:
    return DataError(f"{path} is truncated: its last packet begins at byte {start} and does not end", AGAIN)
