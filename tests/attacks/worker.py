"""A process of its own for what foreign files may do: forked, limited, watched, and started again when it dies."""

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.attacks.outcome import DOCUMENTED, Limits, Outcome, traces_of

Words = list[str | Path]
Call = Words | Callable[[], object]
"""A command line after `hstnn`, or the function behind a command."""
Place = Callable[["Box", bytes], Call]
"""Writes what is to be read into a box; returns how it is read."""

_ROOM = 4 * 2**30
"""Bytes of address space that a worker may take beyond what it has when it starts: less than the machine has."""


class Box(NamedTuple):
    """The folder that a case lives in: empty when it begins."""

    root: Path

    @property
    def given(self) -> Path:
        """Where inputs lie: nothing there may be changed."""
        return self.root / "given"

    @property
    def out(self) -> Path:
        """Where a command may write."""
        return self.root / "out"

    @property
    def canary(self) -> Path:
        """What an attack would touch if it could run anything."""
        return self.root / "canary"

    def begin(self) -> None:
        """Empty the box."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        os.chdir(self.root.parent)
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("given", "out", "home", "tmp"):
            (self.root / name).mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of who lives in it."""
        places = {"HOME": self.root / "home", "TMPDIR": self.root / "tmp"}
        places |= dict.fromkeys(("XDG_CACHE_HOME", "HSTNN_CACHE"), self.out / "cache")
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return {name: str(path) for name, path in places.items()} | threads | {"COLUMNS": "200", "TERM": "dumb"}

    @property
    def streams(self) -> list[Path]:
        """What was printed by who lives in it: standard output and standard error."""
        return [self.root.with_suffix(f".{name}") for name in ("stdout", "stderr")]

    def enter(self) -> None:
        """Make it the home of this process, for good."""
        os.chdir(self.out)
        os.environ |= self.environment
        tempfile.tempdir = None
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(self.streams, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.dont_write_bytecode = True
        # As Python does by default, but a warning is seen every time.
        warnings.simplefilter("always")
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def printed(self) -> list[str]:
        """Return what the streams hold."""
        return [path.read_text("utf-8", "replace") if path.exists() else "" for path in self.streams]


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
            self._process = context.Process(target=_serve, args=(other, self.box, self.places), daemon=True)
            self._process.start()
        other.close()


def _seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve(link: Connection, box: Box, places: Mapping[str, Place]) -> None:
    """Answer cases until the other end is closed."""
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
        given, peak, spent = traces_of(box.given), _peak(), time.process_time()
        did.clear()
        code = called(call)
        growth = _peak() - base.rss if _peak() > peak else 0
        wrong = [*did, *_left(box, given)]
        out, err = box.printed()
        link.send(Outcome(code, out, err, "", time.process_time() - spent, growth, tuple(wrong)))


def called(call: Call) -> int:
    """Run a command, or the function behind one, as the command line would; return its exit code."""
    from hstnn_deploy.cli import app

    real, before = app.app, sys.argv
    try:
        if callable(call):
            function = call
            app.app = lambda **_: function()  # type: ignore[assignment]
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


def _left(box: Box, given: dict[str, tuple[int, int]]) -> list[str]:
    """Return what lies where nothing may, and what of the inputs was changed."""
    wrong = ["the canary was touched: something was run"] if box.canary.exists() else []
    now = traces_of(box.given)
    wrong += [f"changed its input {name}" for name in sorted({*given, *now}) if given.get(name) != now.get(name)]
    wrong += [f"left {path.name} in the temporary folder" for path in (box.root / "tmp").iterdir()]
    known = {"given", "out", "home", "tmp", "canary"}
    wrong += [f"wrote {path.name} beside its folder" for path in box.root.iterdir() if path.name not in known]
    return wrong


_STARTS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect"}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_HARMLESS = ("git", "lscpu", "uname")
"""What the description of the environment asks for."""


def watch(allowed: Path, did: list[str]) -> None:
    """Note from now on in `did` what this process starts, and what it writes outside of a folder."""
    inside = (str(allowed.resolve()), "/dev/", "/proc/")

    def outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        # What is named from a folder that is open is below one that was named before.
        name = os.fsdecode(path)
        return Path(name).is_absolute() and not os.path.realpath(name).startswith(inside)

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(details[2], int) and details[2] & _WRITES and outside(details[0]):
                did.append(f"opened {details[0]!r} to write")
        elif event in _STARTS:
            if not str(details[0]).rpartition("/")[2].startswith(_HARMLESS):
                did.append(f"{event} {details[:2]!r}"[:200])
        elif event in _CHANGES and outside(details[0]):
            did.append(f"{event} {details[0]!r}")

    sys.addaudithook(hook)
