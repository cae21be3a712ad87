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
from tests.export.test_neuromorphic import Array, convolutional, sequence, spikes_of

FORMS: tuple[NirForm, ...] = ("plain", "full")
NEURONS = (Lif(), Lif(decay=0.5, threshold=0.5), Lif(decay=0.9))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """The simulators' own answers need none."""
    with torch.no_grad():
        yield


def installed(module: str, packages: str) -> Any:
    """Return a simulator's module, or skip with what would make the test run."""
    try:
        return pytest.importorskip(module, exc_type=ImportError)
    except pytest.skip.Exception as absent:
        reason = f"{absent.msg}; to run it: pip install --no-deps {packages}"
        raise pytest.skip.Exception(reason, allow_module_level=True) from None


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
    reader = installed("spikingjelly.activation_based.nir_exchange", "spikingjelly loguru")
    loaded = reader.import_from_nir(write_nir(make(), tmp_path / "model.nir", dt=1e-3, form=form), dt=1e-3)
    found, x = watched(loaded), inputs(make())
    state = None
    for now in x[:, None]:
        _, state = loaded(now, state)
    assert_the_same([torch.stack(rows).numpy() for rows in found.values()], make(), x)


@pytest.mark.parametrize("neuron", [*NEURONS, Lif(decay=1, threshold=1.0)])
def test_norse(neuron: Lif, tmp_path: Path) -> None:
    reader = installed("norse.torch.utils.import_nir", "norse")
    loaded = reader.from_nir(nir.read(write_nir(sequence(neuron), tmp_path / "model.nir", dt=1e-3)), dt=1e-3)
    found, x = watched(loaded), inputs(sequence(neuron))
    state = None
    for now in x[:, None]:
        _, state = loaded(now, state)
    assert_the_same([torch.stack(rows).numpy() for rows in found.values()], sequence(neuron), x)


@pytest.mark.parametrize("neuron", NEURONS)
def test_sinabs(neuron: Lif, tmp_path: Path) -> None:
    reader = installed("sinabs.nir", "sinabs pbr")
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
