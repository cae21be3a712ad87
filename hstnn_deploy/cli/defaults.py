"""Defaults that a user sets: `hstnn.toml`, `[tool.hstnn]` of `pyproject.toml`, and environment variables.

Options take precedence over environment variables, those over the file, and the file over built-in defaults. The file
is the nearest one, from the working directory upwards to the home folder or the root. It contains only plain values.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy.data.files import folder as data
from hstnn_deploy.errors import HstnnError, UsageError, nearest
from hstnn_deploy.foreign import TEXT_LIMIT, brief, one_line, read_bytes, reading

CONFIG = "HSTNN_CONFIG"
"""The environment variable that names the file; empty: no file is read."""

RUNS = "HSTNN_RUNS"
DEVICE = "HSTNN_DEVICE"
THREADS = "HSTNN_THREADS"


class Key(NamedTuple):
    """A setting that has a default."""

    variable: str
    what: str
    built_in: str


KEYS = {
    "data-dir": Key(data.VARIABLE, "data folder", ""),
    "runs": Key(RUNS, "run folders", "runs"),
    "device": Key(DEVICE, "device", "auto"),
    "threads": Key(THREADS, "CPU threads", "one per core (1 in a sweep)"),
}
"""The keys of the file, by name."""


class Setting(NamedTuple):
    """The value that a file sets for a key."""

    value: str | int
    place: str
    """Such as "/home/me/project/hstnn.toml, line 2"."""


_found: dict[str, Setting] = {}


def begin() -> None:
    """Find and read the user's file; the data folder in it also applies to child processes.

    Raises:
        UsageError: the file is not TOML, or contains an unknown key or a wrong value.
    """
    _found.clear()
    path = _file()
    _found.update(read(path) if path else {})
    where = _found.get("data-dir")
    data.set_default(Path(str(where.value)) if where else None, where.place if where else "")


def of(params: Iterable[Any]) -> dict[str, Any]:
    """Return the values that the user's file sets for a command's options, by parameter name."""
    by_variable = {key.variable: _found[name].value for name, key in KEYS.items() if name in _found}
    variables = {each.name: getattr(each, "envvar", None) for each in params}
    return {name: by_variable[variable] for name, variable in variables.items() if variable in by_variable}


def runs_folder() -> Path:
    """Return the default folder of run folders."""
    return Path(str(_value("runs")[0]))


def survey(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Return each default that applies here, and its source.

    Args:
        data_dir: the data folder, if an option named one.
    """
    rows: list[dict[str, Any]] = []
    for name, key in KEYS.items():
        value, came = _value(name)
        if name == "data-dir":
            value, came = (str(data_dir), "--data-dir") if data_dir else (value or _no_data_folder(), came)
        rows.append({"key": name, "what": key.what, "value": value, "from": came})
    return rows


def _no_data_folder() -> str:
    try:
        return str(data.data_folder())
    except HstnnError as error:
        return error.message


def _value(name: str) -> tuple[str | int, str]:
    """Return the default of a key, and its source."""
    key = KEYS[name]
    if (given := os.environ.get(key.variable)) and not (name == "data-dir" and name in _found and data.is_default()):
        return given, key.variable
    if name in _found:
        return _found[name]
    return key.built_in, "built in"


def read(path: Path) -> dict[str, Setting]:
    """Return the settings in a file.

    Raises:
        UsageError: it is not TOML, or contains an unknown key or a wrong value; the message gives the line.
    """
    with reading(path, "TOML", UsageError, ""):
        text = read_bytes(path, TEXT_LIMIT).decode("utf-8")
        table = _table(path, text)
    found = {}
    for key, value in table.items():
        line = _line(text, key, path.name == "pyproject.toml")
        place = f"{path}, line {line}" if line else str(path)
        if key not in KEYS:
            raise UsageError(f"{place}: unknown key {one_line(repr(key))}", nearest(key, KEYS))
        found[key] = Setting(_checked(key, value, place, path.parent), place)
    return found


def _file() -> Path | None:
    """Return the file that applies: the one that is named, or the nearest; None if there is no file."""
    named = os.environ.get(CONFIG)
    if named is not None:
        if named and not Path(named).is_file():
            raise UsageError(f"{CONFIG} is {one_line(named)}, which does not exist", "name a TOML file")
        return Path(named) if named else None
    try:
        here, home = Path.cwd(), Path.home()
    except (OSError, RuntimeError):
        return None
    for folder in (here, *here.parents):
        for path in (folder / "hstnn.toml", folder / "pyproject.toml"):
            if _holds(path):
                return path
        if folder == home:
            break
    return None


def _holds(path: Path) -> bool:
    """Whether a file exists and has our settings; pyproject.toml only with a section [tool.hstnn]."""
    if path.name == "hstnn.toml":
        return path.is_file()
    try:
        text = path.read_bytes() if path.is_file() and path.stat().st_size <= TEXT_LIMIT else b""
    except OSError:
        return False
    return re.search(rb"^\s*\[\s*tool\s*\.\s*hstnn\s*\]", text, re.MULTILINE) is not None


def _table(path: Path, text: str) -> dict[str, Any]:
    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, line = str(error), ""
        if at := re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", reason):
            reason, line = reason[: at.start()], f", line {at[1] or max(1, len(text.splitlines()))}"
        raise UsageError(f"{path}{line} is not TOML: {one_line(reason)}", 'for example device = "cpu"') from error
    for section in ("tool", "hstnn") if path.name == "pyproject.toml" else ():
        table = table.get(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section} is {brief(table)}, not a section", "write [tool.hstnn]")
    return dict(table)


def _line(text: str, key: str, in_section: bool) -> int | None:
    """Return the line number of a key."""
    inside = not in_section
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[", line):
            inside = in_section and re.match(r"\s*\[\s*tool\s*\.\s*hstnn\s*\]", line) is not None
            if not in_section and re.match(rf"\s*\[+\s*[\"']?{re.escape(key)}\b", line):
                return number
        elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return None


def _checked(key: str, value: Any, place: str, folder: Path) -> str | int:
    """Return the value of a key; a path is made absolute.

    Raises:
        UsageError: the value has another type, or is out of range.
    """
    if key == "threads":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise UsageError(f"{place}: threads is {brief(value)}, not a whole number of at least 1", "threads = 1")
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        what = "a device name" if key == "device" else "a path"
        raise UsageError(f"{place}: {key} is {brief(value)}, not {what}", f'{key} = "{KEYS[key].built_in or "data"}"')
    if key == "device":
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise UsageError(f"{place}: device is {brief(value)}", "choose auto, cpu, cuda or cuda:N")
        return value
    try:
        return str(folder / Path(value).expanduser())
    except RuntimeError as error:
        raise UsageError(f"{place}: {key} is {brief(value)}: {one_line(str(error))}", "give the full path") from error
