"""Kernels written from the cells of recurrent units do what the cells do; and what is wrong in their text is seen."""

import multiprocessing
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from hstnn_deploy.models import cells, kernels
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.kernels.generated import cell, cell_window, compiled
from hstnn_deploy.models.kernels.generated.source import Text
from hstnn_deploy.models.layers.recurrent import RecurrentConfig
from tests.models import mutants
from tests.models.test_generated_threads import right_in_a_fork

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())


class Kind(NamedTuple):
    """A cell, its gates and states, and whether it has a bias; None: it takes none."""

    step: cell.Step
    gates: int | None
    states: str
    bias: bool | None = None


KINDS = {
    "rnn": Kind(cells.rnn, None, "h"),
    "tanh": Kind(partial(cells.rnn, activation="tanh"), None, "h"),
    "relu": Kind(partial(cells.rnn, activation="relu"), None, "h"),
    "lstm": Kind(cells.lstm, 4, "hc"),
    "gru": Kind(cells.gru, 3, "h", False),
    "gru-bias": Kind(cells.gru, 3, "h", True),
}


class Case(NamedTuple):
    """A random window in float64."""

    kind: Kind
    drive: Tensor
    states: list[Tensor]
    weight: Tensor
    bias: list[Tensor]
    cotangents: list[Tensor]

    @property
    def leaves(self) -> list[Tensor]:
        """What may have a gradient."""
        return [self.drive, *self.states, self.weight, *self.bias]

    def over(self, leaves: list[Tensor]) -> "Case":
        """Return the case with other numbers."""
        count = len(self.states)
        drive, states, weight, bias = leaves[0], leaves[1 : 1 + count], leaves[1 + count], leaves[2 + count :]
        return self._replace(drive=drive, states=states, weight=weight, bias=bias)


def case(name: str, steps: int, batch: int, units: int, seed: int = 0) -> Case:
    kind, generator = KINDS[name], torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    gates = () if kind.gates is None else (kind.gates,)
    states = [normal(batch, units) for _ in kind.states]
    bias = [normal(units)] if kind.bias else []
    weight = normal(units, *gates, units) / units**0.5
    rows = [normal(steps, batch, units) for _ in kind.states]
    return Case(kind, normal(steps, batch, *gates, units), states, weight, bias, rows)


def strided(values: Tensor) -> Tensor:
    return values.repeat_interleave(2, dim=-1)[..., ::2]


def turned(values: Tensor) -> Tensor:
    return values.transpose(0, -1).contiguous().transpose(0, -1)


def spread(values: Tensor) -> Tensor:
    return values[:1].expand_as(values)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    name, seed = draw(st.sampled_from(sorted(KINDS))), draw(st.integers(0, 2**31))
    found = case(name, draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 20)), seed)
    several: tuple[Callable[[Tensor], Tensor], ...] = (torch.clone, strided, turned, spread)
    layouts = st.sampled_from(several)
    return found.over([draw(layouts)(each) for each in found.leaves])


def plainly(given: Case) -> list[Tensor]:
    """Return each state at every step, by the cell as it stands."""
    rows: list[list[Tensor]] = [[] for _ in given.states]
    state = dict(zip(given.kind.states, given.states, strict=True))
    for now in given.drive.unbind(0):
        _, state = given.kind.step(Eager(), now, state, given.weight, *bias_of(given))
        for row, value in zip(rows, state.values(), strict=True):
            row.append(value)
    return [torch.stack(row) for row in rows]


def ours(given: Case) -> list[Tensor]:
    state = dict(zip(given.kind.states, given.states, strict=True))
    found = cell_window.window(given.kind.step, given.drive, state, given.weight, bias_of(given))
    assert found is not None
    assert list(found) == list(given.kind.states)
    return list(found.values())


def bias_of(given: Case) -> list[Tensor | None]:
    return [] if given.kind.bias is None else [*given.bias] or [None]


