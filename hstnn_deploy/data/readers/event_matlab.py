"""Recordings of events in Matlab's .mat files: structs or variables called t, x, y and p, and ST-MNIST's spike trains.

matlab_files reads versions 4 to 7, h5py version 7.3, which is HDF5. A struct TD, as Garrick Orchard's functions for
event cameras write it, counts x and y from 1, and its polarity where it is 1 and 2.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.readers import event_hdf5
from hstnn_deploy.data.readers.event_columns import Found
from hstnn_deploy.data.readers.event_fields import WIDTHS, letter, named, plain
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.data.readers.matlab_files import read_variables
from hstnn_deploy.errors import DataError

Values = Mapping[str, Any]
"""Numbers by their place in a file, such as `TD/x`."""

_TAXELS = 100
"""Of ST-MNIST's sensor, 10 x 10: a row each, and the times in the last."""


def read_matlab(path: Path, options: EventOptions) -> Found:
    """Return the events of a .mat file.

    Raises:
        DataError: it is damaged, unpacks to far more than it is, or holds no known events or several.
    """
    held = _hdf5(path) if _is_hdf5(path) else read_variables(path)
    trains = [place for place in held if place.rpartition("/")[2] == "spiketrain"]
    if trains and options.part in (None, *trains) and not options.order:
        return _tactile(path, np.asarray(held[options.part or trains[0]]))
    place, table = event_hdf5.choose(path, _tables(held, options), options)
    if not isinstance(table, Mapping):
        return plain(path, table, options, f".mat, plain rows of {place}")
    columns = {name: _vector(values) for name, values in table.items()}
    found = named(path, f".mat, {place}" if place else ".mat", columns, options)
    return _orchard(found) if place.rpartition("/")[2] == "TD" else found


def _tables(held: Values, options: EventOptions) -> dict[str, Any]:
    """Return by its place each struct whose fields mean t, x and y, and each array of plain rows."""
    groups: dict[str, dict[str, Any]] = {}
    for place, values in held.items():
        group, _, name = place.rpartition("/")
        if letter(name, options):
            groups.setdefault(group, {})[name] = values
    found: dict[str, Any] = {}
    for group, columns in groups.items():
        means = {letter(name, options) for name in columns}
        if {"t", "x"} <= means and len(means) >= 3:
            found[group] = columns
    if found:
        return found
    return {place: values for place, values in held.items() if values.ndim == 2 and values.shape[1] in WIDTHS}


def _vector(values: NDArray[Any]) -> NDArray[Any]:
    """Return a row or a column of numbers as [N]."""
    return values.reshape(-1) if values.size == max(values.shape, default=1) else values


def _orchard(found: Found) -> Found:
    """Return the events of a struct TD: x and y from 1 on, unless there is a 0; polarity 1 and 2, where it is that."""
    columns = {each: np.asarray(values) for each, values in found.columns.items()}
    zero = any(each in columns and columns[each].size and columns[each].min() < 1 for each in "xy")
    told = found.notes + (("x and y of TD are counted from 0 here: there is a 0 among them",) if zero else ())
    two = "p" in columns and columns["p"].size and set(np.unique(columns["p"]).tolist()) == {1, 2}
    return replace(found, notes=told, origin=0 if zero else 1, polarity=(1, 2) if two else None)


def _tactile(path: Path, train: NDArray[Any]) -> Found:
    """Return the events of ST-MNIST: [101, N]; a column is -1 or 1 at the taxels that changed, and a time.

    A taxel's number is x + 10 y, as tonic takes it.
    """
    if train.ndim != 2 or train.shape[0] != _TAXELS + 1 or train.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: its spiketrain has shape {list(train.shape)} and type {train.dtype}; ST-MNIST's is [101, N]",
            "10 x 10 taxels and the times in seconds",
        )
    spikes, time = train[:_TAXELS], train[_TAXELS]
    if not np.isin(spikes, (-1, 0, 1)).all():
        raise DataError(f"{path}: its spiketrain contains numbers other than -1, 0 and 1", "these are not spikes")
    number, taxel = np.nonzero(spikes.T)
    columns = {"t": time[number], "x": taxel % 10, "y": taxel // 10, "p": spikes[taxel, number]}
    dropped = {"times without a spike": int((~spikes.any(axis=0)).sum())}
    return Found("ST-MNIST's .mat", columns, "s", dropped, sensor=(10, 10), polarity=(-1, 1))


# ------------------------------------------------------------------------------------------------------------- files


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\x89HDF\r\n\x1a\n" in (file.read(8), file.read(512)[504:])


def _hdf5(path: Path) -> Values:
    """Return the numbers of a file of version 7.3, whose axes are the other way round."""
    import h5py

    with event_hdf5.opened(path) as file:
        found = {
            place: item
            for place, item in event_hdf5.walk(file)
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and not place.startswith("#")
        }
        return {place: event_hdf5.values(path, item).T for place, item in found.items()}
