"""What cameras' formats leave out, count and pack; and what of them is read as their own libraries read it."""

import builtins
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.events.aedat import read_aedat
from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.readers.event_columns import Expected
from hstnn_deploy.errors import DataError
from tests.event_encoders import aedat4
from tests.event_files import aedat, dat, evt2, random_events, write_bin
from tests.event_forms import HOW, REF, later, read
from tests.libraries import installed

GESTURE = Expected(HOW.model_copy(update={"sensor": Sensor(128, 128)}), "dvs-gesture")


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
    at = whole.index(b"Header\r\n") + 8
    whole[at + 22] = 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"claims 65586 events of 8 bytes, with space for 50"):
        read(path)
    # One whose kind says so is compressed, and its room is a number of bytes.
    whole[at + 1] = 0x80
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"is compressed: its packet at byte \d+ says so"):
        read(path)


def test_aedat_3_0_is_turned_over_and_never_taken_for_a_set_of_3_1(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat(REF).replace(b"#!AER-DAT3.1", b"#!AER-DAT3.0"))
    assert np.array_equal(read(path, said="sensor=34x34").events["y"], 33 - REF["y"])
    assert np.array_equal(read(path, said="sensor=34x34,flip=y").events, REF)
    with pytest.raises(DataError, match=r"version 3, not 3\.1: it counts y from below"):
        read_aedat(path)


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


def test_aedat4_is_read_as_its_package_reads_it(tmp_path: Path) -> None:
    decoder = installed("aedat").Decoder
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4([REF], (34, 34)))
    theirs = np.concatenate([packet["events"] for packet in decoder(str(path))])
    ours = read(path).events
    assert all(np.array_equal(ours[field], theirs[field]) for field in "xyt")
    assert np.array_equal(ours["p"], theirs["on"])


def test_of_two_cameras_of_an_aedat4_file_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4([later(5), REF], (34, 34)))
    with pytest.raises(DataError, match=r"contains 2 streams of events: 0, 1$") as error:
        read(path)
    assert error.value.hint == "specify which: --events part=0"
    assert read(path, said="part=1").report.dropped == {"events of other streams": 900}
    with pytest.raises(DataError, match="has no stream of events '2'"):
        read(path, said="part=2")
    path.write_bytes(aedat4([], (34, 34)))
    with pytest.raises(DataError, match=r"contains no stream of events$"):
        read(path)
    path.write_bytes(aedat4([REF], (346, 260)))
    with pytest.raises(DataError, match="is from a sensor of 346 x 260"):
        read(path)


def packed4(**changed: Any) -> bytes:
    """An AEDAT 4 file in which something is claimed that is not so."""
    content = bytearray(aedat4([REF], (34, 34)))
    head = struct.unpack_from("<I", content, 14)[0]
    packet = 18 + head
    places = {
        "header": (14, "<I", 0xFFFF_FFFF),
        "codec": (18 + 28, "<i", 7),
        "end": (18 + 36, "<q", 2**60),
        "text": (18 + 44, "<I", 2**31),
        "root": (18, "<I", 2**31),
        "size": (packet + 4, "<I", 0xFFFF_FFFF),
        "kind": (packet + 16, "<4s", b"ABCD"),
        "offsets": (packet + 28, "<i", -(2**31)),
        "list": (packet + 32, "<I", 2**31),
        "events": (packet + 36, "<I", 2**31),
    }
    for name in changed:
        place, kind, value = places[name]
        struct.pack_into(kind, content, place, value)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "wrong"),
    {
        "header": "ends within its header",
        "codec": "compression has the number 7",
        "end": r"packets end at byte \d+ of",
        "text": "claims a text of",
        "root": "points to byte",
        "size": r"packet at byte \d+ does not end",
        "offsets": "points to byte",
        "list": "points to byte",
        "events": r"claims 2147483648 events of 16",
    }.items(),
)
def test_claims_of_an_aedat4_file_are_checked(name: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(packed4(**{name: True}))
    with pytest.raises(DataError, match=wrong):
        read(path)


def test_packets_of_unknown_kind_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(packed4(kind=True))
    found = read(path)
    assert found.report.dropped == {"packets of another kind": 1}
    assert len(found.events) == 800


def test_an_aedat4_file_with_declarations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4([REF], (34, 34)).replace(b'<dv version="2.0">', b"<!DOCTYPE aaaaaaa>"))
    with pytest.raises(DataError, match="XML with declarations"):
        read(path)


def test_a_packet_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    frame = installed("lz4.frame")
    content = aedat4([REF], (34, 34), 1)
    head = 18 + struct.unpack_from("<I", content, 14)[0]
    bomb = frame.compress(bytes(2**28))
    (tmp_path / "a.aedat4").write_bytes(content[:head] + struct.pack("<iI", 0, len(bomb)) + bomb)
    with pytest.raises(DataError, match="unpacks to more than 67108864"):
        read(tmp_path / "a.aedat4")


@pytest.mark.parametrize(("number", "package"), [(1, "lz4"), (3, "backports.zstd")])
def test_without_the_package_that_unpacks_it_an_aedat4_file_is_refused_by_name(
    number: int, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *given: Any, **how: Any) -> Any:
        if name.startswith(package):
            raise ImportError(name)
        return whole(name, *given, **how)

    content = bytearray(aedat4([REF], (34, 34)))
    content[18 + 28] = number
    (tmp_path / "a.aedat4").write_bytes(content)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="is compressed by") as error:
        read(tmp_path / "a.aedat4")
    assert error.value.hint == f"pip install {package}"


def test_a_recording_of_another_sensor_in_the_form_of_nmnist(tmp_path: Path) -> None:
    large = random_events(0, 500, Sensor(128, 128), 100_000)
    write_bin(tmp_path / "a.bin", large)
    assert np.array_equal(read(tmp_path / "a.bin", GESTURE).events, large)
    with pytest.raises(DataError, match="but the sensor ends at 33") as error:
        read(tmp_path / "a.bin")
    assert "x 0 to 127, y 0 to 127" in error.value.hint
    write_bin(tmp_path / "small.bin", REF)
    assert any("all events are within 34 x 34" in line for line in read(tmp_path / "small.bin", GESTURE).report.lines())
    (tmp_path / "a.dat").write_bytes(dat(REF, size=(304, 240)))
    found = read(tmp_path / "a.dat", said="sensor=34x34")
    assert np.array_equal(found.events, REF)
    assert found.report.sensor_from == "as given"
    (tmp_path / "b.dat").write_bytes(dat(REF, size=(34, 34)))
    assert read(tmp_path / "b.dat").report.sensor_from == "as the file states"
    (tmp_path / "b.dat").write_bytes(dat(REF))
    assert read(tmp_path / "b.dat").report.sensor_from == "as the network's"
