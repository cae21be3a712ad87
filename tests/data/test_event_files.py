"""One recording in every form that is read: the same frames from all, or a refusal that says what would work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hstnn_deploy.data.events.events import EVENT, Events, Sensor
from hstnn_deploy.data.preprocessing import Frames, framed
from hstnn_deploy.data.readers.event_columns import Expected, Recording
from hstnn_deploy.data.readers.event_files import is_recording, read_recording
from hstnn_deploy.data.readers.event_options import parse_options
from hstnn_deploy.errors import DataError
from tests.event_files import aedat, aedat2, dat, evt2, evt3, random_events, write_bin, write_hdf5, write_npy

CAMERA = Sensor(34, 34)
HOW = Frames(sensor=CAMERA, transforms=[], frame_time=3000, steps=15, binary=False)
NMNIST = Expected(HOW, "nmnist")
SHD = Expected(Frames(sensor=Sensor(700, 1, 1), transforms=[], frame_time=14_000, steps=100, binary=False), "shd")
GESTURE = Expected(
    Frames(sensor=Sensor(128, 128), transforms=[], frame_time=20_000, steps=60, binary=False), "dvs-gesture"
)


def recording() -> Events:
    """A recording of 300 ms whose first event comes 654 us after the beginning; some are in every frame."""
    events = random_events(0, 900, CAMERA, 300_000)
    events["t"] += 654 - events["t"][0]
    return events


REF = recording()
LATE = 2**31 - 100_000


def later(by: int) -> Events:
    events = REF.copy()
    events["t"] += by
    return events


def fields(time: Any = REF["t"], events: Events = REF, **types: str) -> Any:
    """Return an array with the fields t, x, y and p; the type of each as given."""
    time = np.asarray(time)
    kinds = {"t": time.dtype.str, "x": "<u2", "y": "<u2", "p": "i1", **types}
    made = np.zeros(len(events), [(name, kinds[name]) for name in "txyp"])
    for name in "xyp":
        made[name] = events[name]
    made["t"] = time
    return made


def plain(order: str, events: Events = REF, kind: Any = np.int64) -> Any:
    """Return plain rows with the columns of an order; `0` is a column of zeros."""
    return np.stack([np.zeros(len(events)) if each == "0" else events[each] for each in order], 1).astype(kind)


def renamed(**names: str) -> Any:
    made = fields()
    made.dtype.names = tuple(names.get(name, name) for name in "txyp")
    return made


def text(order: str, first: str = "", between: str = " ", seconds: bool = True) -> bytes:
    def word(event: Any, name: str) -> str:
        return f"{event['t'] / 1e6:.9f}" if name == "t" and seconds else str(event[name])

    lines = [between.join(word(event, name) for name in order) for event in REF]
    return (first + "\n".join(lines) + "\n").encode()


def hdf5(path: Path, tables: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in tables.items():
            file[name] = values


def array(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def arrays(**values: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **values)


def raw(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def with_nan() -> Any:
    made = fields(REF["t"].astype(float))
    made["t"][5] = np.nan
    return made


def polarity(mapped: Callable[[Any], Any]) -> Any:
    made = fields()
    made["p"] = mapped(REF["p"].astype(np.int8))
    return made


def pairs() -> dict[str, Any]:
    return {name: np.stack([REF[each][REF["p"] == p] for each in "xyt"], 1) for name, p in (("pos", 1), ("neg", 0))}


SHUFFLED = REF[np.random.default_rng(0).permutation(len(REF))]

SAME: dict[str, tuple[str, Callable[[Path], Any], str, str]] = {
    # name: suffix, what writes it, --events, what the report says
    "tonic": (".npy", array(REF), "", "microseconds (whole numbers are taken as such)"),
    "another order": (".npy", array(fields()), "", "file's clock"),
    "big endian": (".npy", array(REF.astype([(name, ">i8") for name in "xytp"])), "", ""),
    "unsigned": (".npy", array(fields(REF["t"].astype(np.uint64), p="u1")), "", ""),
    "float32 microseconds": (".npy", array(fields(REF["t"].astype(np.float32))), "", "microseconds"),
    "float seconds": (".npy", array(fields(REF["t"] / 1e6, p="?")), "", "times in seconds (fractions"),
    "said seconds": (".npy", array(fields(REF["t"] / 1e6)), "unit=s", "times in seconds (as said)"),
    "said nanoseconds": (".npy", array(fields(REF["t"] * 1000)), "unit=ns", "times in nanoseconds (as said)"),
    "timedelta": (".npy", array(fields(REF["t"].astype("m8[us]"))), "", "says their type, timedelta64[us]"),
    "timedelta in ns": (".npy", array(fields((REF["t"] * 1000).astype("m8[ns]"))), "", "nanoseconds"),
    "float places": (".npy", array(fields(x="<f4", y="<f4", p="<f4")), "", ""),
    "shape (1, N)": (".npy", array(REF[None]), "", ""),
    "polarity -1 and 1": (".npy", array(polarity(lambda p: 2 * p - 1)), "", "polarity is -1 and 1, taken as 0 and 1"),
    "other names": (".npy", array(renamed(t="timestamp", p="polarity")), "", "timestamp as t, polarity as p"),
    "names of its own": (".npy", array(renamed(t="when", x="across")), "t=when,x=across", "when as t, across as x"),
    "shuffled": (".npy", array(SHUFFLED), "sort", "events were not in order of time, and were put in order"),
    "plain txyp": (".npy", array(plain("txyp")), "", "detected as t, x, y, p"),
    "plain xytp": (".npy", array(plain("xytp", kind=np.float64)), "", "detected as x, y, t, p"),
    "plain xypt": (".npy", array(plain("xypt")), "order=xypt", "columns xypt, as said"),
    "plain and zeros": (".npy", array(plain("txyp0")), "", "detected as t, x, y, p, -"),
    "arrays by name": (".npz", arrays(**{name: REF[name] for name in "txyp"}), "", "arrays by name"),
    "one array": (".npz", arrays(event_data=fields()), "", "array with fields"),
    "ES-ImageNet, said": (".npz", arrays(**pairs()), "order=xyt", "put together by time"),
    "text in seconds": (".txt", raw(text("txyp")), "", "times in seconds"),
    "text with the size": (".txt", raw(text("txyp", "34 34\n")), "", "times in seconds"),
    "table": (".csv", raw(text("xypt", "x,y,p,t\n", ",", seconds=False)), "", "a text with names"),
    "table with comment": (".txt", raw(text("xypt", "# x y pol ts\n", seconds=False)), "", "pol as p"),
    "N-MNIST": (".bin", lambda path: write_bin(path, REF), "", "by the format"),
    "dat": (".dat", raw(dat(REF)), "", "Prophesee .dat"),
    "dat of an old type": (".dat", raw(dat(REF, 0)), "", "Prophesee .dat"),
    "EVT2": (".raw", raw(evt2(REF, 3)), "", "left out: 3 external triggers"),
    "EVT3": (".raw", raw(evt3(REF, 2)), "", "left out: 2 external triggers"),
    "AEDAT 3.1": (".aedat", raw(aedat(REF)), "", "AEDAT 3.1"),
    "AEDAT 2": (".aedat", raw(aedat2(REF)), "sensor=34x34", "AEDAT 2.0 (DVS128)"),
    "AEDAT 2 without a camera": (".aedat", raw(aedat2(REF, "")), "sensor=34x34", "taken for a DVS128: it names no"),
    "AEDAT 2 of a DAVIS346": (
        ".aedat",
        raw(aedat2(REF, "eu.seebetter.ini.chips.davis.Davis346red", (346, 260))),
        "sensor=34x34",
        "AEDAT 2.0 (DAVIS346)",
    ),
    "AEDAT without a suffix": ("", raw(aedat(REF)), "", "AEDAT 3.1"),
    "AEDAT with IMU": (".aedat", raw(aedat(REF, (1, 3))), "", "left out: 900 IMU events"),
    "AEDAT with all": (".aedat", raw(aedat(REF, (0, 2, 1, 3))), "", "left out: 900 special events"),
    "Metavision HDF5": (".hdf5", lambda path: hdf5(path, {"CD/events": fields()}), "", "Metavision HDF5"),
    "HDF5": (".h5", lambda path: hdf5(path, {f"events/{name}": REF[name] for name in "txyp"}), "", "HDF5"),
}

FROM_THE_FIRST: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "Unix microseconds": (".npy", array(fields(REF["t"] + 1_600_000_000_000_000))),
    "2^31": (".npy", array(fields(REF["t"] + LATE))),
    "datetime": (".npy", array(fields((REF["t"] + 1_600_000_000_000_000).astype("M8[us]")))),
    "Unix seconds": (".npy", array(fields((REF["t"] + 1_600_000_000_000_000) / 1e6))),
    "negative": (".npy", array(fields(REF["t"] - 700))),
    "dat past 2^32": (".dat", raw(dat(later(2**32 - 100_000)))),
    "EVT2 past 2^34": (".raw", raw(evt2(later(2**34 - 100_000)))),
    "EVT3 past 2^24": (".raw", raw(evt3(later(2**24 - 100_000)))),
    "AEDAT past 2^31": (".aedat", raw(aedat(later(LATE)))),
    "AEDAT after an overflow": (".aedat", raw(aedat(later(2**31)))),
}

REFUSED: dict[str, tuple[str, Callable[[Path], Any], str, str]] = {
    # name: suffix, what writes it, what is wrong, what would work
    "nanoseconds": (".npy", array(fields(REF["t"] * 1000)), "does not say the unit", "--events unit=ns"),
    "milliseconds": (".npy", array(fields(REF["t"] // 1000)), "does not say the unit", "--events unit=ms"),
    "minutes": (".npy", array(fields(REF["t"].astype("m8[m]"))), "are of type timedelta64[m]", "s, ms, us or ns"),
    "no event": (".npy", array(np.zeros(0, EVENT)), "holds no events", "nothing for the network"),
    "NaN": (".npy", array(with_nan()), "event 5 of 900 has t nan", "take such events out"),
    "NaT": (".npy", array(fields(np.full(900, "NaT", "M8[us]"))), "has t NaT", "take such events out"),
    "shuffled": (".npy", array(SHUFFLED), "before the one before it", "--events sort"),
    "objects": (".npy", array(np.array([1, "a"], object)), "holds Python objects", "array of numbers"),
    "text in x": (".npy", array(fields(x="<U3")), "x is of type <U3", "real numbers"),
    "complex": (".npy", array(plain("txyp", kind=complex)), "of type complex128", "plain rows [N, 4]"),
    "polarity 1 and 2": (".npy", array(polarity(lambda p: p + 1)), "polarity is 1 to 2", "p=NAME"),
    "uncertain columns": (".npy", array(plain("txyp")[:, [1, 2, 1, 2]]), "not certain", "--events order=txyp"),
    "two columns ascend": (".npy", array(plain("ttyp")), "not certain", "--events order=txyp"),
    "another sensor": (".npy", array(fields(events=random_events(0, 900, Sensor(90, 60), 9))), "x ", "x 0 to 89"),
    "ES-ImageNet": (".npz", arrays(**pairs()), "do not say which they are", "order=xyt, or order=yxt"),
    "unequal columns": (".npz", arrays(**{n: REF[n][: 9 if n == "x" else 8] for n in "txyp"}), "one length", "of each"),
    "no y": (".npz", arrays(t=REF["t"], x=REF["x"], p=REF["p"]), "no y", "y=NAME"),
    "no events": (".npz", arrays(weights=REF["t"], p=REF["x"]), "holds no events", "t=NAME"),
    "truncated": (".npy", raw(b"\x93NUMPY\x01\x00v\x00{'descr'"), "is damaged", "again"),
    "4 TB": (
        ".npy",
        raw(
            b"\x93NUMPY\x01\x00v\x00"
            + (str({"descr": EVENT.descr, "fortran_order": False, "shape": (10**11,)}).ljust(0x75) + "\n").encode()[
                :0x76
            ]
        ),
        "is damaged",
        "again",
    ),
    "triggers": (".dat", raw(dat(REF, 0x0E)), "holds 900 external triggers", "CD events"),
    "unknown type": (".dat", raw(dat(REF, 0x11)), "type 0x11", "0x0C"),
    "stated sensor": (".dat", raw(dat(REF, size=(304, 240))), "a sensor of 304 x 240", "sensor=34x34"),
    "no header": (".dat", raw(dat(REF)[50:]), "is damaged, or not a .dat file", "again"),
    "AEDAT 2": (".aedat", raw(aedat2(REF)), "is from a sensor of 128 x 128", "--events sensor=34x34"),
    "AEDAT 2 of a DAVIS": (
        ".aedat",
        raw(aedat2(REF, "eu.seebetter.ini.chips.davis.DAVIS240C", (240, 180))),
        "from a sensor of 240 x 180",
        "",
    ),
    "AEDAT 2 of a cochlea": (
        ".aedat",
        raw(aedat2(REF, "ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c")),
        "from the camera 'CochleaAMS1c', whose addresses",
        "AEDAT 3.1",
    ),
    "AEDAT 2 of two": (
        ".aedat",
        raw(b"#!AER-DAT2.0\r\n# AEChip: a.DVS128\r\n# AEChip: a.Davis640\r\n" + bytes(8)),
        "names 2 cameras",
        "one camera",
    ),
    "AEDAT 2 of who knows": (
        ".aedat",
        raw(aedat2(REF, "davis", (346, 260)).replace(b"# AEChip: davis\r\n", b"")),
        "names no camera (# AEChip: …), and its addresses are not a DVS128's",
        "AEDAT 4",
    ),
    "AEDAT 2 of another": (
        ".aedat",
        raw(aedat2(REF, "davis", (346, 260)).replace(b"AEChip: davis", b"AEChip: DVS128")),
        "is damaged, or not of a DVS128: event 0 has the address 0x",
        "AEDAT 3.1",
    ),
    "AEDAT 2, cut": (".aedat", raw(aedat2(REF)[:-3]), "is truncated: 7197 bytes after its header", "again"),
    "AEDAT 3.0": (".aedat", raw(b"#!AER-DAT3.0\r\n" + bytes(80)), "counts y from below", "AEDAT 4"),
    "two cameras": (
        ".aedat",
        raw(aedat(REF) + aedat(REF, source=2).partition(b"Header\r\n")[2]),
        "events of 2 cameras",
        "one camera",
    ),
    "all invalid": (".aedat", raw(aedat(REF, invalid=range(900))), "900 events marked invalid", "nothing"),
    "EVT 2.1": (".raw", raw(b"% evt 2.1\n% end\n" + bytes(16)), "is in EVT 2.1", ".dat"),
    "raw without header": (".raw", raw(bytes(16)), "has no header", ".dat"),
    "ROS": (".bag", raw(b"#ROSBAG V2.0\n" + bytes(80)), "is a ROS bag", "AEDAT 4"),
    "HDF5 of something": (".h5", lambda path: hdf5(path, {"weights": REF["t"]}), "no events that are known", "CD/ev"),
    "a page": (".bin", raw(b"<!DOCTYPE html><html>Not here</html>"[:35]), "event", ""),
    "words": (".txt", raw(b"a b c d\n1 2 3 four\n"), "is damaged, or not a text of numbers", "again"),
}


def read(path: Path, expected: Expected = NMNIST, said: str = "") -> Recording:
    return read_recording(path, expected, parse_options(said))


def opened(path: Path) -> Recording | None:
    """Read a file as `hstnn run` does, which looks first whether it is a recording."""
    return read(path) if is_recording(path, (2, 34, 34)) else None


def frames(events: Events, expected: Expected = NMNIST) -> Any:
    return framed(events, expected.how).numpy()


@pytest.mark.parametrize("name", SAME)
def test_every_form_gives_the_same_frames_and_a_report(name: str, tmp_path: Path) -> None:
    suffix, write, said, told = SAME[name]
    path = tmp_path / f"recording{suffix}"
    write(path)
    assert is_recording(path, (2, 34, 34))
    found = read(path, said=said)
    assert np.array_equal(frames(found.events), frames(REF))
    lines = "\n".join(found.report.lines())
    assert told in lines
    assert "900 events on 34 x 34, 0.654 to " in lines
    assert f"{int((REF['t'] < 45_000).sum())} of 900 events are in the 15 frames of 3 ms" in lines


@pytest.mark.parametrize("name", FROM_THE_FIRST)
def test_a_clock_that_began_elsewhere_begins_at_the_first_event_and_the_report_says_so(
    name: str, tmp_path: Path
) -> None:
    suffix, write = FROM_THE_FIRST[name]
    path = tmp_path / f"recording{suffix}"
    write(path)
    found = read(path)
    assert np.array_equal(frames(found.events), frames(later(-654)))
    assert "time begins at the first event" in found.report.lines()[0]
    # Also of what would be taken as it is.
    np.save(tmp_path / "plain.npy", REF)
    assert np.array_equal(frames(read(tmp_path / "plain.npy", said="start=first").events), frames(later(-654)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_says_too_little_or_is_wrong_is_refused_with_what_would_work(name: str, tmp_path: Path) -> None:
    suffix, write, wrong, works = REFUSED[name]
    path = tmp_path / f"recording{suffix}"
    write(path)
    with pytest.raises(DataError) as error:
        opened(path)
    assert wrong in error.value.message
    assert works in error.value.hint
    assert "\n" not in error.value.message
    assert str(path) in error.value.message


def test_events_marked_invalid_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat(REF, invalid=range(0, 900, 3)))
    found = read(path)
    assert np.array_equal(found.events, np.delete(REF, range(0, 900, 3)))
    assert found.report.dropped["events marked invalid"] == 300
    assert found.report.plain()["events"] == 600
    # A header that counts otherwise is damaged.
    whole = bytearray(path.read_bytes())
    at = whole.index(b"Header\r\n") + 8
    whole[at + 24] += 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"is damaged: its packet at byte \d+ counts 34 valid events, and 33 are"):
        read(path)


def test_a_packet_that_claims_more_events_than_it_has_room_for_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    whole = bytearray(aedat(REF))
    whole[whole.index(b"Header\r\n") + 8 + 22] = 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"holds 65586 events of 8 bytes where there is room for 50"):
        read(path)


def test_vectors_of_evt3_are_pixels_side_by_side(tmp_path: Path) -> None:
    words = [0x8000, 0x6064, 7, 0x3805, 0x4000 | 0b101, 0x5000 | 0b10, 0x6065, 0x2009]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes())
    found = read(tmp_path / "a.raw").events
    assert found.tolist() == [(5, 7, 100, 1), (7, 7, 100, 1), (18, 7, 100, 1), (9, 7, 101, 0)]
    # A new upper half of the time begins with a lower half of 0.
    words = [0x8000, 0x6064, 7, 0x2009, 0x8001, 0x2809]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes())
    assert read(tmp_path / "a.raw").events.tolist() == [(9, 7, 100, 0), (9, 7, 4096, 1)]


def test_evt2_and_dat_are_read_as_expelliarmus_reads_and_writes_them(tmp_path: Path) -> None:
    from expelliarmus import Wizard

    kind = Wizard(encoding="evt2")
    for name, content, encoding in (("a.raw", evt2(REF), "evt2"), ("a.dat", dat(REF), "dat")):
        (tmp_path / name).write_bytes(content)
        theirs = Wizard(encoding=encoding).read(str(tmp_path / name))
        kind.save(fpath=str(tmp_path / "b.raw"), arr=theirs)
        for path in (tmp_path / name, tmp_path / "b.raw"):
            ours = read(path).events
            assert all(np.array_equal(ours[field], theirs[field]) for field in "xytp")


@pytest.mark.parametrize("failing", [False, True])
def test_aedat4_comes_from_its_package_and_a_panic_of_it_is_one_line(
    failing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        """As pyo3's."""

    def parse(_path: str) -> Any:
        if failing:
            raise Panic("range start index\n18446744073692774424 out of range")
        return renamed(p="on")

    monkeypatch.setattr("tonic.io.read_aedat4", parse)
    path = tmp_path / "a.aedat4"
    path.write_bytes(b"#!AER-DAT4.0\r\n")
    if not failing:
        assert np.array_equal(read(path).events, REF)
        return
    with pytest.raises(DataError, match=r"^\S+ is damaged, or not an AEDAT 4 file: range start index 1844\d+ out"):
        read(path)


