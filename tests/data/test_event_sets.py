"""Event data sets: read as tonic reads them, whole or in part."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.recfunctions
import pytest
import tonic.datasets
import tonic.io
import torch

from hstnn_deploy.data.dataset import Recordings
from hstnn_deploy.data.events.aedat import read_aedat
from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.registry import DataConfig, load, missing, shape
from hstnn_deploy.data.sets.dvs_gesture import AedatRecordings, DvsGestureConfig, NpyRecordings
from hstnn_deploy.data.sets.heidelberg import Hdf5Recordings, ShdConfig, SscConfig
from hstnn_deploy.data.sets.nmnist import NMnistConfig, NMnistRecordings
from hstnn_deploy.data.splits import Splits
from tests.data.conftest import CAMERA
from tests.event_files import (
    aedat,
    make_dvs_gesture,
    make_nmnist,
    make_shd,
    random_events,
    write_bin,
)

CPU = torch.device("cpu")


def without_files(kind: Any, **attributes: Any) -> Any:
    """Return a data set of tonic's that neither looks for its archives nor downloads them."""
    found = kind.__new__(kind)
    for name, value in {"transform": None, "target_transform": None, "transforms": None, **attributes}.items():
        setattr(found, name, value)
    return found


def assert_same(ours: Recordings, theirs: Any, fields: str) -> None:
    assert len(ours.target) > 0
    for number, label in enumerate(ours.target.tolist()):
        events, target = theirs[number]
        assert int(target) == label
        mine = ours.read(number)
        assert len(mine) == len(events) > 0
        for field in fields:
            assert np.array_equal(mine[field], events[field])


def test_nmnist_is_read_as_tonic_reads_it(tmp_path: Path) -> None:
    ours = NMnistRecordings.of(make_nmnist(tmp_path) / "Train")
    paths = [str(path) for path in ours.paths]
    theirs = without_files(
        tonic.datasets.NMNIST, data=paths, targets=ours.target.tolist(), first_saccade_only=False, stabilize=False
    )
    assert_same(ours, theirs, "xytp")
    # Written with overflow marks, and read back.
    assert ours.read(0)["t"].max() > 2**13
    assert np.array_equal(ours.read(10), random_events(1010, 300, Sensor(34, 34), 60_000, 1))


def test_dvs_gesture_is_read_as_tonic_reads_it(tmp_path: Path) -> None:
    ours = NpyRecordings.of(make_dvs_gesture(tmp_path) / "ibmGestureTrain")
    theirs = without_files(tonic.datasets.DVSGesture, data=list(map(str, ours.paths)), targets=ours.target.tolist())
    assert_same(ours, theirs, "xytp")
    assert sorted(set(ours.target.tolist())) == [0, 4, 10]


def test_heidelberg_is_read_as_tonic_reads_it(tmp_path: Path) -> None:
    folder = make_shd(tmp_path)
    ours = Hdf5Recordings(folder / "shd_train.h5", 20)
    theirs = without_files(tonic.datasets.SHD, location_on_system=str(folder), data_filename="shd_train.h5")
    assert_same(ours, theirs, "xt")


def test_the_original_aedat_files_are_read_as_tonic_reads_them_and_cut_by_their_tables(original: Path) -> None:
    path = original / "user01_led.aedat"
    raw = tonic.io.get_aer_events_from_file(str(path), *tonic.io.read_aedat_header_from_file(str(path))[:2])
    ours = read_aedat(path)
    # The bits as tonic.io.read_dvs_ibm takes them.
    for field, theirs in (
        ("x", (raw["address"] >> 17) & 0x1FFF),
        ("y", (raw["address"] >> 2) & 0x1FFF),
        ("t", raw["timeStamp"]),
        ("p", (raw["address"] >> 1) & 1),
    ):
        assert np.array_equal(ours[field], theirs)
    recordings = AedatRecordings.of(original, "trials_to_train.txt")
    assert recordings.target.tolist() == [0, 10]
    for number, (start, stop) in enumerate(((500_000, 1_700_000), (2_000_000, 3_900_000))):
        cut = ours[(ours["t"] >= start) & (ours["t"] < stop)]
        assert np.array_equal(recordings.read(number)["t"], cut["t"] - start)
        assert np.array_equal(recordings.read(number)["x"], cut["x"])
    splits = load(DvsGestureConfig(), "test", original)
    assert (len(splits.train), len(splits.test)) == (2, 2)
    held = "2 of 1176 train and 2 of 288 test recordings"
    assert splits.origin == f"DVS-Gesture (cut by the tables, 1176 + 288) from {original}, {held}"


def test_packets_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    events = random_events(0, 300, CAMERA, 10_000)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat(events, kinds=(0, 1, 2)))
    assert np.array_equal(read_aedat(path), events)


def test_splits_know_what_they_are(made: tuple[Path, DataConfig]) -> None:
    folder, config = made
    for place in (folder, folder.parent):
        splits, known = load(config, "validation", place), shape(config)
        assert known is not None
        assert (splits.family, splits.inputs, splits.size) == (known.family, known.inputs, known.size)
        assert splits.classes == known.classes
        assert missing(config, place) == []
        for name in ("train", "valid", "test"):
            part = splits.split(name)
            x, target, lengths = part.batch(torch.arange(len(part)), CPU)
            assert x.shape == (known.steps, len(part), *known.step)
            assert x.dtype == torch.float32
            assert lengths is None
            assert target.dtype == torch.int64
            assert x.sum() > 0
        assert f"of {known.test} test recordings" in splits.origin


