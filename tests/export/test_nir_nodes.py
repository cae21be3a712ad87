"""Every type of node of NIR, with numbers for each unit: read, run as NIR defines it, written, and read again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.from_nir import FROM, read_nir, stack_of
from hstnn_deploy.export.graph.neuromorphic import to_nir, write_nir
from hstnn_deploy.export.graph.nir_neurons import Method
from hstnn_deploy.models.stack import Stack, StackConfig
from tests.conftest import in_part
from tests.export.nir_oracle import Array, interpret
from tests.export.test_from_nir import spikes

nir = pytest.importorskip("nir")
DT = 1e-3


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def numbers(seed: int, low: float, high: float, *shape: int) -> Array:
    """Return float64 numbers that are float32's as well: what is read does not round them."""
    found = np.random.default_rng(seed).uniform(low, high, shape)
    return found.astype(np.float32).astype(np.float64)


def graph_of(*nodes: Any, shape: Any = (6,), edges: Any = None, out: Any = None, **others: Any) -> Any:
    """Return a graph of nodes one behind the other, named a, b, c, …; or with edges of those and others."""
    named = dict(zip("abcdefghij", nodes, strict=False)) | others
    inside = list(zip("abcdefghi", "bcdefghij", strict=True))[: len(nodes) - 1]
    ends = [("input", "a"), ("abcdefghij"[len(nodes) - 1], "output")]
    ends_of = {"input": nir.Input(np.array(shape)), "output": nir.Output(None if out is None else np.array(out))}
    return nir.NIRGraph({**named, **ends_of}, ends + inside if edges is None else edges, type_check=False)


def affine(outputs: int = 5, inputs: int = 6, seed: int = 0) -> Any:
    return nir.Affine(numbers(seed, -1, 2, outputs, inputs), numbers(seed + 1, -0.2, 0.6, outputs))


def lif(*shape: int, **changes: Any) -> Any:
    own = {
        "tau": numbers(2, 1.5 * DT, 9 * DT, *shape),
        "r": numbers(3, 0.5, 2.0, *shape),
        "v_leak": numbers(4, -0.3, 0.2, *shape),
        "v_threshold": numbers(5, 0.3, 0.9, *shape),
        "v_reset": numbers(6, -0.2, 0.2, *shape),
    }
    return nir.LIF(**own | changes)


def cuba(*shape: int, **changes: Any) -> Any:
    own = {
        name: value for name, value in vars(lif(*shape)).items() if name in ("r", "v_leak", "v_threshold", "v_reset")
    }
    own |= {"tau_mem": numbers(7, 1.5 * DT, 9 * DT, *shape), "tau_syn": numbers(8, 1.5 * DT, 5 * DT, *shape)}
    return nir.CubaLIF(**own | {"w_in": numbers(9, 0.6, 1.6, *shape)} | changes)


def cuba_li(*shape: int) -> Any:
    given = {name: getattr(cuba(*shape), name) for name in ("tau_mem", "tau_syn", "r", "v_leak", "w_in")}
    return nir.CubaLI(**given)


def li(*shape: int, **changes: Any) -> Any:
    given = {name: getattr(lif(*shape), name) for name in ("tau", "r", "v_leak")}
    return nir.LI(**given | changes)


def conv(kind: Any, weight: Array, shape: Any, **changes: Any) -> Any:
    one: Any = 1 if kind is nir.Conv1d else (1, 1)
    how = {"stride": one, "padding": 0 if kind is nir.Conv1d else (0, 0), "dilation": one, "groups": 1}
    return kind(input_shape=shape, weight=weight, bias=numbers(1, -0.1, 0.3, len(weight)), **how | changes)


def pool(kind: Any, size: int = 2) -> Any:
    return kind(kernel_size=np.array([size, size]), stride=np.array([2, 2]), padding=np.array([0, 0]))


def flatten(*shape: int, start: int = 0, end: int = -1) -> Any:
    return nir.Flatten(input_type=np.array(shape), start_dim=start, end_dim=end)


