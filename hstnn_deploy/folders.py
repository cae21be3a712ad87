"""Replace a folder atomically: after a kill at any moment, either the old or the new folder has its name.

The new folder is made beside the old one, under a hidden name, and then takes its name. Linux exchanges the two names
at once. Elsewhere, the old folder is set aside first; if the process dies before the new one has its name,
`restore` gives the old one back. Whoever makes a folder holds a lock on it, which ends with the process: what lies
about without a lock was left by one that was killed, and the next `beside` removes it.

Needs nothing beyond Python.
"""

import ctypes
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from hstnn_deploy.files import cannot_write

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, so nothing abandoned is removed
    fcntl = None  # type: ignore[assignment]

_NEW, _ASIDE = ".new", ".old"
_HERE, _EXCHANGE = -100, 2
"""Linux's AT_FDCWD and RENAME_EXCHANGE."""


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside another, to fill and `put` in its place; afterwards what is left of it is removed.

    Raises:
        RunError: it cannot be made.
    """
    folder = folder.resolve()
    clear(folder)
    while True:
        try:
            staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_NEW))
        except OSError as error:
            raise cannot_write(folder, error) from error
        with _locked(staging, wait=True):
            # Between the two lines above, another process may have taken it for an abandoned one.
            if not staging.is_dir():
                continue
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return


def put(staging: Path, folder: Path, ours: Callable[[str], bool]) -> None:
    """Give a new folder the name of an old one, and keep the old one's other files.

    Args:
        staging: the new folder; afterwards discard whatever has its name.
        folder: the old one, if it exists.
        ours: returns, for a file's name, whether it is replaced (True) or kept.

    Raises:
        RunError: it failed; nothing has changed.
    """
    folder = folder.resolve()
    try:
        _put(staging, folder, ours)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _put(staging: Path, folder: Path, ours: Callable[[str], bool]) -> None:
    if not folder.exists():
        staging.chmod(0o777 & ~_umask())
        staging.rename(folder)
        return
    for each in folder.iterdir():
        if not ours(each.name) and not (staging / each.name).exists():
            _link(each, staging / each.name)
    staging.chmod(stat.S_IMODE(folder.stat().st_mode))
    if _exchanged(staging, folder):
        return
    aside = staging.with_suffix(_ASIDE)
    with _locked(folder):
        folder.rename(aside)
        try:
            staging.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def restore(folder: Path) -> None:
    """Restore a folder that a killed process had set aside; does nothing if the folder exists."""
    if folder.exists():
        return
    folder = folder.resolve()
    for aside in _left(folder, _ASIDE):
        with _locked(aside) as free:
            if free and not folder.exists():
                aside.rename(folder)
                return


def clear(folder: Path) -> None:
    """Remove what killed processes left beside a folder, and restore what they had set aside."""
    restore(folder)
    for left in (*_left(folder, _NEW), *_left(folder, _ASIDE)):
        with _locked(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)


def _left(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(folder.parent.glob(f".{escape(folder.name)}.*{suffix}"))
    except OSError:
        return []


@contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Lock a folder; yield whether that worked: not if another process has the lock, or the system has no locks."""
    if fcntl is None:
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders at once; return whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or every file in a folder; copy where the file system has no hard links."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=_link_file)
    else:
        _link_file(str(source), str(target))


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
