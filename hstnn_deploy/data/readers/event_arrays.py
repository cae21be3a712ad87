"""Recordings of events as arrays and tables: .npy, .npz, text and HDF5; what their columns are is in their names.

Columns without names are as the user says, or as they are detected with certainty; see `event_columns.as_order`.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.readers.event_columns import Found, as_order
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
}
_WIDTHS = (4, 5)
"""Columns of plain rows of events; a fifth is constant."""
_RATIO, _LARGE = 200, 64 * 2**20
"""A .npz file that unpacks to more than so many times its size, and to more than so many bytes, is refused."""
_HEAD = 4096
"""Bytes of a text that are looked at."""
_ES_IMAGENET = ("pos", "neg")
_SPLIT = re.compile(r"[\s,;]+")


def open_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name, or that of a .npy file as ``""``, mapped and not yet read.

    Raises:
        DataError: the file is damaged, holds Python objects, or unpacks to far more than it is.
    """
    with reading(path, "a file of numbers as numpy writes it"):
        with path.open("rb") as file:
            packed = file.read(2) == b"PK"
            file.seek(0)
            if not packed and _holds_objects(file):
                raise DataError(f"{path} holds Python objects, which are not read", "save an array of numbers")
        if not packed:
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            size, given = sum(each.file_size for each in archive.infolist()), path.stat().st_size
        if size > _LARGE and size > _RATIO * given:
            raise DataError(f"{path} of {given} bytes unpacks to {size}", "save it with numpy.savez, unpacked")
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


def are_events(arrays: Mapping[str, NDArray[Any]], step: tuple[int, ...]) -> bool:
    """Return whether arrays hold events and not x[T, B, …], of which a step is of the shape `step`."""
    if len(arrays) > 1:
        return "x" not in arrays or any(name in arrays for alias in "tp" for name in _ALIASES[alias])
    (values,) = arrays.values()
    if values.dtype.names is not None or values.dtype.kind not in "biuf":
        return True
    return values.ndim == 2 and values.shape[1] in _WIDTHS and step[-1:] != values.shape[1:]


def read_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], options: EventOptions) -> Found:
    """Return the events of arrays: fields or arrays by name, or plain rows [N, 4] or [N, 5]."""
    if len(arrays) > 1:
        if set(_ES_IMAGENET) <= set(arrays):
            return _es_imagenet(path, arrays, options)
        return _named(path, "arrays by name", arrays, options)
    (values,) = arrays.values()
    if values.dtype.names is not None:
        with reading(path, "an array of events"):
            # Squeezed: an array of shape (1, N) is N events too.
            rows = values.reshape(-1) if values.size == max(values.shape, default=1) else values
            return _named(path, "an array with fields", {name: rows[name] for name in values.dtype.names}, options)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds an array {list(values.shape)} of type {values.dtype}, not events",
            "events are an array with the fields t, x, y and p, arrays of these names, or plain rows [N, 4]",
        )
    return _plain(path, np.asarray(values), options, "plain rows")


def read_text(path: Path, options: EventOptions) -> Found:
    """Return the events of a text, one to a line; a first line may name the columns, one of two numbers is passed by.

    Raises:
        DataError: a line holds something else.
    """
    with reading(path, "a text of numbers"):
        lines = path.read_text(encoding="utf-8").splitlines()
        start = _first(lines)
        names = _SPLIT.split(lines[start].lstrip("#% ").strip()) if start < len(lines) else []
        named = len(names) >= 3 and not any(_is_number(word) for word in names)
        # Some begin with the size of the sensor.
        sized = not named and len(names) == 2
        body = [line for line in lines[start + (named or sized) :] if line.strip() and line.lstrip()[0] not in "#%"]
        if not body:
            raise DataError(f"{path} holds no events", "there is nothing for the network to see")
        commas = str.maketrans(",;", "  ")
        rows = np.loadtxt((line.translate(commas) for line in body), dtype=np.float64, ndmin=2)
    if named and options.order is None:
        if rows.shape[1] != len(names):
            raise DataError(f"{path} names {len(names)} columns and has {rows.shape[1]}", "mend its first line")
        return _named(path, "a text with names", dict(zip(names, rows.T, strict=True)), options)
    return _plain(path, rows, options, "a text")


