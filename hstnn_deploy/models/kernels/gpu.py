"""The kernels for a GPU: LIF in Triton, a window in one launch; the recurrences through torch's own, cuDNN's there.

They also run on the CPU, where tests check them: LIF in Triton's interpreter (TRITON_INTERPRET=1), the recurrences in
torch's native and oneDNN forms. LIF takes currents in float16 or bfloat16 beside a float32 state, and emits spikes in
the type of the currents. Differentiable once.

What LIF keeps for its backward pass is whichever is fewer bytes: 4 per neuron and step, the membrane m, where the
gradient needs its value (a surrogate that is not rectangular, or a reset to zero that is not detached); else bits, 1
or 2 per neuron and step (in the surrogate's window; fired), packed 32 steps to a word.
"""

import functools
import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hstnn_deploy.models.neurons import Lif

_SURROGATES = {"rectangular": 0, "triangular": 1, "arctan": 2}
_NOTHING, _MEMBRANES, _WINDOW, _WINDOW_AND_SPIKES = range(4)
_WORD = 32

_MANY = 2**18
"""Neurons from which on a thread takes four: 16 bytes at once. Below, one: so that enough of them wait for memory."""


@functools.cache
def available() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def serves(state: Tensor) -> bool:
    """Whether this form takes such a state: on a GPU, in float32, where Triton is there."""
    return state.is_cuda and state.dtype == torch.float32 and available()


def takes(neuron: Lif) -> bool:
    """Whether this form knows such neurons."""
    return neuron.fires == "above" and neuron.surrogate in _SURROGATES


