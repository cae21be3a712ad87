"""The GPU's kernels do what the plain ones do. Without a GPU they run in Triton's interpreter and on the CPU."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models import kernels
from hstnn_deploy.models.kernels import gpu, plain
from hstnn_deploy.models.neurons import Lif
from tests.conftest import PATIENCE

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, and with the dev extra on x86-64 Linux")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
few = settings(max_examples=25, deadline=None)

neurons = st.builds(
    Lif,
    decay=st.sampled_from([0.6, 0.5, 1.0]),
    threshold=st.sampled_from([0.6, 0.5]),
    lens=st.sampled_from([0.5, 0.3]),
    reset=st.sampled_from(["zero", "subtract"]),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["rectangular", "triangular", "arctan"]),
)


@pytest.fixture(autouse=True, scope="module")
def interpreted() -> None:
    """Without a GPU, have the kernels run in Triton's interpreter: they ask for it when they are imported."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        from hstnn_deploy.models.kernels import lif_triton

        assert lif_triton


class Window(NamedTuple):
    """A random window of one of the two LIF kernels, in float32, its numbers such that bfloat16 holds them too."""

    current: Tensor
    v0: Tensor
    lengths: Tensor | None
    grad_spikes: Tensor
    """Zero at steps past a sample's length, where spikes are unspecified."""
    grad_v: Tensor

    def valid(self, outputs: Tensor) -> Tensor:
        """Return outputs at valid steps."""
        if self.lengths is None:
            return outputs
        return outputs[torch.arange(len(outputs), device=DEVICE)[:, None] < self.lengths]


def window(steps: int, batch: int, shape: tuple[int, ...], seed: int, padded: bool, layout: str) -> Window:
    """Return a window of neurons [n], or of pooled maps [C, H, W]."""
    generator = torch.Generator().manual_seed(seed)

    def eighths(*sizes: int) -> Tensor:
        # So coarse that membranes meet the threshold and the edges of the surrogate's window exactly.
        return ((torch.randn(*sizes, generator=generator) * 8).round() / 8).to(DEVICE)

    current = eighths(steps, batch, *shape)
    match layout:
        case "strided":
            current = current.repeat_interleave(2, dim=-1)[..., ::2]
        case "transposed":
            current = current.transpose(0, 2).contiguous().transpose(0, 2)
        case "expanded":
            current = current[:1].expand(steps, *current.shape[1:])
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator).to(DEVICE) if padded else None
    emitted = shape if len(shape) == 1 else (shape[0], shape[1] // 2, shape[2] // 2)
    grad_spikes = eighths(steps, batch, *emitted)
    if lengths is not None:
        grad_spikes[torch.arange(steps, device=DEVICE)[:, None] >= lengths] = 0
    elif layout == "expanded":
        grad_spikes = grad_spikes[:1].expand(steps, *grad_spikes.shape[1:])  # as that of a sum over time
    return Window(current, eighths(batch, *shape), lengths, grad_spikes, eighths(batch, *shape))


shapes = st.one_of(
    st.tuples(st.sampled_from([1, 5, 130])), st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5))
)
windows = st.builds(
    window,
    st.integers(1, 5),
    st.integers(1, 3),
    shapes,
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from(["contiguous", "strided", "transposed", "expanded"]),
)


