"""The window kernels of the neurons, in several forms with the same results, and the one place that picks a form.

`plain` is the definition, each unit's own equation step by step, differentiable twice (selection needs that): the
oracle of the tests. `fused` is the fast form for training and inference on a CPU, differentiable once: neurons by
machine code that is compiled from their own step (`generated`), recurrences by hand-written functions. `generated` is
`fused`, and few recurrent units are run by machine code from their cell too, see `cell_window.pays`. `triton` is the
form for GPUs: neurons by one launch a window, written from their own step too, and the recurrences through cuDNN; it is
picked where the state lies on a GPU. Neurons for which there is no such kernel (llvmlite or Triton is missing, or the
step has an operation that kernels have not) are run in the plain form.

Shapes: T time, B batch, I inputs, n units. Every kernel is a pure function over a window and takes `lengths[B]` (int64)
or None; steps at or past a sample's length leave its state alone. What a kernel *emits* at such steps is unspecified.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from hstnn_deploy.models import cells
from hstnn_deploy.models.algebra import Normed
from hstnn_deploy.models.cells import MapForm
from hstnn_deploy.models.eager import lies_by_pixels
from hstnn_deploy.models.kernels import at_rest, fused, gpu, normed, plain
from hstnn_deploy.models.kernels.generated import cell_window, host, triton_window, window
from hstnn_deploy.models.kernels.generated.cell import Step
from hstnn_deploy.models.kernels.normed import StepNorms
from hstnn_deploy.models.neurons import Neuron

Form = Literal["plain", "fused", "generated", "triton"]
Pooled = Literal["mean", "max"]
"""What of each 2x2 of maps is handed out."""

__all__ = [
    "Form",
    "StepNorms",
    "by_its_cell",
    "by_its_step",
    "conv_rnn_pooled",
    "lstm",
    "rnn",
    "spiking",
    "spiking_at_rest",
    "spiking_normed",
    "spiking_pooled",
    "takes_normed",
    "using",
    "writes",
]


class _Recurrences(Protocol):
    def rnn(self, drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor: ...

    def lstm(self, drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]: ...

    def conv_rnn_pooled(
        self, drive: Tensor, h0: Tensor, conv: nn.Conv2d, form: MapForm, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...


_RECURRENT: dict[Form, _Recurrences] = {"plain": plain, "fused": fused, "generated": fused}
_form: ContextVar[Form | None] = ContextVar("kernel form", default=None)


def _picked(state: Tensor) -> Form:
    """Return the form that was asked for, or else the fastest that takes such a state."""
    return _form.get() or ("triton" if gpu.serves(state) else "fused")


class Stepping(Protocol):
    """Neurons of any kind, as far as a kernel is written from them."""

    @property
    def states(self) -> Mapping[str, str]:
        """What they carry, with its meaning."""

    @property
    def step(self) -> Any:
        """From a reading, the input and the states to what is handed out and the states; see `Lif.step`."""


def writes(current: Tensor, state: Mapping[str, Tensor]) -> bool:
    """Whether a window is run by kernels that are written from a step."""
    some = next(iter(state.values()))
    return _on_gpu(some) or (_form.get() != "plain" and window.serves(current, some.dtype))


def _on_gpu(state: Tensor) -> bool:
    """Whether a window with such a state is run by Triton's kernels, which have float32 alone."""
    return _picked(state) == "triton" and state.dtype == torch.float32


