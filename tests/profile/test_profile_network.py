"""`profile_network`: modules in this process, put back as they were; files and factories in one of their own."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hstnn_deploy
from hstnn_deploy.errors import ProfileError, UsageError
from hstnn_deploy.profile.foreign.states import find_reset
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.schema import check_shape
from hstnn_deploy.profile.values import Measured, NotMeasured
from tests.profile.conftest import measured
from tests.profile.foreign_files import NETS, product


@pytest.fixture(scope="module")
def nets() -> Any:
    space: dict[str, Any] = {"__name__": "nets"}
    exec(NETS, space)
    return space


def number(value: Any) -> float:
    assert isinstance(value, Measured), value
    return value.number


def test_a_module_is_measured_and_put_back(nets: Any) -> None:
    network = nets["make"]()
    network[0].weight.grad = torch.ones_like(network[0].weight)
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(5, 6)
    state = torch.get_rng_state()
    found = hstnn_deploy.profile_network(network, x, batch=5, seconds=0.05)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight))
    assert network[2].weight.grad is None
    assert (network.training, network[1].training) == (True, False)
    assert number(found.latency) > 0
    assert number(found.step) > 0
    assert number(found.memory) > 10_000_000
    assert number(found.parameters) == 6 * 8 + 8 + 8 + 8 + 8 * 3 + 3
    assert number(found.value("buffers")) == 17
    assert number(found.value("throughput")) > 0
    assert repr(found).startswith("<NetworkProfile 'Sequential': a call ")
    for record in found.records:
        plain = json.loads(json.dumps(record.plain()))
        check_shape(plain)
        assert Record.from_plain(plain) == record


def test_no_operations_and_no_spikes_are_claimed(nets: Any) -> None:
    found = hstnn_deploy.profile_network(nets["make"](), "B,6", batch=2, seconds=0.05)
    for name in ("macs", "macs_dense", "acs", "spike_rate", "energy"):
        value = found.value(name)
        assert isinstance(value, NotMeasured)
        assert "only in hstnn's own networks" in value.reason
    assert isinstance(found.value("cuda_process"), NotMeasured)


def test_what_has_no_single_output_is_not_trained(nets: Any) -> None:
    found = hstnn_deploy.profile_network(nets["lstm"](), "4,1,6", seconds=0.05)
    assert found.training is not None
    assert found.training.status == "n/a"
    assert "gives a tuple with 3 tensors" in found.training.reason
    assert isinstance(found.step, NotMeasured)
    assert isinstance(found.value("throughput"), NotMeasured)
    assert number(found.latency) > 0


def test_frozen_and_whole_number_outputs_are_not_trained(nets: Any) -> None:
    frozen = nn.Linear(6, 2).requires_grad_(False)
    found = hstnn_deploy.profile_network(frozen, "1,6", seconds=0.02)
    assert found.training is not None
    assert "no parameter that requires a gradient" in found.training.reason

    class Chosen(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).argmax(-1)

    found = hstnn_deploy.profile_network(Chosen(6, 2), np.ones((1, 6), np.float32), seconds=0.02)
    assert found.training is not None
    assert "gives int64, not floating point" in found.training.reason


def test_states_that_nobody_resets_are_said(nets: Any) -> None:
    for name, said in (("Counts", "two calls on the same input differ"), ("make", "give the same output")):
        found = hstnn_deploy.profile_network(nets[name](), "2,6", seconds=0.02)
        assert found.inference is not None
        assert said in found.inference.facts["states"]


def test_several_arguments_by_place_and_by_name(nets: Any) -> None:
    pair = nets["Pair"]()
    for x in ("3,6;3:int64", [(3, 6), "3:int64"], {"x": torch.ones(3, 6), "words": torch.ones(3, dtype=torch.int64)}):
        found = hstnn_deploy.profile_network(pair, x, seconds=0.02)
        assert found.inference is not None
        assert found.inference.configuration.foreign is not None
        assert [each["shape"] for each in found.inference.configuration.foreign["inputs"]] == [[3, 6], [3]]


def peers() -> list[Any]:
    """Return a factory of a network of each library that keeps states, and the name of its reset."""

    def snntorch() -> nn.Module:
        snn = pytest.importorskip("snntorch", exc_type=ImportError)
        inner = nn.Sequential(nn.Linear(6, 4), snn.Leaky(beta=0.9, init_hidden=True))
        return nn.Sequential(inner, nn.Linear(4, 2))

    def spikingjelly() -> nn.Module:
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
        return nn.Sequential(nn.Linear(6, 4), neuron.LIFNode(step_mode="m"), nn.Linear(4, 2))

    def sinabs() -> nn.Module:
        layers = pytest.importorskip("sinabs.layers", exc_type=ImportError)
        return nn.Sequential(nn.Linear(6, 4), layers.LIF(tau_mem=10.0), nn.Linear(4, 2))

    return [
        # The weights are such that what a call leaves behind changes when the next one spikes.
        (snntorch, 0.05, "snntorch.utils.reset"),
        (spikingjelly, 0.123, "spikingjelly.activation_based.functional.reset_net"),
        (sinabs, 0.6, "sinabs reset_states"),
    ]


@pytest.mark.parametrize(("factory", "weight", "how"), peers(), ids=lambda each: getattr(each, "__name__", ""))
def test_states_of_libraries_are_reset_between_calls(factory: Any, weight: float, how: str) -> None:
    network = factory()
    x = torch.full((3, 2, 6), 2.0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.fill_(weight)
                layer.bias.fill_(weight)
        reset = find_reset(network)
        assert reset.how == how
        outputs = []
        for again in (True, True, False):
            if again:
                reset.run()
            outputs.append(network(x).clone())
    assert torch.equal(outputs[0], outputs[1])
    # Without the reset they are others: the check would see one that does nothing.
    assert not torch.equal(outputs[1], outputs[2])
    found = hstnn_deploy.profile_network(network, x, seconds=0.02)
    assert found.inference is not None
    assert found.training is not None
    assert found.inference.facts["states"] == f"reset before each call by {how}"
    assert found.training.status == "measured", found.training.reason


def test_a_class_of_the_same_name_is_no_library(nets: Any) -> None:
    class MemoryModule(nn.Linear):
        pass

    assert find_reset(MemoryModule(2, 2)).how == ""


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (None, UsageError, "a torch module does not state its inputs"),
        ("3,7", ProfileError, "Sequential cannot run on [3, 7]: RuntimeError: "),
        ((3, 0), UsageError, "--input '3,0': '0' is neither a size, B nor T"),
        ({"nothing": (3, 6)}, ProfileError, "Sequential cannot run on [3, 6]: TypeError: "),
    ],
)
def test_what_a_module_cannot_take_is_one_line(nets: Any, x: Any, error: Any, message: str) -> None:
    network = nets["make"]()
    with pytest.raises(error) as caught:
        hstnn_deploy.profile_network(network, x, seconds=0.02)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert network.training


def test_an_onnx_file_and_a_factory_have_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_mine.py").write_text(NETS)
    product(tmp_path / "net.onnx", ["time", "batch", 6])
    found = hstnn_deploy.profile_network("net.onnx", {"x": (4, "B", 6)}, batch=2, device="cpu", seconds=0.05)
    assert found.inference is not None
    assert found.inference.configuration.foreign is not None
    assert found.inference.configuration.foreign["inputs"][0]["shape"] == [4, 2, 6]
    assert found.inference.facts["outputs"] == {"y": "[4, 2, 3] float32"}
    assert number(found.value("file_bytes")) == (tmp_path / "net.onnx").stat().st_size
    assert number(found.value("load")) > 0
    # torch alone is larger than all of the process that runs ONNX Runtime.
    assert number(found.memory) < 200_000_000
    with pytest.raises(UsageError, match="nets_of_mine:broken raises: ValueError: no weights here"):
        hstnn_deploy.profile_network("nets_of_mine:broken", (2, 6))
    assert "nets_of_mine" not in sys.modules


def test_networks_of_ours_go_their_way(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(configurations: list[Configuration], **_: Any) -> list[Record]:
        return [measured(each) for each in configurations]

    monkeypatch.setattr("hstnn_deploy.profile.run.launch.run", run)
    found = hstnn_deploy.profile_network(tiny, device="cpu", batch=3)
    assert {each.configuration.phase for each in found.records} == {"work", "train", "infer"}
    assert all(each.configuration.foreign is None for each in found.records)
    assert found.inference is not None
    assert found.inference.configuration.batch == 3
    assert number(found.latency) > 0
    with pytest.raises(UsageError, match="x was given, but this network's inputs"):
        hstnn_deploy.profile_network(tiny, (2, 6))
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        hstnn_deploy.profile_network(tiny, device="gpu")
