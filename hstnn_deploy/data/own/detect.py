"""Detect the kind of data in a folder; where it is not clear, an error asks the user."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hstnn_deploy.data.own.config import Kind
from hstnn_deploy.data.own.labels import LABELS
from hstnn_deploy.data.own.walk import IMAGES
from hstnn_deploy.data.readers import event_files
from hstnn_deploy.errors import DataError

_HELD = frozenset({".npz", ".pt", ".pth"})
_NUMPY = frozenset(event_files.FORMATS["numpy"].suffixes)
_TEXTS = frozenset(event_files.TEXTS)
_EVENTS = frozenset(event_files.EVENT_FILES) - _NUMPY - _TEXTS
"""How files end that hold events and nothing else."""
_LOOKED_AT = 1000
"""Files that are looked at."""

_WHERE = "give its folder with --data DIR, or as data.path in a recipe"
_SAY = "specify it: --set data.kind=images, arrays, events or text"


def detect(where: Path) -> Kind:
    """Return the kind of data in a folder or file; see `detect_why`."""
    return detect_why(where)[0]


def detect_why(where: Path) -> tuple[Kind, str]:
    """Return the kind of data in a folder or file, and what says so, in words.

    Raises:
        DataError: nothing is there, or it may be of several kinds.
    """
    if where.is_file():
        suffix = where.suffix.lower()
        if suffix in _HELD:
            return "arrays", f"the file ends in {suffix}"
        if suffix == ".txt":
            return "text", f"the file ends in {suffix}"
        raise DataError(f"{where} is a file of no supported kind", "give a folder, a .npz, .pt or .txt file")
    if not where.is_dir():
        raise DataError(f"your own data: {where} does not exist", _WHERE)
    found = list(itertools.islice(_files(where), _LOOKED_AT))
    suffixes = {path.suffix.lower() for path in found if path.name != LABELS}
    folders = any(path.parent != where for path in found) or (where / LABELS).is_file()
    kinds: dict[Kind, str] = {}
    if folders:
        if some := suffixes & IMAGES:
            kinds["images"] = f"folders hold {_and(some)} files"
        if some := suffixes & _EVENTS:
            kinds["events"] = f"folders hold {_and(some)} files"
        if suffixes & _NUMPY and not kinds:
            first = next(path for path in found if path.suffix.lower() in _NUMPY)
            events = _holds_events(first)
            kinds["events" if events else "arrays"] = f"{first} contains {'events' if events else 'no events'}"
        if suffixes & _TEXTS and not kinds:
            raise DataError(
                f"{where} contains texts in folders: are these events, one per line?", "if so: --set data.kind=events"
            )
    else:
        if suffixes & (_HELD | {".npy"}):
            kinds["arrays"] = f"it contains {_and(suffixes & (_HELD | {'.npy'}))} files and no folders"
        if ".txt" in suffixes and not kinds:
            kinds["text"] = "it contains .txt files and no folders"
    if len(kinds) == 1:
        return kinds.popitem()
    held = ", ".join(sorted(suffix or "files without suffix" for suffix in suffixes)[:8]) or "nothing"
    may = f", which may be {' or '.join(sorted(kinds))}" if kinds else ", which is no supported kind of data"
    raise DataError(
        f"{where} contains {held}{may}",
        _SAY if kinds else "a folder for each class contains its images (.png, .jpg), recordings or arrays (.npy)",
    )


def _and(suffixes: Iterable[str]) -> str:
    return " and ".join(sorted(suffixes))


def _holds_events(path: Path) -> bool:
    try:
        return event_files.is_recording(path, ())
    except DataError:
        return False


def _files(where: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(where):
        below[:] = sorted(each for each in below if not each.startswith((".", "__MACOSX")))
        yield from (Path(folder) / name for name in names if not name.startswith("."))
