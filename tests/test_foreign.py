"""Foreign files: whatever their parsers raise is one error of ours, and their text does nothing on a screen."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from hstnn_deploy import foreign
from hstnn_deploy.errors import BundleError, DataError, HstnnError, OutOfMemoryError, UsageError, out_of_memory
from hstnn_deploy.foreign import brief, json_value, one_line, reading, rule_broken, visible


class Panic(BaseException):
    """As extensions in Rust raise: no Exception."""


@pytest.mark.parametrize(
    "error",
    [ValueError("why"), KeyError("why"), RecursionError("why"), SystemError("why"), Panic("why"), OSError("why")],
)
def test_whatever_a_parser_raises_is_one_error(error: BaseException) -> None:
    with pytest.raises(DataError) as refused, reading("a.x", "an X file"):
        raise error
    assert refused.value.message.startswith("a.x is damaged, or not an X file: ")
    assert "why" in refused.value.message
    assert refused.value.__cause__ is error


def test_what_it_said_may_be_left_out_and_the_error_may_be_another() -> None:
    with pytest.raises(BundleError) as refused, reading("a.x", "an X file", BundleError, "do this", says=False):
        raise ValueError("why")
    assert (refused.value.message, refused.value.hint) == ("a.x is damaged, or not an X file", "do this")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), UsageError("ours")])
def test_ctrl_c_ends_and_errors_of_ours_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, reading("a.x", "an X file"):
        raise error
    assert passed.value is error


def test_the_systems_own_words_are_kept() -> None:
    said = r"^cannot read /none/at/all: No such file or directory$"
    with pytest.raises(DataError, match=said), reading("/none/at/all", "a file"):
        Path("/none/at/all").read_bytes()


def test_no_memory_is_no_damage_but_brackets_without_end_are() -> None:
    with pytest.raises(OutOfMemoryError), reading("a.x", "an X file"):
        raise MemoryError("Unable to allocate 3 TB")
    with pytest.raises(DataError), reading("a.x", "an X file"):
        raise MemoryError("Parser stack overflowed - Python source too complex to compile")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 3 GiB",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9",
        "std::bad_alloc",
        "bad allocation",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "Unable to allocate 29.1 TiB for an array",
        "Storage size calculation overflowed with sizes=[9, 9]",
    ],
)
def test_every_library_s_way_of_saying_that_memory_ran_out_is_known(said: str) -> None:
    found = out_of_memory(RuntimeError(said))
    assert found is not None
    assert found.exit_code == 10
    assert out_of_memory(RuntimeError("a shape differs")) is None


@given(st.text())
def test_shown_text_moves_no_cursor_and_is_otherwise_the_same(text: str) -> None:
    shown = visible(text)
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)
    assert not any(0x7F <= ord(letter) <= 0x9F for letter in shown)
    assert visible(shown) == shown
    assert "\n" not in one_line(text)
    plain = "".join(letter for letter in text if letter.isprintable())
    assert visible(plain) == plain


def test_escape_sequences_are_gone_in_every_spelling() -> None:
    assert visible("\x1b[31mred\x1b]0;title\x07 \x9b2J\rover\u202egnp.exe") == "[31mred]0;title 2Joverg" + "np.exe"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_json_for_a_screen_means_the_same(value: dict[str, object]) -> None:
    text = foreign.escaped(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert visible(text) == text


def test_a_value_is_shown_in_bounded_time_however_large_it_is() -> None:
    nested: list[object] = ["x"] * 10
    for _ in range(40):
        nested = [nested] * 10  # 10^41 values, were they written out
    assert len(brief(nested)) < 10_000
    assert len(brief("x" * 10**6)) < 100
    assert "bits" in brief(1 << 100_000)
    assert brief("it") == "'it'"


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "9" * 25, "9" * 5000, "[" * 100_000, "", "{", "\ud800"])
def test_what_json_could_not_have_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        json_value(text)
    assert not isinstance(refused.value, HstnnError)


def test_json_is_read_as_json() -> None:
    value = {"a": [1, -2.5, None, True, "ü"], "b": 2**63}
    assert json_value(json.dumps(value)) == value


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert foreign.read_bytes(path, 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        foreign.read_bytes(path, 4)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        foreign.read_bytes(Path("/dev/zero"), 100)  # it has no end


def test_a_zip_whose_members_unpack_to_more_than_it_holds_is_refused() -> None:
    for method, fits in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            archive.writestr("a", bytes(1_000_000))
        with zipfile.ZipFile(content) as archive:
            if fits:
                foreign.check_stored(archive, len(content.getvalue()))
                with pytest.raises(ValueError, match="overlap"):
                    foreign.check_stored(archive, 1000)
            else:
                with pytest.raises(ValueError, match="compressed"):
                    foreign.check_stored(archive, len(content.getvalue()))


def test_what_an_extension_prints_by_itself_is_silenced(capfd: pytest.CaptureFixture[str]) -> None:
    with foreign.silenced():
        os.write(2, b"thread panicked at ...")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


class _Options(BaseModel):
    count: int = 1
    rate: float = Field(default=0.5, gt=0, le=1)
    how: Literal["mean", "max"] = "mean"
    on: bool = False
    names: list[str] = []
    deep: dict[str, int] = {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": "many"}, "it must be an integer"),
        ({"count": 1.5}, "it must be an integer"),
        ({"rate": "half"}, "it must be a number"),
        ({"rate": 0}, "it must be greater than 0"),
        ({"rate": 2}, "it must be less than or equal to 1"),
        ({"how": "sum"}, "it must be 'mean' or 'max'"),
        ({"on": "perhaps"}, "it must be true or false"),
        ({"names": 3}, "it must be a list"),
        ({"names": [3]}, "it must be text"),
        ({"deep": 3}, "it must be a mapping of keys to values"),
    ],
)
def test_a_broken_rule_is_said_in_plain_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as broken:
        _Options.model_validate(options)
    assert rule_broken(broken.value.errors()[0]["msg"]) == said