MAPS = numbers(0, -0.6, 0.9, 4, 2, 3, 3)
GROUPS = numbers(0, -0.6, 0.9, 4, 1, 3, 2)
REC = numbers(11, -0.5, 0.5, 5, 5)
IF5 = {"r": numbers(3, 300, 900, 5), "v_threshold": numbers(5, 0.5, 0.9, 5), "v_reset": numbers(6, -0.2, 0.2, 5)}
LOOP = [("input", "a"), ("a", "b"), ("b", "w"), ("w", "b"), ("b", "c"), ("c", "output")]
SKIP = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("b", "d"), ("d", "output")]


def recurrent(neuron: Any, weights: Any) -> Any:
    nodes = {"i": nir.Input(np.array([5])), "lif": neuron, "o": nir.Output(np.array([5])), "w": weights}
    return nir.NIRGraph(nodes, [("i", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "o")], type_check=False)


def nested() -> Any:
    inner = recurrent(cuba(5), nir.Affine(REC, numbers(12, -0.2, 0.2, 5)))
    nodes = {"begin": nir.Input(np.array([6])), "w": affine(), "in": inner, "end": nir.Output(np.array([5]))}
    return nir.NIRGraph(nodes, [("begin", "w"), ("w", "in"), ("in", "end")], type_check=False)


def skipping(name: str = "in") -> Any:
    """A sub-graph that adds its input to what its neurons give."""
    nodes = {"i": nir.Input(np.array([5])), "w": affine(5, 5), "n": lif(5), "o": nir.Output(np.array([5]))}
    return nir.NIRGraph(nodes, [("i", "w"), ("w", "n"), ("n", "o"), ("i", "o")], type_check=False)


