"""Weights stored as integers are the very same numbers: at every number of bits, beyond 1, in ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.bundle.integers import store_integers
from hstnn_deploy.models.rram import SIGMA, Weights, dorefa, ternary, uniform


def model(weights: np.ndarray, opset: int) -> onnx.ModelProto:
    """Return a graph that gives its weights plus x."""
    stored = numpy_helper.from_array(weights, "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, list(weights.shape)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [stored])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(made: onnx.ModelProto, shape: tuple[int, ...]) -> np.ndarray:
    onnx.checker.check_model(made, full_check=True)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.zeros(shape, np.float32)})
    return np.asarray(found)


def w() -> torch.Tensor:
    """Weights beyond 1, and an odd number of them."""
    return torch.randn(7, 33, 3, 3, generator=torch.Generator().manual_seed(1)).mul(0.8)


@pytest.mark.parametrize("opset", [17, 18, 20, 21])
@pytest.mark.parametrize("how", [*SIGMA, "ternary", "dorefa 2", "dorefa 8", "with SRAM", "pruned"])
def test_they_are_equal_to_the_bit(how: object, opset: int) -> None:
    sram = {"sram": {"shift": -3, "bits": 2}, "bits": 2}
    match how:
        case int():
            weights = uniform(w(), how)
        case "ternary":
            weights = ternary(w())
        case "dorefa 2":
            weights = dorefa(w(), 2)
        case "dorefa 8":
            weights = dorefa(w(), 8)
        case "with SRAM":
            weights = Weights.model_validate({"step": "recover", **sram}).effective(w(), w().flip(0), 1, varied=False)
        case _:
            weights = Weights.model_validate({"step": "prune", **sram}).effective(w(), w().flip(0), 1, varied=False)
    values = weights.numpy()
    assert np.abs(values).max() > 1 or str(how).startswith(("ternary", "dorefa"))
    made = model(values, opset)
    before = made.ByteSize()
    store_integers(made)
    assert np.array_equal(run(made, values.shape), values)
    assert not [each for each in made.graph.initializer if each.data_type == TensorProto.FLOAT and len(each.dims) > 1]
    assert made.ByteSize() < before * (0.6 if how == 8 else 0.4)


def test_four_bits_are_packed_where_all_values_fit() -> None:
    values = uniform(w().clamp(-1, 0.9), 3).numpy()
    made = model(values, 21)
    store_integers(made)
    kinds = {each.data_type for each in made.graph.initializer}
    assert TensorProto.INT4 in kinds
    assert np.array_equal(run(made, values.shape), values)


def test_zeros_with_a_sign_and_what_is_no_number_stay_what_they_are() -> None:
    odd = np.array([-0.0, 0.0, np.inf, 1.0, 2.0**-140], np.float32)
    odd = np.append(odd, np.array([0xFFC00001], np.uint32).view(np.float32))
    values = odd[np.random.default_rng(1).integers(0, len(odd), (40, 50))]
    made = model(values, 21)
    store_integers(made)
    stored = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    found = stored["w/table"][stored["w/levels"].astype(int)]
    assert np.array_equal(found.view(np.uint32), values.view(np.uint32))
    pruned = np.where(np.arange(400) % 2, -0.0, 0.5).astype(np.float32)
    made = model(pruned, 21)
    store_integers(made)
    assert "w/table" in {each.name for each in made.graph.initializer}


def test_what_has_too_many_levels_is_refused() -> None:
    with pytest.raises(ExportError, match="no array of weights has few enough levels"):
        store_integers(model(w().numpy(), 21))


def test_one_integer_off_is_another_number(tmp_path: Path) -> None:
    values = uniform(w(), 4).numpy()
    made = model(values, 21)
    store_integers(made)
    stored = next(each for each in made.graph.initializer if each.name.endswith("/integers"))
    raw = bytearray(stored.raw_data)
    raw[0] ^= 1
    stored.raw_data = bytes(raw)
    onnx.save(made, str(tmp_path / "wrong.onnx"))
    assert int((run(made, values.shape) != values).sum()) == 1
