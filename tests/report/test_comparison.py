"""Which runs and records of two groups belong together, and what conditions on them say."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind

from hstnn_deploy.errors import ReportError, UsageError
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.report import formats, latex
from hstnn_deploy.report.comparing import conditions, over_processes
from hstnn_deploy.report.comparing.comparison import Comparison, compare
from hstnn_deploy.report.comparing.measured import COSTS
from hstnn_deploy.report.comparing.shown import plain, sheet
from hstnn_deploy.report.comparing.verdicts import Verdict
from tests.profile.conftest import changed, configured, measured
from tests.report.conftest import inference, recipe_for, records_of, training, write_run, write_sweep


def rows(comparison: Comparison) -> dict[str, float]:
    return {f"{row.name} {row.metric}": row.test.difference for row in comparison.rows}


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


def test_of_a_hybrid_and_another_kind_the_restored_network_is_compared(sweep: Path) -> None:
    lone = write_run(sweep / "b", recipe_for("hybrid", seed=1), 92.0).path.parent.parent
    write_run(sweep / "b", recipe_for("hybrid", seed=1), 96.0, stage="adapt")
    found = compare(sweep / "digits/snn", lone, [], [])
    assert rows(found) == {"snn : hybrid 0.5 accuracy": 92 - 72}
    (note,) = [note for note in found.notes if "redundant" in note]
    assert note.startswith("Of B, hybrid 0.5 is compared, and not hybrid redundant: --redundant ")
    assert rows(compare(lone, sweep / "digits/snn", [], [])) == {"hybrid 0.5 : snn accuracy": 72 - 92}
    named = (lone / "seed1/adapt", lone / "seed1/adapt/best.pt")
    named[1].touch()
    for one in named:
        assert rows(compare(sweep / "digits/snn", one, [], [])) == {"snn : hybrid redundant accuracy": 96 - 72}


def test_hybrids_are_compared_before_their_selection_where_that_is_asked_for(sweep: Path) -> None:
    found = compare(sweep / "digits/snn", sweep / "digits/hybrid", [], [], redundant=True)
    assert rows(found) == {"snn : hybrid redundant accuracy": 25}
    with pytest.raises(UsageError, match=r"neither .* has one"):
        compare(sweep / "digits/snn", sweep / "digits/rnn", [], [], redundant=True)
    # Which of three ratios is meant, nobody knows.
    with pytest.raises(ReportError, match="no finished network") as refused:
        compare(sweep / "digits/snn", sweep / "digits/hybrid", [], [])
    assert "give one network on each side" in refused.value.hint


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
    quick = [*[inference(0.5)] * 5, *[training(epoch=10.0)] * 5]
    a = records_of(tmp_path / "a.jsonl", [inference(0.25), *quick])
    slower = [inference(0.5, latency_p99=level) for level in (0.0200, 0.0201, 0.0202, 0.0203, 0.0204)]
    b = records_of(tmp_path / "b.jsonl", [*slower, *[training(epoch=11.0)] * 5])
    condition = conditions.parse("p99_ms > 2.01x")
    found = compare(a, b, [], [condition, conditions.parse("epoch > 9.9%")])
    changes = rows(found)
    assert changes["digits hybrid: train, batch 100, cpu epoch"] == 1
    assert changes["digits hybrid 0.5: infer, eager, batch 1, cpu p99_ms"] == pytest.approx(20.2 - 9.9)
    assert "Only in A: digits hybrid 0.25: infer, eager, batch 1, cpu." in found.notes
    # What neither side has measured is no row.
    assert not any("cuda" in name for name in changes)
    assert [(verdict.condition.metric, verdict.failed) for verdict in found.verdicts] == [
        ("p99_ms", True),
        ("epoch", True),
    ]
    assert found.failures[0].shown == "a factor of 2.04"


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
        assert all(row.test.method == "n/a: only one process each; measure more with --repeats 5" for row in found.rows)
        assert found.rows[0].test.difference != 0
        assert found.failures == []
        assert [verdict.failed for verdict in found.verdicts] == [None]


def test_no_form_of_a_comparison_gives_one_process_a_verdict(tmp_path: Path) -> None:
    found = compare(process(tmp_path, 1, LEVELS[0]), process(tmp_path, 2, LEVELS[1]), ["p50_ms"], [])
    (plain_row,) = plain(found)["rows"]
    assert (plain_row["p"], plain_row["p_holm"], plain_row["half_width_95"]) == (None, None, None)
    assert plain_row["b"]["median"] == pytest.approx(1.1)
    for text in (
        plain_row["unjudged"],
        plain_row["test"],
        formats.markdown([sheet(found)]),
        latex.latex([sheet(found)]),
    ):
        assert "one process each; " in text
    assert any(note.startswith("A is ") for note in found.notes)
    (row,) = sheet(found).rows
    shown = dict(zip([column.name for column in sheet(found).columns], [entry.text for entry in row], strict=True))
    assert (shown["p"], shown["± 95 %"], shown["A"], shown["B"], shown["B - A"]) == (
        *("n/a", "n/a", "1", "1.1", "+0.1"),
    )


def test_several_processes_a_side_are_tested_over_processes(tmp_path: Path) -> None:
    for number, level in enumerate(LEVELS):
        process(tmp_path / "a", number, level)
        process(tmp_path / "b", number, 2 * level)
        process(tmp_path / "same", number, LEVELS[-1 - number])
    (row,) = compare(tmp_path / "a", tmp_path / "b", ["p50_ms"], []).rows
    assert row.test.method == "exact permutation test, 5 and 5 processes"
    # All of B lie above all of A: one way of 252, and its mirror image.
    assert row.test.p == pytest.approx(2 / 252)
    low, high = ttest_ind(
        [2e3 * level for level in LEVELS], [1e3 * level for level in LEVELS], equal_var=False
    ).confidence_interval()
    assert row.test.half == pytest.approx((high - low) / 2)
    found = compare(tmp_path / "a", tmp_path / "same", ["p50_ms"], [conditions.parse("p50_ms > 1.1x")])
    assert found.rows[0].test.p == pytest.approx(1)
    assert [verdict.failed for verdict in found.verdicts] == [False]


def sides(folder: Path, first: list[float], second: list[float], **changes: Any) -> tuple[Path, Path]:
    """Write processes of A and of B with these medians, in seconds; every p99 is a hundredth above."""
    for side, levels in (("a", first), ("b", second)):
        for number, level in enumerate(levels, 1):
            process(folder / side, number, level, repeat=number, **changes)
    return folder / "a", folder / "b"


def verdict_of(first: Path, second: Path, condition: str, despite: bool = False) -> Verdict:
    (verdict,) = compare(first, second, [], [conditions.parse(condition)], despite).verdicts
    return verdict


def test_a_condition_is_judged_by_a_test_and_not_by_chance(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS, [1.02 * level for level in LEVELS])
    found = verdict_of(a, b, "p99 > 1%")
    # B is 2 % slower, but processes differ by 5 %.
    assert found.change == pytest.approx(2)
    assert found.failed is False
    assert found.p is not None
    assert found.p > 0.05
    assert "not distinguishable from chance" in found.said
    assert "chance" not in verdict_of(a, b, "p99 > 5%").said


@pytest.mark.parametrize(
    ("condition", "failed"),
    [
        ("p99 > 10%", True), ("p99 > 60%", False), ("p99 > 0.2ms", True), ("p99_ms > 0.6ms", False),
        ("p50 > 1.2x", True), ("p50 < 0.9x", False), ("throughput < -10%", False),
    ],
)  # fmt: skip
def test_a_percentile_is_judged_by_that_percentile_over_processes(tmp_path: Path, condition: str, failed: bool) -> None:
    a, b = sides(tmp_path, LEVELS, [1.5 * level for level in LEVELS])
    found = verdict_of(a, b, condition)
    assert found.failed is failed
    if failed:
        assert found.p == pytest.approx(1 / 252)
    if condition == "p99 > 0.2ms":
        # 1.01 * (1.5 - 1) * the mean of A, 1.036 ms, and not in seconds as records have it.
        assert found.shown == "+0.5232 ms"


def test_conditions_are_corrected_for_how_many_they_are(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS, [1.5 * level for level in LEVELS])
    several = ["p50 > 10%", "p90 > 10%", "p99 > 10%"]
    found = compare(a, b, [], [conditions.parse(text) for text in several])
    # Of p90 nothing has changed.
    assert [verdict.p for verdict in found.verdicts] == pytest.approx([3 / 252, 1, 3 / 252])
    assert [verdict.failed for verdict in found.verdicts] == [True, False, True]


def test_too_few_processes_for_any_verdict_are_said(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS[:3], [9 * level for level in LEVELS[:3]])
    found = verdict_of(a, b, "p50 > 1.1x")
    assert found.failed is None
    assert found.why == "with 3 and 3 processes and 1 test, p is at least 0.05; it must be below 0.05"
    (notes,) = [sheet(compare(a, b, ["p50"], [])).notes]
    text = " ".join(notes)
    assert "With 3 and 3 processes, p cannot be lower than 0.1, so no difference is distinguishable from chance" in text
    more = verdict_of(*sides(tmp_path / "four", LEVELS[:4], [9 * level for level in LEVELS[:4]]), "p50 > 1.1x")
    assert more.failed is True
    assert more.p == pytest.approx(1 / 70)


def test_the_smallest_p_is_said_and_corrected(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS, LEVELS[::-1])
    assert "With 5 and 5 processes, p cannot be lower than 0.0079." in sheet(compare(a, b, ["p50"], [])).notes
    found = compare(a, b, [], [])
    text = " ".join(sheet(found).notes)
    assert f"or {len(found.rows) * 2 / 252:.2g} when corrected for {len(found.rows)} tests (Holm)" in text
    assert len(found.rows) * 2 / 252 < 0.05
    assert {row["p_least"] for row in plain(found)["rows"]} == {2 / 252}


def test_as_many_default_figures_as_five_processes_can_tell() -> None:
    """Of inference all but the epoch: with 5 and 5 processes a difference in each can still be told."""
    assert (len(COSTS) - 1) * over_processes.least_p(5, 5) < over_processes.LEVEL


BUSY = {"cpu_cores": 1.0, "cpu_cores_others": 0.9}


def doubtful(folder: Path, **numbers: float) -> tuple[Path, Path]:
    """Write five processes a side, B half as slow again; the last of B with these figures."""
    a = [inference(latency_p50=level) for level in LEVELS]
    b = [inference(latency_p50=1.5 * level) for level in LEVELS]
    b[-1] = inference(0.5, "eager", "hybrid", latency_p50=1.5 * LEVELS[-1], **numbers)
    return records_of(folder / "a.jsonl", a), records_of(folder / "b.jsonl", b)


def test_doubtful_times_are_shown_and_judged_only_when_asked(tmp_path: Path) -> None:
    a, b = doubtful(tmp_path, **BUSY)
    found = verdict_of(a, b, "p50 > 1.1x")
    assert (found.failed, found.why) == (None, "B: busy machine in 1 of 5 processes")
    assert "--despite" in found.hint
    result = compare(a, b, ["p50_ms"], [])
    assert "Doubtful times: B: busy machine in 1 of 5 processes." in sheet(result).notes
    assert plain(result)["rows"][0]["caveats"] == ["B: busy machine in 1 of 5 processes"]
    assert verdict_of(a, b, "p50 > 1.1x", despite=True).failed is True
    calm = doubtful(tmp_path)
    assert verdict_of(*calm, "p50 > 1.1x").failed is True


def test_a_start_that_was_not_steady_is_carried_too(tmp_path: Path) -> None:
    unsteady = [changed(inference(latency_p50=level), warm_up={"steady": False, "rule": "a rule"}) for level in LEVELS]
    a = records_of(tmp_path / "a.jsonl", unsteady)
    b = records_of(tmp_path / "b.jsonl", [inference(latency_p50=9 * level) for level in LEVELS])
    assert verdict_of(a, b, "p50 > 1.1x").why == "A: not steady in 5 of 5 processes"


def test_memory_is_judged_on_a_busy_machine(tmp_path: Path) -> None:
    a, b = doubtful(tmp_path, **BUSY)
    (verdict,) = compare(a, b, [], [conditions.parse("host_ram_peak > 10MB")]).verdicts
    assert verdict.failed is False
    assert verdict.row.caveats == ()


def test_two_sorts_of_machine_are_doubtful(tmp_path: Path) -> None:
    a = records_of(tmp_path / "a.jsonl", [inference()] * 5)
    b = records_of(tmp_path / "b.jsonl", [changed(inference(), cpu="another processor")] * 5)
    found = verdict_of(a, b, "p50 > 1.1x")
    assert found.failed is None
    assert "a processor, 2 cores; another processor, 2 cores" in found.why


def test_commits_and_order_of_measuring_are_noted(tmp_path: Path) -> None:
    def at(level: float, minute: int, **project: Any) -> Record:
        return changed(inference(latency_p50=level), measured_at=f"2026-01-01T00:{minute:02}:00Z", project=project)

    one = {"commit": "a" * 40, "changed": True}
    a = records_of(tmp_path / "a.jsonl", [at(1, 2 * minute, **one) for minute in range(5)])
    in_turns = [at(1, 2 * minute + 1, commit=None, reason="no git") for minute in range(5)]
    notes = compare(a, records_of(tmp_path / "b.jsonl", in_turns), [], []).notes
    assert "Commit of the user's project: A aaaaaaaaaaaa with changes; B n/a (no git)." in notes
    assert not any("not in turns" in note for note in notes)
    later = [at(1, minute, commit="b" * 40) for minute in range(30, 35)]
    notes = compare(a, records_of(tmp_path / "b.jsonl", later), [], []).notes
    assert any("One side was measured after the other, not in turns" in note for note in notes)


def test_other_networks_measured_in_the_same_ways_are_paired(tmp_path: Path) -> None:
    a = [each for engine in ("eager", "onnxruntime") for each in [inference(engine=engine)] * 2]
    b = [each for engine in ("eager", "onnxruntime") for each in [inference(engine=engine, kind="rnn")] * 2]
    found = compare(records_of(tmp_path / "a.jsonl", a), records_of(tmp_path / "b.jsonl", b), ["p50"], [])
    assert [row.name.count(" : ") for row in found.rows] == [1, 1]
    assert "onnxruntime" in found.rows[1].name


def test_a_figure_that_a_condition_names_is_not_compared_twice(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS, LEVELS)
    names = [row.metric for row in compare(a, b, [], [conditions.parse("p99 > 10%")]).rows]
    assert "p99" in names
    assert "p99_ms" not in names
    assert "p50_ms" in names


def test_one_configuration_is_named_above_the_table(tmp_path: Path) -> None:
    a, b = sides(tmp_path, LEVELS, LEVELS)
    shown = sheet(compare(a, b, [], []))
    assert shown.title == "A and B compared: digits hybrid 0.5: infer, eager, batch 1, cpu"
    assert [column.name for column in shown.columns][:3] == ["metric", "A", "B"]


def test_what_computes_in_another_precision_is_no_process_of_the_same(tmp_path: Path) -> None:
    mixed = [inference(), replace_precision(inference(latency_p50=9), "bf16")]
    a, b = (records_of(tmp_path / f"{side}.jsonl", mixed) for side in "ab")
    found = compare(a, b, ["p50"], [])
    assert [row.counts for row in found.rows] == [(1, 1), (1, 1)]


def replace_precision(record: Record, precision: str) -> Record:
    asked = record.configuration
    return replace(record, configuration=replace(asked, recipe={**asked.recipe, "precision": precision}))


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