def by_its_step(
    current: Tensor,
    state: Mapping[str, Tensor],
    neuron: Stepping,
    lengths: Tensor | None,
    own: Mapping[str, Tensor] | None = None,
    pooled: Pooled | None = None,
    spare: bool = False,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run neurons by the kernel written from their step, if `writes`; None: there is none. See `spiking`."""
    if not writes(current, state):
        return None
    some = next(iter(state.values()))
    with _single(current):
        if _on_gpu(some):
            # Triton's kernels have no maximum.
            other = pooled not in (None, "mean")
            return None if other else triton_window.spiking(current, state, neuron, lengths, own, pooled is not None)
        return window.spiking(current.to(some.dtype), state, neuron, lengths, own, pooled, spare)


def by_its_cell(
    cell: Step,
    drive: Tensor,
    state: Mapping[str, Tensor],
    weight: Tensor,
    *bias: Tensor | None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run recurrent units by the kernel written from their cell, where there is one and it is the fastest.

    Args:
        cell: their equation, see `cells`.
        drive: what depends on the input alone, [T, B, n] or [T, B, gates, n].
        state: what the step before left, each [B, n]; first what they hand out.
        weight: the recurrent weight, [n, n] or [n, gates, n].
        bias: what the cell takes after its weight, if anything: one bias [n] or None.
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        What they hand out, [T, B, n], and the states after the last valid step; None: there is none.
    """
    asked, some = _form.get(), next(iter(state.values()))
    given = [drive, weight, *state.values(), *(each for each in bias if each is not None)]
    if asked not in (None, "generated") or not host.runs(*given):
        return None
    if asked is None and not (some.dtype == torch.float32 and cell_window.pays(drive.shape)):
        return None
    with _single(drive):
        rows = cell_window.window(cell, drive.to(some.dtype), state, weight, bias)
    if rows is None:
        return None
    after = {name: _last_valid(each, state[name], lengths) for name, each in rows.items()}
    return next(iter(rows.values())), after


@contextmanager
def using(form: Form) -> Iterator[None]:
    """Run the block with the named form of every kernel."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def _autocast(driving: Tensor) -> bool:
    return torch.is_autocast_enabled(driving.device.type)


def _single(driving: Tensor) -> AbstractContextManager[object]:
    """Return the context in which a kernel computes in its state's own precision, whatever autocast made of its input.

    A rounding error in a recurrence would be carried from step to step, and move spikes.
    """
    return torch.autocast(driving.device.type, enabled=False) if _autocast(driving) else nullcontext()


def spiking(
    current: Tensor,
    state: dict[str, Tensor],
    neuron: Neuron,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
    spare: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run neurons over a window: by the kernel written from their step, or by that step itself, one after another.

    Args:
        current: input currents I, [T, B, n, …].
        state: what the step before left, each [B, n, …].
        neuron: the constants.
        lengths: valid steps per sample, [B], or None where all steps are valid.
        own: what the neurons have learned, see `Lif.fresh`.
        spare: whether nothing else has the current or keeps it for the way back, so that it may be written over.

    Returns:
        Spikes [T, B, n, …] (of an integrator its membrane), and the state after the last valid step.
    """
    if current.ndim == 5 and lies_by_pixels(current):
        # Kernels walk through memory as it lies; neurons do not mind in which order.
        moved = current.movedim(2, -1)
        spikes, after = spiking(moved, _last(state, 1), neuron, lengths, _last(own or {}, 0), spare)
        return spikes.movedim(-1, 2), _first(after)
    if found := by_its_step(current, state, neuron, lengths, own, spare=spare):
        return found
    with _single(current):
        return plain.spiking(current.to(next(iter(state.values())).dtype), state, neuron, lengths, own)


def spiking_at_rest(
    x: Tensor,
    state: Mapping[str, Tensor],
    neuron: Neuron,
    norm: Normed,
    lengths: Tensor | None,
    own: Mapping[str, Tensor],
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run neurons over a window that is normalised first by statistics at rest, where one kernel for both is faster.

    Args:
        x: what is normalised, [T, B, C, …].
        state: what the step before left, each [B, C, …].
        neuron: the constants.
        norm: the normalisation, one for all steps.
        lengths: valid steps per sample, [B], or None where all steps are valid.
        own: what the neurons have learned, see `Lif.fresh`.

    Returns:
        Spikes [T, B, C, …], and the state after the last valid step; None: there is no such kernel.
    """
    learned = [each for each in (x, norm.scale, norm.shift, *state.values(), *own.values()) if each is not None]
    if torch.is_grad_enabled() and any(each.requires_grad for each in learned):
        return None
    single = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in (*learned, norm.mean))
    if not (single and not _autocast(x) and _form.get() in (None, "generated") and host.runs(x) and at_rest.pays(x)):
        return None
    both, own = at_rest.AfterNorm(neuron), {**own, **at_rest.own(norm)}
    if x.ndim == 5 and lies_by_pixels(x):
        found = by_its_step(x.movedim(2, -1), _last(state, 1), both, lengths, _last(own, 0))
        return None if found is None else (found[0].movedim(-1, 2), _first(found[1]))
    return by_its_step(x, state, both, lengths, own)


def _last(values: Mapping[str, Tensor], axis: int) -> dict[str, Tensor]:
    """Return values of maps with their channels last; others as they are."""
    return {name: each.movedim(axis, -1) if each.ndim == axis + 3 else each for name, each in values.items()}


def _first(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return states of maps [B, H, W, C] with their channels first."""
    return {name: each.movedim(-1, 1) for name, each in state.items()}


def takes_normed(x: Tensor, state: Mapping[str, Tensor]) -> bool:
    """Whether there is a kernel of neurons in such a state whose input is normalised first: see `spiking_normed`."""
    return all(
        _picked(each) in ("fused", "generated") and x.dtype == each.dtype for each in state.values()
    ) and not _autocast(x)


def spiking_normed(
    x: Tensor,
    state: Mapping[str, Tensor],
    neuron: Neuron,
    norms: StepNorms,
    own: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run neurons over a window whose values are normalised at each step by the batch's statistics.

    Args:
        x: what is normalised, [T, B, C, …].
        state: what the step before left, each [B, C, …]; one that `takes_normed`.
        neuron: the constants.
        norms: the normalisations.
        own: what the neurons have learned, see `Lif.fresh`.

    Returns:
        Spikes [T, B, C, …], and the state after the last step.
    """

    def run(current: Tensor, before: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return spiking(current, before, neuron, None, own)

    return normed.spiking(x, state, own or {}, norms, run)


def spiking_pooled(
    current: Tensor,
    state: dict[str, Tensor],
    neuron: Neuron,
    lengths: Tensor | None = None,
    own: Mapping[str, Tensor] | None = None,
    how: Pooled = "mean",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run spiking neurons in maps [T, B, C, H, W] over a window, and hand out the mean or maximum of each 2x2 spikes.

    See `spiking`. Of equal spikes, the gradient of a maximum goes to the first.
    """
    if found := by_its_step(current, state, neuron, lengths, own, pooled=how):
        return found
    spikes, after = spiking(current, state, neuron, lengths, own)
    return plain.pooled(spikes, how), after


def rnn(
    x: Tensor, weight_input: Tensor, h0: Tensor, weight: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run sigmoid recurrent units over a window: h_t = sigmoid(x_t @ weight_input + h_{t-1} @ weight).

    Args:
        x: inputs, [T, B, I].
        weight_input: input weight W_i, [I, n].
        h0: the state left by the step before, [B, n].
        weight: recurrent weight W_h, [n, n].
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        h at every step, [T, B, n], and after the last valid step, [B, n].
    """
    form = _picked(h0)
    # cuDNN would take the input product in single precision, which autocast is there to avoid.
    if form == "triton" and not _autocast(x):
        h = gpu.rnn(x, weight_input, h0, weight)
    else:
        drive = x @ weight_input
        if found := by_its_cell(cells.rnn, drive, {"h": h0}, weight, lengths=lengths):
            return found[0], found[1]["h"]
        with _single(x):
            h = _RECURRENT["fused" if form == "triton" else form].rnn(drive.to(h0.dtype), h0, weight)
    return h, _last_valid(h, h0, lengths)


def lstm(
    x: Tensor, weight_input: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Run LSTM units over a window: the standard cell without bias, gates in the order i, f, g, o.

    z_t = x_t @ weight_input + h_{t-1} @ weight;  i, f, o = sigmoid(z);  g = tanh(z);
    c_t = f * c_{t-1} + i * g;  h_t = o * tanh(c_t).

    Args:
        x: inputs, [T, B, I].
        weight_input: input weight W_i, [I, 4, n].
        h0: the output left by the step before, [B, n].
        c0: the cell left by the step before, [B, n].
        weight: recurrent weight W_h, [n, 4, n].
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        h at every step, [T, B, n]; h and c after the last valid step, each [B, n].
    """
    form = _picked(h0)
    if form == "triton" and not _autocast(x):
        h, c = gpu.lstm(x, weight_input, h0, c0, weight, lengths)
        return h, _last_valid(h, h0, lengths), c
    drive = (x @ weight_input.flatten(1)).unflatten(-1, weight_input.shape[1:])
    if found := by_its_cell(cells.lstm, drive, {"h": h0, "c": c0}, weight, lengths=lengths):
        return found[0], found[1]["h"], found[1]["c"]
    with _single(x):
        h, c = _RECURRENT["fused" if form == "triton" else form].lstm(drive.to(h0.dtype), h0, c0, weight)
    return h, _last_valid(h, h0, lengths), _last_valid(c, c0, lengths)


def conv_rnn_pooled(
    drive: Tensor, h0: Tensor, conv: nn.Conv2d, form: MapForm, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run recurrent units in maps over a window, see `cells.conv_rnn`, what they emit average-pooled 2x2.

    Args:
        drive: what depends on the input alone, [T, B, n, H, W].
        h0: the state left by the step before, [B, n, H, W].
        conv: the recurrent convolution.
        form: how a unit adds up.
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        Pooled h at every step, [T, B, n, H // 2, W // 2]; and h after the last valid step.
    """
    form_of_kernel = _picked(h0)
    return _RECURRENT["fused" if form_of_kernel == "triton" else form_of_kernel].conv_rnn_pooled(
        drive, h0, conv, form, lengths
    )


def _last_valid(outputs: Tensor, initial: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the row of each sample's last valid step, or its initial state where it has none. [B, n]."""
    if lengths is None:
        return outputs[-1]
    rows = (lengths - 1).clamp(min=0)[None, :, None].expand(1, *outputs.shape[1:])
    return torch.where((lengths > 0)[:, None], outputs.gather(0, rows)[0], initial)
