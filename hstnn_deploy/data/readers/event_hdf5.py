"""Recordings of events in HDF5: Metavision's and DSEC's files, SHD's and SSC's, and tables called t, x, y and p.

A table is read where its bytes are in this file: links to other files and tables kept elsewhere are never followed.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.readers.event_arrays import read_table
from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_fields import WIDTHS, letter, named
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, one_line, reading

Table = Any
"""A dataset with fields or of plain rows, or the datasets of a group by name."""

MOST = 20_000
"""Objects of a file that are looked at."""
_DEPTH = 16
_RATIO, _LARGE = 1100, 64 * 2**20
"""A table that is larger than this multiple of what the file holds of it, and than this number of bytes, is refused:
no codec of HDF5's own packs more densely."""
_KNOWN = "known: spikes/times and units (SHD, SSC), CD/events (Metavision), or tables t, x, y and p, or events [N, 4]"


def read_hdf5(path: Path, options: EventOptions) -> Found:
    """Return the events of an HDF5 file.

    Raises:
        DataError: it holds no known events, several recordings and none was named, a table that claims far more
            than the file holds or lies in another file, or a codec that is not here.
    """
    with opened(path) as file:
        if options.part is None and "spikes/times" in file:
            return _heidelberg(path, options)
        place, table = choose(path, tables(file, options), options)
        if isinstance(table, Mapping):
            columns = {name: values(path, each) for name, each in table.items()}
            if "ms_to_idx" in file:
                return _dsec(path, file, columns, options)
            return _of(place, named(path, "HDF5", columns, options))
        found = read_table(path, values(path, table), options, "HDF5", "HDF5, plain rows")
        if place != "CD/events":
            return _of(place, found)
        triggers = file.get("EXT_TRIGGER/events")
        count = len(triggers) if hasattr(triggers, "shape") and triggers.shape else 0
        sensor = _geometry(file)
        dropped = {"external triggers": count}
        return Found("Metavision HDF5", found.columns, "us", dropped, found.notes, sensor)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, with the codecs of hdf5plugin where that is installed."""
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401

    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        yield file


def walk(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the groups and tables of a file with their places; what is only linked to is not looked at.

    Of damaged groups HDF5's own walk does not end.

    Raises:
        ValueError: the file holds too many objects, or nests them too deep.
    """
    import h5py

    left: list[tuple[str, Any]] = [("", file)]
    seen = 0
    while left:
        place, item = left.pop()
        seen += 1
        yield place, item
        if not isinstance(item, h5py.Group):
            continue
        if seen + len(item) > MOST or place.count("/") > _DEPTH:
            raise ValueError(f"it contains more than {MOST} objects, or they are nested deeper than {_DEPTH}")
        for name in reversed(list(islice(item, MOST))):
            if isinstance(item.get(name, getlink=True), h5py.HardLink):
                left.append((f"{place}/{name}" if place else name, item[name]))


def tables(file: Any, options: EventOptions) -> dict[str, Table]:
    """Return by its place each table of a file that may be events: its fields or datasets mean t, x and y.

    Raises:
        ValueError: see `walk`.
    """
    import h5py

    def means(names: Any) -> set[str | None]:
        return {letter(name, options) for name in names}

    found: dict[str, Table] = {}
    groups: dict[str, dict[str, Any]] = {}
    for place, item in walk(file):
        if not isinstance(item, h5py.Dataset):
            continue
        group, _, name = place.rpartition("/")
        rows = item.ndim == 2 and item.shape[1] in WIDTHS and item.dtype.kind in "biuf"
        called = name.lower() == "events" or place == (options.part or "").strip("/")
        if (item.dtype.names and {"t", "x"} <= means(item.dtype.names)) or (rows and called):
            found[place] = item
        elif letter(name, options):
            groups.setdefault(group, {})[name] = item
    for place, held in groups.items():
        if {"t", "x"} <= means(held) and len(means(held)) >= 3:
            found[place] = held
    return found


def choose(path: Path, found: Mapping[str, Table], options: EventOptions) -> tuple[str, Table]:
    """Return the one table of events, or that which the user names, and its place.

    Raises:
        DataError: there is no table, there are several, or none has that name.
    """
    if options.part is not None:
        place = options.part.strip("/")
        if place not in found:
            told = ", ".join(each or "/" for each in list(found)[:8]) or "none"
            raise DataError(f"{path} has no events at {options.part!r}", f"parts with events: {told}")
        return place, found[place]
    if not found:
        raise DataError(f"{path} contains no known events", _KNOWN)
    if len(found) > 1:
        told = ", ".join(each or "/" for each in list(found)[:8])
        raise DataError(
            f"{path} contains events in {len(found)} places: {told}",
            f"specify which: --events part={next(iter(found))}",
        )
    return next(iter(found.items()))


