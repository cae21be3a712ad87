"""Tests over processes: whether a figure of one network differs from that of another, or by more than a bound.

The unit is the process, which gives one figure: the median of its calls, a percentile of them, its peak of memory.
Calls of one process share its start (the layout of its memory, the state of its caches and of the machine), and each
resembles the one before it. A test over calls takes a thousand of them for a thousand samples, and calls two runs of
one program different. See Georges, Buytaert and Eeckhout, "Statistically rigorous Java performance evaluation" (OOPSLA
2007), and Kalibera and Jones, "Rigorous benchmarking in reasonable time" (ISMM 2013): what varies at the highest
level, the start of a process, has to be repeated.

**Which test.** The exact permutation test of the difference of means (`scipy.stats.permutation_test`; Ernst,
"Permutation methods: a basis for exact inference", Statistical Science 19, 2004): among all ways to give the processes
to two sides, how many differ at least as much. It needs no normal distribution, which times do not have (they have a
long tail, and modes), and its rate of false alarms is at most the level with five processes a side too. It supposes
that processes could be exchanged if the networks were equal: that is why both sides are measured in turns. Few
processes have a price, which stands beside every p: with n and m of them p is never below 2 / C(n + m, n), 0.0079
with 5 and 5, and 0.1 with 3 and 3. With more than `MOST` ways the test is Welch's, whose means are then near enough to
normal.

The interval is Welch's, of the difference of the means over processes. A bootstrap of five values is too narrow
(Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015).
"""

from collections.abc import Sequence
from math import comb, inf
from statistics import fmean
from typing import NamedTuple

from hstnn_deploy import stats
from hstnn_deploy.stats import Contrast

LEVEL = 0.05
"""A difference is told from chance where p, corrected for how many there are (Holm), is below this."""
MOST = 20_000
"""Ways to give processes to two sides that are gone through; 8 and 8 processes have 12 870."""


def least_p(first: int, second: int, sides: int = 2) -> float:
    """Return the smallest p that these processes can give: `sides` over the number of ways; 0 where Welch's is used.

    Args:
        first, second: processes of A and of B, at least two each.
        sides: 2 for a test of any difference, 1 for a test of a bound.
    """
    return min(1.0, sides / ways) if (ways := comb(first + second, first)) <= MOST else 0.0


def contrast(first: Sequence[float], second: Sequence[float]) -> Contrast:
    """Test whether a figure differs between processes of A and of B; see the module.

    Args:
        first: a figure of each process of A, in any unit; at least one.
        second: the same of B.

    Returns:
        The difference of the means, B - A, with half its interval and p, two-sided. With one process on a side there is
        neither interval nor p.
    """
    counts = len(first), len(second)
    difference = fmean(second) - fmean(first)
    if min(counts) < 2:
        return Contrast(difference, None, None, f"n/a: {too_few(*counts)}")
    welch = stats.compare(dict(enumerate(first)), dict(enumerate(second)), paired=False)
    shown = f"{counts[0]} and {counts[1]} processes"
    if not least_p(*counts):
        p = welch.p if welch.p is not None else float(difference == 0)
        return Contrast(difference, welch.half, p, f"Welch's t-test, {shown}")
    return Contrast(difference, welch.half, _exact(first, second, "two-sided"), f"exact permutation test, {shown}")


def too_few(first: int, second: int) -> str:
    """Say that a side has one process, and what would work."""
    where = "each" if first == second == 1 else f"in {'A' if first == 1 else 'B'}"
    return f"only one process {where}; measure more with --repeats 5"


def beyond(first: Sequence[float], second: Sequence[float], greater: bool) -> float:
    """Return the one-sided p of the test that B is greater (or smaller) than A; see the module.

    Args:
        first: a figure of each process of A, moved by the bound that is tested; at least two.
        second: a figure of each process of B; at least two.
        greater: whether B is to be greater; else smaller.
    """
    if least_p(len(first), len(second), 1):
        return _exact(first, second, "greater" if greater else "less")
    from scipy.stats import ttest_ind

    if max(*first, *second) == min(*first, *second):
        return 1.0
    found = ttest_ind(second, first, equal_var=False, alternative="greater" if greater else "less")
    return float(found.pvalue)


def _exact(first: Sequence[float], second: Sequence[float], alternative: str) -> float:
    import numpy as np
    from scipy.stats import permutation_test

    scale = 2.0**40 / (max(map(abs, [*first, *second])) or 1.0)

    def total(b: np.ndarray, _a: np.ndarray, axis: int) -> np.ndarray:
        # With the sum of all fixed, it orders the ways as the difference of the means does. Rounded, as equal sums that
        # were added up in another order would else be no ties.
        found: np.ndarray = np.round(np.sum(b, axis=axis) * scale)
        return found

    sides = [np.asarray(side, np.float64) for side in (second, first)]
    return float(permutation_test(sides, total, vectorized=True, n_resamples=inf, alternative=alternative).pvalue)


class Note(NamedTuple):
    """A remark on several tests together."""

    text: str
    hopeless: bool
    """Whether no p can come below the level."""


def said(pairs: Sequence[tuple[int, int]]) -> Note | None:
    """Say how low p can be with these processes and tests; None where nothing bounds it.

    Args:
        pairs: of each test, the processes of A and of B, two each or more.
    """
    bounds = [least_p(*pair) for pair in pairs]
    if not any(bounds):
        return None
    place = max(range(len(pairs)), key=bounds.__getitem__)
    least, (a, b) = bounds[place], pairs[place]
    text = f"With {a} and {b} processes, p cannot be lower than {least:.2g}"
    corrected = min(1.0, least * len(pairs))
    if len(pairs) > 1:
        text += f", or {corrected:.2g} when corrected for {len(pairs)} tests (Holm)"
    if corrected < LEVEL:
        return Note(f"{text}.", False)
    fewer = " or compare fewer figures (--metric)" if least < LEVEL else ""
    more = f"measure more processes (--repeats){fewer}"
    return Note(f"{text}, so no difference is distinguishable from chance; {more}.", True)