def run(form: Any, given_window: Window, neuron: Lif, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return spikes, state, and the gradients of the current and of the state before."""
    current = given_window.current.to(dtype).detach().requires_grad_()
    v0 = given_window.v0.clone().requires_grad_()
    kernel = form.lif if current.ndim == 3 else form.lif_pooled
    spikes, v = kernel(current, v0, neuron, given_window.lengths)
    gradients = torch.autograd.grad(
        [spikes, v], [current, v0], [given_window.grad_spikes.to(dtype), given_window.grad_v]
    )
    return [given_window.valid(spikes).detach(), v.detach(), *gradients]


def assert_same(given_window: Window, neuron: Lif) -> None:
    expected, found = run(plain, given_window, neuron), run(gpu, given_window, neuron)
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(expected[2:], found[2:], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@few
@given(windows, neurons)
def test_lif_has_the_plain_spikes_to_the_bit_and_the_plain_gradients(given_window: Window, neuron: Lif) -> None:
    assert_same(given_window, neuron)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)], ids=["neurons", "maps"])
def test_packed_bits_reach_over_several_words(shape: tuple[int, ...]) -> None:
    for steps, (reset, detached) in itertools.product((32, 35), (("zero", True), ("subtract", False))):
        neuron = Lif(reset=reset, detach_reset=detached)
        assert_same(window(steps, 2, shape, steps, True, "contiguous"), neuron)


@few
@given(windows, neurons, st.sampled_from([torch.bfloat16, torch.float16]))
def test_currents_of_half_precision_have_a_single_precision_state(
    given_window: Window, neuron: Lif, dtype: torch.dtype
) -> None:
    expected, found = run(plain, given_window, neuron), run(gpu, given_window, neuron, dtype)
    assert [each.dtype for each in found] == [dtype, torch.float32, dtype, torch.float32]
    assert torch.equal(found[0].float(), expected[0])
    assert torch.equal(found[1], expected[1])
    # The gradient of the current is rounded once, when it is written.
    torch.testing.assert_close(found[2].float(), expected[2], rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
    torch.testing.assert_close(found[3], expected[3], rtol=1e-5, atol=1e-6)


@few
@given(windows, neurons)
def test_lif_under_no_grad_is_the_same_and_keeps_nothing(given_window: Window, neuron: Lif) -> None:
    with torch.no_grad():
        kernel = gpu.lif if given_window.current.ndim == 3 else gpu.lif_pooled
        spikes, v = kernel(given_window.current, given_window.v0, neuron, given_window.lengths)
    expected = run(plain, given_window, neuron)
    assert torch.equal(given_window.valid(spikes), expected[0])
    assert torch.equal(v, expected[1])


@pytest.mark.parametrize("of", ["spikes", "state"])
def test_gradients_of_one_result_alone(of: str) -> None:
    for shape in ((4,), (1, 2, 3)):
        given_window = window(3, 2, shape, 0, False, "contiguous")
        gradients: list[Tensor] = []
        for form in (plain, gpu):
            current = given_window.current.detach().requires_grad_()
            kernel: Any = form.lif if len(shape) == 1 else form.lif_pooled
            spikes, v = kernel(current, given_window.v0, Lif(), None)
            results = {"spikes": (spikes, given_window.grad_spikes), "state": (v, given_window.grad_v)}
            gradients += torch.autograd.grad(results[of][0], current, results[of][1])
        torch.testing.assert_close(*gradients)


def test_what_is_kept_is_the_fewest_bytes() -> None:
    current = torch.zeros(28, 2, 50, device=DEVICE)
    for neuron, size in (
        (Lif(), 4 * 28 * 100),
        (Lif(surrogate="arctan", detach_reset=True), 4 * 28 * 100),
        (Lif(reset="subtract"), 4 * 100),
        (Lif(detach_reset=True), 2 * 4 * 100),
    ):
        assert gpu._Window.of(current, neuron, needed=True).room(current).nbytes == size
    assert gpu._Window.of(current, Lif(), needed=False).room(current).nbytes <= 4


def test_the_kernels_refuse_to_be_differentiated_twice() -> None:
    x = torch.full((2, 1, 1), 0.5, device=DEVICE, requires_grad=True)
    spikes, _ = gpu.lif(x, torch.zeros(1, 1, device=DEVICE), Lif())
    (gradient,) = torch.autograd.grad((spikes * spikes).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@few
@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31), st.booleans(),
    st.sampled_from(["rnn", "lstm"]), st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_library_recurrences_are_the_plain_ones(
    steps: int, batch: int, inputs: int, units: int, seed: int, padded: bool, unit: str, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)

    gates = (4,) if unit == "lstm" else ()
    states = [normal(batch, units) for _ in range(2 if unit == "lstm" else 1)]
    given_tensors = [normal(steps, batch, inputs), normal(inputs, *gates, units), *states, normal(units, *gates, units)]
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator).to(DEVICE) if padded else None
    valid = torch.ones(steps, batch, 1, dtype=dtype, device=DEVICE)
    if lengths is not None:
        valid = (torch.arange(steps, device=DEVICE)[:, None] < lengths)[..., None].to(dtype)
    cotangents = [normal(steps, batch, units), *(normal(batch, units) for _ in states)]
    results = []
    for form in ("plain", "triton"):
        tensors = [each.clone().requires_grad_() for each in given_tensors]
        with kernels.using(form):
            h, *after = getattr(kernels, unit)(*tensors, lengths)
        outputs = [h * valid, *after]
        results.append([*outputs, *torch.autograd.grad(outputs, tensors, cotangents)])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_float32_state_on_a_gpu_takes_this_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        is_cuda, dtype = True, torch.float32

    assert gpu.serves(OnGpu())  # type: ignore[arg-type]
    assert not gpu.serves(torch.zeros(1))
    monkeypatch.setattr(OnGpu, "dtype", torch.float64)
    assert not gpu.serves(OnGpu())  # type: ignore[arg-type]
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "available", lambda: False)
    assert not gpu.serves(OnGpu())  # type: ignore[arg-type]


COMPILE = """
import itertools
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from hstnn_deploy.models.kernels import lif_triton

constants = {"SOFT": False, "DETACHED": False, "SURROGATE": 0, "KEEP": 1, "LENGTHS": False}
constants |= {"BLOCK": 128, "H": 8, "W": 8}
numbers = {name: "fp32" for name in ("decay", "threshold", "lens", "peak")}
numbers |= {name: "i32" for name in ("steps", "neurons", "maps", "units", "stride", "spike_words_at")}
for name, generation in itertools.product(("forward", "backward", "forward_pooled", "backward_pooled"), (80, 90)):
    kernel = getattr(lif_triton, name)
    kinds = numbers | dict.fromkeys(constants, "constexpr") | {"lengths": "*i64"}
    signature = {argument: kinds.get(argument, "*fp32") for argument in kernel.arg_names}
    fixed = {(place,): constants[name] for place, name in enumerate(kernel.arg_names) if name in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    made = compile(source, target=GPUTarget("cuda", generation, 32), options={"enable_fp_fusion": False})
    assert made.asm["cubin"]
    assert "fma.rn.f32" not in made.asm["ptx"], "the membranes would not be the plain form's"
    print(name, generation)
"""


def test_the_kernels_compile_for_ampere_and_hopper(tmp_path: Path) -> None:
    if not (Path(sys.modules["triton"].__file__ or "").parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("no assembler: it runs where the triton package brings backends/nvidia/bin/ptxas")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
