"""Which files of a folder hold x and y, and their arrays; nothing is believed before it is checked.

x.npy and y.npy; x_train.npy, y_train.npy, x_test.npy and so on        in a folder
data.npz, data.pt                                                      with x and y, or x_train, y_train, …
train.npz, valid.npz, test.npz (or .pt)                                with x and y each
class/1.npy, class/2.npy                                               a sample each: see `arrays`
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.files.arrays import read_array, read_arrays
from hstnn_deploy.data.own.parts import SAID, SPLITS
from hstnn_deploy.data.own.torch_file import numbers_of, read_torch
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief

Array = NDArray[Any]

LIMIT = 64 * 2**30
"""Bytes of an array of a .npz file at most: unpacked into a temporary file, which is mapped."""

_HOLD = (".npz", ".pt", ".pth")
_NAMES = {"x": "x", "y": "y", "data": "x", "inputs": "x", "labels": "y", "targets": "y", "label": "y", "target": "y",
          "group": "group", "groups": "group", "subject": "group"}  # fmt: skip


class Part(NamedTuple):
    """Arrays that belong together."""

    split: str
    """train, valid, test; empty if not given."""
    x: Array
    """[N, …]"""
    y: Array
    groups: Array | None
    name: str
    """The files, for messages."""


def find_parts(where: Path) -> tuple[list[Part], list[Path]]:
    """Return the arrays of a folder or file, and the files that hold them.

    Raises:
        DataError: there are no arrays, an x lacks its y, or a file is damaged or holds something else than an array.
    """
    if where.is_file():
        return _parts({"": _members(where)}), [where]
    if not where.is_dir():
        raise DataError(f"your arrays {where} do not exist", "set data.path to where they are")
    files = sorted(path for path in where.iterdir() if path.is_file() and not path.name.startswith("."))
    holding = [path for path in files if path.suffix.lower() in _HOLD]
    single = [path for path in files if path.suffix.lower() == ".npy" and _role(path.stem)]
    if holding and single:
        raise DataError(
            f"{where} contains {holding[0].name} and {single[0].name}: which is it?", "keep one of them there"
        )
    if single:
        held = _by_name(((path.stem, (read_array(path), str(path))) for path in single), where)
        return _parts({"": held}), single
    said = {path: SPLITS[SAID[path.stem.lower()]] for path in holding if path.stem.lower() in SAID}
    if "train" in said.values():
        if len(set(said.values())) < len(said):
            names = ", ".join(path.name for path in said)
            raise DataError(f"{where} contains two files for one split: {names}", "keep one")
        return _parts({split: _members(path) for path, split in said.items()}), list(said)
    if len(holding) == 1:
        return _parts({"": _members(holding[0])}), holding
    names = ", ".join(path.name for path in holding[:6])
    raise DataError(
        f"{where} contains {names or 'no x.npy, .npz or .pt file'}",
        "give x.npy and y.npy, one .npz or .pt file with x and y, or train.npz and test.npz",
    )


def _members(path: Path) -> dict[str, tuple[Any, str]]:
    """Return the arrays of a file by name, and what each is called in messages."""
    suffix = path.suffix.lower()
    if suffix in (".pt", ".pth"):
        held = read_torch(path)
        if isinstance(held, list | tuple) and len(held) == 2:
            held = {"x": held[0], "y": held[1]}
        if not isinstance(held, dict):
            raise DataError(f"{path} contains a {type(held).__name__}", 'save torch.save({"x": x, "y": y}, FILE)')
        named = ((str(name), value) for name, value in held.items() if _role(str(name)))
        arrays = ((name, (numbers_of(value, f"{path}: {name}"), f"{path}: {name}")) for name, value in named)
        return _by_name(arrays, path)
    if suffix != ".npz":
        raise DataError(f"{path} contains no x and y", "give a .npz or .pt file, or the folder of x.npy and y.npy")
    names = [f"{each}{split}" for each in _NAMES for split in ("", *(f"_{said}" for said in SAID))]
    limits = dict.fromkeys([*names, *(name.upper() for name in names), *(_capital(name) for name in names)], LIMIT)
    read = read_arrays(path, limits, besides=None)
    return _by_name(((name, (value, f"{path}: {name}")) for name, value in read.items()), path)


def _by_name(arrays: Iterable[tuple[str, tuple[Any, str]]], where: Path) -> dict[str, tuple[Any, str]]:
    """Return arrays by their names in small letters.

    Raises:
        DataError: two names are one then.
    """
    found: dict[str, tuple[Any, str]] = {}
    for name, value in arrays:
        if (other := found.setdefault(name.lower(), value)) is not value:
            raise DataError(f"{where}: {other[1]} and {value[1]} have the same name in lowercase", "keep one of them")
    return found


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _role(name: str) -> tuple[str, str] | None:
    """Return what an array of a name is (x, y or group), and its split; None if it is none of these."""
    base, _, said = name.lower().partition("_")
    if base not in _NAMES or (said and said not in SAID):
        return None
    return _NAMES[base], SPLITS[SAID[said]] if said else ""


def _parts(held: dict[str, dict[str, tuple[Any, str]]]) -> list[Part]:
    by_split: dict[str, dict[str, tuple[Any, str]]] = {}
    for of_file, members in held.items():
        for name, value in members.items():
            role = _role(name)
            if role is None:
                continue
            what, split = role
            there = by_split.setdefault(of_file or split, {})
            if what in there:
                raise DataError(f"{value[1]} and {there[what][1]} are both {what}", "keep one of them")
            there[what] = value
    if not by_split:
        raise DataError("no array is called x or y", "name them so: numpy.savez(FILE, x=x, y=y)")
    if "" in by_split and len(by_split) > 1:
        raise DataError(
            f"{next(iter(by_split[''].values()))[1]} lies next to arrays of splits",
            "give x and y, or x_train, y_train, x_test and y_test; the same for groups",
        )
    if "" not in by_split and "train" not in by_split:
        raise DataError(f"there is {next(iter(by_split))} but nothing to train on", "give x_train and y_train")
    order = ("", *SPLITS)
    return [_part(split, by_split[split]) for split in order if split in by_split]


def _part(split: str, members: dict[str, tuple[Any, str]]) -> Part:
    for one, other in (("x", "y"), ("y", "x")):
        if one not in members:
            raise DataError(f"{members.get(other, ('', 'the file'))[1]} comes without {one}", "give x and y")
    (x, name), (y, of_y) = members["x"], members["y"]
    x, y = _numbers(x, name), _labels(y, of_y)
    if len(x) != len(y):
        raise DataError(f"{name} contains {len(x)} samples, and {of_y} {len(y)}", "each sample has one label")
    groups = _labels(*members["group"]) if "group" in members else None
    if groups is not None and groups.shape != (len(x),):
        raise DataError(
            f"{members['group'][1]} has shape {list(groups.shape)}", f"give a group for each of {len(x)} samples"
        )
    return Part(split, x, y, groups, name)


def _numbers(value: Any, name: str) -> Array:
    if not isinstance(value, np.ndarray):
        raise DataError(f"{name} has type {type(value).__name__}, not an array", "save an array or a tensor")
    check_real(value, name)
    if value.ndim < 2 or 0 in value.shape:
        raise DataError(f"{name} has shape {list(value.shape)}", "give samples [N, …] of at least one number each")
    return value


def check_real(value: Array, name: str) -> None:
    """Refuse an array of anything but real numbers.

    Raises:
        DataError: names its type.
    """
    if value.dtype.kind not in "iufb" or value.dtype.names:
        raise DataError(f"{name} has type {value.dtype}", "give real numbers")


def _labels(value: Any, name: str) -> Array:
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) for each in value):
        value = np.array(value)
    if isinstance(value, Sequence):
        value = np.array(value) if all(type(each) in (int, float, bool) for each in value) else value
    if not isinstance(value, np.ndarray) or value.ndim < 1:
        raise DataError(f"{name} is {brief(value)}, not an array", "save an array of labels")
    if value.dtype.kind not in "iufbUS" or value.dtype.names:
        raise DataError(
            f"{name} has type {value.dtype}", "give whole numbers or names as classes, or fractions as values"
        )
    if value.dtype.kind != "S":
        return value
    try:
        return np.char.decode(value, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} contains bytes that are not UTF-8 text: {brief(error.object)}", "save names as text"
        ) from error
