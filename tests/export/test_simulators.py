"""Simulators that read NIR make the same spikes of the file as the network does; each as docs/neuromorphic.md says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from snntorch.import_nir import import_from_nir as snntorch_reads
from torch import Tensor

from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.export.graph.nir_neurons import NirForm
from hstnn_deploy.models.hybrid.convolutional import ConvClassifier
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.stack import StackConfig
from tests.export.test_neuromorphic import Array, convolutional, sequence, spikes_of
from tests.libraries import installed

FORMS: tuple[NirForm, ...] = ("plain", "full")
LIF = {"decay": 0.8, "threshold": 0.5}
BLOCK = {"residual": [{"linear": 6}, {"lif": LIF}]}
STACKS: dict[str, list[Any]] = {
    "recurrent": [{"linear": 6}, {"feedback": LIF}],
    "recurrent, bias": [{"linear": 6}, {"feedback": LIF, "bias": True}],
    "recurrent, own": [{"linear": 6}, {"feedback": LIF, "through": "own"}],
    "recurrent, currents": [{"linear": 6}, {"feedback": LIF | {"current_decay": 0.4}}],
    "currents": [{"linear": 6}, {"lif": LIF | {"current_decay": 0.4}}],
    "each": [{"linear": 6}, {"lif": LIF | {"each": {"decay": "unit"}}}],
    "rest": [{"linear": 6}, {"lif": LIF | {"rest": 0.45}}],
    "reset to": [{"linear": 6}, {"lif": LIF | {"reset_to": -0.3}}],
    "skip": [{"linear": 6}, {"lif": LIF}, BLOCK],
    "two skips": [{"linear": 6}, {"lif": LIF}, BLOCK, {**BLOCK, "shortcut": [{"linear": 6}]}],
}
"""Stacks that go to simulators, up to their readout."""
NEURONS = (Lif(), Lif(decay=0.5, threshold=0.5), Lif(decay=0.9))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """The simulators' own answers need none."""
    with torch.no_grad():
        yield


def watched(loaded: torch.nn.Module) -> dict[str, list[Tensor]]:
    """Return what each spiking layer gives from now on, call by call."""
    found: dict[str, list[Tensor]] = {"layer1": [], "layer2": []}
    for name, rows in found.items():
        loaded.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, rows=rows: rows.append(output[0] if isinstance(output, tuple) else output)
        )
    return found


def assert_the_same(found: list[Array], network: HybridNetwork, x: Tensor) -> None:
    """Assert that spikes [T, …] of each layer are those of the network on x[T, …], and that there are some."""
    for spikes, expected in zip(found, spikes_of(network, x[:, None].double()), strict=True):
        assert 0.01 < expected.mean() < 0.99, "a layer that is silent or always fires shows nothing"
        if expected.ndim > 2:
            t, c, h, w = expected.shape
            spikes = spikes.reshape(t, c, h, 2, w, 2).mean(axis=(3, 5))
        np.testing.assert_array_equal(spikes.reshape(expected.shape), expected)


def inputs(network: HybridNetwork) -> Tensor:
    """Return a window x[T, …] without a batch."""
    torch.manual_seed(1)
    convolutional_too = isinstance(network, ConvClassifier)
    return (torch.rand(12, 2, 16, 16) * 1.5).floor() if convolutional_too else torch.rand(40, 7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [*(lambda neuron=neuron: sequence(neuron) for neuron in NEURONS), convolutional])
def test_snntorch(make: Callable[[], HybridNetwork], form: NirForm, tmp_path: Path) -> None:
    loaded = snntorch_reads(nir.read(write_nir(make(), tmp_path / "model.nir", form=form))).float()
    found, x = watched(loaded), inputs(make())
    answers = torch.stack([loaded(now)[0] for now in x])
    if make is not convolutional:
        np.testing.assert_allclose(answers.mean(0), make()(x[:, None])[0][0], atol=1e-5)
    assert_the_same([torch.stack(rows).numpy() for rows in found.values()], make(), x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [*(lambda neuron=neuron: sequence(neuron) for neuron in NEURONS), convolutional])
def test_spikingjelly(make: Callable[[], HybridNetwork], form: NirForm, tmp_path: Path) -> None:
    reader = installed("spikingjelly.activation_based.nir_exchange")
    loaded = reader.import_from_nir(write_nir(make(), tmp_path / "model.nir", dt=1e-3, form=form), dt=1e-3)
    found, x = watched(loaded), inputs(make())
    state = None
    for now in x[:, None]:
        _, state = loaded(now, state)
    assert_the_same([torch.stack(rows).numpy() for rows in found.values()], make(), x)


