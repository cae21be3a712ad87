"""NIR: a spiking network as a graph for neuromorphic simulators and chips (https://neuroir.org).

NIR's leaky integrate-and-fire neuron is continuous, and `z = 1 where v > v_threshold` then sets v to v_reset:

    tau dv/dt = (v_leak - v) + r I

A step dt of it, with v_leak = 0 and the input I constant within the step, is

    Euler        v_t = (1 - dt/tau) v_{t-1} + (r dt/tau) I_t
    exponential  v_t = e^(-dt/tau) v_{t-1} + r (1 - e^(-dt/tau)) I_t

and ours is m_t = decay * v_{t-1} + I_t: the input is not decayed, and v_{t-1} = m_{t-1} (1 - s_{t-1}) is the membrane
after a reset to zero within the step of the spike. With v_reset = 0 and

    Euler        tau = dt / (1 - decay)
    exponential  tau = -dt / ln(decay)

there are two forms of the same recurrence, equal in real numbers:

    plain  r = 1 and v_threshold = (1 - decay) * ours: the membrane is ours times 1 - decay. v_reset is left out of the
           file, because nir 1.0.4 does not know it, and newer ones take it as 0; weights are `Affine` nodes of bias
           0, because sinabs reads no `Linear`.
    full   v_threshold = ours, v_reset = 0, and r = tau / dt (Euler) or 1 / (1 - decay) (exponential)

Weights are the network's to the bit in both. Only tau, r and v_threshold are rounded, to float64: `write_nir` takes
decay and threshold out of the file again and compares. Simulators compute in float32, so a membrane within their
rounding error of the threshold may still fire otherwise. Which method a simulator takes is its own choice, and so is
dt, which NIR does not hold: it must run at the dt that the graph was written for. docs/neuromorphic.md says which
simulators were tried and what came of it. decay = 1 is NIR's integrate-and-fire neuron, dv/dt = r I with r = 1/dt in
both forms. decay = 0 has no exponential form.

What is around the neurons is linear and held as it is: W, convolution with bias, average pooling, an embedding as a
matrix over one-hot words. The sequence classifier's readout is applied at every step: logits are the *mean of the
output over time*. That of the convolutional classifier has a ReLU behind a sum over time, which NIR has no node for:
the graph ends at the pooled spikes of the last layer, flattened.
"""

import io
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy import files
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.nir_file import differs, graph_of, node_of
from hstnn_deploy.export.graph.nir_layers import Written
from hstnn_deploy.export.graph.nir_neurons import (
    DT,
    Method,
    NirForm,
    Numbers,
    is_threshold,
    neuron_node,
    neuron_of,
    numbers_of,
    package,
    recurrence_of,
    refuse_neuron,
    scaled,
)
from hstnn_deploy.models.hybrid.convolutional import ConvClassifier, SpikingConvolution
from hstnn_deploy.models.hybrid.groups import SpikingGroup
from hstnn_deploy.models.hybrid.language import LanguageModel
from hstnn_deploy.models.hybrid.network import HybridNetwork, as_hybrid
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier
from hstnn_deploy.models.layers.weights import Embedding
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.stack import Stack

OUTPUTS = {
    "sequence": "logits of each step; those of the sequence are their mean over time",
    "language": "logits of the word that follows, at each step",
    "convolutional": "pooled spikes of the last layer, flattened, at each step; their sum over time goes into the "
    "readout, which is not in here (NIR has no ReLU)",
}
"""What comes out, by family."""


