"""The GPU's kernels do what the plain ones do on the CPU. Without a GPU, those of neurons run in Triton's interpreter.

What the interpreter cannot show, Triton's own compiler and assembler do: that kernels compile, and that no product and
sum are fused to one, which would round once where the step rounds twice.
"""

import linecache
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hstnn_deploy as hd
from hstnn_deploy.models import kernels
from hstnn_deploy.models.kernels import gpu
from hstnn_deploy.models.kernels.generated import graph, reverse, triton_window
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif
from tests import own_parts
from tests.conftest import PATIENCE
from tests.models.gpu_windows import DEVICE, Window, assert_same, definition, fires, run, window, windows, written
from tests.models.neuron_kinds import KINDS

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, and with the dev extra on x86-64 Linux")

HALVES = (torch.bfloat16, torch.float16)
few = settings(max_examples=25, deadline=None)
fewer = settings(max_examples=12, deadline=None)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, have the kernels run in Triton's interpreter: they ask for it when they are made."""
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


@few
@given(windows)
def test_neurons_have_the_bits_of_their_step_and_its_gradients(of: Window) -> None:
    assert_same(of)


@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_has_a_kernel(kind: str) -> None:
    assert_same(window(3, 3, (4,), KINDS[kind], 1, padded=True))
    assert_same(window(2, 2, (2, 3, 4), KINDS[kind], 2))


@pytest.mark.parametrize("kind", ["detached", "soft", "cancels"])
def test_packed_bits_reach_over_several_words(kind: str) -> None:
    assert_same(window(35, 2, (2,), KINDS[kind], 1, padded=True))
    if kind == "detached":
        assert_same(window(32, 1, (1, 2, 3), KINDS[kind], 2))


@fewer
@given(windows, st.sampled_from(HALVES))
def test_currents_of_half_precision_have_a_single_precision_state(of: Window, dtype: torch.dtype) -> None:
    (expected, gradients), (found, ours) = run(definition, of), run(written, of, dtype)
    exact = fires(of.neuron) and getattr(of.neuron, "fires", "above") != "several"
    assert found[0].dtype == (dtype if exact else torch.float32)
    assert all(each.dtype == torch.float32 for each in [*found[1:], *ours[1:]])
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(other.float(), one)
    # The gradient of the current is rounded once, when it is written.
    assert ours[0].dtype == dtype
    torch.testing.assert_close(ours[0].float(), gradients[0], rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
    for one, other in zip(gradients[1:], ours[1:], strict=True):
        close = 1e-4 if one.ndim == 0 else 1e-5
        torch.testing.assert_close(other, one, rtol=close, atol=close)


@fewer
@given(windows)
def test_neurons_under_no_grad_are_the_same_and_keep_nothing(of: Window) -> None:
    with torch.no_grad():
        out, after = written(of.current, of.state, of.neuron, of.lengths, of.own, of.pooled)
        expected, states = definition(of.current, of.state, of.neuron, of.lengths, of.own, of.pooled)
    assert torch.equal(of.valid(out), of.valid(expected))
    assert all(torch.equal(after[name], states[name]) for name in of.neuron.states)
    text = triton_window._forward(graph.remembered(of.neuron, of.own)[0], None, False, of.pooled)
    assert not re.search("kept|bits", text.source)


@pytest.mark.parametrize("which", ["out", "states"])
def test_gradients_of_one_result_alone(which: str) -> None:
    for shape in ((4,), (1, 2, 3)):
        of = window(3, 2, shape, AdaptiveLif())
        found: list[Tensor] = []
        for how in (definition, written):
            current = of.current.detach().requires_grad_()
            out, after = how(current, of.state, of.neuron, None, {}, of.pooled)
            results = {"out": ([out], [of.given]), "states": ([after["v"]], [of.later["v"]])}
            found += torch.autograd.grad(results[which][0], current, results[which][1])
        torch.testing.assert_close(*found)


def kept_bytes(current: Tensor, neuron: Any) -> int:
    """Return the bytes that wait for the way back."""
    sizes: list[int] = []
    state = {name: torch.zeros(current.shape[1:], device=DEVICE) for name in neuron.states}
    x = current.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda each: sizes.append(each.nbytes) or each, lambda each: each):  # type: ignore[func-returns-value]
        triton_window.spiking(x, state, neuron)
    return sum(sizes)


