"""Files that are no NIR graph, or a damaged or hostile one: refused in bounded time and memory."""

import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hstnn_deploy as hd
from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.graph import nir_apart
from hstnn_deploy.export.graph.from_nir import read_nir, stack_of
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.export.graph.nir_file import read_graph
from tests.export.test_nir_nodes import (
    graph_of,
)
from tests.models.stacks import stack

nir = pytest.importorskip("nir")


def valid(path: Path) -> Path:
    return write_nir(stack("neuron: feedback"), path)


Change = Callable[[Any], Any]


def replaced(file: Any, name: str, **how: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, **how)


def deep(file: Any) -> None:
    group = file["node"]
    for _ in range(200):
        if "nodes" not in group:
            group.create_group("nodes")
            group["type"] = "NIRGraph"
            group["edges"] = np.zeros((0, 2), "S1")
        group = group["nodes"].create_group("in")
    group["type"] = "Input"


def looped(file: Any) -> None:
    for place in range(5):
        file["node/nodes"][f"again{place}"] = file["node"]


def far(file: Any) -> None:
    del file["node/nodes/layer1/weight"]
    file["node/nodes/layer1/weight"] = h5py.ExternalLink("secret.h5", "/x")


def soft(file: Any) -> None:
    file["node/nodes/layer9"] = h5py.SoftLink("/node")


def elsewhere(file: Any) -> None:
    del file["node/nodes/layer1/weight"]
    layout = h5py.VirtualLayout((5, 6), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "x", (5, 6))
    file["node/nodes/layer1"].create_virtual_dataset("weight", layout)


def outside(file: Any) -> None:
    replaced(file, "node/nodes/layer1/weight", shape=(5, 6), dtype="f4", external=[("/etc/hostname", 0, 120)])


def long_names(file: Any) -> None:
    text = "x" * 1_000_000
    replaced(file, "node/edges", data=[(text, text)] * 400, dtype=h5py.string_dtype())


