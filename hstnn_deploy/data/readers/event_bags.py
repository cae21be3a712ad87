"""Recordings in ROS bags (version 2.0): messages dvs_msgs/EventArray, and prophesee_event_msgs', which are the same.

The package rosbags finds the messages; what is in one is decoded here, in the layout whose checksum ROS gives: it would
make an object of every event, and compile whatever a file defines.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import one_line, reading

_LAYOUT = "5e8beee5a6c107e504c2e78903c224b8"
"""MD5 of `Header header, uint32 height, uint32 width, Event[] events`, as ROS makes it of the fields' names and types;
an event is `uint16 x, uint16 y, time ts, bool polarity`."""
_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
_CHUNK = 256 * 2**20
"""Bytes of a chunk of a bag, unpacked, at most; recorders write less than a megabyte."""
_RATIO, _LARGE = 200, 64 * 2**20
"""Messages that are more than this multiple of the file, and more than this number of bytes, are refused."""
_CONVERT = "known: dvs_msgs/EventArray, prophesee_event_msgs/EventArray; or write its events as a text of t x y p"


def read_bag(path: Path, options: EventOptions) -> Found:
    """Return the events of one topic of a bag.

    Raises:
        DataError: rosbags is not installed; the bag is damaged, not indexed, or holds no events that are known, or
            those of several cameras, and none was named.
    """
    try:
        from rosbags.rosbag1 import Reader
    except ImportError as error:
        raise DataError(f"{path} is a ROS bag, which needs the package rosbags", "pip install rosbags") from error
    with reading(path, "a ROS bag with its index", hint="rosbag reindex FILE, or copy it again"), Reader(path) as bag:
        chosen, other = _choose(path, bag.connections, options)
        for place, chunk in bag.chunks.items():
            bag.chunks[place] = chunk._replace(decompressor=_bounded(chunk.decompressor))
        parts, sizes, left = [], set(), max(_LARGE, _RATIO * path.stat().st_size)
        for _, _, raw in bag.messages(chosen):
            if (left := left - len(raw) - 64) < 0:
                raise ValueError("its messages are far larger than the file")
            events, size = _events(raw)
            parts.append(events)
            sizes.add(size)
    if len(sizes) > 1:
        raise DataError(
            f"{path} contains events from sensors of {len(sizes)} sizes in one topic", "write one camera's only"
        )
    whole = np.concatenate(parts) if parts else np.empty(0, _EVENT)
    time = whole["s"].astype(np.int64) * 10**9 + whole["ns"]
    columns = {"t": time, **{each: whole[each] for each in "xyp"}}
    (size,) = sizes or {(0, 0)}
    form = f"ROS bag, {one_line(chosen[0].topic)}"
    return Found(form, columns, "ns", other, sensor=size if all(size) else None)


def _choose(path: Path, connections: list[Any], options: EventOptions) -> tuple[list[Any], dict[str, int]]:
    """Return the connections of the topic to read, and how many messages of each other type there are."""
    topics = {each.topic for each in connections if each.digest == _LAYOUT}
    told = ", ".join(f"{one_line(each.topic)} ({one_line(each.msgtype)})" for each in connections[:8]) or "nothing"
    if options.part is not None and options.part not in topics:
        raise DataError(f"{path} has no events in the topic {options.part!r}", f"it contains {told}")
    if not topics:
        raise DataError(f"{path} contains no known event messages: {told}", _CONVERT)
    if options.part is None and len(topics) > 1:
        names = ", ".join(sorted(map(one_line, topics)))
        raise DataError(
            f"{path} contains events of {len(topics)} topics: {names}", f"specify which: --events part={min(topics)}"
        )
    topic = options.part or min(topics)
    chosen = [each for each in connections if each.topic == topic and each.digest == _LAYOUT]
    other: dict[str, int] = {}
    for each in connections:
        if each not in chosen:
            kind = f"messages of {one_line(each.topic)} ({one_line(each.msgtype)})"
            other[kind] = other.get(kind, 0) + each.msgcount
    return chosen, other


def _events(raw: bytes) -> tuple[NDArray[Any], tuple[int, int]]:
    """Return the events of a message, and the width and height that it states."""
    # Header: seq, stamp and the length of a name.
    at = 16 + int.from_bytes(raw[12:16], "little")
    height, width, count = (int.from_bytes(raw[at + each : at + each + 4], "little") for each in (0, 4, 8))
    if len(raw) != at + 12 + count * _EVENT.itemsize:
        raise ValueError(f"a message of {len(raw)} bytes claims {count} events of {_EVENT.itemsize}")
    return np.frombuffer(raw, _EVENT, count, at + 12), (width, height)


def _bounded(unpack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a codec of rosbags' that gives no more than a chunk may have."""
    import bz2

    import lz4.frame

    made = {bz2.decompress: bz2.BZ2Decompressor, lz4.frame.decompress: lz4.frame.LZ4FrameDecompressor}.get(unpack)
    if made is None:
        return unpack

    def bounded(packed: bytes) -> bytes:
        codec = made()
        content: bytes = codec.decompress(packed, max_length=_CHUNK + 1)
        if len(content) > _CHUNK:
            raise ValueError(f"a chunk of {len(packed)} bytes unpacks to more than {_CHUNK}")
        if not codec.eof:
            raise ValueError(f"a chunk of {len(packed)} bytes is cut")
        return content

    return bounded
