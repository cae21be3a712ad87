"""Conditions, and which runs and records of two groups belong together."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import ReportError, UsageError
from hstnn_deploy.report import conditions
from hstnn_deploy.report.comparison import Comparison, compare
from tests.report.conftest import inference, recipe_for, records_of, training, write_run, write_sweep


def rows(comparison: Comparison) -> dict[str, float]:
    return {f"{row.name} {row.metric}": row.test.difference for row in comparison.rows}


@pytest.mark.parametrize(
    ("text", "metric", "compares", "bound", "unit"),
    [
        ("accuracy < -0.5", "accuracy", "<", -0.5, ""),
        ("p99_ms>1.1x", "p99_ms", ">", 1.1, "x"),
        (" epoch >= 10 % ", "epoch", ">=", 10, "%"),
        ("loss<=+.5", "loss", "<=", 0.5, ""),
        ("loss > 1e-3", "loss", ">", 1e-3, ""),
    ],
)
def test_a_condition_is_read(text: str, metric: str, compares: str, bound: float, unit: str) -> None:
    condition = conditions.parse(text)
    assert condition[1:] == (metric, compares, bound, unit)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy <", "< 3", "accuracy = 3", "accuracy < three", "accuracy < 3 %%", "a < 1 or b < 2",
     "accuracy < nan", "__import__('os') < 1", "accuracy << 3", "accuracy < 3y"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not METRIC < NUMBER") as refused:
        conditions.parse(text)
    assert "p99_ms > 1.1x" in refused.value.hint


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


def test_networks_are_paired_with_their_like(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a")
    b = write_sweep(tmp_path / "b", changes={"adapt.lr": 0.5})
    write_run(b, recipe_for("ffs", 0.5, seed=1, changes={"adapt.lr": 0.5}), 80.0)
    found = compare(a, b, [], [])
    # ffs 0.5 had 86, 87, 88; it has 80, 87, 88 now.
    assert rows(found) == {
        "rnn accuracy": 0,
        "ffs 0.25 accuracy": 0,
        "hybrid 0.25 accuracy": 0,
        "ffs 0.5 accuracy": -2,
        "hybrid 0.5 accuracy": 0,
        "ffs 0.75 accuracy": 0,
        "hybrid 0.75 accuracy": 0,
        "snn accuracy": 0,
        "hybrid redundant accuracy": 0,
    }
    (changed,) = [row for row in found.rows if row.test.difference]
    assert changed.test.method == "paired t-test, 3 seeds"
    # Paired differences -6, 0, 0: t = -1 with 2 degrees of freedom, p = 1 - 1/sqrt(3).
    assert changed.test.p == pytest.approx(1 - 1 / 3**0.5)
    assert any("differ in adapt.lr" in note for note in found.notes)


def test_kinds_are_paired_by_ratio_where_each_side_has_one(sweep: Path) -> None:
    found = compare(sweep / "digits/ffs-0.5", sweep / "digits/hybrid", ["accuracy", "best_epoch"], [])
    assert rows(found) == {"ffs 0.5 : hybrid 0.5 accuracy": 7, "ffs 0.5 : hybrid 0.5 best_epoch": 0}
    assert "Only in B: hybrid 0.25." in found.notes


def test_two_lone_networks_are_compared_whatever_they_are(sweep: Path) -> None:
    assert rows(compare(sweep / "digits/rnn", sweep / "digits/snn", [], [])) == {"rnn : snn accuracy": -10}


def test_other_seeds_are_tested_by_welch_and_incomplete_cells_named(tmp_path: Path, sweep: Path) -> None:
    write_run(tmp_path / "b", recipe_for("rnn", seed=3), 83.0)
    write_run(tmp_path / "b", recipe_for("rnn", seed=8), 85.0)
    write_run(tmp_path / "b", recipe_for("rnn", seed=9), None)
    found = compare(sweep / "digits/rnn", tmp_path / "b", [], [])
    assert found.rows[0].test.method == "Welch's t-test, 3 and 2 values"
    assert "B: rnn is incomplete: seed 9 running, 1 of 2 epochs done" in found.notes


def test_one_seed_is_compared_without_a_test(tmp_path: Path) -> None:
    a, b = (write_sweep(tmp_path / name, seeds=[1]) for name in "ab")
    found = compare(a, b, [], [])
    assert all(row.test.p is None and row.adjusted is None for row in found.rows)
    assert found.rows[0].test.method == "no test: one value on each side"


def test_records_are_paired_by_what_they_measure(tmp_path: Path) -> None:
    a = records_of(tmp_path / "a.jsonl", [inference(0.25), inference(0.5), training(epoch=10.0)])
    slower = [inference(0.5, latency_p99=0.0198), inference(0.5, latency_p99=0.0202), training(epoch=11.0)]
    b = records_of(tmp_path / "b.jsonl", slower)
    condition = conditions.parse("p99_ms > 2.01x")
    found = compare(a, b, [], [condition, conditions.parse("epoch > 9.9%")])
    changes = rows(found)
    assert changes["digits hybrid: train, batch 100, cpu epoch"] == 1
    assert changes["digits hybrid 0.5: infer, eager, batch 1, cpu p99_ms"] == pytest.approx(20.0 - 9.9)
    assert "Only in A: digits hybrid 0.25: infer, eager, batch 1, cpu." in found.notes
    # What neither side has measured is no row.
    assert not any("cuda" in name for name in changes)
    assert [(verdict.condition.metric, verdict.failed) for verdict in found.verdicts] == [
        ("p99_ms", True),
        ("epoch", True),
    ]
    assert found.failures[0].shown == "a factor of 2.02"


def test_latencies_are_tested_call_by_call_where_the_records_hold_the_calls(tmp_path: Path) -> None:
    calls = [0.001 * (1 + number / 100) for number in range(100)]
    a = records_of(tmp_path / "a.jsonl", [inference()], series={"latency": calls})
    b = records_of(tmp_path / "b.jsonl", [inference()], series={"latency": [2 * call for call in calls]})
    (row,) = compare(a, b, ["p50_ms"], []).rows
    assert row.test.difference == pytest.approx(1.495)
    assert row.test.p is not None
    assert row.test.p < 1e-6
    assert "Mann-Whitney" in row.test.method


def test_a_condition_that_cannot_be_judged_is_an_error_not_a_pass(tmp_path: Path) -> None:
    a = records_of(tmp_path / "a.jsonl", [inference()])
    with pytest.raises(ReportError, match="cuda_process was not measured on both sides"):
        compare(a, a, [], [conditions.parse("cuda_process > 1.1x")])
    zero = records_of(tmp_path / "zero.jsonl", [inference(cpu_cores_others=0.0)])
    with pytest.raises(ReportError, match="is 0 in A"):
        compare(zero, zero, [], [conditions.parse("cpu_cores_others > 1.1x")])


def test_a_record_that_failed_is_named(tmp_path: Path) -> None:
    failed = replace(training(), status="failed", reason="killed", values=[])
    a = records_of(tmp_path / "a.jsonl", [inference(), failed])
    b = records_of(tmp_path / "b.jsonl", [inference()])
    assert "A: digits hybrid: train, batch 100, cpu failed: killed" in compare(a, b, [], []).notes
