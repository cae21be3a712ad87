"""The AEDAT 4 format of DV: a header, then packets, each a table of FlatBuffers that may be compressed.

The package aedat reads it too, but ends the whole process at some damaged files, where it believes a size; and it says
neither what it leaves out nor, by tonic's reader, which of several cameras it takes.

Of iniVation's "AEDAT 4.0": `#!AER-DAT4.0`, the header's size and table (compression, where the packets end, XML of the
streams); of a packet, its stream and size, 32 bits each; of an event, time (64 bits), x, y (16 bits each) and polarity,
in 16 bytes.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import Events, Sensor, make_events
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, reading

_EVENT = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "itemsize": 16})
_EVENTS = b"EVTS"
_OTHERS = {b"FRME": "frames", b"IMUS": "IMU events", b"TRIG": "external triggers"}
_START = len(b"#!AER-DAT4.0\r\n")
_PACKET = 64 * 2**20
"""Bytes of an unpacked packet at most; DV writes 10 ms of a camera into one."""
_RATIO, _LARGE = 300, 64 * 2**20
"""A file that unpacks to more than this multiple of its size, and to more than this number of bytes, is refused."""

Unpack = Callable[[bytes], bytes]


class Stream(NamedTuple):
    """The events of one camera."""

    events: Events
    """By the file's clock, Unix time as a rule, in its order."""
    sensor: Sensor | None


class Found4(NamedTuple):
    """What an AEDAT 4 file holds."""

    streams: Mapping[int, Stream]
    """Those with events, by their numbers."""
    dropped: Mapping[str, int]
    """How many of what else it holds."""


def read_aedat4(path: Path) -> Found4:
    """Return the events of a file, by its streams.

    Raises:
        DataError: it cannot be read, ends within a packet, claims more than it holds, unpacks to far more than it is,
            or is compressed in a way whose package is not installed.
    """
    with reading(path, "an AEDAT 4 file"):
        raw = path.read_bytes()
        (size,) = struct.unpack_from("<I", raw, _START)
        head, at = raw[_START + 4 : _START + 4 + size], _START + 4 + size
        if len(head) < size:
            raise ValueError("it ends within its header")
        table = _Table(head, b"IOHE")
        unpack = _codec(path, table.number(0, "<i", 0))
        end = table.number(1, "<q", -1)
        sensors = _sensors(table.text(2))
        end = len(raw) if end < 0 else end
        if not at <= end <= len(raw):
            raise ValueError(f"its packets end at byte {end} of {len(raw)}")
        parts: dict[int, list[NDArray[np.void]]] = {number: [] for number in sensors}
        dropped: dict[str, int] = {}
        left = max(_LARGE, _RATIO * len(raw))
        while at < end:
            if at + 8 > end:
                raise DataError(f"{path} is truncated: it ends within the head of a packet, at byte {at}", AGAIN)
            number, size = struct.unpack_from("<iI", raw, at)
            if at + 8 + size > end:
                raise DataError(f"{path} is truncated: its packet at byte {at} does not end", AGAIN)
            body = unpack(raw[at + 8 : at + 8 + size])
            at += 8 + size
            if (left := left - len(body)) < 0:
                raise DataError(f"{path} of {len(raw)} bytes unpacks to far more", AGAIN)
            kind, body = body[8:12], body[4:]
            packet = _Table(body, kind)
            if kind == _EVENTS:
                parts.setdefault(number, []).append(packet.rows(0, _EVENT))
            else:
                name = _OTHERS.get(kind, "packets of another kind")
                dropped[name] = dropped.get(name, 0) + (packet.length(0) if kind in (b"IMUS", b"TRIG") else 1)
    streams = {}
    for number, held in parts.items():
        rows = np.concatenate([np.empty(0, _EVENT), *held])
        events = make_events(rows["x"], rows["y"], rows["t"], rows["p"] != 0)
        streams[number] = Stream(events, sensors.get(number))
    return Found4(streams, dropped)