def values(path: Path, table: Any) -> NDArray[Any]:
    """Return what a table holds.

    Raises:
        DataError: it lies in another file, or claims far more than this one holds; or its codec is not installed here.
    """
    name = f"{path}: {one_line(table.name)}"
    if table.shape is None:
        raise DataError(f"{name} contains no numbers", AGAIN)
    if table.external or table.is_virtual:
        raise DataError(
            f"{name} is stored in another file, which hstnn does not read", "write the recording into one file"
        )
    _check_codec(path, table)
    there = min(table.id.get_storage_size(), path.stat().st_size)
    if table.nbytes > max(_LARGE, _RATIO * there):
        raise DataError(f"{name} claims {table.nbytes} bytes, but the file contains {there} of them", AGAIN)
    return np.asarray(table[()])


# -------------------------------------------------------------------------------------------------------------- parts


def _of(place: str, found: Found) -> Found:
    return found if place in ("", "events") else replace(found, notes=(*found.notes, f"events of {place}"))


def _dsec(path: Path, file: Any, columns: Mapping[str, NDArray[Any]], options: EventOptions) -> Found:
    """Return the events of DSEC's form; its index of milliseconds is compared with the times."""
    found = named(path, "DSEC HDF5", columns, options, unit="us")
    index, time = values(path, file["ms_to_idx"]), np.asarray(found.columns["t"])
    if index.ndim != 1 or index.dtype.kind not in "iu" or time.dtype.kind not in "iu" or time.ndim != 1:
        raise DataError(f"{path}: its ms_to_idx {list(index.shape)} is not an index of events", AGAIN)
    at, start = index.astype(np.int64), 1000 * np.arange(len(index))
    wrong = (at < 0) | (at > len(time))
    inside = np.clip(at, 0, max(len(time) - 1, 0))
    if len(time) and options.unit in (None, "us"):
        wrong |= (at < len(time)) & (time[inside] < start)
        wrong |= (at > 0) & (time[np.clip(at - 1, 0, len(time) - 1)] >= start)
    if wrong.any():
        number = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path} is damaged, or its times are not microseconds: ms_to_idx says that event {at[number]} of "
            f"{len(time)} is the first from {number} ms on",
            AGAIN,
        )
    notes = found.notes
    if "t_offset" in file:
        offset = values(path, file["t_offset"])
        if offset.size == 1 and offset.dtype.kind in "iu":
            notes += (f"times are from the recording's own beginning: t_offset, {int(offset.item())} us, is not added",)
    notes += ("x and y are as the camera gave them: no rectify map is applied",)
    return replace(found, notes=notes)


def _heidelberg(path: Path, options: EventOptions) -> Found:
    """Return a recording of a file of SHD or SSC, as these sets read it."""
    from hstnn_deploy.data.sets.heidelberg import Hdf5Recordings, HeidelbergConfig

    recordings = Hdf5Recordings(path, classes=2**31)
    count = len(recordings.target)
    if options.recording is None and count != 1:
        raise DataError(f"{path} contains {count} recordings", "choose one: --events recording=N, from 0")
    number = options.recording or 0
    if number >= count:
        raise DataError(f"{path} contains {count} recordings; there is no {number}", "they are counted from 0")
    events = recordings.read(number)
    note = f"recording {number} of {count}, of class {int(recordings.target[number])}"
    columns = {"t": events["t"] / 1e6, **{each: events[each] for each in "xyp"}}
    return Found("HDF5 of SHD or SSC", columns, "s", notes=(note,), sensor=HeidelbergConfig.sensor[:2])


def _geometry(file: Any) -> tuple[int, int] | None:
    """Return the width and height that Metavision states in the attributes of a file."""
    told: dict[str, str] = {}
    for key in ("geometry", "width", "height"):
        if key in file.attrs and file.attrs.get_id(key).get_storage_size() < 256:
            given = file.attrs[key]
            told[key] = given.decode("latin-1") if isinstance(given, bytes) else str(given)
    text = told.get("geometry") or f"{told.get('width')}x{told.get('height')}"
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    return (int(size[1]), int(size[2])) if size else None


def _check_codec(path: Path, table: Any) -> None:
    """Refuse a table that is packed by a codec which HDF5 has not got here."""
    import h5py

    properties = table.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            codec = one_line(name.decode(errors="replace")) or "without a name"
            raise DataError(
                f"{path} is compressed with a codec that is not installed: {codec} ({code})",
                "of DSEC: pip install hdf5plugin; of Metavision (ECF): its tools write it as .dat or .csv, or set "
                "HDF5_PLUGIN_PATH to the codec's folder",
            )
