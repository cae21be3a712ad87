"""Folders of recordings with each fault planted, and one without any."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.own.resolve import load_folder
from hstnn_deploy.errors import DataError
from tests import own_data
from tests.data.checking.folders import checked, clean, said

SIZE: dict[str, Any] = {"sensor_size": [20, 14]}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_data.events(tmp_path_factory.mktemp("once") / "gestures", each=52)


@pytest.fixture
def gestures(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "gestures"))


def put(gestures: Path, name: str, **fields: Any) -> None:
    """Write a recording with some fields changed, beside those of a class."""
    events = own_data.recording(0, len(name) + 1000)
    for field, change in fields.items():
        events[field] = change(events[field])
    np.save(gestures / "right" / name, events)


def test_a_clean_folder_has_no_note(gestures: Path) -> None:
    found = checked(gestures, **SIZE)
    clean(found)
    assert (found.kind, found.total, found.read) == ("events", 104, 104)
    facts = found.facts
    assert facts["sensor"] == [20, 14, 2]
    assert facts["events"] == {"min": 600, "median": 600, "max": 600}
    assert 98 < facts["milliseconds"]["median"] < 100
    assert facts["by_class"]["left"]["per_ms"]["median"] == pytest.approx(6.0, abs=0.1)
    assert list(facts["read_as"]) == ["an array with fields; times in microseconds; polarity 0 and 1"]
    assert found.examples[0].values.shape == (2, 14, 20)
    assert found.examples[0].values.sum() == 600


def test_the_sensor_is_asked_for_with_what_would_hold_all_events(gestures: Path) -> None:
    found = checked(gestures)
    said(found, "no recording states its sensor size", "20 x 14", "data.sensor_size=[20,14]", refused=True)
    assert len(found.notes.found) == 1
    assert found.read == 104


def wrong_order(times: np.ndarray) -> np.ndarray:
    return np.concatenate([times[:9][::-1], times[9:]])


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unsorted": ({"t": wrong_order}, ("unsorted.npy: event", "before the one before it", "--set data.events=sort")),
    "outside": (
        {"x": lambda x: x + 30},
        ("outside.npy", "but the sensor ends at 19", "--set data.sensor_size=[WIDTH,HEIGHT]"),
    ),
    "polarity": ({"p": lambda p: p + 3}, ("polarity is 3 to 4", "--set data.events=p=1/2")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_refuses_is_refused(gestures: Path, name: str) -> None:
    change, words = REFUSED[name]
    put(gestures, f"{name}.npy", **change)
    found = checked(gestures, **SIZE)
    said(found, *words, refused=True)
    assert len(found.notes.refused) == 1
    with pytest.raises(DataError):
        load_folder(gestures, cache="memory", **SIZE)


def test_empty_and_damaged_recordings(gestures: Path) -> None:
    np.save(gestures / "left" / "none.npy", own_data.recording(0, 1)[:0])
    content = (gestures / "left" / "p0_0.npy").read_bytes()
    for number in range(5):
        (gestures / "right" / f"cut{number}.npy").write_bytes(content[:900])
    (gestures / "right" / "zero.npy").write_bytes(b"")
    found = checked(gestures, **SIZE)
    said(found, "none.npy contains no events", refused=True)
    said(found, "cut0.npy is damaged", "(and 4 more: right/cut1.npy,", refused=True)
    said(found, "zero.npy is empty", refused=True)


def test_what_is_odd_is_noted(gestures: Path) -> None:
    put(gestures, "one.npy", p=lambda p: p * 0)
    put(gestures, "long.npy", t=lambda t: t * 50)
    put(gestures, "hot.npy", x=lambda x: np.where(np.arange(600) < 300, 5, x), y=lambda y: y * (np.arange(600) >= 300))
    put(gestures, "at once.npy", t=lambda t: t * 0)
    np.save(gestures / "right" / "few.npy", own_data.recording(0, 3)[:4])
    shutil.copy(gestures / "left" / "p0_0.npy", gestures / "right" / "p9_9.npy")
    (gestures / "left" / "notes.md").write_text("x")
    found = checked(gestures, events="unit=us", **SIZE)
    assert not found.notes.refused
    said(found, "one.npy has events of one polarity only")
    said(found, "long.npy lasts", "99.", "are usual")
    said(found, "hot.npy has 50 % of its events at one pixel")
    said(found, "at once.npy has all its events at the same time")
    said(found, "few.npy has 4 events; 600 are usual")
    said(found, "of another class, such as left/p0_0.npy and right/p9_9.npy")
    said(found, "left out: 1 .md file")
    load_folder(gestures, cache="memory", events="unit=us", **SIZE)


def test_put_in_order_as_said(gestures: Path) -> None:
    put(gestures, "unsorted.npy", t=wrong_order)
    found = checked(gestures, **SIZE, events="sort")
    said(found, "unsorted.npy: 8 of 600 events were out of order in time and were sorted")
    assert not found.notes.refused


def test_recordings_of_several_sensors_and_units(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    for name, label in (("right", 0), ("left", 1)):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            rows = own_data.recording(label, number)
            size = "20 14" if (name, number) != ("left", 3) else "40 28"
            lines = [size, *(f"{t} {x} {y} {p}" for t, x, y, p in zip(*(rows[each] for each in "txyp"), strict=True))]
            (folder / name / f"{number}.txt").write_text("\n".join(lines))
    found = checked(folder, kind="events", events="unit=us,order=txyp")
    said(found, "left/3.txt is from a sensor of 40 x 28, but", "from one of 20 x 14", refused=True)
    assert found.facts["sensor_from"].endswith("left/0.txt states")
    text = (folder / "right" / "2.txt").read_text().replace(" 0\n", " -1\n")
    (folder / "right" / "2.txt").write_text(text[:-1] + "1")
    (folder / "left" / "3.txt").unlink()
    found = checked(folder, kind="events", events="unit=us,order=txyp")
    said(found, "recordings are read in 2 ways")


def test_a_recording_in_another_unit_than_the_others_is_refused(gestures: Path) -> None:
    put(gestures, "nanoseconds.npy", t=lambda time: time * 1000)
    found = checked(gestures, **SIZE)
    said(found, "nanoseconds.npy does not specify the unit of its times", "--set data.events=unit=ns", refused=True)
    assert len(found.notes.refused) == 1
    with pytest.raises(DataError, match="does not specify the unit of its times"):
        load_folder(gestures, cache="memory", **SIZE)
