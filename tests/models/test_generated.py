"""Kernels written from a neuron's step do what the step does; and what is wrong in their text is seen."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
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
from hstnn_deploy.models.kernels.generated import compiled, host, window
from hstnn_deploy.models.kernels.generated.graph import remembered
from hstnn_deploy.models.kernels.generated.source import Text, written
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif

pytestmark = pytest.mark.skipif(not compiled.available(), reason="llvmlite is missing")

SHAPES = ("rectangular", "triangular", "arctan", "sigmoid", "exponential", "fast-sigmoid")


class Bent:
    """A unit with the operations that no neuron of the package has."""

    states: Mapping[str, str] = {"v": "bounded"}
    tap = "v"

    def fresh(self, _: tuple[int, ...]) -> dict[str, Tensor]:
        """Return nothing: it learns nothing."""
        return {}

    def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Any = None) -> Any:
        """Run one step."""
        v = o.clip(o.add(o.mul(state["v"], 0.5), drive), -0.5, 0.75)
        return o.relu(v), {"v": v}


KINDS: dict[str, Any] = {
    "bent": Bent(),
    "zero": Lif(decay=0.75, threshold=0.5),
    "soft": Lif(reset="subtract", fires="at"),
    "detached": Lif(detach_reset=True, input_decay=True),
    "soft-detached": Lif(reset="subtract", detach_reset=True),
    "several": Lif(reset="subtract", fires="several"),
    "none": Lif(reset="none"),
    "late": Lif(delayed_reset=True),
    "late-soft": Lif(delayed_reset=True, reset="subtract"),
    "late-none": Lif(delayed_reset=True, reset="none"),
    "cancels": Lif(delayed_reset=True, cancels_input=True),
    "again": Lif(reset="subtract", reset_again=True),
    "reset-to": Lif(reset_to=-0.25),
    "lowest": Lif(reset="subtract", lowest=-0.5),
    "current": Lif(current_decay=0.5, reset="subtract"),
    "rest": Lif(rest=0.25, input_decay=True),
    "plif": Lif(learn=["decay"], input_decay=True),
    "all-learned": Lif(learn=["decay", "threshold", "current_decay"], current_decay=0.5, learn_as="value"),
    "each": Lif(each={"decay": "unit", "threshold": "channel", "rest": "unit", "reset_to": "unit"}, rest=0.1),
    "each-learned": Lif(learn=["decay", "threshold"], each={"decay": "unit", "threshold": "unit"}, reset="subtract"),
    "scaled": Lif(surrogate="fast-sigmoid", surrogate_scale=0.5),
    **{f"slope-{shape}": Lif(surrogate=shape, lens=0.75) for shape in SHAPES},
    "adaptive": AdaptiveLif(),
    "adaptive-arctan": AdaptiveLif(surrogate="arctan", growth=0.5),
    "integrator": Integrator(),
    "integrator-current": Integrator(current_decay=0.5, input_decay=True, rest=0.5),
    "integrator-each": Integrator(each={"decay": "unit", "rest": "channel"}, rest=0.5),
    "integrator-reset": Integrator(threshold=0.5),
    "integrator-zero": Integrator(threshold=0.5, reset="zero"),
    "integrator-cancels": Integrator(threshold=0.5, reset="zero", cancels_input=True),
}


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


def _pooled(how: Any) -> Any:
    def run(current: Tensor, state: Any, neuron: Any, lengths: Any, own: Any) -> Any:
        if how is window.spiking:
            return how(current, state, neuron, lengths, own, pooled=True)
        spikes, after = how(current, state, neuron, lengths, own)
        return plain.pooled(spikes), after

    return run


def check_pooled(given: Case, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> None:
    given = given._replace(cotangent=given.cotangent[..., ::2, ::2].clone())
    for dtype in dtypes:
        expected, gradients = run(_pooled(plain.spiking), given, dtype)
        found, ours = run(_pooled(window.spiking), given, dtype)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
        close = 1e-12 if dtype == torch.float64 else 1e-5
        for one, other in zip(ours, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=close, atol=close)


@pytest.mark.parametrize("lengths", [None, [0, 3]])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(("integrator", "bent"))])
def test_spikes_are_pooled_on_the_way(kind: str, lengths: list[int] | None) -> None:
    check_pooled(case(kind, (3, 2, 2, 4, 6), lengths=lengths))


def test_maps_of_odd_sides_have_no_kernel_that_pools() -> None:
    for sides in ((3, 4), (4, 3)):
        x = torch.zeros(2, 1, 1, *sides)
        assert window.spiking(x, {"v": x[0]}, Lif(), pooled=True) is None
        with kernels.using("generated"):
            assert kernels.spiking_pooled(x, {"v": x[0]}, Lif())[0].shape == (2, 1, 1, sides[0] // 2, sides[1] // 2)


def test_slopes_in_float32_are_right_far_from_the_threshold() -> None:
    for shape in SHAPES:
        neuron = Lif(surrogate=shape, lens=0.02, detach_reset=True)
        x = torch.cat([torch.linspace(-20, 20, 301), torch.tensor([0.6])])[None, None].requires_grad_()
        out, _ = window.spiking(x, {"v": torch.zeros(1, 302)}, neuron)  # type: ignore[misc]
        (found,) = torch.autograd.grad(out.sum(), x)
        expected = neuron.slope.times(torch.ones(302), x[0, 0].detach() - 0.6)
        # Of the sigmoid 1 - (a number near 1) is left: an error of the last bit of 1, and no less.
        torch.testing.assert_close(found[0, 0], expected, rtol=2e-6, atol=2e-7 * neuron.slope.peak)


# What keeps one membrane alone: the others may need more.
@pytest.mark.parametrize("kind", ["zero", "soft", "detached", "reset-to", "adaptive", "integrator", "late"])
def test_few_values_are_kept_for_the_way_back(kind: str) -> None:
    graph, _ = remembered(KINDS[kind], None)
    kept = written(graph, window._step_back(graph, ()).kept, False)
    assert len(kept) == {"adaptive": 2, "integrator": 0}.get(kind, 1)


def _wrong(source: str) -> Iterator[str]:
    """Yield texts with one operation that is another."""
    others = {"fadd": "fsub", "fsub": "fadd", "fmul": "fadd", "fdiv": "fmul", "ogt": "olt", "olt": "oge"}
    others |= {"fneg double": "fadd double 0.0,"}
    for found in re.finditer(r"(?<= )(" + "|".join(others) + ")(?= )", source):
        yield source[: found.start()] + others[found[0]] + source[found.end() :]


@pytest.mark.parametrize("kind", ["zero", "soft", "late-soft", "current", "all-learned", "adaptive", "slope-arctan"])
def test_a_wrong_operator_in_a_text_is_seen(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the texts in float64: of those alone, gradients are compared."""
    # A width of which twice is not 1: else to divide by it and to multiply with it are the same.
    given = case(kind, (6, 3, 5))
    given = given._replace(neuron=given.neuron.model_copy(update={"lens": 0.75}))
    texts: list[Text] = []
    found = host.called
    monkeypatch.setattr(window, "called", lambda text: found(texts.append(text) or text))  # type: ignore[func-returns-value]
    check(given)
    seen = 0
    for text in dict.fromkeys(texts):
        for wrong in _wrong(text.source) if "double %" in text.source and "fptrunc" not in text.source else ():
            instead = {text: dataclasses.replace(text, source=wrong)}
            monkeypatch.setattr(
                window, "called", lambda asked, instead=instead: found.__wrapped__(instead.get(asked, asked))
            )
            with pytest.raises(AssertionError):
                check(given)
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("sides", [(2, 2), (6, 50), (2, 3000)])
def test_threads_pool_the_same(sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_EACH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    check_pooled(case("zero", (2, 3, 11, *sides)), (torch.float32,))


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
        torch.autograd.functional.hessian(lambda x: kernels.lif(x, state["v"], Lif())[1].square().sum(), x)
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
    assert window.spiking(x, state, KINDS[kind], None, own, pooled=True)[0].shape == (0, 2, 1, 2, 3)  # type: ignore[index]


def test_lengths_may_be_no_whole_numbers() -> None:
    given = case("current", (5, 3, 4), lengths=[2, 2, 5])._replace(lengths=torch.tensor([1.5, 2.0, 7.25]))
    check(given)


def test_where_torch_notes_or_replaces_operations_no_machine_code_runs() -> None:
    x, v = torch.randn(4, 2, 3), torch.zeros(2, 3)

    def spikes(x: Tensor) -> Tensor:
        return kernels.lif(x, v, Lif())[0]

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


def test_a_kernel_is_taken_for_windows_in_float32_where_llvm_is(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.Size] = []
    mine = window.spiking
    monkeypatch.setattr(window, "spiking", lambda x, *given: taken.append(x.shape) or mine(x, *given))  # type: ignore[func-returns-value]
    x = torch.randn(4, 2, 5)
    for each in (x, x.double()):
        kernels.lif(each, torch.zeros(2, 5, dtype=each.dtype), Lif())
    assert taken == [x.shape]
    forms: tuple[kernels.Form, ...] = ("plain", "fused")
    for form in forms:
        with kernels.using(form):
            kernels.lif(x, torch.zeros(2, 5), Lif())
    monkeypatch.setattr(compiled, "available", lambda: False)
    kernels.spiking(x, {"v": torch.zeros(2, 5)}, Lif(lowest=-1.0, reset="subtract"))
    assert taken == [x.shape]
    with kernels.using("generated"):
        kernels.lif(x.double(), torch.zeros(2, 5, dtype=torch.float64), Lif())
    assert len(taken) == 2


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
        kernels.lif(x, torch.zeros(2, 5), Lif())
    assert window.spiking(x, {"v": v}, Lif(), torch.tensor([4, 4, 4], dtype=torch.int32)) is not None
    graph, _ = remembered(Lif(), None)
    text = window._forward(graph, (), torch.float32, False, False)
    for bad in (torch.zeros(4, 10), torch.zeros(4, 15).double(), torch.zeros(15, 4).t()):
        with pytest.raises(RuntimeError, match="a kernel over 4 steps of 15 units"):
            window._run(text, [], [x.flatten(1), v.flatten()], None, [bad], 0, (4, 15))


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
