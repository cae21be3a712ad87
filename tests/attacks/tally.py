"""What `make attack` counts and keeps."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.attacks.outcome import Outcome


class Result(NamedTuple):
    """One case of an attack."""

    attack: str
    """The row of the table."""
    outcome: Outcome
    complaint: str
    """What is wrong; "" where nothing is."""
    kind: str = ""
    """Of a file: its kind."""
    label: str = ""
    content: bytes = b""


@dataclass
class Row:
    """The counts of one attack."""

    cases: int = 0
    errors: int = 0
    answers: int = 0
    failures: int = 0


@dataclass
class Tally:
    """All counts; failing cases go into a folder."""

    keep: Path
    rows: dict[str, Row] = field(default_factory=dict)
    complaints: dict[str, int] = field(default_factory=dict)
    """How often each sort of failure was seen."""

    def add(self, result: Result) -> None:
        """Count a case; keep it if it failed, a few of each sort."""
        row = self.rows.setdefault(result.attack, Row())
        row.cases += 1
        if not result.complaint:
            row.answers += result.outcome.answered
            row.errors += not result.outcome.answered
            return
        row.failures += 1
        sort = f"{result.attack}: {re.sub('[0-9]+', 'N', result.complaint)[:150]}"
        self.complaints[sort] = self.complaints.get(sort, 0) + 1
        if self.complaints[sort] <= 3:
            self._keep(result)

    def _keep(self, result: Result) -> None:
        self.keep.mkdir(parents=True, exist_ok=True)
        path = self.keep / f"{sum(row.failures for row in self.rows.values()):05}.json"
        path.with_suffix(".bin").write_bytes(result.content)
        about = {
            "attack": result.attack,
            "kind": result.kind,
            "label": result.label,
            "complaint": result.complaint,
            "stderr": result.outcome.err[-4000:],
            "again": f"python -m tests.attacks --repeat {path}" if result.kind else "see label",
        }
        path.write_text(json.dumps(about, indent=2))

    @property
    def failures(self) -> int:
        """How many cases failed."""
        return sum(row.failures for row in self.rows.values())

    def table(self) -> str:
        """Return the counts as text."""
        head = ("attack", "cases", "own errors", "correct answers", "failures")
        lines = [f"{head[0]:<44}" + "".join(f"{name:>17}" for name in head[1:])]
        whole = Row()
        for name, row in [*sorted(self.rows.items()), ("all", whole)]:
            lines.append(f"{name:<44}{row.cases:>17}{row.errors:>17}{row.answers:>17}{row.failures:>17}")
            for key, count in vars(row).items():
                setattr(whole, key, getattr(whole, key) + count)
        sorts = [f"{count:>6} x {sort}" for sort, count in sorted(self.complaints.items(), key=lambda each: -each[1])][
            :100
        ]
        return "\n".join([*lines, *(["", "Failures by sort:"] if sorts else []), *sorts])


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that the counts are printed."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Shares:
    """Shares the time among attacks by weight: the one that had the least of its due comes next."""

    def __init__(self, attacks: dict[str, tuple[float, Iterator[Result]]]) -> None:
        self._left = dict(attacks)
        self._spent = dict.fromkeys(attacks, 0.0)

    def results(self, minutes: float) -> Iterator[Result]:
        """Yield results until the time is over, or every attack is."""
        end = time.monotonic() + 60 * minutes
        while self._left and time.monotonic() < end:
            name = min(self._left, key=lambda each: self._spent[each] / self._left[each][0])
            begun = time.monotonic()
            result = next(self._left[name][1], None)
            self._spent[name] += time.monotonic() - begun
            if result is None:
                del self._left[name]
            else:
                yield result
