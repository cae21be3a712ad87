"""The rule that every attack is judged by: an answer, or one line of the project's own, and nothing else happened."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hstnn_deploy import errors

BROKEN_PIPE = 141
DOCUMENTED = {0, BROKEN_PIPE} | {
    each.exit_code
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.HstnnError) and each is not errors.HstnnError
}
"""Exit codes that a command may end with: 0, a broken pipe, and those of `errors`; never 70, an unexpected error."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FOREIGN = re.compile(r"^Traceback|^  File \"|Warning: |terminate called|panicked at|Fatal Python error|^\S*Error: ")

_MOST = 20
"""Mistakes of a recipe that are said at once."""


class Limits(NamedTuple):
    """What one case may take: generous, so that a slow or busy machine fails none."""

    seconds: float = 30.0
    """Of CPU time; of wall time twenty times as many."""
    memory: int = 512 * 2**20
    """Bytes that the process may grow by."""


class Outcome(NamedTuple):
    """What became of one case."""

    code: int | None
    """The exit code; None where the process was ended from outside, by a signal or at its limit of time."""
    out: str = ""
    err: str = ""
    ended: str = ""
    """Where there is no exit code: how the process ended."""
    seconds: float = 0.0
    """CPU time."""
    growth: int = 0
    """Bytes that the process grew by."""
    did: tuple[str, ...] = ()
    """What was done that must not be: files written elsewhere, processes started, the canary touched."""

    @property
    def answered(self) -> bool:
        """Whether the command did what it was called for."""
        return self.code == 0


def complaint(outcome: Outcome, limits: Limits, must_answer: bool = False) -> str:
    """Return what is wrong with an outcome in one line; "" where nothing is."""
    if outcome.ended:
        return outcome.ended
    return "; ".join(filter(None, _complaints(outcome, limits, must_answer)))


def _complaints(outcome: Outcome, limits: Limits, must_answer: bool) -> Iterable[str]:
    if outcome.did:
        yield outcome.did[0]
    if outcome.code not in DOCUMENTED:
        yield f"exit code {outcome.code}: {_last(outcome.err)}"
    if must_answer and outcome.code != 0:
        yield f"refused with {outcome.code}, where it can be mended: {_last(outcome.err)}"
    if outcome.growth > limits.memory:
        yield f"took {outcome.growth / 2**20:.0f} MB of memory; {limits.memory / 2**20:.0f} MB are allowed"
    lines = outcome.err.split("\n")
    if strange := next((line for line in lines if _FOREIGN.search(line)), None):
        yield f"a line that is not the project's own: {strange[:200]}"
    if control := _CONTROL.search(outcome.out + outcome.err):
        yield f"the control character {control[0]!r} reaches the terminal"
    yield _lines(outcome.code or 0, lines)


def _lines(code: int, lines: list[str]) -> str:
    """Check that there is one error and at most one hint, both at the end; nothing of the kind beside an answer.

    Mistakes of a recipe are said all at once: the first error says how many more follow, each with at most one hint.
    """
    while lines and not lines[-1]:
        lines = lines[:-1]
    numbers = [number for number, line in enumerate(lines) if line.startswith(("error:", "hint:"))]
    kinds = [lines[number].partition(":")[0] for number in numbers]
    if code in (0, BROKEN_PIPE):
        return f"an error beside an answer: {lines[numbers[0]]}" if numbers else ""
    first = lines[numbers[0]] if numbers else ""
    more = min(int(said[1]), _MOST - 1) if (said := re.search(r" \(and (\d+) more\)$", first)) else 0
    if not re.fullmatch(rf"(error (hint )?){{{1 + more}}}", "".join(f"{kind} " for kind in kinds)):
        return f"not one error and at most one hint, but {kinds}: {lines[-1] if lines else 'nothing'}"
    return "" if numbers[-1] == len(lines) - 1 else f"something follows the error: {lines[-1]}"


def _last(err: str) -> str:
    return next((line for line in reversed(err.splitlines()) if line.startswith("error:")), err[-200:])
