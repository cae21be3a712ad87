"""Neurons whose membranes hit the threshold exactly: weights are eighths, so float32 rounds nothing, in any engine."""

from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import torch
from torch import Tensor

from hstnn_deploy.export.graph.forms import build
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.modules import script
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.engines import network_engine, onnxruntime_session, opened_up, window_engine
from hstnn_deploy.export.proof.modules import shown_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.network import SPIKES, Tap
from hstnn_deploy.models.stack import Stack, StackConfig

T, B = 6, 16


class Case(NamedTuple):
    """How neurons fire and are reset."""

    fires: str
    reset: str
    delayed: bool
    threshold: float
    again: bool = False

    def __str__(self) -> str:
        how = ", delayed" if self.delayed else ", again" if self.again else ""
        return f"{self.fires}, {self.reset}{how}, {self.threshold}"

    def network(self) -> Stack:
        """Return neurons on the input itself, and neurons behind weights; all numbers are eighths."""
        neuron = {"decay": 0.5, "threshold": self.threshold, "fires": self.fires, "reset": self.reset}
        neuron |= {"delayed_reset": self.delayed, "reset_again": self.again}
        layers: list[Any] = [{"lif": neuron}, {"linear": 5}, {"lif": neuron}, {"linear": 3}]
        torch.manual_seed(3)
        network = StackConfig.model_validate({"input": [6], "layers": layers, "readout": "sum"}).build([])
        with torch.no_grad():
            for value in network.parameters():
                value.copy_((value * 2 * 8).round() / 8)
        return network.eval()


CASES = [
    Case(fires, reset, delayed, threshold)
    for fires in ("above", "at", "several")
    for reset in ("zero", "subtract")
    for delayed in (False, True)
    for threshold in (1.0, 0.5)
    if (fires, reset) != ("several", "zero")
] + [Case("above", "subtract", False, threshold, again=True) for threshold in (1.0, 0.5)]


def example() -> Tensor:
    """Return quarters from -1 to 2, [T, B, n]."""
    return torch.randint(-4, 9, (T, B, 6), generator=torch.Generator().manual_seed(4)) / 4


def by_hand(current: Tensor, case: Case) -> tuple[Tensor, Tensor]:
    """Return the membranes and spikes of currents [T, B, n], in float64, by equations of this test's own."""
    v = before = torch.zeros_like(current[0])
    membranes, spikes = [], []
    for now in current:
        owed = torch.zeros_like(v)
        if case.delayed:
            m = v * (1 - before) / 2 + now if case.reset == "zero" else v / 2 + now - before * case.threshold
        else:
            owed = (v > case.threshold).double() * case.again
            m = v / 2 + now - owed * case.threshold
        match case.fires:
            case "above":
                s = (m > case.threshold).double()
            case "at":
                s = (m >= case.threshold).double()
            case _:
                s = (m / case.threshold).floor().clamp(min=0)
        after = torch.where(s > 0, 0.0, m) if case.reset == "zero" else m - (s - owed) * case.threshold
        v = m if case.delayed else after
        before = s
        membranes.append(m)
        spikes.append(s)
    return torch.stack(membranes), torch.stack(spikes)


def onnx_run(network: Stack, x: Tensor, folder: Path) -> Run:
    """Return what ONNX Runtime makes of a network's graph."""
    path = folder / "window.onnx"
    onnx.save(build(network, "window", {}), str(path))
    opened = opened_up(path, "window", network)
    return window_engine(onnxruntime_session(opened.model), interface(network), opened.values)(x, None)


@pytest.mark.parametrize("case", CASES, ids=str)
@torch.no_grad()
def test_membranes_at_the_threshold_fire_alike_in_every_engine(case: Case, tmp_path: Path) -> None:
    network, x = case.network(), example()
    first, expected = by_hand(x.double(), case)
    numbers = {key: value.double() for key, value in network.state_dict().items()}
    current = expected @ numbers["layers.1.weight"].T + numbers["layers.1.bias"]
    second, above = by_hand(current, case)
    assert (first == case.threshold).any()
    assert (second == case.threshold).any()
    answer = (above @ numbers["layers.3.weight"].T + numbers["layers.3.bias"]).sum(0)
    runs = {
        "eager": network_engine(network, show=True)(x, None),
        "ONNX Runtime": onnx_run(network, x, tmp_path),
        "TorchScript": shown_engine(network, script(network), network.state_dict())(x, None),
    }
    for name, run in runs.items():
        assert torch.equal(run.taps[Tap(1, SPIKES)].double(), expected), name
        assert torch.equal(run.taps[Tap(3, SPIKES)].double(), above), name
        assert torch.equal(run.logits.double(), answer), name
        assert replay(network, x, run).passed, name
    if case.fires == "several":
        assert expected.max() > 1


@pytest.mark.parametrize("case", [case for case in CASES if case.fires == "at"], ids=str)
def test_at_and_above_the_threshold_are_told_apart(case: Case, tmp_path: Path) -> None:
    x = example()
    at, above = case.network(), case._replace(fires="above").network()
    of_at, of_above = onnx_run(at, x, tmp_path), onnx_run(above, x, tmp_path)
    assert not torch.equal(of_at.taps[Tap(1, SPIKES)], of_above.taps[Tap(1, SPIKES)])
    for network, right, wrong in ((at, of_at, of_above), (above, of_above, of_at)):
        assert replay(network, x, right).passed
        found = replay(network, x, wrong)
        assert not found.passed
        assert (found.divergences[0].layer, found.divergences[0].what) == (1, SPIKES)
        assert found.divergences[0].distance == 0
