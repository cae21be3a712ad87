"""How much is said: `-q` results and errors alone, `-v` more than usual, anywhere on the command line."""

from pathlib import Path

import pytest

from tests.conftest import TINY, Hstnn, options

TRAIN = ["train", "digits", "--kind", "snn", "--device", "cpu", *options(TINY)]


@pytest.mark.parametrize("word", ["-q", "--quiet"])
def test_quiet_prints_results_alone(hstnn: Hstnn, tmp_path: Path, word: str) -> None:
    usual = hstnn(*TRAIN, "--out", tmp_path / "a")
    quiet = hstnn(word, *TRAIN, "--out", tmp_path / "b")
    assert (quiet.code, quiet.err) == (0, "")
    assert "test accuracy" in quiet.out
    for said in ("epoch 2/2", "Next:", "data: "):
        assert said in usual.out
        assert said not in quiet.out
    (best,) = (tmp_path / "b").rglob("best.pt")
    assert "accuracy" in hstnn("evaluate", best, word).out


def test_quiet_says_errors_and_the_next_call_is_as_usual(hstnn: Hstnn) -> None:
    quiet = hstnn("recipes", "digit", "-q")
    assert (quiet.code, quiet.error) == (2, "unknown recipe 'digit'")
    assert "Traceback" not in hstnn("recipes", "digit").err


def test_json_on_standard_output_has_nothing_beside_it(hstnn: Hstnn, tmp_path: Path) -> None:
    assert "epoch" in hstnn(*TRAIN, "--json", "--out", tmp_path / "a").err
    quiet = hstnn(*TRAIN, "--json", "-q", "--out", tmp_path / "b")
    assert quiet.err == ""
    assert quiet.out.startswith("{")


@pytest.mark.parametrize("word", ["-v", "--verbose"])
def test_verbose_says_where_defaults_came_from_and_how_long_it_took(hstnn: Hstnn, word: str) -> None:
    result = hstnn("recipes", word)
    assert result.code == 0
    assert "more: device: auto (built in)" in result.err
    assert "more: took " in result.err.splitlines()[-1]
    assert "Traceback" in hstnn("recipes", "digit", word).err


def test_both_are_refused(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "-q", "-v")
    assert (result.code, result.error) == (2, "--quiet and --verbose are mutually exclusive")
    assert hstnn("recipes").code == 0


def test_what_stands_behind_two_dashes_is_no_option(hstnn: Hstnn) -> None:
    result = hstnn("recipes", "--", "-q")
    assert result.code == 2
    assert "unknown recipe '-q'" in result.error


def test_verbose_shows_no_traceback_of_help_and_of_a_wrong_word(hstnn: Hstnn) -> None:
    for words in (("-v",), ("train", "-v")):
        result = hstnn(*words)
        assert result.code == 2
        assert "Traceback" not in result.err
