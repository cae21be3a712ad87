"""CIFAR10-DVS from its files: labels, SpikingJelly's split, a part, and files that do not belong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.sets.cifar10_dvs import (
    CIFAR10_DVS,
    Cifar10DvsConfig,
    Cifar10DvsRecordings,
    load_cifar10_dvs,
    missing_files,
    recordings_in,
)
from hstnn_deploy.errors import DataError
from tests.event_files import aedat, aedat2, make_cifar10_dvs, random_events

CAMERA = Sensor(128, 128)


def names(folder: Path, split: str, label: str) -> list[str]:
    recordings = recordings_in(folder)[split]
    assert isinstance(recordings, Cifar10DvsRecordings)
    return [path.stem.removeprefix(f"cifar10_{label}_") for path in recordings.paths if path.parent.name == label]


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (10, 1), (19, 1), (20, 2), (25, 2)])
def test_of_each_class_the_last_tenth_by_name_tests(tmp_path: Path, count: int, held: int) -> None:
    make_cifar10_dvs(tmp_path, count)
    # As text, as SpikingJelly's files are in order: 0, 1, 10, 11, …, 2, …
    by_name = sorted(map(str, range(count)))
    for label in ("airplane", "cat", "truck"):
        assert names(tmp_path, "train", label) == by_name[: count - held]
        assert names(tmp_path, "test", label) == by_name[count - held :]


def test_labels_are_those_of_all_ten_classes_and_frames_begin_at_the_first_event(tmp_path: Path) -> None:
    splits = load_cifar10_dvs(Cifar10DvsConfig(), Source("test", make_cifar10_dvs(tmp_path)))
    x, target, lengths = splits.test.batch(torch.arange(6), torch.device("cpu"))
    assert target.tolist() == [0, 0, 3, 3, 9, 9]
    assert (tuple(x.shape), lengths) == ((20, 6, 2, 64, 64), None)
    assert x.sum(dim=(0, 2, 3, 4)).tolist() == [600] * 6
    assert x[0].sum() > 0
    # Of 0.4 s there are seven frames of 65 ms at most.
    assert x[7:].sum() == 0
    held = "SpikingJelly's split, nine tenths of each class) from"
    assert held in splits.origin
    assert splits.origin.endswith("54 of 9000 train and 6 of 1000 test recordings")


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = make_cifar10_dvs(tmp_path)
    first = recordings_in(folder)["train"].read(0)
    expected = random_events(0, 600, CAMERA, 400_000, 0)
    expected["t"] += 2_000_000
    assert np.array_equal(first, expected)


def test_a_part_is_whole_but_not_while_other_archives_are_on_their_way(tmp_path: Path) -> None:
    folder = make_cifar10_dvs(tmp_path)
    assert missing_files(folder) == []
    (folder / "airplane.zip").touch()
    assert missing_files(folder) == []
    (folder / ".bird.zip.part").touch()
    assert len(missing_files(folder)) == 7
    with pytest.raises(DataError, match="automobile is missing"):
        recordings_in(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(missing_files(empty)) == 10
    assert [remote.holds for remote in CIFAR10_DVS.remotes] == list(CIFAR10_DVS.card.classes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cifar10_dog_3.aedat", None, "is not named cifar10_cat_NUMBER.aedat"),
        ("cifar10_cat_1.aedat", b"", "it is empty"),
        ("cifar10_cat_1.aedat", aedat2(random_events(0, 9, CAMERA, 99))[:-1], "is truncated"),
        ("cifar10_cat_1.aedat", aedat2(random_events(0, 0, CAMERA, 99)), "contains no events"),
        ("cifar10_cat_1.aedat", aedat2(random_events(0, 9, CAMERA, 99)[::-1]), "before the one before it"),
        ("cifar10_cat_1.aedat", aedat(random_events(0, 9, CAMERA, 99)), "is not an AEDAT 2.0 file"),
        (
            "cifar10_cat_1.aedat",
            aedat2(random_events(0, 9, CAMERA, 99), "eu.seebetter.ini.chips.davis.DAVIS240B", (240, 180)),
            "is from a DAVIS240; CIFAR10-DVS is from a DVS128",
        ),
    ],
)
def test_a_file_that_does_not_belong_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = make_cifar10_dvs(tmp_path)
    (folder / "cat" / name).write_bytes(aedat2(random_events(0, 9, CAMERA, 99)) if content is None else content)
    with pytest.raises(DataError) as refused:
        load_cifar10_dvs(Cifar10DvsConfig(), Source("test", folder, "none")).train.batch(
            torch.arange(36), torch.device("cpu")
        )
    assert message in refused.value.message
    assert name in refused.value.message


def test_classes_without_a_second_file_test_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no test recordings"):
        load_cifar10_dvs(Cifar10DvsConfig(), Source("test", make_cifar10_dvs(tmp_path, 1)))
