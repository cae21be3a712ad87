"""A process of its own for what foreign files may do: forked, limited, watched, and started again when it dies."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from tests.attacks.box import Box, files_of, left, watch
from tests.attacks.outcome import DOCUMENTED, Limits, Outcome

Words = list[str | Path]
Call = Words | Callable[[], object]
"""A command line after `hstnn`, or the function behind a command."""
Place = Callable[[Box, bytes], Call]
"""Writes what is to be read into a box; returns how it is read."""

_ROOM = 4 * 2**30
"""Bytes of address space that a worker may take beyond what it has when it starts: less than the machine has."""


class Worker:
    """Runs one case after the other in a forked process."""

    def __init__(self, root: Path, places: Mapping[str, Place], limits: Limits) -> None:
        self.box, self.places, self.limits = Box(root), places, limits
        self._process: Any = None
        self._link: Connection | None = None

    def run(self, name: str, content: bytes) -> Outcome:
        """Let the command of a kind read `content`."""
        if self._link is None:
            self._start()
        assert self._link is not None
        watched = psutil.Process(self._process.pid)
        begun, wall = _seconds(watched), time.monotonic()
        try:
            self._link.send((name, content))
            while not self._link.poll(0.2):
                late = time.monotonic() - wall > 20 * self.limits.seconds
                if late or _seconds(watched) - begun > self.limits.seconds:
                    self.close()
                    return Outcome(None, ended=f"not done after {self.limits.seconds:g} s")
            outcome: Outcome = self._link.recv()
        except (EOFError, OSError, psutil.NoSuchProcess):
            self._process.join()
            code, printed = self._process.exitcode, self.box.printed()[1]
            self.close()
            return Outcome(None, ended=f"the process ended with {code}: {printed[-200:]!r}")
        if outcome.code not in DOCUMENTED:
            # What was not foreseen may have left anything behind, such as a console whose buffer cannot be written.
            self.close()
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._link is not None:
            self._link.close()
        self._process, self._link = None, None

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._link, other = context.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: those that there are do not work
            self._process = context.Process(target=_serve, args=(other, self._link, self.box, self.places), daemon=True)
            self._process.start()
        other.close()


def _seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve(link: Connection, other: Connection, box: Box, places: Mapping[str, Place]) -> None:
    """Answer cases until the other end is closed."""
    other.close()
    end_with_parent()
    box.begin()
    box.enter()
    base = psutil.Process().memory_info()
    resource.setrlimit(resource.RLIMIT_AS, (base.vms + _ROOM, base.vms + _ROOM))
    did: list[str] = []
    watch(box.root.parent, did)
    while True:
        try:
            name, content = link.recv()
        except EOFError:
            os._exit(0)
        box.begin()
        os.chdir(box.out)
        for path in box.streams:
            os.truncate(path, 0)
        try:
            call = places[name](box, content)
        except Exception as error:
            link.send(Outcome(None, ended=f"the attack itself failed: {type(error).__name__}: {error}"))
            continue
        given, peak, spent = files_of(box.given), _peak(), time.process_time()
        did.clear()
        code = called(call)
        growth = _peak() - base.rss if _peak() > peak else 0
        wrong = [*did, *left(box, given)]
        out, err = box.printed()
        link.send(Outcome(code, out, err, "", time.process_time() - spent, growth, tuple(wrong)))


def end_with_parent() -> None:
    """Let this process be killed when the one that forked it ends, whatever it is doing; where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def called(call: Call) -> int:
    """Run a command, or the function behind one, as the command line would; return its exit code."""
    from hstnn_deploy.cli import app

    real, before = app.app, sys.argv
    try:
        if callable(call):
            function = call
            app.app = lambda **_: function()
            sys.argv = ["hstnn"]
        else:
            sys.argv = ["hstnn", *map(str, call)]
        app.main()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except BaseException as error:
        print(f"error: {type(error).__name__} got out of main: {error}", file=sys.stderr)
        return -1
    finally:
        app.app, sys.argv = real, before
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
