"""Event data sets that tests make."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.registry import DataConfig
from hstnn_deploy.data.sets.cifar10_dvs import Cifar10DvsConfig
from hstnn_deploy.data.sets.dvs_gesture import DvsGestureConfig
from hstnn_deploy.data.sets.heidelberg import ShdConfig, SscConfig
from hstnn_deploy.data.sets.nmnist import NMnistConfig
from tests.event_files import (
    aedat,
    make_cifar10_dvs,
    make_dvs_gesture,
    make_nmnist,
    make_shd,
    random_events,
)

CAMERA = Sensor(128, 128)

MAKERS: dict[str, tuple[Callable[[Path], Path], DataConfig]] = {
    "nmnist": (make_nmnist, NMnistConfig()),
    "dvs-gesture": (make_dvs_gesture, DvsGestureConfig()),
    "cifar10-dvs": (make_cifar10_dvs, Cifar10DvsConfig()),
    "shd": (make_shd, ShdConfig()),
    "ssc": (lambda root: make_shd(root, "ssc"), SscConfig()),
}


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, DataConfig]:
    make, config = MAKERS[request.param]
    return make(tmp_path / "data" / request.param), config


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The original layout of DVS-Gesture: two files, one of each split, with two gestures each."""
    folder = tmp_path / "original"
    folder.mkdir()
    for number, (split, name) in enumerate((("train", "user01_led"), ("test", "user02_lab"))):
        (folder / f"{name}.aedat").write_bytes(aedat(random_events(number, 1000, CAMERA, 4_000_000)))
        (folder / f"{name}_labels.csv").write_text(
            "class,startTime_usec,endTime_usec\n1,500000,1700000\n11,2000000,3900000\n"
        )
        (folder / f"trials_to_{split}.txt").write_text(f"{name}.aedat\nuser99_led.aedat\n\n")
    return folder
