"""BNTT's networks against numbers of the authors' own classes (tests/golden)."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models import kernels
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.stack import Stack, StackConfig
from tests.models.test_stack_golden import BNTT, apart, golden

# Layers in the golden files' own words: a width, or P for pooling.
NETWORKS: dict[str, list[int | str]] = {
    "bntt_vgg9": [6, 6, "P", 8, 8, "P", 10, 10, 10, "P"],
    "bntt_vgg11": [4, "P", 6, "P", 8, 8, "P", 10, 10, "P", 10, 10, "to 1"],
}


def network_of(name: str, numbers: dict[str, Tensor]) -> tuple[Stack, list[tuple[str, int]]]:
    """Return a network, and its weights' names there with the places of their layers here."""
    steps, size = int(numbers["T"]), numbers["images"].shape[-1]
    neuron = BNTT | {"decay": float(numbers["leak"])}
    norm = {"norm": {"over": "step", "steps": steps, "shift": False, "eps": 1e-4}}
    layers: list[Any] = []
    names: list[tuple[str, int]] = []
    for each in NETWORKS[name]:
        if isinstance(each, int):
            names.append((f"conv{len(names) + 1}", len(layers)))
            layers += [{"conv": each, "kernel": 3, "padding": 1, "bias": False}, norm, {"lif": neuron}]
        else:
            layers.append({"pool": "mean", "size": 2} if each == "P" else {"pool": "mean", "to": 1})
    names += [("fc1", len(layers) + 1), ("fc2", len(layers) + 4)]
    layers += ["flatten", {"linear": 24, "bias": False}, norm, {"lif": neuron}, {"linear": 10, "bias": False}]
    config = {"input": [3, size, size], "layers": layers, "readout": "mean"}
    network = StackConfig.model_validate(config).build([])
    state = network.state_dict()
    for theirs, place in names:
        state[f"layers.{place}.weight"] = numbers[f"param.{theirs}.weight"]
        if theirs != "fc2":
            state[f"layers.{place + 1}.scale"] = per_step(numbers, "param", theirs, steps, "weight")
            for our, their in (("mean", "running_mean"), ("variance", "running_var")):
                state[f"layers.{place + 1}.{our}"] = per_step(numbers, "buffer_before", theirs, steps, their)
    network.load_state_dict(state)
    return network, names


def per_step(numbers: dict[str, Tensor], kind: str, name: str, steps: int, what: str) -> Tensor:
    """Return what a layer's norms hold, [T, C]."""
    norm = "bntt_fc" if name == "fc1" else name.replace("conv", "bntt")
    return torch.stack([numbers[f"{kind}.{norm}.{step}.{what}"] for step in range(steps)])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ["plain", "fused"])
def test_a_network_is_the_authors(name: str, form: kernels.Form) -> None:
    """Training: spikes, output, loss, gradients and running statistics; evaluation: spikes and output."""
    numbers = golden(name)
    network, names = network_of(name, numbers)
    tolerance, steps = 10 * float(numbers["float64_grad_reldiff"]), int(numbers["T"])
    x = numbers["encoded"].float()
    network.train()
    seen: dict[Tap, Tensor] = {}
    hooks = [
        units.register_forward_hook(lambda _m, _i, out, tap=tap: seen.__setitem__(tap, out[0].detach()))
        for tap, units in network.taps.items()
    ]
    with kernels.using(form):
        output, _ = network(x)
        loss = functional.cross_entropy(output, numbers["labels"])
        loss.backward()
    for hook in hooks:
        hook.remove()
    spiking = {theirs: Tap(place + 3, "spikes") for theirs, place in names if theirs != "fc2"}
    for theirs, tap in spiking.items():
        assert torch.equal(seen[tap], numbers[f"spikes.{theirs}"]), theirs
    assert apart(output.detach(), numbers["output"]) < 1e-6
    assert apart(loss.detach(), numbers["loss"]) < 1e-6
    ours, state = dict(network.named_parameters()), network.state_dict()
    for theirs, place in names:
        grad = ours[f"layers.{place}.weight"].grad
        assert grad is not None
        assert apart(grad, numbers[f"grad.{theirs}.weight"]) < tolerance, theirs
        if theirs == "fc2":
            continue
        scale = ours[f"layers.{place + 1}.scale"].grad
        assert scale is not None
        assert apart(scale, per_step(numbers, "grad", theirs, steps, "weight")) < tolerance, theirs
        for our, their in (("mean", "running_mean"), ("variance", "running_var")):
            after = per_step(numbers, "buffer_after", theirs, steps, their)
            assert apart(state[f"layers.{place + 1}.{our}"], after) < tolerance, theirs
    network.eval()
    with kernels.using(form):
        run = network_engine(network, show=True)(numbers["eval.encoded"].float(), None)
    for theirs, tap in spiking.items():
        assert torch.equal(run.taps[tap], numbers[f"eval.spikes.{theirs}"]), theirs
    assert apart(run.logits, numbers["eval.output"]) < 1e-6
