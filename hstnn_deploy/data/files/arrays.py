"""Arrays of .npy and .npz files from anywhere: no size that they claim costs memory before it is checked.

A large .npy file is mapped, not read. A member of a .npz file is unpacked in pieces, if the size that it states is
within a limit: a large one into a temporary file, which is mapped. No file runs code: arrays of Python objects are
refused. Needs numpy alone.
"""

import ast
import io
import math
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

Array = NDArray[Any]

ARRAY_LIMIT = 2 * 2**30
"""Bytes of an array that is read or unpacked, unless the caller says otherwise."""

_MAPPED = 64 * 2**20
"""Bytes from which on an array is mapped: what is run in chunks is read in chunks."""
_PIECE = 2**20
_HEADER = 10_000
"""Bytes of a header, as numpy limits it."""
_NPY, _ZIP = b"\x93NUMPY", b"PK"
_SAVE_AGAIN = "copy it again, or write it with numpy.save"


class _Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int
    """Bytes before its values."""

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_array(start: bytes) -> bool:
    """Return whether a file that begins so is a .npy or .npz file."""
    return start.startswith((_NPY, _ZIP))


def read_array(source: Path | bytes, name: str = "", limit: int | None = None, mapped: bool = True) -> Array:
    """Return the array of a .npy file, or of a .npz file the one called x or the only one.

    Args:
        source: the file, or its content.
        name: what it is called in messages; empty: its path.
        limit: bytes that the array may have where it is read or unpacked; None: `ARRAY_LIMIT`. A .npy file of 64 MiB or
            more is mapped, and may have any.
        mapped: whether such a file is mapped. One that is not is read, so that it may change while it is.

    Returns:
        The array. A large one may be written to no more than a `numpy.memmap` of mode r.

    Raises:
        DataError: it is missing, damaged, too large, or holds Python objects or several arrays but no x.
    """
    name = name or str(source)
    with _file(source, name) as file:
        if file.read(len(_ZIP)) != _ZIP:
            return _npy(source, file, name, limit, mapped)
        with _sound(name), zipfile.ZipFile(file) as archive:
            members = _members(archive, name)
            if not members or (len(members) > 1 and "x" not in members):
                held = f"several arrays ({', '.join(list(members)[:9])})" if members else "no array"
                raise DataError(f"{name} contains {held}", "name the one to run x")
            return _member(archive, members.get("x") or next(iter(members.values())), name, limit)


def read_arrays(
    source: Path | bytes, limits: Mapping[str, int], besides: Collection[str] | None = (), name: str = ""
) -> dict[str, Array]:
    """Return arrays of a .npz file by name: of those named in `limits` each that is there.

    Args:
        source: the file, or its content.
        limits: the names, and how many bytes each may have.
        besides: the names of others that may be there; None: any.
        name: what it is called in messages; empty: its path.

    Raises:
        DataError: it is missing or damaged, holds an array under another name, or a larger one.
    """
    name = name or str(source)
    with _file(source, name) as file, _sound(name), zipfile.ZipFile(file) as archive:
        members = _members(archive, name)
        for each in members:
            if besides is not None and each not in limits and each not in besides:
                raise DataError(f"{name} contains {each!r}, which does not belong there")
        return {
            each: _member(archive, members[each], f"{name}: {each}", limit)
            for each, limit in limits.items()
            if each in members
        }


def read_bounded(file: IO[bytes], name: str, limit: int | None = None, start: bytes = b"") -> bytes:
    """Return what is left of a stream, after what was read of it before.

    Raises:
        DataError: it is longer than the limit in bytes (None: `ARRAY_LIMIT`).
    """
    limit = ARRAY_LIMIT if limit is None else limit
    content = bytearray(start)
    while piece := file.read(_PIECE):
        content += piece
        if len(content) > limit:
            raise DataError(f"{name} is longer than the limit of {shown_bytes(limit)}", _RAISE)
    return bytes(content)


def shown_bytes(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count} bytes"


_RAISE = (
    "raise the limit (--max-array GB), or save it with numpy.save as a .npy file, which hstnn maps instead of reading"
)


@contextmanager
def _file(source: Path | bytes, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}") from error
    with file:
        yield file


