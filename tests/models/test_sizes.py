"""Counts of units: rounded, never truncated; adding up; and a hint that really works where a ratio does not."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.sizes import KINDS, Sizes, check_ratio, kept_counts, layer_sizes, selected_sizes, split

ratios = st.floats(0, 1, exclude_min=True, exclude_max=True)


def test_counts_are_rounded_not_truncated() -> None:
    assert int(0.29 * 100) == 28  # what truncating does
    assert split(0.29, 100, 1, "a test") == Sizes(29, 71)
    assert int(0.55 * 20) == int(0.45 * 20) + 2  # the demo's two truncated counts: 11 and 9
    assert kept_counts([10, 10], 0.57) == Sizes(11, 9)
    assert kept_counts([800, 800], 0.35) == Sizes(560, 1040)


@given(ratios, st.integers(2, 5000))
def test_every_split_adds_up_and_is_the_nearest(ratio: float, total: int) -> None:
    assume(1 <= round(ratio * total) <= total - 1)
    sizes = split(ratio, total, 1, "a test")
    assert sum(sizes) == total
    assert abs(sizes.snn - ratio * total) <= 0.5 + 1e-9


def works(ratio: float, total: int, least: int) -> bool:
    try:
        sizes = split(ratio, total, least, "a test")
    except UsageError:
        return False
    assert min(sizes) >= least
    return True


@given(st.integers(1, 6), st.integers(2, 3000), st.booleans())
def test_the_hinted_ratios_work_and_those_just_beyond_do_not(least: int, total: int, small: bool) -> None:
    assume(total >= 2 * least)
    ratio = 1e-6 if small else 1 - 1e-6
    with pytest.raises(UsageError) as refused:
        split(ratio, total, least, "a test")
    found = re.fullmatch(r"the smallest ratio that works is (\S+), the largest (\S+)", refused.value.hint)
    assert found
    low, high = float(found[1]), float(found[2])
    assert works(low, total, least)
    assert works(high, total, least)
    assert not works(round(low - 1e-4, 4), total, least)
    assert not works(round(high + 1e-4, 4), total, least)


@given(ratios, st.integers(2, 200), st.integers(1, 6))
def test_a_refused_ratio_would_leave_a_kind_too_few(ratio: float, total: int, least: int) -> None:
    enough = least <= round(ratio * total) <= total - least
    assert works(ratio, total, least) == enough


def test_too_few_units_for_both_kinds_is_said_without_a_ratio_that_cannot_be() -> None:
    with pytest.raises(UsageError) as refused:
        split(0.5, 3, 2, "2 layers")
    assert "too few for both kinds" in refused.value.hint


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_ratio_lies_strictly_between_0_and_1(ratio: float) -> None:
    with pytest.raises(UsageError, match="not between 0 and 1"):
        check_ratio(ratio)


def test_kinds_have_their_sizes() -> None:
    assert layer_sizes("rnn", [7, 4], 0.5) == [Sizes(0, 7), Sizes(0, 4)]
    assert layer_sizes("snn", [7, 4], 0.5) == [Sizes(7, 0), Sizes(4, 0)]
    assert layer_sizes("hybrid", [7, 4], 0.5) == [Sizes(7, 7), Sizes(4, 4)]
    assert layer_sizes("ffs", [7, 4], 0.3) == [Sizes(2, 5), Sizes(1, 3)]


def test_a_ratio_that_empties_a_layer_of_ffs_names_the_layer() -> None:
    with pytest.raises(UsageError, match="layer 2"):
        layer_sizes("ffs", [100, 4], 0.1)


@given(st.sampled_from(KINDS), st.lists(st.integers(10, 60), min_size=1, max_size=4), st.floats(0.2, 0.8))
def test_a_deployed_network_has_as_many_units_as_the_recipe_says(kind: str, units: list[int], ratio: float) -> None:
    assert [sum(size) for size in selected_sizes(kind, units, ratio)] == units  # type: ignore[arg-type]
