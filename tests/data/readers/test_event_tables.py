"""HDF5, Matlab and ROS: which table is taken, what is said of the others, and what is refused unread."""

import builtins
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.data.readers.event_columns import Expected
from hstnn_deploy.errors import DataError
from tests.event_encoders import (
    LAYOUT,
    bag,
    dsec,
    events_bag,
    fields,
    hdf5,
    matlab73,
    message,
    orchard,
    plain,
    tactile,
)
from tests.event_files import random_events, write_hdf5, write_npy
from tests.event_forms import HOW, REF, columns, later, read
from tests.libraries import installed

SHD = Expected(Frames(sensor=Sensor(700, 1, 1), transforms=[], frame_time=14_000, steps=100, binary=False), "shd")
GESTURE = Expected(
    Frames(sensor=Sensor(128, 128), transforms=[], frame_time=20_000, steps=60, binary=False), "dvs-gesture"
)
TAXELS = Expected(HOW.model_copy(update={"sensor": Sensor(10, 10)}), "")

# ----------------------------------------------------------------------------------------------------------------- HDF5


def test_dsec_says_what_it_did_not_add_and_its_index_is_compared_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    dsec(path, REF)
    found = read(path)
    assert "times are from the recording's own beginning: t_offset, 53000000000 us, is not added" in found.report.notes
    assert found.report.unit == "microseconds (by the format)"
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][7] = 3
    with pytest.raises(DataError, match="ms_to_idx says that event 3 of 900 is the first from 7 ms on"):
        read(path)
    with h5py.File(path, "r+") as file:
        file["events/t"][:] = REF["t"] // 10
    with pytest.raises(DataError, match="is damaged, or its times are not microseconds"):
        read(path)


def test_of_several_places_with_events_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    hdf5(path, {f"davis/{side}/events": plain(REF, "xytp", float) for side in ("left", "right")})
    with pytest.raises(DataError, match="contains events in 2 places: davis/left/events, davis/right/events") as error:
        read(path)
    assert error.value.hint == "specify which: --events part=davis/left/events"
    with pytest.raises(DataError, match="has no events at 'davis'"):
        read(path, said="part=davis")
    # Rows of another name are taken where they are named.
    hdf5(path, {"rows": plain(REF, "xytp", float)})
    with pytest.raises(DataError, match="contains no known events"):
        read(path)
    assert np.array_equal(read(path, said="part=/rows").events, REF)


def test_metavisions_sensor_is_that_of_its_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    hdf5(path, {"CD/events": fields(REF)}, geometry="1280x720")
    with pytest.raises(DataError, match="is from a sensor of 1280 x 720"):
        read(path)
    hdf5(path, {"CD/events": fields(REF)}, width="34", height="34")
    assert read(path).report.sensor_from == "as the file states"


