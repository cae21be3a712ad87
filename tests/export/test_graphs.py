"""The written graphs: what is in them, and that they compute the network at any time and batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graphs import PT2, STEP_ONNX, TORCHSCRIPT, WINDOW_ONNX, write_graphs
from hstnn_deploy.export.runtime import open_graph
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Kind, Sizes, layer_sizes

SHAPES = [(1, 1), (9, 4), (3, 2), (28, 1)]
"""(T, B), among them those of the example the graphs are traced with."""


def network(kind: Kind) -> HybridNetwork:
    torch.manual_seed(0)
    return SequenceConfig(inputs=7, classes=4, units=[9, 8]).build(layer_sizes(kind, [9, 8], 0.5)).eval()


@pytest.fixture(scope="module", params=["rnn", "snn", "ffs"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridNetwork, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    made = network(request.param)
    paths = write_graphs(made, folder, {"onnx", "torchscript", "pt2"}, {"note": "a fact"})
    assert [path.name for path in paths] == [WINDOW_ONNX, STEP_ONNX, TORCHSCRIPT, PT2]
    return made, folder


@torch.no_grad()
def test_every_format_computes_the_network_at_any_time_and_batch(written: tuple[HybridNetwork, Path]) -> None:
    made, folder = written
    window, step = open_graph(folder / WINDOW_ONNX), open_graph(folder / STEP_ONNX)
    script, program = torch.jit.load(str(folder / TORCHSCRIPT)), torch.export.load(folder / PT2).module()
    for steps, batch in SHAPES:
        x = torch.rand(steps, batch, 7)
        expected, after = made(x)
        np.testing.assert_allclose(window.run(x.numpy()), expected, atol=1e-5)
        torch.testing.assert_close(script(x)[0], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(program(x), expected, atol=1e-5, rtol=0)
        state = None
        for now in x.numpy():
            logits, state = step.step(now, state)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert state is not None
        assert set(state) == set(after)
        for name, value in after.items():
            np.testing.assert_allclose(state[name], value, atol=1e-5)


@torch.no_grad()
def test_torchscript_takes_chunks_and_hands_out_the_networks_states(written: tuple[HybridNetwork, Path]) -> None:
    made, folder = written
    script = torch.jit.load(str(folder / TORCHSCRIPT))
    x = torch.rand(7, 3, 7)
    expected, after = made(x)
    state = None
    for chunk in (x[:4], x[4:5], x[5:]):
        logits, state = script(chunk, state)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert state is not None
    assert set(state) == set(after)
    for name, value in after.items():
        torch.testing.assert_close(state[name], value, atol=1e-5, rtol=0)


def test_onnx_graphs_hold_one_scan_a_layer_no_dead_nodes_and_no_layer_outputs(
    written: tuple[HybridNetwork, Path],
) -> None:
    _, folder = written
    for name, scans in ((WINDOW_ONNX, 2), (STEP_ONNX, 0)):
        graph = onnx.load(folder / name).graph
        assert sum(node.op_type == "Scan" for node in graph.node) == scans
        assert not any(output.name.startswith("layer") for output in graph.output)
        used = {value for node in graph.node for value in node.input} | {value.name for value in graph.output}
        used |= {value for node in graph.node for field in node.attribute for value in _captured(field.g)}
        for node in graph.node:
            assert used & set(node.output), f"{node.op_type} {node.name} is dead"


def _captured(graph: onnx.GraphProto) -> set[str]:
    return {value for node in graph.node for value in node.input}


def test_facts_are_stored_inside_the_files(written: tuple[HybridNetwork, Path]) -> None:
    _, folder = written
    for name in (WINDOW_ONNX, STEP_ONNX):
        assert {entry.key: entry.value for entry in onnx.load(folder / name).metadata_props} == {"note": "a fact"}
    script, program = {"metadata.json": ""}, {"metadata.json": ""}
    torch.jit.load(str(folder / TORCHSCRIPT), _extra_files=script)
    torch.export.load(folder / PT2, extra_files=program)
    assert "a fact" in str(script["metadata.json"])
    assert "a fact" in str(program["metadata.json"])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown format 'tflite'"):
        write_graphs(network("snn"), tmp_path, {"tflite"})


def test_a_network_reset_by_subtraction_is_refused(tmp_path: Path) -> None:
    config = SequenceConfig(inputs=2, classes=2, units=[3], neuron=Lif(reset="subtract"))
    with pytest.raises(ExportError, match="reset by subtraction"):
        write_graphs(config.build([Sizes(3, 0)]), tmp_path, ["torchscript"])
