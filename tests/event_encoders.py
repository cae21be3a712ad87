"""Recordings of events as others write them: arrays, texts, HDF5, Matlab, ROS and AEDAT 4."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hstnn_deploy.data.events.events import Events

LAYOUT = "5e8beee5a6c107e504c2e78903c224b8"
"""The checksum that ROS gives to dvs_msgs/EventArray."""


def fields(events: Events, time: Any = None, **types: str) -> Any:
    """Return an array with the fields t, x, y and p; the type of each as given."""
    time = np.asarray(events["t"] if time is None else time)
    kinds = {"t": time.dtype.str, "x": "<u2", "y": "<u2", "p": "i1", **types}
    made = np.zeros(len(events), [(name, kinds[name]) for name in "txyp"])
    for name in "xyp":
        made[name] = events[name]
    made["t"] = time
    return made


def plain(events: Events, order: str, kind: Any = np.int64) -> Any:
    """Return plain rows with the columns of an order; `0` is a column of zeros."""
    return np.stack([np.zeros(len(events)) if each == "0" else events[each] for each in order], 1).astype(kind)


def renamed(events: Events, **names: str) -> Any:
    """Return an array whose fields have other names."""
    made = fields(events)
    made.dtype.names = tuple(names.get(name, name) for name in "txyp")
    return made


def text(
    events: Events, order: str, first: str = "", between: str = " ", seconds: bool = True, end: str = "\n"
) -> bytes:
    """Return a text of a line to an event, its times in seconds or microseconds."""

    def word(event: Any, name: str) -> str:
        return f"{event['t'] / 1e6:.9f}" if name == "t" and seconds else str(event[name])

    return (first + end.join(between.join(word(event, name) for name in order) for event in events) + end).encode()


def hdf5(path: Path, tables: Mapping[str, Any], **attributes: str) -> None:
    """Write tables by their places, and attributes of the file."""
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in tables.items():
            file[name] = values
        file.attrs.update(attributes)


def dsec(path: Path, events: Events, offset: int = 53_000_000_000, packed: bool = True) -> None:
    """Write a file of DSEC's form: events by column, an index of milliseconds, and an offset of the clock."""
    path.unlink(missing_ok=True)
    kinds = {"t": "u4", "x": "u2", "y": "u2", "p": "u1"}
    with h5py.File(path, "w") as file:
        for name, kind in kinds.items():
            compression = "gzip" if packed else None
            file.create_dataset(f"events/{name}", data=events[name].astype(kind), compression=compression)
        last = int(events["t"][-1]) // 1000 if len(events) else 0
        file["ms_to_idx"] = np.searchsorted(events["t"], 1000 * np.arange(last + 1)).astype("u8")
        file["t_offset"] = np.int64(offset)


def orchard(events: Events) -> dict[str, Any]:
    """Return a struct TD as Garrick Orchard's Matlab functions make it: counted from 1, polarity 1 and 2."""
    return {"x": events["x"] + 1.0, "y": events["y"] + 1.0, "p": events["p"] + 1.0, "ts": events["t"].astype(float)}


