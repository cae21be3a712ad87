"""What is differentiable once says so at once: no second derivative is left out without a word."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_INSTEAD = 'run the network within hstnn_deploy.models.kernels.using("plain")'


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function's `backward` that refuses to be differentiated itself.

    torch's `once_differentiable` refuses when a second derivative is asked of the gradients that came in alone. The
    second derivative for an input it leaves out: `torch.autograd.functional.hessian` then gives zeros.

    Raises:
        RuntimeError: the gradients are to have gradients, or are several at once.
    """

    @functools.wraps(backward)
    def refusing(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"the fast kernels have no second derivatives (create_graph=True): {_INSTEAD}")
        if any(each is not None and _is_batch(each) for each in grads):
            raise RuntimeError(f"the fast kernels take one gradient at a time, not a batch of them: {_INSTEAD}")
        return backward(ctx, *grads)

    return refusing


def _is_batch(gradient: Tensor) -> bool:
    """Whether a gradient stands for several, of `is_grads_batched` or `vmap`."""
    functorch = torch._C._functorch
    return bool(functorch.is_batchedtensor(gradient) or functorch.is_legacy_batchedtensor(gradient))