def is_text_of_events(path: Path, step: tuple[int, ...]) -> bool:
    """Return whether a text holds an event to a line, and not a time step of the shape `step`."""
    with reading(path, "a text of numbers"), path.open("rb") as file:
        lines = file.read(_HEAD).decode("utf-8", errors="replace").splitlines()
    words = [_SPLIT.split(line.strip()) for line in lines[_first(lines) :][:2]]
    return any(len(each) in (3, *_WIDTHS) and len(each) != int(np.prod(step)) for each in words)


def read_hdf5(path: Path, options: EventOptions) -> Found:
    """Return the events of an HDF5 file: SHD's and SSC's form, Metavision's, or datasets called t, x, y and p.

    Raises:
        DataError: it holds none of these, several recordings of which none was named, or a codec that is not here.
    """
    import h5py

    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        if "spikes/times" in file:
            return _heidelberg(path, options)
        for place in ("CD/events", "events"):
            table = file.get(place)
            if isinstance(table, h5py.Dataset) and table.dtype.names:
                _check_codec(path, [table])
                rows = table[()]
                form = "Metavision HDF5" if place.startswith("CD") else "HDF5"
                # Metavision's times are microseconds.
                columns = {name: rows[name] for name in rows.dtype.names}
                return _named(path, form, columns, options, us=place.startswith("CD"))
        group = file.get("events", file)
        tables = {name: each for name, each in group.items() if isinstance(each, h5py.Dataset)}
        wanted = {name: each for name, each in tables.items() if _alias(name, options)}
        if len({_alias(name, options) for name in wanted}) < 3:
            held: list[str] = []
            file.visit(held.append)
            raise DataError(
                f"{path} holds no events that are known: {', '.join(held[:8]) or 'nothing'}",
                "known: spikes/times and units (SHD, SSC), CD/events (Metavision), or datasets t, x, y and p",
            )
        _check_codec(path, wanted.values())
        return _named(path, "HDF5", {name: each[()] for name, each in wanted.items()}, options)


# -------------------------------------------------------------------------------------------------------------- parts


def _named(path: Path, form: str, columns: Mapping[str, Any], options: EventOptions, us: bool = False) -> Found:
    """Return columns by their names, or names that mean the same."""
    if lacking := [name for name in options.names.values() if name not in columns]:
        raise DataError(f"{path} has no field {lacking[0]!r}", f"it has {', '.join(columns) or 'none'}")
    taken = {each: name for each in "txyp" if (name := _field(each, columns, options))}
    if "t" not in taken or "x" not in taken:
        raise DataError(
            f"{path} holds no events: its fields are {', '.join(columns) or 'none'}",
            "events have t, x, y and p; name those that are called otherwise: --events t=NAME,x=NAME",
        )
    other = {each: name for each, name in taken.items() if each != name}
    notes: tuple[str, ...] = (
        (f"fields taken as: {', '.join(f'{name} as {each}' for each, name in other.items())}",) if other else ()
    )
    left = [name for name in columns if name not in taken.values()]
    notes += (f"fields that are no part of an event: {', '.join(left)}",) if left else ()
    return Found(form, {each: columns[name] for each, name in taken.items()}, "us" if us else None, notes=notes)


def _field(each: str, columns: Mapping[str, Any], options: EventOptions) -> str | None:
    """Return the name by which columns hold t, x, y or p."""
    return next((name for name in columns if _alias(name, options) == each), None)


def _alias(name: str, options: EventOptions) -> str | None:
    """Return which of t, x, y and p a field is."""
    if said := next((each for each, called in options.names.items() if called == name), None):
        return said
    return next((each for each, names in _ALIASES.items() if each not in options.names and name.lower() in names), None)