def test_nothing_is_read_out_of_another_file(tmp_path: Path) -> None:
    hdf5(tmp_path / "secret.h5", columns(REF, place="events/"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/events")
    with pytest.raises(DataError, match="contains no known events"):
        read(tmp_path / "a.h5")
    (tmp_path / "raw").write_bytes(REF["t"].tobytes())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name in "xyp":
            file[name] = REF[name]
        file.create_dataset("t", (900,), "<i8", external=[(str(tmp_path / "raw"), 0, 7200)])
    with pytest.raises(DataError, match="/t is stored in another file, which hstnn does not read"):
        read(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for name in "xyp":
            file[name] = REF[name]
        layout = h5py.VirtualLayout((900,), "<i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "events/t", (900,))
        file.create_virtual_dataset("t", layout)
    with pytest.raises(DataError, match="/t is stored in another file, which hstnn does not read"):
        read(tmp_path / "c.h5")


def test_groups_that_hold_themselves_or_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hstnn_deploy.data.readers import event_hdf5

    path = tmp_path / "a.h5"
    hdf5(path, columns(REF, place="events/"))
    with h5py.File(path, "r+") as file:
        file["events/itself"] = file["events"]
    with pytest.raises(DataError, match="nested deeper than 16"):
        read(path)
    hdf5(path, columns(REF, place="events/"))
    monkeypatch.setattr(event_hdf5, "MOST", 3)
    with pytest.raises(DataError, match="contains more than 3 objects"):
        read(path)


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
    np.save(tmp_path / "plain.npy", plain(gesture, "txyp"))
    assert np.array_equal(read(tmp_path / "plain.npy", GESTURE).events, gesture)

    spoken = [random_events(number, 80, Sensor(700, 1, 1), 900_000) for number in range(3)]
    write_hdf5(tmp_path / "shd.h5", spoken, [0, 1, 2])
    recordings = Hdf5Recordings(tmp_path / "shd.h5", 20)
    for number in range(3):
        found = read(tmp_path / "shd.h5", SHD, f"recording={number}")
        assert np.array_equal(found.events, recordings.read(number))
        assert f"recording {number} of 3, of class {number}" in found.report.lines()[1]
        assert found.report.polarity == "none"
    with pytest.raises(DataError, match=r"contains 3 recordings$") as error:
        read(tmp_path / "shd.h5", SHD)
    assert "recording=N" in error.value.hint
    with pytest.raises(DataError, match="there is no 3"):
        read(tmp_path / "shd.h5", SHD, "recording=3")
    with pytest.raises(DataError, match="is from a sensor of 700 x 1; the network was trained on one of 34 x 34"):
        read(tmp_path / "shd.h5", said="recording=0")
    # tonic's form: no y, the polarity the same everywhere.
    tonic = np.zeros(80, [("t", "<i8"), ("x", "<i8"), ("p", "<i8")])
    tonic["t"], tonic["x"], tonic["p"] = spoken[0]["t"], spoken[0]["x"], 1
    np.save(tmp_path / "tonic.npy", tonic)
    assert np.array_equal(read(tmp_path / "tonic.npy", SHD).events, spoken[0])
    tonic["t"] *= 1000
    np.save(tmp_path / "tonic.npy", tonic)
    with pytest.raises(DataError, match="does not specify the unit"):
        read(tmp_path / "tonic.npy", SHD)


# --------------------------------------------------------------------------------------------------------------- Matlab


def test_st_mnist_is_read_as_its_paper_and_tonic_say(tmp_path: Path) -> None:
    events = random_events(3, 400, Sensor(10, 10), 40_000)
    for name, write in (("a.mat", scipy.io.savemat), ("b.mat", matlab73)):
        write(tmp_path / name, {"spiketrain": tactile(events)})
        found = read(tmp_path / name, TAXELS)
        assert np.array_equal(found.events, events)
        assert found.report.form == "ST-MNIST's .mat"
        assert found.report.polarity.startswith("-1 and 1")
        assert found.report.unit == "seconds (by the format)"
    with pytest.raises(DataError, match="is from a sensor of 10 x 10"):
        read(tmp_path / "a.mat")
    train = tactile(events)
    train[:100, :7] = 0
    scipy.io.savemat(tmp_path / "a.mat", {"spiketrain": train})
    assert read(tmp_path / "a.mat", TAXELS).report.dropped == {"times without a spike": 7}
    scipy.io.savemat(tmp_path / "a.mat", {"spiketrain": train[1:]})
    with pytest.raises(DataError, match=r"its spiketrain has shape \[100, 400\]"):
        read(tmp_path / "a.mat", TAXELS)
    train[3, 3] = 0.5
    scipy.io.savemat(tmp_path / "a.mat", {"spiketrain": train})
    with pytest.raises(DataError, match="numbers other than -1, 0 and 1"):
        read(tmp_path / "a.mat", TAXELS)


def test_a_struct_td_counts_from_1_unless_there_is_a_0(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"TD": orchard(REF)})
    assert "x and y are counted from 1 (by the format): 1 is taken off those of 900 events" in read(path).report.notes
    from_zero = {**orchard(REF), "x": REF["x"], "y": REF["y"], "p": REF["p"]}
    scipy.io.savemat(path, {"TD": from_zero})
    found = read(path)
    assert np.array_equal(found.events, REF)
    assert "x and y of TD are counted from 0 here: there is a 0 among them" in found.report.notes
    scipy.io.savemat(path, {"TD": orchard(REF)})
    with pytest.raises(DataError, match="34"):
        read(path, said="origin=0")


def test_matlab_files_without_events_or_with_several_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"weights": np.ones((3, 3)), "name": "nobody", "cells": np.array([1, "a"], object)})
    with pytest.raises(DataError, match="contains no known events"):
        read(path)
    scipy.io.savemat(path, {"left": columns(REF), "right": columns(later(5))})
    with pytest.raises(DataError, match="contains events in 2 places: left, right"):
        read(path)
    assert np.array_equal(read(path, said="part=right").events, later(5))


@pytest.mark.parametrize(
    ("place", "value", "wrong"),
    [
        (128, 99, "has no events|contains no known events"),
        (132, 2**31, "an element claims 2147483648 bytes"),
        (136, 7 << 16 | 6, "a short element claims 7 bytes"),
        (136, 99, "flags of a matrix"),
        (160, 2**31 - 1, "a matrix of|has the shape|numbers holds"),
    ],
)
def test_claims_of_a_matlab_file_are_checked(place: int, value: int, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"t": REF["t"], "x": REF["x"], "y": REF["y"], "p": REF["p"]})
    content = bytearray(path.read_bytes())
    assert np.array_equal(read(path).events, REF)
    content[place : place + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=wrong):
        read(path)


