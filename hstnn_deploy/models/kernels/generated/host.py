"""What lies around every call of a kernel: whether there can be one, tensors as it takes them, and the call itself."""

import ctypes
import functools
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from hstnn_deploy.models.kernels.generated import compiled
from hstnn_deploy.models.kernels.generated import threads as threading
from hstnn_deploy.models.kernels.generated.ir import COUNTERS, HEAD
from hstnn_deploy.models.kernels.generated.source import Text


def runs(*given: Tensor) -> bool:
    """Whether a kernel can be run on such tensors at present."""
    plain = all(each.device.type == "cpu" and type(each) in (Tensor, torch.nn.Parameter) for each in given)
    return plain and not watched() and compiled.available()


def watched() -> bool:
    """Whether torch's operations are noted or replaced at present: they would not see what machine code does.

    Such as by torch.compile, torch.jit.trace, torch.func, tensors without numbers, and differentiation forward.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def dense(values: Tensor) -> Tensor:
    """Return a tensor that lies in memory number by number: not as one that torch only marks as zero or negated."""
    if values.is_neg() or values._is_zerotensor():
        return torch.empty(values.shape, dtype=values.dtype, device=values.device).copy_(values)
    return values.contiguous()


def again() -> bool:
    """Whether there may be another backward pass over what this one has kept."""
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if asked is None else bool(asked())


def run(text: Text, numbers: Sequence[float], arrays: Sequence[Tensor], threads: int, **head: int) -> None:
    """Run a kernel.

    Args:
        text: the kernel.
        numbers: its numbers, in their order.
        arrays: its arrays, in their order, the scratch last.
        threads: how many take parts of the units.
        head: what it is told first, see `ir.HEAD`; 0 where nothing is given.
    """
    layout, kernel = called(text)
    words = ctypes.create_string_buffer(layout.size)
    first = [*[0] * COUNTERS, *(head.get(name, 0) for name in HEAD)]
    layout.pack_into(words, 0, *first, *numbers, *(each.data_ptr() for each in arrays))
    threading.run(kernel, words, threads)


@functools.lru_cache(1024)
def called(text: Text) -> tuple[struct.Struct, int]:
    """Return how the words of a kernel are laid out, and where it is."""
    scratch = "quarter" in text.arrays
    layout = f"{COUNTERS + len(HEAD)}q{len(text.numbers)}d{len(text.arrays) + scratch}Q"
    return struct.Struct(layout), compiled.function(text).address
