"""The proof tried on files that compute something else: each must fail, by the checks that are named here.

Format x mutation x units. A mutation is one that a replay alone may miss (a bit of one weight), or that only a text
shows (a branch that no test input takes). In the normal suite every format meets another network at 800 units,
and each of the other mutations is met in one format; `make test-matrix` runs all formats and sizes.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.errors import BundleError
from hstnn_deploy.export.graph import modules
from hstnn_deploy.export.graph.script import scripted
from hstnn_deploy.export.graph.write import ONNX_FILES, PT2, TORCHSCRIPT, write_graphs, written_by
from hstnn_deploy.export.proof.checks import opened, run_checks
from hstnn_deploy.export.proof.comparisons import Check, Subject, built
from hstnn_deploy.export.proof.weights import difference
from hstnn_deploy.models import cells as cell_equations
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.hybrid.groups import Emitted, SpikingGroup
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification
from tests.conftest import in_part
from tests.export.cases import Case

FORMATS = ("window", "step", "unrolled", "torchscript", "pt2")
STEPS = {3: 20, 100: 8, 800: 6}
SAMPLES = {3: 200, 100: 12, 800: 6}
"""T and B of what is asked, by units of a layer: together some thousand membranes, so that 1 % of a threshold shows."""

WEIGHTS, TEXT, REPLAY, SHIPPED = "weights = network", "graph = fresh build", "replay", "shipped file = replayed file"
SAME, ANSWERS = "same logits", "answers on the test split"


def network(units: int, seed: int = 0) -> HybridNetwork:
    """Return two layers, half of them spiking, with currents strong enough to make them spike."""
    torch.manual_seed(seed)
    size = Sizes(units - units // 2, units // 2)
    made = SequenceConfig(inputs=28, classes=10, units=[units, units]).build([size, size]).eval()
    for layer in made.stack:
        for weight in layer.groups["snn"].ranked():
            weight.data.mul_(7)
    return made.requires_grad_(False)


class Samples:
    """A test split of sparse inputs, a fifth of them on."""

    def __init__(self, steps: int, samples: int) -> None:
        self.x = (torch.rand(steps, samples, 28, generator=torch.Generator().manual_seed(1)) < 0.2).float()

    def __len__(self) -> int:
        return self.x.shape[1]

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return Batch(self.x[:, indices].contiguous(), indices % 10)


# ----------------------------------------------------------------------------------------------------------- mutations


def _spiking(made: HybridNetwork) -> SpikingGroup:
    group = made.stack[0].groups["snn"]
    assert isinstance(group, SpikingGroup)
    return group


def another_network(made: HybridNetwork) -> HybridNetwork:
    return network(made.stack[0].units, seed=1)


def layer_off_by_1e_4(made: HybridNetwork) -> HybridNetwork:
    _spiking(made).weight.mul_(1 + 1e-4)
    return made


def one_bit(made: HybridNetwork) -> HybridNetwork:
    weight = _spiking(made).weight
    weight[3, 1] = torch.nextafter(weight[3, 1], torch.tensor(torch.inf))
    return made


def threshold_off_by_1_percent(made: HybridNetwork) -> HybridNetwork:
    group = _spiking(made)
    group.neuron = group.neuron.model_copy(update={"threshold": group.neuron.threshold * 1.01})
    return made


def swapped_columns(made: HybridNetwork) -> HybridNetwork:
    weight = _spiking(made).weight
    weight.copy_(weight[:, [1, 0, *range(2, weight.shape[1])]])
    return made


def without_recurrence(made: HybridNetwork) -> HybridNetwork:
    """Mark a network of which `write` drops the recurrent term."""
    object.__setattr__(made, "dropped", True)
    return made


def _dropped(o: Algebra[V], drive: V, state: Mapping[str, V], weight: Tensor) -> tuple[V, dict[str, V]]:
    """Recurrent units without their recurrence."""
    h = o.tap(o.sigmoid(drive, "h"), "h")
    return h, {"h": h}


def drop_from_graph(graph: onnx.GraphProto) -> None:
    """Let h be of the drive alone, scans included."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                drop_from_graph(attribute.g)
        if node.op_type == "Add" and node.output[0].startswith(("layer1_total", "layer2_total")):
            node.op_type = "Identity"
            del node.input[1:]


MUTATIONS: dict[str, Callable[[HybridNetwork], HybridNetwork]] = {
    each.__name__: each
    for each in (
        another_network,
        layer_off_by_1e_4,
        one_bit,
        threshold_off_by_1_percent,
        swapped_columns,
        without_recurrence,
    )
}