@pytest.mark.parametrize("neuron", [*NEURONS, Lif(decay=1, threshold=1.0)])
def test_norse(neuron: Lif, tmp_path: Path) -> None:
    reader = installed("norse.torch.utils.import_nir")
    loaded = reader.from_nir(nir.read(write_nir(sequence(neuron), tmp_path / "model.nir", dt=1e-3)), dt=1e-3)
    found, x = watched(loaded), inputs(sequence(neuron))
    state = None
    for now in x[:, None]:
        _, state = loaded(now, state)
    assert_the_same([torch.stack(rows).numpy() for rows in found.values()], sequence(neuron), x)


@pytest.mark.parametrize("neuron", NEURONS)
def test_sinabs(neuron: Lif, tmp_path: Path) -> None:
    reader = installed("sinabs.nir")
    from sinabs.activation import MembraneReset, SingleSpike  # type: ignore[import-not-found,unused-ignore]
    from sinabs.layers import LIFSqueeze  # type: ignore[import-not-found,unused-ignore]

    graph = nir.read(write_nir(sequence(neuron), tmp_path / "model.nir", dt=1.0, method="exponential"))
    loaded, x = reader.from_nir(graph, batch_size=1), inputs(sequence(neuron))
    for module in loaded.modules():
        if isinstance(module, LIFSqueeze):
            module.spike_fn, module.reset_fn, module.norm_input = SingleSpike, MembraneReset(), True
    found = watched(loaded)
    loaded(x)
    assert_the_same([rows[0].numpy() for rows in found.values()], sequence(neuron), x)


def from_spikingjelly(graph: Any) -> Any:
    reader = installed("spikingjelly.activation_based.nir_exchange")
    return reader.import_from_nir(graph, dt=1e-4)


def from_norse(graph: Any) -> Any:
    return installed("norse.torch.utils.import_nir").from_nir(graph, dt=1e-4)


OTHER = {
    *(("norse", "full", name) for name in ("recurrent", "recurrent, own", "skip", "each", "rest", "reset to")),
    *(("norse", "plain", name) for name in ("rest", "reset to")),
    *(("snntorch", form, "reset to") for form in FORMS),
    *((simulator, form, "recurrent, bias") for simulator in ("snntorch", "spikingjelly", "norse") for form in FORMS),
}
"""What is read as another network, as docs/neuromorphic.md says."""
REFUSED = {
    ("snntorch", "plain", "each"): "v_threshold must be same",
    **{("snntorch", form, "rest"): "v_leak not supported" for form in FORMS},
    **{("spikingjelly", form, name): "v_leak must equal" for form in FORMS for name in ("rest", "reset to")},
    **{("spikingjelly", form, "each"): "must be uniform" for form in FORMS},
}
"""What is not read, and what the simulator says."""
READERS = {"snntorch": snntorch_reads, "spikingjelly": from_spikingjelly, "norse": from_norse}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("simulator", READERS)
def test_recurrences_currents_and_blocks_are_read_as_they_are_meant(
    simulator: str, name: str, form: NirForm, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = [*STACKS[name], {"linear": 3}]
    network = StackConfig(input=[7], layers=layers, readout="every").build([]).eval()
    for key, value in network.named_parameters():
        value.mul_(2) if value.ndim > 1 else value.uniform_(-0.4, 0.4) if "own" in key else None
    if name == "each":
        network.get_buffer("layers.1.decay").uniform_(0.3, 0.9)
    x, rows, state = torch.rand(30, 1, 7), [], None
    x[:3] *= 0.3
    graph = nir.read(write_nir(network, tmp_path / "model.nir", form=form))
    if said := REFUSED.get((simulator, form, name)):
        with pytest.raises((AssertionError, ValueError), match=said):
            READERS[simulator](graph)
        return
    loaded = READERS[simulator](graph).float()
    for now in x:
        answer, state = loaded(now) if state is None else loaded(now, state)
        if (simulator, name) == ("norse", "two skips"):
            # It hands out what another node gives.
            assert answer.numel() == 6
            return
        rows.append(answer.reshape(1, 3))
    wanted = network(x)[0]
    assert wanted.std(0).max() > 0.05
    assert torch.allclose(torch.stack(rows), wanted, atol=1e-4) == ((simulator, form, name) not in OTHER)
