"""What is no stack, or no NIR graph, is refused by the node's name, in bounded time and memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.graph.from_nir import stack_of
from hstnn_deploy.export.graph.neuromorphic import to_nir, write_nir
from hstnn_deploy.models.stack import StackConfig
from tests.export.test_nir_nodes import (
    DT,
    IF5,
    LOOP,
    MAPS,
    REC,
    SKIP,
    affine,
    conv,
    cuba,
    flatten,
    graph_of,
    li,
    lif,
    nested,
    numbers,
    pool,
    recurrent,
)

nir = pytest.importorskip("nir")


def with_bad(value: Any) -> Any:
    return np.array([0.003, value, 0.003, 0.003, 0.003])


def edges(*pairs: str) -> list[tuple[str, str]]:
    """Return edges given as `from to`."""
    return [(pair.split()[0], pair.split()[1]) for pair in pairs]


TWO = edges("input a", "a b", "b c", "c d", "d b", "d output")
CHAIN = edges("input a", "a b", "b c", "c output")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "cycle over two layers": (
        lambda: graph_of(affine(), lif(5), affine(5, 5), lif(5), edges=TWO),
        r"node '[bcd]' is in a cycle that is not a recurrence",
    ),
    "cycle of weights": (
        lambda: graph_of(affine(), affine(5, 5), affine(3, 5), edges=[*CHAIN, ("b", "b")]),
        "node 'b' is in a cycle",
    ),
    "cycle around a membrane": (
        lambda: graph_of(affine(), li(5), affine(3, 5), edges=LOOP, w=nir.Linear(REC)),
        "node '[bw]' is in a cycle",
    ),
    "recurrence through a pool": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=LOOP, w=nir.Delay(np.full(5, DT))),
        "node '[bw]' is in a cycle",
    ),
    "two recurrences": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*LOOP, ("b", "b")], w=nir.Linear(REC)),
        "node 'b' sees its own spikes in 2 ways",
    ),
    "recurrence, negative r": (
        lambda: graph_of(affine(), lif(5, r=-np.ones(5)), affine(3, 5), edges=LOOP, w=nir.Linear(REC)),
        "node 'b': it multiplies its input, including its own spikes, by 0 or less",
    ),
    "recurrence of another size": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=LOOP, w=nir.Linear(REC[:, :4])),
        r"node 'b': recurrent.weight has shape \[5, 4\], but its input \[5\] needs \[5, 5\]",
    ),
    "recurrence through an even convolution": (
        lambda: graph_of(
            *(conv(nir.Conv2d, MAPS, (7, 7)), lif(4, 5, 5), flatten(4, 5, 5)),
            shape=(2, 7, 7),
            edges=LOOP,
            w=conv(nir.Conv2d, numbers(5, -1, 1, 4, 4, 2, 2), (5, 5), padding=(1, 1)),
        ),
        "node 'b': it sees its own spikes through a convolution that is not square, odd",
    ),
    "recurrence through rows": (
        lambda: graph_of(
            *(conv(nir.Conv1d, numbers(0, -1, 1, 4, 2, 3), 9), lif(4, 7), flatten(4, 7)),
            shape=(2, 9),
            edges=LOOP,
            w=conv(nir.Conv1d, numbers(5, -1, 1, 4, 4, 3), 7, padding=1),
        ),
        "node 'b': it sees its own spikes through a Conv1d",
    ),
    "no input": (lambda: graph_of(affine(), edges=[("a", "output")]), "not between input and output"),
    "two inputs": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*CHAIN, ("more", "a")], more=nir.Input(np.array([6]))),
        r"the graph has 2 inputs \('input', 'more'\)",
    ),
    "two outputs": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*CHAIN, ("b", "more")], more=nir.Output(np.array([5]))),
        r"the graph has 2 outputs \('more', 'output'\)",
    ),
    "two inputs of a sub-graph": (
        lambda: graph_of(two_ends(), affine(3, 5)),
        r"sub-graph 'a': the graph has 2 inputs",
    ),
    "a node that leads nowhere": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*CHAIN, ("b", "d")], d=affine(2, 5)),
        "node 'd' is not between input and output",
    ),
    "an edge to nowhere": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*CHAIN, ("b", "z")]),
        "an edge leads from 'b' to 'z', but one of them is not a node",
    ),
    "an edge twice": (
        lambda: graph_of(affine(), lif(5), affine(3, 5), edges=[*CHAIN, ("b", "c")]),
        "the edge from 'b' to 'c' appears twice",
    ),
    "branches that cross": (
        lambda: graph_of(
            *(affine(), affine(5, 5), affine(5, 5), affine(5, 5), lif(5)),
            edges=edges("input a", "a b", "a c", "b c", "b d", "c e", "d e", "e output"),
        ),
        "the branches around it",
    ),
    "sizes that do not add": (
        lambda: graph_of(affine(), lif(5), affine(4, 5), affine(3, 5), edges=SKIP),
        r"node 'd': it adds \[[45]\] from '[bc]' and \[[45]\] from '[bc]'",
    ),
    "weights that do not fit": (
        lambda: graph_of(affine(5, 7), lif(5)),
        r"node 'a': weight has shape \[5, 7\], but its input \[6\] needs \[5, 6\]",
    ),
    "a bias that does not fit": (
        lambda: graph_of(nir.Affine(REC, np.zeros(4)), lif(5), shape=(5,)),
        r"node 'a': bias has shape \[4\]",
    ),
    "maps into units": (
        lambda: graph_of(affine(5, 4), lif(5), shape=(4, 2, 2)),
        "node 'a': a linear layer takes units",
    ),
    "a kernel that is too large": (
        lambda: graph_of(conv(nir.Conv2d, MAPS, (2, 2)), lif(4, 1, 1), shape=(2, 2, 2)),
        "node 'a': a kernel of 3 does not fit",
    ),
    "neurons of another size": (
        lambda: graph_of(affine(), lif(4)),
        r"node 'b': r has shape \[4\], but its input is \[5\]",
    ),
    "an output of another size": (
        lambda: graph_of(affine(), lif(5), out=(4,)),
        r"node 'output': it states the output \[4\], but its input is \[5\]",
    ),
    "NaN": (
        lambda: graph_of(affine(), lif(5, tau=with_bad(np.nan))),
        "node 'b': tau contains a number that is not finite",
    ),
    "weights beyond single precision": (
        lambda: graph_of(nir.Linear(np.full((5, 6), 1e300)), lif(5)),
        "node 'a': it contains a number that is too large for float32",
    ),
    "weights with an infinity": (
        lambda: graph_of(nir.Linear(REC / 0), lif(5), shape=(5,)),
        "node 'a': weight contains a number that is not finite",
    ),
    "a negative tau": (lambda: graph_of(affine(), lif(5, tau=with_bad(-1.0))), "node 'b': tau is -1"),
    "no tau": (
        lambda: graph_of(affine(), lif(5, tau=with_bad(0.0))),
        "node 'b': tau is 0: a time constant must be above 0",
    ),
    "a membrane that turns": (
        lambda: graph_of(affine(), lif(5, tau=with_bad(DT / 3))),
        r"node 'b': at a step of 0.001 s its membrane is multiplied by -2",
    ),
    "a current that turns": (
        lambda: graph_of(affine(), cuba(5, tau_syn=with_bad(DT / 3))),
        r"node 'b': at a step of 0.001 s its current is multiplied by -2",
    ),
    "a threshold of 0": (lambda: graph_of(affine(), lif(5, v_threshold=np.zeros(5))), "node 'b': its threshold is 0"),
    "a bare threshold below 0": (
        lambda: graph_of(affine(), nir.Threshold(-np.ones(5))),
        "node 'b': its threshold is -1",
    ),
    "a threshold of another size": (
        lambda: graph_of(affine(), nir.Threshold(np.ones(4))),
        r"node 'b': threshold has shape \[4\]",
    ),
    "delays that differ": (
        lambda: graph_of(affine(), lif(5), nir.Delay(np.array([1, 2, 1, 1, 1]) * DT)),
        "node 'c': delay differs from unit to unit",
    ),
    "half a step": (
        lambda: graph_of(affine(), lif(5), nir.Delay(np.full(5, 1.5 * DT))),
        "node 'c': its delay of 0.0015 s is not a whole number of steps",
    ),
    "a delay of a year": (
        lambda: graph_of(affine(), lif(5), nir.Delay(np.full(5, 3e7))),
        r"node 'c': .*delay",
    ),
    "scale of another size": (
        lambda: graph_of(affine(), nir.Scale(np.ones(4)), lif(5)),
        "node 'b': scale has shape",
    ),
    "padding that is uneven": (
        lambda: graph_of(conv(nir.Conv2d, numbers(0, -1, 1, 4, 2, 2, 2), (7, 7), padding="same"), shape=(2, 7, 7)),
        "node 'a': padding same of a kernel",
    ),
    "padding same with a stride": (
        lambda: graph_of(conv(nir.Conv2d, MAPS, (7, 7), padding="same", stride=(2, 2)), shape=(2, 7, 7)),
        "node 'a': padding same needs a stride of 1",
    ),
    "a pool that pads": (
        lambda: graph_of(nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1])), shape=(2, 7, 7)),
        "node 'a': it pads its input",
    ),
    "a pool of rows": (lambda: graph_of(pool(nir.AvgPool2d), shape=(2, 7)), "node 'a': it takes maps"),
    "a stride of 0": (
        lambda: graph_of(conv(nir.Conv2d, MAPS, None, stride=(0, 0)), shape=(2, 7, 7)),
        r"node 'a': stride is \[0, 0\]; the minimum is 1",
    ),
    "some axes": (
        lambda: graph_of(flatten(2, 7, 7, start=1), shape=(2, 7, 7)),
        r"node 'a': it flattens axes 1 to -1 of \[2, 7, 7\]; it must flatten all of them",
    ),
    "no neurons": (lambda: graph_of(affine(), affine(3, 5)), "no layer carries anything over time"),
    "maps at the end": (
        lambda: graph_of(conv(nir.Conv2d, MAPS, (7, 7)), lif(4, 5, 5), shape=(2, 7, 7)),
        r"the graph is not a stack: .*\[4, 5, 5\]",
    ),
    "nothing": (lambda: graph_of(edges=[("input", "output")]), "has no layer"),
    "one output twice": (
        lambda: graph_of(affine(), lif(5), nir.Delay(np.zeros(5)), affine(3, 5), edges=SKIP),
        "adds one output to itself",
    ),
}


def two_ends() -> Any:
    graph = nested()
    graph.nodes["more"] = nir.Input(np.array([6]))
    graph.edges.append(("more", "w"))
    return graph


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_is_no_stack_is_refused_by_the_node_s_name(name: str) -> None:
    make, said = REFUSED[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        graph = make()
    with pytest.raises((ExportError, DataError), match=said) as refused:
        stack_of(graph, DT)
    assert "\n" not in refused.value.message


def test_a_type_that_nobody_knows_is_refused_by_the_node_s_name() -> None:
    class Wormhole:
        """No node of NIR."""

    with pytest.raises(ExportError, match="node 'b': its type 'Wormhole' has no layer in a stack"):
        stack_of(graph_of(affine(), Wormhole(), lif(5)), DT)


# ------------------------------------------------------------------------------------------------- how long a step is


def test_the_length_of_a_step_is_given_or_told_or_asked_for() -> None:
    graph = graph_of(affine(), lif(5))
    with pytest.raises(
        ExportError, match="node 'b': it depends on the length of a step, which the file does not state"
    ):
        stack_of(graph)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ExportError, match="it must be above 0 s"):
            stack_of(graph, wrong)
    graph.metadata |= {"dt": np.float64(DT), "method": b"exponential"}
    x = torch.rand(20, 2, 6)
    told, given = stack_of(graph), stack_of(graph, DT, "exponential")
    torch.testing.assert_close(told(x)[0], given(x)[0], atol=0, rtol=0)
    assert not torch.equal(told(x)[0], stack_of(graph, method="euler")(x)[0])
    assert not torch.equal(told(x)[0], stack_of(graph, 2 * DT)(x)[0])
    graph.metadata["method"] = "leapfrog"
    with pytest.raises(ExportError, match="the method is 'leapfrog'"):
        stack_of(graph)
    # What depends on no step needs none.
    assert stack_of(graph_of(affine(), nir.Threshold(np.ones(5)), nir.Delay(np.zeros(5)))).outputs == 5
    for node in (nir.IF(**IF5), li(5), cuba(5), nir.Delay(np.full(5, DT)), recurrent(lif(5), affine(5, 5))):
        with pytest.raises(ExportError, match="depends on the length of a step"):
            stack_of(graph_of(affine(), node, lif(5)))


# ------------------------------------------------------------------------------------------------------ what is written


def test_what_nir_cannot_hold_of_each_unit_is_refused_by_the_layer() -> None:
    def network(**lif: Any) -> Any:
        layers = [{"linear": 4}, {"lif": {"threshold": 0.5} | lif}]
        return StackConfig(input=[4], layers=layers, readout="every").build([])

    stays = network(decay=0.5, each={"decay": "unit"})
    stays.layers[1].decay[0] = 1
    with pytest.raises(ExportError, match="layer 2, lif: a neuron of decay 1 has no NIR form beside others"):
        to_nir(stays)
    with pytest.raises(ExportError, match="layer 2, lif: a neuron of decay 1 has no NIR form"):
        to_nir(network(decay=1.0, current_decay=0.5))
    with pytest.raises(ExportError, match="layer 2, lif: a neuron of current_decay 0 has no exponential form"):
        to_nir(network(current_decay=0.0), method="exponential")
    stays.layers[1].decay[0] = 1.25
    with pytest.raises(ExportError, match=r"layer 2, lif: a neuron of decay 1\.25 has no NIR form"):
        to_nir(stays)
    assert type(to_nir(network(decay=0.0, reset="none")).nodes["layer2"]).__name__ == "Threshold"


def test_a_number_of_a_unit_that_is_off_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hstnn_deploy.export.graph import neuromorphic

    network = StackConfig(
        input=[4],
        layers=[{"linear": 4}, {"feedback": {"rest": 0.1, "reset_to": -0.1, "current_decay": 0.5}}],
        readout="every",
    ).build([])
    right = neuromorphic.to_nir
    for field in ("tau_mem", "tau_syn", "w_in", "r", "v_threshold", "v_leak", "v_reset"):

        def off(*words: Any, field: str = field) -> Any:
            graph = right(*words)
            getattr(graph.nodes["layer2"].nodes["lif"], field)[1] *= 1 + 1e-6
            return graph

        monkeypatch.setattr(neuromorphic, "to_nir", off)
        with pytest.raises(ExportError, match=r"differs from what was written: .* of layer 2"):
            write_nir(network, tmp_path / "model.nir")
    assert not list(tmp_path.iterdir())