def test_matlab_variables_are_as_scipy_reads_them(tmp_path: Path) -> None:
    """Of every type of numbers and way of writing them; scipy is the oracle."""
    from hstnn_deploy.data.readers.matlab_files import read_variables

    kinds = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    made: dict[str, Any] = {kind: (np.arange(24).reshape(4, 6) * 5).astype(kind) for kind in kinds}
    made |= {"one": 3.5, "two": np.array([1, 2], "u1"), "none": np.zeros((0, 4)), "cube": np.ones((2, 3, 4))}
    made |= {"yes": np.array([True, False]), "i": np.array([1j]), "word": "abc", "deep": {"a": {"b": np.arange(3)}}}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", made, do_compression=compressed)
        theirs, ours = scipy.io.loadmat(tmp_path / "a.mat"), read_variables(tmp_path / "a.mat")
        assert set(ours) == {*made, "deep/a/b"} - {"i", "word", "deep"}
        assert all(np.array_equal(ours[name], theirs[name]) for name in set(ours) - {"deep/a/b"})
        assert np.array_equal(ours["deep/a/b"].ravel(), [0, 1, 2])
    for order in "<>":
        scipy.io.savemat(tmp_path / "b.mat", {"a": np.arange(6.0).reshape(2, 3).astype(f"{order}f4")}, format="4")
        assert np.array_equal(read_variables(tmp_path / "b.mat")["a"], np.arange(6.0).reshape(2, 3))


