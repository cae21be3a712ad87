"""The error tree is what its docstring draws, and a hint names the nearest of what there is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy import errors
from hstnn_deploy.errors import HstnnError, nearest


def tree(error: type[HstnnError] = HstnnError) -> dict[str, tuple[str | None, int]]:
    """Return every class below `error`, with its parent and exit code, without what a package makes for itself."""
    parent = error.__base__.__name__ if error is not HstnnError and error.__base__ else None
    found: dict[str, tuple[str | None, int]] = {error.__name__: (parent, error.exit_code)}
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= tree(child)
    return found


def drawn() -> dict[str, tuple[str | None, int]]:
    """Return what the docstring draws, read by its indentation."""
    found: dict[str, tuple[str | None, int]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─\s]*)([A-Z]\w+)\s+(\d+)\b", line):
            depth = len(match[1])
            above = [(d, name) for d, name in above if d < depth]
            found[match[2]] = (above[-1][1] if above else None, int(match[3]))
            above.append((depth, match[2]))
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn() == tree()
    assert len(tree()) > 12


def test_every_exit_code_is_one_a_shell_can_see_and_differs_from_those_of_others() -> None:
    codes = [code for name, (_, code) in tree().items() if name != "RecipeError"]  # a RecipeError is a usage error
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 and code != 70 for code in codes)


def test_an_error_carries_its_message_and_hint() -> None:
    error = HstnnError("what", "how")
    assert (str(error), error.message, error.hint) == ("what", "what", "how")
    assert HstnnError("what").hint == ""


@pytest.mark.parametrize(("given", "hint"), [("digit", "did you mean 'digits'?"), ("q", "known: digits, smnist")])
def test_the_nearest_name_is_suggested_or_all_are_listed(given: str, hint: str) -> None:
    assert nearest(given, ["smnist", "digits"]) == hint


@given(st.text(), st.lists(st.text()))
def test_any_name_gets_a_hint(name: str, known: list[str]) -> None:
    assert nearest(name, known)