def test_what_is_kept_is_the_fewest_bytes() -> None:
    current = torch.zeros(28, 2, 50, device=DEVICE)
    word, numbers = 4 * 100, 4 * 28 * 100
    for neuron, size in (
        (Lif(), numbers),
        (Lif(surrogate="arctan", detach_reset=True), numbers),
        (Lif(reset="subtract"), word),
        (Lif(detach_reset=True), 2 * word),
        (Lif(reset="none"), word),
        (Lif(current_decay=0.5, reset="subtract"), word),
        (AdaptiveLif(), numbers + 2 * word),
        (Integrator(), 0),
        (Integrator(threshold=0.5, reset="zero"), word),
    ):
        assert kept_bytes(current, neuron) == size


def test_the_kernels_refuse_to_be_differentiated_twice() -> None:
    x = torch.full((2, 1, 1), 0.5, device=DEVICE, requires_grad=True)
    for neuron in (Lif(), AdaptiveLif(), Lif(detach_reset=True)):
        state = {name: torch.zeros(1, 1, device=DEVICE) for name in neuron.states}
        out, _ = triton_window.spiking(x, state, neuron)  # type: ignore[misc]
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad((out * out).sum(), x, create_graph=True)


@pytest.mark.parametrize("kind", ["soft", "current", "adaptive", "integrator"])
def test_one_pass_back_leaves_what_another_needs_and_arguments_as_they_are(kind: str) -> None:
    of = window(4, 2, (3,), KINDS[kind])
    before = [each.clone() for each in (of.current, *of.state.values())]
    x = of.current.to(DEVICE).requires_grad_()
    state = {name: each.to(DEVICE) for name, each in of.state.items()}
    out, _ = triton_window.spiking(x, state, of.neuron)  # type: ignore[misc]
    one, other = (torch.autograd.grad(out, x, of.given.to(DEVICE), retain_graph=again)[0] for again in (True, False))
    assert torch.equal(one, other)
    for was, each in zip(before, (x, *state.values()), strict=True):
        assert torch.equal(was, each.detach().cpu())


# ------------------------------------------------------------------------------------------ what is wrong in their text


def _wrong(source: str) -> Iterator[str]:
    """Yield texts with one operator of a step that is another."""
    others = {" + ": " - ", " - ": " + ", " * ": " + ", " / ": " * ", " > ": " < ", " < ": " >= ", "= -": "= "}
    step = re.compile(r" +(add|sub|mul|div|neg|below|spike|at_least|then_\w+|total)\d+\w* \+?= ")
    for found in re.finditer("|".join(map(re.escape, others)), source):
        line = source[source.rindex("\n", 0, found.start()) + 1 : source.index("\n", found.end())]
        if step.match(line):
            yield source[: found.start()] + others[found[0]] + source[found.end() :]


