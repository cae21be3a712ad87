"""Answers that are given before all time steps are seen, sample by sample. Needs numpy alone.

Shapes: B samples side by side, C classes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Early(NamedTuple):
    """Answers, and after how many steps each was given."""

    logits: Array
    """[B, C], of everything that each sample saw."""
    steps: Array
    """[B], int64."""


class Leaving:
    """Samples that leave one by one: the answer of each is kept as it was at its exit.

    Args:
        batch: their number B.
    """

    def __init__(self, batch: int) -> None:
        self._steps, self._seen = np.zeros(batch, np.int64), 0
        self._logits: Array | None = None

    def take(self, logits: Array, exit: Array) -> bool:
        """Take a step's answers [B, C], and of each 1 where it may be given, [B]; return whether all have left."""
        self._seen += 1
        if self._logits is None:
            self._logits = logits.copy()
        staying = self._steps == 0
        self._logits[staying] = logits[staying]
        self._steps[staying & (exit > 0)] = self._seen
        return bool(self._steps.all())

    def answers(self) -> Early:
        """Return the answers, after one step at least; of who never left, that after the last step."""
        assert self._logits is not None
        return Early(self._logits, np.where(self._steps == 0, self._seen, self._steps))
