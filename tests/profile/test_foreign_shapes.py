"""The shapes of foreign networks: given, read, guessed, and refused."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import OutOfMemoryError, UsageError
from hstnn_deploy.profile.foreign.shapes import (
    TYPES,
    Declared,
    Input,
    check_size,
    of_file,
    of_module,
    parse,
    role,
    values,
)


def test_shapes_of_a_module_are_as_they_are_given() -> None:
    found = of_module(parse(["T,B,28; 1,10:int64", "mask=B:bool"]), 4, 7)
    assert [each.plain() for each in found.inputs] == [
        {"name": "", "shape": [7, 4, 28], "type": "float32"},
        {"name": "", "shape": [1, 10], "type": "int64"},
        {"name": "mask", "shape": [4], "type": "bool"},
    ]
    assert (found.batch, found.steps) == (4, 7)


def test_without_a_letter_nothing_says_what_the_batch_is() -> None:
    found = of_module(parse(["8,28"]), None, None)
    assert (found.batch, found.steps) == (0, 0)


def test_axes_of_a_file_are_fixed_given_or_guessed_by_their_names() -> None:
    declared = [Declared("x", ["seq_len", "batch", 28]), Declared("mask", ["batch", "width"], "bool")]
    found = of_file(declared, parse(["mask=1,9"]), None, 5)
    assert [each.shape for each in found.inputs] == [[5, 1, 28], [1, 9]]
    assert (found.batch, found.steps) == (1, 5)
    guessed = of_file(declared[:1], [], None, None)
    assert guessed.notes == [
        "axis 0 of the input x, seq_len, is the time axis by its name: 10 (--steps changes it)",
        "axis 1 of the input x, batch, is the batch axis by its name: 1 (--batch changes it)",
    ]
    assert of_file(declared[:1], [], 3, 5).notes == []


def test_the_name_may_be_left_out_where_there_is_one_input() -> None:
    assert of_file([Declared("x", None)], parse(["2,3"]), None, None).inputs[0].shape == [2, 3]
    assert of_file([Declared("x", [None, 3])], parse(["B,3"]), 8, None).batch == 8


@pytest.mark.parametrize("text", ["x=", "", "="])
def test_a_scalar_has_no_axes(text: str) -> None:
    if text == "x=":
        assert of_file([Declared("x", [])], parse([text]), None, None).inputs[0].shape == []
    elif text == "=":
        with pytest.raises(UsageError, match="has no name"):
            parse([text])
    else:
        assert parse([text]) == []


X = [Declared("x", ["height", 28])]


@pytest.mark.parametrize(
    ("declared", "texts", "batch", "message", "hint"),
    [
        (
            X,
            [],
            None,
            "axis 0 of the input x, height, has no size in the file",
            "give the whole shape: --input x=SIZE,28",
        ),
        (X, ["x=3"], None, "--input 'x=3' has 1 axes, but x in the file has 2", "its shape is [height, 28]"),
        (X, ["x=3,29"], None, "axis 1 of x is 28 in the file, not 29", "its shape is [height, 28]"),
        (X, ["y=3,28"], None, "the file has no input 'y'", "known: x"),
        (X, ["x=3,28:int64"], None, "--input 'x=3,28:int64': the file says that x is float32", "leave"),
        (X, ["x=3,28"], 4, "--batch 4: it is unknown which one is the batch axis", "mark it with B"),
        ([Declared("x", ["N"])], ["x=3"], 4, "--batch 4, and --input makes the axis N 3", "mark the axis with B"),
        ([Declared("x", [None])], [], None, "axis 0 of the input x has no size in the file", "give the whole shape"),
        ([Declared("x", None)], [], None, "the file does not say how many axes its input x has", "give its shape"),
        ([*X, Declared("z", ["height"])], ["x=3,28", "z=4"], None, "the axis height is both 3 and 4", "give it"),
        (
            [*X, Declared("z", [1])],
            ["3,28"],
            None,
            "--input '3,28' does not say which of 2 inputs it is",
            "write --input",
        ),
    ],
)
def test_what_does_not_fit_a_file_is_refused(
    declared: list[Declared], texts: list[str], batch: int | None, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        of_file(declared, parse(texts), batch, None)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("text", ["x=1,a", "0", "-1,2", "1,,2", "1.5", "2:float99", "9" * 30, "١"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--input"):
        parse([text])


@given(st.text(max_size=30))
def test_any_text_is_a_shape_or_one_error(text: str) -> None:
    with suppress(UsageError):
        assert all(size in {"B", "T"} or int(size) > 0 for each in parse([text]) for size in each.axes)


def test_only_names_that_say_so_are_batch_or_time() -> None:
    assert [role(name) for name in ("N", "batch_size", "Batch", "T", "seq-len", "timeSteps")] == list("BBBTTT")
    assert not any(role(name) for name in ("", "height", "unk__12", "channels", "nb", "batches_of_what"))


def test_a_terabyte_is_refused_before_it_is_made() -> None:
    with pytest.raises(OutOfMemoryError, match=r"x .* is 4000 GB; 8 GB of memory is available"):
        check_size([Input("x", [10**6, 10**6]), Input("y", [1])], 8_000_000_000)
    check_size([Input("x", [1000])], 4000)


@pytest.mark.parametrize("kind", TYPES)
def test_values_are_of_their_type_and_in_the_stated_range(kind: str) -> None:
    array = values([Input("x", [5, 40], kind)])["x"]
    assert (array.shape, array.dtype) == ((5, 40), np.dtype(kind))
    assert array.min() >= 0
    if kind.startswith("float"):
        assert array.max() <= 1
        assert len(np.unique(array)) > 50
    else:
        assert set(np.unique(array).tolist()) == {0, 1}