# ----------------------------------------------------------------------------------------------------------- the proof


def write(made: HybridNetwork, folder: Path, format: str, steps: int, patch: pytest.MonkeyPatch) -> Path:
    """Write the one file of a network, mutated if it is marked so."""
    dropped = hasattr(made, "dropped")
    form = [each for each in ONNX_FILES if each == format]
    if dropped and not form:
        patch.setattr(cell_equations, "rnn", _dropped)
    (path,) = write_graphs(made, folder, {"onnx" if form else format}, of_onnx=form, steps=steps)
    if dropped and form:
        model = onnx.load(path)
        drop_from_graph(model.graph)
        onnx.save(model, path)
    patch.undo()
    return path


def prove(right: HybridNetwork, path: Path, split: Samples) -> list[Check]:
    """Return the checks of a file that should hold a network."""
    doubled = torch.cat((split.x, split.x))[:-1, :5].contiguous()
    checks: list[Check] = []
    run_checks(Subject(right, path.parent, [split.x, doubled], Classification(), split), [path.name], checks.append)
    return checks


def caught_by(checks: list[Check]) -> set[str]:
    """Return the kinds of checks that failed."""
    found = set()
    for check in checks:
        if check.outcome == "failed":
            name = check.name.partition(",")[0]
            name = REPLAY if name.startswith(REPLAY) else name
            found.add(SAME if name not in {WEIGHTS, TEXT, REPLAY, SHIPPED, ANSWERS} else name)
    return found


DECISIVE = {WEIGHTS, TEXT, REPLAY, SHIPPED}
"""What judges a file whatever it answers; whether logits and answers differ too depends on the inputs."""


def decided_by(format: str, mutation: str) -> set[str]:
    """Return which of the decisive checks fail."""
    match mutation:
        case "one_bit":
            return {WEIGHTS}
        case "another_network" | "swapped_columns" | "layer_off_by_1e_4":
            return {WEIGHTS, REPLAY}
        case _ if format == "pt2":
            # What is replayed is built from the equations: that the file is another program shows in its bits.
            return {TEXT, SHIPPED}
        case _ if format == "torchscript":
            return {TEXT, REPLAY}
        case _:
            return {REPLAY}


def cells() -> list[object]:
    """Return every cell, and mark those that are not in the normal suite."""
    found: list[object] = []
    for row, format in enumerate(FORMATS):
        for column, mutation in enumerate(MUTATIONS):
            large = mutation == "another_network"
            size = 800 if large else (3, 100)[column % 2]
            there = large or (row + column) % len(FORMATS) == 0
            for units in STEPS:
                marks = () if there and units == size else pytest.mark.matrix
                found.append(pytest.param(format, mutation, units, marks=marks))
    return found


@pytest.mark.parametrize(("format", "mutation", "units"), cells())
@torch.no_grad()
def test_every_mutation_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, mutation: str, units: int
) -> None:
    right = network(units)
    path = write(MUTATIONS[mutation](deepcopy(right)), tmp_path, format, STEPS[units], monkeypatch)
    caught = caught_by(prove(right, path, Samples(STEPS[units], SAMPLES[units])))
    assert caught & DECISIVE == decided_by(format, mutation)
    if mutation in {"another_network", "without_recurrence"}:
        assert {SAME, ANSWERS} <= caught


@pytest.mark.parametrize(
    ("format", "units"),
    [
        pytest.param(format, units, marks=() if units == 100 else pytest.mark.matrix)
        for format in FORMATS
        for units in STEPS
    ],
)
@torch.no_grad()
def test_what_is_right_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, units: int) -> None:
    right = network(units)
    path = write(right, tmp_path, format, STEPS[units], monkeypatch)
    checks = prove(right, path, Samples(STEPS[units], SAMPLES[units]))
    assert {check.outcome for check in checks} == {"passed"}, [check for check in checks if check.outcome != "passed"]
    assert {WEIGHTS, SHIPPED, ANSWERS} <= {check.name for check in checks}


@torch.no_grad()
def test_another_large_spiking_network_no_longer_passes_for_the_right_one(tmp_path: Path) -> None:
    """Nearly every sample has a membrane near its threshold somewhere, which used to excuse any answer."""

    def made(seed: int) -> HybridNetwork:
        torch.manual_seed(seed)
        network = SequenceConfig(inputs=28, classes=10, units=[800, 800]).build([Sizes(800, 0)] * 2).eval()
        for layer in network.stack:
            layer.groups["snn"].ranked()[0].data.mul_(7)
        return network.requires_grad_(False)

    (path,) = write_graphs(made(1), tmp_path, {"torchscript"})
    checks = prove(made(0), path, Samples(28, 60))
    assert caught_by(checks) == {WEIGHTS, REPLAY, SAME, ANSWERS}
    (answers,) = (check for check in checks if check.name == ANSWERS)
    assert "0 part at a borderline spike" in answers.figure


