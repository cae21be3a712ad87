"""NIR there and back: what is written is read as a stack that gives the same spikes, or is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.graph.from_nir import read_nir
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.export.graph.nir_neurons import Method, NirForm
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models.layers.readouts import Readout
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.stack import StackConfig
from tests.conftest import in_part
from tests.export.cases import CASES, Case
from tests.models.stacks import SJ, STACKS, example, stack

nir = pytest.importorskip("nir")

REFUSED = {
    **dict.fromkeys(("neuron: tau", "neuron: detached", "neuron: plif", "neuron: at", "vote"), "fires at"),
    **dict.fromkeys(("neuron: learned threshold", "neuron: soft", "neuron: lowest"), "reset by subtraction"),
    **dict.fromkeys(("neuron: several", "neuron: several, bounded"), "reset by subtraction"),
    **dict.fromkeys(("neuron: delayed, subtract", "neuron: reset again"), "reset by subtraction"),
    **dict.fromkeys(("neuron: no reset", "neuron: lowest, no reset"), "never reset"),
    "neuron: lowest, to zero": "lowest",
    **dict.fromkeys(("neuron: delayed, zero", "neuron: delayed, cancels"), "delayed_reset"),
    **{f"activation: {name}": "activation" for name in ("relu", "tanh", "sigmoid")},
    "neuron: adaptive": "adaptive-lif",
    "neuron: feedback, own": "layer 2, feedback: a reset by subtraction",
    **{
        f"neuron: {name}": f"layer 2, {name.split(',')[0]}"
        for name in ("rnn", "rnn, tanh", "rnn, relu", "rnn, bias", "lstm", "lstm, bias", "gru", "gru, bias")
    },
    "neuron: each learned": "fires at",
    "neuron: each rate learned": "reset by subtraction",
    "neuron: current learned": "delayed_reset",
    "neuron: integrator, synaptic": "decay 1.0",
    **{f"neuron: integrator, {name}": "is reset, without spikes" for name in ("soft reset", "reset", "cancels")},
    "maps: conv, dilated groups": "2 groups",
    **dict.fromkeys(("maps: norm", "maps: norm, bare", "maps: norm of each step"), "fires at"),
    "maps: norm a step": "layer 2, norm",
    **dict.fromkeys(("maps: max pool", "maps: max pool of currents", "rows"), "max pool"),
    **dict.fromkeys(
        ("maps: padded max pool of currents", "maps: max pool, padded at two sides", "rows, padded"), "max pool"
    ),
    **dict.fromkeys(("maps: padded mean pool", "maps: padded sum pool"), "a pool with padding"),
    "maps: parallel": "parallel",
}
"""Of the stacks that NIR cannot hold, what the refusal names."""
FORMS: list[tuple[NirForm, Method]] = [("plain", "euler"), ("full", "euler"), ("full", "exponential")]


def spikes(network: Network, x: torch.Tensor) -> list[torch.Tensor]:
    """Return what each layer hands out, in order."""
    return list(network_engine(network, show=True)(x, None).taps.values())


@pytest.mark.parametrize("name", [name for name in STACKS if name in REFUSED])
def test_what_nir_cannot_hold_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refused:
        write_nir(stack(name), tmp_path / "network.nir")
    assert REFUSED[name] in refused.value.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", in_part((name for name in STACKS if name not in REFUSED), 3))
def test_a_stack_goes_there_and_back(name: str, tmp_path: Path) -> None:
    network = stack(name)
    for form, method in FORMS:
        path = write_nir(network, tmp_path / "network.nir", form=form, method=method)
        if network.tokens:
            continue
        back = read_nir(path, readout=network.readout)
        x = example(network, 7, 4)
        for ours, theirs in zip(spikes(network, x), spikes(back, x), strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(back(x)[0], network(x)[0], atol=1e-4, rtol=1e-4)
        wrong = stack(name, seed=1)
        assert not torch.allclose(wrong(x)[0], back(x)[0], atol=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "snn"], ids=str)
def test_a_spiking_hybrid_goes_there_and_back_as_a_stack(case: Case, tmp_path: Path) -> None:
    network = case.network()
    back = read_nir(write_nir(network, tmp_path / "network.nir"))
    steps, batch = 6, 3
    if network.tokens:
        tokens = torch.randint(network.outputs, (steps, batch))
        x: Any = torch.nn.functional.one_hot(tokens, back.input_shape[0]).float()
        ours = spikes(network, tokens)
    else:
        x = (torch.rand(steps, batch, *network.input_shape) * 2).round()
        ours = spikes(network, x)
    for one, other in zip(ours, spikes(back, x), strict=True):
        if one.shape != other.shape:  # a hybrid's maps are shown as they go up, pooled
            other = torch.nn.functional.avg_pool2d(other.flatten(0, 1), 2).unflatten(0, other.shape[:2])
        torch.testing.assert_close(other, one)


def test_a_normalisation_is_folded_into_the_layer_before_it(tmp_path: Path) -> None:
    config = {
        "input": [2, 6, 6],
        "layers": [{"conv": 4}, {"norm": {}}, {"lif": SJ | {"fires": "above"}}, "flatten", {"linear": 3}],
    }
    torch.manual_seed(0)
    network = StackConfig.model_validate(config).build([]).eval()
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.uniform_(0.5, 1.5) if "variance" in name else value.normal_(0, 0.2)
        network.get_parameter("layers.1.scale").fill_(4)
    back = read_nir(write_nir(network, tmp_path / "network.nir"))
    assert [layer.kind for layer in back.leaves()] == ["conv", "lif", "flatten", "linear"]
    x = torch.rand(9, 3, 2, 6, 6) * 3
    torch.testing.assert_close(spikes(back, x)[0], spikes(network, x)[0])
    assert 0.01 < float(spikes(network, x)[0].mean()) < 0.99


def other(graph: Any, name: str, **changes: Any) -> Any:
    """Return a graph in which a node has other numbers."""
    for key, value in changes.items():
        setattr(graph.nodes[name], key, value)
    return graph


def test_files_that_are_no_graphs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.nir"
    with pytest.raises(DataError, match=str(path)):
        read_nir(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=str(path)):
        read_nir(path)
    whole = write_nir(stack("neuron: lif"), tmp_path / "whole.nir").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=str(path)):
        read_nir(path)


@pytest.mark.parametrize("readout", ["sum", "mean", "last", "max", "every"])
def test_the_readout_is_what_is_asked_for(readout: Readout, tmp_path: Path) -> None:
    network = stack(f"readout: {readout}")
    path = write_nir(network, tmp_path / "network.nir")
    x = example(network, 5, 2)
    torch.testing.assert_close(read_nir(path, readout=readout)(x)[0], network(x)[0], atol=1e-5, rtol=1e-5)
