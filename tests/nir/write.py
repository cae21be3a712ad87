"""Write the .nir files of this folder, each by its library's own exporter, and what the library itself computes.

    python -m tests.nir.write

It needs the libraries that README.md names. Each file `NAME.nir` stands beside `NAME.npz`: x [T, B, …], and what each
layer of neurons and the whole network gave on it, step by step: `layer0`, `layer1`, … and `output`, [T, B, …].
"""

import importlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
STEPS, BATCH = 24, 3


def _some(*shape: int, low: float, high: float) -> Tensor:
    return torch.empty(*shape).uniform_(low, high)


def _loud(network: Any) -> Any:
    """Return a network whose weights are large enough that its neurons fire."""
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                value.mul_(2).add_(0.1 if value.shape[1] < 10 and value.ndim == 2 else 0)
    return network


def _watched(neurons: list[nn.Module]) -> list[list[Tensor]]:
    """Return what each layer gives from now on, step by step."""
    rows: list[list[Tensor]] = [[] for _ in neurons]
    for own, layer in zip(rows, neurons, strict=True):

        def note(_module: Any, _inputs: Any, output: Any, own: list[Tensor] = own) -> None:
            own.append((output[0] if isinstance(output, tuple) else output).detach())

        layer.register_forward_hook(note)
    return rows


def _write(name: str, graph: Any, x: Tensor, layers: list[Tensor], output: Tensor) -> None:
    for rows in layers:
        rate = float((rows != 0).float().mean())
        assert 0.02 < rate < 0.98 or rows.unique().numel() > 9, f"{name}: a layer fires at {rate:.3f} of steps"
    nir.write(HERE / f"{name}.nir", graph)
    arrays: dict[str, Any] = {f"layer{place}": rows.numpy() for place, rows in enumerate(layers)}
    np.savez_compressed(HERE / f"{name}.npz", x=x.numpy(), output=output.numpy(), **arrays)


# ------------------------------------------------------------------------------------------------------------ snnTorch


def _snntorch(name: str, network: nn.Sequential, x: Tensor, neurons: list[nn.Module]) -> None:
    export = importlib.import_module("snntorch.export_nir").export_to_nir
    graph = export(network, x[0, :1], ignore_dims=[0])
    utils = importlib.import_module("snntorch.utils")
    utils.reset(network)
    rows = _watched(neurons)
    with torch.no_grad():
        found = [network(now) for now in x]
    outputs = torch.stack([each[0] if isinstance(each, tuple) else each for each in found])
    _write(name, graph, x, [torch.stack(each) for each in rows], outputs)


def snntorch_leaky() -> None:
    """Neurons reset to zero in the step of the spike, as NIR has them; every unit leaks by a number of its own."""
    snn: Any = importlib.import_module("snntorch")
    how = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    one = snn.Leaky(beta=_some(7, low=0.3, high=0.95), threshold=_some(7, low=0.4, high=0.9), **how)
    two = snn.Synaptic(alpha=_some(4, low=0.2, high=0.7), beta=_some(4, low=0.3, high=0.9), threshold=1.3, **how)
    with torch.no_grad():
        two.threshold = torch.full((4,), 1.3)
    network = nn.Sequential(nn.Linear(5, 7), one, nn.Linear(7, 4, bias=False), two, nn.Linear(4, 3))
    _snntorch("snntorch_leaky", _loud(network), torch.rand(STEPS, BATCH, 5), [one, two])


def snntorch_recurrent() -> None:
    """Neurons that see the spikes of all, and neurons that see their own alone."""
    snn: Any = importlib.import_module("snntorch")
    how = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    one = snn.RLeaky(beta=_some(6, low=0.3, high=0.9), threshold=_some(6, low=0.4, high=0.9), linear_features=6, **how)
    two = snn.RLeaky(beta=0.85, V=_some(4, low=-0.5, high=0.5), all_to_all=False, threshold=0.4, **how)
    network = nn.Sequential(nn.Linear(5, 6), one, nn.Linear(6, 4), two, nn.Linear(4, 3))
    _snntorch("snntorch_recurrent", _loud(network), torch.rand(STEPS, BATCH, 5), [one, two])


