"""One recording in every form that is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io

from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.preprocessing import Frames, framed
from hstnn_deploy.data.readers.event_columns import Expected, Recording
from hstnn_deploy.data.readers.event_files import is_recording, read_recording
from hstnn_deploy.data.readers.event_options import parse_options
from tests.event_encoders import (
    aedat4,
    dsec,
    events_bag,
    fields,
    hdf5,
    matlab73,
    orchard,
    plain,
    renamed,
    text,
)
from tests.event_files import aedat, aedat2, dat, evt2, evt3, random_events, write_bin

CAMERA = Sensor(34, 34)
HOW = Frames(sensor=CAMERA, transforms=[], frame_time=3000, steps=15, binary=False)
NMNIST = Expected(HOW, "nmnist")


def recording() -> Events:
    """A recording of 300 ms whose first event comes 654 us after the beginning; some are in every frame."""
    events = random_events(0, 900, CAMERA, 300_000)
    events["t"] += 654 - events["t"][0]
    return events


REF = recording()


def later(by: int, events: Events = REF) -> Events:
    events = events.copy()
    events["t"] += by
    return events


class Form(NamedTuple):
    suffix: str
    write: Callable[[Path, Events, Sensor], Any]
    told: str = ""
    """What the report says."""
    said: str = ""
    """What `--events` must say; {w} and {h} are the sensor's."""
    format: str = "numpy"
    """The name of the format; see `event_files.FORMATS`."""
    needs: str = ""
    """The library that reads it, where that is no dependency."""


def _array(make: Callable[[Events], Any]) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, _: np.save(path, make(events))


def _arrays(make: Callable[[Events], dict[str, Any]]) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, _: np.savez(path, **make(events))


def _raw(make: Callable[[Events], bytes]) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, _: path.write_bytes(make(events))


def _mat(make: Callable[[Events], dict[str, Any]], **how: Any) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, _: scipy.io.savemat(path, make(events), **how)


def _hdf5(make: Callable[[Events], dict[str, Any]]) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, _: hdf5(path, make(events))


def _aedat4(make: Callable[[Events, tuple[int, int]], bytes]) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, sensor: path.write_bytes(make(events, sensor[:2]))


def _bag(compression: str | None = None) -> Callable[[Path, Events, Sensor], Any]:
    return lambda path, events, sensor: events_bag(path, events, sensor[:2], compression)


def polarity(mapped: Callable[[Any], Any], events: Events = REF) -> Any:
    made = fields(events)
    made["p"] = mapped(events["p"].astype(np.int8))
    return made


def pairs(events: Events = REF) -> dict[str, Any]:
    return {
        name: np.stack([events[each][events["p"] == p] for each in "xyt"], 1) for name, p in (("pos", 1), ("neg", 0))
    }


def shuffled(events: Events = REF) -> Events:
    return events[np.random.default_rng(0).permutation(len(events))]


def columns(events: Events, names: Sequence[str] = "txyp", place: str = "") -> dict[str, Any]:
    return {place + name: events[each] for name, each in zip(names, "txyp", strict=True)}


def _below(path: Path, events: Events, sensor: Sensor) -> None:
    """Write AEDAT 3.0, which counts y from below."""
    turned = events.copy()
    turned["y"] = sensor.height - 1 - events["y"]
    path.write_bytes(aedat(turned).replace(b"#!AER-DAT3.1", b"#!AER-DAT3.0"))


