"""Which samples are read where there are too many to read all: drawn with a fixed seed, some of each class."""

import numpy as np
from numpy.typing import NDArray

FILES = 2000
"""Files that are read if no number is given."""
BYTES = 4 * 2**30
"""Bytes that are read then at most, but for the first file of each class."""

SEED = 0
"""Of the draw: the same files at every check."""


def drawn(
    sizes: NDArray[np.int64], labels: NDArray[np.int32], most: int | None, most_bytes: int = BYTES
) -> NDArray[np.int64]:
    """Return the numbers of the samples that are read, ascending.

    Args:
        sizes: bytes of each, [N].
        labels: the class of each, [N].
        most: how many at most; None: all. The first of all and one of each class are always read.
        most_bytes: how many bytes at most.
    """
    count = len(sizes)
    if most is None:
        return np.arange(count)
    order = np.random.default_rng(SEED).permutation(count)
    _, first = np.unique(labels[order], return_index=True)
    always = np.unique(np.concatenate([np.zeros(min(1, count), np.int64), order[first]]))
    rest = order[~np.isin(order, always)]
    room = most_bytes - int(sizes[always].sum())
    rest = rest[: max(0, most - len(always))]
    rest = rest[np.cumsum(sizes[rest]) <= room]
    return np.sort(np.concatenate([always, rest]))