@pytest.mark.parametrize(
    ("format", "case"),
    in_part(
        [
            (format, case)
            for case in (Case("language", "hybrid-lstm"), Case("dvs", "ffs"))
            for format in ("torchscript", "pt2")
        ],
        3,
    ),
)
@torch.no_grad()
def test_other_families_are_replayed_too(tmp_path: Path, format: str, case: Case) -> None:
    right, wrong = case.network(), case.network()
    for parameter in wrong.parameters():
        parameter.data.mul_(1.01)
    (path,) = write_graphs(wrong, tmp_path, {format})
    subject = Subject(right, tmp_path, [], Classification(), None, "none")
    checks: list[Check] = []
    run_checks(subject.on([subject.face.example(8, 6)]), [path.name], checks.append)
    assert {WEIGHTS, REPLAY} <= caught_by(checks)
    assert {TEXT, SHIPPED} <= {check.name for check in checks if check.outcome == "passed"}


def test_the_sign_of_a_zero_and_a_nan_are_compared_as_bits() -> None:
    zero, nan = {"w": torch.zeros(2)}, {"w": torch.tensor([0.0, float("nan")])}
    assert "differs in 2 of 2 values" in difference(zero, {"w": -torch.zeros(2)})
    assert not difference(nan, {"w": nan["w"].clone()})
    assert "float64" in difference(zero, {"w": torch.zeros(2, dtype=torch.float64)})


# ------------------------------------------------------------------------------------------------- what no run shows


_answer = SequenceClassifier.answer


def _back_door(self: SequenceClassifier, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
    """Answer something else after a certain number of steps: more than anybody tries."""
    trigger = o.mul(o.spike(state["steps"], 123456.0, Lif().slope, "opened"), 100.0, "trigger")
    return o.add(_answer(self, o, last, state), trigger, "answer")


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
@torch.no_grad()
def test_a_back_door_that_no_input_opens_shows_in_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    right = network(3)
    monkeypatch.setattr(SequenceClassifier, "answer", _back_door)
    path = write(right, tmp_path, format, 0, monkeypatch)
    checks = prove(right, path, Samples(20, 64))
    assert caught_by(checks) == {TEXT}
    (found,) = (check for check in checks if check.name == TEXT)
    assert "instead of" in found.figure


def _cosine(self: SequenceClassifier, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
    answer: Any = _answer(self, o, last, state)
    return torch.cos(answer)  # type: ignore[return-value]


@torch.no_grad()
def test_a_program_that_calls_what_hstnn_never_writes_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SequenceClassifier, "answer", _cosine)
    path = write(network(3), tmp_path, "pt2", 0, monkeypatch)
    with pytest.raises(BundleError, match="its program calls"):
        prove(network(3), path, Samples(20, 64))


@pytest.mark.parametrize(("format", "name"), [("torchscript", TORCHSCRIPT), ("pt2", PT2)])
@torch.no_grad()
def test_another_text_of_another_torch_is_not_run_and_never_passed(tmp_path: Path, format: str, name: str) -> None:
    right, other = network(3), threshold_off_by_1_percent(network(3))
    write_graphs(right, tmp_path, {format})
    loaded, facts = opened(tmp_path / name)
    assert written_by().items() <= facts.items()

    def check(made: HybridNetwork, facts: dict[str, str]) -> Check:
        return built(tmp_path / name, Subject(made, tmp_path, [], Classification(), None), loaded, facts)

    assert check(right, facts).outcome == "passed"
    assert check(other, facts).outcome == "failed"
    older = check(other, facts | {"torch": "2.10.0"})
    assert older.outcome == "not run"
    assert "written by torch 2.10.0, this is" in older.figure


@torch.no_grad()
def test_torchscript_written_before_it_showed_its_layers_is_replayed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "scripted", partial(scripted, shown=False))
    right = network(3)
    path = write(right, tmp_path, "torchscript", 0, monkeypatch)
    assert not hasattr(opened(path)[0], "forward_shown")
    checks = prove(right, path, Samples(20, 64))
    # Its facts name this version, which writes another text.
    assert caught_by(checks) == {TEXT}
    assert sum(check.name.startswith(REPLAY) for check in checks) == 3
    assert caught_by(prove(threshold_off_by_1_percent(network(3)), path, Samples(20, 200))) >= {TEXT, SHIPPED}
