"""What x was in training, and what of a user's x is refused for it: from Python, whole, in chunks and step by step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.errors import DataError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.runtime.ranges import ANY, Range, trained_range
from hstnn_deploy.export.runtime.session import Session
from tests.export.cases import Case

PIXELS = trained_range(Pixels(height=8, width=8, colours=1, white=16).model_dump())


def frames(binary: bool = False) -> Range:
    return trained_range(
        Frames(sensor=(16, 16, 2), transforms=[], frame_time=3000, steps=12, binary=binary).model_dump()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    cases = {"images": Case("sequence", "ffs"), "events": Case("dvs", "ffs")}
    return {
        name: export_bundle(case.checkpoint(folder / f"{name}.pt"), folder / name, verify=False).folder
        for name, case in cases.items()
    }


RANGES: list[tuple[Range, float, bool]] = [
    (PIXELS, 0, True),
    (PIXELS, 1, True),
    (PIXELS, float(np.nextafter(np.float32(1), np.float32(2))), True),
    (PIXELS, 0.3, True),
    (PIXELS, 1.001, False),
    (PIXELS, -0.001, False),
    (PIXELS, 255, False),
    (frames(), 0, True),
    (frames(), 300, True),
    (frames(), 0.5, False),
    (frames(), -1, False),
    (frames(binary=True), 1, True),
    (frames(binary=True), 2, False),
    (ANY, 1e30, True),
    (ANY, -1e30, True),
    *((each, value, False) for each in (PIXELS, frames(), ANY) for value in (np.nan, np.inf, -np.inf)),
]


@pytest.mark.parametrize(("trained", "value", "fits"), RANGES)
def test_one_value_that_training_cannot_have_given_is_found_wherever_it_is(
    trained: Range, value: float, fits: bool
) -> None:
    for place in ((0, 0, 0), (2, 1, 4), (3, 1, 6)):
        x = np.zeros((4, 2, 7), np.float32)
        x[place] = value
        if fits:
            trained.check(x)
            continue
        with pytest.raises(DataError, match=r"x contains .* at \[") as found:
            trained.check(x, first=100)
        assert str([place[0] + 100, *place[1:]]) in found.value.message


WRONG: list[tuple[str, Any, str, str]] = [
    ("images", np.full((8, 2, 8), 255, np.uint8), "x contains 255 at", "raw pixels"),
    ("images", np.full((8, 2, 8), 16.0), "x contains 16 at", "divide"),
    ("images", np.linspace(-1, 1, 128).reshape(8, 2, 8), "x contains -1 at", "any_range=True"),
    (
        "images",
        np.zeros((2, 8, 8)),
        "x has 2 steps of 8 sequences; the network was trained on 8 steps",
        "swapaxes(0, 1)",
    ),
    (
        "events",
        np.zeros((3, 12, 2, 16, 16)),
        "x has 3 steps of 12 sequences; the network was trained on 12",
        "swapaxes",
    ),
    ("events", np.full((12, 1, 2, 16, 16), -1), "x contains -1 at", "give frames of event counts"),
    ("events", np.full((12, 1, 2, 16, 16), 0.5), "x contains 0.5 at .*whole numbers", "give frames of event counts"),
    ("events", np.zeros((12, 1, 16, 16, 2)), "x has shape", ""),
    ("images", np.ma.masked_greater(np.zeros((8, 2, 8)), 1), "x is a masked array", "filled"),
    ("images", np.full((8, 2, 8), None), "x has type object", ""),
    ("images", np.zeros((8, 2, 8), "M8[us]"), "x has type datetime64", ""),
    ("images", np.zeros((8, 2, 8), [("a", "f4")]), "x has type", ""),
]


@pytest.mark.parametrize(("name", "x", "message", "hint"), WRONG)
def test_a_session_refuses_what_training_cannot_have_given(
    made: dict[str, Path], name: str, x: Any, message: str, hint: str
) -> None:
    with pytest.raises(DataError, match=message) as found:
        Session(made[name]).run(x)
    assert hint in found.value.hint


def test_steps_and_chunks_are_held_to_the_same(made: dict[str, Path]) -> None:
    stream = Session(made["images"]).stream(2)
    before = stream.state
    for wrong in (np.full((2, 8), 255, np.uint8), np.full((2, 8), 2, np.float32), np.full((2, 8), np.nan, np.float32)):
        with pytest.raises(DataError, match="x contains"):
            stream.step(wrong)
        with pytest.raises(DataError, match=r"x contains .* at \[600, 0, 0\]"):
            stream.run(np.concatenate([np.zeros((600, 2, 8)), wrong[None]]))
    assert all((stream.state[name] == value).all() for name, value in before.items()), "an error has moved nothing"
    # How many streams there are is known: their chunks may have any length.
    Session(made["images"]).stream(8).run(np.zeros((2, 8, 8)))


def test_who_knows_better_says_so(made: dict[str, Path]) -> None:
    x = np.random.default_rng(0).normal(0, 3, (3, 8, 8)).astype(np.float32)
    session = Session(made["images"], any_range=True)
    stream = session.stream(8)
    for now in x:
        logits = stream.step(now)
    np.testing.assert_allclose(session.run(x), logits, atol=1e-5)
    with pytest.raises(DataError, match="x contains nan"):
        session.run(np.full((8, 1, 8), np.nan))


def test_what_is_unknown_of_the_training_is_not_held_against_x() -> None:
    assert trained_range({}) == trained_range({"kind": "values"}) == trained_range({"kind": "words"}) == ANY