def run(how: Any, given: Case, dtype: torch.dtype, of: str, wanted: list[bool]) -> list[Tensor]:
    """Return states at every step, and the gradients of what has some."""
    leaves = [each.detach().to(dtype).requires_grad_(needed) for each, needed in zip(given.leaves, wanted, strict=True)]
    rows = how(given.over(leaves))
    pairs = zip(given.kind.states, rows, given.cotangents, strict=True)
    loss = torch.stack([(row * each.to(dtype)).sum() for name, row, each in pairs if name in of]).sum()
    needed = [each for each in leaves if each.requires_grad]
    found = torch.autograd.grad(loss, needed, allow_unused=True, materialize_grads=True) if needed else ()
    return [*(row.detach() for row in rows), *found]


def check(given: Case, of: str = "hc", wanted: list[bool] | None = None) -> None:
    """Compare a kernel with the cell it was written from."""
    wanted = wanted or [True] * len(given.leaves)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        expected, found = (run(how, given, dtype, of, wanted) for how in (plainly, ours))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=close, atol=close)


@given(cases(), st.sampled_from(["h", "hc"]), st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_kernel_does_what_its_cell_does_and_has_its_gradients(given: Case, of: str, wanted: list[bool]) -> None:
    check(given, of, wanted[: len(given.leaves)])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 7), (9, 13, 50), (4, 4, 33)])
def test_every_cell_has_a_kernel(name: str, sizes: tuple[int, int, int]) -> None:
    check(case(name, *sizes))


def test_the_gradient_of_a_cell_alone() -> None:
    check(case("lstm", 4, 3, 5), "c")


def _wrong(source: str, products: bool) -> Iterator[str]:
    """Yield texts with one operation that is another, or one factor of the products."""
    others = {"fadd": "fsub", "fsub": "fadd", "fmul": "fadd", "fdiv": "fmul", "fneg double": "fadd double 0.0,"}
    for found in re.finditer(r"(?<= )(" + "|".join(others) + ")(?= )", source):
        yield source[: found.start()] + others[found[0]] + source[found.end() :]
    for found in re.finditer(r"call double @llvm.fmuladd.f64\(double (%\S+),", source) if products else ():
        yield source[: found.start(1)] + "0.5" + source[found.end(1) :]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru-bias"])
def test_a_wrong_operator_in_a_text_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Samples and units of which some go together and some are left over.
    given = case(name, 3, 5, 11)
    # Of four gates there are whole fours of rows on the way back: what takes single ones of them has nothing to do.
    products = name != "lstm"
    # Each takes its time to compile: every fifth.
    assert mutants.fail(lambda: check(given), monkeypatch, lambda text: list(_wrong(text, products))[::5]) > 5


@pytest.mark.parametrize("name", ["rnn", "tanh"])
def test_gates_are_right_from_the_smallest_numbers_to_the_largest(name: str) -> None:
    exact = {"rnn": torch.sigmoid, "tanh": torch.tanh}[name]
    sizes = torch.logspace(-30, 2, 400, dtype=torch.float64)
    x = torch.cat([sizes, -sizes, torch.linspace(-1, 1, 999, dtype=torch.float64), torch.zeros(1)]).float()
    (found,) = cell_window.window(  # type: ignore[union-attr]
        KINDS[name].step, x[None, None], {"h": torch.zeros(1, len(x))}, torch.zeros(len(x), len(x))
    ).values()
    torch.testing.assert_close(found[0, 0].double(), exact(x.double()), rtol=3e-7, atol=1e-37)


def test_what_is_no_number_stays_none() -> None:
    for name in KINDS:
        given = case(name, 3, 2, 4)
        given.drive[1, 0] = torch.nan
        for row in ours(given.over([each.float() for each in given.leaves])):
            assert row[1:, 0].isnan().all()
            assert not row[0].isnan().any()
            assert not row[:, 1].isnan().any()


