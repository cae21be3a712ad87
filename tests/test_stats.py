"""Means, intervals and tests: closed forms, scipy's own tests, and what one seed cannot tell."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as reference

from hstnn_deploy.stats import compare, holm, summarise

numbers = st.integers(-1000, 1000).map(lambda whole: whole / 10)
values = st.lists(numbers, min_size=2, max_size=8)


def test_a_summary_of_known_numbers() -> None:
    summary = summarise([1.0, 2.0, 3.0])
    assert summary.number == 3
    assert summary.mean == 2
    assert summary.sd == 1
    # Student's t with two degrees of freedom, 97.5 %: 4.302653 (any table).
    assert summary.half == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


def test_one_value_has_no_spread_and_none_no_mean() -> None:
    assert summarise([5.0]) == (1, 5.0, None, None)
    assert summarise([]) == (0, None, None, None)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_the_same_seeds_are_compared_in_pairs(pairs: list[tuple[float, float]]) -> None:
    first, second = (dict(enumerate(side)) for side in zip(*pairs, strict=True))
    found = compare(first, second)
    assume(found.p is not None)
    expected = reference.ttest_rel(list(second.values()), list(first.values()))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-9)
    low, high = expected.confidence_interval(0.95)
    assert found.half == pytest.approx((high - low) / 2, rel=1e-6)
    assert found.method == f"paired t-test, {len(first)} seeds"


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy says so of nearly equal numbers
@given(values, values)
def test_other_seeds_are_compared_by_welch_s_test(one: list[float], other: list[float]) -> None:
    first, second = dict(enumerate(one)), dict(enumerate(other, 100))
    found = compare(first, second)
    assume(found.p is not None)
    expected = reference.ttest_ind(other, one, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-9)
    low, high = expected.confidence_interval(0.95)
    assert found.half == pytest.approx((high - low) / 2, rel=1e-6)
    assert found.method.startswith("Welch")


def test_what_must_not_be_paired_is_not() -> None:
    first, second = {0: 1.0, 1: 2.0}, {0: 2.0, 1: 4.0}
    assert compare(first, second, paired=False).method.startswith("Welch")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({1: 1.0}, {1: 3.0}, "one value on each side"),
        ({1: 1.0}, {1: 3.0, 2: 3.0}, "fewer than two values on a side"),
        ({1: 1.0, 2: 1.2}, {1: 3.0, 2: 3.2}, "does not vary"),
        ({1: 1.0, 2: 1.0}, {3: 3.0, 4: 3.0}, "does not vary"),
    ],
)
def test_where_there_is_no_test_the_reason_is_said(
    first: dict[int, float], second: dict[int, float], reason: str
) -> None:
    found = compare(first, second)
    assert found.difference == pytest.approx(2, abs=0.2)
    assert found.half is None
    assert found.p is None
    assert reason in found.method


def test_holm_s_adjustment_of_a_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.5, None]) == [None, 0.5, None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
