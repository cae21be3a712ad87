"""Read a NIR file as plain nodes and edges, in bounded time and memory, whichever version of nir wrote it.

Nothing that a file says of itself is believed before it is checked: no link is followed but hard ones, no data set is
read that claims more than its stored bytes can unpack to, and sub-graphs may stand in a few others only. Nodes are read
field by field and not through the package nir, whose versions know different fields; h5py alone is needed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.foreign import brief, reading

Array = NDArray[Any]

MOST = 2**31
"""Bytes of a file, and of what its data sets unpack to, at most."""
_RATIO = 1100
"""Bytes that a stored byte can become: gzip's most."""
_NODES = 2500
"""Nodes and edges of a file, at most; a stack has 1000 layers."""
_OBJECTS = 20 * _NODES
"""Groups and data sets that are looked at."""
_DEEPEST = 20
"""Sub-graphs within sub-graphs."""
_LETTERS = 1000
"""Of a name, and of any other text."""


class Node(NamedTuple):
    """A node: its type, and its fields by name, as arrays and text."""

    kind: str
    fields: dict[str, Any]

    def array(self, name: str) -> Array:
        """Return a field of numbers.

        Raises:
            DataError: it is missing, no numbers, or not finite.
        """
        if name not in self.fields:
            raise DataError(f"a node of type {self.kind} has no {name}")
        found = np.asarray(self.fields[name])
        if found.dtype.kind not in "fiub":
            raise DataError(f"{name} is {brief(self.fields[name])}, not numbers")
        if not np.isfinite(found).all():
            raise DataError(f"{name} contains a number that is not finite")
        return found

    def whole(self, name: str, least: int = 0) -> list[int]:
        """Return a field of whole numbers.

        Raises:
            DataError: see `array`; or one is not whole, too small or too large.
        """
        found = np.ravel(self.array(name))
        if not found.size or found.size > 3 or (found != np.round(found)).any() or (abs(found) > 2**31).any():
            raise DataError(f"{name} is {brief(found.tolist())}; it must be 1 to 3 whole numbers")
        if (found < least).any():
            raise DataError(f"{name} is {found.tolist()}; the minimum is {least}")
        return [int(each) for each in found]

    def text(self, name: str) -> str | None:
        """Return a field that is text; None if it is something else."""
        found = self.fields.get(name)
        found = found.item() if isinstance(found, np.ndarray) and found.ndim == 0 else found
        found = found.decode("utf-8", "replace") if isinstance(found, bytes) else found
        return found if isinstance(found, str) else None


class Graph(NamedTuple):
    """A graph, or one that is a node of another."""

    nodes: "dict[str, Node | Graph]"
    edges: list[tuple[str, str]]
    told: dict[str, Any]
    """Its metadata."""


_SHAPES = {"Input": "input_type", "Output": "output_type"}
"""Where a node of the package holds the shape that a file has as `shape`."""


def graph_of(graph: Any) -> Graph:
    """Return a `nir.NIRGraph` as plain nodes."""
    nodes: dict[str, Node | Graph] = {}
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        nodes[str(name)] = graph_of(node) if hasattr(node, "nodes") else node_of(node, kind)
    return Graph(nodes, [(str(source), str(target)) for source, target in graph.edges], dict(graph.metadata))


def node_of(node: Any, kind: str | None = None) -> Node:
    """Return a node of the package nir as a plain one."""
    kind = kind or type(node).__name__
    fields = {name: value for name, value in vars(node).items() if name not in {"metadata", *_SHAPES.values()}}
    if kind in _SHAPES:
        fields["shape"] = next(iter(getattr(node, _SHAPES[kind]).values()))
    return Node(kind, {name: value for name, value in fields.items() if value is not None})


def differs(one: Graph, other: Graph) -> str:
    """Return where two graphs differ, in nodes, edges or any number to the bit; empty where they do not.

    Of metadata, dt and method are compared, where both graphs name them: what is read depends on no other.
    """
    if sorted(one.edges) != sorted(other.edges):
        return "its edges"
    if one.nodes.keys() != other.nodes.keys():
        return "its nodes"
    for name, node in one.nodes.items():
        there = other.nodes[name]
        if isinstance(node, Graph):
            inside = differs(node, there) if isinstance(there, Graph) else "it is not a graph"
            if inside:
                return f"{inside} in node {name}"
            continue
        if isinstance(there, Graph) or node.kind != there.kind:
            return f"node {name}"
        if key := _unequal(node.fields, there.fields):
            return f"{key} of node {name}"
    for key in ("dt", "method"):
        if key in one.told and key in other.told and not np.array_equal(one.told[key], other.told[key]):
            return f"{key} of its metadata"
    return ""


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the first field that differs; a v_reset that is left out is 0."""
    for key in dict.fromkeys([*one, *other]):
        if key in one and key in other:
            same = bool(np.array_equal(one[key], other[key]))
        else:
            same = key == "v_reset" and not np.any(one.get(key, other.get(key)))
        if not same:
            return key
    return ""


def read_graph(path: Path, shown: str = "") -> Graph:
    """Return the graph of a NIR file.

    Args:
        path: the file.
        shown: what errors call it; "" is the path.

    Raises:
        DataError: the file is missing, damaged or no NIR graph, or claims too much.
        ExportError: the package h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise ExportError(
            "NIR files need the package h5py, which is not installed", "pip install 'hstnn-deploy[neuromorphic]'"
        ) from error
    name = shown or str(path)
    with reading(name, "a NIR graph"):
        if path.is_dir():
            raise DataError(f"{name} is a folder, not a NIR graph", "give a file such as network.nir")
        size = path.stat().st_size
        if size > MOST:
            raise DataError(f"{name} is larger than {MOST} bytes")
        try:
            with h5py.File(path, "r") as file:
                reader = _Reader(h5py)
                return reader.graph(reader.group(file, "node"), 0)
        except DataError as error:
            raise DataError(f"{name}: {error.message}", error.hint) from error


