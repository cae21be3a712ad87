"""Transforms: tonic's, in the recipe's order, each saying what it makes of the sensor."""

from typing import Any

import numpy as np
import pytest
import tonic.transforms
from pydantic import TypeAdapter, ValidationError

from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.events.transforms import Transform, chain, sensor_after
from hstnn_deploy.data.sets.digit_events import DigitEventsConfig
from hstnn_deploy.data.sets.dvs_gesture import DvsGestureConfig
from hstnn_deploy.data.sets.heidelberg import ShdConfig
from hstnn_deploy.data.sets.nmnist import NMnistConfig
from tests.event_files import random_events

SENSOR = Sensor(30, 20)


def parsed(*raw: dict[str, Any]) -> list[Transform]:
    return TypeAdapter(list[Transform]).validate_python(list(raw))


@pytest.fixture(scope="module")
def events() -> Events:
    return random_events(0, 1500, SENSOR, 100_000)


@pytest.mark.parametrize(
    ("raw", "theirs", "sensor"),
    [
        ({"name": "denoise", "filter_time": 2000}, tonic.transforms.Denoise(2000), SENSOR),
        ({"name": "downsample", "factor": 4}, tonic.transforms.Downsample(spatial_factor=0.25), Sensor(8, 5)),
        ({"name": "center-crop", "size": 10}, tonic.transforms.CenterCrop(tuple(SENSOR), (10, 10)), Sensor(10, 10)),
        (
            {"name": "crop-time", "start": 5000, "stop": 50_000},
            tonic.transforms.CropTime(5000, 49_999),
            SENSOR,
        ),
        ({"name": "time-alignment"}, tonic.transforms.TimeAlignment(), SENSOR),
        ({"name": "refractory-period", "delta": 9000}, tonic.transforms.RefractoryPeriod(9000), SENSOR),
        ({"name": "decimation", "n": 2}, tonic.transforms.Decimation(2), SENSOR),
        ({"name": "hot-pixels", "frequency": 40}, tonic.transforms.DropPixel(hot_pixel_frequency=40), SENSOR),
        ({"name": "merge-polarities"}, tonic.transforms.MergePolarities(), Sensor(30, 20, 1)),
    ],
)
def test_each_is_tonics(raw: dict[str, Any], theirs: Any, sensor: Sensor, events: Events) -> None:
    transforms = parsed(raw)
    changed = chain(transforms, SENSOR)(events.copy())
    assert np.array_equal(changed, theirs(events.copy()))
    assert not np.array_equal(changed, events) or raw["name"] == "time-alignment"
    assert sensor_after(transforms, SENSOR) == sensor
    for field, size in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        assert 0 <= changed[field].min() <= changed[field].max() < size


def test_they_follow_one_another_each_seeing_the_sensor_that_the_one_before_left(events: Events) -> None:
    transforms = parsed({"name": "downsample", "factor": 2}, {"name": "center-crop", "size": 8}, {"name": "denoise"})
    expected = tonic.transforms.Denoise(10_000)(
        tonic.transforms.CenterCrop((15, 10, 2), (8, 8))(tonic.transforms.Downsample(spatial_factor=0.5)(events))
    )
    assert np.array_equal(chain(transforms, SENSOR)(events), expected)
    assert sensor_after(transforms, SENSOR) == Sensor(8, 8)
    assert chain([], SENSOR)(events) is events


def test_picking_keeps_every_so_many_pixels_and_drops_all_others(events: Events) -> None:
    before = events.copy()
    transforms = parsed({"name": "pick", "factor": 4})
    kept = chain(transforms, SENSOR)(events)
    assert sensor_after(transforms, SENSOR) == Sensor(8, 5)
    chosen = before[(before["x"] % 4 == 0) & (before["y"] % 4 == 0)]
    assert 0 < len(kept) < len(before) / 8
    for name in "tp":
        assert np.array_equal(kept[name], chosen[name])
    for name in "xy":
        assert np.array_equal(4 * kept[name], chosen[name])
    assert np.array_equal(events, before)


def test_a_chain_may_leave_nothing(events: Events) -> None:
    nothing = chain(parsed({"name": "crop-time", "start": 200_000, "stop": 300_000}, {"name": "denoise"}), SENSOR)
    assert len(nothing(events)) == 0


def test_a_chain_does_not_remember_the_recording_before(events: Events) -> None:
    for raw in ({"name": "crop-time", "stop": 50_000}, {"name": "hot-pixels", "frequency": 40}, {"name": "denoise"}):
        again = chain(parsed(raw), SENSOR)
        first = again(events[:700].copy())
        again(events.copy())
        assert np.array_equal(again(events[:700].copy()), first)


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "denoise", "filter": 3},
        {"name": "denoise", "filter_time": 0},
        {"name": "downsample", "factor": 1},
        {"name": "pick", "factor": 1},
        {"name": "crop-time", "start": 3, "stop": 3},
        {"name": "random-crop"},
        {"factor": 2},
    ],
)
def test_what_is_no_transform_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parsed(raw)


@pytest.mark.parametrize("config", [NMnistConfig, DvsGestureConfig, ShdConfig, DigitEventsConfig])
def test_configurations_that_cannot_be_are_refused(config: type[NMnistConfig]) -> None:
    for raw in (
        {"colour": 3},
        {"frame_time": 0},
        {"steps": 0},
        {"crop": "random", "steps": None},
        {"crop": "last"},
    ):
        with pytest.raises(ValidationError):
            config.model_validate(raw)


def test_the_constants_of_the_published_experiments() -> None:
    nmnist, gesture = NMnistConfig(), DvsGestureConfig()
    assert (nmnist.frame_time, nmnist.steps, nmnist.crop, nmnist.binary) == (3000, 15, "first", False)
    assert (gesture.frame_time, gesture.steps, gesture.crop, gesture.binary) == (20_000, 60, "random", False)
    assert nmnist.shape(1, 1, 10).step == (2, 34, 34)
    assert gesture.shape(1, 1, 11).step == (2, 32, 32)
    assert ShdConfig().shape(1, 1, 20).step == (700,)
    assert ShdConfig(steps=None).shape(1, 1, 20).steps == 100
