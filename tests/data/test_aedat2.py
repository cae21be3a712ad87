"""AEDAT 2.0: words by the format's text, cameras that are known and not, and clocks that begin anew."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.events.aedat2 import read_aedat2
from hstnn_deploy.data.events.events import Sensor, make_events
from hstnn_deploy.errors import DataError
from tests.event_files import aedat, aedat2, random_events

HEAD = b"#!AER-DAT2.0\r\n# created Sun Nov 27 09:38:21 CET 2016\r\n"
DVS128 = HEAD + b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
DAVIS = HEAD + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"


def words(*events: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">II", address, time) for address, time in events)


def read(path: Path, content: bytes) -> list[tuple[int, ...]]:
    path.write_bytes(content)
    return [tuple(event) for event in read_aedat2(path).events[["x", "y", "t", "p"]].tolist()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.aedat"


def test_an_address_of_a_dvs128_counts_x_from_the_right_and_y_from_below_and_0_is_brighter(path: Path) -> None:
    # 0yyyyyyy xxxxxxxp: the corner at the right and below, then at the left and above.
    assert read(path, DVS128 + words((0x0000, 5), (0x7FFF, 9))) == [(127, 127, 5, 1), (0, 0, 9, 0)]
    # y 112 and x 120, as in 0x70f0.
    assert read(path, HEAD + words((0x70F0, 654))) == [(7, 15, 654, 1)]
    assert read_aedat2(path).sensor == Sensor(128, 128)
    assert not read_aedat2(path).named


def test_an_address_of_a_davis_has_more_bits_and_1_is_brighter(path: Path) -> None:
    # y from bit 22 on, x from bit 12 on, polarity in bit 11.
    assert read(path, DAVIS + words((179 << 22 | 239 << 12 | 1 << 11, 5), (0, 6))) == [(0, 0, 5, 1), (239, 179, 6, 0)]
    assert read_aedat2(path).sensor == Sensor(240, 180)
    assert read(path, DAVIS.replace(b"DAVIS240C", b"Davis346blue") + words((0, 6))) == [(345, 259, 6, 0)]


def test_words_that_are_no_events_of_pixels_are_left_out_and_counted(path: Path) -> None:
    path.write_bytes(DVS128 + words((0x8000, 1), (0x70F0, 2), (0x8000_0000, 3)))
    found = read_aedat2(path)
    assert (len(found.events), dict(found.dropped)) == (1, {"events from outside (its input pin)": 2})
    path.write_bytes(DAVIS + words((1 << 31 | 5, 1), (1 << 10, 2), (1 << 31 | 3 << 10, 3), (0, 4)))
    found = read_aedat2(path)
    assert len(found.events) == 1
    assert list(found.dropped.values()) == [2, 1]


@pytest.mark.parametrize("start", [0, 2**31 - 500, 2**32 - 500])
def test_a_clock_that_begins_anew_goes_on(path: Path, start: int) -> None:
    events = random_events(0, 400, Sensor(128, 128), 1000)
    events["t"] += start
    path.write_bytes(aedat2(events))
    found = read_aedat2(path).events
    for name in "xytp":
        assert np.array_equal(found[name], events[name])


def test_an_event_that_begins_like_a_line_of_the_header_is_an_event(path: Path) -> None:
    events = make_events([100], [179 - 140], [1000], [1])
    content = aedat2(events, "eu.seebetter.ini.chips.davis.DAVIS240C", (240, 180))
    # Its first byte is that of #, and somewhere behind use one of a new line.
    assert content.partition(b"DAVIS240C\r\n")[2][:1] == b"#"
    for more in (b"", words((0x2300_0000, 10), (0x0A0A_0A0A & 0x7FFF_FBFF, 10))):
        path.write_bytes(content + more)
        assert read_aedat2(path).events[0]["y"] == 39
    path.write_bytes(DAVIS + b"#End Of ASCII Header\r\n" + b"#abc\r\nab")
    assert len(read_aedat2(path).events) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (aedat(random_events(0, 9, Sensor(128, 128), 99)), "it begins with '#!AER-DAT3.1', not with #!AER-DAT2.0"),
        (b"\x89PNG\r\n", "not an AEDAT 2.0 file: it begins with"),
        (DVS128 + bytes(12), "is truncated: 12 bytes after its header are not whole events of 8"),
        (DVS128 + words((0x10000, 1)), "is damaged, or not of a DVS128: event 0 has the address 0x00010000"),
        (
            DVS128.replace(b"DVS128", b"Davis640") + bytes(8),
            "from the camera 'Davis640', whose addresses hstnn does not",
        ),
        (DVS128.replace(b"DVS128", b"DVS\xff\x9b") + bytes(8), "whose addresses hstnn does not know"),
    ],
)
def test_what_is_no_such_file_or_of_another_camera_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_aedat2(path)
    assert message in refused.value.message
    assert str(path) in refused.value.message
    assert "\x9b" not in refused.value.message


@given(seed=st.integers(0, 2**16), count=st.integers(0, 50), named=st.booleans())
def test_what_is_written_is_read(seed: int, count: int, named: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("written") / "a.aedat"
    events = random_events(seed, count, Sensor(128, 128), 10_000)
    path.write_bytes(aedat2(events, "net.DVS128" if named else ""))
    assert np.array_equal(read_aedat2(path).events, events)


def test_spikingjelly_s_places_are_these_exchanged(path: Path) -> None:
    """Its CIFAR10-DVS takes x = 127 - (address >> 8 & 127), y = 127 - (address >> 1 & 127), p = 1 - (address & 1)."""
    path.write_bytes(aedat2(random_events(0, 500, Sensor(128, 128), 9999)))
    address = np.frombuffer(path.read_bytes()[-8 * 500 :], ">u4").astype(np.int64)[::2]
    events = read_aedat2(path).events
    assert np.array_equal(events["y"], 127 - (address >> 8 & 127))
    assert np.array_equal(events["x"], 127 - (address >> 1 & 127))
    assert np.array_equal(events["p"], 1 - (address & 1))
