"""What tests of trainings from Python share: small data that can be learned, small networks, and Datasets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

import hstnn_deploy as hd
from hstnn_deploy.models.stack import Stack

CLASSES, STEPS, COUNT = 4, 5, 120
_DRAW = np.random.default_rng(0)
Y = np.arange(COUNT) % CLASSES
X = np.eye(CLASSES, dtype=np.float32)[Y][:, None, :] + 0.2 * _DRAW.random((COUNT, STEPS, CLASSES), dtype=np.float32)
"""[N, T, CLASSES]: the class is the largest value of each step."""


def network(readout: str = "sum", seed: int = 0, input: int = CLASSES) -> Stack:
    """Return a small spiking network."""
    torch.manual_seed(seed)
    lif = hd.layers.lif(tau=2.0, threshold=0.4, surrogate={"arctan": 2.0})
    return hd.Stack([hd.layers.linear(16), lif, hd.layers.linear(CLASSES)], input=[input], readout=readout)  # type: ignore[arg-type]


class Samples(Dataset[Any]):
    """A map-style Dataset; `item` may give something else than the sample of a number."""

    def __init__(self, item: Callable[[int], Any] = lambda n: (X[n], int(Y[n]))) -> None:
        self.item = item

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return self.item(number)


def uneven(number: int) -> Any:
    """Return a sample of a length of its own, 2 to 5 steps."""
    return X[number, : 2 + number % 4], int(Y[number])


class Stop(hd.Observer):
    """Presses Ctrl-C in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
        """See `Observer`."""
        if epoch == self.epoch:
            raise KeyboardInterrupt
