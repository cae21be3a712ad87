"""The weights in a written file, back under the network's own names: what verification anywhere starts from."""

from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.nodes import CONSTANT, stored_in
from hstnn_deploy.export.graph.reading import LAYOUTS
from hstnn_deploy.export.proof.engines import read_network
from hstnn_deploy.export.proof.programs import open_script, program_weights
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.registry import NetworkConfig, build
from hstnn_deploy.models.sizes import Sizes

_PROGRAM = "frozen."
"""What a .pt2 puts before every name: see `frozen.Program`."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a written file, named and laid out as in the network's `state_dict`.

    To read a TorchScript file is to open it: its writer must be trusted.

    Raises:
        BundleError: a .pt2 that could run code.
        ExportError: the file cannot be read.
    """
    match path.suffix:
        case ".onnx":
            return _of_onnx(path)
        case ".pt2":
            found = program_weights(path)
        case _:
            found = open_script(path).state_dict()
    return {name.removeprefix(_PROGRAM): value.detach() for name, value in found.items()}


def _of_onnx(path: Path) -> dict[str, Tensor]:
    weights = {}
    for initializer in stored_in(read_network(path).graph):
        if initializer.name.startswith(CONSTANT):
            continue
        name, value = initializer.name, numpy_helper.to_array(initializer)
        for ending, restore in LAYOUTS.items():
            if name.endswith(ending):
                name, value = name.removesuffix(ending), restore(value)
                break
        weights[name] = torch.from_numpy(np.array(value))
    return weights


def network_of(path: Path, config: NetworkConfig, sizes: list[Sizes]) -> Network:
    """Return the network of a written file, in evaluation mode.

    Raises:
        ExportError: the file cannot be read, or holds other weights than such a network has.
    """
    weights = read_weights(path)
    try:
        # Shapes first, which cost nothing: a manifest may claim any number of units.
        widest = max((length for value in weights.values() for length in value.shape), default=0)
        for number, size in enumerate(sizes, 1):
            if max(size) > widest:
                raise RuntimeError(f"layer {number} has {size.snn} spiking and {size.rnn} recurrent units")
        with torch.device("meta"):
            shapes = {name: tuple(value.shape) for name, value in build(config, sizes).state_dict().items()}
        for name in sorted(shapes.keys() ^ weights.keys()):
            raise RuntimeError(f"only one of them has {name}")
        for name, shape in shapes.items():
            if tuple(weights[name].shape) != shape:
                raise RuntimeError(f"{name} is {tuple(weights[name].shape)}, not {shape}")
        network = build(config, sizes)
        network.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:  # of numbers that cannot be units
        raise ExportError(
            f"{path} does not contain the network of the manifest: {' '.join(str(error).split())}"
        ) from error
    return network.eval()


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    """Return where two networks' weights first differ, in words, or an empty text where they are equal to the bit."""
    if missing := sorted(ours.keys() ^ theirs.keys()):
        return f"{missing[0]} is in the {'network' if missing[0] in theirs else 'file'} only"
    for name, value in theirs.items():
        if value.shape != ours[name].shape:
            return f"{name} is {tuple(ours[name].shape)}, not {tuple(value.shape)}"
        # As bits: -0.0 equals 0.0, and NaN does not equal itself.
        if ours[name].dtype != value.dtype:
            return f"{name} is {ours[name].dtype}, not {value.dtype}"
        if not torch.equal(_bits(ours[name]), _bits(value)):
            count = int((_bits(ours[name]) != _bits(value)).sum())
            worst = float((ours[name].double() - value.double()).abs().max())
            return f"{name} differs in {count} of {value.numel()} values, by up to {worst:.3g}"
    return ""


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.int32) if value.dtype == torch.float32 else value
