"""Scores of curves by hand."""

import pytest

from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.robustness.record import Curve
from hstnn_deploy.robustness.scores import score


def test_the_area_is_the_mean_over_the_axis() -> None:
    found = score([0.0, 1.0, 3.0], [[90.0, 70.0, 30.0]], higher_is_better=True)
    assert found.area.mean == pytest.approx((80 * 1 + 50 * 2) / 3)
    assert found.worst == 30


def test_a_tenth_is_lost_between_two_levels_and_counted_where_it_is_not() -> None:
    found = score([0.0, 1.0, 3.0], [[100.0, 95.0, 75.0], [100.0, 100.0, 91.0]], higher_is_better=True)
    assert found.tolerated.mean == pytest.approx(1 + 2 * 5 / 20)
    assert (found.tolerated.number, found.beyond) == (1, 1)
    assert found.tolerated.half is None


def test_of_perplexity_more_is_worse() -> None:
    found = score([0.0, 2.0], [[90.0, 110.0]], higher_is_better=False)
    assert found.tolerated.mean == pytest.approx(1.0)
    assert found.worst == 110


def test_intervals_are_over_the_series() -> None:
    found = score([0.0, 1.0], [[100.0, 50.0], [100.0, 60.0], [100.0, 70.0]], higher_is_better=True)
    assert found.area.mean == pytest.approx(80.0)
    # Student's t of two degrees of freedom, times the standard error of 75, 80, 85.
    assert found.area.half == pytest.approx(4.302653 * 5 / 3**0.5)


def test_a_tenth_lost_of_one_number_of_bits_is_no_fewer_bits() -> None:
    """Between no rounding and 4 bits lies no number of bits below 4, as it would of a level that grows."""
    one = Curve.of(DISTURBANCES["weight-bits"], [4], [[50.0]], "")
    assert one.level_at(0.06) == 4
    two = Curve.of(DISTURBANCES["weight-bits"], [4, 2], [[90.0], [50.0]], "")
    assert 2 < two.level_at(0.3) < 4
    assert Curve.of(DISTURBANCES["gaussian"], [0.4], [[50.0]], "").level_at(0.2) == pytest.approx(0.2)
