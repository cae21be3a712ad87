"""Open files from elsewhere: anything that could run code is refused before torch sees the file.

A .pt2 is a zip of weights as bare bytes, of JSON, and of pickles. `torch.export.load` unpickles with code what does not
load without, evaluates some of the JSON's texts (sizes, guards), makes Python of its names, and calls whatever operator
is named. So nothing is taken for harmless but what is listed here: the members that hstnn writes, stored once and as
they are; operators that only compute; texts of a few forms; pickles that load as plain tensors. torch is then given a
copy of what was looked at, without its pickle and without what is only about the program (where it was written).

TorchScript is code: a `__setstate__` runs when it is loaded, and may write files. It is opened only where its writer is
trusted.
"""

import io
import json
import re
import struct
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.errors import BundleError, ExportError
from hstnn_deploy.foreign import first_line, one_line

_ROOT = "archive/"
_MODEL, _WEIGHTS, _SAMPLES = "models/model.json", "data/weights/", "data/sample_inputs/model.pt"
_CONFIG, _CONSTANTS = f"{_WEIGHTS}model_weights_config.json", "data/constants/model_constants_config.json"
_MEMBERS = re.compile(
    rf"{_WEIGHTS}weight_\d+|{re.escape(_CONFIG)}|{re.escape(_CONSTANTS)}|{re.escape(_MODEL)}|{re.escape(_SAMPLES)}|"
    r"extra/metadata\.json|archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
)
_PICKLED = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/version|\.data/serialization_id"
)
"""Members of what `torch.save` writes."""
_LARGEST_MODEL = 16 * 2**20
"""Bytes of the program itself, which has some 50 kB a layer."""
_FLOAT32, _STRIDED = 7, 7
"""In the format's own numbers."""

_END, _LOCATOR, _LONG_END = struct.Struct("<4s4H2IH"), struct.Struct("<4sIQI"), struct.Struct("<4sQ2H2I4Q")
"""How the list of an archive's members ends."""
_FLAGS = 0x808
"""Of a member: its size stands behind it too, its name is UTF-8."""

_OPERATORS = frozenset(
    "aten." + name
    for name in (
        *("add.Tensor", "add.Scalar", "sub.Tensor", "rsub.Scalar", "mul.Tensor", "mul.Scalar", "div.Tensor"),
        *("matmul.default", "mm.default", "addmm.default", "linear.default", "conv2d.default", "embedding.default"),
        *("sigmoid.default", "tanh.default", "relu.default", "gt.Scalar", "gt.Tensor", "avg_pool2d.default"),
        *("cat.default", "stack.default", "chunk.default", "slice.Tensor", "select.int", "flatten.using_ints"),
        *("view.default", "reshape.default", "permute.default", "transpose.int", "t.default", "unbind.int"),
        *("unflatten.int", "ones_like.default"),
        *("squeeze.dim", "unsqueeze.default", "sum.dim_IntList", "clone.default", "alias.default", "detach.default"),
        *("to.dtype", "_to_copy.default"),
        *("ge.Scalar", "ge.Tensor", "floor.default", "clamp.default", "neg.default", "conv1d.default", "rsqrt.default"),
        *("max_pool2d.default", "batch_norm.default", "mean.dim", "index.Tensor", "select.int", "full.default"),
        *("softmax.int", "amax.default", "abs.default", "lt.Scalar"),
    )
)
_TARGET = re.compile(r"torch\.ops\.higher_order\.scan|torch\.ops\.(aten\.\w+\.\w+)")
_KINDS = frozenset(
    "as_" + kind
    for kind in (
        *("tensor", "tensors", "optional_tensors", "int", "ints", "float", "floats", "bool", "bools", "none"),
        *("expr", "scalar_type", "memory_format", "graph"),
    )
)
"""Of arguments: no text, no object, no operator is handed to one."""
_NAME = re.compile(r"[A-Za-z_]\w{0,300}|", re.ASCII)
_PATH = re.compile(r"[A-Za-z_][\w.]{0,300}|", re.ASCII)
_INTEGER = r"-?\d{1,12}(?!\d)"
_SIZE = re.compile(
    rf"(?=.{{1,300}}\Z)(Symbol\('[su]\d{{1,6}}', positive=True, integer=True\)|[su]\d{{1,6}}(?!\d)|"
    rf"Integer\({_INTEGER}\)|{_INTEGER}|Mul|Add|[(), ])+",
    re.ASCII,
)
_OF_INPUT = r"L\['\w+'\](\['\w+'\])?\.size\(\)\[\d\]"
_GUARD = re.compile(rf"{_OF_INPUT} (==|!=|<=|>=|<|>) ({_OF_INPUT}|\d{{1,12}})", re.ASCII)
_TREE = re.compile(
    r'([\[\]{}:, 1]|null|"(type|context|children_spec|null|builtins\.(tuple|list|dict))"|"\[(\\"\w*\\"(, )?)*\]")*',
    re.ASCII,
)
_TEXTS = {
    "expr_str": _SIZE,
    "guards_code": _GUARD,
    "in_spec": _TREE,
    "out_spec": _TREE,
    "torch_version": re.compile(r"[\w.+]{1,40}", re.ASCII),
    "parameter_name": _PATH,
    "buffer_name": _PATH,
    "fqn": _PATH,
}
"""What texts of a program may be, by their key; all others are names."""


