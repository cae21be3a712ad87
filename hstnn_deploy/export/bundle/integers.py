"""Weights of few levels stored as integers, and turned into the very same numbers by the graph.

    a scale 2^-m, or one level     DequantizeLinear of int4, int8 or int16: q * scale, exact
    any other 256 levels at most   Gather from a table of the levels, by uint8

int4 needs version 21 of the operators; before it, int16 is cast and multiplied. What has more levels stays as it is.
Each array is compared with what it becomes, to the bit.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hstnn_deploy.errors import ExportError

_LEAST = 64
"""The fewest values of an array for which integers save space."""
_FINEST = 16
"""The finest scale is 2^-16."""

_NEW = 21
"""The version of the operators from which DequantizeLinear takes int4 and int16."""

Array = NDArray[np.float32]


def store_integers(model: onnx.ModelProto) -> int:
    """Store what arrays of a model can be as integers, in place; return how many.

    Raises:
        ExportError: none can.
    """
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    count = sum(_of_graph(graph, opset) for graph in graphs(model.graph))
    if not count:
        raise ExportError("no array of weights has few enough levels for integers")
    return count


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def _of_graph(graph: onnx.GraphProto, opset: int) -> int:
    kept, arrays, nodes = [], [], []
    for stored in graph.initializer:
        values = numpy_helper.to_array(stored) if stored.data_type == TensorProto.FLOAT else None
        made = None if values is None or values.size < _LEAST else _stored(stored.name, values, opset)
        if made is None:
            kept.append(stored)
            continue
        arrays += made[0]
        nodes += made[1]
    changed = len(graph.initializer) - len(kept)
    if changed:
        others = list(graph.node)
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend([*kept, *arrays])
        graph.node.extend([*nodes, *others])
    return changed


def _stored(name: str, values: Array, opset: int) -> tuple[list[TensorProto], list[onnx.NodeProto]] | None:
    """Return the arrays and nodes that give an array, or None where it has too many levels."""
    for scale in _scales(values):
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(values / scale)
            given = (whole.astype(np.float32) + np.float32(0)) * scale  # an integer has no negative zero
        if not np.array_equal(_bits(given), _bits(values)):
            continue
        if (kind := _kind(whole, opset)) is None:
            continue
        numbers = helper.make_tensor(f"{name}/integers", kind, values.shape, _bytes(whole, kind), raw=True)
        of_scale = numpy_helper.from_array(scale, f"{name}/scale")
        if kind == TensorProto.INT16 and opset < _NEW:
            real = f"{name}/real"
            cast = helper.make_node("Cast", [numbers.name], [real], f"{name}/cast", to=TensorProto.FLOAT)
            return [numbers, of_scale], [cast, helper.make_node("Mul", [real, of_scale.name], [name], f"{name}/scaled")]
        node = helper.make_node("DequantizeLinear", [numbers.name, of_scale.name], [name], f"{name}/dequantised")
        return [numbers, of_scale], [node]
    bits, places = np.unique(_bits(values), return_inverse=True)
    levels = bits.view(np.float32)
    if len(levels) > 256 or len(levels) * 4 > values.size:
        return None
    indices = numpy_helper.from_array(places.reshape(values.shape).astype(np.uint8), f"{name}/levels")
    table = numpy_helper.from_array(levels, f"{name}/table")
    cast = helper.make_node("Cast", [indices.name], [f"{name}/places"], f"{name}/cast", to=TensorProto.INT32)
    gather = helper.make_node("Gather", [table.name, f"{name}/places"], [name], f"{name}/gathered")
    return [indices, table], [cast, gather]


def _bits(values: Array) -> NDArray[np.uint32]:
    """Return numbers as they are stored: -0.0 is not 0.0, and NaN is what it is."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def _scales(values: Array) -> Iterator[Array]:
    """Yield the scales that may divide all values: powers of 2, coarsest first, and the only level there is."""
    for finer in range(_FINEST + 1):
        yield np.array(2.0**-finer, np.float32)
    sizes = np.unique(np.abs(values))
    if len(sizes[sizes > 0]) == 1:
        yield np.array(sizes[-1], np.float32)


def _bytes(whole: Array, kind: int) -> bytes:
    """Return whole numbers as ONNX stores them; of int4 two a byte, the first one below."""
    if kind == TensorProto.INT16:
        return whole.astype("<i2").tobytes()
    values = whole.astype(np.int8).flatten()
    if kind == TensorProto.INT8:
        return values.tobytes()
    pairs = np.append(values, np.zeros(len(values) % 2, np.int8)).reshape(-1, 2) & 0xF
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()


def _kind(whole: Array, opset: int) -> int | None:
    """Return the smallest type that holds whole numbers, of those that the operators' version knows."""
    low, high = float(whole.min()), float(whole.max())
    for kind, bits, since in ((TensorProto.INT4, 4, _NEW), (TensorProto.INT8, 8, 13), (TensorProto.INT16, 16, 13)):
        if opset >= since and -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):
            return kind
    return None