def test_a_matlab_file_that_unpacks_to_far_more_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    bomb = zlib.compress(bytes(80 * 2**20), 9)
    path.write_bytes(head + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    with pytest.raises(DataError, match="unpacks to far more"):
        read(path)
    path.write_bytes(head + (15).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little") + bomb)
    with pytest.raises(DataError, match="an element claims 4294967295 bytes"):
        read(path)
    # A struct of ten thousand million fields that are not there.
    dims = np.array([6, 8, 2, 0, 5, 8, 100_000, 100_000, 1, 0, 5 | 4 << 16, 8, 1, 0], "<u4").tobytes()
    path.write_bytes(head + (14).to_bytes(4, "little") + len(dims).to_bytes(4, "little") + dims)
    with pytest.raises(DataError):
        read(path)


# ------------------------------------------------------------------------------------------------------------------ ROS


def test_of_several_topics_one_is_named_and_other_messages_are_said(tmp_path: Path) -> None:
    installed("rosbags")
    path, kind = tmp_path / "a.bag", "dvs_msgs/msg/EventArray"
    one = (kind, LAYOUT, [message(REF, (34, 34))])
    bag(path, {"/left": one, "/right": (kind, LAYOUT, [message(later(5), (34, 34))])})
    with pytest.raises(DataError, match="contains events of 2 topics: /left, /right") as error:
        read(path)
    assert error.value.hint == "specify which: --events part=/left"
    assert np.array_equal(read(path, said="part=/right").events, later(5))
    with pytest.raises(DataError, match="has no events in the topic '/up'"):
        read(path, said="part=/up")
    bag(path, {"/left": ("event_camera_msgs/msg/EventPacket", "0" * 32, [bytes(9)])})
    with pytest.raises(DataError, match=r"no known event messages: /left \(event_camera_msgs"):
        read(path)
    bag(path, {"/left": (kind, LAYOUT, [message(REF, (346, 260))])})
    with pytest.raises(DataError, match="is from a sensor of 346 x 260"):
        read(path)
    bag(path, {"/left": (kind, LAYOUT, [message(REF, (34, 34)), message(REF, (30, 30))])})
    with pytest.raises(DataError, match="events from sensors of 2 sizes"):
        read(path)
    bag(path, {"/left": (kind, LAYOUT, [message(REF[:0], (0, 0))])})
    with pytest.raises(DataError, match=r"contains no events$"):
        read(path)


@pytest.mark.parametrize("cut", [1, -1])
def test_a_message_that_claims_other_than_it_holds_is_damaged(cut: int, tmp_path: Path) -> None:
    installed("rosbags")
    raw = message(REF, (34, 34))
    bag(tmp_path / "a.bag", {"/e": ("dvs_msgs/msg/EventArray", LAYOUT, [raw[:-1] if cut < 0 else raw + b"\0"])})
    with pytest.raises(DataError, match="claims 900 events of 13"):
        read(tmp_path / "a.bag")


@pytest.mark.parametrize("compression", ["BZ2", "LZ4"])
def test_a_bag_that_unpacks_to_gigabytes_is_refused(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("rosbags")
    from hstnn_deploy.data.readers import event_bags

    raw = message(np.repeat(REF[:1], 400_000), (34, 34))
    bag(tmp_path / "a.bag", {"/e": ("dvs_msgs/msg/EventArray", LAYOUT, [raw])}, compression)
    assert len(read(tmp_path / "a.bag").events) == 400_000
    monkeypatch.setattr(event_bags, "_CHUNK", 2**20)
    with pytest.raises(DataError, match="unpacks to more than 1048576"):
        read(tmp_path / "a.bag")
    monkeypatch.undo()
    monkeypatch.setattr(event_bags, "_LARGE", 2**20)
    monkeypatch.setattr(event_bags, "_RATIO", 1)
    with pytest.raises(DataError, match="far larger than the file"):
        read(tmp_path / "a.bag")


def test_without_rosbags_a_bag_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(80))
    whole = builtins.__import__

    def without(name: str, *given: Any, **how: Any) -> Any:
        if name.startswith("rosbags"):
            raise ImportError(name)
        return whole(name, *given, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"is a ROS bag, which needs the package rosbags$") as error:
        read(tmp_path / "a.bag")
    assert error.value.hint == "pip install rosbags"


def test_a_bag_that_was_not_closed_says_how_it_is_mended(tmp_path: Path) -> None:
    installed("rosbags")
    path = tmp_path / "a.bag"
    events_bag(path, REF, (34, 34))
    content = bytearray(path.read_bytes())
    at = content.index(b"index_pos=") + 10
    content[at : at + 8] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(DataError, match="not indexed") as error:
        read(path)
    assert "rosbag reindex" in error.value.hint
