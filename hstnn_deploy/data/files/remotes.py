"""The published files of data sets: downloaded where the network allows, checked before they are believed, unpacked."""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple

from filelock import FileLock, Timeout

from hstnn_deploy import files
from hstnn_deploy.data.files.archives import unpack
from hstnn_deploy.data.files.folder import Report, make_home, silent, unwritable
from hstnn_deploy.errors import DataError


class Remote(NamedTuple):
    """A published file of a data set."""

    name: str
    """What it is called in the data set's folder."""
    url: str
    checksum: str
    """`sha256:…` or `md5:…`."""
    holds: str = ""
    """Of an archive, the file or folder that it unpacks to. Empty: the file is read as it is, gzipped or not."""

    @property
    def names(self) -> list[str]:
        """What stands for the file once it is ready to be read."""
        return [self.holds] if self.holds else [self.name, self.name.removesuffix(".gz")]

    def at_hand(self, folder: Path) -> bool:
        """Return whether the file, or what it unpacks to, is in a folder."""
        return any((folder / name).exists() for name in self.names)


def fetch(remotes: Iterable[Remote], folder: Path, report: Report = silent) -> None:
    """Download what is missing into a folder, one process at a time; finished work is not repeated.

    A file that is there already is checked instead of downloaded.

    Raises:
        DataError: there is no network, what came or lay there is not the file, or the folder cannot be written to.
    """
    absent = [remote for remote in remotes if not remote.at_hand(folder)]
    if not absent:
        return
    make_home(folder)
    with _alone(folder, report):
        for remote in absent:
            if not remote.at_hand(folder):
                _get(remote, folder, report)


def _alone(folder: Path, report: Report) -> AbstractContextManager[Any]:
    """Return a lock on a folder, once no other process holds it."""
    lock = FileLock(folder / ".lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report("waiting for another process that prepares this folder")
        return lock.acquire()
    except OSError as error:
        raise unwritable(files.cannot_write(folder, error)) from error


def _get(remote: Remote, folder: Path, report: Report) -> None:
    path = folder / remote.name
    if not path.is_file():
        download(remote, folder, report)
    elif remote.holds:
        check(path, remote)
    if remote.holds:
        unpack(path, remote.holds, report)


def download(remote: Remote, folder: Path, report: Report = silent) -> None:
    """Fetch a file, from where an earlier attempt stopped; it takes its name once its checksum is right.

    Raises:
        DataError: there is no network, what came is not the file, or the folder cannot be written to.
    """
    from pooch import HTTPDownloader

    make_home(folder)
    part = folder / f".{remote.name}.part"
    try:
        with part.open("ab") as file:
            arriving = _Arriving(file, lambda done, total: report(f"downloading {remote.name}", done, total))
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={file.tell()}-"} if file.tell() else {})
            if not (file.tell() and _matches(part, remote)):  # killed after the last byte
                fetch = HTTPDownloader(chunk_size=2**16, headers=headers, hooks={"response": arriving.begin})
                fetch(remote.url, arriving, None)
        check(part, remote, came=True)
        part.replace(folder / remote.name)
    except DataError:
        part.unlink(missing_ok=True)
        raise
    except OSError as error:
        # Every failure of the network library is an OSError too, but has no number.
        if error.errno in _DISK:
            raise unwritable(files.cannot_write(folder / remote.name, error)) from error
        raise _unreachable(remote, folder, error) from error
    except Exception as error:  # a connection has many ways to break, some with exceptions of their own
        raise _unreachable(remote, folder, error) from error


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


def _unreachable(remote: Remote, folder: Path, error: Exception) -> DataError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"the server answers {status}" if status else type(error).__name__
    return DataError(
        f"could not download {remote.url} ({reason})",
        f"run it again to resume; or get it by hand, and put it into {folder} as {remote.name}",
    )


class _Arriving:
    """The file that a download writes: appends, or begins again if the server sends all of it."""

    def __init__(self, file: IO[bytes], report: Callable[[int, int | None], None]) -> None:
        self._file, self._report = file, report
        self._total: int | None = None

    def begin(self, response: Any, **_: Any) -> None:
        """Look at the server's answer: 206 is what was asked for, the rest of the file."""
        if response.status_code == 200:
            self._file.truncate(0)
        length = response.headers.get("Content-Length")
        self._total = self._file.seek(0, os.SEEK_END) + int(length) if length else None

    def write(self, data: bytes) -> None:
        """Write what has come."""
        self._file.write(data)
        self._report(self._file.tell(), self._total)

    def flush(self) -> None:
        """Write buffered bytes to the file."""
        self._file.flush()


def _matches(path: Path, remote: Remote) -> bool:
    import pooch

    algorithm, _, expected = remote.checksum.partition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm) == expected)


def check(path: Path, remote: Remote, came: bool = False) -> None:
    """Check that a file is the published one.

    Args:
        path: the file.
        remote: what it should be.
        came: whether it was just downloaded; then it is removed.

    Raises:
        DataError: it is a web page, or its checksum is another.
    """
    what = f"what came from {remote.url}" if came else str(path)
    hint = "get the file by hand" if came else f"remove it, and get it from {remote.url}"
    try:
        with path.open("rb") as file:
            beginning = file.read(512).lstrip().lower()
        right = _matches(path, remote)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if beginning.startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{what} is an HTML page, not {remote.name}", hint)
    if not right:
        size = path.stat().st_size
        raise DataError(
            f"{what} is truncated, or not the published {remote.name}: its checksum differs ({size} bytes)", hint
        )