@pytest.mark.skipif(DEVICE.type != "cpu", reason="hundreds of kernels to compile; the interpreter tries them")
@pytest.mark.parametrize("kind", ["all-learned", "adaptive"])
def test_a_wrong_operator_in_a_text_is_seen(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A width of which twice is not 1: else to divide by it and to multiply with it are the same.
    of = window(3, 2, (5,), KINDS[kind].model_copy(update={"lens": 0.75}))
    texts: list[str] = []
    made = triton_window.function
    monkeypatch.setattr(triton_window, "function", lambda text: texts.append(text) or made(text))  # type: ignore[func-returns-value]
    assert_same(of)
    seen = 0
    for text, wrong in [(each, wrong) for each in dict.fromkeys(texts) for wrong in _wrong(each)]:
        monkeypatch.setattr(
            triton_window,
            "function",
            lambda asked, text=text, wrong=wrong: made.__wrapped__(wrong if asked == text else asked),
        )
        with pytest.raises(AssertionError):
            assert_same(of)
        seen += 1
    assert seen > 8


# --------------------------------------------------------------------------------------------------- who is given what


def test_a_text_is_no_file_and_stays_where_triton_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kernel = triton_window.function.__wrapped__("@triton.jit\ndef run(x):\n    tl.store(x, 1.0)\n")
    linecache.checkcache()
    assert kernel.fn.__code__.co_filename in linecache.cache
    assert not Path(kernel.fn.__code__.co_filename).exists()
    x = torch.zeros(1, device=DEVICE)
    kernel[(1,)](x)
    assert float(x) == 1
    assert not list(tmp_path.iterdir())


class _Squashing:
    states: Mapping[str, str] = {"v": "membrane"}
    tap = "v"

    def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Any = None) -> Any:
        v = o.tanh(o.add(state["v"], drive))
        return v, {"v": v}


def test_what_there_is_no_kernel_of_is_run_step_by_step() -> None:
    x, maps = torch.ones(2, 1, 3, device=DEVICE), torch.ones(2, 1, 1, 2, 2, device=DEVICE)
    assert triton_window.spiking(x, {"v": x[0]}, _Squashing()) is None
    assert triton_window.spiking(maps, {"m": maps[0]}, Integrator(), pooled=True) is None
    assert triton_window.spiking(x[:, :0], {"v": x[0, :0]}, Lif()) is None
    each = Lif(each={"threshold": "unit"})
    for wrong in (torch.full((3,), 0.6, dtype=torch.float64), torch.full((2, 1, 3), 0.6)):
        assert triton_window.spiking(x, {"v": x[0]}, each, own={"threshold": wrong.to(DEVICE)}) is None
    assert (
        triton_window.spiking(x, {"v": x[0]}, each, own={"threshold": torch.full((1, 3), 0.6, device=DEVICE)})
        is not None
    )
    squashing: Any = _Squashing()
    with kernels.using("triton"):
        out, _ = kernels.spiking(x, {"v": torch.zeros_like(x[0])}, squashing)
        pooled, _ = kernels.spiking_pooled(maps, {"m": torch.zeros_like(maps[0])}, Integrator())
    torch.testing.assert_close(out[0], torch.tanh(x[0]))
    assert pooled.flatten().tolist() == pytest.approx([1, 1.9])


class _Long:
    """A unit of many operations, each of which bends."""

    states: Mapping[str, str] = {"v": "what is left"}
    tap = "v"

    def fresh(self, _: tuple[int, ...]) -> dict[str, Tensor]:
        return {}

    def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Any = None) -> Any:
        v = o.add(o.mul(state["v"], 0.5), drive)
        for n in range(16):
            v = o.add(o.mul(o.clip(o.mul(v, v), None, 0.25 + n), 0.5), o.mul(v, 0.25))
        return v, {"v": v}


def test_a_step_of_many_operations_has_a_kernel() -> None:
    assert len(graph.noted(_Long(), None)[0].nodes) > reverse._MANY
    assert_same(window(3, 2, (3,), _Long()))


