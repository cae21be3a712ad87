"""The cache on disk: one file per split, of rows of unequal length, memory-mapped; checked before it is believed.

    CACHE/DATASET/SPLIT-KEY.rows     CACHE: HSTNN_CACHE, else the user's cache folder

A file holds the rows one after another, then where each begins, then a footer of plain JSON: the key, and the
checksum of what stands before it. KEY hashes the data set, the split, its files and every parameter of what was done
to them: another transform is another file. Files take their name when they are whole, so a process that is killed
leaves nothing that is read; two processes that need the same file make it once.

    CACHE/DATASET/SPLIT-KEY.rows.checked     the stamp of a file: its state when it was last read whole and was right

A file in the very state of its stamp is not read whole again. Any other is: one that was written to, copied, restored
or touched. What a stamp cannot tell is content that changed while size, inode and times stayed: a failing disk, or
who writes beneath the file system. `verify` reads every file whole, whatever its stamp says.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy import files
from hstnn_deploy.errors import DataError, RunError
from hstnn_deploy.foreign import json_value, one_line, visible

VARIABLE = "HSTNN_CACHE"

FORMAT = 1
"""Part of every key: raised when rows mean something else, so that old files are not read."""

_END = b"hstnn rows\n"
_LENGTH = 8
"""Bytes before `_END` that say how long the footer is."""
_LONGEST = 2**20
"""Bytes of a footer, at most."""
_SUFFIX = ".rows"
_STAMP = ".checked"
_SETTLED = 2 * 10**9
"""Nanoseconds after a change from which another one has another time, on any file system."""
_LOGGER = logging.getLogger(__name__)

Rows = Callable[[], Iterable[NDArray[np.int32]]]
"""Computes the rows, in order."""


class Key(NamedTuple):
    """Everything that an entry of the cache depends on."""

    data_set: str
    split: str
    parameters: dict[str, Any]
    """Plain data: the files (see `fingerprint`), and every parameter of what is done to them."""

    def plain(self) -> dict[str, Any]:
        """Return the key as it is hashed and written."""
        return {"format": FORMAT, **self._asdict()}

    @property
    def path(self) -> Path:
        """Where the entry is, or would be."""
        return folder() / self.data_set / f"{self.split}-{_digest(self.plain())}{_SUFFIX}"


class Ragged(NamedTuple):
    """Rows of unequal length."""

    values: Tensor
    """[sum of lengths], int32."""
    offsets: Tensor
    """[N + 1], int64: row n is values[offsets[n] : offsets[n + 1]]."""

    def to(self, device: torch.device) -> "Ragged":
        """Return the rows on a device."""
        return Ragged(self.values.to(device), self.offsets.to(device))


class Entry(NamedTuple):
    """A file of the cache, for people."""

    data_set: str
    split: str
    bytes: int
    created: datetime
    path: Path
    parameters: dict[str, Any]
    """The key's content; empty if the file is damaged (it would be computed again)."""


_ELSEWHERE: ContextVar[Path | None] = ContextVar("elsewhere", default=None)


@contextmanager
def elsewhere(path: Path) -> Iterator[None]:
    """Use another cache folder for a while, so that measuring neither uses nor leaves entries here."""
    token = _ELSEWHERE.set(path)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def folder() -> Path:
    """Return the cache folder: the environment's `HSTNN_CACHE`, else the user's cache folder. It need not exist."""
    if (other := _ELSEWHERE.get()) is not None:
        return other
    if named := os.environ.get(VARIABLE):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("hstnn-deploy") / "cache"


def entries() -> list[Entry]:
    """Return the entries of the cache by data set and split; only their footers are verified."""
    found = []
    for path in sorted(folder().glob(f"*/*{_SUFFIX}")):
        try:
            status = path.stat()
        except OSError:
            continue  # just now removed by another process
        parameters = (_footer(path) or {}).get("parameters")
        created = datetime.fromtimestamp(status.st_mtime, UTC)
        split = path.stem.rpartition("-")[0]
        found.append(
            Entry(
                path.parent.name,
                split,
                status.st_size,
                created,
                path,
                parameters if isinstance(parameters, dict) else {},
            )
        )
    return found


