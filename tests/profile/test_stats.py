"""What is said of repeated measurements, against numpy, the binomial distribution, and coverage."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.values import Measured, NotMeasured, find

numbers = st.lists(st.floats(0, 1e3, allow_nan=False), min_size=1, max_size=60)


@given(numbers, st.sampled_from([0, 25, 50, 90, 95, 99, 100]))
def test_percentiles_are_numpy_s(values: list[float], share: int) -> None:
    assert stats.percentile(sorted(values), share) == pytest.approx(float(np.percentile(values, share)), abs=1e-9)


@pytest.mark.parametrize("count", range(1, 80))
def test_the_interval_of_the_median_has_its_binomial_coverage_and_is_the_narrowest(count: int) -> None:
    interval = stats.median_interval([float(number) for number in range(1, count + 1)])

    def coverage(k: int) -> float:
        return 1.0 - 2 * sum(math.comb(count, each) for each in range(k)) / float(2**count)

    if interval is None:
        assert coverage(1) < 0.95
        return
    low, high = (int(end) for end in interval)
    assert low + high == count + 1
    assert coverage(low) >= 0.95 > coverage(low + 1)


def test_a_thousand_numbers_and_more_have_an_interval_too() -> None:
    interval = stats.median_interval([float(number) for number in range(5000)])
    assert interval is not None
    # A normal approximation: half a width of 0.98 sqrt(n).
    assert interval[1] - interval[0] == pytest.approx(2 * 0.98 * math.sqrt(5000), rel=0.03)


def test_a_distribution_says_from_how_many_and_what_its_ends_are_worth() -> None:
    values = stats.distribution("latency", [0.001 * n for n in range(1, 101)], "a clock", "calls")
    p99, low, spread = (find(values, f"latency_{name}") for name in ("p99", "p50_low", "iqr"))
    assert isinstance(p99, Measured)
    assert isinstance(low, Measured)
    assert isinstance(spread, Measured)
    assert (p99.source, p99.note) == ("a clock, 100 calls", "")
    assert low.number == pytest.approx(0.040)
    assert spread.number == pytest.approx(0.0495)
    few = stats.distribution("latency", [0.1, 0.2], "a clock", "calls")
    slowest, none = find(few, "latency_p99"), find(few, "latency_p50_high")
    assert isinstance(slowest, Measured)
    assert slowest.note == "of only 2 calls: at most the slowest of them"
    assert none == NotMeasured("latency_p50_high", "2 calls are too few for an interval")


def test_warming_up_ends_when_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_LEAST_SECONDS", 0.0)
    times = iter([9.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.01, 1.0, 1.0, 1.0, 1.0, 1.0])
    done = stats.warm_up(lambda: next(times), seconds=1e9)
    assert done.steady
    assert len(done.seconds) == 12
    assert done.facts()["rule"] == stats.WARM_UP_RULE


def test_calls_of_microseconds_are_warmed_up_for_the_time_of_the_rule() -> None:
    start = time.perf_counter()
    done = stats.warm_up(lambda: 1e-5, seconds=1e9)
    assert time.perf_counter() - start >= 0.5
    assert done.steady
    assert len(done.seconds) > 100


def test_warming_up_ends_with_its_time_and_says_that_it_is_not_steady() -> None:
    times = iter(float(2**n) for n in range(1000))
    done = stats.warm_up(lambda: next(times), seconds=0.0, least=3)
    assert (len(done.seconds), done.steady) == (3, False)
    assert len(stats.warm_up(lambda: next(times), seconds=1e9, most=9).seconds) == 9
