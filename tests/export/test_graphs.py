"""The written graphs: what is in them, under which names, and what is refused. What they compute is in test_matrix."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.forms import FORMS, Form
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.nodes import Nodes, stored_in
from hstnn_deploy.export.graph.write import (
    FACTS,
    PT2,
    STEP_ONNX,
    TORCHSCRIPT,
    UNROLLED_ONNX,
    WINDOW_ONNX,
    build_onnx,
    write_graphs,
)
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes
from tests.conftest import PATIENCE
from tests.export.cases import CASES, Case

ONNX = (WINDOW_ONNX, STEP_ONNX, UNROLLED_ONNX)


@pytest.fixture(scope="module", params=[Case("sequence", "ffs-lstm"), Case("language", "hybrid"), Case("dvs", "ffs")])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    paths = write_graphs(
        request.param.network(), folder, {"onnx", "torchscript", "pt2"}, {"note": "a fact"}, of_onnx=FORMS, steps=4
    )
    assert [path.name for path in paths] == [*ONNX, TORCHSCRIPT, PT2]
    return request.param, folder


def nodes(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_window_has_a_scan_for_each_layer_that_spikes_and_a_native_node_for_lstm_units(
    written: tuple[Case, Path],
) -> None:
    case, folder = written
    window, step = nodes(folder / WINDOW_ONNX), nodes(folder / STEP_ONNX)
    expected = {"sequence": (2, 2), "language": (2, 0), "dvs": (1, 0)}[case.family]
    assert (window.count("Scan"), window.count("LSTM")) == expected, "a convolutional network is one scan in all"
    assert step.count("Scan") == 0
    assert not any(op == "Scan" for op in nodes(folder / UNROLLED_ONNX))


def test_convolutions_run_inside_the_scan_so_that_memory_does_not_grow_with_time(tmp_path: Path) -> None:
    write_graphs(Case("dvs", "ffs").network(), tmp_path, {"onnx"}, of_onnx=["window"])
    graph = onnx.load(tmp_path / WINDOW_ONNX).graph
    (scan,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert [node.op_type for node in body.node].count("Conv") == 6
    assert not any(node.op_type == "Conv" for node in graph.node)
    assert len(scan.output) == len(body.output) == 5, "nothing but the states comes out of it"


def test_every_input_and_output_says_what_it_is(written: tuple[Case, Path]) -> None:
    case, folder = written
    face = interface(case.network())
    for name in ONNX:
        graph = onnx.load(folder / name).graph
        assert [value.name for value in graph.input] == ["x", *(state.name for state in face.states)]
        assert [value.name for value in graph.output] == ["logits", *(f"{state.name}_next" for state in face.states)]
        assert all(value.doc_string for value in (*graph.input, *graph.output))
        assert all(node.name for node in graph.node)


def test_facts_are_stored_inside_the_files(written: tuple[Case, Path]) -> None:
    _, folder = written
    for name in ONNX:
        assert {entry.key: entry.value for entry in onnx.load(folder / name).metadata_props} == {"note": "a fact"}
    script, program = {FACTS: ""}, {FACTS: ""}
    torch.jit.load(str(folder / TORCHSCRIPT), _extra_files=script)
    torch.export.load(folder / PT2, extra_files=program)
    assert "a fact" in str(script[FACTS])
    assert "a fact" in str(program[FACTS])


@torch.no_grad()
def test_torchscript_takes_the_states_there_are_and_zeros_for_the_others(tmp_path: Path) -> None:
    """As the language model's task wants it: h goes on, v starts again."""
    network = Case("language", "ffs-lstm").network()
    (path,) = write_graphs(network, tmp_path, {"torchscript"})
    module = torch.jit.load(str(path))
    x = interface(network).example(4, 2)
    _, after = module(x)
    kept = {name: value for name, value in after.items() if not name.startswith("v")}
    logits, _ = module(x, kept)
    zeros = {name: torch.zeros_like(value) for name, value in after.items()}
    torch.testing.assert_close(logits, network(x, zeros | kept)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_frame_is_as_large_as_the_recipe_says_and_a_token_has_no_size(case: Case) -> None:
    network, config = case.network(), case.recipe().network
    step = interface(network).step
    assert step == {"sequence": (8,), "language": (), "convolutional": (2, 16, 16)}[config.family]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown format 'tflite'"):
        write_graphs(Case("sequence", "snn").network(), tmp_path, {"tflite"})


@pytest.mark.parametrize("form", FORMS)
def test_numbers_that_differ_in_their_last_digit_stay_two(form: Form) -> None:
    """Six digits would call both of them 0.6."""
    decay, threshold = 0.6000004, 0.6
    config = SequenceConfig(inputs=2, classes=2, units=[3], neuron=Lif(decay=decay, threshold=threshold))
    model = build_onnx(config.build([Sizes(3, 0)]), form, {}, steps=2)
    values = {float(numpy_helper.to_array(each)) for each in stored_in(model.graph) if not each.dims}
    assert {float(np.float32(decay)), float(np.float32(threshold))} <= values


def test_two_values_of_one_name_are_an_error() -> None:
    g = Nodes()
    assert g.number(0.6) == g.number(float(np.float32(0.6))) == "constant/0.6"
    assert g.number(float(np.nextafter(np.float32(0.6), np.float32(1)))) != g.number(0.6)
    g.weight("w", np.ones(2))
    with pytest.raises(ValueError, match="two different values are called w"):
        g.weight("w", np.zeros(2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_same_network_and_options_give_the_same_bytes(case: Case, form: Form) -> None:
    first, second = (
        build_onnx(case.network(), form, {"b": "1", "a": "2"}, steps=3).SerializeToString() for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("form", ["onnx", "torchscript", "pt2"])
def test_a_full_disk_is_a_run_error_in_every_format_and_ends_no_process(form: str, tmp_path: Path) -> None:
    # In a process of its own, which torch's writers would end. The limit is as close to a full disk as a test comes.
    code = f"""
import resource, signal, sys
from pathlib import Path
from hstnn_deploy.errors import RunError
from hstnn_deploy.export.graph.write import write_graphs
from tests.export.cases import Case
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_graphs(Case("sequence", "ffs").network(), Path({str(tmp_path)!r}), {{{form!r}}})
except RunError as error:
    sys.exit(0 if "cannot write" in error.message else 3)
sys.exit(4)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
