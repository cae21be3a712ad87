"""Recordings that say too little, or what cannot be: each refused in one line that says what would work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hstnn_deploy.data.events.events import EVENT, Sensor
from hstnn_deploy.errors import DataError
from tests.event_encoders import fields, hdf5, plain, text
from tests.event_files import aedat, aedat2, dat, evt2, random_events
from tests.event_forms import REF, opened, pairs, polarity, shuffled

Write = Callable[[Path], Any]


def array(values: Any) -> Write:
    return lambda path: np.save(path, values)


def arrays(**values: Any) -> Write:
    return lambda path: np.savez(path, **values)


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def with_nan(nan: float = np.nan) -> Any:
    made = fields(REF, REF["t"].astype(float))
    made["t"][5] = nan
    return made


def twice() -> Any:
    made = np.zeros(900, [("ts", "i8"), ("time", "i8"), ("x", "i4"), ("y", "i4"), ("p", "i1")])
    for name in ("x", "y", "p"):
        made[name] = REF[name]
    made["ts"] = made["time"] = REF["t"]
    return made


def header() -> bytes:
    """A .npy file whose header claims 4 TB."""
    told = {"descr": EVENT.descr, "fortran_order": False, "shape": (10**11,)}
    return b"\x93NUMPY\x01\x00v\x00" + (str(told).ljust(0x75) + "\n").encode()[:0x76]


_EVT21 = b"% evt 2.1\n% end\n" + bytes(16)

REFUSED: dict[str, tuple[str, Write, str, str, str]] = {
    # name: suffix, what writes it, --events, what is wrong, what would work
    "nanoseconds": (".npy", array(fields(REF, REF["t"] * 1000)), "", "does not specify the unit", "--events unit=ns"),
    "milliseconds": (".npy", array(fields(REF, REF["t"] // 1000)), "", "does not specify the unit", "--events unit=ms"),
    "minutes": (".npy", array(fields(REF, REF["t"].astype("m8[m]"))), "", "type timedelta64[m]", "s, ms, us or ns"),
    "too large for its unit": (".npy", array(fields(REF, REF["t"] * 10**12)), "unit=s", "reach 2.99", "unit=…"),
    "no event": (".npy", array(np.zeros(0, EVENT)), "", "contains no events", "nothing for the network"),
    "no row": (".npy", array(np.zeros((0, 4))), "", "contains no events", "nothing for the network"),
    "NaN": (".npy", array(with_nan()), "", "event 5 of 900 has t nan", "--events drop=nan"),
    "infinite": (".npy", array(with_nan(np.inf)), "", "event 5 of 900 has t inf", "--events drop=nan"),
    "NaT": (".npy", array(fields(REF, np.full(900, "NaT", "M8[us]"))), "", "has t NaT", "remove these events first"),
    "all NaT": (".npy", array(fields(REF, np.full(900, "NaT", "M8[us]"))), "drop=nan", "no event that is all", ""),
    "shuffled": (".npy", array(shuffled()), "", "before the one before it", "--events sort"),
    "objects": (".npy", array(np.array([1, "a"], object)), "", "contains Python objects", "array of numbers"),
    "text in x": (".npy", array(fields(REF, x="<U3")), "", "x has type <U3", "real numbers"),
    "complex": (".npy", array(plain(REF, "txyp", complex)), "", "of type complex128", "plain rows [N, 4]"),
    "polarity 1 and 2": (".npy", array(polarity(lambda p: p + 1)), "", "polarity is 1 to 2", "p=1/2"),
    "another pair": (".npy", array(polarity(lambda p: p)), "p=1/2", "1 and 2, as given are expected", "p=1/2"),
    "uncertain columns": (
        ".npy",
        array(plain(REF, "txyp")[:, [1, 2, 1, 2]]),
        "",
        "not certain",
        "--events order=txyp",
    ),
    "two columns ascend": (".npy", array(plain(REF, "ttyp")), "", "not certain", "--events order=txyp"),
    "two names of times": (".npy", array(twice()), "", "ts or time may be t", "--events t=ts"),
    "order against names": (".npy", array(fields(REF)), "order=xytp", "its column 't' is t; --events order", "leave"),
    "order of five": (".npy", array(fields(REF)), "order=xytp-", "has 4 columns", "omit order"),
    "order of plain five": (".npy", array(plain(REF, "txyp")), "order=xytp-", "has 4 columns", "- for one"),
    "a name of plain rows": (".npy", array(plain(REF, "txyp")), "t=when", "no 'when'", "order="),
    "a name that is not there": (".npy", array(fields(REF)), "t=when", "no field 'when'", "it has t, x, y, p"),
    "a part of one": (".npy", array(fields(REF)), "part=a", "has no part 'a'", "one array without a name"),
    "a part of others": (".npz", arrays(a=fields(REF)), "part=b", "has no part 'b'", "it has a"),
    "no array": (".npz", arrays(), "", "contains no array", "numpy.save"),
    "recording of an array": (".npy", array(fields(REF)), "recording=1", "contains one recording", "leave it out"),
    "order of a camera's": (".dat", raw(dat(REF)), "order=txyp", "columns have their own order", "leave it out"),
    "name of a camera's": (".aedat", raw(aedat(REF)), "t=ts", "fixed names", "leave it out"),
    "part of a camera's": (".aedat", raw(aedat(REF)), "part=1", "has no parts", "leave it out"),
    "unknown format": (".npy", array(fields(REF)), "format=npy", "unknown format", "numpy"),
    "another format": (".npy", array(fields(REF)), "format=dat", "is damaged, or not a .dat file", "again"),
    "another sensor": (
        ".npy",
        array(fields(random_events(0, 900, Sensor(90, 60), 9), REF["t"])),
        "",
        "x ",
        "x 0 to 89",
    ),
    "counted from 1": (
        ".npy",
        array(plain(REF, "txyp") + np.array([0, 1, 1, 0])),
        "order=txyp",
        "34",
        "--events origin=1",
    ),
    "offset beyond": (".npy", array(fields(REF)), "offset=-1s", "all 900 events come before 0", "offset"),
    "negative": (".npy", array(fields(REF, REF["t"] - 700)), "start=file", "before the recording began", "start=first"),
    "ES-ImageNet": (".npz", arrays(**pairs()), "", "are ambiguous", "order=xyt, or order=yxt"),
    "unequal columns": (
        ".npz",
        arrays(**{n: REF[n][: 9 if n == "x" else 8] for n in "txyp"}),
        "",
        "differ in length",
        "of each",
    ),
    "no y": (".npz", arrays(t=REF["t"], x=REF["x"], p=REF["p"]), "", "no y", "y=NAME"),
    "no events": (".npz", arrays(weights=REF["t"], p=REF["x"]), "", "contains no events", "t=NAME"),
    "truncated": (".npy", raw(b"\x93NUMPY\x01\x00v\x00{'descr'"), "", "is damaged", "again"),
    "4 TB": (".npy", raw(header()), "", "is damaged", "again"),
    "triggers": (".dat", raw(dat(REF, 0x0E)), "", "contains 900 external triggers", "CD events"),
    "unknown type": (".dat", raw(dat(REF, 0x11)), "", "type 0x11", "0x0C"),
    "stated sensor": (".dat", raw(dat(REF, size=(304, 240))), "", "a sensor of 304 x 240", "sensor=34x34"),
    "no header": (".dat", raw(dat(REF)[50:]), "", "is damaged, or not a .dat file", "again"),
    "AEDAT 1": (".aedat", raw(b"#!AER-DAT1.0\r\n" + bytes(60)), "", "is of AEDAT 1", "AEDAT 3.1"),
    "AEDAT 2": (".aedat", raw(aedat2(REF)), "", "is from a sensor of 128 x 128", "--events sensor=34x34"),
    "AEDAT 2 of a DAVIS": (
        ".aedat",
        raw(aedat2(REF, "eu.seebetter.ini.chips.davis.DAVIS240C", (240, 180))),
        "",
        "from a sensor of 240 x 180",
        "",
    ),
    "AEDAT 2 of a cochlea": (
        ".aedat",
        raw(aedat2(REF, "ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c")),
        "",
        "from the camera 'CochleaAMS1c', whose addresses",
        "AEDAT 3.1",
    ),
    "AEDAT 2 of two": (
        ".aedat",
        raw(b"#!AER-DAT2.0\r\n# AEChip: a.DVS128\r\n# AEChip: a.Davis640\r\n" + bytes(8)),
        "",
        "names 2 cameras",
        "one camera",
    ),
    "AEDAT 2 of who knows": (
        ".aedat",
        raw(aedat2(REF, "davis", (346, 260)).replace(b"# AEChip: davis\r\n", b"")),
        "",
        "names no camera (# AEChip: …), and its addresses are not a DVS128's",
        "AEDAT 4",
    ),
    "AEDAT 2 of another": (
        ".aedat",
        raw(aedat2(REF, "davis", (346, 260)).replace(b"AEChip: davis", b"AEChip: DVS128")),
        "",
        "is damaged, or not of a DVS128: event 0 has the address 0x",
        "AEDAT 3.1",
    ),
    "AEDAT 2, cut": (".aedat", raw(aedat2(REF)[:-3]), "", "is truncated: 7197 bytes after its header", "again"),
    "AEDAT 3.0": (".aedat", raw(b"#!AER-DAT3.0\r\n" + bytes(80)), "", "counts y from below", "sensor=WxH"),
    "AEDAT 3.2": (".aedat", raw(aedat(REF).replace(b"T3.1", b"T3.2")), "", "version 3.2, not 3.0 or 3.1", "again"),
    "two cameras": (
        ".aedat",
        raw(aedat(REF) + aedat(REF, source=2).partition(b"Header\r\n")[2]),
        "",
        "events of 2 cameras",
        "one camera",
    ),
    "all invalid": (".aedat", raw(aedat(REF, invalid=range(900))), "", "900 events marked invalid", "nothing"),
    "EVT 2.1": (".raw", raw(_EVT21), "", "is in EVT 2.1", ".dat"),
    "EVT 4": (".raw", raw(_EVT21.replace(b"2.1", b"4.0")), "", "is in EVT 4", ".dat"),
    "EVT 2, cut": (".raw", raw(evt2(REF)[:-3]), "sensor=34x34", "is truncated", "again"),
    "raw without header": (".raw", raw(bytes(16)), "", "has no header", ".dat"),
    "ROS 2, SQLite": (".db3", raw(b"SQLite format 3\0" + bytes(80)), "", "bag of ROS 2 (SQLite)", "rosbags-convert"),
    "ROS 2, MCAP": (".mcap", raw(b"\x89MCAP0\r\n" + bytes(80)), "", "bag of ROS 2 (MCAP)", "rosbags-convert"),
    "ROS of before": (".bag", raw(b"#ROSBAG V1.2\n" + bytes(80)), "", "another version than 2.0", "rosbag"),
    "gzip": (".npy", raw(b"\x1f\x8b" + bytes(80)), "", "packed by gzip", "gunzip"),
    "no name": ("", raw(bytes(20)), "", "hstnn reads, judging by its first bytes and its name", "format=aedat2"),
    "HDF5 of something": (".h5", lambda path: hdf5(path, {"weights": REF["t"]}), "", "no known events", "CD/"),
    "HDF5, cut": (".h5", raw(b"\x89HDF\r\n\x1a\n" + bytes(8)), "", "is damaged, or not an HDF5 file", "again"),
    "no HDF5": (".h5", raw(b"HDF5" + bytes(8)), "", "is truncated or not a .h5 file", "again"),
    "a page": (".bin", raw(b"<!DOCTYPE html><html>Not here</html>"[:35]), "", "event", ""),
    "words": (".txt", raw(b"a b c d\n1 2 3 four\n"), "", "is damaged, or not a text of numbers", "again"),
    "unequal lines": (".txt", raw(text(REF, "txyp") + b"1 2 3\n"), "", "is damaged, or not a text of", "again"),
    "only comments": (".csv", raw(b"t,x,y,p\n# nothing\n"), "", "contains no events", "nothing for the network"),
    "a column too many": (".csv", raw(b"t,x,y,p\n1,2,3,1,5\n"), "", "names 4 columns but has 5", "first line"),
    "a name twice": (".csv", raw(b"t,x,x,p\n1,2,3,1\n"), "", "two columns with the same name", "first line"),
    "UTF-16": (".csv", raw("t,x,y,p\n".encode("utf-16")), "", "is damaged, or not a text", "again"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_says_too_little_or_is_wrong_is_refused_with_what_would_work(name: str, tmp_path: Path) -> None:
    suffix, write, said, wrong, works = REFUSED[name]
    path = tmp_path / f"recording{suffix}"
    write(path)
    with pytest.raises(DataError) as error:
        opened(path, said)
    assert wrong in error.value.message
    assert works in error.value.hint
    assert "\n" not in error.value.message
    assert str(path) in error.value.message or "format=" in error.value.message


def test_a_codec_that_is_not_here_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((100,))
        made.set_filter(36559, h5py.h5z.FLAG_OPTIONAL, ())
        kind = h5py.h5t.py_create(fields(REF).dtype, logical=True)
        group = h5py.h5g.create(file.id, b"CD")
        h5py.h5d.create(group, b"events", kind, h5py.h5s.create_simple((900,)), made)
    with pytest.raises(DataError, match=r"compressed with a codec that is not installed: .*\(36559\)") as error:
        opened(tmp_path / "a.hdf5")
    assert "HDF5_PLUGIN_PATH" in error.value.hint
