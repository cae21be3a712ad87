"""Which samples train and which test: stratified, by group, the same wherever they are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.own.config import Drawn
from hstnn_deploy.data.own.parts import SPLITS, Samples, divide
from hstnn_deploy.errors import DataError


def samples(labels: list[int], split: list[int] | None = None, groups: list[str] | None = None) -> Samples:
    said = None if split is None else np.array(split, np.int8)
    names = [f"class{number}" for number in range(max(labels) + 1)]
    return Samples(np.array(labels, np.int32), names, lambda number: f"{number}.png", said, groups, "here")


@given(st.lists(st.integers(3, 12), min_size=2, max_size=5), st.integers(0, 5), st.floats(0.05, 0.6))
def test_every_class_is_on_every_side_and_no_sample_on_two(counts: list[int], seed: int, share: float) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    parts = divide(samples(labels), Drawn(test=share, seed=seed))
    assert sorted(np.concatenate([parts[name] for name in SPLITS]).tolist()) == list(range(len(labels)))
    for name in SPLITS:
        assert {labels[number] for number in parts[name]} == set(range(len(counts)))
        assert (np.diff(parts[name]) > 0).all()


def test_shares_are_those_asked_for() -> None:
    parts = divide(samples([0] * 100 + [1] * 50), Drawn(test=0.2, valid=0.25))
    labels = np.array([0] * 100 + [1] * 50)
    assert [np.bincount(labels[parts[name]]).tolist() for name in SPLITS] == [[60, 30], [20, 10], [20, 10]]


def test_a_draw_depends_on_its_seed_and_names_alone() -> None:
    labels = [0, 1] * 20
    one, same, other = (divide(samples(labels), Drawn(seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in SPLITS)
    assert not all(np.array_equal(one[name], other[name]) for name in SPLITS)
    # Written down, so that no version draws another split.
    assert divide(samples([0, 1] * 5), Drawn())["test"].tolist() == [5, 8]


def test_what_is_said_is_taken_and_only_the_rest_is_drawn() -> None:
    said = [0] * 8 + [2] * 2
    parts = divide(samples([0, 1] * 5, said), Drawn())
    assert parts["test"].tolist() == [8, 9]
    assert len(parts["valid"]) == 2
    assert sorted([*parts["train"], *parts["valid"]]) == list(range(8))


def test_a_new_sample_moves_one_other_at_most_of_each_split_that_is_drawn() -> None:
    def sides(count: int, seed: int) -> tuple[dict[int, str], set[int]]:
        parts = divide(samples([0] * 10 + [1] * count), Drawn(test=0.2, valid=0.2, seed=seed))
        return {number: name for name in SPLITS for number in parts[name].tolist()}, set(parts["test"].tolist())

    for count in range(10, 60):
        (before, tested), (after, testing) = sides(count, count), sides(count + 1, count)
        assert len(tested - testing) <= 1
        moved = [number for number, side in before.items() if after[number] != side]
        assert len(moved) <= 2
        assert all(number >= 10 for number in moved), "of its class"


@given(st.integers(3, 10), st.integers(0, 20))
def test_a_group_is_on_one_side(people: int, seed: int) -> None:
    labels = [label for _ in range(people) for label in (0, 1, 0)]
    groups = [f"s{number}" for number in range(people) for _ in range(3)]
    parts = divide(samples(labels, None, groups), Drawn(test=0.3, valid=0.3, seed=seed))
    sides = [{groups[number] for number in parts[name]} for name in SPLITS]
    assert sum(map(len, sides)) == people
    assert all(sides)


def test_every_class_stays_in_training_where_groups_allow_it() -> None:
    # Only one draw of ten leaves both classes on both sides.
    labels, groups = [0, 0, 0, 0, 1, 1], ["a", "b", "c", "d", "e", "f"]
    parts = divide(samples(labels, None, groups), Drawn(test=0.3, valid=0.3))
    assert {labels[number] for number in parts["train"]} == {0, 1}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (samples([0, 0, 0, 1]), "the class 'class1' has 1 sample, too few"),
        (samples([0, 1, 0, 1], [0, 0, 2, 2], ["a", "b", "a", "c"]), "the group 'a' is in train and in test"),
        (samples([0, 1, 0, 1], None, ["a"] * 4), "1 of the groups are left ('a'), too few"),
        (samples([0, 1, 2] * 2, None, ["a", "b", "c"] * 2), "no draw leaves samples of every class to train"),
        (samples([0, 0, 0, 1], [0, 0, 0, 2]), "'class1' is in test but not in train"),
        (samples([0, 1], [2, 2]), "assigns no sample to train"),
    ],
)
def test_what_cannot_be_divided_is_refused(found: Samples, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("(", r"\(").replace(")", r"\)")):
        divide(found, Drawn())
