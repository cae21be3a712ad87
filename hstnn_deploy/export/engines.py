"""Run a written file and look inside it: every layer's output beside the logits.

The ONNX files are opened from disk and the layer outputs they compute anyway are put back on the list of outputs, so
that what is checked is the file that ships.

Shapes: T time, B batch, I inputs, C classes, n units of a layer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graphs import layer_output, state_after
from hstnn_deploy.export.runtime import open_graph


class Run(NamedTuple):
    """What an engine computed of a window from zero states."""

    logits: Tensor
    """[B, C]"""
    outputs: list[Tensor]
    """Of each layer, [T, B, n]."""


Engine = Callable[[Tensor], Run]
"""From an input x[T, B, I] to what an engine made of it."""

Session = Callable[[dict[str, Any]], dict[str, Any]]
"""From named input arrays to all named outputs."""


def opened_up(path: Path, layers: int) -> onnx.ModelProto:
    """Return the model of an ONNX file with its layers' outputs among the graph's outputs.

    Raises:
        ExportError: the file cannot be read, or does not hold the layers.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no public base
        raise ExportError(f"{path} cannot be read as ONNX: {error}") from error
    names = {name for node in model.graph.node for name in node.output}
    for number in range(1, layers + 1):
        name = layer_output(number)
        if name not in names:
            # In a step graph a purely recurrent layer's output goes by the name of its state.
            state = state_after(f"h{number}")
            if state not in names:
                raise ExportError(f"{path} has no value {name}")
            model.graph.node.append(onnx.helper.make_node("Identity", [state], [name]))
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model


def onnxruntime_session(model: onnx.ModelProto) -> Session:
    """Return a session of ONNX Runtime on the CPU."""
    return open_graph(model.SerializeToString()).call


def reference_session(model: onnx.ModelProto) -> Session:
    """Return a session of onnx's own reference evaluator: slow, and written by other hands."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    names = [output.name for output in model.graph.output]
    return lambda feeds: dict(zip(names, evaluator.run(None, feeds), strict=True))


def window_engine(session: Session, layers: int) -> Engine:
    """Return the engine of an opened-up window graph."""

    def run(x: Tensor) -> Run:
        values = session({"x": x.numpy()})
        return Run(
            torch.from_numpy(values["logits"]),
            [torch.from_numpy(values[layer_output(number)]) for number in range(1, layers + 1)],
        )

    return run


def step_engine(session: Session, layers: int, states: dict[str, int]) -> Engine:
    """Return the engine that feeds an opened-up step graph its own states, one time step after another.

    Args:
        session: of the step graph.
        layers: how many layers it has.
        states: name and width of each state.
    """

    def run(x: Tensor) -> Run:
        state = {name: np.zeros((x.shape[1], width), np.float32) for name, width in states.items()}
        outputs: list[list[Tensor]] = [[] for _ in range(layers)]
        values: dict[str, Any] = {}
        for now in x.numpy():
            values = session({"x": now, **state})
            state = {name: values[state_after(name)] for name in states}
            for number, collected in enumerate(outputs, 1):
                collected.append(torch.from_numpy(values[layer_output(number)]))
        return Run(torch.from_numpy(values["logits"]), [torch.stack(collected) for collected in outputs])

    return run
