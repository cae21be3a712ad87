"""Containers that take a window and hand it on as steps or rows, and steps of any length."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import import_module
from tests.importing.networks import louder

neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron")
layer: Any = pytest.importorskip("spikingjelly.activation_based.layer")
norse: Any = pytest.importorskip("norse.torch")
sinabs: Any = pytest.importorskip("sinabs.layers")


MAPS = torch.rand(6, 2, 1, 8, 8) * 2
WINDOW = torch.rand(6, 2, 5) * 2
Made = tuple[nn.Module, Tensor]
TAKEN: dict[str, Callable[[], Made]] = {
    "SeqToANNContainer": lambda: (
        nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
            neuron.LIFNode(step_mode="m"),
            layer.SeqToANNContainer(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5)),
        ),
        MAPS,
    ),
    "MultiStepContainer": lambda: (
        nn.Sequential(layer.MultiStepContainer(nn.Linear(5, 6), neuron.LIFNode()), neuron.IFNode(step_mode="m")),
        WINDOW,
    ),
    "StepModeContainer": lambda: (layer.StepModeContainer(True, "m", nn.Linear(5, 6), neuron.LIFNode()), WINDOW),
    "LinearRecurrentContainer": lambda: (
        nn.Sequential(layer.Linear(5, 6), layer.LinearRecurrentContainer(neuron.LIFNode(), 6, 6, step_mode="m")),
        WINDOW,
    ),
    "Lift": lambda: (
        norse.SequentialState(
            norse.Lift(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2))),
            norse.LIF(),
            norse.Lift(nn.Sequential(nn.Flatten(), nn.Linear(36, 5))),
            norse.LI(),
        ),
        MAPS,
    ),
    "Repeat": lambda: (
        nn.Sequential(sinabs.Repeat(nn.Conv2d(1, 4, 3)), sinabs.IAF(), sinabs.Repeat(nn.Flatten()), nn.Linear(144, 5)),
        MAPS,
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_within_a_container_sees_what_the_container_gives(name: str) -> None:
    module, example = TAKEN[name]()
    found = import_module(louder(module).eval(), example)
    assert found.proof.alone
    assert found.origin["layout"] in ("time-first", "batch-first")


def test_a_norm_of_rows_learns_over_all_of_them() -> None:
    module, example = TAKEN["SeqToANNContainer"]()
    found = import_module(module.eval(), example)
    (norm,) = [each["norm"] for each in found.network.config.layers if "norm" in each]
    assert norm.get("over", "all") == "all"


def test_an_unknown_layer_is_named_and_not_those_before_it() -> None:
    net = nn.Sequential(layer.Linear(5, 6, step_mode="m"), neuron.QIFNode(step_mode="m")).eval()
    with pytest.raises(ImportRefused, match=r"^1: hstnn does not support QIFNode of spikingjelly"):
        import_module(net, WINDOW)
    with pytest.raises(ImportRefused, match=r"^1: hstnn does not support LSNN of norse"):
        import_module(norse.SequentialState(nn.Linear(5, 6), norse.LSNN()).eval(), WINDOW)


@pytest.mark.parametrize("dt", [0.0007, 0.003])
def test_steps_whose_length_is_no_short_binary_number_are_taken(dt: float) -> None:
    for cell in (norse.LIFBoxCell(dt=dt), norse.LIFCell(dt=dt)):
        found = import_module(louder(norse.SequentialState(nn.Linear(5, 6), cell)).eval(), WINDOW[0])
        assert found.proof.met


class Stepping(nn.Module):
    """Norse's tutorials: a chain of cells, run step by step with its states."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.net, self.keeps = norse.SequentialState(nn.Linear(5, 6), norse.LIFCell(), norse.LICell()), keeps
        for value in self.net[0].parameters():
            value.data *= 30

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        state, rows = None, []
        for step in range(len(x)):
            y, after = self.net(x[step], state)
            state = after if self.keeps else None
            rows.append(y)
        return torch.stack(rows)


def test_a_loop_over_a_chain_of_cells_is_taken_if_it_hands_states_on() -> None:
    assert import_module(Stepping(True).eval(), WINDOW).proof.spikes
    with pytest.raises(ImportRefused, match="the stack differs"):
        import_module(Stepping(False).eval(), WINDOW)