class _Reader:
    """What has been read of a file so far."""

    def __init__(self, h5py: Any) -> None:
        self._h5py, self._bytes, self._objects, self._count = h5py, 0, 0, 0

    def group(self, parent: Any, name: str) -> Any:
        """Return a group within another."""
        found = self._child(parent, name)
        if not isinstance(found, self._h5py.Group):
            raise DataError(f"{brief(name)} is not a group: it is damaged, or not a NIR graph")
        return found

    def graph(self, group: Any, depth: int) -> Graph:
        """Return a graph of a group."""
        if depth > _DEEPEST:
            raise DataError(f"sub-graphs are nested more than {_DEEPEST} deep")
        inside = self.group(group, "nodes")
        nodes: dict[str, Node | Graph] = {}
        for name in self._names(inside):
            self._count += 1
            if self._count > _NODES:
                raise DataError(f"it has more than {_NODES} nodes")
            found = self.group(inside, name)
            kind = self._text(self._child(found, "type"))
            nodes[name] = self.graph(found, depth + 1) if kind == "NIRGraph" else self._node(found, kind)
        told = self._fields(self.group(group, "metadata")) if "metadata" in group else {}
        return Graph(nodes, self._edges(group), told)

    def _node(self, group: Any, kind: str) -> Node:
        return Node(kind, {name: value for name, value in self._fields(group).items() if name != "type"})

    def _fields(self, group: Any) -> dict[str, Any]:
        found = {name: self._child(group, name) for name in self._names(group) if name != "metadata"}
        return {name: self._value(each) for name, each in found.items() if isinstance(each, self._h5py.Dataset)}

    def _names(self, group: Any) -> Iterator[str]:
        for name in group:
            if len(name) > _LETTERS:
                raise DataError(f"a name has more than {_LETTERS} letters")
            yield name

    def _child(self, group: Any, name: str) -> Any:
        """Return what stands in a group under a name, if it stands there itself."""
        self._objects += 1
        if self._objects > _OBJECTS:
            raise DataError(f"it contains more than {_OBJECTS} groups and data sets")
        link = group.get(name, getlink=True)
        if link is None:
            raise DataError(f"it has no {brief(name)}: it is damaged, or not a NIR graph")
        if not isinstance(link, self._h5py.HardLink):
            raise DataError(f"{brief(name)} is a link, which hstnn does not follow")
        return group[name]

    def _check(self, dataset: Any) -> None:
        """Refuse a data set that is elsewhere, or that claims more than its bytes can hold."""
        if dataset.is_virtual or dataset.external:
            raise DataError(f"{brief(dataset.name)} is in another file, which hstnn does not follow")
        if dataset.shape is None:
            raise DataError(f"{brief(dataset.name)} is empty")
        claimed = dataset.size * dataset.dtype.itemsize
        self._bytes += claimed
        stored = dataset.id.get_storage_size()
        if self._bytes > MOST or claimed > _RATIO * max(stored, 64):
            shape = f"shape {brief(list(dataset.shape))}"
            raise DataError(f"{brief(dataset.name)} claims the {shape}, but only {stored} bytes of it are stored")

    def _value(self, dataset: Any) -> Any:
        """Return the numbers or the text of a data set."""
        kind = dataset.dtype.kind
        if kind in "SO":
            return self._text(dataset)
        if kind not in "fiub":
            raise DataError(f"{brief(dataset.name)} contains neither numbers nor text")
        self._check(dataset)
        return np.asarray(dataset[()])

    def _text(self, dataset: Any) -> str:
        self._check_text(dataset, ())
        return self._decoded(dataset[()])

    def _check_text(self, dataset: Any, shape: tuple[int, ...]) -> None:
        if not isinstance(dataset, self._h5py.Dataset) or dataset.shape != shape:
            raise DataError(f"{brief(dataset.name)} is not text")
        if self._h5py.check_string_dtype(dataset.dtype) is None:
            raise DataError(f"{brief(dataset.name)} is not text")
        self._check(dataset)

    def _decoded(self, text: Any) -> str:
        found = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if len(found) > _LETTERS:
            raise DataError(f"{brief(found)} has more than {_LETTERS} letters")
        return found

    def _edges(self, group: Any) -> list[tuple[str, str]]:
        dataset = self._child(group, "edges")
        if not isinstance(dataset, self._h5py.Dataset):
            raise DataError("edges is not a data set: it is damaged, or not a NIR graph")
        if dataset.shape is not None and 0 in dataset.shape:
            return []
        if dataset.shape is None or len(dataset.shape) != 2 or dataset.shape[1] != 2 or len(dataset) > 2 * _NODES:
            shape = None if dataset.shape is None else list(dataset.shape)
            raise DataError(f"edges has shape {brief(shape)}; it must be [n, 2] with n at most {2 * _NODES}")
        self._check_text(dataset, dataset.shape)
        # Row by row: texts of any length can be stored once and be there in every row.
        pairs = (dataset[row] for row in range(len(dataset)))
        return [(self._decoded(source), self._decoded(target)) for source, target in pairs]
