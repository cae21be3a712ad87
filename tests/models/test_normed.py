"""The kernel that normalises and fires does what normalisation and neurons do one after another, and keeps less."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.errors import RunError
from hstnn_deploy.models import kernels
from hstnn_deploy.models.eager import Fast, pooled
from hstnn_deploy.models.layers import Chain, build_chain
from hstnn_deploy.models.layers.units import Spiking
from hstnn_deploy.models.stack import StackConfig

LIF = {"decay": 0.95, "reset": "subtract", "detach_reset": True, "surrogate": {"triangular": 1.0}}


class Outcome(NamedTuple):
    """What a window through a norm and neurons gives."""

    spikes: Tensor
    state: dict[str, Tensor]
    buffers: dict[str, Tensor]
    gradients: list[Tensor]


def chain_of(norm: dict[str, Any], lif: dict[str, Any], shape: tuple[int, ...], kind: str = "lif") -> Chain:
    """Return a norm over each step and neurons, in double precision, with scales and shifts that are not 1 and 0."""
    chain, _ = build_chain([{"norm": {"over": "step"} | norm}, {kind: lif}], shape, "layers")
    for number, layer in enumerate(chain.leaves(), 1):
        layer.number = number
    chain = chain.double().train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in chain.parameters():
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
    return chain


def run(
    chain: Chain, x: Tensor, first: int = 0, form: kernels.Form = "fused", lengths: Tensor | None = None
) -> Outcome:
    """Run a window, and back from weighted spikes and membranes."""
    generator = torch.Generator().manual_seed(2)
    x = x.detach().requires_grad_()
    v = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype).requires_grad_()
    before = {"step1": x.new_full((x.shape[1], 1), first), "v2": v}
    with kernels.using(form):
        spikes, state = chain.run(Fast(lengths), x, before, True)
    weights = [torch.randn(each.shape, generator=generator, dtype=x.dtype) for each in (spikes, state["v2"])]
    loss = (spikes * weights[0]).sum() + (state["v2"] * weights[1]).sum()
    gradients = torch.autograd.grad(loss, [x, v, *chain.parameters()])
    return Outcome(spikes.detach(), state, dict(chain.named_buffers()), list(gradients))


variants = st.fixed_dictionaries(
    {
        "reset": st.sampled_from(["zero", "subtract"]),
        "fires": st.sampled_from(["above", "at"]),
        "detach_reset": st.booleans(),
        "decay": st.sampled_from([0.5, 0.95, 1.0]),
        "surrogate": st.sampled_from([{"triangular": 1.0}, {"arctan": 2.0}]),
        "surrogate_scale": st.sampled_from([1.0, 0.3]),
    }
)


@given(
    lif=variants,
    scale=st.booleans(),
    shift=st.booleans(),
    own=st.booleans(),
    shape=st.sampled_from([(3,), (3, 4), (3, 4, 5)]),
    layout=st.sampled_from(["contiguous", "channels last", "expanded"]),
    steps=st.integers(1, 5),
    batch=st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_norm_and_neurons_at_once_are_the_equations(
    lif: dict[str, Any],
    scale: bool,
    shift: bool,
    own: bool,
    shape: tuple[int, ...],
    layout: str,
    steps: int,
    batch: int,
) -> None:
    """Spikes to the bit, all else to rounding; from any step on, in any layout."""
    batch = max(batch, 2) if len(shape) == 1 else batch
    x = torch.randn(steps, batch, *shape, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    if layout == "channels last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    elif layout == "expanded":
        x = x[:1].expand_as(x)
    norm = {"steps": steps + 2 if own else None, "scale": scale, "shift": shift}
    ours, plain = (run(chain_of(norm, lif, shape), x, 1, form) for form in ("fused", "plain"))
    assert torch.equal(ours.spikes, plain.spikes)
    for found, wanted in ((ours.state, plain.state), (ours.buffers, plain.buffers)):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-13)
    for one, other in zip(ours.gradients, plain.gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lif", LIF | {"input_decay": True, "learn": ["decay"]}),
        ("lif", LIF | {"delayed_reset": True}),
        ("lif", {"current_decay": 0.5, "lowest": -1.0, "reset": "subtract"}),
        ("adaptive", {}),
        ("integrator", {}),
    ],
)
def test_any_neuron_is_normalised_on_the_way(kind: str, options: dict[str, Any]) -> None:
    """Several states, learned numbers, and what hands out no spikes."""
    found = []
    forms: tuple[kernels.Form, ...] = ("fused", "plain")
    for form in forms:
        chain = chain_of({"steps": 4}, options, (3, 2, 2), kind)
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(4, 2, 3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
        units = list(chain.leaves())[1]
        before = {
            f"{name}2": torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
            for name in units.carries
        }
        with kernels.using(form):
            out, state = chain.run(Fast(None), x, {"step1": x.new_zeros(2, 1)} | before, True)
        made = [out, *(state[name] for name in before)]
        weights = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in made]
        loss = sum(((each * weight).sum() for each, weight in zip(made, weights, strict=True)), torch.zeros(()))
        wanted = [x, *before.values(), *chain.parameters()]
        found.append([*made, *torch.autograd.grad(loss, wanted, allow_unused=True)])
    for ours, plain in zip(*found, strict=True):
        assert (ours is None) == (plain is None)
        if ours is not None:
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_what_is_kept_is_the_input_and_the_state_before() -> None:
    """Neither spikes nor membranes nor normalised values, as the two layers keep by themselves."""
    chain, x = chain_of({"steps": 6}, LIF, (3, 4, 4)), torch.randn(6, 2, 3, 4, 4, dtype=torch.float64)

    def kept(form: kernels.Form) -> int:
        storages: dict[int, int] = {}

        def note(value: Tensor) -> Tensor:
            if value.numel() >= x[0].numel():  # no statistics
                storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        before = {"step1": x.new_zeros(2, 1), "v2": x.new_zeros(2, 3, 4, 4)}
        with kernels.using(form), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            results = chain.run(Fast(), x.clone().requires_grad_(), before, True)
        assert len(results) == 2
        return sum(storages.values()) // x[0].nbytes

    assert kept("fused") == 6 + 1
    assert kept("plain") >= 2 * 6


def test_a_hook_on_the_neurons_sees_their_spikes() -> None:
    """What watches spikes while training is told of them, in which way ever they are computed."""
    chain, x = chain_of({"steps": 3}, LIF, (3, 4, 4)), torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    units = next(layer for layer in chain.leaves() if isinstance(layer, Spiking))
    seen: list[Tensor] = []
    handle = units.register_forward_hook(lambda _module, _given, out: seen.append(out[0]))
    outcome = run(chain, x)
    handle.remove()
    assert len(seen) == 1
    assert torch.equal(seen[0], outcome.spikes)


def test_padded_batches_go_the_other_way() -> None:
    """Steps past a sample's length are in no statistics: that the kernel does not know, and is not asked."""
    x, lengths = torch.randn(3, 4, 3, dtype=torch.float64), torch.tensor([3, 2, 3, 1])
    ours, plain = (run(chain_of({"steps": 3}, LIF, (3,)), x, 0, form, lengths) for form in ("fused", "plain"))
    whole = run(chain_of({"steps": 3}, LIF, (3,)), x)
    for name, value in plain.buffers.items():
        assert torch.equal(ours.buffers[name], value)
        assert not torch.equal(whole.buffers[name], value)