def to_nir(network: Network, dt: float = DT, method: Method = "euler", form: NirForm = "plain") -> Any:
    """Return a purely spiking network as a `nir.NIRGraph`.

    Args:
        network: of spiking units only.
        dt: seconds of a step.
        method: how the simulator takes a step.
        form: of the neurons.

    Raises:
        ExportError: the package nir is missing or too old, or the network holds what NIR cannot.
    """
    nir = package()
    if isinstance(network, Stack):
        return _of_stack(network, dt, method, form)
    network = as_hybrid(network)
    _check(network, method)
    nodes: dict[str, Any] = {}
    shape = _step_shape(network)
    readout = _readout(network)
    if isinstance(network, LanguageModel):
        nodes["input"] = nir.Input(input_type=np.array([network.embedding.num_embeddings]))
        nodes["embedding"] = _linear(network.embedding.weight, form)
    else:
        nodes["input"] = nir.Input(input_type=np.array(shape))
    for number, layer in enumerate(network.stack, 1):
        match layer.groups["snn"]:
            case SpikingGroup() as group:
                nodes[f"layer{number}_weight"] = _linear(group.weight, form)
                shape = (group.units,)
                nodes[f"layer{number}"] = neuron_node(_lif(group), shape, dt, method, form)
            case SpikingConvolution() as group:
                conv, height = group.conv_input, shape[-1]
                assert conv.bias is not None
                nodes[f"layer{number}_weight"] = nir.Conv2d(
                    input_shape=(height, height),
                    weight=_array(conv.weight),
                    stride=1,
                    padding=int(conv.padding[0]),
                    dilation=1,
                    groups=1,
                    bias=_array(conv.bias),
                )
                height = group.map_size(height)
                nodes[f"layer{number}"] = neuron_node(_lif(group), (group.units, height, height), dt, method, form)
                two = np.array([2, 2])
                nodes[f"layer{number}_pool"] = nir.AvgPool2d(kernel_size=two, stride=two, padding=np.array([0, 0]))
                shape = (group.units, height // 2, height // 2)
    if readout is None:
        nodes["flatten"] = nir.Flatten(input_type=np.array(shape), start_dim=0, end_dim=-1)
        shape = (math.prod(shape),)
    else:
        nodes["readout"] = nir.Affine(weight=_array(readout.weight), bias=_array(readout.bias))
        shape = (readout.out_features,)
    nodes["output"] = nir.Output(output_type=np.array(shape))
    names = list(nodes)
    metadata = {"dt": dt, "method": method, "form": form, "reset": "zero", "output": output_of(network)}
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)), metadata=metadata)


def _of_stack(network: Stack, dt: float, method: Method, form: NirForm) -> Any:
    nir = package()
    first = network.layers.layers[0]
    shape = (first.num_embeddings,) if isinstance(first, Embedding) else network.input_shape
    written = Written((dt, method, form), "input", nir.Input(input_type=np.array(shape)))
    written.chain(network.layers.layers, network.input_shape)
    written.add("output", nir.Output(output_type=np.array(network.output_shape)))
    metadata = {"dt": dt, "method": method, "form": form, "reset": "zero", "output": output_of(network)}
    return nir.NIRGraph(nodes=written.nodes, edges=written.edges, metadata=metadata)


def write_nir(network: Network, path: Path, dt: float = DT, method: Method = "euler", form: NirForm = "plain") -> Path:
    """Write a purely spiking network as a NIR file, and read it back before it takes its name.

    Raises:
        ExportError: see `to_nir`; or what is read back is not what was written, or not the network's neurons.
        RunError: the file cannot be written.
    """
    nir = package()
    graph, written = to_nir(network, dt, method, form), io.BytesIO()
    nir.write(written, graph)
    if form == "plain":
        _leave_out_reset(written)
    with files.atomic(path) as temporary:
        temporary.write_bytes(written.getvalue())
        read = nir.read(temporary)
        if difference := differs(graph_of(graph), graph_of(read)) or _other_neurons(network, read):
            raise ExportError(f"{path} differs from what was written: {difference}")
    return path


def _leave_out_reset(written: io.BytesIO) -> None:
    """Take each v_reset that is 0 out of a written graph: nir 1.0.4 refuses a neuron that has one."""
    import h5py

    def leave_out(nodes: Any) -> None:
        for node in nodes.values():
            if "nodes" in node:
                leave_out(node["nodes"])
            if "v_reset" in node and not node["v_reset"][()].any():
                del node["v_reset"]

    with h5py.File(written, "r+") as file:
        leave_out(file["node/nodes"])


def _other_neurons(network: Network, read: Any) -> str:
    """Return which layer's decay or threshold a graph does not give back to float32; empty where it gives back all."""
    if isinstance(network, Stack):
        return _other_neurons_of_stack(network, read)
    for number, layer in enumerate(as_hybrid(network).stack, 1):
        group = layer.groups["snn"]
        assert isinstance(group, SpikingGroup | SpikingConvolution)
        found = neuron_of(read.nodes[f"layer{number}"], read.metadata["dt"], _text(read.metadata["method"]))
        for name, there, ours in zip(
            ("decay", "threshold"), found, (group.neuron.decay, group.neuron.threshold), strict=True
        ):
            if not abs(there - ours) <= 2**-25 * max(ours, 2**-25):
                return f"{name} {there:.9g} of layer {number}, which has {ours:.9g}"
    return ""


