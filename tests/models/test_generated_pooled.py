"""Kernels that pool what neurons hand out, over maps in either layout, do what the step and torch's pooling do."""

from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.models import kernels
from hstnn_deploy.models.eager import lies_by_pixels
from hstnn_deploy.models.kernels import plain
from hstnn_deploy.models.kernels.generated import compiled, window
from hstnn_deploy.models.neurons import Integrator, Lif
from tests.conftest import in_part
from tests.models import mutants
from tests.models.neuron_kinds import KINDS
from tests.models.test_generated import Case, case, run

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())

How = Literal["mean", "max"]
HOWS: tuple[How, ...] = ("mean", "max")
each_how = pytest.mark.parametrize("how", HOWS)
each_layout = pytest.mark.parametrize("pixels", [False, True])
SPIKING = sorted(kind for kind in KINDS if not kind.startswith(("integrator", "bent")))
"""Those of which the mean of four is exact, in whatever order they are added."""
BOTH = (torch.float32, torch.float64)


def by_pixels(x: Tensor) -> Tensor:
    """Return the same maps with the channels of a pixel side by side in memory."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def expected_of(how: How) -> Any:
    """Return what runs the step itself, and then torch's pooling, over maps in the usual layout."""

    def run(current: Tensor, state: Any, neuron: Any, lengths: Any, own: Any) -> Any:
        spikes, after = plain.spiking(current.contiguous(), state, neuron, lengths, own)
        if how == "mean":
            return plain.pooled(spikes), after
        return functional.max_pool2d(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2]), after

    return run


def kernel_of(how: How, pixels: bool) -> Any:
    """Return what runs the kernel that pools, over maps in one layout."""

    def run(current: Tensor, state: Any, neuron: Any, lengths: Any, own: Any) -> Any:
        if pixels:
            current = by_pixels(current)
        found = window.spiking(current, state, neuron, lengths, own, how)
        assert found is not None
        out, after = found
        if lies_by_pixels(current):
            assert all(each.movedim(-3, -1).is_contiguous() for each in (out, *after.values()))
        return out, after

    return run


def check(given: Case, how: How, pixels: bool, dtypes: tuple[torch.dtype, ...] = BOTH) -> None:
    """Compare a kernel with the step that it was written from, and torch's pooling."""
    given = given._replace(cotangent=given.cotangent[..., ::2, ::2].clone())
    for dtype in dtypes:
        expected, gradients = run(expected_of(how), given, dtype)
        found, ours = run(kernel_of(how, pixels), given, dtype)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
        close = 1e-12 if dtype == torch.float64 else 1e-5
        for one, other in zip(ours, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=close, atol=close)


@st.composite
def windows(draw: st.DrawFn) -> Case:
    steps, batch, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    height, width = 2 * draw(st.integers(1, 3)), 2 * draw(st.integers(1, 3))
    lengths = None
    if draw(st.booleans()):
        lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    kind, seed, exact = draw(st.sampled_from(SPIKING)), draw(st.integers(0, 2**31)), draw(st.booleans())
    found = case(kind, (steps, batch, channels, height, width), seed, lengths, exact)
    match draw(st.sampled_from(["contiguous", "strided", "reversed", "expanded", "part"])):
        case "strided":
            found = found._replace(current=found.current.repeat_interleave(2, dim=-1)[..., ::2])
        case "reversed":
            # No layout that a kernel has: the axes in the opposite order.
            found = found._replace(current=found.current.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0))
        case "expanded":
            found = found._replace(current=found.current[:, :1].expand(-1, batch, -1, -1, -1))
        case "part":
            # Channels out of more, which lie side by side.
            more = by_pixels(found.current.repeat(1, 1, 2, 1, 1))
            found = found._replace(current=more[:, :, :channels])
        case _:
            pass
    return found


@given(given=windows(), how=st.sampled_from(HOWS), pixels=st.booleans())
def test_a_kernel_pools_as_torch_does_in_either_layout(given: Case, how: How, pixels: bool) -> None:
    check(given, how, pixels)


@pytest.mark.parametrize(
    ("kind", "lengths", "how", "pixels"), in_part(product(SPIKING, (None, [0, 3]), HOWS, (False, True)), 5)
)
def test_spikes_are_pooled_on_the_way(kind: str, lengths: list[int] | None, how: How, pixels: bool) -> None:
    check(case(kind, (3, 2, 3, 4, 6), lengths=lengths), how, pixels)


@pytest.mark.parametrize("kind", ["zero", "each-learned", "adaptive"])
def test_both_layouts_have_the_same_bits(kind: str) -> None:
    given = case(kind, (4, 2, 5, 4, 6), lengths=[4, 2])
    given = given._replace(cotangent=given.cotangent[..., ::2, ::2])
    for how in HOWS:
        rows, pixels = (run(kernel_of(how, by), given, torch.float32) for by in (False, True))
        for one, other in zip((*rows[0], *rows[1]), (*pixels[0], *pixels[1]), strict=True):
            assert torch.equal(one, other)