def matlab73(path: Path, held: Mapping[str, Any]) -> None:
    """Write variables, and structs of them, as Matlab's version 7.3 does: HDF5 behind 512 bytes, axes swapped."""
    path.unlink(missing_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in held.items():
            below = {f"{name}/{each}": given for each, given in values.items()} if isinstance(values, dict) else {}
            for place, given in (below or {name: values}).items():
                file[place] = np.atleast_2d(np.asarray(given, float)).T if np.ndim(given) < 2 else np.asarray(given).T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: test".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))


def tactile(events: Events) -> Any:
    """Return ST-MNIST's spiketrain of events on 10 x 10: [101, N], a spike and a time in seconds to a column."""
    train = np.zeros((101, len(events)))
    train[events["x"] + 10 * events["y"], np.arange(len(events))] = 2 * events["p"] - 1
    train[100] = events["t"] / 1e6
    return train


def message(events: Events, size: tuple[int, int], name: bytes = b"camera") -> bytes:
    """Return a message dvs_msgs/EventArray as ROS 1 writes it: header, height, width, and 13 bytes an event."""
    rows = np.zeros(len(events), [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
    for each in "xyp":
        rows[each] = events[each]
    rows["s"], rows["ns"] = events["t"] // 10**6, events["t"] % 10**6 * 1000
    head = struct.pack("<IIII", 0, 0, 0, len(name)) + name
    return head + struct.pack("<III", size[1], size[0], len(events)) + rows.tobytes()


def bag(
    path: Path,
    topics: Mapping[str, tuple[str, str, Sequence[bytes]]],
    compression: str | None = None,
) -> None:
    """Write a ROS bag by rosbags: by topic, the type of its messages, their checksum, and they themselves."""
    from rosbags.rosbag1 import Writer

    path.unlink(missing_ok=True)
    writer = Writer(path)
    if compression:
        writer.set_compression(Writer.CompressionFormat[compression])
    with writer:
        for topic, (kind, checksum, messages) in topics.items():
            link = writer.add_connection(topic, kind, msgdef="uint32 seq\n", md5sum=checksum)
            for number, raw in enumerate(messages):
                writer.write(link, number, raw)


def events_bag(path: Path, events: Events, size: tuple[int, int], compression: str | None = None) -> None:
    """Write a ROS bag of events, 100 to a message, and of two messages of something else."""
    package = "prophesee" if compression == "LZ4" else "dvs"
    kind = "prophesee_event_msgs/msg/EventArray" if package == "prophesee" else "dvs_msgs/msg/EventArray"
    parts = [message(events[start : start + 100], size) for start in range(0, len(events), 100)]
    other = ("sensor_msgs/msg/Imu", "6a62c6daae103f4ff57a132d6f95cec2", [bytes(8), bytes(8)])
    bag(path, {f"/{package}/events": (kind, LAYOUT, parts), "/imu": other}, compression)


_STREAMS = '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">{}</node></dv>'
_STREAM = (
    '<node name="{0}" path="/mainloop/Recorder/outInfo/{0}/"><attr key="compression" type="string">NONE</attr>'
    '<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/mainloop/Recorder/outInfo/{0}/info/">'
    '<attr key="sizeX" type="int">{1}</attr><attr key="sizeY" type="int">{2}</attr></node></node>'
)


def aedat4(streams: Sequence[Events], size: tuple[int, int], compression: int = 0, others: int = 0) -> bytes:
    """Return an AEDAT 4 file of streams of events, 100 to a packet: tables of FlatBuffers, and XML.

    Args:
        streams: of events.
        size: of their sensors.
        compression: 0 none, 1 LZ4, 3 Zstandard.
        others: packets of frames that stand before the events.
    """
    codecs: dict[int, Callable[[bytes], bytes]] = {0: bytes, 1: _lz4, 3: _zstd}
    packed = codecs[compression]
    told = _STREAMS.format("".join(_STREAM.format(number, *size) for number in range(len(streams)))).encode()
    table = struct.pack("<I4s6x5HiiIq", 24, b"IOHE", 10, 20, 4, 12, 8, 10, compression, 12, -1)
    head = table + struct.pack("<I", len(told)) + told + b"\0"
    raw = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(head)) + head
    kind = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "itemsize": 16})
    frame = packed(struct.pack("<II4sHHi", 16, 12, b"FRME", 4, 4, 4))
    raw += (struct.pack("<ii", 9, len(frame)) + frame) * others
    for number, events in enumerate(streams):
        for start in range(0, len(events), 100):
            part = events[start : start + 100]
            rows = np.zeros(len(part), kind)
            for each in "txyp":
                rows[each] = part[each]
            body = struct.pack("<I4sHHHxxiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(part)) + rows.tobytes()
            body = packed(struct.pack("<I", len(body)) + body)
            raw += struct.pack("<ii", number, len(body)) + body
    return raw


def _lz4(content: bytes) -> bytes:
    import lz4.frame

    made: bytes = lz4.frame.compress(content)
    return made


def _zstd(content: bytes) -> bytes:
    from backports import zstd

    made: bytes = zstd.compress(content)
    return made
