"""A network's inputs from a file of numbers, for whoever has no data set. Shapes: N samples, T time."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.files.arrays import read_array
from hstnn_deploy.errors import DataError


def read_inputs(path: Path, step: tuple[int, ...], tokens: int | None = None, most: int | None = None) -> Tensor:
    """Return the samples of a .npy or .npz file as a network takes them, x[T, N, …].

    Args:
        path: a file of x[N, T, …], or of one sample x[T, …].
        step: the shape of a time step of one sample.
        tokens: how many tokens there are, where x are tokens; None: they are numbers.
        most: how many samples to take, from the first on; None: all.

    Raises:
        DataError: the file is missing or damaged, of another shape, or holds what is no input.
    """
    x = read_array(path)
    wanted = f"[N, T{''.join(f', {length}' for length in step)}]"
    if x.ndim == len(step) + 1:
        x = x[None]
    if x.ndim != len(step) + 2 or tuple(x.shape[2:]) != step or 0 in x.shape:
        raise DataError(f"{path} contains an array with shape {list(x.shape)}; the network takes {wanted}")
    x = x[:most]
    if tokens is not None:
        if x.dtype.kind not in "iu" or x.min() < 0 or x.max() >= tokens:
            raise DataError(f"{path} contains numbers that are not tokens from 0 to {tokens - 1}")
        return torch.from_numpy(np.ascontiguousarray(x.astype(np.int64).swapaxes(0, 1)))
    if x.dtype.kind not in "iufb" or not np.isfinite(x).all():
        raise DataError(f"{path} contains values that are not finite numbers")
    with np.errstate(over="ignore"):
        given = np.ascontiguousarray(x.swapaxes(0, 1).astype(np.float32))
    if not np.isfinite(given).all():
        raise DataError(f"{path} contains numbers too large for float32")
    return torch.from_numpy(given)
