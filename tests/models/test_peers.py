"""Stacks beside SpikingJelly, snnTorch and sinabs themselves, with the same weights (peers.txt).

Weights and inputs are dyadic: every sum is exact in float32, so that the same spikes are asked for to the last one, at
membranes that hit the threshold too. Random weights round differently in every library: a first difference must be a
membrane within rounding of its threshold, which the replay says.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.stack import Stack, StackConfig

WIDTHS = (6, 8, 5)
STEPS, BATCH = 12, 3
few = settings(max_examples=30, deadline=None)

Peer = Callable[[list[nn.Linear], Tensor], list[Tensor]]
"""From the linear layers and x [T, B, n] to the spikes of each layer of neurons, [T, B, n]."""


def spikingjelly(options: dict[str, Any]) -> Peer:
    """Return SpikingJelly's LIF or PLIF, over all steps at once."""
    of_net = pytest.importorskip("spikingjelly.activation_based.functional", exc_type=ImportError)
    from spikingjelly.activation_based import neuron, surrogate

    how: dict[str, Any] = {
        "v_threshold": options["threshold"],
        "v_reset": None if options.get("reset") == "subtract" else 0.0,
        "decay_input": options["input_decay"],
        "detach_reset": True,
        "surrogate_function": surrogate.ATan(),
        "step_mode": "m",
    }

    def units() -> Any:
        if "learn" in options:
            return neuron.ParametricLIFNode(init_tau=options["tau"], **how)
        return neuron.LIFNode(tau=options["tau"], **how)

    def run(linears: list[nn.Linear], x: Tensor) -> list[Tensor]:
        found = []
        for linear in linears:
            node = units()
            x = node(linear(x))
            found.append(x)
            of_net.reset_net(node)
        return found

    return run


def snntorch(options: dict[str, Any]) -> Peer:
    """Return snnTorch's Leaky, step by step."""
    library = pytest.importorskip("snntorch", exc_type=ImportError)

    def run(linears: list[nn.Linear], x: Tensor) -> list[Tensor]:
        found = []
        for linear in linears:
            reset = options["reset"]
            node = library.Leaky(
                beta=options["decay"],
                threshold=options["threshold"],
                reset_mechanism=reset,
                reset_delay=options.get("delayed_reset", False),
            )
            membrane, rows = node.init_leaky(), []
            for now in x.unbind(0):
                spikes, membrane = node(linear(now), membrane)
                rows.append(spikes)
            x = torch.stack(rows)
            found.append(x)
        return found

    return run


def sinabs(options: dict[str, Any]) -> Peer:
    """Return sinabs' IAF, batch first."""
    layers = pytest.importorskip("sinabs.layers", exc_type=ImportError)

    def run(linears: list[nn.Linear], x: Tensor) -> list[Tensor]:
        found = []
        for linear in linears:
            threshold = torch.tensor(options["threshold"])
            node = layers.IAF(spike_threshold=threshold, min_v_mem=options["lowest"])
            x = node(linear(x).transpose(0, 1)).transpose(0, 1)
            found.append(x)
        return found

    return run


jelly = st.fixed_dictionaries(
    {
        "tau": st.sampled_from([2.0, 4.0]),
        "threshold": st.sampled_from([0.5, 1.0]),
        "input_decay": st.booleans(),
        "reset": st.sampled_from(["zero", "subtract"]),
        "fires": st.just("at"),
        "detach_reset": st.just(True),
    }
)
learned = st.fixed_dictionaries(
    {
        "tau": st.just(2.0),
        "threshold": st.sampled_from([0.5, 1.0]),
        "input_decay": st.just(True),
        "fires": st.just("at"),
        "learn": st.just("decay"),
    }
)
leaky = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([0.5, 0.25, 1.0]),
        "threshold": st.sampled_from([0.5, 1.0]),
        "reset": st.sampled_from(["zero", "subtract", "none"]),
        "delayed_reset": st.just(True),
    }
)
prompt = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([0.5, 0.75, 1.0]),
        "threshold": st.sampled_from([0.5, 1.0]),
        "reset": st.sampled_from(["zero", "subtract"]),
    }
).map(lambda found: found | {"reset_again": found["reset"] == "subtract"})
iaf = st.fixed_dictionaries(
    {
        "decay": st.just(1.0),
        "threshold": st.sampled_from([0.5, 1.0]),
        "reset": st.just("subtract"),
        "fires": st.just("several"),
        "lowest": st.sampled_from([None, -1.0]),
    }
)
CASES: dict[str, tuple[Any, Callable[[dict[str, Any]], Peer]]] = {
    "SpikingJelly LIF": (jelly, spikingjelly),
    "SpikingJelly PLIF": (learned, spikingjelly),
    "snnTorch Leaky": (leaky, snntorch),
    "snnTorch Leaky without delay": (prompt, snntorch),
    "sinabs IAF": (iaf, sinabs),
}