def _other_neurons_of_stack(network: Stack, read: Any) -> str:
    dt, method = read.metadata["dt"], _text(read.metadata["method"])
    for layer in network.leaves():
        neuron = getattr(layer, "neuron", None)
        if not isinstance(neuron, Lif) or is_threshold(neuron):
            continue
        node = read.nodes[f"layer{layer.number}"]
        node = node_of(getattr(node, "nodes", {"lif": node})["lif"])
        ours = scaled(numbers_of(layer, neuron))
        there = scaled(recurrence_of(node, node.array("v_threshold").shape, dt, method))
        if ours is None or there is None:
            return f"the input of layer {layer.number}, which is multiplied by 0"
        for name, found, wanted in zip(Numbers._fields, there, ours, strict=True):
            # A membrane that keeps all of itself has no rest.
            if wanted is None or found is None or (name == "rest" and (ours.decay == 1).all()):
                continue
            if (abs(found - wanted) > 2**-25 * np.maximum(abs(wanted), 2**-25)).any():
                return f"{name} {found.flat[0]:.9g} of layer {layer.number}, which has {wanted.flat[0]:.9g}"
    return ""


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _linear(weight: Tensor, form: NirForm) -> Any:
    nir, matrix = package(), _array(weight).T.copy()
    return nir.Linear(weight=matrix) if form == "full" else nir.Affine(weight=matrix, bias=np.zeros_like(matrix[:, 0]))


def _lif(group: SpikingGroup | SpikingConvolution) -> Lif:
    """Return the neuron of spiking units.

    Raises:
        ExportError: NIR has no node for it.
    """
    if not isinstance(group.neuron, Lif):
        raise ExportError(f"NIR has no node for neurons of type {group.neuron.type}", "it has neurons of type lif")
    return group.neuron


def _check(network: HybridNetwork, method: Method) -> None:
    for number, size in enumerate(network.sizes, 1):
        if size.rnn:
            kind = "LSTM" if "c" in network.stack[number - 1].state_sizes else "recurrent"
            raise ExportError(
                f"NIR has spiking units only: layer {number} has {size.rnn} {kind} units beside {size.snn} spiking "
                "ones, but NIR has no node for their sigmoid, tanh or ReLU",
                "--nir takes networks of --kind snn; export a hybrid to ONNX",
            )
        group = network.stack[number - 1].groups["snn"]
        assert isinstance(group, SpikingGroup | SpikingConvolution)
        refuse_neuron(group.neuron, method)


def output_of(network: Network) -> str:
    """Say what comes out of a network's NIR graph.

    Raises:
        ExportError: the family has no NIR form.
    """
    if isinstance(network, Stack):
        return f"what the last layer gives at each step; the answer is its {network.readout} over the steps"
    return OUTPUTS[_family(network)]


def _family(network: Network) -> str:
    match network:
        case SequenceClassifier():
            return "sequence"
        case LanguageModel():
            return "language"
        case ConvClassifier():
            return "convolutional"
        case _:
            raise ExportError(f"{type(network).__name__} has no NIR form yet")


def _readout(network: HybridNetwork) -> Any:
    """Return the readout where NIR can hold it."""
    match network:
        case SequenceClassifier():
            return network.readout
        case LanguageModel():
            return network.decoder
        case _:
            return None


def _step_shape(network: HybridNetwork) -> tuple[int, ...]:
    """Return the shape of what the first layer sees at a step."""
    first = network.stack[0]
    if not isinstance(network, ConvClassifier):
        return (first.input_size,)
    size = math.isqrt(network.hidden.in_features // network.stack[-1].units)
    for layer in reversed(network.stack):
        group = layer.groups["snn"]
        assert isinstance(group, SpikingConvolution)
        # `map_size` is how much a convolution takes off; it is the same whatever the size.
        size = 2 * size - group.map_size(0)
    return first.input_size, size, size


def _array(value: Tensor) -> NDArray[np.float32]:
    return value.detach().cpu().numpy().astype(np.float32)
