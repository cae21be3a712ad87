"""The AEDAT 2.0 format of jAER: a text header, then an address and a time for each event, 32 bits each, big-endian.

An address means what the camera's class in jAER says; the header names it (`# AEChip: …DVS128`). Where it names none,
as before 2014, addresses of 15 bits are a DVS128's, and others are refused.

                 bit 31      y         x        polarity        other events
    DVS128       0           14-8      7-1      0: 0 is ON      bit 15: from outside
    DAVIS240/346 0           30-22     21-12    11: 1 is ON     bit 31: of frames and IMU; bit 10: from outside

From jAER's DVS128.Extractor, DavisChip and DavisBaseCamera, which count x from the right in the address, and y from
below. Here x is counted from the left, as jAER shows it, and y from above, as in every other format. SpikingJelly's
CIFAR10-DVS has x and y the other way round: its frames are ours transposed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import Events, Sensor, make_events, unwrapped
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, one_line, reading

_EVENT_BYTES = 8
_END = b"#End Of ASCII Header"
_CHIP = re.compile(rb"^#\s*AEChip:\s*(\S+)", re.MULTILINE)
_CONVERT = "convert it with jAER to AEDAT 3.1, or with DV to AEDAT 4"


class _Camera(NamedTuple):
    """What the addresses of a camera mean."""

    name: str
    sensor: Sensor
    x: tuple[int, int]
    """Where its bits begin, and how many they are."""
    y: tuple[int, int]
    p: int
    on: int
    """The bit of polarity of an event to brighter."""
    others: tuple[tuple[int, str], ...]
    """Bits that make an address something else than an event of a pixel, the first that is set; and what."""
    unused: int = 0
    """Bits that are never set."""


_OUTSIDE = "events from outside (its input pin)"
_DVS128 = _Camera(
    "DVS128", Sensor(128, 128), (1, 7), (8, 7), 0, 0, ((1 << 31 | 1 << 15, _OUTSIDE),), unused=0x7FFF_0000
)
_DAVIS = ((1 << 31, "samples of frames and of the IMU"), (1 << 10, _OUTSIDE))
_DAVIS240 = _Camera("DAVIS240", Sensor(240, 180), (12, 10), (22, 9), 11, 1, _DAVIS)
_DAVIS346 = _Camera("DAVIS346", Sensor(346, 260), (12, 10), (22, 9), 11, 1, _DAVIS)
_CAMERAS = {r"dvs128": _DVS128, r"davis240[abc]?": _DAVIS240, r"davis346[a-z]*": _DAVIS346}
"""By the name of jAER's class, without its package, in small letters."""


class Found2(NamedTuple):
    """What an AEDAT 2.0 file holds."""

    events: Events
    """By the file's clock, in its order."""
    sensor: Sensor
    camera: str
    """Which camera, and how that is known."""
    named: bool
    """Whether the file names it."""
    dropped: Mapping[str, int]
    """How many words are no events of pixels."""


def read_aedat2(path: Path) -> Found2:
    """Return the events of the pixels.

    Raises:
        DataError: it cannot be read, is no AEDAT 2.0 file, ends within an event, or is of a camera that is not known.
    """
    with reading(path, "an AEDAT 2.0 file"):
        raw = path.read_bytes()
    if not raw.startswith(b"#!AER-DAT2"):
        first = one_line(raw[:40].partition(b"\n")[0].decode("latin-1"))
        what = "is empty" if not raw else f"begins with {first!r}, not with #!AER-DAT2.0"
        raise DataError(f"{path} is not an AEDAT 2.0 file: it {what}", AGAIN)
    start = _after_header(raw)
    if (len(raw) - start) % _EVENT_BYTES:
        left = f"{len(raw) - start} bytes after its header are not whole events of {_EVENT_BYTES}"
        raise DataError(f"{path} is truncated: {left}", AGAIN)
    address, time = np.frombuffer(raw, ">u4", offset=start).reshape(-1, 2).astype(np.int64).T
    camera, named = _camera(path, raw[:start], address)
    time = unwrapped(time, 32)
    dropped: dict[str, int] = {}
    kept = np.ones(len(address), bool)
    for bits, what in camera.others:
        other = kept & ((address & bits) != 0)
        dropped[what] = dropped.get(what, 0) + int(other.sum())
        kept &= ~other
    address = address[kept]
    if (wrong := np.flatnonzero(address & camera.unused)).size:
        given = f"0x{int(address[wrong[0]]):08X}"
        raise DataError(
            f"{path} is damaged, or not of a {camera.name}: event {wrong[0]} has the address {given}", _CONVERT
        )
    events = make_events(
        camera.sensor.width - 1 - _bits(address, *camera.x),
        camera.sensor.height - 1 - _bits(address, *camera.y),
        time[kept],
        (_bits(address, camera.p, 1) == camera.on).astype(np.int64),
    )
    told = camera.name if named else f"taken for a {camera.name}: it names no camera, and its addresses have 15 bits"
    return Found2(events, camera.sensor, told, named, dropped)


def _bits(address: NDArray[np.int64], first: int, count: int) -> NDArray[np.int64]:
    return address >> first & (1 << count) - 1


def _after_header(raw: bytes) -> int:
    """Return where the header ends: after its lines of text that begin with #."""
    start = 0
    while raw[start : start + 1] == b"#":
        end = raw.find(b"\n", start) + 1
        line = raw[start:end]
        # An address may begin with the byte of #; but with it, and what follows, it is no line of text.
        if not end or any(byte < 9 or 13 < byte < 32 for byte in line):
            break
        start = end
        if line.startswith(_END):
            break
    return start


def _camera(path: Path, header: bytes, address: NDArray[np.int64]) -> tuple[_Camera, bool]:
    """Return the camera of a file, and whether the file names it.

    Raises:
        DataError: it is not known, or there are several.
    """
    names = {found.decode("latin-1").rpartition(".")[2] for found in _CHIP.findall(header)}
    if not names:
        if ((address & _DVS128.unused) != 0).any():
            raise DataError(f"{path} names no camera (# AEChip: …), and its addresses are not a DVS128's", _CONVERT)
        return _DVS128, False
    if len(names) > 1:
        raise DataError(f"{path} names {len(names)} cameras", "write one camera's events to a file")
    (name,) = names
    for pattern, camera in _CAMERAS.items():
        if re.fullmatch(pattern, name.lower()):
            return camera, True
    raise DataError(
        f"{path} is of AEDAT 2.0 from the camera {one_line(name)!r}, whose addresses hstnn does not know", _CONVERT
    )
