"""Copies: by content, within and between splits and classes, in little memory; and which samples are read."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.checking.duplicates import Contents, tell
from hstnn_deploy.data.checking.notes import Notes
from hstnn_deploy.data.checking.sample import drawn
from hstnn_deploy.errors import DataError


@given(st.lists(st.binary(max_size=2), max_size=60))
def test_groups_are_those_of_equal_content(contents: list[bytes]) -> None:
    found = Contents()
    for number, content in enumerate(contents):
        found.add(number, content)
    expected = [
        [number for number, each in enumerate(contents) if each == content]
        for content in set(contents)
        if contents.count(content) > 1
    ]
    assert sorted(group.tolist() for group in found.groups()) == sorted(expected)


def test_a_file_is_hashed_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    found = Contents()
    found.add_file(0, tmp_path / "a")
    found.add(1, b"x" * 3_000_000)
    assert [group.tolist() for group in found.groups()] == [[0, 1]]
    with pytest.raises(DataError, match="cannot read"):
        found.add_file(2, tmp_path / "gone")


def test_copies_are_told_by_split_and_class() -> None:
    notes = Notes()
    labels, sides = np.array([0, 0, 0, 1, 1], np.int32), np.array([0, 0, 2, 0, 2], np.int8)
    groups = [np.array([0, 1, 2]), np.array([3, 4])]
    found = tell(notes, groups, labels, sides, lambda number: f"n{number}")
    assert found == {"train and test": 2, "train": 1}
    lines = [note.line() for note in notes.found]
    assert any("2 files of test with the same content as one of train, such as n0 and n2" in line for line in lines)
    found = tell(notes, [np.array([2, 3])], labels, np.full(5, -1, np.int8), lambda number: f"n{number}")
    assert found == {"labels": 1, "all": 1}


def test_two_hundred_thousand_samples_take_little_memory() -> None:
    found = Contents()
    tracemalloc.start()
    for number in range(200_000):
        found.add(number, number.to_bytes(4, "little"))
    found.add(200_000, (7).to_bytes(4, "little"))
    groups = found.groups()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [group.tolist() for group in groups] == [[7, 200_000]]
    assert peak < 60_000_000


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 5))
def test_what_is_read_is_bounded_and_has_every_class(count: int, most: int, classes: int) -> None:
    labels = (np.arange(count) % classes).astype(np.int32)
    numbers = drawn(np.full(count, 10), labels, most)
    assert len(numbers) <= max(most, classes + 1)
    assert 0 in numbers
    assert set(labels[numbers].tolist()) == set(labels.tolist())
    assert numbers.tolist() == sorted(set(numbers.tolist()))
    assert numbers.tolist() == drawn(np.full(count, 10), labels, most).tolist()
    assert drawn(np.full(count, 10), labels, None).tolist() == list(range(count))


def test_few_large_files_are_read() -> None:
    sizes, labels = np.full(100, 10), np.zeros(100, np.int32)
    assert len(drawn(sizes, labels, 100, most_bytes=205)) == 20
    assert len(drawn(sizes, labels, 100, most_bytes=1)) >= 1
