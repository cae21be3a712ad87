"""Every neuron goes through export and proof with no line of its own there: what its file says of it is enough."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.export.graph.write import FORMATS, write_graphs
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check, Subject
from hstnn_deploy.models.hybrid.groups import SpikingGroup
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.neurons import AdaptiveLif, Lif
from hstnn_deploy.models.tasks import task_for
from tests.export.cases import Case

NEURONS = {
    "subtracted": Lif(reset="subtract"),
    "detached": Lif(detach_reset=True, surrogate="arctan"),
    "adaptive": AdaptiveLif(growth=0.3, surrogate="triangular"),
}
FAMILIES = ("sequence", "language", "dvs")


def network(family: str, neuron: Any) -> HybridNetwork:
    """Return a network of these neurons, its currents those of the export cases."""
    made = Case(family, "ffs").network()
    for layer in made.stack:
        group: Any = layer.groups["snn"]
        group.neuron, group.states = neuron, neuron.states
    return made


def proved(made: HybridNetwork, folder: Path, right: HybridNetwork, family: str) -> list[Check]:
    """Return the checks of a network's files that should hold another one."""
    written = write_graphs(made, folder, FORMATS, of_onnx=("window", "step", "unrolled"), steps=6)
    generator = torch.Generator().manual_seed(1)
    shape = (6, 9, *made.input_shape)
    x = torch.rand(shape, generator=generator)
    if made.tokens:
        x = torch.randint(made.outputs, shape, generator=generator)
    elif family == "dvs":
        x = (x * 1.5).floor()
    subject = Subject(right, folder, [x, x[:4, :5].contiguous()], task_for(Case(family, "ffs").recipe().network), None)
    checks: list[Check] = []
    run_checks(subject, [path.name for path in written], checks.append)
    return checks


# Each neuron in one family and each family with one neuron; all pairs in `make test-matrix`.
PAIRS = [
    pytest.param(name, family, marks=[] if column == row else pytest.mark.matrix)
    for row, name in enumerate(NEURONS)
    for column, family in enumerate(FAMILIES)
]


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_it_is_exported_in_every_format_and_proved(name: str, family: str, tmp_path: Path) -> None:
    made = network(family, NEURONS[name])
    checks = proved(made, tmp_path, made, family)
    assert not [check for check in checks if check.outcome == "failed"]
    replays = [check.figure for check in checks if check.name.startswith("replay")]
    assert len(replays) >= 10
    assert all("spikes identical" in figure for figure in replays)
    with torch.no_grad():
        x = torch.rand(6, 9, *made.input_shape) if not made.tokens else torch.zeros(6, 9, dtype=torch.int64)
        _, state = made(x)
    assert set(state) == set(made.initial_state(x))


@pytest.mark.parametrize("name", ["subtracted", "adaptive"])
def test_another_neuron_does_not_pass_for_it(name: str, tmp_path: Path) -> None:
    """The same weights, but a reset to zero, or a threshold that does not adapt."""
    right = network("sequence", NEURONS[name])
    wrong = network("sequence", Lif() if name == "subtracted" else AdaptiveLif(growth=0.0))
    failed = {check.file for check in proved(wrong, tmp_path, right, "sequence") if check.outcome == "failed"}
    assert failed == {"model.window.onnx", "model.step.onnx", "model.unrolled.onnx", "model.ts", "model.pt2"}


def test_its_states_are_named_and_explained() -> None:
    made = network("sequence", NEURONS["adaptive"])
    group = made.stack[0].groups["snn"]
    assert isinstance(group, SpikingGroup)
    assert group.state_names == ("v", "a")
    assert made.membranes() == {"v1", "a1", "v2", "a2"}
