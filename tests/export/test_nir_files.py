"""NIR files as each library's own exporter writes them (tests/nir): read, and run as NIR defines them.

Where a library computes what its file says, the spikes are its own as well; where it does not, they differ,
which docs/neuromorphic.md says.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import hstnn_deploy as hd
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.from_nir import stack_of
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.models.stack import Stack
from tests.export.nir_oracle import interpret
from tests.export.test_from_nir import spikes

nir = pytest.importorskip("nir")
HERE = Path(__file__).parent.parent / "nir"


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class File(NamedTuple):
    dt: float
    layers: str
    """The kinds that are read."""
    same: bool = True
    """Whether the library itself computes what its file says."""
    method: Any = "euler"


FILES = {
    "snntorch_leaky": File(1e-4, "linear lif linear lif linear"),
    "snntorch_recurrent": File(1e-4, "linear feedback linear feedback linear"),
    "snntorch_delayed": File(1e-4, "conv lif pool flatten linear lif", same=False),
    "sinabs_lif": File(1.0, "linear lif linear integrator", method="exponential"),
    "sinabs_iaf": File(1.0, "conv lif pool flatten linear lif", same=False),
    "norse_box": File(1e-3, "linear lif linear integrator"),
    "norse_current": File(1e-3, "linear lif linear", same=False),
    "spikingjelly_maps": File(1e-3, "conv lif pool flatten linear lif linear lif linear lif"),
    "spikingjelly_reset": File(1e-3, "linear lif linear", same=False),
    "nirtorch_skip": File(1e-3, "linear lif linear lif residual linear"),
}


def read(name: str) -> Stack:
    about = FILES[name]
    return hd.read_nir(HERE / f"{name}.nir", dt=about.dt, method=about.method)


def test_every_file_is_named_here_and_in_the_table() -> None:
    assert {path.stem for path in HERE.glob("*.nir")} == FILES.keys()
    text = (HERE / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_library_runs_as_nir_defines_it(name: str) -> None:
    about, network = FILES[name], read(name)
    assert " ".join(layer.kind for layer in network.leaves()) == about.layers
    with np.load(HERE / f"{name}.npz") as stored:
        theirs = {key: stored[key] for key in stored.files}
    x = torch.from_numpy(theirs.pop("x"))
    graph = nir.read(HERE / f"{name}.nir", type_check=False)
    expected, outputs = interpret(graph, x.numpy(), about.dt, about.method)
    ours = spikes(network, x)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        if not {0, 1} - set(np.unique(other)):
            assert 0.01 < other.mean() < 0.99, "a layer that is silent or always fires shows nothing"
    np.testing.assert_allclose(network(x)[0], outputs, atol=1e-4)
    output = theirs.pop("output")
    differ = [not np.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs.values(), strict=True)]
    assert differ == [False] * len(ours) if about.same else any(differ)
    assert np.allclose(network(x)[0], output, atol=1e-4) == about.same


@pytest.mark.parametrize("name", FILES)
def test_read_for_another_step_it_is_another_network_and_without_one_it_is_refused(name: str, tmp_path: Path) -> None:
    about, network = FILES[name], read(name)
    with np.load(HERE / f"{name}.npz") as stored:
        x = torch.from_numpy(stored["x"])
    path = HERE / f"{name}.nir"
    assert not torch.allclose(hd.read_nir(path, about.dt * 0.7)(x)[0], network(x)[0], atol=1e-3)
    with pytest.raises(ExportError, match=r"node '.*': it depends on the length of a step") as refused:
        hd.read_nir(path)
    assert "--dt" in refused.value.hint
    # What was read is written, read and the same.
    back = hd.read_nir(write_nir(network, tmp_path / "again.nir", dt=about.dt))
    torch.testing.assert_close(back(x)[0], network(x)[0], atol=1e-4, rtol=1e-4)


def test_a_graph_in_memory_is_read_as_its_file_is() -> None:
    path = HERE / "snntorch_recurrent.nir"
    x = torch.rand(9, 2, 5)
    found = stack_of(nir.read(path), 1e-4)
    torch.testing.assert_close(found(x)[0], hd.read_nir(path, 1e-4)(x)[0], atol=0, rtol=0)


def test_with_the_factor_that_norse_leaves_out_its_file_gives_its_own_spikes() -> None:
    graph = nir.read(HERE / "norse_current.nir", type_check=False)
    (node,) = (each for each in graph.nodes.values() if isinstance(each, nir.CubaLIF))
    node.w_in = node.tau_syn / FILES["norse_current"].dt
    with np.load(HERE / "norse_current.npz") as stored:
        theirs = {key: torch.from_numpy(stored[key]) for key in stored.files}
    network = stack_of(graph, FILES["norse_current"].dt)
    torch.testing.assert_close(spikes(network, theirs["x"])[0], theirs["layer0"], atol=0, rtol=0)
    torch.testing.assert_close(network(theirs["x"])[0], theirs["output"], atol=1e-5, rtol=1e-5)
