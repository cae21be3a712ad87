"""One recording in every form that is read: the same frames from all, and a report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.data.readers.event_columns import Expected
from hstnn_deploy.data.readers.event_files import FORMATS, are_rows, is_recording
from hstnn_deploy.data.sets.digit_events import FRAME_TIME, FRAMES, SENSOR, recordings
from tests.event_encoders import fields, plain
from tests.event_files import aedat, dat, evt2, evt3
from tests.event_forms import FORMS, HOW, NMNIST, REF, frames, later, read
from tests.libraries import installed

LATE = 2**31 - 100_000
DIGITS = Expected(
    Frames(sensor=Sensor(SENSOR, SENSOR), transforms=[], frame_time=FRAME_TIME, steps=FRAMES, binary=False),
    "digit-events",
)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_frames_and_a_report(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    if form.needs:
        installed(form.needs)
    path = tmp_path / f"recording{form.suffix}"
    form.write(path, REF, NMNIST.sensor)
    assert is_recording(path, (2, 34, 34))
    found = read(path, said=form.said.format(w=34, h=34))
    assert np.array_equal(frames(found.events), frames(REF))
    lines = "\n".join(found.report.lines())
    assert form.told in lines
    assert "900 events on 34 x 34, 0.654 to " in lines
    assert f"{int((REF['t'] < 45_000).sum())} of 900 events are in the 15 frames of 3 ms" in lines
    plain_report = found.report.plain()
    assert plain_report["events"] == 900
    assert plain_report["first_us"] == 654


@pytest.mark.parametrize("name", FORMS)
def test_a_recording_of_digit_events_gives_the_frames_of_its_set_from_every_form(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    if form.needs:
        installed(form.needs)
    events = recordings()["train"].read(0)
    path = tmp_path / f"recording{form.suffix}"
    form.write(path, events, DIGITS.sensor)
    # A recorder's header may state a larger sensor than this one: 34 x 34 of EVT.
    found = read(path, DIGITS, form.said.format(w=SENSOR, h=SENSOR))
    assert np.array_equal(frames(found.events, DIGITS), frames(events, DIGITS))
    assert frames(events, DIGITS).any()


def test_every_format_is_written_by_a_test() -> None:
    assert {form.format for form in FORMS.values()} == set(FORMATS)


def array(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def raw(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


FROM_THE_FIRST: dict[str, tuple[str, Callable[[Path], None]]] = {
    "Unix microseconds": (".npy", array(fields(later(1_600_000_000_000_000)))),
    "2^31": (".npy", array(fields(later(LATE)))),
    "datetime": (".npy", array(fields(REF, (REF["t"] + 1_600_000_000_000_000).astype("M8[us]")))),
    "Unix seconds": (".npy", array(fields(REF, (REF["t"] + 1_600_000_000_000_000) / 1e6))),
    "negative": (".npy", array(fields(later(-700)))),
    "dat past 2^32": (".dat", raw(dat(later(2**32 - 100_000)))),
    "EVT2 past 2^34": (".raw", raw(evt2(later(2**34 - 100_000)))),
    "EVT3 past 2^24": (".raw", raw(evt3(later(2**24 - 100_000)))),
    "AEDAT past 2^31": (".aedat", raw(aedat(later(LATE)))),
    "AEDAT after an overflow": (".aedat", raw(aedat(later(2**31)))),
}


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


def test_nothing_is_framed_into_nothing_or_into_one_frame_without_a_word(tmp_path: Path) -> None:
    from hstnn_deploy.errors import DataError

    np.save(tmp_path / "ms.npy", fields(REF, REF["t"] // 1000))
    report = read(tmp_path / "ms.npy", said="unit=us").report
    assert "all 900 events that the network sees are in frame 0 of 15: is the unit of time correct?" in report.notes
    np.save(tmp_path / "late.npy", fields(later(60_000)))
    with pytest.raises(DataError, match="none of its 900 events is within the 15 frames of 3 ms that the network sees"):
        read(tmp_path / "late.npy", said="start=file")
    whole = Expected(HOW.model_copy(update={"steps": None}), "nmnist")
    np.save(tmp_path / "epoch.npy", fields(later(10**15)))
    with pytest.raises(DataError, match="too many"):
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
    np.save(tmp_path / "rows.npy", plain(REF, "0txyp"))
    assert are_rows(tmp_path / "rows.npy")
    np.save(tmp_path / "rows.npy", plain(REF, "txyp"))
    assert not are_rows(tmp_path / "rows.npy")
