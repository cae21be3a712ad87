"""Kernels written from a neuron's step do what the step does; and what is wrong in their text is seen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from hstnn_deploy.models import kernels
from hstnn_deploy.models.kernels import plain
from hstnn_deploy.models.kernels.decayed import least
from hstnn_deploy.models.kernels.generated import compiled, window
from hstnn_deploy.models.kernels.generated.graph import remembered
from hstnn_deploy.models.kernels.generated.source import written
from hstnn_deploy.models.neurons import Lif
from tests.models import mutants
from tests.models.neuron_kinds import KINDS, SHAPES

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())


class Case(NamedTuple):
    """A random window [T, B, n] in float64, and what the layer holds."""

    neuron: Any
    current: Tensor
    state: dict[str, Tensor]
    own: dict[str, Tensor]
    lengths: Tensor | None
    cotangent: Tensor
    state_cotangents: list[Tensor]


def case(
    kind: str, shape: tuple[int, ...], seed: int = 0, lengths: list[int] | None = None, exact: bool = False
) -> Case:
    neuron, generator = KINDS[kind], torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        values = torch.randn(*size, generator=generator, dtype=torch.float64)
        # Eighths, so that membranes meet the threshold exactly.
        return (values * 4).round() / 8 if exact else values

    state = {name: normal(*shape[1:]) for name in neuron.states}
    if "s" in state:
        state["s"] = (state["s"] > 0).to(torch.float64)
    own = {}
    for name, value in neuron.fresh(shape[2:]).items():
        moved = value.detach().double() * (1 + 0.2 * torch.rand(value.shape, generator=generator, dtype=torch.float64))
        own[name] = torch.nn.Parameter(moved) if isinstance(value, torch.nn.Parameter) else moved
    cotangent = normal(*shape)
    valid = None if lengths is None else torch.tensor(lengths)
    if valid is not None:
        cotangent *= (torch.arange(shape[0])[:, None] < valid).view(*shape[:2], *[1] * (len(shape) - 2))
    return Case(neuron, normal(*shape), state, own, valid, cotangent, [normal(*shape[1:]) for _ in state])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    steps, batch, units = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    lengths = None
    if draw(st.booleans()):
        lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    kind = draw(st.sampled_from(sorted(KINDS)))
    found = case(kind, (steps, batch, units), draw(st.integers(0, 2**31)), lengths, draw(st.booleans()))
    match draw(st.sampled_from(["contiguous", "strided", "transposed", "expanded"])):
        case "strided":
            found = found._replace(current=found.current.repeat_interleave(2, dim=2)[..., ::2])
        case "transposed":
            found = found._replace(current=found.current.transpose(0, 2).contiguous().transpose(0, 2))
        case "expanded":
            found = found._replace(current=found.current[:, :1].expand(-1, batch, -1))
        case _:
            pass
    return found


def run(how: Any, given: Case, dtype: torch.dtype, of: str = "both") -> tuple[list[Tensor], list[Tensor]]:
    """Return what is handed out and the states; and the gradients of input, states and what is learned."""
    current = given.current.detach().to(dtype).requires_grad_()
    state = {name: value.to(dtype).clone().requires_grad_() for name, value in given.state.items()}
    own = {name: value.detach().to(dtype).requires_grad_(value.requires_grad) for name, value in given.own.items()}
    out, after = how(current, state, given.neuron, given.lengths, own)
    states = [after[name] for name in given.neuron.states]
    loss = torch.zeros((), dtype=dtype)
    if of != "states":
        loss = loss + (out * given.cotangent.to(dtype)).sum()
    if of != "out":
        for value, cotangent in zip(states, given.state_cotangents, strict=True):
            loss = loss + (value * cotangent.to(dtype)).sum()
    learned = [value for value in own.values() if value.requires_grad]
    inputs = [current, *state.values(), *learned]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    shown = out.detach()
    if given.lengths is not None:
        shown = shown[torch.arange(len(shown))[:, None] < given.lengths]
    return [shown, *(value.detach() for value in states)], list(gradients)


def check(given: Case, of: str = "both") -> None:
    """Compare a kernel with the step it was written from."""
    expected, _ = run(plain.spiking, given, torch.float32, of)
    found, _ = run(window.spiking, given, torch.float32, of)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    expected, gradients = run(plain.spiking, given, torch.float64, of)
    found, ours = run(window.spiking, given, torch.float64, of)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@given(given=cases(), of=st.sampled_from(["out", "states", "both"]))
def test_a_kernel_gives_the_bits_of_its_step_and_its_gradients(given: Case, of: str) -> None:
    check(given, of)


@pytest.mark.parametrize("lengths", [None, [0, 3, 5]])
@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_has_a_kernel(kind: str, lengths: list[int] | None) -> None:
    check(case(kind, (5, 3, 4), lengths=lengths))
    check(case(kind, (5, 3, 2, 3, 2), lengths=lengths, exact=True))


def test_slopes_in_float32_are_right_far_from_the_threshold() -> None:
    for shape in SHAPES:
        neuron = Lif(surrogate=shape, lens=0.02, detach_reset=True)
        x = torch.cat([torch.linspace(-20, 20, 301), torch.tensor([0.6])])[None, None].requires_grad_()
        out, _ = window.spiking(x, {"v": torch.zeros(1, 302)}, neuron)  # type: ignore[misc]
        (found,) = torch.autograd.grad(out.sum(), x)
        expected = neuron.slope.times(torch.ones(302), x[0, 0].detach() - 0.6)
        # Of the sigmoid 1 - (a number near 1) is left: an error of the last bit of 1, and no less.
        peak = float(neuron.slope.times(torch.ones(1), torch.zeros(1)))
        torch.testing.assert_close(found[0, 0], expected, rtol=2e-6, atol=2e-7 * peak)


# What keeps one membrane alone: the others may need more.
@pytest.mark.parametrize("kind", ["zero", "soft", "detached", "reset-to", "adaptive", "integrator", "late"])
def test_few_values_are_kept_for_the_way_back(kind: str) -> None:
    graph, _ = remembered(KINDS[kind], None)
    kept = written(graph, window._step_back(graph, ()).kept, False)
    assert len(kept) == {"adaptive": 2, "integrator": 0}.get(kind, 1)


@pytest.mark.parametrize("kind", ["zero", "soft", "late-soft", "current", "all-learned", "adaptive", "slope-arctan"])
def test_a_wrong_operator_in_a_text_is_seen(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A width of which twice is not 1: else to divide by it and to multiply with it are the same.
    given = case(kind, (6, 3, 5))
    given = given._replace(neuron=given.neuron.model_copy(update={"lens": 0.75}))
    assert mutants.fail(lambda: check(given), monkeypatch) > 10


@pytest.mark.parametrize(
    "kind", ["zero", "adaptive", "all-learned", "integrator", "slope-sigmoid", "slope-exponential"]
)
@pytest.mark.parametrize("lengths", [False, True])
def test_threads_give_the_same(kind: str, lengths: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd sizes: parts that are cut short, and several threads."""
    monkeypatch.setattr(window, "_EACH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    given = case(kind, (3, 3, 2801), lengths=[0, 2, 3] if lengths else None)
    expected, gradients = run(plain.spiking, given, torch.float32)
    found, ours = run(window.spiking, given, torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4 if one.ndim == 0 else 1e-5)


def test_second_derivatives_are_refused() -> None:
    x, state = torch.full((2, 1, 1), 0.5, requires_grad=True), {"v": torch.zeros(1, 1)}
    out, after = window.spiking(x, state, Lif())  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad((out * out).sum(), x, create_graph=True)
    # torch's own decorator has zeros here.
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.functional.hessian(lambda x: kernels.spiking(x, state, Lif())[1]["v"].square().sum(), x)
    with pytest.raises(RuntimeError, match="not a batch"):
        torch.autograd.grad(after["v"], x, torch.ones(3, 1, 1), is_grads_batched=True)


def test_what_hooks_were_given_to_keep_stays_as_it_is() -> None:
    held: list[Tensor] = []
    x, state = torch.randn(4, 2, 3, requires_grad=True), {"v": torch.zeros(2, 3)}
    with torch.autograd.graph.saved_tensors_hooks(lambda each: held.append(each) or each, lambda each: each):  # type: ignore[func-returns-value]
        out, _ = window.spiking(x, state, Lif())  # type: ignore[misc]
    before = [each.clone() for each in held]
    torch.autograd.grad(out.sum(), x)
    assert held
    assert all(map(torch.equal, held, before))


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_without_steps_or_units_leaves_everything_alone(kind: str) -> None:
    for shape in ((0, 3, 4), (3, 0, 4), (3, 2, 0)):
        given = case(kind, shape)
        if shape[0]:
            check(given)
            continue
        found, gradients = run(window.spiking, given, torch.float32)
        assert found[0].shape == shape
        for one, other, before in zip(found[1:], gradients[1:], given.state.items(), strict=False):
            assert torch.equal(one, before[1].float())
            place = list(given.state).index(before[0])
            assert torch.equal(other, given.state_cotangents[place].float())
    x = torch.zeros(0, 2, 1, 4, 6)
    state = {name: x.new_zeros(x.shape[1:]) for name in KINDS[kind].states}
    own = {name: value.detach() for name, value in KINDS[kind].fresh((1, 4, 6)).items()}
    assert window.spiking(x, state, KINDS[kind], None, own, pooled="mean")[0].shape == (0, 2, 1, 2, 3)  # type: ignore[index]


def test_lengths_may_be_no_whole_numbers() -> None:
    given = case("current", (5, 3, 4), lengths=[2, 2, 5])._replace(lengths=torch.tensor([1.5, 2.0, 7.25]))
    check(given)


def test_where_torch_notes_or_replaces_operations_no_machine_code_runs() -> None:
    x, v = torch.randn(4, 2, 3), torch.zeros(2, 3)

    def spikes(x: Tensor) -> Tensor:
        return kernels.spiking(x, {"v": v}, Lif())[0]

    other = 2 * x.flip(0)
    expected = spikes(other)
    assert torch.equal(torch.jit.trace(spikes, x, check_trace=False)(other), expected)
    assert torch.equal(make_fx(spikes)(x)(other), expected)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert spikes(x).shape == x.shape
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        spikes(forward_ad.make_dual(x, x))
    with pytest.raises(RuntimeError, match="functorch"):
        torch.vmap(spikes)(torch.stack([x, other]))


@pytest.mark.parametrize("kind", ["zero", "current", "adaptive", "integrator"])
def test_one_pass_back_leaves_what_another_needs(kind: str) -> None:
    given = case(kind, (4, 2, 3))
    x = given.current.requires_grad_()
    out, _ = window.spiking(x, given.state, given.neuron)  # type: ignore[misc]
    passes = [torch.autograd.grad(out, x, given.cotangent, retain_graph=again)[0] for again in (True, True, False)]
    assert torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], passes[2])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, x, given.cotangent)