GRAPHS: dict[str, Any] = {
    "LIF": lambda: graph_of(affine(), lif(5), affine(3, 5)),
    "LIF of files before v_reset": lambda: graph_of(affine(), lif(5, v_reset=np.zeros(5)), affine(3, 5)),
    "LIF, negative r": lambda: graph_of(affine(), lif(5, r=np.array([-1.0, 0.5, -2.0, 0.0, 1.0])), affine(3, 5)),
    "LIF, one number": lambda: graph_of(
        affine(), nir.LIF(*(np.float64(each) for each in (0.004, 1.5, 0.1, 0.4, -0.1))), affine(3, 5)
    ),
    "IF": lambda: graph_of(affine(), nir.IF(**IF5), affine(3, 5)),
    "CubaLIF": lambda: graph_of(affine(), cuba(5), affine(3, 5)),
    "LI": lambda: graph_of(affine(), lif(5), affine(3, 5), li(3)),
    "LI, r 1": lambda: graph_of(affine(), lif(5), affine(3, 5), li(3, r=np.ones(3))),
    "I": lambda: graph_of(affine(), lif(5), affine(3, 5), nir.I(numbers(1, 100, 900, 3))),
    "CubaLI": lambda: graph_of(affine(), lif(5), affine(3, 5), cuba_li(3)),
    "Threshold": lambda: graph_of(affine(), nir.Threshold(numbers(1, 0.5, 1.5, 5)), affine(3, 5), li(3)),
    "Linear and Scale": lambda: graph_of(
        nir.Linear(numbers(0, -1, 2, 5, 6)), nir.Scale(numbers(1, 0.3, 2, 5)), lif(5), nir.Scale(np.full(5, 0.5))
    ),
    "Delay": lambda: graph_of(affine(), lif(5), nir.Delay(np.full(5, 3 * DT)), affine(3, 5), nir.Delay(np.zeros(3))),
    "Conv2d": lambda: graph_of(
        conv(nir.Conv2d, MAPS, (8, 7)),
        lif(4, 6, 5),
        conv(nir.Conv2d, numbers(3, -0.5, 0.9, 3, 4, 3, 3), (6, 5), padding="same"),
        cuba(3, 6, 5),
        pool(nir.AvgPool2d),
        flatten(3, 3, 2, start=-3, end=2),
        shape=(2, 8, 7),
    ),
    "Conv2d, options": lambda: graph_of(
        conv(
            nir.Conv2d,
            numbers(0, -0.6, 0.9, 4, 1, 3, 2),
            None,
            groups=2,
            stride=(2, 1),
            padding=(1, 0),
            dilation=(1, 2),
        ),
        lif(4, 4, 5, tau=np.broadcast_to(numbers(2, 1.5 * DT, 9 * DT, 4, 1, 1), (4, 4, 5))),
        pool(nir.SumPool2d, 3),
        flatten(4, 1, 2),
        shape=(2, 8, 7),
    ),
    "Conv1d": lambda: graph_of(
        conv(nir.Conv1d, numbers(0, -0.6, 0.9, 4, 2, 3), 9, padding="valid"), lif(4, 7), flatten(4, 7), shape=(2, 9)
    ),
    "recurrent, edges": lambda: graph_of(affine(), lif(5), affine(3, 5), edges=LOOP, w=nir.Linear(REC)),
    "recurrent, own": lambda: graph_of(affine(), lif(5), affine(3, 5), edges=LOOP, w=nir.Linear(np.diag(np.diag(REC)))),
    "recurrent, Scale": lambda: graph_of(affine(), cuba(5), affine(3, 5), edges=LOOP, w=nir.Scale(REC[0])),
    "recurrent, Threshold": lambda: graph_of(
        affine(), nir.Threshold(numbers(1, 0.5, 1.5, 5)), affine(3, 5), edges=LOOP, w=affine(5, 5)
    ),
    "recurrent, itself": lambda: graph_of(
        affine(), lif(5), affine(3, 5), edges=[("b", "b"), *(each for each in LOOP if "w" not in each)]
    ),
    "recurrent, sub-graph": lambda: graph_of(affine(), recurrent(lif(5), affine(5, 5, 4)), affine(3, 5)),
    "recurrent, maps": lambda: graph_of(
        conv(nir.Conv2d, MAPS, (7, 7)),
        lif(4, 5, 5),
        flatten(4, 5, 5),
        shape=(2, 7, 7),
        edges=LOOP,
        w=conv(nir.Conv2d, numbers(5, -0.4, 0.4, 4, 4, 3, 3), (5, 5), padding=(1, 1)),
    ),
    "sub-graphs in sub-graphs": lambda: graph_of(nested(), affine(3, 5), lif(3)),
    "skip": lambda: graph_of(affine(), lif(5), affine(5, 5), affine(3, 5), edges=SKIP),
    "skip over neurons": lambda: graph_of(
        *(affine(), lif(5), affine(5, 5), lif(5), affine(3, 5)),
        edges=[*SKIP[:3], ("c", "d"), ("d", "e"), ("b", "e"), ("e", "output")],
    ),
    "three ways": lambda: graph_of(
        *(affine(), lif(5), affine(5, 5), nir.Scale(numbers(4, -1, 1, 5)), affine(3, 5)),
        edges=[("input", "a"), ("a", "b"), *((one, "e") for one in "bcd"), ("b", "c"), ("b", "d"), ("e", "output")],
    ),
    "one skip after another": lambda: graph_of(
        *(affine(), lif(5), affine(5, 5, 2), lif(5), affine(5, 5, 3), lif(5), affine(3, 5)),
        edges=[
            *(("input", "a"), ("a", "b"), ("b", "c"), ("c", "d")),
            *((one, other) for other in "eg" for one in "bd"),
            *(("e", "f"), ("f", "g"), ("g", "output")),
        ],
    ),
    "skip in a sub-graph, before another": lambda: graph_of(affine(), lif(5), skipping(), skipping(), affine(3, 5)),
    "skip to the output": lambda: graph_of(
        affine(), lif(5), affine(5, 5), edges=[("input", "a"), ("a", "b"), ("b", "c"), ("b", "output"), ("c", "output")]
    ),
}


def seen_kinds(graph: Any) -> set[str]:
    found = set()
    for node in graph.nodes.values():
        found |= {type(node).__name__} | (seen_kinds(node) if isinstance(node, nir.NIRGraph) else set())
    return found


def test_every_type_that_nir_has_is_read_and_is_here() -> None:
    from nir.ir import __dict__ as parts

    known = set(parts["__all_ir"])
    assert known - {"Input", "Output", "NIRGraph"} == FROM.keys()
    assert set().union(*(seen_kinds(make()) for make in GRAPHS.values())) == known


def test_the_page_has_a_row_for_every_type() -> None:
    page = (Path(__file__).parents[2] / "docs" / "neuromorphic.md").read_text(encoding="utf-8")
    _, _, part = page.partition("## What is read")
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*?) \|", part, flags=re.MULTILINE)
    named = {name: layer for names, layer in rows for name in re.findall(r"`(\w+)`", names)}
    assert named.keys() - {"Input", "Output", "NIRGraph"} == FROM.keys()
    # Each row says which layer a node becomes: that of the graphs here.
    for kind, layer in named.items():
        if kind in FROM:
            graph = next(graph for make in GRAPHS.values() if kind in seen_kinds(graph := make()))
            kinds = {each.kind for each in stack_of(graph, DT).leaves()}
            assert kinds & {*re.findall(r"`(\w+)`", layer), "feedback"}, kind


