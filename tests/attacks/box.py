"""The folder that a case lives in, and what is not to be done from there."""

import os
import resource
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple


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


_STARTS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect"}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_HARMLESS = ("fc-list", "git", "lscpu", "uname")
"""What the description of the environment asks for, and matplotlib for its fonts."""
_READER = "hstnn_deploy.export.graph.nir_apart"
"""What reads NIR files in a process of its own."""


def watch(allowed: Path, did: list[str]) -> None:
    """Note from now on in `did` what this process starts, and what it writes outside of a folder."""
    inside = (str(allowed.resolve()), "/dev/", "/proc/")

    def outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        # What is named from a folder that is open is below one that was named before.
        name = os.fsdecode(path)
        ours = "torchinductor_" not in name
        return ours and Path(name).is_absolute() and not os.path.realpath(name).startswith(inside)

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(details[2], int) and details[2] & _WRITES and outside(details[0]):
                did.append(f"opened {details[0]!r} to write")
        elif event in _STARTS:
            reads = event == "subprocess.Popen" and list(details[1])[3:4] == [_READER]
            if not reads and not str(details[0]).rpartition("/")[2].startswith(_HARMLESS):
                did.append(f"{event} {details[:2]!r}"[:200])
        elif event in _CHANGES and outside(details[0]):
            did.append(f"{event} {details[0]!r}")

    sys.addaudithook(hook)


def left(box: Box, given: dict[str, tuple[int, int]]) -> list[str]:
    """Return what lies where nothing may, and what of the inputs was changed."""
    wrong = ["the canary was touched: something was run"] if box.canary.exists() else []
    now = files_of(box.given)
    wrong += [f"changed its input {name}" for name in sorted({*given, *now}) if given.get(name) != now.get(name)]
    wrong += [f"left {name} in the temporary folder" for name in temporary(box)]
    known = {"given", "out", "home", "tmp", "canary"}
    wrong += [f"wrote {path.name} beside its folder" for path in box.root.iterdir() if path.name not in known]
    return wrong


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the files below a folder with their sizes and times of change."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() or path.is_symlink():
            status = path.lstat()
            found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


_NOT_OURS = ("torchinductor_", ".ses")
"""What torch and ONNX Runtime keep in the temporary folder."""


def temporary(box: Box) -> list[str]:
    """Return what of ours lies in the temporary folder."""
    return sorted(path.name for path in (box.root / "tmp").iterdir() if not path.name.startswith(_NOT_OURS))
