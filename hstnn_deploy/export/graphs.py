"""Write a network's graphs: ONNX (window and step), TorchScript, and torch.export's .pt2.

Each ONNX graph is written with every layer's output under a name of its own, `layer1_output`, …, which are then taken
off the list of outputs: the file computes nothing it does not need, and verification can put them back to see inside
the very file that ships.
"""

import json
import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import torch
from torch import Tensor
from torch.export import Dim

from hstnn_deploy import files
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.frozen import Frozen, StepGraph, WindowGraph, freeze
from hstnn_deploy.models.network import HybridNetwork

Format = Literal["onnx", "torchscript", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)

WINDOW_ONNX, STEP_ONNX, TORCHSCRIPT, PT2 = "model.window.onnx", "model.step.onnx", "model.ts", "model.pt2"

FILES: dict[str, list[str]] = {"onnx": [WINDOW_ONNX, STEP_ONNX], "torchscript": [TORCHSCRIPT], "pt2": [PT2]}
"""The files of each format."""

_EXAMPLE_STEPS, _EXAMPLE_BATCH = 3, 2
"""Of the example the graphs are traced with; neither may be found in a written graph."""


def write_graphs(
    network: HybridNetwork, folder: Path, formats: Collection[str], metadata: dict[str, str] | None = None
) -> list[Path]:
    """Write the graphs of a network into a folder; return the files, in the order of `FORMATS`.

    Args:
        network: the network, on any device.
        folder: where to write; created if need be.
        formats: some of `FORMATS`.
        metadata: facts to store inside each file.

    Raises:
        ExportError: an unknown format, or a network that has no export form.
        RunError: the folder cannot be written.
    """
    if unknown := set(formats) - set(FORMATS):
        raise ExportError(f"unknown format {min(unknown)!r}", f"known: {', '.join(FORMATS)}")
    files.make_folder(folder)
    frozen = freeze(network)
    inputs = network.stack[0].input_size
    x = torch.rand(_EXAMPLE_STEPS, _EXAMPLE_BATCH, inputs)
    facts = metadata or {}
    written = []
    with _quiet():
        if "onnx" in formats:
            written.append(_write_window(frozen, x, folder / WINDOW_ONNX, facts))
            written.append(_write_step(frozen, x[0], network.initial_state(x), folder / STEP_ONNX, facts))
        if "torchscript" in formats:
            written.append(_write_torchscript(frozen, folder / TORCHSCRIPT, facts))
        if "pt2" in formats:
            written.append(_write_pt2(frozen, x, folder / PT2, facts))
    return written


def layer_output(number: int) -> str:
    """Return the name, inside an ONNX graph, of a layer's output; layers count from 1."""
    return f"layer{number}_output"


def state_after(name: str) -> str:
    """Return the name of the output that holds a state after the step."""
    return f"{name}_next"


def _write_window(frozen: Frozen, x: Tensor, path: Path, facts: dict[str, str]) -> Path:
    layers = [layer_output(number) for number in range(1, len(frozen.layers) + 1)]
    program = torch.onnx.export(
        WindowGraph(frozen),
        (x,),
        dynamo=True,
        external_data=False,
        dynamic_shapes={"x": {0: Dim("T", min=1), 1: Dim("B", min=1)}},
        input_names=["x"],
        output_names=["logits", *layers],
        verbose=False,
    )
    return _save_onnx(program, path, facts)


def _write_step(frozen: Frozen, x: Tensor, state: dict[str, Tensor], path: Path, facts: dict[str, str]) -> Path:
    layers = [layer_output(number) for number in range(1, len(frozen.layers) + 1)]
    batch = Dim("B", min=1)
    program = torch.onnx.export(
        StepGraph(frozen),
        (x,),
        # By keyword: a dict as the last positional argument would be taken for keywords.
        kwargs={"state": {name: value.cpu() for name, value in state.items()}},
        dynamo=True,
        external_data=False,
        dynamic_shapes={"x": {0: batch}, "state": {name: {0: batch} for name in state}},
        input_names=["x", *state],
        output_names=["logits", *(state_after(name) for name in state), *layers],
        verbose=False,
    )
    return _save_onnx(program, path, facts)


def _save_onnx(program: Any, path: Path, facts: dict[str, str]) -> Path:
    model = program.model_proto
    outputs = [output for output in model.graph.output if not output.name.endswith("_output")]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    # A purely recurrent layer's output is its state; as an output of its own it was a copy, which nothing needs now.
    used = {name for node in model.graph.node for name in node.input} | {output.name for output in outputs}
    for node in [node for node in model.graph.node if node.op_type == "Identity" and node.output[0] not in used]:
        model.graph.node.remove(node)
    model.graph.name = path.stem
    onnx.helper.set_model_props(model, facts)
    with files.atomic(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return path


def _write_torchscript(frozen: Frozen, path: Path, facts: dict[str, str]) -> Path:
    # Scripted, not traced: tracing would bake the number of steps.
    module = torch.jit.freeze(torch.jit.script(frozen))
    with files.atomic(path) as temporary:
        torch.jit.save(module, str(temporary), _extra_files={"metadata.json": json.dumps(facts)})
    return path


class _Logits(torch.nn.Module):
    def __init__(self, window: WindowGraph) -> None:
        super().__init__()
        # Not `graph`: that is a name of torch.fx's own.
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.window(x)[0]
        return logits


def _write_pt2(frozen: Frozen, x: Tensor, path: Path, facts: dict[str, str]) -> Path:
    program = torch.export.export(
        _Logits(WindowGraph(frozen)), (x,), dynamic_shapes={"x": {0: Dim("T", min=1), 1: Dim("B", min=1)}}
    )
    # By handle: by name, torch insists on a .pt2 suffix.
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts)})
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' talk (deprecations, missing torchvision) from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