def test_ctrl_c_in_a_parser_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_path: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("tonic.io.read_aedat4", parse)
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "a.aedat4")


def test_a_codec_that_is_not_here_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((100,))
        made.set_filter(36559, h5py.h5z.FLAG_OPTIONAL, ())
        kind = h5py.h5t.py_create(fields().dtype, logical=True)
        group = h5py.h5g.create(file.id, b"CD")
        h5py.h5d.create(group, b"events", kind, h5py.h5s.create_simple((900,)), made)
    with pytest.raises(DataError, match=r"packed by a codec that is not installed here: .*\(36559\)"):
        read(tmp_path / "a.hdf5")


def test_a_sets_own_files_are_taken_as_the_set_takes_them(tmp_path: Path) -> None:
    from hstnn_deploy.data.sets.dvs_gesture import NpyRecordings
    from hstnn_deploy.data.sets.heidelberg import Hdf5Recordings

    gesture = random_events(1, 600, Sensor(128, 128), 5_000_000)
    write_npy(tmp_path / "4.npy", gesture)
    own = NpyRecordings(tmp_path, [tmp_path / "4.npy"]).read(0)
    found = read(tmp_path / "4.npy", GESTURE)
    assert np.array_equal(found.events, own)
    assert "times in milliseconds (by the format)" in found.report.lines()[0]
    # Another order than the set's is detected all the same.
    np.save(tmp_path / "plain.npy", plain("txyp", gesture))
    assert np.array_equal(read(tmp_path / "plain.npy", GESTURE).events, gesture)

    spoken = [random_events(number, 80, Sensor(700, 1, 1), 900_000) for number in range(3)]
    write_hdf5(tmp_path / "shd.h5", spoken, [0, 1, 2])
    recordings = Hdf5Recordings(tmp_path / "shd.h5", 20)
    for number in range(3):
        found = read(tmp_path / "shd.h5", SHD, f"recording={number}")
        assert np.array_equal(found.events, recordings.read(number))
        assert f"recording {number} of 3, of class {number}" in found.report.lines()[1]
    with pytest.raises(DataError, match=r"holds 3 recordings$") as error:
        read(tmp_path / "shd.h5", SHD)
    assert "recording=N" in error.value.hint
    with pytest.raises(DataError, match="there is no 3"):
        read(tmp_path / "shd.h5", SHD, "recording=3")
    with pytest.raises(DataError, match="is from a sensor of 700 x 1; the network was trained on one of 34 x 34"):
        read(tmp_path / "shd.h5", NMNIST, "recording=0")
    # tonic's form: no y, the polarity the same everywhere.
    tonic = np.zeros(80, [("t", "<i8"), ("x", "<i8"), ("p", "<i8")])
    tonic["t"], tonic["x"], tonic["p"] = spoken[0]["t"], spoken[0]["x"], 1
    np.save(tmp_path / "tonic.npy", tonic)
    assert np.array_equal(read(tmp_path / "tonic.npy", SHD).events, spoken[0])
    tonic["t"] *= 1000
    np.save(tmp_path / "tonic.npy", tonic)
    with pytest.raises(DataError, match="does not say the unit"):
        read(tmp_path / "tonic.npy", SHD)


