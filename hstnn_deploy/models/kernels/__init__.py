"""The window kernels of the neurons, in several forms with the same results, and the one place that picks a form.

`plain` is the definition: torch operations step by step, differentiable twice (selection needs that), the oracle of the
tests. `fused` is the fast form for training and inference: hand-written backward, differentiable once.

Shapes: T time, B batch, n units. Every kernel is a pure function over a window and takes `lengths[B]` (int64) or
None; steps at or past a sample's length leave its state alone. What a kernel *emits* at such steps is unspecified.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal, Protocol

import torch
from torch import Tensor

from hstnn_deploy.models.kernels import fused, plain
from hstnn_deploy.models.neurons import Lif

Form = Literal["plain", "fused"]


class _Kernels(Protocol):
    def lif(self, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None) -> tuple[Tensor, Tensor]: ...

    def lif_pooled(self, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None) -> tuple[Tensor, Tensor]: ...

    def rnn(self, drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor: ...

    def lstm(self, drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]: ...


_FORMS: dict[Form, _Kernels] = {"plain": plain, "fused": fused}
_form: ContextVar[Form] = ContextVar("kernel form", default="fused")


@contextmanager
def using(form: Form) -> Iterator[None]:
    """Run the block with the named form of every kernel."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def _single(driving: Tensor) -> AbstractContextManager[object]:
    """Return the context in which a kernel computes in its state's own precision, whatever autocast made of its input.

    A rounding error in a recurrence would go on from step to step, and move spikes.
    """
    kind = driving.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def lif(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run LIF neurons over a window.

    Args:
        current: input currents I, [T, B, n].
        v0: the state v = m * (1 - s) left by the step before, [B, n].
        neuron: the constants.
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        Spikes [T, B, n], 0 or 1 in the dtype of `current`, and the state v after the last valid step, [B, n].
    """
    with _single(current):
        return _FORMS[_form.get()].lif(current.to(v0.dtype), v0, neuron, lengths)


def lif_pooled(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run LIF neurons in maps of height H and width W over a window, their spikes average-pooled 2x2.

    Args:
        current: input currents I, [T, B, C, H, W].
        v0: the state v = m * (1 - s) left by the step before, [B, C, H, W].
        neuron: the constants.
        lengths: valid steps per sample, [B], or None where all steps are valid.

    Returns:
        Pooled spikes [T, B, C, H // 2, W // 2], quarters from 0 to 1, and the state v after the last valid step.
    """
    with _single(current):
        return _FORMS[_form.get()].lif_pooled(current.to(v0.dtype), v0, neuron, lengths)


def rnn(drive: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Run sigmoid recurrent units over a window: h_t = sigmoid(drive_t + h_{t-1} @ weight).

    Args:
        drive: input products x_t @ W_i, [T, B, n].
        h0: the state left by the step before, [B, n].
        weight: recurrent weight W_h, [n, n].

    Returns:
        h at every step, [T, B, n]; the state after a window is the row of its last valid step.
    """
    with _single(drive):
        return _FORMS[_form.get()].rnn(drive.to(h0.dtype), h0, weight)


def lstm(drive: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Run LSTM units over a window: the standard cell without bias, gates in the order i, f, g, o.

    z_t = drive_t + h_{t-1} @ weight;  i, f, o = sigmoid(z);  g = tanh(z);
    c_t = f * c_{t-1} + i * g;  h_t = o * tanh(c_t).

    Args:
        drive: input products x_t @ W_i of the four gates, [T, B, 4, n].
        h0: the output left by the step before, [B, n].
        c0: the cell left by the step before, [B, n].
        weight: recurrent weight W_h, [n, 4, n].

    Returns:
        h and c at every step, each [T, B, n]; the state after a window is the row of its last valid step.
    """
    with _single(drive):
        return _FORMS[_form.get()].lstm(drive.to(h0.dtype), h0, c0, weight)
