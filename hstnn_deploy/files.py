"""Files that are either complete or absent: atomic writes, checksums, and messages for disk errors."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hstnn_deploy.errors import RunError

_REASONS = {
    errno.ENOSPC: ("no space left on the device", "free some space, or choose another folder with --out"),
    errno.EDQUOT: ("disk quota exceeded", "free some space, or choose another folder with --out"),
    errno.EACCES: ("permission denied", "choose a folder you may write to with --out"),
    errno.EPERM: ("not permitted", "choose a folder you may write to with --out"),
    errno.EROFS: ("the file system is read-only", "choose a folder you may write to with --out"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another folder with --out"),
    errno.EEXIST: ("a file has the name of the folder", "choose another folder with --out"),
}


def cannot_write(path: Path, error: OSError) -> RunError:
    """Return an error that says in one line why `path` could not be written."""
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), "choose another folder with --out"))
    return RunError(f"cannot write {path}: {reason}", hint)


def cannot_use(error: OSError) -> RunError:
    """Return a one-line error for a system error that has no better explanation."""
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    what = (
        f"{error.filename}: "
        if error.filename is not None
        else "standard output: "
        if error.errno == errno.ENOSPC
        else ""
    )
    return RunError(f"{what}{reason}", hint)


_PARTIAL = ".partial"


def clear_partial(folder: Path) -> None:
    """Remove half-written files of a killed process, from a folder to which nothing else is writing."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is flushed to disk and renamed to `path`, on failure it is removed.

    Raises:
        RunError: the folder cannot be written to or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write plain data to `path` as JSON, atomically. NaN and infinities are refused: they are not JSON."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return plain data as the text that `write_json` writes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # The name of a file that is not UTF-8 holds half characters: JSON has escapes for them.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


_TEMPORARY = "hstnn-"
_MAKING = ".hstnn-making-"
_HELD = ".held"


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Yield a new folder, removed at the end; leftovers of killed processes are removed first.

    The process locks its folder; the system releases the lock when the process ends. Several processes may
    do this at once: none removes a folder that another has locked.

    Args:
        kind: what the folder is for, such as "profile"; in its name.

    Raises:
        RunError: it cannot be created.
    """
    base = Path(tempfile.gettempdir())
    _sweep(base, f"{_TEMPORARY}{kind}-")
    try:
        path, holder = _make_temporary(base, kind)
    except OSError as error:
        raise cannot_write(base, error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(holder)


def _make_temporary(base: Path, kind: str) -> tuple[Path, int]:
    """Make a folder that this process has locked; return it and its lock."""
    # Under another name until it is locked, so that it is not taken for an abandoned one.
    made = Path(tempfile.mkdtemp(dir=base, prefix=_MAKING))
    path = base / f"{_TEMPORARY}{kind}-{made.name.removeprefix(_MAKING)}"
    holder = -1
    try:
        holder = os.open(made / _HELD, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(holder, fcntl.LOCK_EX)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        if holder >= 0:
            os.close(holder)
        raise
    return path, holder


def _sweep(base: Path, prefix: str) -> None:
    """Remove the temporary folders of this user that no process has locked any more."""
    for path in base.glob(f"{prefix}*"):
        # Leave alone what is not ours, or is being removed just now.
        with suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            holder = os.open(path / _HELD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(holder)


def make_folder(path: Path) -> Path:
    """Create a folder with its parents.

    Raises:
        RunError: it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