def test_a_recording_of_another_sensor_in_the_form_of_nmnist(tmp_path: Path) -> None:
    large = random_events(0, 500, Sensor(128, 128), 100_000)
    write_bin(tmp_path / "a.bin", large)
    assert np.array_equal(read(tmp_path / "a.bin", GESTURE).events, large)
    with pytest.raises(DataError, match="where the sensor ends at 33") as error:
        read(tmp_path / "a.bin")
    assert "x 0 to 127, y 0 to 127" in error.value.hint
    write_bin(tmp_path / "small.bin", REF)
    assert any("all events are within 34 x 34" in line for line in read(tmp_path / "small.bin", GESTURE).report.lines())
    (tmp_path / "a.dat").write_bytes(dat(REF, size=(304, 240)))
    assert np.array_equal(read(tmp_path / "a.dat", said="sensor=34x34").events, REF)


def test_nothing_is_framed_into_nothing_or_into_one_frame_without_a_word(tmp_path: Path) -> None:
    np.save(tmp_path / "ms.npy", fields(REF["t"] // 1000))
    report = read(tmp_path / "ms.npy", said="unit=us").report
    assert "all 900 events that the network sees are in frame 0 of 15: is the unit of time right?" in report.notes
    late = fields(REF["t"] + 60_000)
    np.save(tmp_path / "late.npy", late)
    with pytest.raises(DataError, match="none of its 900 events is in the 15 frames of 3 ms that the network sees"):
        read(tmp_path / "late.npy", said="start=file")
    whole = Expected(HOW.model_copy(update={"steps": None}), "nmnist")
    np.save(tmp_path / "epoch.npy", fields(REF["t"] + 10**15))
    with pytest.raises(DataError, match="which are too many"):
        read(tmp_path / "epoch.npy", whole, "start=file")
    assert np.array_equal(read(tmp_path / "epoch.npy", whole).events, later(-654))


def test_plain_arrays_that_are_frames_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((15, 1, 2, 34, 34), np.float32))
    assert not is_recording(tmp_path / "x.npy", (2, 34, 34))
    np.save(tmp_path / "x.npy", np.zeros((100, 4), np.float32))
    assert not is_recording(tmp_path / "x.npy", (4,))
    (tmp_path / "x.csv").write_text("1, 2, 3, 4\n")
    assert not is_recording(tmp_path / "x.csv", (4,))
    assert is_recording(tmp_path / "x.csv", (2, 34, 34))