def verify(data_set: str | None = None) -> Iterator[tuple[Entry, str]]:
    """Read every entry of a data set (None: of all) whole; yield each with what is wrong with it, or an empty text.

    A damaged entry loses its stamp, so that it is computed again at its next use.
    """
    for entry in entries():
        if data_set not in (None, entry.data_set):
            continue
        problem = ""
        try:
            footer = _footer(entry.path) or {}
            plain = {name: footer.get(name) for name in Key("", "", {}).plain()}
            if entry.path.name != f"{entry.split}-{_digest(plain)}{_SUFFIX}":
                raise ValueError("it does not end as its name says")
            _rows(entry.path, footer, whole=True)
        except FileNotFoundError:
            continue  # just now removed by another process
        except Exception as error:  # whatever is wrong with it
            problem = one_line(str(error)) or type(error).__name__
            with suppress(OSError):
                _stamp(entry.path).unlink(missing_ok=True)
        yield entry, problem


def clear(data_set: str | None = None, split: str | None = None) -> list[Entry]:
    """Remove the entries of a data set (None: of all) and split (None: of all); return what was removed.

    Half-written files of a killed process are removed too. A process that is reading an entry keeps it until it ends.

    Raises:
        DataError: a file cannot be removed.
    """
    gone = [each for each in entries() if data_set in (None, each.data_set) and split in (None, each.split)]
    try:
        for entry in gone:
            entry.path.unlink(missing_ok=True)
            _stamp(entry.path).unlink(missing_ok=True)
        for path in folder().glob(f"{data_set or '*'}/.{split or '*'}-*{_SUFFIX}.lock"):
            try:
                with FileLock(path, timeout=0):
                    _clear_partial(path.with_name(path.name.removeprefix(".").removesuffix(".lock")))
                    path.unlink(missing_ok=True)
            except Timeout:
                pass  # just now being written
    except OSError as error:
        raise DataError(f"cannot remove {error.filename}: {error.strerror}", "remove it by hand") from error
    return gone


def fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """Return a hash of files' names below `root`, sizes and times of change: cheap, and new when one changes."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        # A name may be bytes that are no letters; no data set of ours has any, so that its hash stays.
        name = str(path.relative_to(root)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        digest.update(_json([name, status.st_size, status.st_mtime_ns]))
    return digest.hexdigest()


def on_disk(key: Key, rows: Rows) -> Ragged:
    """Return an entry, memory-mapped; computed and written first where it is missing or damaged.

    Raises:
        DataError: it cannot be written; or what `rows` raises.
    """
    if (found := read(key)) is not None:
        return found
    try:
        files.make_folder(key.path.parent)
        with FileLock(key.path.with_name(f".{key.path.name}.lock")):
            # Another process may have made it while this one waited.
            if (found := read(key)) is None:
                _clear_partial(key.path)
                _write(key, rows())
                found = read(key)
    except RunError as error:
        raise _unwritable(error.message) from error
    except OSError as error:
        raise _unwritable(files.cannot_write(key.path, error).message) from error
    if found is None:
        raise _unwritable(f"{key.path} differs from what was just written to it")
    return found


def in_memory(key: Key | None, rows: Rows) -> Ragged:
    """Return the rows in memory: from the cache where they are there, else computed; nothing is written."""
    if key is not None and (found := read(key)) is not None:
        return Ragged(found.values.clone(), found.offsets.clone())
    computed = list(rows())
    offsets = np.cumsum([0, *map(len, computed)], dtype=np.int64)
    values = np.concatenate(computed) if computed else np.empty(0, np.int32)
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets))


def read(key: Key) -> Ragged | None:
    """Return an entry, memory-mapped, or None if it is missing or not whole; the latter with a warning."""
    path = key.path
    if not path.is_file():
        return None
    try:
        return _whole(path, key)
    except Exception as error:  # whatever is wrong with it, it can be made anew
        reason = one_line(str(error)) or type(error).__name__
        _LOGGER.warning("warning: %s is damaged; hstnn computes it again: %s", visible(str(path)), reason)
        return None


def _whole(path: Path, key: Key) -> Ragged:
    """Return an entry, memory-mapped.

    Raises:
        Exception: it is not whole.
    """
    footer = _footer(path)
    # As JSON gives it back: tuples have become lists.
    if footer is None or {name: footer.get(name) for name in key.plain()} != json.loads(_json(key.plain())):
        raise ValueError("it does not end as its name says")
    return _rows(path, footer)


def _rows(path: Path, footer: dict[str, Any], whole: bool = False) -> Ragged:
    """Return the rows of a file that ends so, memory-mapped; its stamp spares the checksum unless `whole` is set.

    Raises:
        Exception: it is not whole.
    """
    values, rows = footer["values"], footer["rows"]
    if type(values) is not int or type(rows) is not int or values < 0 or rows < 0:
        raise ValueError("its sizes are not numbers")
    now, state = time.time_ns(), _state(path, footer)
    content = np.memmap(path, np.uint8, mode="c")
    places = _aligned(4 * values)
    end = places + 8 * (rows + 1)
    if len(content) < end:
        raise ValueError("its checksum differs")
    if whole or _stamped(path) != state:
        if hashlib.sha256(content[:end].data).hexdigest() != footer["sha256"]:
            raise ValueError("its checksum differs")
        if state == _state(path, footer) and now - max(state["modified"], state["changed"]) >= _SETTLED:
            # Where it cannot be written the file is read whole again next time.
            with suppress(RunError):
                files.write_json(_stamp(path), state)
    offsets = content[places:end].view(np.int64)
    if offsets[0] != 0 or offsets[-1] != values or (np.diff(offsets) < 0).any():
        raise ValueError("its rows overlap")
    return Ragged(torch.from_numpy(content[: 4 * values].view(np.int32)), torch.from_numpy(offsets))


def _write(key: Key, rows: Iterable[NDArray[np.int32]]) -> None:
    digest = hashlib.sha256()
    lengths = [0]
    with files.atomic(key.path) as temporary, temporary.open("wb") as file:

        def put(raw: bytes) -> None:
            digest.update(raw)
            file.write(raw)

        for row in rows:
            lengths.append(len(row))
            put(row.tobytes())
        offsets = np.cumsum(lengths, dtype=np.int64)
        values = int(offsets[-1])
        put(bytes(_aligned(4 * values) - 4 * values))
        put(offsets.tobytes())
        facts = {"values": values, "rows": len(lengths) - 1, "sha256": digest.hexdigest()}
        footer = _json({**key.plain(), **facts})
        file.write(footer + len(footer).to_bytes(_LENGTH, "little") + _END)


def _state(path: Path, footer: dict[str, Any]) -> dict[str, Any]:
    """Return what a stamp says of a file: all that changes with its content, and the checksum that it ends with."""
    found = path.stat()
    return {
        "size": found.st_size,
        "modified": found.st_mtime_ns,
        # Cannot be set: it tells also of who writes and then sets the other one back.
        "changed": found.st_ctime_ns,
        "inode": found.st_ino,
        "sha256": footer["sha256"],
    }


def _stamp(path: Path) -> Path:
    return path.with_name(path.name + _STAMP)


def _stamped(path: Path) -> Any:
    """Return what the stamp of a file says, or None without a readable stamp."""
    try:
        with _stamp(path).open("rb") as file:
            return json_value(file.read(_LONGEST))
    except (OSError, ValueError):
        return None


def _footer(path: Path) -> dict[str, Any] | None:
    """Return the footer of a file, or None where there is no file or it does not end as one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            tail = _LENGTH + len(_END)
            file.seek(max(size - tail, 0))
            length, end = file.read(_LENGTH), file.read()
            start = size - tail - int.from_bytes(length, "little")
            if end != _END or start < 0:
                return None
            file.seek(start)
            found = json_value(file.read(min(size - tail - start, _LONGEST)))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"values", "rows", "sha256"} <= found.keys() else None


def _clear_partial(path: Path) -> None:
    """Remove what killed processes left of a file; for who holds its lock."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        partial.unlink(missing_ok=True)


def _unwritable(message: str) -> DataError:
    return DataError(
        message, f"free some space, set another cache folder with {VARIABLE}, or continue with --cache memory"
    )


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(_json(plain)).hexdigest()[:20]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
