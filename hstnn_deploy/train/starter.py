"""Start a command as several ranks on this machine, and end all of them when one ends. Standard library only."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hstnn_deploy import files
from hstnn_deploy.errors import RunError

LOST = 75
"""Exit code of a rank that ended because another was gone: that other one is the one to explain."""

_GRACE = 10.0
"""Seconds that the others get to end by themselves, once one has."""


class RankError(RunError):
    """A rank ended; `exit_code` is that rank's own, if it had one."""

    def __init__(self, message: str, hint: str, code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = code


def start(command: Sequence[str], count: int, rendezvous: str) -> int:
    """Run a command as ranks 0 to count - 1 and return rank 0's exit code, which has said itself what was wrong.

    Rank 0 has this process's output; what another says is kept, for the one line that explains its end. A signal that
    asks this process to end goes to rank 0, which leads the others to the end.

    Args:
        command: program and arguments.
        count: how many.
        rendezvous: name of the environment variable that tells the ranks where they find each other.

    Raises:
        RankError: a rank ended of itself, or was killed; all have been ended.
        KeyboardInterrupt: they were asked to end before rank 0 could say so.
    """
    with files.temporary_folder("nproc") as folder:
        group = _Group(folder)
        with group.asked_by_signals():
            try:
                group.start(command, count, rendezvous)
                group.wait()
                return group.result()
            finally:
                group.end()


class _Group:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.asked = 0

    def said(self, rank: int) -> Path:
        return self.folder / f"rank{rank}"

    def start(self, command: Sequence[str], count: int, rendezvous: str) -> None:
        shared = {
            "WORLD_SIZE": str(count),
            rendezvous: f"file://{self.folder}/meeting",
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
            # They meet on this machine, whose name need not be known to any resolver.
            "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        }
        for rank in range(count):
            environment = {**shared, **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            with self.said(rank).open("wb") as file:
                output = None if rank == 0 else file
                # In a session of its own, so that a terminal's Ctrl-C reaches it through this process alone, once.
                started = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )
            self.processes.append(started)

    @contextmanager
    def asked_by_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._ask) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        """Ask rank 0 to end; asked again, kill it."""
        self.asked += 1
        if self.processes and self.processes[0].poll() is None:
            self.processes[0].send_signal(signal.SIGTERM if self.asked == 1 else signal.SIGKILL)

    def wait(self) -> None:
        """Wait until all have ended; once one has, the others have a while."""
        until = None
        while None in (codes := [process.poll() for process in self.processes]):
            if codes[0] not in {None, 0, LOST}:
                return
            if until is None and (codes[0] is not None or any(codes)):
                until = time.monotonic() + _GRACE
            if until is not None and time.monotonic() > until:
                return
            time.sleep(0.05)

    def result(self) -> int:
        """Return rank 0's exit code, or raise what it could not say itself."""
        codes = [process.poll() for process in self.processes]
        first = codes[0]
        if first is not None and first >= 0 and first != LOST:
            return first
        if self.asked:
            raise KeyboardInterrupt
        for rank, code in enumerate(codes):
            if code not in {None, 0, LOST}:
                raise self._explained(rank, code)
        raise RankError("the processes of this training lost each other", "--resume continues it", RunError.exit_code)

    def _explained(self, rank: int, code: int) -> RankError:
        name = f"process {rank + 1} of {len(self.processes)}"
        if code < 0:
            killed = f"{name} was killed by {signal.Signals(-code).name}"
            return RankError(killed, "--resume continues the training", RunError.exit_code)
        lines = self.said(rank).read_text(errors="replace").splitlines()
        words = {key: text for key, _, text in (line.partition(": ") for line in reversed(lines))}
        return RankError(f"{name}: {words.get('error', f'exit code {code}')}", words.get("hint", ""), code)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
