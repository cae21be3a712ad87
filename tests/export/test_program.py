"""TorchScript and torch.export read the network's own equations, and hand out what its units emit."""

from typing import Any

import pytest
import torch
from torch.export import Dim

from hstnn_deploy.export.graph.interface import frozen, interface, taps_of
from hstnn_deploy.export.graph.script import scripted, source
from hstnn_deploy.export.graph.traced import Program
from hstnn_deploy.models.eager import Eager
from tests.export.cases import CASES, Case

FEW = [case for case in CASES if case.kind in {"ffs", "ffs-lstm"}]


class Recorded(Eager):
    """The definition, with what is tapped at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[torch.Tensor]] = {}
        self.layer = 0

    def at(self, layer: int) -> "Recorded":
        other = Recorded()
        other.rows, other.layer = self.rows, layer
        return other

    def tap(self, a: torch.Tensor, name: str) -> torch.Tensor:
        self.rows.setdefault(f"layer{self.layer}_{name}", []).append(a)
        return a


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_torchscript_computes_the_definition_and_shows_its_layers(case: Case) -> None:
    network = case.network()
    face = interface(network)
    module = scripted(network)
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in network.named_parameters()}
    for steps, batch in ((7, 3), (1, 1)):
        x, o = face.example(steps, batch), Recorded()
        expected, state = network.window(o, x, network.initial_state(x))
        logits, after = module(x)
        assert torch.equal(logits, expected)
        assert all(torch.equal(after[name], value) for name, value in state.items())
        shown, _, taps = module.forward_shown(x)
        assert torch.equal(shown, logits)
        for name, values in zip(taps_of(network), taps, strict=True):
            assert torch.equal(values, torch.stack(o.rows[name])), name


def exported(case: Case, tapped: bool) -> Any:
    network = frozen(case.network())
    face, batch = interface(network), Dim("B", min=1)
    return torch.export.export(
        Program(network, tapped),
        (face.example(3, 2), face.zeros(2)),
        dynamic_shapes={
            "x": {0: Dim("T", min=1), 1: batch},
            "state": {each.name: {0: batch} for each in face.states},
        },
    ).module()


@pytest.mark.parametrize("case", FEW, ids="-".join)
def test_a_program_computes_what_torchscript_does_at_other_lengths_and_batches(case: Case) -> None:
    network = case.network()
    face, module = interface(network), scripted(network)
    x = face.example(6, 5)
    logits, after, taps = module.forward_shown(x)
    found, state, shown = exported(case, tapped=True)(x, face.zeros(5))
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
    for name, value in after.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(shown, taps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_source_names_what_it_computes() -> None:
    text = source(frozen(Case("sequence", "ffs").network()))
    assert "layer1_membrane = layer1_left + layer1_snn_drive_now" in text
    assert "torch.matmul(x, self.layers[0].snn.weight)" in text
