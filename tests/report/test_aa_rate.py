"""A network compared with itself: the test over processes holds its rate of false alarms, the one over calls does not.

Processes are simulated with what real ones have: a level of their own, some of them a second mode, a machine that
drifts from process to process, calls that resemble the one before them, and a tail of slow calls.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from benchmarks import aa_rate
from benchmarks.aa_rate import Rate, consecutive, drawn, in_turns, over_calls, over_processes, rate
from hstnn_deploy.profile.meter.stats import percentile
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.run import launch
from hstnn_deploy.report.comparing.over_processes import LEVEL, MOST, beyond, contrast, least_p, said
from tests.profile.conftest import measured

CALLS = 300


class Load(NamedTuple):
    """How processes and calls scatter, as shares of the time of a call."""

    start: float
    """From one process to the next: its own level."""
    drift: float
    """Of the machine, whose state resembles that of the process before by 0.95."""
    call: float
    """From call to call, each of which resembles the one before by 0.9."""
    slow: float
    """Share of calls that take three times as long."""


IDLE, BUSY = Load(0.02, 0.01, 0.02, 0.01), Load(0.06, 0.10, 0.15, 0.05)


@cache
def pool(load: Load, seed: int, size: int = 200) -> list[np.ndarray]:
    """Return the calls of processes of one network, in the order in which they were measured."""
    generator = np.random.default_rng(seed)
    drift = resembling(generator, (1, size), load.drift, 0.95)[0]
    levels = np.exp(load.start * generator.standard_normal(size) + drift) * generator.choice(
        [1.0, 1.08], size, p=[0.8, 0.2]
    )
    calls = 1e-3 * levels[:, None] * np.exp(resembling(generator, (size, CALLS), load.call, 0.9))
    calls[generator.random((size, CALLS)) < load.slow] *= 3
    return list(calls)


def resembling(generator: np.random.Generator, shape: tuple[int, int], spread: float, like: float) -> np.ndarray:
    """Return rows of a first-order autoregression of this standard deviation and correlation."""
    noise = generator.standard_normal(shape) * np.sqrt(1 - like**2)
    noise[:, 0] /= np.sqrt(1 - like**2)
    found: np.ndarray = spread * lfilter([1.0], [1.0, -like], noise, axis=1)
    return found


def figures(calls: Sequence[np.ndarray], share: float) -> list[float]:
    return [percentile(sorted(each.tolist()), share) for each in calls]


@pytest.mark.parametrize("load", [IDLE, BUSY], ids=["idle", "busy"])
@pytest.mark.parametrize("share", [50, 99])
def test_over_processes_a_network_is_seldom_called_different_from_itself(load: Load, share: float) -> None:
    numbers = figures(pool(load, 1), share)
    found = rate(drawn(numbers, 5, 200), over_processes)
    assert found.of == 200
    assert found.alarms <= 17
    one_after_another = rate(consecutive(numbers, 5), over_processes)
    assert one_after_another.alarms <= one_after_another.limit


@pytest.mark.parametrize("load", [IDLE, BUSY], ids=["idle", "busy"])
def test_over_calls_it_is_called_different_most_of_the_time(load: Load) -> None:
    calls = pool(load, 1)
    found = rate(pairwise(calls), over_calls)
    assert found.alarms > 0.6 * found.of
    assert found.alarms > 5 * found.limit


def test_over_five_processes_pooled_into_calls_it_is_called_different_too() -> None:
    """More processes do not help where calls are taken for samples."""
    sides = ((np.concatenate(a), np.concatenate(b)) for a, b in drawn(pool(BUSY, 1), 5, 50))
    assert rate(sides, over_calls).alarms > 25


def test_the_rate_is_that_of_the_level_where_processes_are_exchangeable() -> None:
    """Neither above the level nor far below: of 600 comparisons, 12 of 252 ways have p < 0.05."""
    generator = np.random.default_rng(3)
    sides = ((list(row[:5]), list(row[5:])) for row in generator.lognormal(0, 0.3, (600, 10)).tolist())
    found = rate(sides, over_processes)
    expected = 12 / 252
    assert abs(found.alarms / found.of - expected) < 3 * (expected * (1 - expected) / found.of) ** 0.5


def test_one_side_after_the_other_makes_a_difference_of_a_drift() -> None:
    """Why both sides are measured in turns."""
    numbers = figures(pool(Load(0.01, 0.3, 0.02, 0.0), 1), 50)
    assert rate(consecutive(numbers, 5), over_processes).alarms <= 17
    sides = ((numbers[first : first + 5], numbers[first + 5 : first + 10]) for first in range(190))
    found = rate(sides, over_processes)
    assert found.alarms > found.limit


def test_a_difference_that_is_there_is_found() -> None:
    calls = pool(IDLE, 1)
    a, b = figures(calls, 50), figures([1.1 * each for each in calls], 50)
    pairs = [(one, [1.1 * number for number in other]) for one, other in drawn(a, 5, 100)]
    assert figures(calls[:1], 50)[0] * 1.1 == pytest.approx(b[0])
    assert sum(over_processes(pair) < LEVEL for pair in pairs) > 80


def test_the_limit_is_17_of_200() -> None:
    assert Rate(17, 200).limit == 17
    assert "at most 17" in str(Rate(17, 200))
    assert "MORE THAN 17" in str(Rate(18, 200))
    assert 9 <= Rate(0, 100).limit <= 11


def test_comparisons_are_drawn_in_the_order_of_the_pool() -> None:
    assert in_turns([1, 2, 3, 4]) == ([1, 3], [2, 4])
    for a, b in drawn(range(30), 5, 20):
        assert [*sum(zip(a, b, strict=True), ())] == sorted({*a, *b})
    assert next(consecutive(range(30), 2)) == ([0, 2], [1, 3])
    assert len(list(consecutive(range(30), 5))) == 21


values = st.lists(st.integers(1, 50).map(float), min_size=2, max_size=5)


@hypothesis.settings(max_examples=20)
@given(values, values)
def test_the_exact_test_counts_the_ways_to_give_processes_to_sides(first: list[float], second: list[float]) -> None:
    both = [*first, *second]
    ways = [sum(both[place] for place in chosen) for chosen in combinations(range(len(both)), len(second))]
    above, below = (sum(way >= sum(second) for way in ways), sum(way <= sum(second) for way in ways))
    expected = min(1.0, 2 * min(above, below) / len(ways))
    assert contrast(first, second).p == pytest.approx(expected)
    assert beyond(first, second, greater=True) == pytest.approx(above / len(ways))
    assert beyond(first, second, greater=False) == pytest.approx(below / len(ways))
    assert contrast(first, second).p >= least_p(len(first), len(second)) - 1e-12  # type: ignore[operator]


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(5, 5, 2 / 252), (3, 3, 0.1), (4, 4, 2 / 70), (2, 2, 1 / 3), (9, 9, 0)]
)
def test_the_smallest_p(first: int, second: int, expected: float) -> None:
    assert least_p(first, second) == pytest.approx(expected)


def test_many_processes_are_tested_by_welch_s_test() -> None:
    from scipy.stats import ttest_ind

    generator = np.random.default_rng(0)
    first, second = generator.normal(1, 0.1, 20).tolist(), generator.normal(1.05, 0.1, 12).tolist()
    found = contrast(first, second)
    assert found.method == "Welch's t-test, 20 and 12 processes"
    assert found.p == pytest.approx(ttest_ind(second, first, equal_var=False).pvalue)
    one_sided = ttest_ind(second, first, equal_var=False, alternative="greater").pvalue
    assert beyond(first, second, greater=True) == pytest.approx(one_sided)
    assert beyond([1.0] * 20, [1.0] * 20, greater=True) == 1
    assert MOST < 48_620


def test_equal_figures_are_not_different() -> None:
    assert contrast([1.1] * 5, [1.1] * 5).p == 1
    assert contrast([1.1] * 20, [1.1] * 20).p == 1
    assert contrast([0.0] * 5, [0.0] * 5).p == 1
    # As floating point adds them up, one way of three sums to a little more than another.
    assert contrast([0.1, 0.2, 0.3], [0.3, 0.1, 0.2]).p == 1


def test_one_process_a_side_has_no_test() -> None:
    assert contrast([1.0], [2.0]) == (1.0, None, None, "n/a: only one process each; measure more with --repeats 5")
    assert contrast([1.0, 2.0], [2.0]).method == "n/a: only one process in B; measure more with --repeats 5"


@pytest.mark.parametrize(
    ("pairs", "text", "hopeless"),
    [
        ([(5, 5)], "p cannot be lower than 0.0079.", False),
        ([(5, 5)] * 6, "or 0.048 when corrected for 6 tests (Holm).", False),
        ([(5, 5)] * 7, "or 0.056 when corrected for 7 tests (Holm), so no difference", True),
        ([(3, 3)], "With 3 and 3 processes, p cannot be lower than 0.1, so no difference is", True),
    ],
)
def test_what_so_few_processes_can_tell_is_said(pairs: list[tuple[int, int]], text: str, hopeless: bool) -> None:
    found = said(pairs)
    assert found is not None
    assert text in found.text
    assert found.hopeless is hopeless
    assert said([(20, 20)]) is None


def test_the_benchmark_asks_for_one_configuration_many_times() -> None:
    planned = aa_rate.asked(3, 0.5)
    assert [each.repeat for each in planned] == [1, 2, 3]
    assert len({each.repeated for each in planned}) == 1


def test_the_benchmark_keeps_its_pool_and_says_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def run(some: Sequence[Configuration], *_: object) -> Iterator[Record]:
        for each in some:
            asked.append(each.repeat)
            # Of every four the first and the third are fast: an order in which turns meet a pattern.
            level = 0.001 * (1 + each.repeat % 2) + 1e-9 * each.repeat
            yield replace(measured(each, latency_p50=level), series={"latency": [level, 1.1 * level]})

    monkeypatch.setattr(launch, "run", run)
    words = ["--repeats", "4", "--comparisons", "20", "--loads", "idle", "--out", str(tmp_path)]
    aa_rate.main([*words, "--pool", "8", "--comparisons", "1"])
    assert asked == list(range(1, 9))
    asked.clear()
    aa_rate.main([*words, "--pool", "12", "--comparisons", "1"])
    assert asked == [9, 10, 11, 12]
    assert len(read(tmp_path / "idle.jsonl")) == 12
    found = json.loads((tmp_path / "rates.json").read_text())
    # Every run of eight has the fast ones on one side: such a pattern is what the benchmark is there to find.
    assert found["rates"]["idle"]["latency_p50"]["consecutive"] == {"alarms": 5, "of": 5}
    assert "idle, latency_p50, consecutive: 5 of 5 (MORE THAN 2)" in capsys.readouterr().out
    monkeypatch.setattr(aa_rate, "drawn", lambda pool, repeats, _number: consecutive(pool, repeats))
    with pytest.raises(SystemExit, match="different from itself too often"):
        aa_rate.main([*words, "--pool", "12"])


@pytest.mark.parametrize("words", [["--pool", "3", "--repeats", "2"], ["--repeats", "1"], ["--loads", "full"]])
def test_what_the_benchmark_cannot_do_is_refused(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        aa_rate.main([*words, "--out", str(tmp_path)])
    assert left.value.code == 2


def test_the_load_is_there_and_ends() -> None:
    before = {each.pid for each in psutil.Process().children()}
    with aa_rate.busy(1):
        (process,) = [each for each in psutil.Process().children() if each.pid not in before]
    assert not process.is_running()