@each_layout
def test_the_first_of_equals_takes_the_gradient(pixels: bool) -> None:
    """Squares of every kind: none fires, all do, or some."""
    fires = torch.tensor([[square >> unit & 1 for unit in range(4)] for square in range(16)]).view(16, 2, 2).float()
    x = fires[None, None].requires_grad_()
    (found,) = torch.autograd.grad(
        kernel_of("max", pixels)(x, {"v": torch.zeros(x.shape[1:])}, Lif(lens=100.0), None, {})[0].sum(), x
    )
    taken = found[0, 0].flatten(1) != 0
    assert taken.sum(1).tolist() == [1] * 16
    assert taken.int().argmax(1).tolist() == fires.flatten(1).argmax(1).tolist()


@each_layout
def test_what_is_no_number_is_the_largest(pixels: bool) -> None:
    values = torch.tensor([[1.0, torch.nan, 3.0, 2.0], [torch.nan, 1.0, torch.nan, 9.0], [-1.0, -2.0, -3.0, -0.5]])
    x = values.view(1, 1, 3, 2, 2).requires_grad_()
    neuron = Integrator(decay=0.5)
    state = {name: torch.zeros(x.shape[1:]) for name in neuron.states}
    results = []
    for how in (expected_of("max"), kernel_of("max", pixels)):
        out, _ = how(x, state, neuron, None, {})
        results.append((out.detach(), *torch.autograd.grad(out.sum(), x)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_maps_of_odd_sides_have_no_kernel_that_pools() -> None:
    for sides in ((3, 4), (4, 3)):
        for x in (torch.zeros(2, 1, 3, *sides), by_pixels(torch.zeros(2, 1, 3, *sides))):
            assert window.spiking(x, {"v": x[0]}, Lif(), pooled="mean") is None
            with kernels.using("fused"):
                found, after = kernels.spiking_pooled(x, {"v": x[0]}, Lif())
            assert found.shape == (2, 1, 3, sides[0] // 2, sides[1] // 2)
            assert after["v"].shape == x.shape[1:]


@each_how
@each_layout
@pytest.mark.parametrize("sides", [(2, 2), (6, 50), (2, 3000)])
def test_threads_pool_the_same(sides: tuple[int, int], how: How, pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_EACH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    check(case("zero", (2, 3, 11, *sides)), how, pixels, (torch.float32,))


@each_how
@each_layout
def test_a_wrong_operator_in_a_text_is_seen(how: How, pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A width of which twice is not 1: else to divide by it and to multiply with it are the same.
    given = case("soft", (6, 2, 3, 2, 6))
    given = given._replace(neuron=given.neuron.model_copy(update={"lens": 0.75}))
    assert mutants.fail(lambda: check(given, how, pixels, (torch.float64,)), monkeypatch) > 10


def test_states_in_another_layout_than_the_input_are_taken() -> None:
    given = case("zero", (3, 2, 4, 4, 6))
    x, state = given.current.float(), {name: each.float() for name, each in given.state.items()}
    found: list[tuple[Tensor, Mapping[str, Tensor]]] = []
    for of_x in (Tensor.contiguous, by_pixels):
        for of_state in (Tensor.contiguous, by_pixels):
            moved = {name: of_state(each) for name, each in state.items()}
            found.append(window.spiking(of_x(x), moved, given.neuron, pooled="max"))  # type: ignore[arg-type]
    for out, after in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(after["v"], found[0][1]["v"])


@each_how
@each_layout
@pytest.mark.parametrize("form", ["plain", "fused", "generated", "triton"])
@pytest.mark.parametrize("neuron", [Lif(), Lif(reset="subtract", lowest=-1.0)], ids=["plain", "bounded"])
def test_every_form_pools_the_same_in_either_layout(neuron: Lif, form: kernels.Form, how: How, pixels: bool) -> None:
    if form == "triton":
        pytest.importorskip("triton")
    given = case("zero", (3, 2, 3, 4, 6), lengths=[3, 1])._replace(neuron=neuron)
    given = given._replace(cotangent=given.cotangent[..., ::2, ::2])

    on_gpu = form == "triton" and torch.cuda.is_available()

    def pooled(current: Tensor, state: Any, neuron: Any, lengths: Any, own: Any) -> Any:
        current = by_pixels(current) if pixels else current
        if on_gpu:
            current, state, lengths = (
                current.cuda(),
                {name: each.cuda() for name, each in state.items()},
                lengths.cuda(),
            )
        out, after = kernels.spiking_pooled(current, state, neuron, lengths, own, how)
        return out.cpu(), {name: each.cpu() for name, each in after.items()}

    expected, gradients = run(expected_of(how), given, torch.float32)
    with pytest.MonkeyPatch.context() as patch, kernels.using(form):
        if form == "triton" and not on_gpu:  # in its interpreter: see tests/models/test_gpu_kernels.py
            patch.setenv("TRITON_INTERPRET", "1")
        found, ours = run(pooled, given, torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