def sides(options: dict[str, Any], seed: int, dyadic: bool) -> tuple[Stack, list[nn.Linear], Tensor]:
    """Return a stack, the linear layers with its weights, and an input."""
    layers: list[Any] = []
    for width in WIDTHS[1:]:
        layers += [{"linear": width}, {"lif": options}]
    network = StackConfig(input=[WIDTHS[0]], layers=layers, readout="every").build([])
    generator = torch.Generator().manual_seed(seed)
    linears: list[nn.Linear] = [layer for layer in network.leaves() if isinstance(layer, nn.Linear)]
    x = torch.randn(STEPS, BATCH, WIDTHS[0], generator=generator)
    with torch.no_grad():
        for linear in linears:
            linear.weight.normal_(0, 0.8, generator=generator)
            assert linear.bias is not None
            linear.bias.normal_(0, 0.2, generator=generator)
            if dyadic:
                linear.weight.mul_(4).round_().div_(4)
                linear.bias.mul_(4).round_().div_(4)
    return network.eval(), linears, (x * 4).round() / 4 if dyadic else x


@pytest.mark.parametrize("name", CASES)
def test_dyadic_networks_give_the_same_spikes(name: str) -> None:
    options_of, peer_of = CASES[name]

    @few
    @given(options_of, st.integers(0, 2**31))
    def same(options: dict[str, Any], seed: int) -> None:
        network, linears, x = sides(options, seed, dyadic=True)
        with torch.no_grad():
            theirs = peer_of(options)(linears, x)
        ours = network_engine(network, show=True)(x, None).taps
        for number, spikes in enumerate(theirs, 1):
            assert torch.equal(ours[Tap(2 * number, "spikes")], spikes.float()), (options, number)

    peer_of({"threshold": 1.0, "input_decay": True, "tau": 2.0, "decay": 0.5, "reset": "zero", "lowest": None})
    same()


@pytest.mark.parametrize("name", CASES)
def test_random_networks_differ_by_rounding_alone(name: str) -> None:
    """What a library fired is claimed of our network: the replay finds each spike right, or borderline."""
    options_of, peer_of = CASES[name]

    @few
    @given(options_of, st.integers(0, 2**31))
    def same(options: dict[str, Any], seed: int) -> None:
        network, linears, x = sides(options, seed, dyadic=False)
        with torch.no_grad():
            theirs = peer_of(options)(linears, x)
        own = network_engine(network, show=True)(x, None)
        taps = {Tap(2 * number, "spikes"): spikes.float() for number, spikes in enumerate(theirs, 1)}
        claimed = Run(theirs[-1].float(), taps, own.state)
        found = replay(network, x, claimed)
        wrong = [each for each in found.divergences if each.what == "spikes"]
        assert not wrong, (options, wrong)

    peer_of({"threshold": 1.0, "input_decay": True, "tau": 2.0, "decay": 0.5, "reset": "zero", "lowest": None})
    same()


@pytest.mark.parametrize("name", CASES)
def test_another_threshold_is_told_from_the_library_s(name: str) -> None:
    options_of, peer_of = CASES[name]
    told = 0

    @settings(max_examples=10, deadline=None)
    @given(options_of, st.integers(0, 2**31))
    def differs(options: dict[str, Any], seed: int) -> None:
        nonlocal told
        _, linears, x = sides(options, seed, dyadic=True)
        with torch.no_grad():
            theirs = peer_of(options)(linears, x)
        wrong, _, _ = sides(options | {"threshold": options["threshold"] + 0.25}, seed, dyadic=True)
        ours = network_engine(wrong, show=True)(x, None).taps
        told += not all(torch.equal(ours[Tap(2 * n, "spikes")], spikes.float()) for n, spikes in enumerate(theirs, 1))

    peer_of({"threshold": 1.0, "input_decay": True, "tau": 2.0, "decay": 0.5, "reset": "zero", "lowest": None})
    differs()
    assert told > 5
