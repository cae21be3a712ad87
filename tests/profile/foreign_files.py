"""ONNX files of another program's, whole and wrong, and torch modules of a user's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

NETS = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def lstm():
    return nn.LSTM(6, 4)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(6, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) * self.calls


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.layer = nn.Embedding(2, 6), nn.Linear(6, 2)

    def forward(self, x, words):
        return self.layer(x + self.words(words))


def broken():
    raise ValueError("no weights here")
"""


def weight(*shape: int) -> Any:
    """Return an initializer W of ones."""
    return numpy_helper.from_array(np.ones(shape, np.float32), "W")


def outside(location: str, **more: int) -> Any:
    """Return an initializer W [6, 3] whose numbers lie in another file."""
    tensor = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[6, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def product(
    path: Path,
    axes: Sequence[int | str | None] | None,
    initializer: Any = None,
    node: Any = None,
    kind: int = TensorProto.FLOAT,
    domains: Sequence[str] = ("",),
) -> Path:
    """Write y = x W for W [6, 3], or another node, with these axes of x; return the path."""
    x = helper.make_tensor_value_info("x", kind, axes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = node or helper.make_node("MatMul", ["x", "W"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [weight(6, 3) if initializer is None else initializer])
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
