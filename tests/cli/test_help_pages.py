"""Every page of help: nothing is cut at 80 columns, nothing has a type that takes no value, and each has an example."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from hstnn_deploy.cli import app
from hstnn_deploy.cli.examples import EXAMPLES
from tests.conftest import Hstnn

WHOLE: Any = typer.main.get_command(app.commands(*app.COMMANDS))


def walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with the words that name it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{path} {name}".strip())


PAGES = dict(walk(WHOLE))


def page(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, path: str, columns: int) -> str:
    """Return a page as it is drawn on a terminal of that width, without its frames."""
    monkeypatch.setenv("COLUMNS", str(columns))
    result = hstnn(*path.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= columns
    return re.sub("[│╭╮╰╯─]", " ", result.out)


@pytest.mark.parametrize("path", PAGES)
def test_no_word_is_cut_or_folded_at_80_columns(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    narrow, wide = (page(hstnn, monkeypatch, path, columns) for columns in (80, 300))
    assert Counter(narrow.split()) == Counter(wide.split())
    assert "<bool>" not in narrow


@pytest.mark.parametrize("path", PAGES)
def test_every_value_of_a_choice_is_listed(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    text = " ".join(page(hstnn, monkeypatch, path, 300).split())
    for param in PAGES[path].params:
        if choices := getattr(getattr(param, "type_descriptor", None), "choices", None):
            values = [each.value for each in choices]
            listed = (" or " if any("," in each for each in values) else ", ").join(values)
            assert f"One of: {listed}." in text


def test_every_command_has_an_example_and_no_other_has() -> None:
    assert list(EXAMPLES) == list(PAGES)


@pytest.mark.parametrize("path", PAGES)
def test_help_ends_with_its_examples(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    lines = [line.strip() for line in page(hstnn, monkeypatch, path, 80).splitlines()]
    for example in EXAMPLES[path]:
        assert example in lines


def parsed(words: list[str]) -> str:
    """Parse the words of a command line; return the command that they name."""
    command, path = WHOLE, list[str]()
    if words[:1] == ["help"]:
        words = [*words[1:], "-h"]
    while words and words[0] in getattr(command, "commands", {}):
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    if words != ["-h"]:
        context = command.make_context(path[-1] if path else "hstnn", list(words))
        if hasattr(command, "commands"):
            command.resolve_command(context, list(words))
    return " ".join(path)


@pytest.mark.parametrize(("path", "example"), [(path, each) for path, found in EXAMPLES.items() for each in found])
def test_every_example_parses(path: str, example: str) -> None:
    first, *words = shlex.split(example.partition(" > ")[0])
    assert first == "hstnn"
    assert parsed(words).startswith(path)


@pytest.mark.parametrize("words", [["train", "digits", "--epoch"], ["data", "lists", "--json"], ["export", "a", "b"]])
def test_an_example_that_is_wrong_would_be_seen(words: list[str]) -> None:
    with pytest.raises(app._TyperUsageError):
        parsed(words)


@pytest.mark.parametrize("example", EXAMPLES["recipes"][:1] + EXAMPLES["data list"] + EXAMPLES["runs"][:1])
def test_examples_that_need_nothing_run(
    hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert hstnn(*shlex.split(example.partition(" > ")[0])[1:]).code == 0