@given(given=cases())
def test_arguments_are_left_alone(given: Case) -> None:
    before = [each.clone() for each in (given.current, *given.state.values(), *given.own.values())]
    run(window.spiking, given, torch.float64)
    for one, other in zip(before, (given.current, *given.state.values(), *given.own.values()), strict=True):
        assert torch.equal(one, other)


def test_a_step_of_other_operations_has_no_kernel() -> None:
    class Squashing:
        states: Mapping[str, str] = {"v": "membrane"}

        def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Any = None) -> Any:
            v = o.tanh(o.add(state["v"], drive))
            return v, {"v": v}

    assert window.spiking(torch.zeros(2, 1, 1), {"v": torch.zeros(1, 1)}, Squashing()) is None


def test_a_kernel_is_taken_wherever_llvm_is_and_nobody_asks_for_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.dtype] = []
    mine = window.spiking
    monkeypatch.setattr(window, "spiking", lambda x, *given: taken.append(x.dtype) or mine(x, *given))  # type: ignore[func-returns-value]
    x, v = torch.randn(4, 2, 5), torch.zeros(2, 5)
    kernels.spiking(x, {"v": v}, Lif())
    kernels.spiking(x.double(), {"v": v.double()}, Lif())
    kernels.spiking(x.bfloat16(), {"v": v}, Lif())
    kernels.spiking(x.bfloat16(), {"v": v.bfloat16()}, Lif())
    wanted = [torch.float32, torch.float64, torch.float32]
    assert taken == wanted
    with kernels.using("plain"):
        kernels.spiking(x, {"v": v}, Lif())
    assert taken == wanted
    with kernels.using("fused"):
        kernels.spiking(x, {"v": v}, Lif())
    assert taken == [*wanted, torch.float32]
    monkeypatch.setattr(compiled, "available", lambda: False)
    kernels.spiking(x, {"v": v}, Lif(lowest=-1.0, reset="subtract"))
    assert len(taken) == 4


