"""A checkpoint or a bundle is given as an argument or by its option, and once."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, Hstnn, options


@pytest.fixture
def best(hstnn: Hstnn, tmp_path: Path) -> Path:
    words = ["--kind", "snn", "--device", "cpu", "--out", str(tmp_path / "runs"), *options(TINY)]
    assert hstnn("train", "digits", *words).code == 0
    (found,) = (tmp_path / "runs").rglob("best.pt")
    return found


def test_either_way_gives_the_same(hstnn: Hstnn, best: Path, tmp_path: Path) -> None:
    assert hstnn("evaluate", best) == hstnn("evaluate", "--ckpt", best)
    assert hstnn("evaluate", best).code == 0
    given: tuple[list[str], ...] = ([str(best)], ["--ckpt", str(best)])
    for number, words in enumerate(given):
        assert hstnn("export", *words, "--out", tmp_path / f"bundle{number}", "--form", "step").code == 0
    x = tmp_path / "bundle0"
    for command in (["verify"], ["run", "--input", str(tmp_path / "none.npy")]):
        assert hstnn(*command, x).err == hstnn(*command, "--bundle", x).err
    assert hstnn("verify", "--bundle", x).code == 0
    figures = []
    for words in ([str(x)], ["--bundle", str(x)]):
        result = hstnn("robustness", *words, "--disturb", "gaussian=0.5", "--draws", "1", "--json")
        assert result.code == 0, result.err
        figures.append([each["curves"] for each in json.loads(result.out)["networks"]])
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["evaluate"], "--ckpt"),
        (["export"], "--ckpt"),
        (["profile"], "--ckpt"),
        (["verify"], "--bundle"),
        (["run", "--input", "x.npy"], "--bundle"),
    ],
)
def test_both_are_refused(hstnn: Hstnn, words: list[str], option: str) -> None:
    result = hstnn(*words, "a.pt", option, "b.pt")
    what = "checkpoint" if option == "--ckpt" else "bundle"
    assert result.code == 2
    assert result.error == f"two {what}s are given: a.pt, and {option} b.pt"
    assert result.hint == "give one of them"


@pytest.mark.parametrize("command", ["evaluate", "export", "verify"])
def test_neither_is_refused_with_what_would_work(hstnn: Hstnn, command: str) -> None:
    result = hstnn(command)
    assert result.code == 2
    assert result.error in {"no checkpoint is given", "no bundle is given"}
    assert "as an argument or with --" in result.hint


def test_profile_takes_a_checkpoint_for_what_it_is(hstnn: Hstnn, tmp_path: Path) -> None:
    none = str(tmp_path / "none.pt")
    words = ["profile", none, "--phases", "work"]
    assert hstnn(*words) == hstnn("profile", "--ckpt", none, "--phases", "work")
    assert hstnn(*words).code == 4