def snntorch_delayed() -> None:
    """snnTorch's defaults: a reset by subtraction, a step late. Its exporter writes them as NIR's reset to zero."""
    snn: Any = importlib.import_module("snntorch")
    one = snn.Leaky(beta=torch.full((4, 6, 6), 0.8), threshold=torch.full((4, 6, 6), 0.5), init_hidden=True)
    two = snn.Leaky(beta=torch.full((3,), 0.9), threshold=torch.full((3,), 0.5), init_hidden=True)
    layers = (nn.Conv2d(2, 4, 3), one, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3), two)
    _snntorch("snntorch_delayed", _loud(nn.Sequential(*layers)), torch.rand(STEPS, BATCH, 2, 8, 8), [one, two])


# -------------------------------------------------------------------------------------------------------------- sinabs


def _sinabs(name: str, network: nn.Sequential, x: Tensor, neurons: list[nn.Module]) -> None:
    to_nir = importlib.import_module("sinabs.nir").to_nir
    # Layers take [B T, …], samples one behind the other. Its exporter leaves shapes out, and numbers without a shape:
    # nir 1.0.8 writes neither as they are.
    flat = x.transpose(0, 1).flatten(0, 1)
    graph = to_nir(network, flat)
    for node in graph.nodes.values():
        for key, value in vars(node).items():
            if isinstance(value, Tensor):
                setattr(node, key, value.numpy())
            if getattr(value, "ndim", None) == 0 and not key.endswith("type"):
                setattr(node, key, np.atleast_1d(np.asarray(value)))
            if value is None:
                setattr(node, key, np.array(x.shape[3:]) if key == "input_shape" else value)
        if type(node).__name__ == "Flatten":
            node.input_type = {"input": np.array([4, 3, 3])}
    importlib.import_module("sinabs").reset_states(network)
    rows = _watched(neurons)
    with torch.no_grad():
        output = network(flat)

    def by_time(found: Tensor) -> Tensor:
        return found.reshape(BATCH, STEPS, *found.shape[1:]).transpose(0, 1)

    _write(name, graph, x, [by_time(own[0]) for own in rows], by_time(output))


def sinabs_lif() -> None:
    """sinabs told to fire once, reset to zero and scale its input, as NIR has it; time is counted in steps."""
    sl: Any = importlib.import_module("sinabs.layers")
    act: Any = importlib.import_module("sinabs.activation")
    how = {"spike_fn": act.SingleSpike, "reset_fn": act.MembraneReset(), "norm_input": True, "batch_size": BATCH}
    one = sl.LIFSqueeze(tau_mem=7.3, spike_threshold=torch.tensor(0.21), **how)
    two = sl.ExpLeakSqueeze(tau_mem=4.1, norm_input=True, batch_size=BATCH)
    network = nn.Sequential(nn.Linear(5, 7), one, nn.Linear(7, 3), two)
    _sinabs("sinabs_lif", _loud(network), torch.rand(STEPS, BATCH, 5), [one, two])


def sinabs_iaf() -> None:
    """sinabs' defaults: a neuron fires several times a step and loses the threshold for each."""
    sl: Any = importlib.import_module("sinabs.layers")
    one, two = sl.IAFSqueeze(batch_size=BATCH), sl.IAFSqueeze(batch_size=BATCH)
    conv = nn.Conv2d(2, 4, 3, bias=False)
    network = nn.Sequential(conv, one, sl.SumPool2d(2), nn.Flatten(), nn.Linear(36, 3), two)
    _sinabs("sinabs_iaf", _loud(network), torch.rand(STEPS, BATCH, 2, 8, 8), [one, two])


# --------------------------------------------------------------------------------------------------------------- Norse


def _norse(name: str, network: Any, x: Tensor, neurons: list[nn.Module]) -> None:
    to_nir = importlib.import_module("norse.torch.utils.export_nir").to_nir
    # Its exporter multiplies time constants by dt: with 1 they are in seconds.
    graph = to_nir(network, x[0, 0], dt=1.0)
    rows, state, outputs = _watched(neurons), None, []
    with torch.no_grad():
        for now in x:
            output, state = network(now, state)
            outputs.append(output)
    _write(name, graph, x, [torch.stack(each) for each in rows], torch.stack(outputs))


def norse_box() -> None:
    """Neurons without synaptic currents, each with numbers of its own."""
    norse: Any = importlib.import_module("norse.torch")
    zero = torch.zeros
    fires = norse.LIFBoxParameters(
        tau_mem_inv=_some(7, low=50, high=400), v_th=_some(7, low=0.1, high=0.3), v_leak=zero(7), v_reset=zero(7)
    )
    one = norse.LIFBoxCell(fires)
    two = norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=_some(3, low=50, high=200), v_leak=zero(3)))
    network = norse.SequentialState(nn.Linear(5, 7), one, nn.Linear(7, 3), two)
    _norse("norse_box", _loud(network), torch.rand(STEPS, BATCH, 5), [one, two])