def test_what_cannot_be_normalised_is_refused_and_changes_nothing() -> None:
    """More steps than there are normalisations, and a batch with one value of each channel."""
    for x, what in ((torch.randn(4, 2, 3), "a sample has a step 4"), (torch.randn(2, 1, 3), "a single value")):
        chain = chain_of({"steps": 3}, LIF, (3,))
        before = {name: value.clone() for name, value in chain.named_buffers()}
        with pytest.raises(RunError, match=what):
            run(chain, x.double())
        for name, value in chain.named_buffers():
            assert torch.equal(value, before[name])


def test_a_window_in_parts_learns_what_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes four steps at a time where maps are large; the first part's state has its gradient."""
    config = {
        "input": [2, 6, 6],
        "layers": [
            *({"conv": 4, "padding": 1}, {"norm": {"over": "step", "steps": 6}}, {"lif": LIF}),
            *({"pool": "mean", "size": 2}, "flatten", {"linear": 3}),
        ],
    }
    x = torch.randn(6, 3, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    found = []
    for largest in (2**22, 1):
        monkeypatch.setattr("hstnn_deploy.models.stack._AT_ONCE", largest)
        torch.manual_seed(0)
        network = StackConfig.model_validate(config).build([]).train()
        assert min(network._at_once(x), 6) == (6 if largest > 1 else 4)
        functional.cross_entropy(network(x)[0], torch.arange(3)).backward()
        found.append([each.grad for each in network.parameters()])
    for whole, parts in zip(*found, strict=True):
        assert whole is not None
        assert parts is not None
        torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("size", [(2, 2), (1, 4), (8, 8), (3, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_keeps_no_maps_and_has_torchs_gradient(how: Any, size: tuple[int, int], layout: Any) -> None:
    """To the bit, and a second time; windows that leave pixels over are torch's own."""
    maps = torch.randn(2, 3, 8, 8).contiguous(memory_format=layout).requires_grad_()
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        ours = pooled(maps, how, size, size)
    assert bool(kept) == (size == (3, 3))
    theirs = functional.avg_pool2d(maps, size, divisor_override=1 if how == "sum" else None)
    assert torch.equal(ours, theirs)
    weights = torch.randn(ours.shape).requires_grad_()
    (gradient,) = torch.autograd.grad((ours * weights).sum(), maps, create_graph=True)
    (wanted,) = torch.autograd.grad((theirs * weights).sum(), maps, create_graph=True)
    assert torch.equal(gradient, wanted)
    beside = torch.randn_like(maps)
    (again,) = torch.autograd.grad((gradient * beside).sum(), weights)
    (wanted,) = torch.autograd.grad((wanted * beside).sum(), weights)
    torch.testing.assert_close(again, wanted)


def test_it_is_for_one_precision_alone() -> None:
    """A state of another precision, or autocast, takes both layers one after another."""
    x = torch.randn(2, 2, 3)
    assert kernels.takes_normed(x, {"v": x[0]})
    assert not kernels.takes_normed(x.double(), {"v": x[0]})
    assert not kernels.takes_normed(x, {"v": x[0], "i": x[0].double()})
    with torch.autocast("cpu", torch.bfloat16):
        assert not kernels.takes_normed(x, {"v": x[0]})
    with kernels.using("plain"):
        assert not kernels.takes_normed(x, {"v": x[0]})