def test_what_is_handed_out_is_the_same_with_gradients_and_without() -> None:
    given = case("adaptive", (5, 3, 4), lengths=[5, 0, 2])
    x = given.current.float()
    state = {name: value.float() for name, value in given.state.items()}
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        out, after = window.spiking(x.requires_grad_(), state, given.neuron, given.lengths)  # type: ignore[misc]
    assert not out.requires_grad
    other, expected = window.spiking(x, state, given.neuron, given.lengths)  # type: ignore[misc]
    assert other.requires_grad
    assert torch.equal(out, other)
    assert all(torch.equal(after[name], expected[name]) for name in state)
    assert all(torch.equal(before[name], state[name]) for name in state)


def test_what_does_not_fit_is_not_read_past_its_end() -> None:
    """Machine code takes sizes on trust: a state of another shape or type is for other forms, and is refused there."""
    x, v = torch.randn(4, 3, 5), torch.zeros(3, 5)
    wrong: list[tuple[Tensor, Tensor | None]] = [
        (torch.zeros(2, 5), None),
        (torch.zeros(1, 5), None),
        (torch.zeros(5), None),
        (v.double(), None),
        (v, torch.tensor([4, 4])),
        (v, torch.tensor([[4], [4], [4]])),
    ]
    for state, lengths in wrong:
        assert window.spiking(x, {"v": state}, Lif(), lengths) is None
    with pytest.raises(RuntimeError):
        kernels.spiking(x, {"v": torch.zeros(2, 5)}, Lif())
    assert window.spiking(x, {"v": v}, Lif(), torch.tensor([4, 4, 4], dtype=torch.int32)) is not None
    graph, _ = remembered(Lif(), None)
    text = window._forward(graph, (), torch.float32, False, None)
    for bad in (torch.zeros(4, 10), torch.zeros(4, 15).double(), torch.zeros(15, 4).t()):
        with pytest.raises(RuntimeError, match="a kernel over 4 steps of 15 units"):
            window._run(text, [], [x.flatten(1), v.flatten()], None, [bad], None, (4, 15))


