"""What the report says, and how many events each option touched."""

from pathlib import Path

import numpy as np
import pytest

from hstnn_deploy.data.readers.event_columns import Expected
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.data.readers.event_times import beginning
from hstnn_deploy.errors import DataError
from tests.event_encoders import fields, plain
from tests.event_forms import NMNIST, REF, later, polarity, read, shuffled


def notes(path: Path, said: str) -> str:
    return "\n".join(read(path, said=said).report.lines())


def test_each_option_says_how_many_events_it_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, shuffled())
    moved = int((shuffled()["t"] < np.maximum.accumulate(shuffled()["t"])).sum())
    assert f"{moved} of 900 events were out of order in time" in notes(path, "sort")
    np.save(path, polarity(lambda p: 2 * p - 1))
    dark = int((REF["p"] == 0).sum())
    assert f"polarity -1 and 1, taken as 0 and 1, as given ({dark} of 900 events changed)" in notes(path, "p=-1/+1")
    assert "polarity 1 and -1, taken as 0 and 1, as given (900 of 900 events changed)" in notes(path, "p=1/-1")
    assert np.array_equal(read(path, said="p=1/-1").events["p"], 1 - REF["p"])
    made = fields(REF, REF["t"].astype(float))
    made["t"][[3, 7]] = np.nan
    np.save(path, made)
    assert "left out: 2 events with a value that is not a number" in notes(path, "drop=nan")
    assert np.array_equal(read(path, said="drop=nan").events, np.delete(REF, [3, 7]))
    np.save(path, plain(REF, "txyp", float) + np.array([0, 0.25, 0, 0]))
    assert "x of 900 events has fractions; the whole part is taken" in notes(path, "order=txyp")


def test_an_offset_moves_all_times_and_what_comes_before_0_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, fields(REF))
    found = read(path, said="offset=-20.5ms")
    early = int((REF["t"] < 20_500).sum())
    assert "time begins with the file's clock, moved by -20.5 ms as given (900 events)" in found.report.lines()[0]
    assert found.report.dropped == {"events before the recording began, at its offset": early}
    assert np.array_equal(found.events, later(-20_500)[early:])
    assert (found.report.first, found.report.last) == (654, int(REF["t"][-1]))
    assert np.array_equal(read(path, said="offset=7us").events, later(7))
    # From the first event on, where that is said.
    assert np.array_equal(read(path, said="offset=7us,start=first").events, later(7 - 654))
    # A clock that began elsewhere: the offset is of it.
    np.save(path, fields(later(10**15)))
    assert np.array_equal(read(path, said="offset=-1000000000s").events, REF)
    with pytest.raises(DataError, match="none of its 900 events is within the 15 frames"):
        read(path, said="offset=1s")


def test_the_report_as_plain_data_has_all_that_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", fields(REF, REF["t"] / 1e6))
    assert read(tmp_path / "a.npy", said="t=s").report.plain() == {
        "form": "an array with fields",
        "events": 900,
        "sensor": [34, 34, 2],
        "sensor_from": "as the network's",
        "first_us": 654,
        "last_us": int(REF["t"][-1]),
        "unit": "seconds (as given)",
        "polarity": "0 and 1",
        "start": "time begins with the file's clock",
        "dropped": {},
        "notes": [f"{int((REF['t'] < 45_000).sum())} of 900 events are in the 15 frames of 3 ms that the network sees"],
    }


def test_a_unit_against_the_formats_own_is_said(tmp_path: Path) -> None:
    from tests.event_files import dat

    (tmp_path / "a.dat").write_bytes(dat(REF))
    unit = read(tmp_path / "a.dat", said="unit=ns").report.unit
    assert unit == "nanoseconds (as given; by the format they are microseconds)"


def test_where_nobody_knows_how_long_recordings_are_one_that_comes_late_begins_at_its_first_event() -> None:
    """A network of whole recordings of one's own data: a camera's clock may have begun long before, or in 1970."""
    anything = Expected(NMNIST.how.model_copy(update={"steps": None}), "own")
    kept, moved = "time begins with the file's clock", "time begins at the first event"
    assert beginning(50, 151, anything, EventOptions()) == (0, kept)
    assert beginning(100, 150, anything, EventOptions()) == (100, moved)
    assert beginning(0, 0, anything, EventOptions()) == (0, kept)
    assert beginning(10**15, 10**15 + 5, anything, EventOptions()) == (10**15, moved)
    assert beginning(10**15, 10**15 + 5, anything, EventOptions(start="file")) == (0, kept)