def norse_current() -> None:
    """Neurons with synaptic currents, which rise by the whole input: w_in = tau_syn / dt, which its file lacks."""
    norse: Any = importlib.import_module("norse.torch")
    fires = norse.LIFParameters(
        tau_mem_inv=torch.full((7,), 300.0), tau_syn_inv=torch.full((7,), 400.0), v_th=torch.full((7,), 0.2),
        v_leak=torch.zeros(7),
    )  # fmt: skip
    one = norse.LIFCell(fires)
    network = norse.SequentialState(nn.Linear(5, 7), one, nn.Linear(7, 3))
    _norse("norse_current", _loud(network), torch.rand(STEPS, BATCH, 5), [one])


# -------------------------------------------------------------------------------------------- SpikingJelly and nirtorch


class _Skipping(nn.Module):
    """Units whose spikes are added to those of the layer before."""

    def __init__(self, first: nn.Module, inner: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = first, inner, last

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(x)
        y: Tensor = self.last(spikes + self.inner(spikes))
        return y


def _spikingjelly(name: str, network: nn.Module, x: Tensor, neurons: list[nn.Module]) -> None:
    exchange = importlib.import_module("spikingjelly.activation_based.nir_exchange")
    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")
    graph = exchange.export_to_nir(network, x[0], dt=1e-3)
    functional.reset_net(network)
    rows = _watched(neurons)
    with torch.no_grad():
        output = torch.stack([network(now) for now in x])
    _write(name, graph, x, [torch.stack(each) for each in rows], output)


def spikingjelly_maps() -> None:
    """Maps, and a neuron of each kind that its exporter knows, with other values than their defaults."""
    layer: Any = importlib.import_module("spikingjelly.activation_based.layer")
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    neurons = [
        neuron.LIFNode(tau=1.7, decay_input=False, v_threshold=0.45, v_reset=0.0),
        neuron.CUBALIFNode(c_decay=0.35, v_decay=0.8, v_threshold=0.6, v_reset=0.0),
        neuron.IFNode(v_threshold=0.55, v_reset=0.0),
        neuron.ParametricLIFNode(init_tau=2.6, v_threshold=0.2, v_reset=0.0, decay_input=True),
    ]
    weights = [layer.Conv2d(2, 4, 3, padding="same", bias=False), layer.Linear(64, 6), layer.Linear(6, 5)]
    network = nn.Sequential(
        *(weights[0], neurons[0], layer.AvgPool2d(2), layer.Flatten(), weights[1], neurons[1], weights[2], neurons[2]),
        *(layer.Linear(5, 3, bias=False), neurons[3]),
    )
    _spikingjelly("spikingjelly_maps", _loud(network), torch.rand(STEPS, BATCH, 2, 8, 8), neurons)


def spikingjelly_reset() -> None:
    """A reset to another value than 0, at which SpikingJelly's membranes also begin. NIR does not say where they do."""
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    one = neuron.LIFNode(tau=2.6, v_threshold=0.3, v_reset=-0.2, decay_input=True)
    network = nn.Sequential(nn.Linear(5, 6), one, nn.Linear(6, 3))
    _spikingjelly("spikingjelly_reset", _loud(network), torch.rand(STEPS, BATCH, 5), [one])


def nirtorch_skip() -> None:
    """A skip connection, as nirtorch traces it of a module's forward."""
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    one, two = (neuron.LIFNode(tau=1.9, v_threshold=0.2, v_reset=0.0) for _ in range(2))
    network = _Skipping(nn.Sequential(nn.Linear(5, 6), one), nn.Sequential(nn.Linear(6, 6), two), nn.Linear(6, 3))
    _spikingjelly("nirtorch_skip", _loud(network), torch.rand(STEPS, BATCH, 5), [one, two])


FILES: list[Callable[[], None]] = [
    *(snntorch_leaky, snntorch_recurrent, snntorch_delayed, sinabs_lif, sinabs_iaf),
    *(norse_box, norse_current, spikingjelly_maps, spikingjelly_reset, nirtorch_skip),
]

if __name__ == "__main__":
    for each in FILES:
        torch.manual_seed(0)
        each()
        print(each.__name__)
    print(*(f"{name} {version(name)}" for name in ("nir", "nirtorch", "snntorch", "sinabs", "norse", "spikingjelly")))
