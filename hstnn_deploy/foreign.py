"""Files from elsewhere: whatever a parser raises becomes one error of ours, and no claim in them is trusted unchecked.

    with reading(path, "a .npy file"):
        rows = np.load(path, allow_pickle=False)

Standard library only: standalone bundles include this module.
"""

import json
import math
import os
import re
import reprlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hstnn_deploy.errors import DataError, HstnnError, OutOfMemoryError, out_of_memory

AGAIN = "copy or download it again"

TEXT_LIMIT = 2**20
"""Bytes of a recipe, sweep file, matrix or status: far more than anybody writes by hand."""

NO_TEXT = "it is not text in UTF-8"

_WORDS = 200
"""The most characters of a parser's message that an error repeats."""


@contextmanager
def reading(
    name: Path | str, what: str, error: type[HstnnError] = DataError, hint: str = AGAIN, *, says: bool = True
) -> Iterator[None]:
    """Turn whatever is raised while a foreign file is parsed into one error of ours, in one line.

    Our own errors, Ctrl-C and SystemExit pass through. Everything else is caught, including panics of extensions
    that are not an `Exception`.

    Args:
        name: the file.
        what: what it should be, such as "a .npy file"; "" where its name says it.
        error: which error is raised.
        hint: its hint.
        says: whether the error repeats what the parser said.

    Raises:
        HstnnError: `error`; or an OutOfMemoryError where there is not enough memory.
    """
    try:
        yield
    except (HstnnError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except OSError as found:
        # A parser's own OSError has no number: h5py, gzip and PIL raise such.
        if found.errno and found.strerror:
            raise error(f"cannot read {name}: {one_line(found.strerror)}", hint) from found
        raise _damaged(name, what, error, hint, found, says) from found
    except BaseException as found:
        raise _damaged(name, what, error, hint, found, says) from found


def _damaged(
    name: Path | str, what: str, error: type[HstnnError], hint: str, found: BaseException, says: bool
) -> HstnnError:
    # Python's own parser, with which numpy reads headers, reports this for brackets that are nested too deep.
    if "too complex" not in str(found) and (full := out_of_memory(found)):
        return OutOfMemoryError(f"{name}: {full.message}", "the file, or a size that it claims, is too large")
    reason = one_line(_said(found)) or type(found).__name__
    return error(f"{name} is damaged" + (f", or not {what}" if what else "") + (f": {reason}" if says else ""), hint)


def _said(found: BaseException) -> str:
    # pydantic's message has several lines; the first mistake is enough.
    if mistakes := getattr(found, "errors", None):
        first = mistakes()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return NO_TEXT if isinstance(found, UnicodeDecodeError) else str(found)


def one_line(text: str) -> str:
    """Return text as one line of visible characters, cut if it is long."""
    line = " ".join(visible(text).split())
    return line if len(line) <= _WORDS else line[: _WORDS - 1] + "…"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if it has none."""
    return one_line(str(error).lstrip().partition("\n")[0]) or type(error).__name__


_TURNS = "\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""The characters that change the direction of text."""
_BEYOND = re.compile(f"[\x7f-\x9f{_TURNS}]")
_OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNS}]")


def rule_broken(message: str) -> str:
    """Return the rule that a value breaks, from pydantic's message about it: "it must be an integer"."""
    said = message.removeprefix("Value error, ")
    if found := _A_VALID.match(said):
        said = f"it must be {_IN_WORDS.get(found[1], found[1])}"
    return re.sub("^Input should be ", "it must be ", said)


_A_VALID = re.compile(r"Input should be a valid (\w+)\b(?! or instance)")
_IN_WORDS = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dictionary": "a mapping of keys to values",
}


def visible(text: str) -> str:
    """Return text without what a terminal executes instead of showing: escape sequences and changes of direction."""
    return _OBEYED.sub("", text)


def escaped(json_text: str) -> str:
    """Return JSON text with terminal control characters written as \\u…: the same value, harmless on a screen."""
    return _BEYOND.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 3, 6, 6, 6

    def repr_int(self, x: int, level: int) -> str:
        """Return a whole number; one that Python does not write in decimals by its size."""
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a whole number of {x.bit_length()} bits"


brief = _Brief().repr
"""Returns a value as an error shows it, in bounded time and length however large or nested it is."""


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger.
    """
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    return raw


def json_value(text: str | bytes) -> Any:
    """Return the value of strictly valid JSON text: no NaN, no infinity, no number beyond 64 bits.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _whole(text: str) -> int:
    # Python refuses to read thousands of digits, with a long message.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the integer {text[:40]} is too large")
    return int(text)


_DEPTH = 32
"""How deep plain data may be nested."""
_VALUES = 2**20
"""How many values plain data may have: a pickle can repeat a list in a list without end."""


def check_plain(value: Any, place: str) -> None:
    """Refuse what is not plain data as JSON holds it. A tuple counts as a list.

    Args:
        value: what is checked.
        place: where it was found; the error names it, with the dotted keys to what is wrong.

    Raises:
        ValueError: a type that JSON does not have, a key that is not text, NaN, an infinity, a number beyond 64 bits,
            letters that no file can hold, nested too deep, or too many values.
    """
    left, found = [(place, value, 0)], 0
    while left:
        place, value, depth = left.pop()
        found += 1
        if depth > _DEPTH or found > _VALUES:
            raise ValueError(f"{one_line(place)} is nested too deep, or too large")
        if type(value) is dict:
            if any(type(key) is not str or not _encodable(key) for key in value):
                raise ValueError(f"{one_line(place)} has a key that is not text")
            left += [(f"{place}.{key}", below, depth + 1) for key, below in value.items()]
        elif type(value) in (list, tuple):
            left += [(f"{place}.{number}", below, depth + 1) for number, below in enumerate(value)]
        elif wrong := _not_plain(value):
            raise ValueError(f"{one_line(place)} is {wrong}")


def _not_plain(value: Any) -> str:
    """Return what is wrong with a single value of plain data; "" where nothing is."""
    if value is None or type(value) is bool:
        return ""
    if type(value) is float:
        return "" if math.isfinite(value) else f"{value}, not a finite number"
    if type(value) is int:
        return "" if -(2**63) <= value < 2**64 else "an integer beyond 64 bits"
    if type(value) is str:
        return "" if _encodable(value) else "text that UTF-8 cannot encode"
    return f"of type {type(value).__name__}, not plain data"


def _encodable(text: str) -> bool:
    """Whether text has no surrogates, which UTF-8 cannot encode."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_stored(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse a zip archive whose members unpack to more than the file's size.

    Args:
        archive: the archive; its members must be stored as they are.
        size: bytes of its file.

    Raises:
        ValueError: a member is compressed, or they overlap.
    """
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"its member {brief(member.filename)} is compressed")
    if sum(member.file_size for member in archive.infolist()) > size:
        raise ValueError("its members overlap")


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress what extensions write to standard error themselves, such as the report of a panic."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