DAMAGED: dict[str, tuple[Change, str]] = {
    "a terabyte of weights": (
        lambda file: replaced(file, "node/nodes/layer1/weight", shape=(2**20, 2**18), dtype="f4", chunks=(1024, 1024)),
        "claims the shape",
    ),
    "a terabyte, compressed": (
        lambda file: replaced(
            file, "node/nodes/layer1/bias", shape=(2**38,), dtype="f4", chunks=(2**20,), compression="gzip"
        ),
        "claims the shape",
    ),
    "a terabyte of edges": (
        lambda file: replaced(file, "node/edges", shape=(2**38, 2), dtype="S4", chunks=(1024, 2)),
        "edges has shape",
    ),
    "a name of a terabyte": (
        lambda file: replaced(file, "node/nodes/layer1/type", shape=(2**38,), dtype="S4", chunks=(1024,)),
        "is not text",
    ),
    "letters of a gigabyte": (
        lambda file: replaced(file, "node/nodes/layer1/type", shape=(), dtype=f"S{2**31 - 1}"),
        "claims the shape",
    ),
    "long names": (long_names, "has more than 1000 letters"),
    "sub-graphs in sub-graphs": (deep, "sub-graphs are nested"),
    "a graph in itself": (looped, "sub-graphs are nested|more than"),
    "a link to another file": (far, "'weight' is a link, which hstnn does not follow"),
    "a soft link": (soft, "'layer9' is a link, which hstnn does not follow"),
    "weights in another data set": (elsewhere, "is in another file, which hstnn does not follow"),
    "weights in a file beside it": (outside, "is in another file, which hstnn does not follow"),
    "no graph": (lambda file: file.pop("node"), "it has no 'node'"),
    "no nodes": (lambda file: file["node"].pop("nodes"), "it has no 'nodes'"),
    "no edges": (lambda file: file["node"].pop("edges"), "it has no 'edges'"),
    "no type": (lambda file: file["node/nodes/layer1"].pop("type"), "it has no 'type'"),
    "no weight": (lambda file: file["node/nodes/layer1"].pop("weight"), "node 'layer1': .* has no weight"),
    "a weight that is text": (
        lambda file: replaced(file, "node/nodes/layer1/weight", data="heavy"),
        "node 'layer1': weight is 'heavy', not numbers",
    ),
    "complex weights": (
        lambda file: replaced(file, "node/nodes/layer1/weight", data=np.ones((5, 6), complex)),
        "contains neither numbers nor text",
    ),
    "nodes that are none": (lambda file: replaced(file, "node/nodes", data=1.0), "'nodes' is not a group"),
    "edges that are numbers": (lambda file: replaced(file, "node/edges", data=np.ones((3, 2))), "is not text"),
    "edges by threes": (lambda file: replaced(file, "node/edges", data=np.ones((3, 3))), "edges has shape"),
    "an edge to nowhere": (
        lambda file: replaced(file, "node/edges", data=[("input", "layer7")], dtype=h5py.string_dtype()),
        "an edge leads from 'input' to 'layer7'",
    ),
    "an input without a shape": (lambda file: file["node/nodes/input"].pop("shape"), "node 'input': .* has no shape"),
    "an input of three and a half": (
        lambda file: replaced(file, "node/nodes/input/shape", data=np.array([3.5])),
        "node 'input': shape is",
    ),
    "an empty weight": (
        lambda file: replaced(file, "node/nodes/layer1/weight", data=h5py.Empty("f4")),
        "is empty",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_bounded_time_and_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, said = DAMAGED[name]
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as other:
        other["x"] = np.ones((5, 6), np.float32)
    path = valid(tmp_path / "network.nir")
    with h5py.File(path, "r+") as file:
        change(file)
    tracemalloc.start()
    # Fields are looked at when layers are made of them, and so are edges.
    with nullcontext() if said.startswith(("node", "an edge")) else pytest.raises(DataError, match=said):
        read_graph(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6
    with pytest.raises(DataError, match=said) as refused:
        hd.read_nir(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


def test_a_file_that_makes_the_library_run_for_ever_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = valid(tmp_path / "network.nir")
    raw = bytearray(path.read_bytes())
    # The heap that holds texts says that it is longer than it is.
    raw[raw.index(b"GCOL") + 9] = 125
    path.write_bytes(raw)
    monkeypatch.setattr(nir_apart, "_SECONDS", 3)
    with pytest.raises(DataError, match="damaged, or not a NIR graph"):
        hd.read_nir(path)


def test_a_reader_that_crashes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_apart, "command", lambda *_: ["sh", "-c", "kill -SEGV $$"])
    with pytest.raises(DataError, match="its reader was killed by SIGSEGV"):
        hd.read_nir(valid(tmp_path / "network.nir"))


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = valid(tmp_path / "whole.nir").read_bytes()
    path = tmp_path / "network.nir"
    for share in np.linspace(0, 0.99, 12):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=str(path)):
            read_nir(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=str(path)):
        read_nir(path)
    with pytest.raises(DataError, match=str(tmp_path / "nowhere.nir")):
        read_nir(tmp_path / "nowhere.nir")
    with pytest.raises(DataError, match="is a folder, not a NIR graph"):
        read_nir(tmp_path)


def test_very_many_nodes_and_meetings_are_refused_in_time() -> None:
    many = {f"n{place}": nir.Scale(np.ones(6)) for place in range(2400)}
    chain = ["input", *many, "output"]
    graph = graph_of(**many, edges=list(pairwise(chain)))
    with pytest.raises(ExportError, match="1000 layers"):
        stack_of(graph)
    names = list(many)[:400]
    crossed = [(one, other) for at, one in enumerate(names) for other in names[at + 1 : at + 7]]
    graph = graph_of(**many, edges=[("input", "n0"), *crossed, (names[-1], "output")])
    graph.nodes = {name: node for name, node in graph.nodes.items() if name in {*names, "input", "output"}}
    with pytest.raises(ExportError, match="edges"):
        stack_of(graph)
