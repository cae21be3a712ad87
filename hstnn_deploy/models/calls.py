"""What a call of a network does not take, in words."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hstnn_deploy.errors import UsageError
from hstnn_deploy.foreign import brief

if TYPE_CHECKING:
    from hstnn_deploy.models.network import Network


def check_call(network: "Network", x: Any, state: Any, lengths: Any) -> None:
    """Refuse what torch might take, and answer something else: it repeats axes of size 1.

    It asks no device for a number, so it costs a few microseconds.

    Args:
        network: what is called.
        x: [T, B, …].
        state: of the window before, or None.
        lengths: [B], or None.

    Raises:
        UsageError: another shape, or something else than tensors; says what the network takes.
    """
    if not isinstance(x, Tensor):
        hint = "give a tensor: torch.from_numpy(x) makes one of an array"
        raise UsageError(f"x is {type(x).__name__}, and the network takes a tensor", hint)
    if tuple(x.shape[2:]) != tuple(network.input_shape) or x.ndim < 2 or not len(x):
        raise _wrong_shape(network, x)
    if network.tokens and (x.is_floating_point() or x.dtype == torch.bool):
        raise UsageError(
            f"x holds {_type(x.dtype)}, and the network takes tokens, which are whole numbers", "give x.long()"
        )
    batch = x.shape[1]
    if lengths is not None and (not isinstance(lengths, Tensor) or lengths.shape != (batch,)):
        given = f"[{', '.join(map(str, lengths.shape))}]" if isinstance(lengths, Tensor) else brief(lengths)
        hint = "give the number of valid steps of each sample: torch.tensor([5, 3])"
        raise UsageError(f"lengths is {given}, and x has a batch of {batch}", hint)
    if state is not None:
        _check_state(network, x, state)


def _check_state(network: "Network", x: Tensor, state: Any) -> None:
    hint = "give the state that a call for the same samples returned, or None"
    if not isinstance(state, dict):
        raise UsageError(f"state is {type(state).__name__}, no dict of tensors", hint)
    if network.carried is None:
        began = network.initial_state(x[:1, :1].to("meta"))
        network.carried = {name: tuple(value.shape[1:]) for name, value in began.items()}
    for name, shape in network.carried.items():
        if name not in state:
            raise UsageError(f"the state lacks {name}, which the network carries", hint)
        given = state[name]
        if not isinstance(given, Tensor) or given.shape != (x.shape[1], *shape):
            told = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise UsageError(f"the state {name} is {told}, and for this x it is {[x.shape[1], *shape]}", hint)


def _wrong_shape(network: "Network", x: Tensor) -> UsageError:
    step, given = list(network.input_shape), list(x.shape)
    takes = f"[{', '.join(['T', 'B', *map(str, step)])}]"
    hint = "T time steps come first, then B samples: x.swapaxes(0, 1) of samples x[N, T, …]"
    if given[1:] == step:
        hint = "one sample x[T, …] is x[:, None]; one step of a batch x[B, …] is x[None]"
    elif given == step:
        hint = "one step of one sample is x[None, None]"
    elif not x.numel():
        hint = "it is empty"
    return UsageError(f"x has the shape {given}, and the network takes {takes}", hint)


def explained(
    network: "Network", x: Tensor, state: dict[str, Tensor] | None, lengths: Tensor | None
) -> UsageError | None:
    """Return why a call failed, where it lies in what was given: a device, a type, a token, a state; else None."""
    given = {"x": x, **{f"the state {brief(name)}": value for name, value in (state or {}).items()}}
    if lengths is not None:
        given["lengths"] = lengths
    for what, value in given.items():
        if value.device != network.device:
            told = f"{what} is on {value.device}, and the network on {network.device}"
            return UsageError(told, "move one of them: x.to(network.device)")
    if network.tokens:
        least, most = int(x.min()), int(x.max())
        if least < 0 or most >= network.words:
            told = f"x holds tokens from {least} to {most}, and the network knows {network.words} words"
            return UsageError(told, "number the words from 0")
    else:
        numbers = next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)
        if x.dtype != numbers:
            told = f"x holds {_type(x.dtype)}, and the network computes in {_type(numbers)}"
            return UsageError(told, f"give x.to({numbers})")
    return None


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
