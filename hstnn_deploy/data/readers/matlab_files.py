"""The numbers in Matlab's .mat files of versions 4 to 7, from the text of their format ("MAT-File Format").

scipy reads these files too, but a damaged one can end the whole process in it: its compiled reader uses numbers out of
the file as places in memory. Nothing here does; what is no array of real numbers, or no struct of one, is passed by.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

Values = dict[str, NDArray[Any]]

_RATIO, _LARGE = 200, 64 * 2**20
"""A file that unpacks to more than this multiple of its size, and to more than this number of bytes, is refused."""
_DEPTH = 8
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_NUMBERS = range(6, 16)
"""Classes of arrays of numbers, double to uint64."""
_COMPLEX = 0x0800
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""numpy's names of the types in which numbers are kept."""
_TYPES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_variables(path: Path) -> Values:
    """Return the arrays of real numbers by their names, those in structs as `STRUCT/FIELD`.

    Raises:
        DataError: it is damaged, ends early, or unpacks to far more than it is.
    """
    with reading(path, "a .mat file"):
        raw = path.read_bytes()
        if raw[:6] != b"MATLAB":
            return dict(_version_4(raw))
        if len(raw) < _HEADER or raw[126:128] not in (b"IM", b"MI"):
            raise ValueError("its header is cut")
        order = "<" if raw[126:128] == b"IM" else ">"
        found: Values = {}
        left = max(_LARGE, _RATIO * len(raw))
        for element in _elements(memoryview(raw)[_HEADER:], order):
            parts: Iterator[_Element] = iter((element,))
            if element.kind == _COMPRESSED:
                content = zlib.decompressobj().decompress(element.data, left + 1)
                if (left := left - len(content)) < 0:
                    raise DataError(f"{path} of {len(raw)} bytes unpacks to far more", "save it with -v7, or as .npy")
                parts = _elements(memoryview(content), order)
            for part in parts:
                if part.kind == _MATRIX:
                    _matrix(part.data, order, "", found, 0)
    return found


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements of a file or of a matrix: a type, a length, and what is as long."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it ends within an element")
        first, length = struct.unpack_from(f"{order}II", data, at)
        if first >> 16:
            # A short one: its length and type are one word, and what it holds is the other.
            kind, length = first & 0xFFFF, first >> 16
            if length > 4:
                raise ValueError(f"a short element claims {length} bytes")
            yield _Element(kind, data[at + 4 : at + 4 + length])
            at += 8
            continue
        if length > len(data) - at - 8:
            raise ValueError(f"an element claims {length} bytes, but only {len(data) - at - 8} are there")
        yield _Element(first, data[at + 8 : at + 8 + length])
        at += 8 + length + (0 if first == _COMPRESSED else -length % 8)


def _matrix(data: memoryview, order: str, place: str, found: Values, depth: int) -> None:
    """Add what a matrix holds; `place` is its name if it is a field, which has no name of its own."""
    if depth > _DEPTH:
        raise ValueError("its structs are nested too deep")
    parts = _elements(data, order)
    flags = next(parts, None)
    if flags is None:  # an empty field
        return
    if flags.kind != 6 or len(flags.data) != 8:
        raise ValueError("the flags of a matrix are damaged")
    (bits,) = struct.unpack_from(f"{order}I", flags.data)
    shape = _numbers(next(parts, None), order)
    name = _text(next(parts, None))
    place = place or name
    size = math.prod(shape.tolist())
    if shape.dtype.kind != "i" or len(shape) < 2 or (shape < 0).any():
        raise ValueError(f"a matrix has the shape {shape.tolist()[:8]}")
    if bits & 0xFF in _NUMBERS and not bits & _COMPLEX:
        values = _numbers(next(parts, None), order)
        if len(values) != size:
            raise ValueError(f"a matrix of {size} numbers contains {len(values)}")
        found[place] = values.reshape(shape.tolist(), order="F")
    elif bits & 0xFF == _STRUCT and size == 1:
        wide = _numbers(next(parts, None), order)
        if len(wide) != 1 or not 0 < wide[0] <= 64:
            raise ValueError("the names of a struct are damaged")
        names = bytes(_data(next(parts, None)))
        width = int(wide[0])
        for start in range(0, len(names), width):
            field = names[start : start + width].partition(b"\0")[0].decode("latin-1")
            part = next(parts, None)
            if part is None or part.kind != _MATRIX:
                raise ValueError(f"a struct ends before its field {field[:40]!r}")
            _matrix(part.data, order, f"{place}/{field}", found, depth + 1)


def _data(element: _Element | None) -> memoryview:
    if element is None:
        raise ValueError("a matrix ends early")
    return element.data


def _numbers(element: _Element | None, order: str) -> NDArray[Any]:
    data = _data(element)
    assert element is not None
    if element.kind not in _TYPES:
        raise ValueError(f"numbers have the unknown type {element.kind}")
    kind = np.dtype(order + _TYPES[element.kind])
    if len(data) % kind.itemsize:
        raise ValueError(f"{len(data)} bytes are not numbers of {kind.itemsize}")
    return np.frombuffer(data, kind)


def _text(element: _Element | None) -> str:
    return bytes(_data(element)).partition(b"\0")[0].decode("latin-1")


def _version_4(raw: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the full matrices of a file of version 4: five words, a name, and the numbers by columns."""
    at = 0
    while at < len(raw):
        if len(raw) - at < 20:
            raise ValueError("it ends within the head of a matrix")
        order = "<" if struct.unpack_from("<I", raw, at)[0] < 5000 else ">"
        kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}IIIII", raw, at)
        number, form = kind % 100 // 10, kind % 10
        if kind // 1000 != (order == ">") or kind % 1000 >= 100 or number >= len(_TYPES_4) or form > 2 or imaginary > 1:
            raise ValueError(f"a matrix has the unknown type {kind}")
        one = np.dtype(order + _TYPES_4[number])
        begin, count = at + 20 + length, rows * columns
        end = begin + count * one.itemsize * (1 + imaginary)
        if end > len(raw):
            raise ValueError(f"a matrix [{rows}, {columns}] ends at byte {end} of {len(raw)}")
        if form == 0 and not imaginary:
            name = raw[at + 20 : begin].partition(b"\0")[0].decode("latin-1")
            yield name, np.frombuffer(raw, one, count, begin).reshape((rows, columns), order="F")
        at = end