def _plain(path: Path, rows: NDArray[Any], options: EventOptions, form: str) -> Found:
    """Return the columns of plain rows, as said or as detected."""
    if rows.ndim != 2 or (options.order is None and rows.shape[1] not in _WIDTHS):
        raise DataError(
            f"{path} holds plain numbers {list(rows.shape)}; rows of events are [N, 4] or [N, 5]",
            "say what their columns are: --events order=txyp",
        )
    if len(rows) == 0:
        raise DataError(f"{path} holds no events", "there is nothing for the network to see")
    if options.order and len(options.order) != rows.shape[1]:
        raise DataError(
            f"{path} has {rows.shape[1]} columns; --events order={options.order} names {len(options.order)}",
            "name each once, with - for one to leave out",
        )
    order, how = (options.order, f"columns {options.order}, as said") if options.order else as_order(str(path), rows)
    columns = {letter: rows[:, number] for number, letter in enumerate(order) if letter != "-"}
    return Found(form, columns, notes=(how,))


def _es_imagenet(path: Path, arrays: Mapping[str, NDArray[Any]], options: EventOptions) -> Found:
    """Return the events of ES-ImageNet's form: an array of rows for each polarity."""
    rows = [arrays[name] for name in _ES_IMAGENET]
    order = options.order or ""
    if sorted(order) != ["t", "x", "y"] or any(each.ndim != 2 or each.shape[1] != 3 for each in rows):
        shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in _ES_IMAGENET)
        raise DataError(
            f"{path} holds events by polarity as ES-ImageNet does ({shapes}), whose columns do not say which they are",
            "say it: --events order=xyt, or order=yxt (as SpikingJelly reads ES-ImageNet)",
        )
    whole = np.concatenate(rows)
    columns = {letter: whole[:, number] for number, letter in enumerate(order)}
    columns["p"] = np.repeat([1, 0], [len(each) for each in rows])
    # Two lists of events become one, in order of time.
    after = np.argsort(columns["t"], kind="stable")
    columns = {each: values[after] for each, values in columns.items()}
    return Found("arrays pos and neg", columns, notes=(f"columns {order}, as said; pos and neg put together by time",))


def _heidelberg(path: Path, options: EventOptions) -> Found:
    """Return a recording of a file of SHD or SSC, as these sets read it."""
    from hstnn_deploy.data.sets.heidelberg import Hdf5Recordings, HeidelbergConfig

    recordings = Hdf5Recordings(path, classes=2**31)
    count = len(recordings.target)
    if options.recording is None and count != 1:
        raise DataError(f"{path} holds {count} recordings", "choose one: --events recording=N, from 0")
    number = options.recording or 0
    if number >= count:
        raise DataError(f"{path} holds {count} recordings; there is no {number}", "they are counted from 0")
    events = recordings.read(number)
    note = f"recording {number} of {count}, of class {int(recordings.target[number])}"
    columns = {"t": events["t"] / 1e6, **{each: events[each] for each in "xyp"}}
    return Found("HDF5 of SHD or SSC", columns, "s", notes=(note,), sensor=HeidelbergConfig.sensor[:2])


def _check_codec(path: Path, tables: Iterable[Any]) -> None:
    """Refuse datasets that are packed by a codec which HDF5 has not got here."""
    import h5py

    for table in tables:
        properties = table.id.get_create_plist()
        for number in range(properties.get_nfilters()):
            code, _, _, name = properties.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                codec = name.decode(errors="replace") or "without a name"
                raise DataError(
                    f"{path} is packed by a codec that is not installed here: {codec} ({code})",
                    "Metavision's tools write it as .dat or .csv, or set HDF5_PLUGIN_PATH to the codec's folder",
                )


def _holds_objects(file: Any) -> bool:
    """Return whether a .npy file holds pickled Python objects."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return bool(read(file)[2].hasobject)


def _first(lines: list[str]) -> int:
    """Return the number of the first line that is neither empty nor a comment; one that names columns is no comment."""
    for number, line in enumerate(lines):
        words = set(_SPLIT.split(line.lstrip("#% ").strip().lower()))
        if line.strip() and (line.lstrip()[0] not in "#%" or {"x", "y"} <= words):
            return number
    return len(lines)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
