"""Event data sets that cannot be: refused by file and event."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.recfunctions
import pytest
import torch

from hstnn_deploy.data.events.events import Sensor, check, make_events
from hstnn_deploy.data.registry import DATA_SETS, DataConfig, load, missing
from hstnn_deploy.data.sets.dvs_gesture import DvsGestureConfig, read_npy
from hstnn_deploy.data.sets.heidelberg import ShdConfig
from hstnn_deploy.data.sets.nmnist import NMnistConfig
from hstnn_deploy.errors import DataError
from tests.data.conftest import CAMERA, MAKERS
from tests.event_files import (
    aedat,
    make_dvs_gesture,
    make_nmnist,
    make_shd,
    random_events,
    write_bin,
    write_hdf5,
    write_npy,
)

CPU = torch.device("cpu")


def refused(config: DataConfig, folder: Path, cache: Any = "memory") -> DataError:
    with pytest.raises(DataError) as error:
        load(config, "test", folder, cache)
    assert "\n" not in error.value.message
    assert error.value.hint
    return error.value


@pytest.mark.parametrize(
    ("number", "field", "value", "message"),
    [
        (7, "t", 0, r"event 7 of 20 is at 0 us, before the one before it \(600\)"),
        (0, "t", -1, "event 0 of 20 is at -1 us, before the recording began"),
        (19, "x", 34, "event 19 of 20 has x 34, but the sensor ends at 33"),
        (3, "y", -1, "event 3 of 20 has y -1, but the sensor ends at 29"),
        (3, "p", 2, "event 3 of 20 has polarity 2, but the sensor ends at 1"),
    ],
)
def test_an_event_that_cannot_be_is_named(number: int, field: str, value: int, message: str) -> None:
    events = make_events(np.zeros(20), 0, np.arange(20) * 100, 0)
    events[field][number] = value
    with pytest.raises(DataError, match=f"^some/file: {message}$") as error:
        check(events, Sensor(34, 30), "some/file")
    assert "copy or download it again" in error.value.hint


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf, -1e300, 2.0**63, np.uint64(2**63)])
@pytest.mark.parametrize("field", range(4))
def test_a_number_that_no_event_can_have_is_refused_before_it_is_cast(number: Any, field: int) -> None:
    fields = [np.array([0, 1]).astype(np.asarray(number).dtype) for _ in range(4)]
    fields[field][1] = number
    with pytest.raises(ValueError, match="64 bits"):
        make_events(*fields)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float64, np.longdouble])
def test_a_time_of_a_camera_beyond_every_clock_is_refused_in_one_line(tmp_path: Path, kind: Any) -> None:
    for number in (1e18, np.finfo(kind).max):
        rows = np.zeros((3, 4), kind)
        rows[1, 3] = number
        np.save(tmp_path / "0.npy", rows)
        with pytest.raises(DataError, match=r"0\.npy is damaged, or not a file of events: t is from"):
            read_npy(tmp_path / "0.npy")


def test_whole_milliseconds_of_any_width_become_microseconds(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.array([[1, 1, 1, 0], [1, 1, 1, 200]], np.uint8))
    assert read_npy(tmp_path / "0.npy")["t"].tolist() == [0, 200_000]


def test_times_of_a_camera_that_run_backwards_are_refused(tmp_path: Path) -> None:
    events = random_events(0, 50, Sensor(34, 34), 8000)
    late = events.copy()
    late["t"][12] = late["t"][11] - 5
    nmnist = make_nmnist(tmp_path / "a")
    write_bin(nmnist / "Train" / "1" / "00003.bin", late)
    assert f"{nmnist}/Train/1/00003.bin: event 12 of 50" in refused(NMnistConfig(), nmnist).message
    gesture = make_dvs_gesture(tmp_path / "b")
    long = random_events(0, 50, CAMERA, 8_000_000)
    long["t"][12] = long["t"][11] - 5000
    write_npy(gesture / "ibmGestureTest" / "user00_led" / "4.npy", long)
    assert "user00_led/4.npy: event 12 of 50" in refused(DvsGestureConfig(), gesture).message


def test_rows_of_hdf5_are_put_in_order_but_what_cannot_be_is_refused(tmp_path: Path) -> None:
    spoken = make_shd(tmp_path)
    good = random_events(0, 50, Sensor(700, 1, 1), 100_000)
    for events, message in (
        (make_events([5, 6], 0, [-2000, 3], 0), "recording 1: event 0 of 2 is at -2000 us, before the recording began"),
        (make_events([5, 700], 0, [2, 3], 0), "recording 1: event 1 of 2 has x 700"),
    ):
        write_hdf5(spoken / "shd_test.h5", [good, events], [0, 1])
        assert message in refused(ShdConfig(), spoken).message
    write_hdf5(spoken / "shd_test.h5", [good, good[::-1]], [0, 1])
    x = load(ShdConfig(), "test", spoken).test.batch(torch.arange(2), CPU).x
    assert torch.equal(x[:, 0], x[:, 1])


def test_events_of_a_camera_outside_its_sensor_are_refused(tmp_path: Path) -> None:
    nmnist = make_nmnist(tmp_path / "a")
    write_bin(nmnist / "Test" / "1" / "00001.bin", make_events([3, 34], 5, [1, 2], 0))
    assert (
        "Test/1/00001.bin: event 1 of 2 has x 34, but the sensor ends at 33" in refused(NMnistConfig(), nmnist).message
    )
    gesture = make_dvs_gesture(tmp_path / "b")
    write_npy(gesture / "ibmGestureTest" / "user00_led" / "4.npy", make_events([3, 3], [5, 128], [1000, 2000], 0))
    assert "4.npy: event 1 of 2 has y 128" in refused(DvsGestureConfig(), gesture).message


def test_a_page_in_the_place_of_a_recording_is_refused(tmp_path: Path) -> None:
    nmnist = make_nmnist(tmp_path / "a")
    page = b"<!DOCTYPE html><html>Not here</html>"
    (nmnist / "Test" / "1" / "00001.bin").write_bytes(page[:35])
    assert "00001.bin: event" in refused(NMnistConfig(), nmnist).message
    gesture = make_dvs_gesture(tmp_path / "b")
    (gesture / "ibmGestureTrain" / "user00_led" / "4.npy").write_bytes(page)
    assert "4.npy is damaged, or not a .npy file" in refused(DvsGestureConfig(), gesture).message
    spoken = make_shd(tmp_path / "c")
    (spoken / "shd_train.h5").write_bytes(page)
    assert "shd_train.h5 is damaged, or not an HDF5 file" in refused(ShdConfig(), spoken).message


def cut(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def test_truncated_files_are_refused_in_every_format(tmp_path: Path, original: Path) -> None:
    nmnist = make_nmnist(tmp_path / "a")
    cut(nmnist / "Train" / "2" / "00004.bin", 2)
    assert "00004.bin is truncated: " in refused(NMnistConfig(), nmnist).message
    (nmnist / "Train" / "2" / "00004.bin").write_bytes(b"")
    assert "00004.bin is empty" in refused(NMnistConfig(), nmnist).message
    for by in (8, 2000, 19_200):
        gesture = make_dvs_gesture(tmp_path / f"b{by}")
        cut(gesture / "ibmGestureTest" / "user01_led" / "10.npy", by)
        assert "user01_led/10.npy is damaged" in refused(DvsGestureConfig(), gesture).message
    for by in (1, 3000):
        spoken = make_shd(tmp_path / f"c{by}")
        cut(spoken / "shd_test.h5", by)
        assert "shd_test.h5" in refused(ShdConfig(), spoken).message
    whole = (original / "user01_led.aedat").read_bytes()
    for by in (1, 8, 403, 420):
        (original / "user01_led.aedat").write_bytes(whole[:-by])
        assert "user01_led.aedat is truncated: its last packet begins" in refused(DvsGestureConfig(), original).message


def test_files_that_do_not_hold_what_they_should_are_refused(tmp_path: Path, original: Path) -> None:
    import h5py

    spoken = make_shd(tmp_path / "a")
    with h5py.File(spoken / "shd_test.h5", "a") as file:
        del file["labels"]
    assert "shd_test.h5 contains no labels" in refused(ShdConfig(), spoken).message
    with h5py.File(spoken / "shd_test.h5", "a") as file:
        file["labels"] = np.zeros(7)
    assert "has times, units and labels of [7, 24] recordings" in refused(ShdConfig(), spoken).message
    write_hdf5(spoken / "shd_test.h5", [random_events(0, 5, Sensor(700, 1, 1), 100)], [20])
    assert "contains a label beyond 19" in refused(ShdConfig(), spoken).message
    gesture = make_dvs_gesture(tmp_path / "b")
    np.save(gesture / "ibmGestureTest" / "user01_led" / "10.npy", np.zeros((3, 5)))
    assert "10.npy does not contain events [N, 4]" in refused(DvsGestureConfig(), gesture).message
    np.save(gesture / "ibmGestureTest" / "user01_led" / "11.npy", np.zeros((3, 4)))
    assert "11.npy is not named after a class, 0 to 10" in refused(DvsGestureConfig(), gesture).message
    outside = random_events(0, 100, Sensor(128, 128), 4_000_000)
    outside["y"][70] = 128
    whole = (original / "user01_led.aedat").read_bytes()
    (original / "user01_led.aedat").write_bytes(aedat(outside))
    assert "user01_led.aedat: event 70 of 100 has y 128" in refused(DvsGestureConfig(), original).message
    (original / "user01_led.aedat").write_bytes(whole)
    table = original / "user01_led_labels.csv"
    good = table.read_text()
    for text, message in (
        (good.replace("class", "klass"), "not a table of class"),
        (good.replace("1,500000", "twelve,500000"), "not a table of class"),
        (good.replace("11,", "12,"), "contains a gesture of class 12 from 2000000 to 3900000 us"),
        (good.replace("3900000", "1900000"), "contains a gesture of class 11 from 2000000 to 1900000 us"),
        (good.replace("2000000,3900000", "9000000,9900000"), "contains no event of its gesture 11"),
    ):
        table.write_text(text)
        assert message in refused(DvsGestureConfig(), original).message
    table.unlink()
    assert "user01_led_labels.csv: No such file" in refused(DvsGestureConfig(), original).message
    table.write_text(good)
    for header in (b"no header at all", b"#!AER-DAT2.0\r\n" + b"\0" * 80):
        (original / "user01_led.aedat").write_bytes(header)
        assert "user01_led.aedat is " in refused(DvsGestureConfig(), original).message


def test_a_missing_set_says_where_it_was_looked_for(made: tuple[Path, DataConfig], tmp_path: Path) -> None:
    _, config = made
    empty = tmp_path / "empty"
    empty.mkdir()
    error = refused(config, empty)
    assert f"is not at {empty / config.name} (" in error.message
    assert "--data-dir or HSTNN_DATA" in error.hint
    assert missing(config, empty) != []


def test_a_partial_download_says_what_is_missing_and_what_unpacks_it(tmp_path: Path) -> None:
    for name, gone, published, other in (
        ("nmnist", "Test", "test.zip", "Test.zip"),
        ("dvs-gesture", "ibmGestureTest", "ibmGestureTest.tar.gz", "DvsGesture.tar.gz"),
        ("shd", "shd_test.h5", "shd_test.h5.zip", "shd_test.h5.gz"),
        ("ssc", "ssc_valid.h5", "ssc_valid.h5.zip", "ssc_valid.h5.gz"),
    ):
        make, config = MAKERS[name]
        folder = make(tmp_path / name)
        if (folder / gone).is_dir():
            shutil.rmtree(folder / gone)
        else:
            (folder / gone).unlink()
        assert f"is not at {folder} ({gone} is missing)" in refused(config, folder).message
        (folder / other).touch()
        assert refused(config, folder).hint == f"unpack {folder / other} there first"
        # An archive of what is there already is not what is missing.
        there = next(remote for remote in DATA_SETS[name].remotes if remote.at_hand(folder))
        (folder / there.name).touch()
        assert refused(config, folder).hint == f"unpack {folder / other} there first"
        (folder / published).touch()
        assert refused(config, folder).hint == f"`hstnn data prepare {name}` checks and unpacks {folder / published}"


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    nmnist = make_nmnist(tmp_path / "a", test=0)
    (nmnist / "Test").mkdir()
    assert refused(NMnistConfig(), nmnist).message == f"N-MNIST from {nmnist} contains no test recordings"
    gesture = make_dvs_gesture(tmp_path / "b", train=0)
    (gesture / "ibmGestureTrain").mkdir()
    assert "contains no train recordings" in refused(DvsGestureConfig(), gesture).message
    spoken = make_shd(tmp_path / "c")
    write_hdf5(spoken / "shd_test.h5", [], [])
    assert "contains no test recordings" in refused(ShdConfig(), spoken).message


def test_too_few_recordings_to_hold_some_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot hold out"):
        load(NMnistConfig(), "validation", make_nmnist(tmp_path, train=2))


def test_lists_tables_and_rows_of_other_kinds_are_refused_in_one_line(tmp_path: Path, original: Path) -> None:
    (original / "trials_to_test.txt").write_bytes(b"\x80\x04\x95trials_to_test.txt")
    assert "trials_to_test.txt is damaged, or not a list of AEDAT" in refused(DvsGestureConfig(), original).message
    gesture = make_dvs_gesture(tmp_path / "gesture")
    path = gesture / "ibmGestureTest" / "user01_led" / "10.npy"
    for rows in (np.full((3, 4), "a"), np.zeros((3, 4), complex), np.full((3, 4), np.nan)):
        np.save(path, rows)
        assert "10.npy contains values that are not numbers" in refused(DvsGestureConfig(), gesture).message
    import h5py

    spoken = make_shd(tmp_path / "spoken")
    with h5py.File(spoken / "shd_test.h5", "a") as file:
        del file["labels"]
        file["labels"] = np.array([b"a"] * 24)
    assert "shd_test.h5 is damaged, or not a file of labels" in refused(ShdConfig(), spoken).message
