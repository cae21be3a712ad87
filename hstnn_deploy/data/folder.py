"""Where data sets live on disk, and how their files get there."""

import os
from collections.abc import Iterable
from pathlib import Path

from hstnn_deploy import files
from hstnn_deploy.errors import DataError, RunError

VARIABLE = "HSTNN_DATA"


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
        source = "--data-dir" if given else VARIABLE
        state = "is not a folder" if named.exists() else "does not exist"
        raise DataError(f"the data folder {named} (from {source}) {state}", "create it, or give another")
    return named


def home(name: str, given: Path | None, marks: Iterable[str]) -> Path:
    """Return the folder of a data set's files: the data folder itself where a mark lies in it, else its folder `name`.

    Raises:
        DataError: a data folder that was given or set does not exist.
    """
    folder = data_folder(given)
    return folder if any((folder / mark).exists() for mark in marks) else folder / name


def download(url: str, checksum: str, target: Path) -> None:
    """Fetch a file and check its SHA-256 before it takes its name.

    Raises:
        DataError: there is no network, or what came is not the file.
    """
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    try:
        files.make_folder(target.parent)
        pooch.retrieve(url, known_hash=f"sha256:{checksum}", fname=target.name, path=target.parent)
    except RunError as error:
        raise DataError(error.message, "give a data folder you may write to with --data-dir") from error
    except ValueError as error:
        raise DataError(f"what came from {url} is not the file that was expected (its checksum differs)") from error
    except Exception as error:  # every network library has exceptions of its own
        raise DataError(f"{url} could not be downloaded ({type(error).__name__})") from error
