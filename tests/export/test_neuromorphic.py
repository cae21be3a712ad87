"""NIR: another interpreter, written from NIR's definitions, makes the same spikes of the file."""

from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph import neuromorphic, nir_neurons
from hstnn_deploy.export.graph.neuromorphic import to_nir, write_nir
from hstnn_deploy.export.graph.nir_file import Node, differs, graph_of, read_graph
from hstnn_deploy.export.graph.nir_neurons import Method, NirForm, neuron_of
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import layer_sizes

Array = NDArray[Any]


def sequence(neuron: Lif | None = None) -> HybridNetwork:
    torch.manual_seed(0)
    config = SequenceConfig(inputs=7, classes=4, units=[30, 20], neuron=neuron or Lif())
    return config.build(layer_sizes("snn", [30, 20], 0.5)).eval()


def convolutional(form: str = "dvs", size: int = 16) -> HybridNetwork:
    torch.manual_seed(0)
    config = ConvolutionalConfig(
        family="convolutional", form=form, classes=3, units=[6, 5], size=size, hidden=8, neuron=Lif(threshold=0.3)
    )
    return config.build(layer_sizes("snn", [6, 5], 0.5)).eval()


def simulate(graph: Any, x: Array) -> tuple[dict[str, Array], Array]:
    """Step a chain of NIR nodes through x[T, …] in float64; return every neuron node's spikes, and the outputs.

    Written from NIR's own definitions: the neurons' differential equations, solved over a step as the graph says.
    """
    after = dict(graph.edges)
    dt, method = graph.metadata["dt"], graph.metadata["method"]
    voltage: dict[str, Array] = {}
    spikes: dict[str, list[Array]] = {}
    outputs = []
    for value in x.astype(np.float64):
        name = "input"
        while name != "output":
            name = after[name]
            node = graph.nodes[name]
            match node:
                case nir.Affine():
                    value = node.weight @ value + node.bias
                case nir.Linear():
                    value = node.weight @ value
                case nir.Conv2d():
                    value = convolve(value, node)
                case nir.AvgPool2d():
                    height, width = node.kernel_size
                    c, h, w = value.shape
                    value = value.reshape(c, h // height, height, w // width, width).mean(axis=(2, 4))
                case nir.Flatten():
                    value = value.reshape(-1)
                case nir.LIF() | nir.IF():
                    v = voltage.get(name, np.zeros(node.v_threshold.shape))
                    if isinstance(node, nir.IF):
                        v = v + dt * node.r * value
                    elif method == "euler":
                        v = v + dt / node.tau * (node.v_leak - v + node.r * value)
                    else:
                        rest = node.v_leak + node.r * value
                        v = rest + (v - rest) * np.exp(-dt / node.tau)
                    fired = v > node.v_threshold
                    voltage[name] = np.where(fired, node.v_reset, v)
                    value = fired.astype(np.float64)
                    spikes.setdefault(name, []).append(value)
        outputs.append(value)
    return {name: np.stack(rows) for name, rows in spikes.items()}, np.stack(outputs)


def convolve(x: Array, node: Any) -> Array:
    x = np.pad(x, ((0, 0), *((pad, pad) for pad in node.padding)))
    patches = np.lib.stride_tricks.sliding_window_view(x, node.weight.shape[2:], axis=(1, 2))
    maps: Array = np.einsum("ihwkl,oikl->ohw", patches, node.weight) + node.bias[:, None, None]
    return maps


def spikes_of(network: HybridNetwork, x: torch.Tensor) -> list[Array]:
    """Return the network's own spikes of each layer, [T, …]; of convolutional layers as they go up, pooled."""
    network = network.double()
    with torch.no_grad():
        outputs, _ = network.run_layers(network_input(network, x), network.initial_state(x))
    return [output[:, 0].numpy() for output in outputs]


def network_input(network: HybridNetwork, x: torch.Tensor) -> torch.Tensor:
    embedded: torch.Tensor = network.embedding(x) if hasattr(network, "embedding") else x  # type: ignore[operator]
    return embedded


@pytest.mark.parametrize("form", ["plain", "full"])
@pytest.mark.parametrize("method", ["euler", "exponential"])
@pytest.mark.parametrize("neuron", [Lif(), Lif(decay=0.3, threshold=0.3), Lif(decay=0.9), Lif(decay=1, threshold=1.0)])
@torch.no_grad()
def test_a_sequence_classifier_spikes_the_same_and_answers_with_its_mean(
    neuron: Lif, method: Method, form: NirForm, tmp_path: Path
) -> None:
    network = sequence(neuron)
    graph = nir.read(write_nir(network, tmp_path / "model.nir", 2e-3, method, form))
    x = torch.rand(40, 1, 7, dtype=torch.float64)
    spikes, outputs = simulate(graph, x[:, 0].numpy())
    expected = spikes_of(network, x)
    for number, rows in enumerate(expected, 1):
        assert 0.01 < rows.mean() < 0.99, "a layer that is silent or always fires shows nothing"
        np.testing.assert_array_equal(spikes[f"layer{number}"], rows)
    np.testing.assert_allclose(outputs.mean(0), network(x)[0][0], atol=1e-9)


def test_a_neuron_without_memory_has_an_euler_form_only() -> None:
    network = sequence(Lif(decay=0))
    x = torch.rand(20, 1, 7, dtype=torch.float64)
    spikes, _ = simulate(to_nir(network), x[:, 0].numpy())
    np.testing.assert_array_equal(spikes["layer1"], spikes_of(network, x)[0])
    with pytest.raises(ExportError, match="no exponential form"):
        to_nir(network, method="exponential")


@pytest.mark.parametrize(("form", "size"), [("dvs", 16), ("nmnist", 18)])
def test_a_convolutional_network_spikes_the_same_up_to_its_readout(form: str, size: int, tmp_path: Path) -> None:
    network = convolutional(form, size)
    graph = nir.read(write_nir(network, tmp_path / "model.nir"))
    x = (torch.rand(12, 1, 2, size, size, dtype=torch.float64) * 1.5).floor()
    spikes, outputs = simulate(graph, x[:, 0].numpy())
    expected = spikes_of(network, x)
    for number, rows in enumerate(expected, 1):
        assert 0.01 < rows.mean() < 0.99
        t, c, h, w = rows.shape
        pooled = spikes[f"layer{number}"].reshape(t, c, h, 2, w, 2).mean(axis=(3, 5))
        np.testing.assert_array_equal(pooled, rows)
    np.testing.assert_array_equal(outputs, expected[-1].reshape(12, -1))
    assert "no ReLU" in graph.metadata["output"]


@torch.no_grad()
def test_a_language_model_takes_words_as_one_hot() -> None:
    torch.manual_seed(0)
    config = LanguageConfig(vocabulary=11, inputs=6, units=[9], neuron=Lif(threshold=0.02))
    network = config.build(layer_sizes("snn", [9], 0.5)).eval()
    words = torch.randint(11, (30, 1))
    spikes, outputs = simulate(to_nir(network), np.eye(11)[words[:, 0]])
    (expected,) = spikes_of(network, words)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(spikes["layer1"], expected)
    np.testing.assert_allclose(outputs, network(words)[0][:, 0], atol=1e-9)


def test_the_plain_form_keeps_the_weights_and_is_what_nir_1_0_4_takes(tmp_path: Path) -> None:
    network = sequence(Lif(decay=0.6, threshold=0.3))
    with h5py.File(write_nir(network, tmp_path / "plain.nir")) as file:
        nodes = file["node/nodes"]
        # The arguments of nir 1.0.4's LIF and Affine; it refuses any other.
        assert set(nodes["layer1"]) - {"metadata"} == {"type", "tau", "r", "v_leak", "v_threshold"}
        assert set(nodes["layer1_weight"]) - {"metadata"} == {"type", "weight", "bias"}
        assert set(nodes["layer1"]["r"][()]) == {1.0}
        np.testing.assert_allclose(nodes["layer1"]["v_threshold"][()], 0.12, rtol=1e-15)
        group: Any = network.stack[0].groups["snn"]
        np.testing.assert_array_equal(nodes["layer1_weight"]["weight"][()], group.weight.detach().T)
        assert not nodes["layer1_weight"]["bias"][()].any()
    with h5py.File(write_nir(network, tmp_path / "full.nir", form="full")) as file:
        assert set(file["node/nodes/layer1/v_threshold"][()]) == {0.3}
        assert set(file["node/nodes/layer1/v_reset"][()]) == {0.0}


@pytest.mark.parametrize("form", ["plain", "full"])
@given(st.floats(0, 1), st.floats(1e-3, 1e3), st.floats(1e-5, 10), st.sampled_from(["euler", "exponential"]))
def test_decay_and_threshold_come_out_of_a_graph_again(
    form: NirForm, decay: float, threshold: float, dt: float, method: Method
) -> None:
    assume(decay < 1 - 1e-6 and (decay > 1e-6 or (decay == 0 and method == "euler")))
    graph = to_nir(sequence(Lif(decay=decay, threshold=threshold)), dt, method, form)
    assert neuron_of(graph.nodes["layer1"], dt, method) == pytest.approx((decay, threshold), rel=1e-8)


@pytest.mark.parametrize("wrong", ["r", "tau", "v_threshold"])
def test_neurons_that_are_not_the_network_s_are_not_written(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = neuromorphic.to_nir

    def off_by_a_millionth(*words: Any) -> Any:
        graph = right(*words)
        setattr(graph.nodes["layer2"], wrong, getattr(graph.nodes["layer2"], wrong) * (1 + 1e-6))
        return graph

    monkeypatch.setattr(neuromorphic, "to_nir", off_by_a_millionth)
    with pytest.raises(ExportError, match=r"differs from what was written: (decay|threshold) .* of layer 2"):
        write_nir(sequence(), tmp_path / "model.nir")
    assert not (tmp_path / "model.nir").exists()


@pytest.mark.parametrize("found", ["1.0.4", "1.0.6", "1.0"])
def test_a_nir_that_is_too_old_is_refused_with_its_version(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_neurons, "version", lambda _name: found)
    with pytest.raises(ExportError, match=f"nir 1.0.7 or newer, but {found} is installed") as refused:
        to_nir(sequence())
    assert "pip install 'nir>=1.0.7'" in refused.value.hint


def test_a_reset_by_subtraction_is_refused() -> None:
    with pytest.raises(ExportError, match="reset by subtraction has no NIR form"):
        to_nir(sequence(Lif(reset="subtract")))


def test_the_file_is_the_graph_to_the_bit_and_a_difference_is_named(tmp_path: Path) -> None:
    graph = to_nir(convolutional())
    path = write_nir(convolutional(), tmp_path / "model.nir")
    assert [file.name for file in tmp_path.iterdir()] == ["model.nir"]
    wanted = graph_of(graph)
    assert differs(wanted, graph_of(nir.read(path))) == ""
    other = nir.read(path)
    other.nodes["layer2_weight"].weight[0, 0, 0, 0] += 1e-7
    assert differs(wanted, graph_of(other)) == "weight of node layer2_weight"
    other = nir.read(path)
    other.nodes["layer1"].tau[0] *= 2
    assert differs(wanted, graph_of(other)) == "tau of node layer1"
    with h5py.File(path, "r+") as file:
        file["node/nodes/layer1/v_reset"] = np.zeros(3)
    held, left_out = read_graph(path), read_graph(write_nir(convolutional(), path))
    assert differs(held, left_out) == differs(left_out, held) == ""
    node = held.nodes["layer1"]
    assert isinstance(node, Node)
    node.fields["v_reset"][0] = 0.5
    assert differs(held, left_out) == differs(left_out, held) == "v_reset of node layer1"
    other = nir.read(path)
    other.metadata["dt"] *= 2
    assert differs(wanted, graph_of(other)) == "dt of its metadata"
    assert differs(wanted, graph_of(to_nir(sequence()))) == "its edges"


@pytest.mark.parametrize(("recurrent", "unit"), [("rnn", "recurrent"), ("lstm", "LSTM")])
def test_hybrids_say_what_nir_cannot_hold(recurrent: Any, unit: str) -> None:
    config = SequenceConfig(inputs=7, classes=4, units=[6, 4], recurrent=recurrent)
    with pytest.raises(ExportError, match=f"layer 1 has 3 {unit} units beside 3 spiking ones") as found:
        to_nir(config.build(layer_sizes("ffs", [6, 4], 0.5)))
    assert "--kind snn" in found.value.hint


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(ExportError, match="not installed") as found:
        to_nir(sequence())
    assert "neuromorphic" in found.value.hint
