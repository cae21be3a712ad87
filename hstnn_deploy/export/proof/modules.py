"""TorchScript and torch.export programs read again: as text, and as engines that show their layers.

The text is what a file computes: its graph with everything called inlined, and every number that is not a weight. Two
builds of one network by one version of torch have the same text; so a file is compared with a fresh build.

Shapes: T time, B batch.
"""

import copy
import io
import re
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.modules import program, quiet, script
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.engines import Engine, State
from hstnn_deploy.models.network import Network

_NOT_COMPUTED = re.compile(r" # \S.*:\d+:\d+$|__torch__\.(?:[a-z_]\w*\.)*(?=[A-Z_])", re.MULTILINE)
"""Of a TorchScript text, what depends on where and when it was built: lines of source, and modules of classes."""


def fresh_text(network: Network, like: Any) -> str:
    """Return the text of a fresh build of a network, saved and loaded as a file is.

    Args:
        network: the network.
        like: what it is compared with, TorchScript or a program.
    """
    buffer = io.BytesIO()
    with quiet():
        if isinstance(like, ExportedProgram):
            torch.export.save(program(network), buffer)
            buffer.seek(0)
            return text(torch.export.load(buffer))
        torch.jit.save(script(network), buffer)
        buffer.seek(0)
        return text(torch.jit.load(buffer))


def text(loaded: Any) -> str:
    """Return all that TorchScript or a program computes, but for its weights, as text."""
    if isinstance(loaded, ExportedProgram):
        return _program_text(loaded)
    parts = []
    # A file written before there was the second method has another text anyway.
    for name in ("forward", "forward_shown"):
        if hasattr(loaded, name):
            graph = getattr(loaded, name).inlined_graph
            parts += [_NOT_COMPUTED.sub("", str(graph)), *_numbers_read(loaded, graph)]
    for name, module in loaded.named_modules():
        if module._c._get_forward_hooks() or module._c._get_forward_pre_hooks():
            parts.append(f"{name} has hooks")
    return "\n".join(parts)


def _numbers_read(loaded: Any, graph: Any) -> list[str]:
    """Return each attribute that a TorchScript graph reads, and its value where that is not a weight or a module."""
    found = {}
    for node in graph.findAllNodes("prim::GetAttr"):
        path: list[str] = []
        while node.kind() == "prim::GetAttr":
            path.insert(0, node.s("name"))
            node = node.inputsAt(0).node()
        # Only the C++ module gives every attribute, with or without a place in Python (torch 2.11 to 2.13).
        value = loaded._c
        for name in path:
            value = value.getattr(name)
        plain = isinstance(value, bool | int | float | str | list | dict)
        found[".".join(path)] = repr(value) if plain else type(value).__name__
    return [f"{path} = {value}" for path, value in sorted(found.items())]


def _program_text(loaded: ExportedProgram) -> str:
    parts = [
        f"{name}\n{module.code}"
        for name, module in loaded.graph_module.named_modules()
        if isinstance(module, torch.fx.GraphModule)
    ]
    call = loaded.module_call_graph[0].signature
    return "\n".join([*parts, str(loaded.graph_signature), str(sorted(loaded.constants)), str(call)])


def shown_engine(network: Network, loaded: Any, weights: dict[str, Tensor]) -> Engine:
    """Return the engine that shows the layers of a TorchScript or .pt2 file.

    TorchScript has a method for it. Of a program another is built from the same equations, with the file's weights.

    Args:
        network: a network of the same shape.
        loaded: what the file holds.
        weights: of the file.

    Raises:
        ExportError: the file's weights are not those of such a network.
    """
    if not isinstance(loaded, ExportedProgram) and hasattr(loaded, "forward_shown"):
        return _regrouped(network, loaded.forward_shown)
    own = copy.deepcopy(network)
    try:
        own.load_state_dict(weights)
    except RuntimeError as error:
        raise ExportError(f"the file does not hold the network: {' '.join(str(error).split())}") from error
    if isinstance(loaded, ExportedProgram):
        return _regrouped(network, program(own, show=True).module())
    return _regrouped(network, script(own).forward_shown)


def _regrouped(network: Network, call: Any) -> Engine:
    """Return the engine of a call that returns logits, states, and a flat list of what each group emitted."""
    face, taps = interface(network), list(network.taps)

    @torch.no_grad()
    def run(x: Tensor, state: State | None = None) -> Run:
        logits, after, *left, emitted = call(x, face.zeros(x.shape[1]) | (state or {}))
        return Run(logits, dict(zip(taps, emitted, strict=True)), dict(after), left[0] if left else None)

    return run
