"""In which precision a training computes. Off unless a recipe asks for it, and named beside every figure.

`fp32` is exact single precision: convolutions and cuDNN's recurrences too, for which torch would allow TF32. `medium`
lets the products of single-precision numbers use bfloat16 or TF32 inside (on processors and GPUs that can); what is
stored stays single. `bf16` is torch's automatic mixed precision: input products,
convolutions and readouts in bfloat16; the recurrences, membranes, losses and the parameters stay single. `fp16` is the
same with float16, whose range is small: gradients are scaled up, and the scale is kept in last.pt. (Libraries that run
their neurons in what they are fed keep membranes in half precision there; here they stay single.) Selection is always
computed in fp32: its second derivatives need it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "medium", "fp16"]


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Run the block, forward and backward passes and all, with the matrix products of a precision."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium" if precision == "medium" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "medium"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def forward(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass; the loss and the backward pass stand outside of it."""
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, half, enabled=precision in {"bf16", "fp16"})
