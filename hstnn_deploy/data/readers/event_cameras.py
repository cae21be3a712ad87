"""Recordings as cameras and their tools write them: AEDAT, Prophesee's .dat and .raw (EVT2, EVT3), and 40-bit .bin.

Prophesee's formats are decoded here by their text: expelliarmus loses steps of EVT3's clock, counts no triggers, and
speaks to the terminal itself.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import unwrapped
from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, reading

Words = NDArray[np.int64]

_TRIGGERS = "external triggers"
_DAT_EVENTS = (0x00, 0x0C)
"""Types of a .dat file's events that are changes of light."""
_DAT_TRIGGER = 0x0E


def read_bin(path: Path) -> Found:
    """Return the events of N-MNIST's form, 40 bits each, from a sensor of any size up to 256 x 240."""
    from hstnn_deploy.data.sets.nmnist import read_bin as read

    with reading(path, "a .bin file of events"):
        events = read(path, None)
    return Found("40-bit events (.bin, N-MNIST's form)", {each: events[each] for each in "txyp"}, "us")


def read_aedat3(path: Path, options: EventOptions) -> Found:
    """Return the polarity events of an AEDAT 3 file; version 3.0 counts y from below, and says not how high it is."""
    from hstnn_deploy.data.events.aedat import read_packets

    with path.open("rb") as file:
        version = file.readline(64)[len(b"#!AER-DAT") :].strip().decode("ascii", errors="replace")
    if version.startswith("1"):
        raise DataError(
            f"{path} is of AEDAT 1, whose addresses have no known meaning",
            "convert it with jAER or DV to AEDAT 3.1 or 4",
        )
    if version == "3.0" and options.sensor is None:
        raise DataError(
            f"{path} is of AEDAT 3.0, which counts y from below and does not state the sensor's height",
            "specify it: --events sensor=WxH; or convert it with DV to AEDAT 4",
        )
    packets = read_packets(path)
    events = packets.events
    columns = {each: events[each] for each in "txyp"}
    notes: tuple[str, ...] = ()
    if version == "3.0" and options.sensor:
        columns["y"] = options.sensor[1] - 1 - columns["y"]
        notes = (f"y of {len(events)} events is counted from below by the format, and taken from above",)
    return Found(f"AEDAT {version}", columns, "us", packets.dropped, notes)


def read_aedat2(path: Path) -> Found:
    """Return the events of an AEDAT 2.0 file of a camera whose addresses are known; others are refused by name."""
    from hstnn_deploy.data.events.aedat2 import read_aedat2 as read

    found = read(path)
    columns = {each: found.events[each] for each in "txyp"}
    notes = () if found.named else (found.camera,)
    form = f"AEDAT 2.0 ({found.camera})" if found.named else "AEDAT 2.0"
    return Found(form, columns, "us", found.dropped, notes, found.sensor[:2])


def read_aedat4(path: Path, options: EventOptions) -> Found:
    """Return the events of one stream of an AEDAT 4 file.

    Raises:
        DataError: it holds no stream of events, or several and none was named; see `aedat4.read_aedat4`.
    """
    from hstnn_deploy.data.events.aedat4 import read_aedat4 as read

    streams, dropped = read(path)
    able = {str(number): stream for number, stream in streams.items()}
    told = ", ".join(able) or "none"
    if options.part is not None and options.part not in able:
        raise DataError(f"{path} has no stream of events {options.part!r}", f"it has {told}")
    if not able:
        raise DataError(f"{path} contains no stream of events", "give the file of the camera's events")
    if options.part is None and len(able) > 1:
        raise DataError(
            f"{path} contains {len(able)} streams of events: {told}", f"specify which: --events part={min(able)}"
        )
    chosen = able[options.part or min(able)]
    others = sum(len(stream.events) for stream in able.values() if stream is not chosen)
    left = {**dropped, "events of other streams": others} if others else dropped
    columns = {each: chosen.events[each] for each in "txyp"}
    return Found("AEDAT 4", columns, "us", left, sensor=chosen.sensor[:2] if chosen.sensor else None)


def read_dat(path: Path) -> Found:
    """Return the events of a Prophesee .dat file; one of external triggers is refused."""
    with reading(path, "a .dat file of events"):
        raw = path.read_bytes()
        start = _after_header(raw)
        # The header: lines of text, then the type and size of an event in a byte each.
        if start == 0 or len(raw) < start + 2 or (len(raw) - start - 2) % 8 or raw[start + 1] != 8:
            raise ValueError("it does not contain a header and whole events of 8 bytes")
        words = np.frombuffer(raw, "<u4", offset=start + 2).reshape(-1, 2).astype(np.int64)
    if raw[start] == _DAT_TRIGGER:
        raise DataError(
            f"{path} contains {len(words)} external triggers (type 0x0E), which are not events of a camera's pixels",
            "give the .dat file of CD events that was recorded beside it",
        )
    if raw[start] not in _DAT_EVENTS:
        raise DataError(
            f"{path} contains events of type 0x{raw[start]:02X}, which is unknown", "known: CD events, 0x0C"
        )
    time, place = words.T
    columns = {
        "t": _unwrapped(time, np.ones(len(time), bool), 32),
        "x": place & 0x3FFF,
        "y": place >> 14 & 0x3FFF,
        "p": place >> 28,
    }
    return Found("Prophesee .dat", columns, "us", sensor=_geometry(raw[:start]))


