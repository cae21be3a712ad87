"""Stacks of every layer: in chunks, step by step, of several lengths, in every kernel form, with their gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from hstnn_deploy.errors import RunError
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models import kernels
from hstnn_deploy.models import stack as stack_module
from hstnn_deploy.models.eager import Eager, channels_last
from hstnn_deploy.models.layers.base import Layer
from hstnn_deploy.models.layers.norm import Norm
from hstnn_deploy.models.layers.units import Spiking
from hstnn_deploy.models.layers.weights import Linear, Maps, Rows
from hstnn_deploy.models.network import SPIKES, Tap
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.stack import Stack, StackConfig
from hstnn_deploy.profile.phases.operations import count
from tests.models.stacks import IAF, LEAKY, NEURONS, SJ, STACKS, example, stack

T, B = 7, 4
LENGTHS = [7, 3, 1, 5]

every_stack = pytest.mark.parametrize("name", STACKS)


def noise(network: Stack, steps: int, batch: int) -> Tensor:
    """Return another input of the same kind."""
    return example(network, steps, batch, seed=99)


def padded(network: Stack) -> tuple[Tensor, Tensor]:
    """Return inputs that differ only in steps past their `LENGTHS`."""
    x, other = example(network, T, B), noise(network, T, B)
    valid = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
    valid = valid[(..., *[None] * (x.ndim - 2))]
    return x, torch.where(valid, x, other)


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert that states are the same."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@every_stack
@torch.no_grad()
def test_chunks_and_single_steps_give_what_the_whole_window_gives(name: str) -> None:
    network = stack(name)
    x = example(network, T, B)
    whole, last = network(x)
    answers, state = [], None
    for chunk in x.split([3, 1, 3]):
        answer, state = network(chunk, state)
        answers.append(answer)
    assert state is not None
    torch.testing.assert_close(torch.cat(answers) if network.every_step else answers[-1], whole)
    close(state, last)
    answers, state = [], network.initial_state(x)
    for x_t in x:
        answer, state = network.step(Eager(), x_t, state)
        answers.append(answer)
    torch.testing.assert_close(torch.stack(answers) if network.every_step else answers[-1], whole)
    close(state, last)
    # As the equations stand, with no kernel.
    answer, state = network.window(Eager(), x, network.initial_state(x))
    torch.testing.assert_close(answer, whole)
    close(state, last)


@every_stack
@torch.no_grad()
def test_a_padded_batch_gives_what_each_sample_gives_alone(name: str) -> None:
    network = stack(name)
    _, x = padded(network)
    answers, states = network(x, None, torch.tensor(LENGTHS))
    for sample, length in enumerate(LENGTHS):
        alone, state = network(x[:length, sample : sample + 1])
        at = answers[:length, sample : sample + 1] if network.every_step else answers[sample : sample + 1]
        torch.testing.assert_close(at, alone)
        close({key: value[sample : sample + 1] for key, value in states.items()}, state)


@every_stack
def test_padding_has_no_part_in_what_is_learned(name: str) -> None:
    found = []
    for x in padded(stack(name)):
        network = stack(name).train()
        torch.manual_seed(1)
        answers, states = network(x, None, torch.tensor(LENGTHS))
        if network.every_step:
            answers = answers[torch.arange(T)[:, None] < torch.tensor(LENGTHS)]
        answers.square().mean().backward()
        gradients = {key: value.grad for key, value in network.named_parameters() if value.grad is not None}
        statistics = dict(network.named_buffers())
        found.append({key: value.detach() for key, value in ({"": answers} | states | gradients | statistics).items()})
    close(found[1], found[0])


def learned(name: str, form: Any, mode: str = "layers") -> dict[str, Tensor]:
    """Return what a training step of a stack comes to: its answer, spikes, and gradients."""
    network = stack(name).train()
    network.mode = "steps" if mode == "steps" else "layers"
    x = example(network, T, B)
    found: dict[str, Tensor] = {}
    for tap, units in network.taps.items():
        units.register_forward_hook(lambda _m, _i, out, tap=tap: found.__setitem__(str(tap), out[0].detach()))
    torch.manual_seed(1)
    with kernels.using(form):
        answer, _ = network(x)
        answer.square().mean().backward()
    found["answer"] = answer.detach()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        found[f"gradient of {key}"] = value.grad
    return found


@every_stack
def test_kernels_give_the_spikes_and_gradients_of_the_equations_and_reach_every_parameter(name: str) -> None:
    plain, fused = learned(name, "plain"), learned(name, "fused")
    for key in (key for key in plain if key.endswith(SPIKES)):
        assert torch.equal(plain[key], fused[key])
        assert plain[key].any()
    close(fused, plain)
    reached = [key for key, value in plain.items() if key.startswith("gradient") and value.any()]
    assert f"gradient of layers.{len(stack(name).layers) - 1}.weight" in reached or "vote" in name
    assert len(reached) >= 2


def over_all_steps(name: str) -> bool:
    """Whether a layer takes its statistics over the window: a step run by itself has others."""
    return any(isinstance(layer, Norm) and layer.options.over == "all" for layer in stack(name).leaves())


@pytest.mark.parametrize("name", [name for name in STACKS if not over_all_steps(name)])
def test_step_by_step_and_layer_by_layer_learn_the_same(name: str) -> None:
    whole, single = learned(name, "plain"), learned(name, "plain", "steps")
    close(single, {key: whole[key] for key in single})


@every_stack
def test_second_derivatives_exist(name: str) -> None:
    network = stack(name).train()
    parameters = list(network.parameters())
    torch.manual_seed(1)
    with kernels.using("plain"):
        answer, _ = network(example(network, T, B))
        loss = answer.square().mean()
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        along = sum((each * torch.ones_like(each)).sum() for each in first)
        assert isinstance(along, Tensor)
        second = torch.autograd.grad(along, parameters, allow_unused=True)
    there = [each for each in second if each is not None]
    assert all(each.isfinite().all() for each in there)
    assert any(each.any() for each in there)


# ------------------------------------------------------------------------------------------------------------- counts

BY_HAND: dict[str, dict[str, int]] = {
    # Steps x samples x inputs x outputs.
    "neuron: lif": {"layer1.linear": 28 * 6 * 5, "layer3.linear": 28 * 5 * 3},
    "neuron: feedback": {"layer1.linear": 28 * 6 * 5, "layer2.feedback": 28 * 5 * 5, "layer3.linear": 28 * 5 * 3},
    "neuron: rnn": {"layer1.linear": 28 * 6 * 5, "layer2.rnn": 28 * (5 + 5) * 5, "layer3.linear": 28 * 5 * 3},
    "neuron: lstm": {"layer1.linear": 28 * 6 * 5, "layer2.lstm": 28 * (5 + 5) * 4 * 5, "layer3.linear": 28 * 5 * 3},
    # Steps x samples x places of the output x its channels x input channels of a group x places of the kernel.
    "maps: conv": {"layer1.conv": 28 * 5 * 6 * 4 * 2 * 9, "layer4.linear": 28 * 4 * 5 * 6 * 3},
    "maps: conv, strided": {"layer1.conv": 28 * 4 * 4 * 4 * 2 * 9, "layer4.linear": 28 * 4 * 4 * 4 * 3},
    "maps: conv, dilated groups": {"layer1.conv": 28 * 3 * 6 * 4 * 1 * 6, "layer4.linear": 28 * 4 * 3 * 6 * 3},
    "maps: sum pool": {"layer1.conv": 28 * 5 * 6 * 4 * 2 * 9, "layer5.linear": 28 * 4 * 2 * 2 * 3},
    "maps: shortcut": {
        "layer1.conv": 28 * 7 * 8 * 4 * 2 * 9,
        "layer3.conv": 28 * 7 * 8 * 4 * 2,
        "layer7.linear": 28 * 4 * 7 * 8 * 3,
    },
    "maps: parallel": {
        "layer1.conv": 28 * 5 * 6 * 2 * 2 * 9,
        "layer3.conv": 28 * 5 * 6 * 3 * 2 * 9,
        "layer7.linear": 28 * 5 * 5 * 6 * 3,
    },
    "rows": {"layer1.conv": 28 * 10 * 3 * 2 * 3, "layer6.linear": 28 * 3 * 2 * 3},
    "vote": {"layer1.linear": 28 * 6 * 12},
    "tokens": {"layer2.linear": 28 * 6 * 5, "layer4.linear": 28 * 5 * 9},
}
SPIKES_INTO_LINEAR = [name for name in STACKS if name.startswith("neuron:")] + [
    "readout of maps: sum",
    "maps: conv, strided",
    "maps: sum pool",
    "maps: mean pool",
    "maps: adaptive pool",
    "maps: parallel",
    "norm of units",
    "tokens",
]


@pytest.mark.parametrize("name", BY_HAND)
def test_products_are_counted_as_by_hand(name: str) -> None:
    network = stack(name)
    found = {each.name: each.dense for each in count(network, example(network, T, B), events=False) if each.dense}
    assert found == BY_HAND[name]


@every_stack
def test_every_layer_of_weights_is_counted_by_its_shapes(name: str) -> None:
    network = stack(name)
    x = example(network, T, B)
    found = {each.name: each for each in count(network, x, events=False)}
    for layer in network.leaves():
        if isinstance(layer, Linear | Maps | Rows):
            of = found[f"layer{layer.number}.{layer.kind}"]
            assert of.dense == T * B * torch.Size(layer.output).numel() * layer.weight[0].numel()
            assert of.macs + of.acs > 0
    assert all(each.macs <= each.dense for each in found.values())
    assert not network.training
    shown = network_engine(network, show=True)(x, None).taps
    for tap, handed in shown.items():
        if tap.name == SPIKES:
            of = found[network.part(tap.layer)]
            assert of.spikes == float(handed.sum()) > 0
            assert of.sites == handed.numel()


@pytest.mark.parametrize("name", SPIKES_INTO_LINEAR)
def test_spikes_into_weights_are_accumulated_and_numbers_multiplied(name: str) -> None:
    network = stack(name)
    x = example(network, T, B)
    last = list(network.leaves())[-1]
    assert isinstance(last, Linear)
    (of,) = (each for each in count(network, x, events=False) if each.name == f"layer{last.number}.linear")
    taps = network_engine(network, show=True)(x, None).taps
    spikes = {tap: handed for tap, handed in taps.items() if tap.name == SPIKES}
    if not spikes:
        assert of.acs == 0
        assert of.macs == sum(float(handed.count_nonzero()) for handed in taps.values()) * last.out_features
        return
    if name in {"maps: sum pool", "maps: mean pool"}:
        # Windows two rows high in maps of five: the last row is in none.
        spikes = {tap: handed[..., :4, :] for tap, handed in spikes.items()}
    assert of.macs == 0
    assert of.acs == sum(float(handed.sum()) for handed in spikes.values()) * last.out_features


def test_spikes_that_are_delayed_or_scaled_or_fed_back_are_still_spikes() -> None:
    for late in ({"delay": 2}, {"scale": 0.5}):
        layers = [{"linear": 5}, {"lif": {"threshold": 0.1}}, late, {"linear": 3}]
        network = StackConfig.model_validate({"input": [6], "layers": layers}).build([]).eval()
        x = example(network, T, B)
        of = {each.name: each for each in count(network, x, events=False)}["layer4.linear"]
        spikes = network_engine(network, show=True)(x, None).taps[Tap(2, SPIKES)]
        seen = spikes[:-2] if "delay" in late else spikes
        assert (of.macs, of.acs) == (0, float(seen.sum()) * 3)
    network = stack("neuron: feedback")
    x = example(network, T, B)
    of = {each.name: each for each in count(network, x, events=False)}["layer2.feedback"]
    spikes = network_engine(network, show=True)(x, None).taps[Tap(2, SPIKES)]
    assert (of.macs, of.acs) == (0, float(spikes[:-1].sum()) * 5)


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_spikes_of_branches_of_maps_that_meet_are_accumulated(readout: str) -> None:
    block = [{"conv": 2, "padding": 1}, {"lif": {"threshold": 0.1}}]
    layers = [*block, {"residual": block}, {"conv": 3, "kernel": 4}, "flatten", {"linear": 2}]
    config = {"input": [2, 4, 4], "layers": layers, "readout": readout}
    network = StackConfig.model_validate(config).build([]).eval()
    x = example(network, T, B)
    of = {each.name: each for each in count(network, x, events=False)}["layer6.conv"]
    first, second = network_engine(network, show=True)(x, None).taps.values()
    assert (of.macs, of.acs) == (0, float((first + second).sum()) * 3)


@pytest.mark.parametrize("neuron", [{}, SJ], ids=str)
@pytest.mark.parametrize("over", [{"over": "step"}, {"over": "step", "steps": 9}, {"over": "all"}], ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_layout_of_maps_changes_no_gradient(
    neuron: dict[str, Any], over: dict[str, Any], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = {"conv": 3, "padding": 1, "bias": False}
    layers = [conv, {"norm": over}, {"scale": 1.5}, {"norm": over}, {"lif": neuron}, {"pool": "max", "size": 2}, conv]
    config = {"input": [2, 8, 8], "layers": [*layers, {"norm": over}, {"lif": neuron}, "flatten", {"linear": 3}]}
    x, found = torch.randn(T, batch, 2, 8, 8, generator=torch.Generator().manual_seed(1)), []
    for layout in (channels_last, lambda x: x):
        monkeypatch.setattr(stack_module, "channels_last", layout)
        torch.manual_seed(0)
        network = StackConfig.model_validate(config).build([])
        network(x)[0].square().sum().backward()
        found.append([each.grad for each in network.parameters()])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("neuron", ["lif", "several", "plif", "adaptive"])
def test_spikes_that_are_pooled_next_are_pooled_by_the_kernel_and_are_the_same(
    neuron: str, how: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = [{"conv": 3, "padding": 1}, NEURONS[neuron], {"pool": how, "size": 2}]
    config = {"input": [2, 8, 8], "layers": [*block, *block, "flatten", {"linear": 3}]}
    x, found = torch.randn(T, batch, 2, 8, 8, generator=torch.Generator().manual_seed(1)), []
    lengths, taken = torch.tensor([T, 2, 1][:batch]), list[str]()
    pooled = kernels.spiking_pooled
    monkeypatch.setattr(kernels, "spiking_pooled", lambda *given: taken.append(given[-1]) or pooled(*given))  # type: ignore[func-returns-value]
    for way in (Spiking.with_next, Layer.with_next):
        monkeypatch.setattr(Spiking, "with_next", way)
        torch.manual_seed(0)
        network = StackConfig.model_validate(config).build([])
        answer, after = network(x, None, lengths)
        answer.square().sum().backward()
        found.append(([answer, *after.values()], [each.grad for each in network.parameters()]))
    assert taken == [how, how]
    for one, other in zip(*(each for each, _ in found), strict=True):
        assert torch.equal(one, other)
    for ours, expected in zip(*(each for _, each in found), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_who_looks_at_spikes_sees_them_before_they_are_pooled() -> None:
    layers = [{"conv": 3, "padding": 1}, "lif", {"pool": "max", "size": 2}, "flatten", {"linear": 3}]
    network = StackConfig.model_validate({"input": [2, 8, 8], "layers": layers}).build([])
    x, seen = torch.randn(T, 2, 2, 8, 8), list[Tensor]()
    expected = network(x)[0]
    (neurons,) = network.taps.values()
    neurons.register_forward_hook(lambda _module, _given, result: seen.append(result[0]))
    assert torch.equal(network(x)[0], expected)
    assert [each.shape for each in seen] == [(T, 2, 3, 8, 8)]
    # And what it makes of them goes on.
    neurons.register_forward_hook(lambda _module, _given, result: (torch.zeros_like(result[0]), result[1]))
    assert not torch.equal(network(x)[0], expected)


def test_a_sample_alone_is_not_normalised_by_itself() -> None:
    layers = [{"linear": 3}, {"norm": {"over": "step"}}, "lif", {"linear": 2}]
    network = StackConfig.model_validate({"input": [4], "layers": layers}).build([]).train()
    with pytest.raises(RunError, match="layer 2 normalises over a batch with a single value of each channel"):
        network(torch.randn(T, 1, 4))
    network(torch.randn(T, 2, 4))


@pytest.mark.parametrize("shortcut", ["the input", "scaled"])
def test_spikes_of_branches_that_meet_are_accumulated_unless_scaled(shortcut: str) -> None:
    branch: dict[str, Any] = {"residual": [{"linear": 5}, {"lif": {"threshold": 0.1}}]}
    if shortcut == "scaled":
        branch["shortcut"] = [{"scale": 0.5}]
    layers = [{"linear": 5}, {"lif": {"threshold": 0.1}}, branch, {"linear": 3}]
    network = StackConfig.model_validate({"input": [6], "layers": layers}).build([]).eval()
    x = example(network, T, B)
    last = count(network, x, events=False)[-1]
    first, second = network_engine(network, show=True)(x, None).taps.values()
    if shortcut == "scaled":
        assert (last.macs, last.acs) == (float(((first + second) != 0).sum()) * 3, 0)
    else:
        assert (last.macs, last.acs) == (0, float((first + second).sum()) * 3)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("form", ["fused", "triton"])
def test_kernels_take_neurons_in_rows_and_maps(form: Any, shape: tuple[int, ...]) -> None:
    if form == "triton":
        pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            # See tests/models/test_gpu_kernels.py.
            patch.setenv("TRITON_INTERPRET", "1")
        device = "cuda" if form == "triton" and torch.cuda.is_available() else "cpu"
        current = torch.randn(T, B, *shape, generator=torch.Generator().manual_seed(2)).to(device)
        lengths, found = torch.tensor(LENGTHS, device=device), []
        valid = (torch.arange(T, device=device)[:, None] < lengths)[(..., *[None] * len(shape))]
        for each in ("plain", form):
            drive, v0 = current.clone().requires_grad_(), torch.zeros_like(current[0]).requires_grad_()
            with kernels.using(each):
                spikes, after = kernels.spiking(drive, {"v": v0}, Lif(), lengths)
            spikes = torch.where(valid, spikes, 0)
            (spikes.square().sum() + after["v"].square().sum()).backward()
            assert spikes.shape == current.shape
            assert drive.grad is not None
            assert v0.grad is not None
            found.append((spikes.detach(), after["v"].detach(), drive.grad, v0.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("neuron", [{}, SJ, SJ | {"learn": "decay"}, IAF, LEAKY, {"current_decay": 0.5}], ids=str)
def test_neurons_do_not_mind_how_maps_lie_in_memory(neuron: dict[str, Any]) -> None:
    lif, own = Lif.model_validate(neuron), Lif.model_validate(neuron).fresh(())
    rows = torch.randn(T, B, 3, 4, 5, generator=torch.Generator().manual_seed(2)) * 2
    state = {name: torch.rand(B, 3, 4, 5, generator=torch.Generator().manual_seed(3)) for name in lif.states}
    found = []
    for lying in (rows, rows.movedim(2, -1).contiguous().movedim(-1, 2)):
        drive = lying.clone(memory_format=torch.preserve_format).requires_grad_()
        spikes, after = kernels.spiking(drive, state, lif, torch.tensor(LENGTHS), own)
        (spikes.square().sum() + after["v"].square().sum()).backward()
        assert spikes.stride() == lying.stride()
        assert drive.grad is not None
        found.append((spikes, *after.values(), drive.grad))
    assert all(torch.equal(ours, expected) for ours, expected in zip(*found, strict=True))


@pytest.mark.parametrize("name", [name for name in STACKS if name.startswith(("maps", "rows", "readout of maps"))])
def test_a_window_that_goes_through_the_layers_in_parts_gives_what_the_whole_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large maps go through all layers a few steps at a time; dropout that is one for the window is drawn once."""
    network, lengths = stack(name), torch.tensor([7, 3, 5, 1])
    x = example(network, 7, 4)
    for training in (False, True):
        found = []
        for at_once in (2**22, 1):
            monkeypatch.setattr("hstnn_deploy.models.stack._AT_ONCE", at_once)
            mine = copy.deepcopy(network).train(training)
            torch.manual_seed(3)
            answer, state = mine(x, None, lengths)
            found.append({"": answer, **state, **dict(mine.named_buffers())})
        # Of answers at every step, those past a sample's length are unspecified.
        valid = torch.arange(7)[:, None] < lengths
        for key, whole in found[0].items():
            part = found[1][key]
            if key == "" and network.every_step:
                whole, part = whole[valid], part[valid]
            torch.testing.assert_close(part, whole, msg=key)