def test_what_torch_only_marks_is_read_as_what_it_is() -> None:
    """A gradient that is all zero, or a negative part, may be marked as such: no numbers lie in memory, or others."""
    x, v = torch.randn(4, 3, 5), torch.zeros(3, 5)
    marked = torch.view_as_complex(torch.stack([x, x], -1)).conj().imag
    assert marked.is_neg()
    found, expected = (window.spiking(each, {"v": v}, Lif()) for each in (marked, marked.resolve_neg()))
    assert torch.equal(found[0], expected[0])  # type: ignore[index]
    out, _ = window.spiking(x.requires_grad_(), {"v": v}, Lif())  # type: ignore[misc]
    zero = torch._efficientzerotensor(out.shape)
    (gradient,) = torch.autograd.grad(out, x, zero)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_decays_over_a_long_window_ends_in_zeros(dtype: torch.dtype) -> None:
    """And not in subnormal numbers, with which processors are slow: the products of such a gradient took five times."""
    found = []
    forms: tuple[kernels.Form, ...] = ("fused", "plain")
    for form in forms:
        x = torch.full((1200, 1, 3), -1.0, dtype=dtype, requires_grad=True)  # nobody comes near the threshold
        with kernels.using(form):
            _, after = kernels.spiking(x, {"v": torch.zeros(1, 3, dtype=dtype)}, Lif(decay=0.5))
        (gradient,) = torch.autograd.grad(after["v"].sum(), x)
        found.append(gradient.flatten())
    ours, plain = found
    decayed = plain.abs() <= least(dtype)
    assert plain[decayed].any()
    assert not ours[decayed].any()
    assert torch.equal(ours[~decayed], plain[~decayed])
