"""YAML as plain data: each key once, no type but plain ones, and bounded whatever it says."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy import yaml_text
from hstnn_deploy.errors import RecipeError, UsageError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_is_read(value: Any) -> None:
    assert yaml_text.parse(yaml_text.dump(value)) == value


def test_comments_aliases_and_merges_are_yaml_too() -> None:
    assert yaml_text.parse("a: &a {x: 1} # one\nb: *a\nc: {<<: *a, y: 2}") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }
    assert yaml_text.parse("") is None


def test_a_date_is_text() -> None:
    assert yaml_text.parse("[2001-01-01, 2001-99-99]") == ["2001-01-01", "2001-99-99"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' appears twice in line 3"),
        ("x: {a: 1, a: 2}", "the key 'a' appears twice"),
        ("a: 0x_", "'0x_' is not a valid int"),
        ("a: !!float x", "'x' is not a valid float"),
        ("a: !!int x", "'x' is not a valid int"),
        ("a: !!bool x", "'x' is not a valid bool"),
        ("a: !!timestamp x", "timestamp is not plain data"),
        ("a: !!set {a}", "set is not plain data"),
        ("a: !!binary x", "binary is not plain data"),
        ("a: !!python/object/apply:os.system [x]", "os.system is not plain data"),
        ("a: !mine x", "mine is not plain data"),
        ("a: " + "[" * 900, "nested more than 50 deep"),
        ("- " * 900, "nested more than 50 deep"),
        ("a: &a [*a]", "an alias contains itself"),
        ("a: *b", "undefined alias"),
        ("? [a]\n: 1", "a key is a list or a section"),
        (f"a: {2**300}", "more than 256 bits"),
        ("a: 0x" + "f" * 6000, "more than 256 bits"),
        ("a: " + "9" * 6000, "not a valid int"),
        ("a: \x1b[31m", "special characters"),
        ("a: [", "line 1"),
        ("- 1\n---\n- 2", "single document"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_place(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        yaml_text.parse(text)
    assert what in str(refused.value)
    assert len(str(refused.value)) < 400


def test_aliases_that_grow_without_end_are_refused_before_anything_is_made_of_them() -> None:
    lines = ["k0: &k0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]" for n in range(1, 40)]
    with pytest.raises(ValueError, match="its aliases expand to more than"):
        yaml_text.parse("\n".join(lines))
    lines = ["k0: &k0 [x]", *(f"k{n}: &k{n} [*k{n - 1}]" for n in range(1, 100))]
    with pytest.raises(ValueError, match="its aliases expand to more than"):
        yaml_text.parse("\n".join(lines))


@pytest.mark.parametrize("text", ["- a\n" * 60_000, "[" + "[], " * 60_000 + "]"])
def test_more_values_than_anybody_writes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than 50000 values"):
        yaml_text.parse(text)


@given(st.text(st.sampled_from("ab01 \n-:[]{}?&*!|>'\"#%,<.\t\\_xe~"), max_size=60))
def test_any_text_is_plain_data_or_refused_in_one_line(text: str) -> None:
    said = ""
    try:
        yaml_text.parse(text)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


def test_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for content, what in (
        (b"a: [", "is not YAML"),
        (b"\xff", "is not YAML: it is not text in UTF-8$"),
        (b"#" * (2**20 + 1), "larger than"),
    ):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=what) as refused:
            yaml_text.read(path, RecipeError)
        assert refused.value.message.startswith(str(path))
    with pytest.raises(UsageError, match="No such file") as missing:
        yaml_text.read(tmp_path / "none", UsageError, "a hint")
    assert missing.value.hint == "a hint"
