"""The range of many samples, taken piece by piece: least, most, mean and deviation of all numbers, and of each feature.

Shapes: n samples of a piece.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking.notes import Notes
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN

Array = NDArray[Any]

_FEATURES = 2**22
"""The largest number of values in a sample that are followed one by one."""
_WIDE = 10
"""Means and deviations beyond which a network learns badly."""


class Ranges:
    """What the numbers of samples of one shape are."""

    def __init__(self, shape: Sequence[int]) -> None:
        """Begin with no sample of a shape."""
        self.shape = tuple(shape)
        self.samples = 0
        self.dtype: np.dtype[Any] | None = None
        """The type that holds all of them; None: no type does."""
        self.wrong = 0
        """NaN and infinite numbers."""
        self._first = 0.0
        """Is taken from all numbers before they are summed: sums of large numbers would lose small changes."""
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf
        size = int(np.prod(self.shape))
        self._each = (np.full(size, np.inf), np.full(size, -np.inf)) if size <= _FEATURES else None

    def add(self, x: Array, notes: Notes, name: str, rows: NDArray[np.int64] | None, key: str = "") -> None:
        """Take a piece.

        Args:
            x: samples, [n, …].
            notes: told of values that are not numbers.
            name: what holds them, for messages.
            rows: the place of each in its array; None: it is a sample of its own.
            key: the file, where each sample has one.
        """
        self.samples += len(x)
        self.dtype = x.dtype if self.dtype is None else np.result_type(self.dtype, x.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            values = x.astype(np.float64).reshape(len(x), -1)
            wrong = ~np.isfinite(x.astype(np.float32).reshape(len(x), -1)) if x.dtype.kind == "f" else None
        if wrong is not None and wrong.any():
            self.wrong += int(wrong.sum())
            row, at = (int(each) for each in np.argwhere(wrong)[0])
            inside = [int(each) for each in np.unravel_index(at, self.shape)]
            where = inside if rows is None else [int(rows[row]), *inside]
            told = DataError(
                f"{name} contains {values[row, at]} at {where} ({int(wrong.sum())} numbers in {len(x)} samples)",
                f"samples must be finite float32 numbers; {AGAIN}, or fix it",
            )
            notes.refuse(told, key)
            values = values[~wrong.any(1)]
        if not values.size:
            return
        if not self._count:
            self._first = float(values.flat[0])
        apart = values - self._first
        self._count += values.size
        self._sum += float(apart.sum())
        self._squares += float((apart**2).sum())
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        if self._each is not None:
            np.minimum(self._each[0], values.min(0), out=self._each[0])
            np.maximum(self._each[1], values.max(0), out=self._each[1])

    @property
    def mean(self) -> float:
        """The mean of all numbers."""
        return self._first + self._sum / self._count if self._count else 0.0

    @property
    def std(self) -> float:
        """Their deviation."""
        if not self._count:
            return 0.0
        return float(np.sqrt(max(self._squares / self._count - (self._sum / self._count) ** 2, 0)))

    def tell(self, notes: Notes, normalised: bool) -> None:
        """Note features that never change, and ranges that a network learns badly from."""
        if not self._count:
            return
        if self.samples > 1 and (still := self._still()):
            place = [int(each) for each in np.unravel_index(still[0], self.shape)]
            size = int(np.prod(self.shape))
            notes.note(
                f"{len(still)} of {size} numbers of a sample are the same in every sample, the first at {place}",
                "they carry no information: leave them out, unless they are the border of a picture",
            )
        if not normalised and (abs(self.mean) > _WIDE or self.std > _WIDE):
            notes.note(
                f"numbers reach from {self._low:.4g} to {self._high:.4g}, with the mean {self.mean:.4g}",
                "--set data.normalise=auto scales them to mean 0 and deviation 1",
            )

    @property
    def each(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The least and the largest of each number of a sample, [1, …]; None: there are too many, or no sample."""
        if self._each is None or not self._count:
            return None
        low, high = (values.reshape(1, *self.shape) for values in self._each)
        return low, high

    def _still(self) -> list[int]:
        if self._each is None:
            return []
        found: list[int] = np.flatnonzero(self._each[0] == self._each[1]).tolist()
        return found

    def plain(self) -> dict[str, Any]:
        """Return them as plain data; None where no number was read."""
        known = {"min": self._low, "max": self._high, "mean": self.mean, "std": self.std}
        return {
            **{name: float(f"{value:.6g}") if self._count else None for name, value in known.items()},
            "not_finite": self.wrong,
            "constant": len(self._still()) if self._each is not None and self.samples > 1 else None,
        }

    def lines(self) -> list[str]:
        """Return them in words."""
        if not self._count:
            return ["range: n/a, no finite sample was read"]
        return [
            f"range: {self._low:.4g} to {self._high:.4g}, mean {self.mean:.4g}, deviation {self.std:.4g}",
        ]
