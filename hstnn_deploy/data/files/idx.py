"""The IDX format of MNIST's files, gzipped or not."""

import gzip
import math
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

_LARGEST = 2**32
"""Bytes that a file may unpack to: MNIST's largest has 47 million."""


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Return the array of unsigned bytes that an IDX file holds.

    Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, then each dimension's size as a
    big-endian 32-bit integer, then the bytes.

    Raises:
        DataError: wrong magic number, or more or fewer bytes than the header says.
    """
    with reading(path, "an IDX file", DataError, "download it again"):
        return _read(path, dimensions)


def _read(path: Path, dimensions: int) -> Tensor:
    header = 4 + 4 * dimensions
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read(header)
        # No more than the header promises: a small gzip stream may unpack to anything.
        expected = header + math.prod(_shape(raw, dimensions)) if len(raw) == header else header
        if expected <= _LARGEST:
            raw += _whole(file, expected + 1 - header)
    magic = bytes([0, 0, 8, dimensions])
    if raw[:4] != magic:
        raise DataError(
            f"{path} is not an IDX file of {dimensions} dimension(s): it begins with {raw[:4].hex()}, not {magic.hex()}"
        )
    if len(raw) < header:
        raise DataError(
            f"{path} is truncated: {len(raw)} bytes are shorter than its header", "copy or download it again"
        )
    if len(raw) != expected:
        state = f"truncated: {len(raw)} bytes" if len(raw) < expected else f"too long: more than {expected} bytes"
        raise DataError(f"{path} is {state}, but its header says {expected}", "copy or download it again")
    pixels = np.frombuffer(raw, np.uint8, offset=header).reshape(_shape(raw, dimensions))
    return torch.from_numpy(pixels.copy())


def _shape(raw: bytes, dimensions: int) -> list[int]:
    return [int(size) for size in np.frombuffer(raw, ">u4", dimensions, offset=4)]


def _whole(file: IO[bytes] | gzip.GzipFile, count: int) -> bytes:
    """Return a number of bytes, or all there are."""
    parts = []
    while count > 0 and (part := file.read(min(count, 2**20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
