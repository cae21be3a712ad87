"""Which network no other one beats, by hand; and what is joined by network."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.report.tradeoff import Candidate, undominated


def _made(
    name: str, figure: float, robustness: float | None = None, energy: float | None = None, **more: Any
) -> Candidate:
    costs = {} if energy is None else {"energy": energy}
    facts: dict[str, Any] = {"metric": "accuracy", "higher_is_better": True, **more}
    return Candidate(
        "r", name, "snn", figures={1: figure}, best=Path(name), robustness=robustness, costs=costs, **facts
    )


def _names(found: list[Candidate]) -> list[str]:
    return [each.network for each in found]


def test_a_network_is_beaten_by_one_that_is_at_least_as_good_in_all() -> None:
    cheap, good, beaten = _made("cheap", 80, 60, 1), _made("good", 95, 70, 10), _made("beaten", 94, 70, 11)
    assert _names(undominated([cheap, good, beaten], "energy")) == ["cheap", "good"]


def test_equals_do_not_beat_each_other() -> None:
    assert _names(undominated([_made("a", 90, 50, 1), _made("b", 90, 50, 1)], "energy")) == ["a", "b"]


def test_of_perplexity_and_its_robustness_less_is_better() -> None:
    facts = {"metric": "perplexity", "higher_is_better": False}
    low, high = _made("low", 100, 120, 5, **facts), _made("high", 110, 130, 5, **facts)
    assert _names(undominated([low, high], "energy")) == ["low"]


def test_what_was_not_measured_of_one_never_lets_it_beat_another() -> None:
    """A better accuracy alone shows nothing about a network whose robustness is known."""
    known, unknown = _made("known", 80, 60, 5), _made("unknown", 95, None, 1)
    assert _names(undominated([known, unknown], "energy")) == ["known", "unknown"]
    # The other way round, what is known is worse in nothing that is known of both.
    better = _made("better", 96, 60, 0.5)
    assert _names(undominated([better, unknown], "energy")) == ["better"]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3), st.none() | st.integers(0, 3)),
        min_size=1,
        max_size=8,
    )
)
def test_somebody_is_never_beaten_and_who_is_beaten_is_by_one_who_is_not_where_all_is_known(rows: Any) -> None:
    all_of_them = [_made(str(number), *row) for number, row in enumerate(rows)]
    whole = [each for each in all_of_them if each.robustness is not None and each.costs]
    front = undominated(whole, "energy")
    assert bool(front) == bool(whole)
    for each in whole:
        if each not in front:
            assert any(
                all(a >= b for a, b in zip(other.objectives("energy"), each.objectives("energy"), strict=True))  # type: ignore[operator]
                for other in front
            )