def test_a_sample_has_the_same_bits_whatever_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = case("lstm", 7, 11, 37)
    given = given.over([each.float() for each in given.leaves])
    monkeypatch.setattr(cell_window, "_EACH", 1)
    expected = run(ours, given, torch.float32, "hc", [True, True, True, False])
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        again = run(ours, given, torch.float32, "hc", [True, True, True, False])
        assert all(map(torch.equal, again, expected))
    for n in range(11):
        alone = given._replace(
            drive=given.drive[:, n : n + 1],
            states=[each[n : n + 1] for each in given.states],
            cotangents=[each[:, n : n + 1] for each in given.cotangents],
        )
        found = run(ours, alone, torch.float32, "hc", [True, True, True, False])
        for one, whole in zip(found, expected, strict=True):
            assert torch.equal(one, whole[:, n : n + 1] if whole.ndim > 2 else whole[n : n + 1])


def _in_child(queue: "multiprocessing.Queue[bool]") -> None:
    given = case("gru", 5, 4, 16)
    queue.put(bool(torch.isfinite(ours(given)[0]).all()))


def test_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_window, "_EACH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    ours(case("gru", 5, 4, 16))
    assert right_in_a_fork(_in_child)


@given(cases())
def test_arguments_are_left_alone(given: Case) -> None:
    before = [each.clone() for each in (*given.leaves, *given.cotangents)]
    run(ours, given, torch.float64, "hc", [True] * len(given.leaves))
    assert all(map(torch.equal, before, (*given.leaves, *given.cotangents)))


def test_one_pass_back_leaves_what_another_needs() -> None:
    given = case("gru", 4, 2, 3)
    x = given.drive.requires_grad_()
    (rows,) = ours(given)
    passes = [torch.autograd.grad(rows, x, given.cotangents[0], retain_graph=again)[0] for again in (True, False)]
    assert torch.equal(*passes)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(rows, x, given.cotangents[0])


def test_what_was_kept_and_is_changed_in_place_is_noticed() -> None:
    for name in ("rnn", "lstm"):
        given = case(name, 3, 2, 4)
        x = given.drive.requires_grad_()
        rows = ours(given)
        with torch.no_grad():
            rows[0].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(rows[0].sum(), x)


