"""Lines of oddities: alike ones are counted together, and none can disturb a screen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.checking.notes import Notes, shown, some
from hstnn_deploy.errors import DataError


def test_alike_faults_of_many_files_are_one_line() -> None:
    notes = Notes()
    for number in range(1000):
        name = f"cat/{number}.png"
        notes.refuse(DataError(f"pets/{name} has {number} bytes", "copy it again"), name)
    notes.note("something", "nothing")
    assert len(notes.found) == 2
    line = notes.found[0].line()
    assert line == (
        "refused: pets/cat/0.png has 0 bytes (and 999 more: cat/1.png, cat/2.png, cat/3.png, …). "
        "What to do: copy it again"
    )
    assert len(notes.found[0].names) == 20
    assert notes.found[1].line() == "note: something. What to do: nothing"


def test_very_many_sorts_of_faults_stay_bounded() -> None:
    notes = Notes()
    for number in range(5000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        notes.refuse(DataError(word), "")
    assert len(notes.found) <= 201
    assert sum(note.count for note in notes.found) == 5000


@given(st.text())
def test_whatever_a_name_holds_is_shown_in_one_line(text: str) -> None:
    line = shown(text)
    assert "\n" not in line
    assert "\x1b" not in line
    line.encode("utf-8", "surrogatepass")


def test_bytes_that_are_no_utf8_are_shown() -> None:
    name = b"\xff\n.png".decode("utf-8", "surrogateescape")
    assert shown(name) == "\\xff .png"
    notes = Notes()
    notes.refuse(DataError(f"{name} is empty"), name)
    json.dumps([note.plain() for note in notes.found], ensure_ascii=False).encode()


@pytest.mark.parametrize(("count", "words"), [(1, "1 file has"), (2, "2 files have")])
def test_numbers_of_things(count: int, words: str) -> None:
    assert some(count, "file", "have") == words
