"""Recordings of one's own: frames as every set has them, sensors of any size, groups, and draws while training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.data.events.augment import DropEvent, Flip, TimeJitter, augmentation
from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.own.config import FoundEvents, OwnEvents
from hstnn_deploy.data.own.resolve import complete, load_folder
from hstnn_deploy.data.preprocessing import Frames, framed, preprocessing
from hstnn_deploy.errors import DataError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.own_data import moved
from tests import own_data

SENSOR = Sensor(20, 14)


@pytest.fixture(autouse=True)
def _cached_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSTNN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return own_data.events(tmp_path / "gestures")


def all_of(split: Any) -> Any:
    return split.batch(torch.arange(len(split)), torch.device("cpu"))


@pytest.mark.parametrize("cache", ["none", "memory", "disk", "device"])
def test_recordings_become_the_frames_of_a_bundle(folder: Path, cache: Any) -> None:
    config, splits = load_folder(folder, cache=cache, sensor_size=[20, 14], frames={"by": "bins", "bins": 5})
    assert isinstance(config, OwnEvents)
    assert (splits.classes, splits.family, splits.size, splits.frame) == (2, "convolutional", None, (2, 14, 20))
    assert config.found is not None
    assert config.found.classes == ["left", "right"]
    how = preprocessing(config)
    assert isinstance(how, Frames)
    wanted = {
        framed(own_data.recording(label, 10 * number + label), how).numpy().tobytes()
        for label in (0, 1)
        for number in range(6)
    }
    for name in ("train", "valid", "test"):
        x = all_of(splits.split(name)).x
        assert x.shape[0] == 5
        assert {x[:, number].contiguous().numpy().tobytes() for number in range(x.shape[1])} <= wanted


def test_the_usual_frames_are_as_many_for_every_recording(folder: Path) -> None:
    config, splits = load_folder(folder, sensor_size=[20, 14])
    assert isinstance(config, OwnEvents)
    assert config.frames is not None
    assert all_of(splits.train).x.shape[0] == 16
    assert all_of(splits.train).lengths is None


def test_frames_at_fixed_times_and_transforms(folder: Path) -> None:
    config, splits = load_folder(
        folder,
        sensor_size=[20, 14],
        frame_time=20_000,
        steps=4,
        transforms=[{"name": "center-crop", "size": 14}, {"name": "downsample", "factor": 2}],
    )
    assert (splits.size, splits.frame) == (7, None)
    assert all_of(splits.test).x.shape[0] == 4
    # Written down and read again, it is the same.
    again = OwnEvents.model_validate(config.model_dump(mode="json"))
    assert again == config


def test_a_subject_is_on_one_side(folder: Path) -> None:
    config, splits = load_folder(folder, sensor_size=[20, 14], split={"group": "_", "test": 0.3, "valid": 0.3})
    assert [len(splits.split(name)) for name in ("train", "valid", "test")] == [4, 4, 4]
    with pytest.raises(DataError, match="too few to hold"):
        load_folder(own_data.events(folder.parent / "two", people=2), sensor_size=[20, 14], split={"group": "_"})
    assert config.found is not None


def test_what_files_do_not_say_is_said_and_kept_for_the_bundle(tmp_path: Path) -> None:
    for label, name in enumerate(["right", "left"]):
        (tmp_path / "g" / name).mkdir(parents=True)
        for number in range(4):
            found = own_data.recording(label, number)
            rows = np.stack([found[each] for each in "txyp"], 1).astype(np.float64)
            rows[:, 0] /= 1e6
            np.save(tmp_path / "g" / name / f"{number}.npy", rows[:, [1, 2, 0, 3]])
    said: dict[str, Any] = {"kind": "events", "sensor_size": [20, 14], "events": "unit=s,order=xytp"}
    config, splits = load_folder(tmp_path / "g", **said)
    assert float(all_of(splits.train).x.sum()) == pytest.approx(600 * 4, rel=0.01)
    how = preprocessing(config)
    assert isinstance(how, Frames)
    assert how.events == "unit=s,order=xytp"
    with pytest.raises(DataError, match=r"^data\.events is 'unit=hours': invalid unit 'hours'"):
        load_folder(tmp_path / "g", **{**said, "events": "unit=hours"})


def test_an_empty_and_an_odd_recording_are_refused_by_name(folder: Path) -> None:
    np.save(folder / "left" / "p0_9.npy", own_data.recording(0, 0)[:0])
    with pytest.raises(DataError, match="p0_9"):
        load_folder(folder, sensor_size=[20, 14])
    np.save(folder / "left" / "p0_9.npy", own_data.recording(0, 0, size=(40, 40)))
    with pytest.raises(DataError, match="p0_9"):
        load_folder(folder, sensor_size=[20, 14])
    (folder / "left" / "p0_9.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="p0_9"):
        load_folder(folder, sensor_size=[20, 14])


def test_files_that_state_two_sensors_are_refused(tmp_path: Path) -> None:
    def write(path: Path, width: int) -> None:
        head = f"% Width {width}\n% Height 14\n% Version 2\n".encode() + bytes([12, 8])
        rows = np.zeros((50, 2), "<u4")
        rows[:, 0] = np.arange(50) * 1000
        rows[:, 1] = np.arange(50) % 10
        path.write_bytes(head + rows.tobytes())

    for name in ("a", "b"):
        (tmp_path / "g" / name).mkdir(parents=True)
        for number in range(4):
            write(tmp_path / "g" / name / f"{number}.dat", 20)
    plain = complete({"name": "own", "path": str(tmp_path / "g")})
    assert plain["kind"] == "events"
    assert list(plain["found"]["sensor"]) == [20, 14, 2]
    write(tmp_path / "g" / "b" / "3.dat", 24)
    with pytest.raises(DataError) as error:
        load_folder(tmp_path / "g")
    assert "b/3.dat is from a sensor of 24 x 14, but" in error.value.message
    assert "a/0.dat is from one of 20 x 14" in error.value.message


def test_a_sensor_that_nobody_states_is_asked_for(folder: Path) -> None:
    with pytest.raises(DataError, match="does not state its sensor size") as error:
        load_folder(folder)
    assert "[20,14]" in error.value.hint


def test_draws_are_of_training_alone_and_anew_each_time(folder: Path) -> None:
    said: dict[str, Any] = {"sensor_size": [20, 14], "frames": {"by": "bins", "bins": 5}}
    plain = load_folder(folder, **said)[1]
    _, drawn = load_folder(folder, **said, augment=[{"name": "drop-event", "p": 0.25}])
    assert torch.equal(all_of(drawn.test).x, all_of(plain.test).x)
    torch.manual_seed(3)
    one, two = all_of(drawn.train).x, all_of(drawn.train).x
    assert not torch.equal(one, two)
    count = all_of(plain.train).x.sum((0, 2, 3, 4))
    # The last event of a recording may be cut off, as it is without draws.
    assert (one.sum((0, 2, 3, 4)) / count - 0.75).abs().max() < 0.02
    torch.manual_seed(3)
    assert torch.equal(all_of(drawn.train).x, one)


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_draws_do_not_depend_on_where_events_are_kept(folder: Path, cache: Any) -> None:
    said: dict[str, Any] = {"sensor_size": [20, 14], "augment": [{"name": "time-jitter", "std": 500}, {"name": "flip"}]}
    torch.manual_seed(1)
    one = all_of(load_folder(folder, **said, cache="none")[1].train).x
    torch.manual_seed(1)
    assert torch.equal(all_of(load_folder(folder, **said, cache=cache)[1].train).x, one)


def test_each_draw_does_what_it_says_and_leaves_numpy_alone() -> None:
    events = own_data.recording(0, 0)
    np.random.seed(7)
    before: Any = np.random.get_state()
    torch.manual_seed(0)
    kept = augmentation([DropEvent(p=0.4)], SENSOR)(events)
    assert len(kept) == 360
    assert np.isin(kept["t"], events["t"]).all()
    moved = augmentation([TimeJitter(std=1000)], SENSOR)(events)
    assert (np.diff(moved["t"]) >= 0).all()
    assert moved["t"].min() >= 0
    assert 590 <= len(moved) <= 600
    turned = augmentation([Flip(p=1)], SENSOR)(events)
    assert np.array_equal(turned["x"], 19 - events["x"])
    after: Any = np.random.get_state()
    assert np.array_equal(after[1], before[1])


def test_changed_recordings_are_another_entry_of_the_cache(folder: Path) -> None:
    said: dict[str, Any] = {"sensor_size": [20, 14]}
    first = all_of(load_folder(folder, **said)[1].train).x
    for path in folder.glob("*/*.npy"):
        np.save(path, own_data.recording(0, 99))
    assert not torch.equal(all_of(load_folder(folder, **said)[1].train).x, first)


def with_times(folder: Path, number: int, change: Any) -> None:
    path = sorted(folder.rglob("*.npy"))[number]
    events = np.load(path)
    found = np.zeros(
        len(events), [("t", "f8" if change(1.0) != int(change(1.0)) else "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")]
    )
    for each in "xyp":
        found[each] = events[each]
    found["t"] = change(events["t"].astype(np.int64))
    np.save(path, found)


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("frames", [{}, {"frame_time": 10_000}])
@pytest.mark.parametrize(("factor", "unit"), [(0.001, "ms"), (1000, "ns")])
def test_a_recording_in_another_unit_is_refused(
    folder: Path, number: int, frames: Any, factor: float, unit: str
) -> None:
    with_times(folder, number, lambda time: (time * factor) // 1)
    with pytest.raises(DataError, match="does not specify the unit of its times") as error:
        load_folder(folder, sensor_size=(20, 14), **frames)
    assert sorted(folder.rglob("*.npy"))[number].name in error.value.message
    assert f"--set data.events=unit={unit}" in error.value.hint


def test_how_recordings_are_read_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_times(folder, 4, lambda time: time * 1e-6)
    load_folder(folder, sensor_size=(20, 14))
    notes = [each.message for each in caplog.records if each.message.startswith("note: ")]
    assert len(notes) == 2
    assert "times in microseconds (whole numbers count as microseconds)" in notes[0]
    assert "times in seconds (fractions that span" in notes[1]


def test_recordings_of_another_sensor_are_not_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stated(name: str, width: int, height: int) -> Path:
        for label, each in enumerate(("right", "left")):
            (tmp_path / name / each).mkdir(parents=True)
            for number in range(4):
                events = own_data.recording(label, 10 * number + label, (width, height))
                lines = [" ".join(str(event[field]) for field in "txyp") for event in events]
                text = "\n".join([f"{width} {height}", *lines])
                (tmp_path / name / each / f"{number}.txt").write_text(text)
        return tmp_path / name

    changes = ["data.kind=events", "data.events=order=txyp"]
    recipe = load_recipe("stack-events", changes, data=stated("trained", 20, 14))
    measured = moved(recipe, stated("same", 20, 14)).data
    assert isinstance(recipe.data, OwnEvents)
    assert isinstance(measured, OwnEvents)
    assert isinstance(measured.found, FoundEvents)
    assert isinstance(recipe.data.found, FoundEvents)
    assert measured.found.sensor == (20, 14, 2)
    assert measured.found.span == recipe.data.found.span
    for size in ((10, 7), (30, 21)):
        with pytest.raises(DataError, match="is from a sensor of"):
            moved(recipe, stated(f"{size[0]}", *size))