def _metavision(path: Path, events: Events, sensor: Sensor) -> None:
    triggers = np.zeros(3, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
    tables = {"CD/events": fields(events), "CD/indexes": triggers[["t", "id"]], "EXT_TRIGGER/events": triggers}
    hdf5(path, tables, geometry=f"{sensor.width}x{sensor.height}")


_T = "times in"
_DAVIS = "eu.seebetter.ini.chips.davis.Davis346red"
_DETECTED = "plain columns, detected as"

FORMS: dict[str, Form] = {
    "tonic": Form(".npy", _array(lambda e: e), f"{_T} microseconds (whole numbers count as microseconds)"),
    "another order": Form(".npy", _array(fields), "file's clock"),
    "big endian": Form(".npy", _array(lambda e: e.astype([(name, ">i8") for name in "xytp"]))),
    "unsigned": Form(".npy", _array(lambda e: fields(e, e["t"].astype(np.uint64), p="u1")), "polarity 0 and 1"),
    "float32 microseconds": Form(".npy", _array(lambda e: fields(e, e["t"].astype(np.float32))), "microseconds"),
    "float seconds": Form(".npy", _array(lambda e: fields(e, e["t"] / 1e6, p="?")), f"{_T} seconds (fractions"),
    "said seconds": Form(".npy", _array(lambda e: fields(e, e["t"] / 1e6)), f"{_T} seconds (as given)", "unit=s"),
    "said ns": Form(".npy", _array(lambda e: fields(e, e["t"] * 1000)), f"{_T} nanoseconds (as given)", "t=ns"),
    "timedelta": Form(".npy", _array(lambda e: fields(e, e["t"].astype("m8[us]"))), "their type, timedelta64[us]"),
    "timedelta in ns": Form(".npy", _array(lambda e: fields(e, (e["t"] * 1000).astype("m8[ns]"))), "nanoseconds"),
    "float places": Form(".npy", _array(lambda e: fields(e, x="<f4", y="<f4", p="<f4"))),
    "shape (1, N)": Form(".npy", _array(lambda e: e[None])),
    "polarity -1 and 1": Form(
        ".npy", _array(lambda e: polarity(lambda p: 2 * p - 1, e)), "polarity -1 and 1, taken as 0 and 1"
    ),
    "polarity 1 and 2": Form(
        ".npy", _array(lambda e: polarity(lambda p: p + 1, e)), "taken as 0 and 1, as given", "p=1/2"
    ),
    "swapped polarity": Form(".npy", _array(lambda e: polarity(lambda p: 1 - p, e)), "polarity 1 and 0", "p=1/0"),
    "counted from 1": Form(
        ".npy",
        _array(lambda e: plain(e, "txyp") + np.array([0, 1, 1, 0])),
        "x and y are counted from 1 (as given): 1 is taken off those of",
        "order=txyp,origin=1",
    ),
    "counted from below": Form(
        ".npy",
        lambda path, e, sensor: np.save(path, plain(e, "txyp") * [1, 1, -1, 1] + [0, 0, sensor.height - 1, 0]),
        "is counted from the other side, as given",
        "order=txyp,flip=y",
    ),
    "other names": Form(
        ".npy", _array(lambda e: renamed(e, t="timestamp", p="polarity")), "timestamp as t, polarity as p"
    ),
    "names with a unit": Form(".npy", _array(lambda e: renamed(e, t="t_us")), f"{_T} microseconds (by its name, t_us)"),
    "names of its own": Form(
        ".npy", _array(lambda e: renamed(e, t="when", x="across")), "when as t, across as x", "t=when,x=across"
    ),
    "names of no meaning": Form(
        ".npy",
        _array(lambda e: renamed(e, t="f0", x="f1", y="f2", p="f3")),
        "f0 as t, f1 as x, f2 as y, f3 as p",
        "t=us,x,y,p",
    ),
    "shuffled": Form(".npy", _array(shuffled), "events were out of order in time and were sorted", "sort"),
    "plain txyp": Form(".npy", _array(lambda e: plain(e, "txyp")), f"{_DETECTED} t, x, y, p"),
    "plain xytp": Form(".npy", _array(lambda e: plain(e, "xytp", np.float64)), f"{_DETECTED} x, y, t, p"),
    "plain xypt": Form(".npy", _array(lambda e: plain(e, "xypt")), "columns xypt, as given", "order=xypt"),
    "plain pyxt": Form(".npy", _array(lambda e: plain(e, "pyxt")), "columns pyxt, as given", "p,y,x,t=us"),
    "plain and zeros": Form(".npy", _array(lambda e: plain(e, "txyp0")), f"{_DETECTED} t, x, y, p, -"),
    "arrays by name": Form(".npz", _arrays(columns), "arrays by name"),
    "arrays, packed": Form(".npz", lambda path, e, _: np.savez_compressed(path, **columns(e)), "arrays by name"),
    "one array": Form(".npz", _arrays(lambda e: {"event_data": fields(e)}), "array with fields"),
    "one of several": Form(
        ".npz", _arrays(lambda e: {"a": fields(later(9, e)), "b": fields(e)}), "array with fields", "part=b"
    ),
    "ES-ImageNet, said": Form(".npz", _arrays(pairs), "put together by time", "order=xyt"),
    "text in seconds": Form(".txt", _raw(lambda e: text(e, "txyp")), f"{_T} seconds", format="text"),
    "text with the size": Form(
        ".txt",
        lambda path, e, s: path.write_bytes(text(e, "txyp", f"{s.width} {s.height}\n")),
        f"{_T} seconds",
        format="text",
    ),
    "tabs and comments": Form(
        ".tsv",
        _raw(lambda e: text(e, "txyp", "# by a camera\n\n% of its own\n", "\t", False, "\r\n")),
        f"{_DETECTED} t, x, y, p",
        format="text",
    ),
    "table": Form(".csv", _raw(lambda e: text(e, "xypt", "x,y,p,t\n", ",", False)), "a text with names", format="text"),
    "table with units": Form(
        ".csv",
        _raw(lambda e: b"\xef\xbb\xbf" + text(e, "txyp", 'timestamp [us],"x",y,polarity\n', ", ", False)),
        "microseconds (by its name, timestamp [us])",
        format="text",
    ),
    "table with comment": Form(
        ".txt", _raw(lambda e: text(e, "xypt", "# x y pol ts\n", " ", False)), "pol as p", format="text"
    ),
    "Metavision's table": Form(
        ".csv",
        lambda path, e, s: path.write_bytes(text(e, "xypt", f"%geometry:{s.width},{s.height}\n%camera\n", ",", False)),
        f"{_DETECTED} x, y, p, t",
        format="text",
    ),
    "semicolons": Form(
        ".csv", _raw(lambda e: text(e, "ptyx", "", ";", False)), "columns ptyx", "p,t=us,y,x", format="text"
    ),
    "N-MNIST": Form(".bin", lambda path, e, _: write_bin(path, e), "by the format", format="bin"),
    "N-MNIST without a name": Form("", lambda path, e, _: write_bin(path, e), "", "format=bin", format="bin"),
    "dat": Form(".dat", _raw(dat), "Prophesee .dat", format="dat"),
    "dat of an old type": Form(".dat", _raw(lambda e: dat(e, 0)), "Prophesee .dat", format="dat"),
    "EVT2": Form(".raw", _raw(lambda e: evt2(e, 3)), "left out: 3 external triggers", "sensor={w}x{h}", format="raw"),
    "EVT3": Form(".raw", _raw(lambda e: evt3(e, 2)), "left out: 2 external triggers", "sensor={w}x{h}", format="raw"),
    "AEDAT 3.1": Form(".aedat", _raw(aedat), "AEDAT 3.1", format="aedat"),
    "AEDAT 3.0": Form(
        ".aedat", _below, "counted from below by the format, and taken from above", "sensor={w}x{h}", format="aedat"
    ),
    "AEDAT 2": Form(".aedat", _raw(aedat2), "AEDAT 2.0 (DVS128)", "sensor={w}x{h}", format="aedat2"),
    "AEDAT 2 without a camera": Form(
        ".aedat", _raw(lambda e: aedat2(e, "")), "taken for a DVS128: it names no", "sensor={w}x{h}", format="aedat2"
    ),
    "AEDAT 2 of a DAVIS346": Form(
        ".aedat",
        _raw(lambda e: aedat2(e, _DAVIS, (346, 260))),
        "AEDAT 2.0 (DAVIS346)",
        "sensor={w}x{h}",
        format="aedat2",
    ),
    "AEDAT without a suffix": Form("", _raw(aedat), "AEDAT 3.1", format="aedat"),
    "AEDAT with IMU": Form(".aedat", _raw(lambda e: aedat(e, (1, 3))), "IMU events", format="aedat"),
    "AEDAT with all": Form(".aedat", _raw(lambda e: aedat(e, (0, 2, 1, 3))), "special events", format="aedat"),
    "AEDAT 4": Form(
        ".aedat4", _aedat4(lambda e, size: aedat4([e], size, others=5)), "left out: 5 frames", format="aedat4"
    ),
    "AEDAT 4, LZ4": Form(
        ".aedat4", _aedat4(lambda e, size: aedat4([e], size, 1)), "AEDAT 4", format="aedat4", needs="lz4"
    ),
    "AEDAT 4, Zstandard": Form(
        ".aedat4", _aedat4(lambda e, size: aedat4([e], size, 3)), "AEDAT 4", format="aedat4", needs="backports.zstd"
    ),
    "AEDAT 4 of two": Form(
        ".aedat4",
        _aedat4(lambda e, size: aedat4([later(7, e), e], size)),
        "events of other streams",
        "part=1",
        format="aedat4",
    ),
    "ROS": Form(".bag", _bag(), "left out: 2 messages of /imu (sensor_msgs/msg/Imu)", format="bag", needs="rosbags"),
    "ROS, bz2": Form(".bag", _bag("BZ2"), "ROS bag, /dvs/events", format="bag", needs="rosbags"),
    "ROS, lz4, of Prophesee": Form(".bag", _bag("LZ4"), "ROS bag, /prophesee/events", format="bag", needs="rosbags"),
    "Metavision HDF5": Form(".hdf5", _metavision, "left out: 3 external triggers", format="hdf5"),
    "DSEC": Form(".h5", lambda path, e, _: dsec(path, e), "no rectify map is applied", format="hdf5"),
    "HDF5": Form(".h5", _hdf5(lambda e: columns(e, place="events/")), "HDF5", format="hdf5"),
    "HDF5 of E2VID": Form(
        ".h5",
        _hdf5(lambda e: {**columns(e, ("ts", "xs", "ys", "ps"), "events/"), "events/ts": e["t"] / 1e6}),
        f"{_T} seconds",
        format="hdf5",
    ),
    "HDF5 of MVSEC": Form(
        ".hdf5",
        _hdf5(
            lambda e: {
                "davis/left/events": plain(later(9, e), "xytp", float),
                "davis/right/events": plain(e, "xytp", float),
            }
        ),
        "events of davis/right/events",
        "part=davis/right/events",
        format="hdf5",
    ),
    "Matlab": Form(
        ".mat",
        _mat(lambda e: columns(e, ("ts", "x", "y", "pol")), do_compression=True),
        "ts as t, pol as p",
        format="mat",
    ),
    "Matlab 4": Form(
        ".mat",
        _mat(lambda e: {k: v.astype(float) for k, v in columns(e).items()}, format="4"),
        ".mat",
        format="mat",
    ),
    "Matlab, TD": Form(".mat", _mat(lambda e: {"TD": orchard(e)}), "counted from 1 (by the format)", format="mat"),
    "Matlab, jAER's": Form(
        ".mat",
        _mat(lambda e: {"aedat": {"data": {"polarity": columns(e, ("timeStamp", "x", "y", "polarity"))}}}),
        ".mat, aedat/data/polarity",
        format="mat",
    ),
    "Matlab, rows": Form(".mat", _mat(lambda e: {"events": plain(e, "xytp", float)}), _DETECTED, format="mat"),
    "Matlab 7.3": Form(
        ".mat",
        lambda path, e, _: matlab73(path, columns(e, ("ts", "x", "y", "pol"))),
        "ts as t, pol as p",
        format="mat",
    ),
    "Matlab 7.3, TD": Form(
        ".mat", lambda path, e, _: matlab73(path, {"TD": orchard(e)}), "polarity 1 and 2", format="mat"
    ),
    "Matlab 7.3, rows": Form(
        ".mat", lambda path, e, _: matlab73(path, {"events": plain(e, "txyp", float)}), _DETECTED, format="mat"
    ),
}
"""By a name: how it is written, and what the report says of it."""


def read(path: Path, expected: Expected = NMNIST, said: str = "") -> Recording:
    return read_recording(path, expected, parse_options(said))


def opened(path: Path, said: str = "") -> Recording | None:
    """Read a file as `hstnn run` does, which looks first whether it is a recording."""
    return read(path, said=said) if is_recording(path, (2, 34, 34)) else None


def frames(events: Events, expected: Expected = NMNIST) -> Any:
    return framed(events, expected.how).numpy()