class _Table:
    """A table of FlatBuffers: where its fields are is in a table of offsets before it."""

    def __init__(self, raw: bytes, kind: bytes) -> None:
        if raw[4:8] != kind:
            raise ValueError(f"a table begins with {raw[4:8]!r}, not {kind!r}")
        self.raw = raw
        (self.start,) = self._at("<I", 0)
        self.offsets = self.start - self._at("<i", self.start)[0]

    def _at(self, kind: str, place: int) -> tuple[int, ...]:
        if not 0 <= place <= len(self.raw) - struct.calcsize(kind):
            raise ValueError(f"a table of {len(self.raw)} bytes points to byte {place}")
        return struct.unpack_from(kind, self.raw, place)

    def _field(self, number: int) -> int:
        """Return where a field is; 0 where it is not there."""
        entry = 4 + 2 * number
        offset = self._at("<H", self.offsets + entry)[0] if entry + 2 <= self._at("<H", self.offsets)[0] else 0
        return self.start + offset if offset else 0

    def number(self, number: int, kind: str, default: int) -> int:
        """Return a field that is a number."""
        place = self._field(number)
        return self._at(kind, place)[0] if place else default

    def _vector(self, number: int) -> tuple[int, int]:
        place = self._field(number)
        if not place:
            return 0, 0
        begin = place + self._at("<I", place)[0]
        return begin + 4, self._at("<I", begin)[0]

    def length(self, number: int) -> int:
        """Return the length of a field that is a list; no longer than 4 bytes each allow."""
        begin, length = self._vector(number)
        if length and begin + 4 * length > len(self.raw):
            raise ValueError(f"a table of {len(self.raw)} bytes claims {length} parts")
        return length

    def text(self, number: int) -> str:
        """Return a field that is a text."""
        begin, length = self._vector(number)
        if begin + length > len(self.raw):
            raise ValueError(f"a table of {len(self.raw)} bytes claims a text of {length}")
        return self.raw[begin : begin + length].decode("utf-8")

    def rows(self, number: int, kind: np.dtype[np.void]) -> NDArray[np.void]:
        """Return a field that is a list of rows."""
        begin, length = self._vector(number)
        if length and begin + length * kind.itemsize > len(self.raw):
            raise ValueError(f"a packet of {len(self.raw)} bytes claims {length} events of {kind.itemsize}")
        return np.frombuffer(self.raw, kind, length, begin if length else 0)


def _sensors(text: str) -> dict[int, Sensor | None]:
    """Return the streams of events that the header's XML names, and their sensors."""
    # Entities could make much of little.
    if "<!" in text:
        raise ValueError("its header is XML with declarations")
    found: dict[int, Sensor | None] = {}
    for node in ElementTree.fromstring(text).iter("node") if text else ():
        told = {each.get("key"): each.text or "" for each in node.findall("attr")}
        if told.get("typeIdentifier") == _EVENTS.decode() and (node.get("name") or "").isdecimal():
            info = next((each for each in node.findall("node") if each.get("name") == "info"), node)
            size = {each.get("key"): each.text or "" for each in info.findall("attr")}
            width, height = (int(size.get(key) or 0) for key in ("sizeX", "sizeY"))
            found[int(node.get("name") or 0)] = Sensor(width, height) if 0 < width < 2**15 > height > 0 else None
    return found


def _zstd() -> Any:
    """Return the class that unpacks Zstandard, of Python 3.14 or of the package that brings it to those before."""
    try:
        from compression.zstd import ZstdDecompressor
    except ImportError:
        from backports.zstd import ZstdDecompressor
    return ZstdDecompressor


def _codec(path: Path, number: int) -> Unpack:
    """Return what unpacks a packet.

    Raises:
        DataError: the package that does is not installed, or the number means nothing.
    """
    if number == 0:
        return lambda packed: packed
    name = "lz4" if number in (1, 2) else "backports.zstd"
    if number not in (1, 2, 3, 4):
        raise DataError(f"{path} is damaged: its compression has the number {number}", AGAIN)
    try:
        if name == "lz4":
            from lz4.frame import LZ4FrameDecompressor as Codec
        else:
            Codec = _zstd()
    except ImportError as error:
        what = "LZ4" if name == "lz4" else "Zstandard"
        raise DataError(
            f"{path} is compressed by {what}: the package {name} unpacks it", f"pip install {name}"
        ) from error

    def unpack(packed: bytes) -> bytes:
        codec = Codec()
        content: bytes = codec.decompress(packed, max_length=_PACKET + 1)
        if len(content) > _PACKET or not codec.eof:
            raise ValueError(f"a packet of {len(packed)} bytes is cut, or unpacks to more than {_PACKET}")
        return content

    return unpack
