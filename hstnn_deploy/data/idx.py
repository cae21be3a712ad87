"""The IDX format of MNIST's files, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.errors import DataError


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Return the array of unsigned bytes that an IDX file holds.

    Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, then each dimension's size as a
    big-endian 32-bit integer, then the bytes.

    Raises:
        DataError: wrong magic number, or more or fewer bytes than the header says.
    """
    raw = _read(path)
    magic = bytes([0, 0, 8, dimensions])
    if raw[:4] != magic:
        raise DataError(
            f"{path} is not an IDX file of {dimensions} dimension(s): it begins with {raw[:4].hex()}, not {magic.hex()}"
        )
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise DataError(f"{path} is truncated: {len(raw)} bytes do not hold its header", "copy or download it again")
    shape = [int(size) for size in np.frombuffer(raw, ">u4", dimensions, offset=4)]
    expected = header + math.prod(shape)
    if len(raw) != expected:
        state = "truncated" if len(raw) < expected else "too long"
        raise DataError(
            f"{path} is {state}: {len(raw)} bytes, where its header says {expected}", "copy or download it again"
        )
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy())


def _read(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: its gzip stream ends early", "download it again") from error
    except gzip.BadGzipFile as error:
        raise DataError(f"{path} is not a whole gzip file: {error}", "download it again") from error