def _sound(name: str) -> AbstractContextManager[None]:
    return reading(name, "a file of plain numbers", hint=_SAVE_AGAIN)


def _npy(source: Path | bytes, file: IO[bytes], name: str, limit: int | None, mapped: bool) -> Array:
    with _sound(name):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = _header(file, name)
        _fits(header, size, name)
        if mapped and isinstance(source, Path) and header.bytes >= _MAPPED:
            order = "F" if header.fortran else "C"
            return np.memmap(source, header.dtype, "r", header.start, header.shape, order)  # type: ignore[call-overload, no-any-return]
        return _filled(header, file, name, limit)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        if (key := info.filename.removesuffix(".npy")) in found:
            raise DataError(f"{name} contains two arrays called {key}", _SAVE_AGAIN)
        found[key] = info
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limit: int | None) -> Array:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name} is compressed in a way that numpy does not write", "write it with numpy.savez")
    with _sound(name), archive.open(info) as file:
        header = _header(file, name)
        _fits(header, info.file_size, name)
        values = _filled(header, file, name, limit)
        file.read(1)  # at its end the checksum is compared
        return values


def _header(file: IO[bytes], name: str) -> _Header:
    start = file.read(8)
    version = start[6] if len(start) == 8 and start.startswith(_NPY) else 0
    if version not in (1, 2, 3):
        raise DataError(f"{name} is damaged, or not a file of plain numbers", _SAVE_AGAIN)
    width = 2 if version == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    text = file.read(length) if length <= _HEADER else b""
    if not text or len(text) < length:
        raise DataError(f"{name} is damaged, or not a file of plain numbers", _SAVE_AGAIN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd in a damaged header
            facts = ast.literal_eval(text.decode("utf-8" if version == 3 else "latin-1").strip())
        shape = facts["shape"]
        dtype = np.lib.format.descr_to_dtype(facts["descr"])
        plain = isinstance(shape, tuple) and all(type(size) is int and 0 <= size < 2**62 for size in shape)
        if not plain or not isinstance(facts["fortran_order"], bool) or len(shape) > 32:
            raise ValueError("its header is not one of numpy's")
    except Exception as error:  # the parser's errors share no base; it refuses deep nesting with a MemoryError
        raise DataError(f"{name} is damaged: its header is not one of numpy's", _SAVE_AGAIN) from error
    if dtype.hasobject:
        raise DataError(f"{name} contains Python objects, which could run code", "save plain numbers")
    if dtype.itemsize == 0:
        raise DataError(f"{name} has type {dtype}, whose items have no bytes", _SAVE_AGAIN)
    return _Header(shape, dtype, facts["fortran_order"], 8 + width + length)


def _fits(header: _Header, size: int, name: str) -> None:
    """Refuse an array whose file is shorter or longer than the array."""
    there, stated = size - header.start, header.bytes
    if there < stated:
        raise DataError(
            f"{name} is truncated: its array has {stated} bytes, the file has {max(there, 0)} of them", _SAVE_AGAIN
        )
    if there > stated:
        raise DataError(f"{name} contains {there - stated} more bytes than its array has", "save one array to a file")


def _filled(header: _Header, file: IO[bytes], name: str, limit: int | None) -> Array:
    """Read an array's values in pieces."""
    limit = ARRAY_LIMIT if limit is None else limit
    if header.bytes > limit:
        what = f"an array of {shown_bytes(header.bytes)} ({list(header.shape)}, {header.dtype})"
        raise DataError(f"{name} contains {what}; at most {shown_bytes(limit)} are read", _RAISE)
    values: Array
    if header.bytes < _MAPPED:
        values = np.frombuffer(bytearray().join(_pieces(file, header.bytes, name)), np.uint8)
    else:
        # A file without a name: nothing of it is left, whatever becomes of this process.
        with tempfile.TemporaryFile() as spool:
            for piece in _pieces(file, header.bytes, name):
                spool.write(piece)
            spool.flush()
            values = np.memmap(spool, np.uint8, "r")
    return values.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _pieces(file: IO[bytes], count: int, name: str) -> Iterator[bytes]:
    while count:
        piece = file.read(min(_PIECE, count))
        if not piece:
            raise DataError(f"{name} is damaged, or not a file of plain numbers", _SAVE_AGAIN)
        count -= len(piece)
        yield piece