def read_raw(path: Path) -> Found:
    """Return the events of a Prophesee .raw file in EVT2 or EVT3; EVT 2.1 and 4 are refused by name."""
    with reading(path, "a .raw file of events"):
        raw = path.read_bytes()
        start = _after_header(raw)
        header = raw[:start].decode("latin-1").lower()
        version = re.search(r"^% *(?:format +evt([\d.]+)|evt +([\d.]+))", header, re.MULTILINE)
        named = (version[1] or version[2]).replace(".0", "") if version else ""
        if named not in ("2", "3"):
            what = f"is in EVT {named}" if named else "has no header that says in which EVT format it is"
            raise DataError(f"{path} {what}; EVT2 and EVT3 are read", "Metavision's tools write it as .dat or .csv")
        size = 4 if named == "2" else 2
        if (len(raw) - start) % size:
            raise DataError(f"{path} is truncated: it does not end with a whole word of {size} bytes", AGAIN)
        words = np.frombuffer(raw, f"<u{size}", offset=start).astype(np.int64)
        columns, triggers = _evt2(words) if named == "2" else _evt3(words)
    form = f"Prophesee .raw (EVT{named})"
    return Found(form, columns, "us", {_TRIGGERS: triggers}, sensor=_geometry(raw[:start]))


def _evt2(words: Words) -> tuple[dict[str, Words], int]:
    """Decode words of 32 bits: a type in the highest 4; of events, 6 bits of time, 11 of x and 11 of y."""
    kind = words >> 28
    high = _last(kind == 8, _unwrapped(words & 0xFFF_FFFF, kind == 8, 28) << 6)
    chosen = kind <= 1
    found = words[chosen]
    columns = {
        "t": high[chosen] | (found >> 22 & 0x3F),
        "x": found >> 11 & 0x7FF,
        "y": found & 0x7FF,
        "p": kind[chosen],
    }
    return columns, int((kind == 0xA).sum())


def _evt3(words: Words) -> tuple[dict[str, Words], int]:
    """Decode words of 16 bits: a type in the highest 4; y, both halves of time, and a vector's x hold until the next.

    A vector is 12 or 8 bits, one a pixel to the right of its base; the next continues where it ended.
    """
    kind, value = words >> 12, words & 0xFFF
    high = _last(kind == 8, _unwrapped(value, kind == 8, 12) << 12)
    # A new upper half begins with a lower half of 0.
    time = high + _last((kind == 6) | (kind == 8), np.where(kind == 8, 0, value))
    y = _last(kind == 0, value & 0x7FF)
    size = np.select([kind == 4, kind == 5], [12, 8])
    before = np.cumsum(size) - size
    base = _last(kind == 3, value)
    begin = (base & 0x7FF) - _last(kind == 3, before) + before
    vectors = np.flatnonzero(size)
    bit = np.arange(12)
    owner, place = np.nonzero((value[vectors, None] >> bit & 1) & (bit < size[vectors, None]))
    owner = vectors[owner]
    single = np.flatnonzero(kind == 2)
    at = np.concatenate([single, owner])
    order = np.argsort(at, kind="stable")
    at = at[order]
    columns = {
        "t": time[at],
        "x": np.concatenate([value[single] & 0x7FF, begin[owner] + place])[order],
        "y": y[at],
        "p": np.concatenate([value[single] >> 11, base[owner] >> 11])[order],
    }
    return columns, int((kind == 0xA).sum())


def _last(mask: NDArray[np.bool_], values: Words) -> Words:
    """Return of each word the value of the last one of a mask, itself included; 0 before the first."""
    where = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1)) if len(mask) else np.empty(0, np.int64)
    return np.where(where >= 0, values[where], 0)


def _unwrapped(values: Words, mask: NDArray[np.bool_], bits: int) -> Words:
    """Return values of a counter of some bits that wraps around, made continuous; only those of the mask count."""
    made = values.copy()
    made[mask] = unwrapped(values[mask], bits)
    return made


def _after_header(raw: bytes) -> int:
    """Return where the lines that begin with % end; 0 if there are no such lines."""
    start = 0
    while raw[start : start + 1] == b"%":
        line = raw[start : raw.index(b"\n", start) + 1]
        start += len(line)
        if line.split() == [b"%", b"end"]:
            break
    return start


def _geometry(header: bytes) -> tuple[int, int] | None:
    """Return the width and height of the sensor that a header states."""
    text = header.decode("latin-1").lower()
    if plain := re.search(r"geometry[ :=]+(\d{1,5}) *x *(\d{1,5})", text):
        return int(plain[1]), int(plain[2])
    width, height = (re.search(rf"{side}[ =]+(\d{{1,5}})", text) for side in ("width", "height"))
    return (int(width[1]), int(height[1])) if width and height else None
