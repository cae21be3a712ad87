"""Recordings of events as numpy's arrays, .npy and .npz: what their columns are is in their names, or said."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, read_array
from hstnn_deploy.data.files.arrays import read_arrays as read_members
from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_fields import ALIASES, WIDTHS, named, plain
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

_RATIO, _LARGE = 200, 64 * 2**20
"""A .npz file that unpacks to more than this multiple of its size, and to more than this many bytes, is refused."""
_ES_IMAGENET = ("pos", "neg")


def open_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name, or that of a .npy file as ``""``, mapped: only what it is is looked at.

    Raises:
        DataError: the file is damaged, holds Python objects, or unpacks to far more than it is.
    """
    with reading(path, "a file of numbers as numpy writes it"):
        with path.open("rb") as file:
            packed = file.read(2) == b"PK"
            file.seek(0)
            if not packed and _holds_objects(file):
                raise DataError(f"{path} contains Python objects, which are not read", "save an array of numbers")
        if not packed:
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    return _members(path)


def read_numpy(path: Path, options: EventOptions) -> Found:
    """Return the events of a .npy or .npz file; its values are read, never mapped: a mapped file that shrinks kills.

    Raises:
        DataError: it is damaged, or holds something else than events; see `read_arrays`.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"PK"
    if packed:
        return read_arrays(path, _members(path), options)
    open_arrays(path)  # refuses what is damaged, in words of events
    with reading(path, "a file of numbers as numpy writes it"):
        size = path.stat().st_size
    return read_arrays(path, {"": read_array(path, limit=size, mapped=False)}, options)


def are_events(arrays: Mapping[str, NDArray[Any]], step: tuple[int, ...]) -> bool:
    """Return whether arrays hold events and not x[T, B, …] with steps of the shape `step`."""
    if len(arrays) != 1:
        return "x" not in arrays or any(name in arrays for alias in "tp" for name in ALIASES[alias])
    (values,) = arrays.values()
    if values.dtype.names is not None or values.dtype.kind not in "biuf":
        return True
    return values.ndim == 2 and values.shape[1] in WIDTHS and step[-1:] != values.shape[1:]


def read_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], options: EventOptions) -> Found:
    """Return the events of arrays: fields or arrays by name, or plain rows [N, 4] or [N, 5].

    Raises:
        DataError: they hold something else, or do not say which column is which.
    """
    if options.part is not None:
        if options.part not in arrays or "" in arrays:
            told = ", ".join(name for name in arrays if name) or "one array without a name"
            raise DataError(f"{path} has no part {options.part!r}", f"it has {told}")
        arrays = {options.part: arrays[options.part]}
    if not arrays:
        raise DataError(f"{path} contains no array", "save the events with numpy.save")
    if len(arrays) > 1:
        if set(_ES_IMAGENET) <= set(arrays):
            return _es_imagenet(path, arrays, options)
        return named(path, "arrays by name", arrays, options)
    (values,) = arrays.values()
    return read_table(path, values, options, "an array with fields", "plain rows")


def read_table(path: Path, values: NDArray[Any], options: EventOptions, fields: str, rows: str) -> Found:
    """Return the events of one array with fields, or of plain rows; `fields` and `rows` say so in the report.

    Raises:
        DataError: it is neither.
    """
    if values.dtype.names is not None:
        with reading(path, "an array of events"):
            # Squeezed: an array of shape (1, N) is N events too.
            table = values.reshape(-1) if values.size == max(values.shape, default=1) else values
            return named(path, fields, {name: table[name] for name in values.dtype.names}, options)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(
            f"{path} contains an array {list(values.shape)} of type {values.dtype}, not events",
            "events are an array with the fields t, x, y and p, arrays of these names, or plain rows [N, 4]",
        )
    return plain(path, values, options, rows)


# -------------------------------------------------------------------------------------------------------------- parts


def _members(path: Path) -> dict[str, NDArray[Any]]:
    with reading(path, "a file of numbers as numpy writes it"):
        with zipfile.ZipFile(path) as archive:
            size, given = sum(each.file_size for each in archive.infolist()), path.stat().st_size
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if size > _LARGE and size > _RATIO * given:
            raise DataError(f"{path} of {given} bytes unpacks to {size}", "save it with numpy.savez, uncompressed")
        return read_members(path, dict.fromkeys(names, ARRAY_LIMIT), None)


def _es_imagenet(path: Path, arrays: Mapping[str, NDArray[Any]], options: EventOptions) -> Found:
    """Return the events of ES-ImageNet's form: an array of rows for each polarity."""
    rows = [arrays[name] for name in _ES_IMAGENET]
    order = options.order or ""
    if sorted(order) != ["t", "x", "y"] or any(each.ndim != 2 or each.shape[1] != 3 for each in rows):
        shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in _ES_IMAGENET)
        raise DataError(
            f"{path} contains events by polarity as ES-ImageNet does ({shapes}), whose columns are ambiguous",
            "specify it: --events order=xyt, or order=yxt (as SpikingJelly reads ES-ImageNet)",
        )
    whole = np.concatenate(rows)
    columns = {letter: whole[:, number] for number, letter in enumerate(order)}
    columns["p"] = np.repeat([1, 0], [len(each) for each in rows])
    # Two lists of events become one, in order of time.
    after = np.argsort(columns["t"], kind="stable")
    columns = {each: values[after] for each, values in columns.items()}
    return Found("arrays pos and neg", columns, notes=(f"columns {order}, as given; pos and neg put together by time",))


def _holds_objects(file: Any) -> bool:
    """Return whether a .npy file holds pickled Python objects."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return bool(read(file)[2].hasobject)