def inputs(network: Stack, steps: int = 40, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((steps, batch, *network.input_shape), generator=generator)


def assert_runs_as_nir_defines(graph: Any, network: Stack, method: Method = "euler") -> None:
    x = inputs(network)
    expected, outputs = interpret(graph, x.numpy(), DT, method)
    assert expected
    ours = spikes(network, x)
    # Blocks put branches in an order of their own: layers are told by what they give.
    for rows in expected:
        near = [one for one in ours if one.shape == rows.shape and np.allclose(one, rows, atol=1e-4)]
        assert near, "no layer gives what a node gives"
        assert rows.std() > 0.05, "a layer that is silent or always fires shows nothing"
    np.testing.assert_allclose(network(x)[0], outputs.reshape(*outputs.shape[:2], -1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("method", ["euler", "exponential"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_node_runs_as_nir_defines_it(name: str, method: Method) -> None:
    graph = GRAPHS[name]()
    assert_runs_as_nir_defines(graph, stack_of(graph, DT, method), method)


NOT_WRITTEN = {"Conv2d, options": "2 groups"}


@pytest.mark.parametrize("name", in_part(GRAPHS, 3))
def test_a_node_is_written_and_read_again(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    network = stack_of(graph, DT)
    x = inputs(network)
    for form in ("plain", "full"):
        if what := NOT_WRITTEN.get(name):
            with pytest.raises(ExportError, match=what):
                write_nir(network, tmp_path / "again.nir", DT)
            continue
        path = write_nir(network, tmp_path / "again.nir", DT, form=form)
        written = nir.read(path)
        back = read_nir(path)
        torch.testing.assert_close(back(x)[0], network(x)[0], atol=1e-3, rtol=1e-3)
        for one, other in zip(spikes(back, x), spikes(network, x), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        # What is written runs as NIR defines it, too.
        assert_runs_as_nir_defines(written, network)
        kept = {
            "LIF",
            "IF",
            "LI",
            "I",
            "CubaLIF",
            "CubaLI",
            "Threshold",
            "Delay",
            "Scale",
            "Conv1d",
            "Conv2d",
            "Flatten",
        }
        assert seen_kinds(graph) & kept <= seen_kinds(written) | {"Delay", "Scale"}


@pytest.mark.parametrize("name", ["LIF", "CubaLIF", "LI", "CubaLI", "IF", "I", "Threshold", "recurrent, edges", "skip"])
def test_a_graph_with_a_number_that_is_off_is_another_network(name: str) -> None:
    right = GRAPHS[name]()
    x = inputs(network := stack_of(right, DT))
    for node in [node for node in right.nodes.values() if type(node).__name__ in FROM]:
        for field, value in vars(node).items():
            if not isinstance(value, np.ndarray) or value.ndim == 0 or value.dtype.kind != "f":
                continue
            graph = GRAPHS[name]()
            other = next(each for key, each in graph.nodes.items() if right.nodes[key] is node)
            setattr(other, field, value * 1.2 + 0.05 * (field in ("v_leak", "v_reset", "bias")))
            assert not torch.allclose(stack_of(graph, DT)(x)[0], network(x)[0], atol=1e-3), (name, field)


# ------------------------------------------------------------------------- known answers, on the threshold to the bit


def run_one(node: Any, drives: list[float], dt: float = 1.0, method: Method = "euler") -> list[float]:
    """Return what one unit gives."""
    network = stack_of(graph_of(node, shape=(1,)), dt, method)
    x = torch.tensor(drives)[:, None, None]
    return [float(value) for value in network(x)[0].flatten()]


def ones(*values: float) -> list[Array]:
    return [np.array([value]) for value in values]


def test_a_membrane_at_the_threshold_does_not_fire_and_one_above_it_does() -> None:
    tau, r, leak, threshold, reset = 2.0, 2.0, 0.0, 1.0, 0.0
    # v = v / 2 + x: at 1 exactly, then 0.5 + 0.5 = 1 again, then above.
    assert run_one(nir.LIF(*ones(tau, r, leak, threshold, reset)), [1, 0.5, 0.75, 1.0]) == [0, 0, 1, 0]
    assert run_one(nir.IF(*ones(1, 1, -0.5)), [1, 0.25, 1.5, 0.25]) == [0, 1, 0, 1]
    assert run_one(nir.Threshold(np.array([0.5])), [0.5, 0.75, 0.5, 1]) == [0, 1, 0, 1]


def test_rest_reset_and_current_take_effect_when_nir_says() -> None:
    # tau 2: v = v / 2 + (1 + 2 x) / 2. At rest 1, threshold 1.5 and reset -1.
    lif_of = nir.LIF(*ones(2, 2, 1, 1.5, -1))
    # v: 0.5 + 1.5 = 2 (fires, -1), -0.5 + 0.5 + 1.5 = 1.5 (not above), 0.75 + 0.5 + 0.5 = 1.75.
    assert run_one(lif_of, [1.5, 1.5, 0.5]) == [1, 0, 1]
    # The current moves at once, and the membrane with it in the same step: i 1, v 1; i 0.5, v 1; i 0.25, v 0.75.
    current = nir.CubaLI(*ones(2, 2, 2, 0, 2))
    assert run_one(current, [1, 0, 0]) == [1.0, 1.0, 0.75]
    fires = nir.CubaLIF(*ones(2, 2, 2, 0, 0.75, 0, 2))
    assert run_one(fires, [1, 0, 0]) == [1, 0, 0]
    # tau is 1 / ln 2 by the exponential method, and everything else the same.
    exact = 1 / np.log(2)
    assert run_one(nir.LIF(*ones(exact, 2, 1, 1.5, -1)), [1.5, 1.5, 0.5], method="exponential") == [1, 0, 1]


def test_float32_files_give_the_numbers_that_their_writers_had() -> None:
    beta, dt = np.array([0.5, 0.75, 0.9], np.float32), 1e-4
    tau = dt / (1 - beta)
    zero = np.zeros(3, np.float32)
    network = stack_of(graph_of(nir.LIF(tau, tau / dt, zero, zero + 1, zero), shape=(3,)), dt)
    layer: Any = network.layers.layers[0]
    np.testing.assert_array_equal(layer.decay.numpy()[:2], beta[:2])
    # tau in float32 does not say 0.9 to the last bit.
    np.testing.assert_allclose(layer.decay.numpy(), beta, atol=2**-24)
    assert layer.neuron.threshold == 1
    assert "threshold" not in layer.neuron.each


# ------------------------------------------------------------------------------------------------------- random stacks


@st.composite
def layers(draw: st.DrawFn, depth: int = 2) -> list[Any]:
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["linear", "lif", "feedback", "scale", "residual", "both"][: 6 if depth else 4]))
        match kind:
            case "linear":
                found.append({"linear": 4, "bias": draw(st.booleans())})
            case "lif":
                found.append({"lif": {"decay": draw(st.sampled_from([0.5, 0.75])), "threshold": 0.5}})
            case "feedback":
                found.append({"feedback": {"current_decay": 0.5}, "through": draw(st.sampled_from(["all", "own"]))})
            case "scale":
                found.append({"scale": draw(st.sampled_from([0.5, 2.0]))})
            case "residual":
                found.append({"residual": draw(layers(depth - 1))})
            case "both":
                found.append({"residual": draw(layers(depth - 1)), "shortcut": [{"scale": 0.25}]})
    return found


@given(layers(), st.integers(0, 100))
@settings(max_examples=60)
def test_any_blocks_within_blocks_come_back(given: list[Any], seed: int) -> None:
    torch.manual_seed(seed)
    network = StackConfig(input=[4], layers=[*given, "lif"], readout="every").build([]).eval()
    with torch.no_grad():
        x = torch.rand(9, 2, 4) * 2
        try:
            graph = to_nir(network)
        except ExportError as error:
            assert "adds one output to itself" in error.message  # noqa: PT017
            return
        back = stack_of(graph)
        torch.testing.assert_close(back(x)[0], network(x)[0])
        torch.testing.assert_close(torch.from_numpy(interpret(graph, x.numpy(), 1e-4)[1]).float(), back(x)[0])