class _Unsafe(Exception):
    """Something in a file that could run code, or that hstnn does not write."""


def open_program(path: Path) -> Any:
    """Return the program of a .pt2 file, a `torch.export.ExportedProgram`; nothing in the file is run.

    Raises:
        BundleError: it could run code, or is not as hstnn writes it.
        ExportError: it cannot be read.
    """
    members = _read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.load(_copy(members))
        except Exception as error:  # torch raises many kinds for a file it cannot read
            raise ExportError(f"cannot read {path}: {first_line(error)}") from error


def check_program(path: Path) -> None:
    """Look a .pt2 file through without opening it; see `open_program`."""
    _read(path)


def program_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in a .pt2 file by name, read as bare bytes; see `open_program`."""
    return {name: torch.from_numpy(value) for name, value in _weights(_read(path)).items()}


def open_script(path: Path) -> Any:
    """Return the module of a TorchScript file, whose writer is trusted: opening it may run code.

    Raises:
        ExportError: it cannot be read.
    """
    with warnings.catch_warnings():
        # torch says that TorchScript is deprecated; who asks for it knows.
        warnings.simplefilter("ignore")
        try:
            return torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # torch raises many kinds for a file it cannot read
            raise ExportError(f"cannot read {path}: {first_line(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    """Return what is in a .pt2 file, all of it looked at: its members' bytes, the program as plain data."""
    try:
        content = path.read_bytes()
        members: dict[str, Any] = _members(content, _MEMBERS)
        if wrong := {_MODEL, _CONFIG, _CONSTANTS, _SAMPLES} - members.keys():
            raise _Unsafe(f"it has no member {min(wrong)}")
        if members.get("byteorder", b"little") != b"little":
            raise _Unsafe("its weights are not little-endian")
        if len(members[_MODEL]) > _LARGEST_MODEL:
            raise _Unsafe(f"its program has {len(members[_MODEL])} bytes; the limit is {_LARGEST_MODEL}")
        members[_MODEL] = _plain(json.loads(members[_MODEL]))
        if json.loads(members[_CONSTANTS]) != {"config": {}}:
            raise _Unsafe("it has constants beside its weights")
        _weights(members)
        _check_samples(members[_SAMPLES])
    except _Unsafe as error:
        raise BundleError(
            f"{path} could run code when opened, or is not as hstnn writes it: {error}; hstnn did not open it",
            "do not open it; export the checkpoint again",
        ) from error
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # a foreign file is of any shape
        raise ExportError(
            f"{path} is not as hstnn writes it: {type(error).__name__}: {one_line(str(error))}"
        ) from error
    return members


def _members(content: bytes, allowed: re.Pattern[str]) -> dict[str, bytes]:
    """Return the members of an archive as torch writes it: one that every reader of zip files reads in one way.

    Nothing stands before or behind it, no name comes twice, and all is stored as it is, so that it is no larger than
    the file.
    """
    if content[:2] != b"PK":
        raise _Unsafe("it is not an archive")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = archive.infolist()
        names = [each.filename for each in found]
        in_one_way = (
            _directory(content) == (len(found), archive.start_dir)
            and names == [each.orig_filename for each in found]
            and len({name.lower() for name in names}) == len(names)
        )
        for each in found:
            if each.compress_type or each.file_size != each.compress_size or each.flag_bits & ~_FLAGS:
                raise _Unsafe(f"its member {each.filename[:100]!a} is compressed or encrypted")
            if not each.filename.startswith(_ROOT) or not allowed.fullmatch(each.filename.removeprefix(_ROOT)):
                raise _Unsafe(f"it has a member {each.filename[:100]!a}")
        starts = [*(each.header_offset for each in found), archive.start_dir]
        ends = [each.header_offset + 30 + len(each.filename) + each.file_size for each in found]
        in_a_row = starts[0] == 0 and all(end <= start for end, start in zip(ends, starts[1:], strict=True))
        if not in_one_way or not in_a_row:
            raise _Unsafe("its archive is ambiguous")
        return {each.filename.removeprefix(_ROOT): archive.read(each) for each in found}


