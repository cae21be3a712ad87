"""The fast kernels do what the plain ones, the definition, do; and the plain ones do what the equations say."""

import math
from collections.abc import Callable
from typing import NamedTuple, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models.kernels import Form, fused, lstm, plain, rnn, spiking, using
from hstnn_deploy.models.kernels.decayed import least
from hstnn_deploy.models.neurons import Lif, Reset
from hstnn_deploy.models.surrogates import Shape

FORMS = {"plain": plain, "fused": fused}
BOTH: tuple[Form, ...] = ("plain", "fused")
each_form = pytest.mark.parametrize("form", ["plain", "fused"])


class Window(NamedTuple):
    """A random window, [T, B, n], in float64."""

    current: Tensor
    state: Tensor
    lengths: Tensor | None
    neuron: Lif
    cotangent: Tensor
    """Gradient of the outputs; zero at steps past a sample's length, where outputs are unspecified."""
    state_cotangent: Tensor


variants = st.fixed_dictionaries(
    {
        "reset": st.sampled_from(["zero", "subtract"]),
        "fires": st.sampled_from(["above", "at"]),
        "detach_reset": st.booleans(),
        "surrogate": st.sampled_from(get_args(Shape)),
    }
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    steps, batch, units = draw(st.integers(1, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    current = normal(steps, batch, units)
    state = normal(batch, units) if draw(st.booleans()) else torch.zeros(batch, units, dtype=torch.float64)
    neuron = draw(st.sampled_from([Lif(), Lif(decay=0.3, threshold=0.3, lens=0.25), Lif(decay=1, lens=2)]))
    if draw(st.booleans()):
        # Eighths, so that membranes meet the threshold and the edges of the window exactly.
        neuron = Lif(decay=0.5, threshold=0.5, lens=0.5)
        current, state = (current * 4).round() / 4, (state * 4).round() / 4
    if draw(st.booleans()):
        neuron = neuron.model_copy(update=draw(variants))
    match draw(st.sampled_from(["contiguous", "strided", "transposed", "expanded"])):
        case "strided":
            current = current.repeat_interleave(2, dim=2)[..., ::2]
        case "transposed":
            current = current.transpose(0, 2).contiguous().transpose(0, 2)
        case "expanded":
            current = current[:, :1].expand(-1, batch, -1)
        case _:
            pass
    lengths = None
    cotangent = normal(steps, batch, units)
    if draw(st.booleans()):
        lengths = torch.tensor(draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
        cotangent *= (torch.arange(steps)[:, None] < lengths)[..., None]
    return Window(current, state, lengths, neuron, cotangent, normal(batch, units))


def lif(
    current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None, form: Form = "fused"
) -> tuple[Tensor, Tensor]:
    """Run LIF neurons with one membrane; return spikes and the membrane after the window."""
    with using(form):
        spikes, after = spiking(current, {"v": v0}, neuron, lengths)
    return spikes, after["v"]


def valid(window: Window, outputs: Tensor) -> Tensor:
    """Return the outputs at valid steps."""
    if window.lengths is None:
        return outputs
    return outputs[torch.arange(len(outputs))[:, None] < window.lengths]


@given(windows())
def test_fast_lif_emits_the_plain_spikes_and_state_to_the_bit(window: Window) -> None:
    for dtype in (torch.float32, torch.float64):
        current, v0 = window.current.to(dtype), window.state.to(dtype)
        spikes, v = lif(current, v0, window.neuron, window.lengths, form="plain")
        fast_spikes, fast_v = lif(current, v0, window.neuron, window.lengths)
        assert fast_spikes.dtype == fast_v.dtype == dtype
        assert torch.equal(valid(window, spikes), valid(window, fast_spikes))
        assert torch.equal(v, fast_v)


@given(windows(), st.sampled_from(["spikes", "state", "both"]))
def test_fast_lif_has_the_plain_gradients(window: Window, of: str) -> None:
    gradients = []
    for form in BOTH:
        current, v0 = window.current.detach().requires_grad_(), window.state.clone().requires_grad_()
        spikes, v = lif(current, v0, window.neuron, window.lengths, form)
        loss = torch.zeros(())
        if of != "state":
            loss = loss + (spikes * window.cotangent).sum()
        if of != "spikes":
            loss = loss + (v * window.state_cotangent).sum()
        gradients.append(torch.autograd.grad(loss, [current, v0]))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(windows())
def test_fast_lif_under_no_grad_is_the_same(window: Window) -> None:
    expected = lif(window.current.detach().requires_grad_(), window.state, window.neuron, window.lengths)
    with torch.no_grad():
        found = lif(window.current, window.state, window.neuron, window.lengths)
    assert torch.equal(valid(window, expected[0]), valid(window, found[0]))
    assert torch.equal(expected[1], found[1])


@given(windows())
def test_fused_rnn_has_the_plain_outputs_and_gradients(window: Window) -> None:
    units = window.current.shape[-1]
    weight = torch.randn(units, units, dtype=torch.float64, generator=torch.Generator().manual_seed(units))
    results = []
    for form in (plain, fused):
        drive, h0 = window.current.detach().requires_grad_(), window.state.clone().requires_grad_()
        recurrent = weight.clone().requires_grad_()
        outputs = form.rnn(drive, h0, recurrent)
        loss = (outputs * window.cotangent).sum()
        results.append([outputs, *torch.autograd.grad(loss, [drive, h0, recurrent])])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


class LstmWindow(NamedTuple):
    """A random window of LSTM units in float64."""

    drive: Tensor
    h0: Tensor
    c0: Tensor
    weight: Tensor


@st.composite
def lstm_windows(draw: st.DrawFn) -> LstmWindow:
    steps, batch, units = draw(st.integers(1, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drive = normal(steps, batch, 4, units)
    if draw(st.booleans()):
        drive = normal(batch, steps, units, 4).movedim((0, 3), (1, 2))
    return LstmWindow(drive, normal(batch, units), normal(batch, units), normal(units, 4, units))


@given(lstm_windows(), st.sampled_from(["h", "c", "both"]))
def test_fused_lstm_has_the_plain_outputs_and_gradients(window: LstmWindow, of: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (len(window.drive), *window.h0.shape)
    cotangents = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    results = []
    for form in (plain, fused):
        arguments = [each.detach().requires_grad_() for each in window]
        outputs = form.lstm(*arguments)
        used = {"h": [0], "c": [1], "both": [0, 1]}[of]
        loss = torch.stack([(outputs[k] * cotangents[k]).sum() for k in used]).sum()
        found = torch.autograd.grad(loss, arguments, allow_unused=True, materialize_grads=True)
        results.append([*outputs, *found])
    for expected, found_one in zip(*results, strict=True):
        torch.testing.assert_close(found_one, expected, rtol=1e-10, atol=1e-12)


def test_an_lstm_of_no_sample_is_a_window_too() -> None:
    drive, weight = torch.randn(3, 0, 4, 5, requires_grad=True), torch.randn(5, 4, 5, requires_grad=True)
    for form in (plain, fused):
        h, c = form.lstm(drive, torch.zeros(0, 5), torch.zeros(0, 5), weight)
        assert h.shape == c.shape == (3, 0, 5)
        (gradient,) = torch.autograd.grad(h.sum() + c.sum(), weight)
        assert not gradient.any()


@each_form
@given(window=lstm_windows())
def test_lstm_is_torchs_own(form: Form, window: LstmWindow) -> None:
    units, inputs = window.h0.shape[1], 3
    generator = torch.Generator().manual_seed(units)
    w_input = torch.randn(inputs, 4, units, generator=generator, dtype=torch.float64)
    x = torch.randn(len(window.drive), len(window.h0), inputs, generator=generator, dtype=torch.float64)
    reference = torch.nn.LSTM(inputs, units, bias=False, dtype=torch.float64)
    theirs = dict(reference.named_parameters())
    with torch.no_grad():
        theirs["weight_ih_l0"].copy_(w_input.flatten(1).t())
        theirs["weight_hh_l0"].copy_(window.weight.flatten(1).t())
    expected, (h, c) = reference(x, (window.h0[None], window.c0[None]))
    (expected.sum() + c.sum()).backward()
    w_input.requires_grad_()
    w_recurrent = window.weight.clone().requires_grad_()
    with using(form):
        outputs, h_after, c_after = lstm(x, w_input, window.h0, window.c0, w_recurrent)
    (outputs.sum() + c_after.sum()).backward()
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(h_after, h[0])
    torch.testing.assert_close(c_after, c[0])
    for found, other in ((w_input, theirs["weight_ih_l0"]), (w_recurrent, theirs["weight_hh_l0"])):
        assert found.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(found.grad.flatten(1).t(), other.grad)


@given(lstm_windows())
def test_lstm_kernels_leave_their_arguments_alone(window: LstmWindow) -> None:
    for form in (plain, fused):
        arguments = [each.clone() for each in window]
        form.lstm(*arguments)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(arguments, window, strict=True))


@given(windows())
def test_kernels_leave_their_arguments_alone(window: Window) -> None:
    for form in BOTH:
        current, v0 = window.current.clone(), window.state.clone()
        lif(current, v0, window.neuron, window.lengths, form)
        FORMS[form].rnn(current, v0, torch.eye(current.shape[-1], dtype=torch.float64))
        assert torch.equal(current, window.current)
        assert torch.equal(v0, window.state)


@pytest.mark.parametrize("needs", ["current", "v0", "both"])
def test_gradients_reach_only_those_who_ask(needs: str) -> None:
    for form in BOTH:
        current = torch.full((3, 1, 1), 0.5, requires_grad=needs != "v0")
        v0 = torch.full((1, 1), 0.5, requires_grad=needs != "current")
        spikes, v = lif(current, v0, Lif(), form=form)
        (spikes.sum() + v.sum()).backward()
        assert (current.grad is not None) == (needs != "v0")
        assert (v0.grad is not None) == (needs != "current")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gates", [1, 4], ids=["rnn", "lstm"])
def test_gradients_that_decay_over_the_products_of_a_window_end_in_zeros(gates: int, dtype: torch.dtype) -> None:
    """And not in numbers whose products are subnormal, which are slow: a step of a wide rnn took ten times as long."""
    torch.manual_seed(0)
    steps, state = 900 if dtype == torch.float64 else 90, torch.zeros(2, 3, dtype=dtype)
    found = []
    for form in (fused, plain):
        torch.manual_seed(0)
        # An LSTM's cell would keep its gradient: its gates are shut.
        drive = torch.randn(steps, 2, gates, 3, dtype=dtype) - (0 if gates == 1 else 3)
        weight = 0.1 * torch.randn(3, gates, 3, dtype=dtype)
        drive.requires_grad_()
        weight.requires_grad_()
        if gates == 1:
            outputs = form.rnn(drive[:, :, 0], state, weight[:, 0])
        else:
            outputs = form.lstm(drive, state, state, weight)[0]
        found.append(torch.autograd.grad(outputs[-1].sum(), (drive, weight)))
    (ours, our_weight), (theirs, their_weight) = found
    assert theirs[theirs.abs() <= least(dtype)].any()
    assert not (ours.abs() <= least(dtype))[ours != 0].any()
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=16 * least(dtype))
    assert torch.allclose(our_weight, their_weight, rtol=1e-4, atol=1e-12)


def test_fused_kernels_refuse_to_be_differentiated_twice() -> None:
    x = torch.full((2, 1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    state = torch.zeros(1, 1, dtype=torch.float64)
    weight = torch.ones(1, 1, dtype=torch.float64)
    drive, recurrent = x[:, :, None].expand(-1, -1, 4, -1), torch.ones(1, 4, 1, dtype=torch.float64)
    hidden = fused.lstm(drive, state, state, recurrent)[0]
    for outputs in (lif(x, state, Lif())[0], fused.rnn(x, state, weight), hidden):
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad((outputs * outputs).sum(), x, create_graph=True)


def test_plain_kernels_can_be_differentiated_twice() -> None:
    x = torch.full((2, 1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    state = torch.zeros(1, 1, dtype=torch.float64)
    weight, gates = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 4, 1, dtype=torch.float64)
    hidden = plain.lstm(x[:, :, None].expand(-1, -1, 4, -1), state, state, gates)[0]
    for outputs in (lif(x, state, Lif(), form="plain")[0], plain.rnn(x, state, weight), hidden):
        (gradient,) = torch.autograd.grad((outputs.sum() ** 2), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
        assert second.abs().max() > 0


def test_the_form_is_picked_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def noted(name: str) -> Callable[..., Tensor]:
        return lambda drive, *_: called.append(name) or drive  # type: ignore[func-returns-value]

    for name, module in FORMS.items():
        monkeypatch.setattr(module, "rnn", noted(name))
    one = torch.zeros(1, 1)
    rnn(one[None], one, one, one)
    with using("plain"):
        rnn(one[None], one, one, one)
        with using("fused"):
            rnn(one[None], one, one, one)
        rnn(one[None], one, one, one)
    rnn(one[None], one, one, one)
    assert called == ["fused", "plain", "fused", "plain", "fused"]


# One neuron, worked out by hand. All numbers are exact in binary.

NEURON = Lif(decay=0.5, threshold=1.0, lens=0.5)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


@each_form
def test_a_single_neuron_integrates_leaks_fires_and_resets(form: Form) -> None:
    # m:  0.75, 0.375 + 0.75 = 1.125 (fires), 0 + 0.5, 0.25 + 2 (fires), 0 + 1.0 (not above the threshold)
    current = column(0.75, 0.75, 0.5, 2.0, 1.0)
    spikes, v = lif(current, torch.zeros(1, 1, dtype=torch.float64), NEURON, form=form)
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0]
    assert v.item() == 1.0


@each_form
def test_a_single_neuron_continues_from_its_state(form: Form) -> None:
    spikes, v = lif(column(0.5), torch.tensor([[1.25]], dtype=torch.float64), NEURON, form=form)
    assert spikes.item() == 1  # m = 0.625 + 0.5
    assert v.item() == 0


@each_form
@pytest.mark.parametrize(
    ("membrane", "slope"),
    [(0.5, 0.0), (0.5625, 1.0), (1.0, 1.0), (1.4375, 1.0), (1.5, 0.0), (3.0, 0.0), (-1.0, 0.0)],
)
def test_the_surrogate_is_a_window_of_height_one_over_twice_lens(form: Form, membrane: float, slope: float) -> None:
    for lens, height in ((0.5, 1.0), (0.25, 2.0)):
        x = column(1 + (membrane - 1) * lens / 0.5).requires_grad_()
        spikes, _ = lif(x, torch.zeros(1, 1, dtype=torch.float64), Lif(decay=0.5, threshold=1.0, lens=lens), form=form)
        spikes.sum().backward()
        assert x.grad is not None
        assert x.grad.item() == slope * height


@each_form
@pytest.mark.parametrize(
    ("surrogate", "shape"),
    [("triangular", lambda x: max(0.0, 1 - abs(x))), ("arctan", lambda x: 0.5 / (1 + (math.pi / 2 * x) ** 2))],
)
def test_other_surrogates_have_their_shapes(form: Form, surrogate: Shape, shape: Callable[[float], float]) -> None:
    for lens in (0.5, 0.25):
        for membrane in (-1.0, 0.6, 0.9, 1.0, 1.125, 1.6, 3.0):
            neuron = Lif(decay=0.5, threshold=1.0, lens=lens, surrogate=surrogate)
            x = column(membrane).requires_grad_()
            spikes, _ = lif(x, torch.zeros(1, 1, dtype=torch.float64), neuron, form=form)
            spikes.sum().backward()
            assert x.grad is not None
            assert x.grad.item() == pytest.approx(shape((membrane - 1) / lens) / lens, abs=1e-15)


@each_form
def test_a_soft_reset_takes_the_threshold_away(form: Form) -> None:
    # m: 2.5 (fires, leaves 1.5), 0.75 + 0.5 = 1.25 (fires, leaves 0.25), 0.125
    subtracting = NEURON.model_copy(update={"reset": "subtract"})
    spikes, v = lif(column(2.5, 0.5, 0.0), torch.zeros(1, 1, dtype=torch.float64), subtracting, form=form)
    assert spikes.flatten().tolist() == [1, 1, 0]
    assert v.item() == 0.125


@each_form
@pytest.mark.parametrize(
    ("reset", "detached", "expected"),
    # dv/dm at m = 1.25, where the surrogate is 1: (1 - s) - m * w, (1 - s), 1 - threshold * w, 1.
    [("zero", False, -1.25), ("zero", True, 0.0), ("subtract", False, 0.0), ("subtract", True, 1.0)],
)
def test_the_final_state_has_the_gradient_of_its_reset(
    form: Form, reset: Reset, detached: bool, expected: float
) -> None:
    x = column(1.25).requires_grad_()
    neuron = NEURON.model_copy(update={"reset": reset, "detach_reset": detached})
    _, v = lif(x, torch.zeros(1, 1, dtype=torch.float64), neuron, form=form)
    v.sum().backward()
    assert x.grad is not None
    assert x.grad.item() == expected


@each_form
@pytest.mark.parametrize("first", [0.75, 1.25])
def test_the_gradient_flows_through_the_reset(form: Form, first: float) -> None:
    # ds_2/dI_1 = w_2 * decay * ((1 - s_1) - m_1 * w_1), with w_1 = w_2 = 1.
    fired = float(first > 1)
    x = column(first, 1.0 - 0.5 * first * (1 - fired)).requires_grad_()  # m_2 = 1.0, in the window
    spikes, _ = lif(x, torch.zeros(1, 1, dtype=torch.float64), NEURON, form=form)
    spikes[1].sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.5 * ((1 - fired) - first), 1.0]


@each_form
def test_the_final_state_has_a_gradient_too(form: Form) -> None:
    # v = m * (1 - s): dv/dm = (1 - s) - m * w.
    for membrane, expected in ((0.25, 1.0), (0.75, 0.25), (1.25, -1.25), (3.0, 0.0)):
        x = column(membrane).requires_grad_()
        _, v = lif(x, torch.zeros(1, 1, dtype=torch.float64), NEURON, form=form)
        v.sum().backward()
        assert x.grad is not None
        assert x.grad.item() == expected


@each_form
def test_a_single_recurrent_unit_follows_its_equation(form: Form) -> None:
    drive, h0, weight = column(0.3, -1.2), torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[2.0]]).double()
    with using(form):
        outputs, after = rnn(drive, torch.ones(1, 1, dtype=torch.float64), h0, weight)
    first = torch.sigmoid(torch.tensor(0.3 + 0.5 * 2.0, dtype=torch.float64))
    second = torch.sigmoid(-1.2 + first * 2.0)
    torch.testing.assert_close(outputs.flatten(), torch.stack([first, second]))
    assert torch.equal(after, outputs[-1])
