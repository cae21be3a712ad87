"""Neurons behind a norm at rest are run by one kernel with it: with the same bits, and only where it may be."""

from typing import Any

import pytest
import torch
from torch import Tensor

import hstnn_deploy as hd
from hstnn_deploy.disturbances.hardware import disturbed_spikes
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models import kernels
from hstnn_deploy.models.activity import Activity
from hstnn_deploy.models.eager import Fast, channels_last
from hstnn_deploy.models.kernels import at_rest
from hstnn_deploy.models.kernels.generated import compiled
from hstnn_deploy.models.layers import Chain, build_chain

pytestmark = pytest.mark.skipif(
    not compiled.available() or not at_rest._torch_rounds_once(),
    reason="llvmlite is missing, or torch scales and shifts in two roundings",
)

NEURONS: list[dict[str, Any]] = [
    {"lif": {"decay": 0.9}},
    {"lif": {"learn": ["decay"], "input_decay": True}},
    {"lif": {"each": {"threshold": "channel"}, "reset": "subtract"}},
    {"adaptive": {}},
    {"integrator": {"decay": 0.5}},
]
LIF = NEURONS[0]


class Counted:
    """How often the kernel of both was taken."""

    times = 0


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Let small windows have it, and count."""
    monkeypatch.setattr(at_rest, "_LEAST", 0)
    monkeypatch.setattr(at_rest, "_FEWEST", 1)
    found, mine = Counted(), at_rest.AfterNorm

    def counting(neuron: Any) -> at_rest.AfterNorm:
        found.times += 1
        return mine(neuron)

    monkeypatch.setattr(at_rest, "AfterNorm", counting)
    return found


def chain_of(neuron: dict[str, Any], shape: tuple[int, ...], **norm: Any) -> Chain:
    """Return a norm and neurons, at rest, with numbers of every channel that are not 1 and 0."""
    chain, _ = build_chain([{"norm": norm}, neuron], shape, "layers")
    generator = torch.Generator().manual_seed(1)
    for number, layer in enumerate(chain.leaves(), 1):
        layer.number = number
    with torch.no_grad():
        for value in (*chain.parameters(), *chain.buffers()):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return chain.eval()


def run(chain: Chain, x: Tensor, apart: bool, lengths: Tensor | None = None) -> list[Tensor]:
    """Return what comes out of a window, and the states; `apart`: norm and neurons one after another."""
    norm, neurons = chain.leaves()
    state = {f"{name}2": x.new_full((x.shape[1], *shape), 0.25) for name, (shape, _) in neurons.carries.items()}
    o = Fast(lengths)
    if apart:
        normalised, _ = norm.window(o, x, {})
        y, after = neurons.window(o, normalised, {name[:-1]: each for name, each in state.items()})
        return [y, *after.values()]
    y, after = chain.run(o, x, state, True)
    return [y, *after.values()]


@pytest.mark.parametrize("lengths", [None, [6, 0, 3]])
@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 4, 6)])
@pytest.mark.parametrize("neuron", NEURONS)
def test_the_bits_are_those_of_one_after_another(
    neuron: dict[str, Any], shape: tuple[int, ...], lengths: list[int] | None, counted: Counted
) -> None:
    valid = None if lengths is None else torch.tensor(lengths)
    x = torch.randn(6, 3, *shape, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"scale": False}, {"shift": False}, {"over": "step"}):
        chain = chain_of(neuron, shape, **options)
        for given in (x, channels_last(x), x.transpose(0, 1).contiguous().transpose(0, 1)):
            before = counted.times
            with torch.no_grad():
                expected, found = (run(chain, given, apart, valid) for apart in (True, False))
            assert counted.times == before + 1
            assert all(map(torch.equal, found, expected))


def test_where_it_may_not_be_norm_and_neurons_run_one_after_another(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(6, 3, 5, 4, 6)
    chain = chain_of(LIF, (5, 4, 6))
    with torch.no_grad():
        run(chain, x, False)
        assert counted.times == 1
        run(chain.double(), x.double(), False)
        chain.float()
        with torch.autocast("cpu", torch.bfloat16):
            run(chain, x, False)
        run(chain.train(), x, False)
        chain.eval()
        for form in ("plain", "fused"):
            with kernels.using(form):
                run(chain, x, False)
        monkeypatch.setattr(at_rest, "_FEWEST", 7)
        run(chain, x, False)
        monkeypatch.setattr(at_rest, "_FEWEST", 6)
        monkeypatch.setattr(at_rest, "_LEAST", x.numel() + 1)
        run(chain, x, False)
        monkeypatch.setattr(at_rest, "_LEAST", x.numel())
        monkeypatch.setattr(at_rest, "_torch_rounds_once", lambda: False)
        run(chain, x, False)
        monkeypatch.setattr(at_rest, "_torch_rounds_once", lambda: True)
        assert counted.times == 1
        run(chain, x, False)
        assert counted.times == 2


def test_with_gradients_there_is_none_of_its_kind(counted: Counted) -> None:
    chain, x = chain_of(LIF, (5,)), torch.randn(6, 3, 5, requires_grad=True)
    run(chain, x, False)[0].sum().backward()
    assert x.grad is not None
    assert counted.times == 0
    chain.requires_grad_(False)
    run(chain, x, False)
    assert counted.times == 0
    run(chain, x.detach(), False)
    assert counted.times == 1


def test_whoever_looks_at_the_neurons_sees_what_they_hand_out(counted: Counted) -> None:
    """Rates, proofs and disturbed spikes come from hooks, which the kernel of both does not call."""
    maps: list[Any] = [{"conv": 4}, {"norm": {}}, LIF, {"pool": "mean", "size": 2}, {"conv": 3}, {"norm": {}}, LIF]
    network = hd.Stack([*maps, {"flatten": True}, {"linear": 5}], input=[2, 9, 8], readout="sum").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.rand(value.shape, generator=generator) - 0.4)
    x = torch.rand(8, 3, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = network(x)[0]
    assert counted.times == 2
    shown = network_engine(network, show=True)(x, None)
    assert shown.logits.equal(scores)
    with torch.no_grad(), Activity(network) as activity:
        assert network(x)[0].equal(scores)
    assert activity.rates() == {tap.layer: pytest.approx(float(row.mean())) for tap, row in shown.taps.items()}
    assert all(0 < rate < 1 for rate in activity.rates().values())
    with torch.no_grad(), disturbed_spikes(network, "spike-loss", 1.0, 0):
        lost = network(x)[0]
    assert counted.times == 2
    assert lost.equal(lost[:1].expand_as(lost))  # with all spikes lost, every sample has the same scores
    assert not lost.equal(scores)
