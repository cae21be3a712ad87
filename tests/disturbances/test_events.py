"""Disturbances of events against closed forms, and against tonic's where it has them."""

import numpy as np
import pytest

from hstnn_deploy.data.events.events import Events, Sensor, check, make_events
from hstnn_deploy.disturbances.disturbance import stream
from hstnn_deploy.disturbances.events import EVENTS, HOT_RATE, Recorded

SENSOR = Sensor(34, 20, 2)
SPAN = 300_000


def _events(count: int = 4000) -> Events:
    draw = np.random.default_rng(3)
    t = np.sort(draw.integers(0, SPAN, count))
    return make_events(draw.integers(0, 34, count), draw.integers(0, 20, count), t, draw.integers(0, 2, count))


def _apply(name: str, events: Events, level: float, number: int = 0, sensor: Sensor = SENSOR) -> Events:
    seen = Recorded(sensor, SPAN, stream("sensor", 0))
    return EVENTS[name][1](events, level, seen, stream(name, 0, number))


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_events_stay_in_order_on_the_sensor_and_the_given_ones_are_not_changed(name: str, count: int) -> None:
    events = _events(count)
    before = events.copy()
    for level in EVENTS[name][0].levels:
        check(_apply(name, events, level), SENSOR, name)
    np.testing.assert_array_equal(events, before)


def test_dropped_events_are_a_share_as_tonic_drops_them() -> None:
    from tonic.transforms import DropEvent

    events = _events()
    for level in (0.1, 0.5, 0.9):
        ours, theirs = len(_apply("event-drop", events, level)), len(DropEvent(p=level)(events.copy()))
        # tonic drops exactly round(p * n); ours each by itself, within five deviations of that.
        assert abs(ours - theirs) < 5 * (len(events) * level * (1 - level)) ** 0.5


def test_background_activity_has_its_rate_everywhere() -> None:
    events = _events(10)
    found = _apply("background", events, 20.0)
    expected = 20 * 0.3 * 34 * 20
    assert abs(len(found) - 10 - expected) < 5 * expected**0.5
    halves = np.histogram(found["t"], bins=2, range=(0, SPAN))[0]
    assert abs(halves[0] - halves[1]) < 6 * expected**0.5
    assert abs(found["p"].mean() - 0.5) < 0.05


def test_hot_pixels_fire_at_their_rate_and_are_the_same_in_every_recording() -> None:
    none = _events(0)
    first, second = (_apply("hot-pixels", none, 0.01, number) for number in (0, 1))
    places = [{(int(e["x"]), int(e["y"])) for e in each} for each in (first, second)]
    assert places[0] == places[1]
    assert len(places[0]) == round(0.01 * 34 * 20)
    assert len(first) == pytest.approx(len(places[0]) * HOT_RATE * 0.3, rel=0.05)


def test_dead_pixels_lose_their_events_and_weaker_levels_are_part_of_stronger_ones() -> None:
    events = _events()
    left = []
    for level in (0.1, 0.3):
        found = _apply("dead-pixels", events, level)
        left.append({(int(e["x"]), int(e["y"])) for e in found})
        kept = np.array([(int(e["x"]), int(e["y"])) in left[-1] for e in events])
        np.testing.assert_array_equal(events[kept], found)
    assert left[1] < left[0]


def test_flipped_polarities_are_a_share_as_tonic_flips_them_and_nothing_else_changes() -> None:
    events = _events()
    found = _apply("polarity-flip", events, 0.3)
    assert abs((found["p"] != events["p"]).mean() - 0.3) < 0.04
    for field in ("x", "y", "t"):
        np.testing.assert_array_equal(found[field], events[field])
    np.testing.assert_array_equal(_apply("polarity-flip", events, 1.0)["p"], 1 - events["p"])
    one = make_events([1, 2], [0, 0], [5, 6], 0)
    np.testing.assert_array_equal(_apply("polarity-flip", one, 1.0, sensor=Sensor(34, 20, 1)), one)


def test_jitter_has_its_deviation_as_tonics() -> None:
    from tonic.transforms import TimeJitter

    # Far from the beginning, so that nothing is cut off; one place for each event tells which is which.
    count = 600
    t = np.arange(count) * 100 + 100_000
    events = make_events(np.arange(count) % 34, np.arange(count) // 34, t, 1)

    def moved(found: Events) -> float:
        order = np.lexsort((found["x"], found["y"]))
        return float((found["t"][order] - t).std())

    np.random.seed(0)
    theirs = moved(TimeJitter(std=5000, clip_negative=False, sort_timestamps=True)(events.copy()))
    ours = moved(_apply("event-jitter", events, 5000.0))
    assert ours == pytest.approx(5000, rel=0.1)
    assert ours == pytest.approx(theirs, rel=0.15)


def test_a_shift_moves_all_events_alike_and_loses_what_leaves_the_sensor() -> None:
    inside = make_events([10, 20], [10, 12], [1, 2], 0)
    seen = set()
    for number in range(40):
        found = _apply("sensor-shift", inside, 2.0, number)
        across, down = int(found["x"][0]) - 10, int(found["y"][0]) - 10
        assert (found["x"] - inside["x"] == across).all()
        assert (found["y"] - inside["y"] == down).all()
        seen.add((across, down))
    assert seen == {(x, y) for x in (-2, 0, 2) for y in (-2, 0, 2)} - {(0, 0)}
    assert len(_apply("sensor-shift", inside, 40.0)) == 0
    cochlea = make_events([300], [0], [1], 0)
    for number in range(40):
        assert (_apply("sensor-shift", cochlea, 1.0, number, Sensor(700, 1, 1))["y"] == 0).all()
