"""Read a NIR file in a process of its own: damaged bytes can make the HDF5 library run for ever, or crash.

The process prints a line of JSON, which says what the graph holds and where its numbers are, and the numbers after it.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hstnn_deploy import errors
from hstnn_deploy.errors import DataError, HstnnError
from hstnn_deploy.export.graph.nir_file import MOST, Graph, Node, read_graph
from hstnn_deploy.foreign import AGAIN
from hstnn_deploy.processes import cause, command, environment

_SECONDS = 20
"""That a small file may take; a larger one has a second more for each 4 MB."""
_PER_SECOND = 4_000_000


def read_apart(path: Path) -> Graph:
    """Return the graph of a NIR file; see `read_graph`.

    Raises:
        DataError: see `read_graph`; or the file makes its reader run too long, or end.
        HstnnError: see `read_graph`.
    """
    limit = _SECONDS + (path.stat().st_size // _PER_SECOND if path.is_file() else 0)
    words = command("export.graph.nir_apart", str(path.absolute()), str(limit), str(path))
    try:
        # The process stops itself in time; this limit is for one that cannot.
        done = subprocess.run(words, capture_output=True, timeout=2 * limit, env=environment("cpu"), check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path} is damaged, or not a NIR graph: reading it takes over {limit} s", AGAIN) from error
    if done.returncode == -signal.SIGALRM:
        raise DataError(f"{path} is damaged, or not a NIR graph: reading it takes over {limit} s", AGAIN)
    if done.returncode:
        said = cause(done.returncode, done.stderr.decode("utf-8", "replace"))
        raise DataError(f"{path} is damaged, or not a NIR graph: its reader {said}", AGAIN)
    line, _, rest = done.stdout.partition(b"\n")
    told = json.loads(line)
    if "error" in told:
        kind: type[HstnnError] = getattr(errors, told["error"])
        raise kind(told["message"], told["hint"])
    return _graph(told, rest)


def _graph(told: Any, numbers: bytes) -> Graph:
    """Return a graph as it was told."""
    nodes = {
        name: _graph(each, numbers)
        if "nodes" in each
        else Node(each["kind"], {key: _value(value, numbers) for key, value in each["fields"].items()})
        for name, each in told["nodes"].items()
    }
    found = {key: _value(value, numbers) for key, value in told["told"].items()}
    return Graph(nodes, [(source, target) for source, target in told["edges"]], found)


def _value(told: Any, numbers: bytes) -> Any:
    if isinstance(told, str):
        return told
    kind, shape, place = told
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(numbers, np.dtype(kind), count, place).reshape(shape) if count else np.zeros(shape, kind)


class _Told:
    """A graph as JSON tells it, and the numbers that it holds, in order."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self.size = 0

    def graph(self, graph: Graph) -> dict[str, Any]:
        """Tell of a graph."""
        nodes = {
            name: self.graph(node)
            if isinstance(node, Graph)
            else {"kind": node.kind, "fields": self.values(node.fields)}
            for name, node in graph.nodes.items()
        }
        return {"nodes": nodes, "edges": graph.edges, "told": self.values(graph.told)}

    def values(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Tell of fields."""
        return dict(self._told(fields))

    def _told(self, fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in fields.items():
            if isinstance(value, str):
                yield name, value
                continue
            yield name, [value.dtype.str, list(value.shape), self.size]
            self.arrays.append(np.ascontiguousarray(value))
            self.size += value.nbytes


def _main(path: str, limit: str, shown: str) -> None:
    # Whatever the library is doing, the system ends this process then.
    signal.alarm(int(limit))
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 * MOST, 4 * MOST))
    told = _Told()
    try:
        answer = told.graph(read_graph(Path(path), shown))
    except HstnnError as error:
        answer, told = {"error": type(error).__name__, "message": error.message, "hint": error.hint}, _Told()
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    for each in told.arrays:
        sys.stdout.buffer.write(each.tobytes())


if __name__ == "__main__":
    _main(*sys.argv[1:4])
