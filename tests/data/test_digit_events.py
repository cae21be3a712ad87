"""The digits as events: what a simulated event camera sees of them, and the frames made of it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import EVENT, Events, Sensor
from hstnn_deploy.data.events.frames import to_frames
from hstnn_deploy.data.registry import load, missing, shape
from hstnn_deploy.data.sets.digit_events import FRAME_TIME, FRAMES, SENSOR, DigitEventsConfig, record
from hstnn_deploy.data.sets.digits import DigitsConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float64]:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images[:20], dtype=np.float64) / 16


@pytest.fixture(scope="module")
def recordings(images: NDArray[np.float64]) -> list[Events]:
    return record(images)


def test_recordings_are_in_tonics_form_and_in_order_of_time(recordings: list[Events]) -> None:
    assert len(recordings) == 20
    for events in recordings:
        assert events.dtype == EVENT
        assert EVENT.names == ("x", "y", "t", "p")
        assert len(events) > 200
        assert (np.diff(events["t"]) >= 0).all()
        assert events["t"].min() >= 0
        assert events["t"].max() < FRAMES * FRAME_TIME
        for axis in ("x", "y"):
            assert events[axis].min() >= 0
            assert events[axis].max() < SENSOR
        assert set(events["p"]) == {0, 1}


def test_a_recording_depends_on_its_own_image_alone(images: NDArray[np.float64], recordings: list[Events]) -> None:
    assert np.array_equal(record(images[7:8])[0], recordings[7])


def test_an_image_without_contrast_emits_nothing(images: NDArray[np.float64]) -> None:
    dark, something = record(np.stack([np.zeros((8, 8)), images[0]]))
    assert len(dark) == 0
    assert dark.dtype == EVENT
    assert len(something) > 200
    assert [len(events) for events in record(np.zeros((2, 8, 8)))] == [0, 0]


def test_the_first_edges_to_move_right_brighten_in_front_and_darken_behind() -> None:
    bar = np.zeros((1, 8, 8))
    bar[0, :, 3:5] = 1
    (events,) = record(bar)
    first = events[events["t"] < 2 * FRAME_TIME]
    brighter, darker = first["x"][first["p"] == 1], first["x"][first["p"] == 0]
    assert brighter.mean() > darker.mean() + 2


def test_brightening_and_darkening_cancel_where_the_image_is_back_where_it_began(recordings: list[Events]) -> None:
    for events in recordings:
        balance = np.zeros((SENSOR, SENSOR))
        np.add.at(balance, (events["y"], events["x"]), events["p"] * 2 - 1)
        # The level of the last event is less than a threshold from the light.
        assert np.abs(balance).max() <= 1


def test_frames_hold_every_event_of_a_recording(recordings: list[Events]) -> None:
    for events in recordings:
        assert to_frames(events, Sensor(SENSOR, SENSOR), FRAME_TIME, FRAMES).sum() == len(events)


def test_splits_are_those_of_the_digits_as_frames() -> None:
    splits, digits, known = (
        load(DigitEventsConfig(), "validation"),
        load(DigitsConfig(), "validation"),
        shape(DigitEventsConfig()),
    )
    assert known is not None
    for name in ("train", "valid", "test"):
        x, target, lengths = splits.split(name).batch(torch.arange(len(splits.split(name))), CPU)
        assert x.shape == (known.steps, len(target), *known.step) == (FRAMES, len(target), 2, SENSOR, SENSOR)
        assert x.dtype == torch.float32
        assert torch.equal(x, x.round())
        assert lengths is None
        of_digits = digits.split(name).batch(torch.arange(len(target)), CPU).target
        assert torch.equal(target, of_digits)
    assert (splits.inputs, splits.size, splits.classes) == (known.inputs, known.size, known.classes) == (2, 16, 10)
    assert (known.train, known.test) == (len(splits.train) + len(splits.valid), len(splits.test))
    assert load(DigitEventsConfig(), "test").valid is not None
    assert missing(DigitEventsConfig()) == []