def test_every_neuron_takes_this_form_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[graph.Graph] = []
    mine = graph.remembered
    monkeypatch.setattr(triton_window, "remembered", lambda *of: taken.append(mine(*of)[0]) or mine(*of))  # type: ignore[func-returns-value]
    monkeypatch.setattr(gpu, "serves", lambda state: state.dtype == torch.float32)
    x, maps = torch.ones(2, 1, 3, device=DEVICE), torch.ones(2, 1, 1, 2, 2, device=DEVICE)
    zero, flat = torch.zeros(1, 1, 2, 2, device=DEVICE), torch.zeros(1, 3, device=DEVICE)
    kernels.spiking(x, {"v": flat}, Lif())
    kernels.spiking(maps, {"v": zero}, Lif())
    kernels.spiking_pooled(maps, {"v": zero}, Lif())
    for neuron in (Lif(fires="at", input_decay=True), AdaptiveLif(), Integrator(), Lif(learn=["decay"])):
        own = {name: each.to(DEVICE) for name, each in neuron.fresh((3,)).items()}
        kernels.spiking(x, dict.fromkeys(neuron.states, flat), neuron, own=own)
    kernels.spiking_pooled(maps, {"v": zero, "a": zero}, AdaptiveLif())
    halves, _ = kernels.spiking(x.bfloat16(), {"v": flat}, Lif(input_decay=True))
    assert halves.dtype == torch.bfloat16
    assert len(taken) == 9
    forms: tuple[kernels.Form, ...] = ("plain", "fused")
    for form in forms:
        with kernels.using(form):
            kernels.spiking(x, {"v": flat}, Lif())
    kernels.spiking(x.double(), {"v": flat.double()}, Lif())
    assert len(taken) == 9


@pytest.mark.usefixtures("no_parts")
@pytest.mark.parametrize("kind", ["quadratic", {"low-pass": {"keep": 0.9}}])
def test_neurons_of_ones_own_take_it_too(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    mine = triton_window.spiking
    monkeypatch.setattr(triton_window, "spiking", lambda *of: taken.append(of) or mine(*of))  # type: ignore[func-returns-value]
    own_parts.register()
    network = hd.Stack([kind], input=[4], readout="sum").to(DEVICE)
    x, lengths = torch.randn(5, 2, 4).to(DEVICE), torch.tensor([5, 3], device=DEVICE)
    layer: Any = network.layers[0]
    found = []
    forms: tuple[kernels.Form, ...] = ("plain", "triton")
    for form in forms:
        with kernels.using(form):
            current = x.clone().requires_grad_()
            state = {name: torch.full((2, 4), 0.25, device=DEVICE) for name in layer.carries}
            _, after = layer(current, state, lengths)
            loss = sum(each.sum() for each in after.values())
            found.append([*after.values(), *torch.autograd.grad(loss, [current, *layer.parameters()])])
    assert len(taken) == 1
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


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
import re
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from hstnn_deploy.models.kernels.generated import graph, reverse, triton_text, triton_window
from tests.models.neuron_kinds import KINDS

WHOLE = ("steps", "neurons", "units", "stride", "stride_kept")
SIZES = {"BLOCK": 128, "H": 8, "W": 8}


def kind_of(name):
    if name in SIZES:
        return "constexpr"
    if name in WHOLE:
        return "i32"
    if re.fullmatch("k[0-9]+", name):
        return "fp32"
    return "*i64" if name == "lengths" else "*i32" if name.startswith("bits") else "*fp32"


for kind, generation in (("several", 80), ("all-learned", 90)):
    neuron = KINDS[kind]
    step, operands = graph.noted(neuron, neuron.fresh((4,)))
    learned = [n for n, each in enumerate(operands) if each.requires_grad]
    back = reverse.backward(step, learned, packed=True)
    for write in (triton_text.forward, triton_text.backward):
        for pooled in (False, True):
            kernel = triton_window.function(write(step, back, pooled, pooled).source)
            signature = {name: kind_of(name) for name in kernel.arg_names}
            fixed = {(place,): SIZES[name] for place, name in enumerate(kernel.arg_names) if name in SIZES}
            source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
            made = compile(source, target=GPUTarget("cuda", generation, 32), options={"enable_fp_fusion": False})
            assert made.asm["cubin"]
            assert "fma.rn.f32" not in made.asm["ptx"], "the membranes would not be those of the step"
            print(kind, write.__name__, pooled)
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