def test_a_part_of_a_set_says_how_many_of_how_many(tmp_path: Path) -> None:
    splits = load(NMnistConfig(), "validation", make_nmnist(tmp_path))
    assert splits.origin == f"N-MNIST from {tmp_path}, 30 of 60000 train and 9 of 10000 test recordings"
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (27, 3, 9)


def test_ssc_has_a_validation_split_of_its_own(tmp_path: Path) -> None:
    folder = make_shd(tmp_path, "ssc")
    splits = load(SscConfig(), "validation", folder)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (24, 24, 24)
    assert "24 of 9981 valid" in splits.origin
    tested = load(SscConfig(), "test", folder)
    everything = torch.arange(24)
    assert torch.equal(tested.valid.batch(everything, CPU).x, tested.test.batch(everything, CPU).x)
    assert not torch.equal(splits.valid.batch(everything, CPU).x, splits.test.batch(everything, CPU).x)


def test_only_training_is_cropped_at_random(tmp_path: Path) -> None:
    folder = make_dvs_gesture(tmp_path)
    config = DvsGestureConfig.model_validate({"steps": 5})
    first = load(DvsGestureConfig.model_validate({"steps": 5, "crop": "first"}), "test", folder)
    splits = load(config, "test", folder)
    indices = torch.arange(6)
    assert torch.equal(splits.test.batch(indices, CPU).x, first.test.batch(indices, CPU).x)
    drawn = [splits.train.batch(indices, CPU).x for _ in range(2)]
    assert not torch.equal(*drawn)
    held = load(config, "validation", make_dvs_gesture(tmp_path / "more", train=12)).valid
    assert torch.equal(held.batch(indices[:3], CPU).x, held.batch(indices[:3], CPU).x)


def test_frames_of_gestures_are_a_quarter_as_high(tmp_path: Path) -> None:
    folder = make_dvs_gesture(tmp_path)
    events = NpyRecordings.of(folder / "ibmGestureTest").read(0)
    small = events.copy()
    small["x"] //= 4
    small["y"] //= 4
    # Without a start time tonic begins at the first event.
    expected = tonic.transforms.ToFrame((32, 32, 2), time_window=20_000, end_time=small["t"][0] + 1_200_000)(small)
    x = load(DvsGestureConfig(), "test", folder).test.batch(torch.zeros(1, dtype=torch.int64), CPU).x
    assert np.array_equal(x[:, 0].numpy(), expected)


def test_channels_are_taken_together(tmp_path: Path) -> None:
    folder = make_shd(tmp_path)
    raw = {"transforms": [{"name": "downsample", "factor": 5}]}
    splits = load(ShdConfig.model_validate(raw), "test", folder)
    assert splits.inputs == 140
    whole = load(ShdConfig(), "test", folder).test.batch(torch.arange(5), CPU).x
    assert torch.equal(splits.test.batch(torch.arange(5), CPU).x, whole.unflatten(-1, (140, 5)).sum(-1))


@pytest.mark.parametrize("cache", ["none", "memory", "device"])
def test_every_cache_gives_what_the_disk_gives(cache: Any, made: tuple[Path, DataConfig]) -> None:
    folder, config = made

    def first(splits: Splits) -> torch.Tensor:
        torch.manual_seed(0)
        return splits.train.batch(torch.arange(7), CPU).x

    assert torch.equal(first(load(config, "test", folder, cache)), first(load(config, "test", folder, "disk")))


def test_another_transform_or_another_file_is_another_entry(tmp_path: Path) -> None:
    folder = make_nmnist(tmp_path)

    def total(**changes: Any) -> float:
        config = NMnistConfig.model_validate(changes)
        return float(load(config, "test", folder).test.batch(torch.arange(9), CPU).x.sum())

    plain = total()
    assert total(transforms=[{"name": "decimation", "n": 2}]) < plain
    assert total(steps=5) < plain
    assert total() == plain
    write_bin(folder / "Test" / "0" / "00000.bin", random_events(0, 10, Sensor(34, 34), 100))
    assert total() < plain


def test_nothing_is_prepared_twice_and_progress_is_told(tmp_path: Path) -> None:
    folder = make_nmnist(tmp_path)
    told: list[tuple[str, int, int]] = []
    for _ in range(2):
        load(NMnistConfig(), "test", folder, "disk", lambda *facts: told.append(facts))
    assert told == [("preparing nmnist train", n + 1, 30) for n in range(30)] + [
        ("preparing nmnist test", n + 1, 9) for n in range(9)
    ]


def test_invalid_events_are_left_out_of_a_set_and_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    events = random_events(0, 300, CAMERA, 10_000)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat(events))
    assert np.array_equal(read_aedat(path), events)
    path.write_bytes(aedat(events, kinds=(1, 3), invalid=[0, 7]))
    assert np.array_equal(read_aedat(path), np.delete(events, [0, 7]))
