"""What runs on a GPU: neurons by the Triton kernels written from their step; the recurrences by torch's own, cuDNN's.

They also run on the CPU, where tests check them: neurons in Triton's interpreter (TRITON_INTERPRET=1), the recurrences
in torch's native and oneDNN forms. Differentiable once.
"""

import functools
import importlib.util

import torch
from torch import Tensor


@functools.cache
def available() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def serves(state: Tensor) -> bool:
    """Whether this form takes such a state: on a GPU, in float32, where Triton is there."""
    return state.is_cuda and state.dtype == torch.float32 and available()


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
