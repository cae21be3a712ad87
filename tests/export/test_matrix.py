"""Family x kind x form x engine: each cell is a written file, run at several (time, batch), and proved.

In the normal suite every pair of values occurs in some cell; `make test-matrix` runs them all.
"""

from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch

from hstnn_deploy.export.graph.forms import FORMS, Form
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import ONNX_FILES, PT2, TORCHSCRIPT, write_graphs
from hstnn_deploy.export.proof.checks import module_of
from hstnn_deploy.export.proof.comparisons import dimensions, whole
from hstnn_deploy.export.proof.engines import (
    Engine,
    in_chunks,
    module_engine,
    onnxruntime_session,
    opened_up,
    reference_session,
    step_engine,
    window_engine,
)
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.export.proof.weights import difference, read_weights
from hstnn_deploy.models.hybrid.network import HybridNetwork
from tests.export.cases import CASES, FAMILIES, KINDS, Case

ENGINES = ("onnxruntime", "reference", "torchscript", "pt2")
STEPS = 6
SHAPES = [(6, 3), (1, 1), (9, 2)]
"""(T, B); an unrolled graph is of the first T only."""


class Cell(NamedTuple):
    case: Case
    form: Form
    engine: str

    def values(self) -> tuple[str, ...]:
        return (self.case.family, self.case.kind, self.form, self.engine)


def all_cells() -> list[Cell]:
    # The torch modules are one file for all forms: what is unrolled is ONNX.
    return [
        Cell(case, form, engine)
        for case, form, engine in product(CASES, FORMS, ENGINES)
        if not (form == "unrolled" and engine in {"torchscript", "pt2"})
    ]


def pairwise(cells: list[Cell]) -> list[Cell]:
    """Return cells in which every pair of values occurs that occurs at all, each time the one with most new pairs."""

    def pairs(cell: Cell) -> set[tuple[tuple[int, str], ...]]:
        return set(combinations(enumerate(cell.values()), 2))

    missing = set().union(*map(pairs, cells))
    chosen = []
    while missing:
        best = max(cells, key=lambda cell: len(pairs(cell) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


PAIRWISE = pairwise(all_cells())


def marked() -> list[object]:
    return [
        pytest.param(cell, id="-".join(cell.values()), marks=() if cell in PAIRWISE else pytest.mark.matrix)
        for cell in all_cells()
    ]


def engine_of(cell: Cell, network: HybridNetwork, folder: Path) -> Engine:
    """Write the cell's file; return the engine that runs it, chunked where the form is a step of a torch module."""
    face = interface(network)
    if cell.engine in {"torchscript", "pt2"}:
        (path,) = write_graphs(network, folder, {cell.engine})
        assert path.name == (TORCHSCRIPT if cell.engine == "torchscript" else PT2)
        engine = module_engine(module_of(path), face)
        assert not difference(network.state_dict(), read_weights(path))
        return in_chunks(engine, (1,), face) if cell.form == "step" else engine
    (path,) = write_graphs(network, folder, {"onnx"}, of_onnx=[cell.form], steps=STEPS)
    assert path.name == ONNX_FILES[cell.form]
    assert whole(path).outcome == "passed", whole(path).figure
    assert dimensions(path, face, cell.form).outcome == "passed", dimensions(path, face, cell.form).figure
    assert not difference(network.state_dict(), read_weights(path))
    assert_nothing_dead(onnx.load(path).graph)
    opened = opened_up(path, cell.form, network)
    session = {"onnxruntime": onnxruntime_session, "reference": reference_session}[cell.engine](opened.model)
    return (step_engine if cell.form == "step" else window_engine)(session, face, opened.values)


def assert_nothing_dead(graph: onnx.GraphProto) -> None:
    """Every node does something, everything stored is used, and no graph takes a value of another; bodies included."""
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    for each in (graph, *bodies):
        taken = {name for node in each.node for name in node.input if name}
        outputs = {value.name for value in each.output}
        made = {name for node in each.node for name in node.output}
        stored = {initializer.name for initializer in each.initializer}
        for node in each.node:
            assert all(node.output), f"{node.name} has an output of no name"
            assert (taken | outputs) & set(node.output), f"{node.name} is dead"
        assert stored <= taken, "a weight that nothing uses"
        assert taken <= made | stored | {value.name for value in each.input}, "a value from outside"


@torch.no_grad()
@pytest.mark.parametrize("cell", marked())
def test_every_cell_computes_its_network(cell: Cell, tmp_path: Path) -> None:
    network = cell.case.network()
    face = interface(network)
    engine = engine_of(cell, network, tmp_path)
    for steps, batch in SHAPES[:1] if cell.form == "unrolled" else SHAPES:
        x = face.example(steps, batch)
        # From states that are not zero, as after an earlier window.
        start = dict(network(face.example(2, batch, seed=1))[1])
        run = engine(x, start)
        expected, after = network(x, start)
        torch.testing.assert_close(run.logits, expected, atol=1e-5, rtol=1e-5)
        assert set(run.state) == set(after)
        for name, value in after.items():
            torch.testing.assert_close(run.state[name], value, atol=1e-5, rtol=1e-5)
        if run.taps:
            certificate = replay(network, x, run, start)
            assert certificate.passed, str(certificate)
            assert (certificate.spikes > 0) == (cell.case.kind not in {"rnn", "lstm"})


def test_the_pairwise_cells_hold_every_value_and_both_sets_are_what_they_say() -> None:
    values = list(zip(*(cell.values() for cell in PAIRWISE), strict=True))
    assert set(values[0]) == set(FAMILIES)
    assert set(values[1]) == set(KINDS)
    assert set(values[2]) == set(FORMS)
    assert set(values[3]) == set(ENGINES)
    assert len(PAIRWISE) < len(all_cells()) / 4


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_networks_spike_neither_never_nor_always(case: Case) -> None:
    """A proof of spikes that never come would prove nothing."""
    network = case.network()
    face = interface(network)
    counts = []
    state = face.zeros(4)
    for now in face.example(6, 4).unbind(0):
        _, state = network(now[None], state)
        counts += [(value == 0).float().mean() for name, value in state.items() if name.startswith("v")]
    if counts:
        assert 0.02 < float(torch.stack(counts).mean()) < 0.98
