"""Kinds of frames that a recipe or a manifest gives wrongly are refused, with the key."""

from typing import Any

import pytest

from hstnn_deploy.data.preprocessing import parse
from hstnn_deploy.errors import BundleError, RecipeError
from hstnn_deploy.recipe.load import load_recipe

REFUSED = [
    ("digit-events", ["data.frames={by: nummer, number: 3}"], "data.frames.by is 'nummer'", "did you mean 'number'?"),
    (
        "digit-events",
        ["data.frames={number: 3}"],
        "key 'data.frames.by' is missing",
        "bins, count, number, parts, time",
    ),
    ("digit-events", ["data.frames={by: number, number: 0}"], "data.frames.number is 0", ""),
    ("digit-events", ["data.frames={by: bins, bins: 3, pick: 1}"], "data.frames.pick is 1", ""),
    ("digit-events", ["data.frames={by: bins, bins: 3, steps: 1}"], "unknown key 'data.frames.steps'", "bins"),
    ("digit-events", ["data.frames={by: count, count: 3}"], "key 'data.frames.steps' is missing", ""),
    ("digit-events", ["data.frames={by: time, time: 3, from: 0}"], "data.frames.from is 0", ""),
    (
        "digit-events",
        ["data.frames={by: time, time: 3, begin: first-event}"],
        "unknown key 'data.frames.begin'",
        "from",
    ),
    ("leaky-dvs", ["data.steps=3"], "data.steps is 3, but data.frames already defines", "data.steps=null"),
    ("leaky-dvs", ["data.crop=random"], "data.crop is 'random', but data.frames already defines", "data.crop=null"),
    (
        "shd",
        ["data.frames={by: number, number: 3}"],
        "data.frame_time is 14000, but data.frames already defines",
        "frame_time=null",
    ),
]


@pytest.mark.parametrize(("name", "changes", "message", "hint"), REFUSED)
def test_what_cannot_be_is_refused_with_its_key(name: str, changes: list[str], message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=message) as refused:
        load_recipe(name, changes)
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message


def test_keys_of_fixed_times_that_are_null_are_not_given() -> None:
    nothing = ["data.frame_time=null", "data.steps=null", "data.crop=null"]
    config: Any = load_recipe("dvs-gesture", ["data.frames={by: number, number: 3}", *nothing]).data
    assert (config.framing.steps, config.framing.random) == (3, False)


@pytest.mark.parametrize(
    "change", [{"frames": None}, {"frame_time": 3, "steps": 2}, {"frames": {"by": "number"}}, {"frames": {"by": "x"}}]
)
def test_a_manifest_that_says_nothing_or_two_things_is_refused(change: dict[str, Any]) -> None:
    plain = {"kind": "frames", "sensor": [4, 4, 2], "transforms": [], "binary": False}
    plain |= {"frames": {"by": "number", "number": 3}}
    parse(plain)
    with pytest.raises(BundleError):
        parse(plain | change)


# ------------------------------------------------------------------------------------------------------ the whole way
