"""Conditions, and which runs and records of two groups belong together."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from hstnn_deploy.errors import ReportError, UsageError
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.report import conditions, formats, latex
from hstnn_deploy.report.comparison import Comparison, compare, plain, sheet
from tests.profile.conftest import configured, measured
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
    quick = [inference(0.5), inference(0.5), training(epoch=10.0), training(epoch=10.0)]
    a = records_of(tmp_path / "a.jsonl", [inference(0.25), *quick])
    slower = [inference(0.5, latency_p99=0.0198), inference(0.5, latency_p99=0.0202)]
    b = records_of(tmp_path / "b.jsonl", [*slower, training(epoch=11.0), training(epoch=11.0)])
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


def process(folder: Path, number: int, level: float, **changes: Any) -> Path:
    """Write the record of one process: 400 calls that scatter by a hundredth about its own level, in seconds."""
    calls = [level * (1 + (place % 21 - 10) / 1000) for place in range(400)]
    record = inference(latency_p50=level, latency_p99=level * 1.01)
    record = replace(record, configuration=replace(record.configuration, **changes))
    return records_of(folder / f"records{number}.jsonl", [record], series={"latency": calls})


LEVELS = [0.0010, 0.0011, 0.00103, 0.00098, 0.00107]
"""Medians of five processes that measure one checkpoint at one commit: processes differ, calls of one hardly do."""


def test_five_measurements_of_the_same_network_give_no_verdict_in_pairs(tmp_path: Path) -> None:
    measured = [process(tmp_path, number, level) for number, level in enumerate(LEVELS)]
    for one, other in combinations(measured, 2):
        found = compare(one, other, ["p50_ms", "p99_ms"], [conditions.parse("p50_ms > 1.0001x")])
        assert all(row.test.p is None and row.test.half is None and row.adjusted is None for row in found.rows)
        assert all("one process on a side cannot be judged" in row.test.method for row in found.rows)
        assert found.rows[0].test.difference != 0
        assert found.failures == []
        assert [verdict.failed for verdict in found.verdicts] == [None]


def test_no_form_of_a_comparison_gives_one_process_a_verdict(tmp_path: Path) -> None:
    found = compare(process(tmp_path, 1, LEVELS[0]), process(tmp_path, 2, LEVELS[1]), ["p50_ms"], [])
    (plain_row,) = plain(found)["rows"]
    assert (plain_row["p"], plain_row["p_holm"], plain_row["half_width_95"]) == (None, None, None)
    assert plain_row["b"]["median"] == pytest.approx(1.1)
    for text in (plain_row["unjudged"], formats.markdown([sheet(found)]), latex.latex([sheet(found)])):
        assert "one process on a side cannot be judged" in text
    (row,) = sheet(found).rows
    shown = dict(zip([column.name for column in sheet(found).columns], [entry.text for entry in row], strict=True))
    assert (shown["p"], shown["± 95 %"], shown["A"], shown["B"], shown["difference"]) == (
        *("n/a", "n/a", "1", "1.1", "+0.1"),
    )


def test_several_processes_a_side_are_tested_over_processes(tmp_path: Path) -> None:
    for number, level in enumerate(LEVELS):
        process(tmp_path / "a", number, level)
        process(tmp_path / "b", number, 2 * level)
        process(tmp_path / "same", number, LEVELS[-1 - number])
    (row,) = compare(tmp_path / "a", tmp_path / "b", ["p50_ms"], []).rows
    assert row.test.method == "Welch's t-test, 5 and 5 values"
    expected = ttest_ind([2 * level for level in LEVELS], LEVELS, equal_var=False).pvalue
    assert row.test.p == pytest.approx(expected)
    found = compare(tmp_path / "a", tmp_path / "same", ["p50_ms"], [conditions.parse("p50_ms > 1.1x")])
    assert found.rows[0].test.p == pytest.approx(1)
    assert [verdict.failed for verdict in found.verdicts] == [False]


def test_processes_at_the_same_time_are_one_measurement(tmp_path: Path) -> None:
    for side, factor in (("a", 1.0), ("b", 1.5)):
        for number, level in enumerate(LEVELS[:2], 1):
            process(tmp_path / side, number, factor * level, instance=number, instances=2)
    (row,) = compare(tmp_path / "a", tmp_path / "b", ["p50_ms"], []).rows
    assert list(row.first.values()) == [pytest.approx(1.05)]
    assert row.test.p is None


def test_what_is_counted_is_judged_by_one_process(tmp_path: Path) -> None:
    work = configured(recipe_for("snn"), "work")
    a, b = (
        records_of(
            tmp_path / f"{macs:g}.jsonl", [replace(measured(work), values=[Measured("macs", macs, "MAC", "counted")])]
        )
        for macs in (100.0, 120.0)
    )
    found = compare(a, b, ["macs"], [conditions.parse("macs > 1.1x")])
    assert [verdict.failed for verdict in found.verdicts] == [True]


def test_seconds_of_one_training_a_side_are_not_judged_but_its_accuracy_is(tmp_path: Path) -> None:
    a, b = (write_sweep(tmp_path / name, seeds=[1]) for name in "ab")
    found = compare(a, b, [], [conditions.parse("train_seconds >= 1x"), conditions.parse("accuracy >= 1x")])
    assert {(verdict.condition.metric, verdict.failed) for verdict in found.verdicts} == {
        ("train_seconds", None),
        ("accuracy", True),
    }


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
