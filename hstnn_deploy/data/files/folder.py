"""Where data sets live on disk."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hstnn_deploy import files
from hstnn_deploy.errors import DataError, RunError

VARIABLE = "HSTNN_DATA"

_default: tuple[str, str] | None = None
"""The value that `set_default` gave the variable, and where it came from."""


class Report(Protocol):
    """Told what is under way."""

    def __call__(self, what: str, done: int = 0, total: int | None = None, unit: str = "bytes") -> None:
        """Take note of it: how much is done, and of how much (None: unknown)."""
        ...


def silent(what: str, done: int = 0, total: int | None = None, unit: str = "bytes") -> None:
    """Say nothing; see `Report`."""


def set_default(folder: Path | None, source: str) -> None:
    """Set the data folder of this process and of those that it starts, where the environment names none.

    Args:
        folder: the folder; None takes an earlier default back.
        source: where it was named, for errors.
    """
    global _default
    if is_default():
        del os.environ[VARIABLE]
    _default = None
    if folder is not None and not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(folder)
        _default = str(folder), source


def is_default() -> bool:
    """Whether the environment names what `set_default` put there."""
    return _default is not None and os.environ.get(VARIABLE) == _default[0]


def data_folder(given: Path | None = None) -> Path:
    """Return the data folder: the one given, else the environment's `HSTNN_DATA`, else the user's cache folder.

    Raises:
        DataError: a folder that was given or set does not exist.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        from platformdirs import user_cache_path

        return user_cache_path("hstnn-deploy") / "data"
    if not named.is_dir():
        source = "--data-dir" if given else _default[1] if _default and is_default() else VARIABLE
        state = "is not a folder" if named.exists() else "does not exist"
        raise DataError(f"the data folder {named} (from {source}) {state}", "create it, or give another")
    return named


def find(given: Path | None, names: Sequence[str], holds: Callable[[Path], object]) -> Path:
    """Return where a data set lies: the data folder itself, or the first of its folders `names` that holds it.

    Where none does, it is the first of `names`: that is where its files should go.

    Raises:
        DataError: a data folder that was given or set does not exist.
    """
    folder = data_folder(given)
    places = [folder, *(folder / name for name in names)]
    return next((place for place in places if holds(place)), places[1])


def make_home(folder: Path) -> Path:
    """Create a data set's folder.

    Raises:
        DataError: it cannot be created or written to.
    """
    try:
        return files.make_folder(folder)
    except RunError as error:
        raise unwritable(error) from error


def unwritable(error: RunError) -> DataError:
    """Say of a data folder what `files` says of a run folder."""
    return DataError(error.message, error.hint.replace("--out", "--data-dir"))
