"""Any ONNX file, looked at before it is run: its inputs, and everything in it that must not be believed.

Nothing of the file is run, and nothing beside it is read but the sizes of the files that hold its numbers.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto, TensorProto

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.foreign import one_line, reading
from hstnn_deploy.profile.foreign.shapes import Axis, Declared

_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
}
_DOMAINS = {
    *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"),
    *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"),
}
"""Whose operators ONNX Runtime brings itself."""
_IN_MEMORY = "_ORT_MEM_ADDR_"
"""ONNX Runtime takes a place of this name for an address in its own memory."""
_AGAIN = "export it again with its weights inside, or in a file beside it"


class Found(NamedTuple):
    """What a file says, checked."""

    inputs: list[Declared]
    bytes: int
    """Of the file, and of the files that hold its numbers."""
    weights: int
    """Numbers of its floating-point initializers."""


def examine(path: Path) -> Found:
    """Return what an ONNX file says of itself.

    Raises:
        ProfileError: it cannot be read, is no ONNX model, has inputs that are no tensors of numbers, operators that
            only a library beside it could run, or numbers in a file outside its folder or shorter than it says.
    """
    with reading(path, "an ONNX file", ProfileError):
        if not path.is_file():
            raise ProfileError(f"{path} is not a file", "give an ONNX file")
        model = onnx.load(str(path), load_external_data=False)
    # Protocol buffers take many a file for an empty model.
    if not model.ir_version or not model.graph.output:
        raise ProfileError(f"{path} is damaged, or not an ONNX file: it has no graph with an output")
    _check_operators(path, model)
    outside = _check_external(path, model)
    inner = {each.name for each in model.graph.initializer}
    inner |= {each.values.name for each in model.graph.sparse_initializer}
    inputs = [_declared(path, each) for each in model.graph.input if each.name not in inner]
    weights = sum(
        math.prod(each.dims)
        for each in model.graph.initializer
        if each.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
    )
    return Found(inputs, path.stat().st_size + outside, weights)


def _declared(path: Path, value: Any) -> Declared:
    name = one_line(value.name)
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "of no type").removesuffix("_type").replace("_", " ")
        raise ProfileError(
            f"{path}: its input {name} is {what}, not a tensor", "hstnn can generate only tensors of numbers"
        )
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        known = TensorProto.DataType.values()
        called = (
            TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "of no known type"
        )
        raise ProfileError(f"{path}: its input {name} is {called}", f"inputs may be {', '.join(_TYPES.values())}")
    axes: list[Axis] | None = None
    if tensor.HasField("shape"):
        axes = [_axis(path, name, place, each) for place, each in enumerate(tensor.shape.dim)]
    return Declared(value.name, axes, _TYPES[tensor.elem_type])


def _axis(path: Path, name: str, place: int, axis: Any) -> Axis:
    if axis.HasField("dim_value"):
        if axis.dim_value <= 0:
            # Some exporters write so that an axis is free.
            if axis.dim_value in (0, -1):
                return None
            raise ProfileError(f"{path}: axis {place} of its input {name} is {axis.dim_value}", "export it again")
        return int(axis.dim_value)
    return axis.dim_param or None


def _check_operators(path: Path, model: Any) -> None:
    own = {(each.domain, each.name) for each in model.functions}
    custom = {
        f"{each.domain}::{each.op_type}"
        for nodes in (model.graph.node, *(each.node for each in model.functions))
        for each in _nodes(nodes)
        if each.domain not in _DOMAINS and (each.domain, each.op_type) not in own
    }
    if custom:
        raise ProfileError(
            f"{path} has operators that ONNX Runtime does not know: {one_line(', '.join(sorted(custom)))}",
            "they need a custom library, which hstnn does not load: export it with standard operators",
        )


def _nodes(nodes: Any) -> Iterator[Any]:
    """Yield nodes, and those of the graphs inside them."""
    left = list(nodes)
    while left:
        node = left.pop()
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
                left += graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor in a model, wherever it is."""
    graphs = [model.graph]
    for nodes in (model.graph.node, *(each.node for each in model.functions)):
        for node in _nodes(nodes):
            for attribute in node.attribute:
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
                sparse = [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]
                for each in (*sparse, *attribute.sparse_tensors):
                    yield from (each.values, each.indices)
    for graph in graphs:
        yield from graph.initializer
        for each in graph.sparse_initializer:
            yield from (each.values, each.indices)


def _check_external(path: Path, model: Any) -> int:
    """Refuse numbers that are elsewhere than in whole files of the model's own folder; return these files' bytes."""
    sizes: dict[Path, int] = {}
    folder = path.resolve().parent
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        where = {each.key: each.value for each in tensor.external_data}
        place, name = where.get("location", ""), one_line(tensor.name) or "a constant"
        file = _inside(path, folder, place, name)
        sizes.setdefault(file, file.stat().st_size)
        try:
            offset, length = (int(where.get(key, "0")) for key in ("offset", "length"))
        except ValueError as error:
            raise ProfileError(f"{path}: the offset or length of the weights {name} is not a number", _AGAIN) from error
        if offset < 0 or length < 0 or offset + length > sizes[file]:
            raise ProfileError(
                f"{path}: {name} should be {length} bytes from byte {offset} of {one_line(place)}, which has"
                f" {sizes[file]}",
                "copy that file again",
            )
    return sum(sizes.values())


def _inside(path: Path, folder: Path, place: str, name: str) -> Path:
    """Return the file that a tensor's numbers lie in.

    Raises:
        ProfileError: it is outside the model's folder, or not there.
    """
    windows = PureWindowsPath(place)
    parts = set(windows.parts)
    if not place or "\0" in place or windows.drive or windows.root or ".." in parts or _IN_MEMORY in place:
        raise ProfileError(f"{path} has the weights {name} at {one_line(place)!r}, outside its folder", _AGAIN)
    file = (folder / place).resolve()
    if not file.is_relative_to(folder):
        raise ProfileError(f"{path} has the weights {name} in {one_line(place)}, a link out of its folder", _AGAIN)
    if not file.is_file():
        raise ProfileError(f"{path} has the weights {name} in {one_line(place)}, which is not there", "copy it too")
    return file
