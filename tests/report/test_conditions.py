"""A condition on a comparison is read, its bound taken in the metric's unit; what is no condition is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import UsageError
from hstnn_deploy.report.comparing import conditions


@pytest.mark.parametrize(
    ("text", "metric", "compares", "bound", "unit"),
    [
        ("accuracy < -0.5", "accuracy", "<", -0.5, ""),
        ("p99_ms>1.1x", "p99_ms", ">", 1.1, "x"),
        (" epoch >= 10 % ", "epoch", ">=", 10, "%"),
        ("loss<=+.5", "loss", "<=", 0.5, ""),
        ("loss > 1e-3", "loss", ">", 1e-3, ""),
        ("p99 > 10ms", "p99", ">", 10, "ms"),
        ("throughput < -1e3 samples/s", "throughput", "<", -1000, "samples/s"),
        ("p99 > 5\u00b5s", "p99", ">", 5, "\u00b5s"),
        ("p99 > 1.5xs", "p99", ">", 1.5, "xs"),
    ],
)
def test_a_condition_is_read(text: str, metric: str, compares: str, bound: float, unit: str) -> None:
    condition = conditions.parse(text)
    assert condition[1:] == (metric, compares, bound, unit)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy <", "< 3", "accuracy = 3", "accuracy < three", "accuracy < 3 %%", "a < 1 or b < 2",
     "accuracy < nan", "__import__('os') < 1", "accuracy << 3", "accuracy < 3 m/s/ %", "p99 > 1 0ms", "p99 > 10ms;"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="does not have the form METRIC < NUMBER") as refused:
        conditions.parse(text)
    assert "p99 > 10ms" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "unit", "bound"),
    [
        ("p99_ms > 10ms", "ms", 10.0),
        ("p99_ms > 0.01s", "ms", 10),
        ("p99 > 10ms", "s", 0.01),
        ("p99 > 10 MS", "s", 0.01),
        ("p99 > 5\u03bcs", "s", 5e-6),
        ("epoch > 1min", "s", 60),
        ("ram_mb > 1GB", "MB", 1000),
        ("ram > 1mb", "B", 1e6),
        ("ram > 1KiB", "B", 1024),
        ("throughput < -5samples/s", "samples/s", -5),
        ("energy > 2mJ", "J", 0.002),
        ("p99_ms > 10%", "ms", 10),
        ("p99_ms > 1.1x", "ms", 1.1),
        ("accuracy < -0.5", "", -0.5),
    ],
)
def test_a_bound_is_taken_in_the_unit_of_its_metric(text: str, unit: str, bound: float) -> None:
    condition = conditions.parse(text)
    assert condition.bound * condition.size_in(unit) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "unit", "message", "hint"),
    [
        ("p99_ms > 10", "ms", "has no unit: p99_ms is in ms", "write 'p99_ms > 10ms'; for a change relative to A"),
        ("epoch < -.5", "s", "has no unit: epoch is in s", "write 'epoch < -0.5s'"),
        ("epoch > 0", "s", "has no unit", "epoch > 10%"),
        ("p99 > 10MB", "s", "p99 is in s, not in MB", "known: ns, us, \u00b5s, ms, s, min"),
        ("p99 > 10m", "s", "p99 is in s, not in m", ""),
        ("rate > 10 words/s", "samples/s", "rate is in samples/s, not in words/s", "known: samples/s"),
        ("accuracy < -0.5ms", "", "accuracy has no unit", "write accuracy < -0.5"),
    ],
)
def test_a_bound_without_its_unit_is_refused_and_told_what_to_write(
    text: str, unit: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        conditions.parse(text).size_in(unit)
    assert hint in refused.value.hint


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_condition_bounds_difference_factor_or_share(first: int, second: int, bound: int) -> None:
    assert conditions.parse(f"m > {bound}").change(first, second) == second - first
    assert conditions.parse(f"m > {bound}").holds(bound + 1)
    assert not conditions.parse(f"m > {bound}").holds(bound)
    assert conditions.parse(f"m >= {bound}").holds(bound)
    assert conditions.parse(f"m < {bound}").holds(bound - 1)
    factor, share = (conditions.parse(f"m > {bound}{unit}").change(first, second) for unit in "x%")
    if first:
        assert factor == second / first
        assert share == pytest.approx(100 * (second - first) / abs(first))
    else:
        assert factor is None
        assert share is None