def _directory(content: bytes) -> tuple[int, int] | None:
    """Return how many members an archive has and where their list begins, if its end says so in one way only."""
    end = len(content) - _END.size
    *short, comment = _END.unpack_from(content, end)
    count, size, start = short[4:]
    directory_end = end
    if content[end - _LOCATOR.size : end][:4] == b"PK\6\7":
        # torch says it all twice over: once more in fields that are long enough for any archive.
        directory_end = end - _LOCATOR.size - _LONG_END.size
        long = _LONG_END.unpack_from(content, directory_end)
        count, size, start = long[7:]
        tail = (b"PK\6\6", 44, *long[2:4], 0, 0, count, count, size, start)
        if long != tail or _LOCATOR.unpack_from(content, end - _LOCATOR.size)[1:] != (0, directory_end, 1):
            return None
    wanted = [b"PK\5\6", 0, 0, *[min(count, 2**16 - 1)] * 2, min(size, 2**32 - 1), min(start, 2**32 - 1)]
    return (count, start) if short == wanted and comment == 0 and start + size == directory_end else None


def _plain(value: Any, key: str = "") -> Any:
    """Return a part of a program, all of its texts looked at, without what is only about the program."""
    match value:
        case dict():
            for name in value:
                if not _NAME.fullmatch(name) or (name.startswith("as_") and name not in _KINDS):
                    raise _Unsafe(f"its program has a part {name[:100]!a}")
            return {name: {} if name == "metadata" else _plain(each, name) for name, each in value.items()}
        case list():
            return [_plain(each, key) for each in value]
        case str() if key == "target":
            found = _TARGET.fullmatch(value)
            if not found or (found[1] and found[1] not in _OPERATORS):
                raise _Unsafe(f"its program calls {value[:100]!a}")
            return value
        case str():
            if not _TEXTS.get(key, _NAME).fullmatch(value):
                raise _Unsafe(f"its program has {value[:100]!a} as {key}")
            return value
        case _:
            return value


def _weights(members: dict[str, Any]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the weights by name, each as large as it says, and every member of weights used."""
    weights, used = {}, set()
    for name, about in json.loads(members[_CONFIG])["config"].items():
        meta, member = about["tensor_meta"], f"{_WEIGHTS}{about['path_name']}"
        shape = [size["as_int"] for size in meta["sizes"]]
        strides = [prod(shape[place + 1 :]) for place in range(len(shape))]
        plain = (
            about["use_pickle"] is False
            and _PATH.fullmatch(name)
            and member in members
            and all(type(size) is int and size >= 0 for size in shape)
            and [stride["as_int"] for stride in meta["strides"]] == strides
            and meta["storage_offset"] == {"as_int": 0}
            and (meta["dtype"], meta["layout"], meta["device"]["type"]) == (_FLOAT32, _STRIDED, "cpu")
            and len(members[member]) == 4 * prod(shape)
        )
        if not plain:
            raise _Unsafe(f"its weight {name[:100]!a} is not stored as bare numbers of its shape")
        weights[name] = np.frombuffer(members[member], "<f4").reshape(shape).copy()
        used.add(member)
    if left := {name for name in members if name.startswith(f"{_WEIGHTS}weight_")} - used:
        raise _Unsafe(f"its member {min(left)} is not a weight")
    return weights


def _check_samples(content: bytes) -> None:
    """Look at the pickle of the program's example: x and the states."""
    if not content:
        return
    try:
        _members(content, _PICKLED)
        (x, states), named = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        plain = named == {} and all(isinstance(each, Tensor) for each in (x, *states.values()))
    except Exception as error:  # whatever a pickle holds
        raise _Unsafe(f"its member {_SAMPLES} is a pickle of more than plain tensors") from error
    if not plain:
        raise _Unsafe(f"its member {_SAMPLES} is not a program's example")


def _copy(members: dict[str, Any]) -> io.BytesIO:
    """Return an archive of what was looked at; an example is not needed, and so no pickle goes in."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in members.items():
            value = json.dumps(content).encode() if name == _MODEL else b"" if name == _SAMPLES else content
            archive.writestr(f"{_ROOT}{name}", value)
    copy.seek(0)
    return copy
