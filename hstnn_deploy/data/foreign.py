"""One door for parsers that are not ours: whatever they raise on a damaged file becomes one line of ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hstnn_deploy.errors import DataError, HstnnError

AGAIN = "copy or download it again"


@contextmanager
def parsing(path: Path | str, form: str) -> Iterator[None]:
    """Turn what a parser raises while it reads `path` into a `DataError`, panics of Rust packages included.

    Args:
        path: the file, for the message.
        form: what it should be, such as "a .npy file".

    Raises:
        DataError: it cannot be read, is damaged, or claims more than memory holds.
    """
    try:
        yield
    except (HstnnError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError as error:
        raise DataError(f"{path} claims to hold more than fits into memory", AGAIN) from error
    except OSError as error:
        if error.errno and error.strerror:
            hint = "is the path right?" if isinstance(error, FileNotFoundError) else AGAIN
            raise DataError(f"{path} cannot be read: {one_line(error.strerror)}", hint) from error
        raise DataError(f"{path} is truncated or not {form}: {one_line(error)}", AGAIN) from error
    except BaseException as error:  # a panic of pyo3 is no Exception
        raise DataError(f"{path} is truncated or not {form}: {one_line(error)}", AGAIN) from error


def one_line(error: BaseException | str) -> str:
    """Return what an error says as one short printable line, or its name where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 200 else f"{text[:199]}…"


@contextmanager
def silence() -> Iterator[None]:
    """Keep what native code writes to the standard error of the process away; a Rust panic prints its stack there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
