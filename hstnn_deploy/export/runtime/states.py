"""States in files: written whole or not at all, and read with nothing missing, foreign or of another size.

A .npz file of an array for each state, [B, …], and `about`: JSON that names the format, the network and B.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, read_arrays
from hstnn_deploy.errors import DataError, UsageError

Array = NDArray[Any]

_FORMAT = "hstnn-deploy state"
_ABOUT, _MOST_ABOUT = "about", 2**16
_GIVE = "give states that `Stream.save` wrote, or `hstnn run --save-state`"


class NamedState(NamedTuple):
    """A state of a network, as its bundle's manifest documents it."""

    name: str
    shape: tuple[int, ...]
    """Of one stream."""
    meaning: str
    reset: str
    """When it starts again from zeros: with each `sequence`, or with each `window` of a text as well."""
    dtype: str = "float32"


def write_states(path: Path, network: str, batch: int, states: Mapping[str, Array]) -> None:
    """Write the states of a network's streams.

    Raises:
        UsageError: the file cannot be written.
    """
    about = {"format": _FORMAT, "network": network, "batch": batch}
    content = io.BytesIO()
    arrays: dict[str, Any] = {_ABOUT: np.array(json.dumps(about)), **states}
    np.savez(content, **arrays)
    with _beside(path) as temporary:
        temporary.write_bytes(content.getvalue())
        temporary.replace(path)


def read_states(path: Path, network: str, states: Sequence[NamedState], bundle: Path) -> tuple[int, dict[str, Array]]:
    """Return the number of streams B and their states [B, …].

    Args:
        path: the file.
        network: what it must be of.
        states: all that there must be.
        bundle: the bundle of the network, for the message.

    Raises:
        DataError: the file is missing, damaged, lacks a state, or holds those of another network.
    """
    about = _about(path)
    if about.get("network") != network:
        raise DataError(
            f"{path} contains the states of another network than {bundle}", "restore it with its own bundle"
        )
    batch = about.get("batch")
    if type(batch) is not int or batch < 1:
        raise DataError(f"{path} is damaged: the number of its streams is {str(batch)[:40]!r}", _GIVE)
    sizes = {each.name: batch * math.prod(each.shape) * np.dtype(each.dtype).itemsize for each in states}
    found = _arrays(path, {name: min(size, ARRAY_LIMIT) for name, size in sizes.items()}, besides=(_ABOUT,))
    if missing := [name for name in sizes if name not in found]:
        raise DataError(f"{path} lacks the state {missing[0]}", _GIVE)
    for each in states:
        if (shape := found[each.name].shape) != (batch, *each.shape):
            wanted = [batch, *each.shape]
            raise DataError(f"{path}: the state {each.name} has shape {list(shape)}, not {wanted}", _GIVE)
    return batch, found


def _about(path: Path) -> dict[str, Any]:
    found = _arrays(path, {_ABOUT: _MOST_ABOUT}, besides=None).get(_ABOUT)
    try:
        about = json.loads(str(found))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise DataError(f"{path} is damaged, or not a file of states", _GIVE)
    return about


def _arrays(path: Path, limits: Mapping[str, int], besides: tuple[str, ...] | None) -> dict[str, Array]:
    try:
        return read_arrays(path, limits, besides)
    except DataError as error:
        raise DataError(error.message, _GIVE) from error


def fitting(name: str, value: Any, now: Array) -> Array:
    """Return what a state is to be, as an array like the one it is now.

    Raises:
        UsageError: it has another shape or type, or holds NaN or infinities.
    """
    given = np.asarray(value)
    if given.shape != now.shape:
        raise UsageError(
            f"the state {name} has shape {list(given.shape)}; here it is {list(now.shape)} ({now.shape[0]} streams)"
        )
    if given.dtype.kind not in "biuf" or not np.can_cast(given.dtype, now.dtype, "same_kind"):
        raise UsageError(f"the state {name} has type {given.dtype}; here it is {now.dtype}")
    with np.errstate(over="ignore"):
        fitted = np.array(given, now.dtype, order="C")
    if not np.isfinite(fitted).all():
        raise UsageError(f"the state {name} contains NaN or infinities")
    return fitted


def check_writable(path: Path) -> None:
    """Check, before any work is done, that a file of states can be written.

    Raises:
        UsageError: it is not possible.
    """
    with _beside(path) as temporary:
        temporary.touch()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in a file's folder; whatever was not renamed by the end is removed."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", "choose another file")
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "choose another file") from error
    finally:
        # Where a part of the path is a file, looking for it fails as well.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def stream_numbers(streams: Any, batch: int) -> list[int]:
    """Return the numbers of streams, given as one or several.

    Raises:
        UsageError: there are no such streams.
    """
    numbers = np.asarray(streams if isinstance(streams, np.ndarray) or np.ndim(streams) else [streams])
    if numbers.size and (numbers.dtype.kind not in "iu" or numbers.ndim != 1):
        raise UsageError(f"invalid streams {streams!r}", f"give their numbers, 0 to {batch - 1}")
    if wrong := [int(number) for number in numbers if not 0 <= number < batch]:
        raise UsageError(f"there is no stream {wrong[0]}: they are numbered 0 to {batch - 1}")
    return [int(number) for number in numbers]