def test_second_derivatives_are_refused() -> None:
    given = case("lstm", 2, 1, 3)
    x = given.drive.requires_grad_()
    rows = ours(given)[0]
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad((rows * rows).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not a batch"):
        torch.autograd.grad(rows, x, torch.ones(3, *rows.shape), is_grads_batched=True)


def test_gradients_that_torch_only_marks_are_read_as_what_they_are() -> None:
    given = case("rnn", 3, 2, 4)
    x = given.drive.requires_grad_()
    (rows,) = ours(given)
    (found,) = torch.autograd.grad(rows, x, torch._efficientzerotensor(rows.shape, dtype=rows.dtype))
    assert not found.any()


def _rnn(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return h of as many units as there are inputs."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype)
    return kernels.rnn(x, eye, torch.zeros(x.shape[1:], dtype=x.dtype), eye / 2 if weight is None else weight)[0]


def test_where_torch_notes_or_replaces_operations_no_machine_code_runs() -> None:
    x = torch.randn(9, 2, 3)
    other = 2 * x.flip(0)
    with kernels.using("fused"):
        expected = _rnn(other)
    assert torch.equal(torch.jit.trace(_rnn, x, check_trace=False)(other), expected)
    assert torch.equal(make_fx(lambda x: _rnn(x))(x)(other), expected)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert _rnn(x).shape == x.shape
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        _rnn(forward_ad.make_dual(x, x))


class Taken:
    """What a kernel was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        mine = cell_window._run

        def run(text: Text, arrays: Any, shape: Any) -> None:
            self.shapes.append(tuple(shape))
            mine(text, arrays, shape)

        monkeypatch.setattr(cell_window, "_run", run)

    def by(self, x: Tensor, weight: Tensor | None = None) -> bool:
        """Whether a kernel runs units on such inputs."""
        before = len(self.shapes)
        _rnn(x, weight)
        return len(self.shapes) > before


def test_a_kernel_is_taken_where_it_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, x = Taken(monkeypatch), torch.randn(9, 2, 5)
    assert taken.by(x)
    for other in (x[:7], x.double(), torch.randn(9, 100, 200), torch.randn(9, 1, 513)):
        assert not taken.by(other), other.shape
    for form in ("plain", "fused"):
        with kernels.using(form):
            assert not taken.by(x)
    with kernels.using("generated"):
        assert all(taken.by(each) for each in (x[:1], x.double(), torch.randn(9, 1, 513)))
    with torch.autocast("cpu", torch.bfloat16):
        assert taken.by(x)
    monkeypatch.setattr(compiled, "available", lambda: False)
    assert not taken.by(x)
    with kernels.using("generated"):
        assert not taken.by(x)


def test_what_does_not_fit_is_not_read_past_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code takes sizes on trust: what is of another shape or type is for other forms, and is refused there."""
    taken, x = Taken(monkeypatch), torch.randn(9, 2, 5)
    for weight in (torch.zeros(5, 4), torch.zeros(4, 5), torch.zeros(5, 5).double()):
        with pytest.raises(RuntimeError):
            _rnn(x, weight)
    wide = torch.zeros(5, 5)
    for state in (torch.zeros(3, 5), torch.zeros(2, 4), torch.zeros(2, 5).double()):
        with pytest.raises(RuntimeError):
            kernels.rnn(x, wide, state, wide)
    gates = torch.zeros(5, 4, 5)
    with pytest.raises(RuntimeError):
        kernels.lstm(x, gates, torch.zeros(2, 5), torch.zeros(3, 5), gates)
    assert taken.shapes == []
    text = cell_window._forward(cell.noted(cells.rnn, None, ("h",), None), (), torch.float32)
    good = [x, wide, x[0], torch.zeros(2, 5), torch.empty(9, 2, 5)]
    for n, bad in ((0, x.double()), (1, torch.zeros(4, 5)), (3, torch.zeros(5, 2).t()), (4, torch.empty(8, 2, 5))):
        with pytest.raises(RuntimeError, match="a kernel over 9 steps of 2 samples of 5 units"):
            cell_window._run(text, [*good[:n], bad, *good[n + 1 :]], x.shape)


@pytest.mark.parametrize("lengths", [None, [9, 0, 4]])
def test_states_are_those_of_the_last_valid_step(lengths: list[int] | None) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x, valid = normal(9, 3, 2), None if lengths is None else torch.tensor(lengths)
    h0, c0, of_rnn, of_lstm = normal(3, 5), normal(3, 5), normal(5, 5), normal(5, 4, 5)
    found = []
    for form in ("generated", "plain"):
        with kernels.using(form):
            rnn = kernels.rnn(x, torch.ones(2, 5), h0, of_rnn, valid)
            found.append([rnn[1], *kernels.lstm(x, torch.ones(2, 4, 5), h0, c0, of_lstm, valid)[1:]])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("what", [{"gru": 6}, {"gru": 6, "bias": True}, {"rnn": 6, "nonlinearity": "tanh"}])
@pytest.mark.parametrize("lengths", [None, [9, 0, 4]])
def test_layers_of_other_cells_take_it_too(
    what: dict[str, Any], lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    taken, (layer, _) = Taken(monkeypatch), RecurrentConfig(**what).build((5,))
    for bias in layer.biases():
        torch.nn.init.normal_(bias)
    x, state = torch.randn(9, 3, 5), {"h": torch.randn(3, 6)}
    valid = None if lengths is None else torch.tensor(lengths)
    results = []
    for form in ("generated", "plain"):
        with kernels.using(form):
            rows, after = layer(x, state, valid)
        rows = rows if valid is None else rows * (torch.arange(9)[:, None] < valid)[..., None]
        gradients = torch.autograd.grad((rows.square().sum() + after["h"].sum()), list(layer.parameters()))
        results.append([rows, after["h"], *gradients])
        assert bool(taken.shapes) == (form == "generated")
        taken.shapes.clear()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)