def lif(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window; see `kernels.lif`."""
    spikes, v = _Lif.apply(current, v0, neuron, lengths)  # type: ignore[no-untyped-call]
    return spikes, v


def lif_pooled(current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """LIF over a window of maps, pooled; see `kernels.lif_pooled`."""
    pooled, v = _Lif.apply(current, v0, neuron, lengths)  # type: ignore[no-untyped-call]
    return pooled, v


def rnn(x: Tensor, weight_input: Tensor, h0: Tensor, weight: Tensor) -> Tensor:
    """Sigmoid RNN over a window; see `kernels.rnn`.

    cuDNN has tanh only; sigmoid(a) = (1 + tanh(a / 2)) / 2, so with g = 2h - 1 the same units are, exactly,
    g_t = tanh(x_t @ W_i / 2 + (1 + g_{t-1}) @ W_h / 4).
    """
    quarter = weight / 4
    bias = quarter.sum(0)
    parameters = _flat(weight_input.t() / 2, quarter.t(), bias, torch.zeros_like(bias))
    g, _ = torch._VF.rnn_tanh(x, (2 * h0 - 1)[None], parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False)
    h: Tensor = (1 + g) / 2
    return h


def lstm(
    x: Tensor, weight_input: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """LSTM over a window; see `kernels.lstm`.

    cuDNN gives the cell at the last step only. Where samples end before, another input says so and drives the gates
    there: input shut, forget open, to the bit. So the cell at the last step is that at the sample's end.
    """
    if lengths is not None:
        over = torch.arange(len(x), device=x.device)[:, None] >= lengths
        x = torch.cat([x, over[..., None].to(x.dtype)], dim=2)
        # exp of it is inf in float32, so the gates are exactly 0 and 1, whatever else is added.
        gates = weight_input.new_tensor([-1e4, 1e4, 0, 0])[None, :, None].expand(1, 4, weight.shape[-1])
        weight_input = torch.cat([weight_input, gates])
    parameters = _flat(weight_input.flatten(1).t(), weight.flatten(1).t())
    h, _, c = torch._VF.lstm(x, (h0[None], c0[None]), parameters, False, 1, 0.0, torch.is_grad_enabled(), False, False)
    return h, c[0]


def _flat(*parameters: Tensor) -> list[Tensor]:
    """Return the parameters as parts of one tensor, in order, as cuDNN wants them: else it copies them itself."""
    whole = torch.cat([each.reshape(-1) for each in parameters])
    parts = whole.split([each.numel() for each in parameters])
    return [part.view(each.shape) for part, each in zip(parts, parameters, strict=True)]


@dataclass(frozen=True)
class _Window:
    """How a window is cut into programs, and what is kept of it."""

    steps: int
    count: int
    """Neurons of a step; of maps, the maps."""
    units: int
    """How many of these a sample has."""
    maps: tuple[int, int] | None
    """Height and width, where the spikes are pooled."""
    keep: int

    @property
    def neurons(self) -> int:
        return self.count * math.prod(self.maps or ())

    @property
    def words(self) -> int:
        """Words of bits of a kind."""
        return math.ceil(self.steps / _WORD) * self.neurons

    @classmethod
    def of(cls, current: Tensor, neuron: Lif, needed: bool) -> "_Window":
        steps, batch, units = current.shape[:3]
        keep = _NOTHING
        if needed:
            by_value = neuron.surrogate != "rectangular" or (neuron.reset == "zero" and not neuron.detach_reset)
            keep = _MEMBRANES if by_value else _WINDOW if neuron.reset == "subtract" else _WINDOW_AND_SPIKES
        maps = (current.shape[3], current.shape[4]) if current.ndim == 5 else None
        return cls(steps, batch * units, units, maps, keep)

    def room(self, current: Tensor) -> Tensor:
        """Return uninitialised memory for what is kept."""
        if self.keep == _MEMBRANES:
            return torch.empty(current.shape, dtype=torch.float32, device=current.device)
        kinds = {_NOTHING: 0, _WINDOW: 1, _WINDOW_AND_SPIKES: 2}[self.keep]
        return torch.empty(max(kinds * self.words, 1), dtype=torch.int32, device=current.device)

    def launch(self, name: str, tensors: tuple[Tensor, ...], stride: int, *numbers: float, **constants: Any) -> None:
        """Start the kernel `name`, over maps its pooled form."""
        from hstnn_deploy.models.kernels import lif_triton

        kernel = getattr(lif_triton, name if self.maps is None else f"{name}_pooled")
        block = 512 if self.neurons >= _MANY else 128
        programs = math.ceil(self.count / block)
        if self.maps is not None:
            height, width = self.maps
            # Of 2x2 neurons, a thread takes one such block: two and two of its neurons lie side by side.
            block = 128
            programs = math.ceil(self.count * math.ceil(height / 2) * math.ceil(width / 2) / block)
            constants |= {"H": height, "W": width}
        with torch.cuda.device_of(tensors[0]):
            kernel[(programs,)](
                *tensors,
                self.steps,
                self.count,
                self.units,
                stride,
                self.words,
                *numbers,
                **constants,
                KEEP=self.keep,
                BLOCK=block,
                num_warps=4,
                enable_fp_fusion=False,
            )


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor, neuron: Lif, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        current, v0 = _step_by_step(current), v0.contiguous()
        window = _Window.of(current, neuron, any(ctx.needs_input_grad))
        shape = current.shape if window.maps is None else (*current.shape[:3], *(side // 2 for side in window.maps))
        spikes, kept, v = current.new_empty(shape), window.room(current), torch.empty_like(v0)
        window.launch(
            "forward",
            (current, v0, v0 if lengths is None else lengths, spikes, kept, v),
            current.stride(0),
            neuron.decay,
            neuron.threshold,
            neuron.lens,
            SOFT=neuron.reset == "subtract",
            LENGTHS=lengths is not None,
        )
        ctx.save_for_backward(kept, lengths)
        ctx.window, ctx.neuron, ctx.current, ctx.spikes = window, neuron, (current.shape, current.dtype), shape
        ctx.set_materialize_grads(False)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_spikes, grad_v = grads
        kept, lengths = ctx.saved_tensors
        window, neuron, (shape, dtype) = ctx.window, ctx.neuron, ctx.current
        grad_current = torch.empty(shape, dtype=dtype, device=kept.device)
        grad_v0 = torch.empty(shape[1:], dtype=torch.float32, device=kept.device)
        if grad_spikes is None:
            grad_spikes = torch.zeros(ctx.spikes[1:], dtype=dtype, device=kept.device).expand(ctx.spikes)
        grad_spikes = _step_by_step(grad_spikes)
        grad_v = torch.zeros_like(grad_v0) if grad_v is None else grad_v.contiguous()
        window.launch(
            "backward",
            (grad_spikes, grad_v, grad_v if lengths is None else lengths, kept, grad_current, grad_v0),
            grad_spikes.stride(0),
            neuron.decay,
            neuron.threshold,
            neuron.lens,
            neuron.slope.peak,
            SOFT=neuron.reset == "subtract",
            DETACHED=neuron.detach_reset,
            SURROGATE=_SURROGATES[neuron.surrogate],
            LENGTHS=lengths is not None,
        )
        return grad_current, grad_v0, None, None


def _step_by_step(window: Tensor) -> Tensor:
    """Return the window with every step contiguous; steps may lie anywhere, even on each other (a sum's gradient)."""
    return window if window[0].is_contiguous() else window.contiguous()
