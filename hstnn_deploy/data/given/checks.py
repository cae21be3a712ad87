"""What is checked of samples that are handed over in Python, before anything is trained on them.

Shapes: N samples, T time steps; a step of one sample has the network's own shape.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.splits import as_values
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief

_AT_ONCE = 1024
"""Samples that are looked at together: arrays may be larger than memory, mapped from a file."""


@dataclass(frozen=True)
class Wanted:
    """What a network takes, and what is asked of it."""

    step: tuple[int, ...]
    """The shape of one time step of one sample; () of tokens."""
    classes: int
    """How many scores an answer has; of values, K."""
    tokens: bool = False
    words: int = 0
    """Of tokens: how many there are."""
    per_step: bool = False
    """Whether every step has a class, or each sample has one."""
    values: bool = False
    """Whether each sample has K values, which a regression is to give, and no class."""
    longest: int | None = None
    """The most steps that the network has numbers for; None: any."""

    def shown(self, *axes: str) -> str:
        """Return a shape such as [N, T, 8]."""
        return f"[{', '.join([*axes, *map(str, self.step)])}]"


def as_tensor(value: Any, what: str) -> Tensor:
    """Return an array, a tensor or nested lists as a dense tensor of numbers, without a copy where none is needed.

    Args:
        value: which.
        what: it is called in errors.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            raise DataError(f"{what} is a tensor on the device meta, which contains no numbers", "give one on the CPU")
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            raise DataError(f"{what} is a tensor of {value.dtype}, {value.layout}", "give a dense tensor of numbers")
        return value.detach()
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever an object of somebody else's does when it is asked for its numbers
        raise DataError(
            f"{what} is {type(value).__name__}, not an array of numbers", "give an array or a tensor"
        ) from error
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        hint = {
            "O": "give arrays of several lengths as a list, one array [T, ...] per sample",
            "U": "np.unique(y, return_inverse=True)[1] numbers names of classes from 0" if what[:1] == "y" else "",
        }.get(array.dtype.kind, "")
        raise DataError(f"{what} contains {array.dtype}, not numbers", hint)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it may not be written to: nothing writes to it
        return torch.from_numpy(np.asarray(array.astype(array.dtype.newbyteorder("="), copy=False), order="C"))


def check_x(x: Tensor, wanted: Wanted, what: str, axes: Sequence[str], count: int | None = None) -> None:
    """Refuse inputs of a wrong shape or type.

    Args:
        x: inputs.
        wanted: by the network.
        what: they are called in errors.
        axes: before those of a step: N and T, or T alone.
        count: how many answers there are, where x has samples.

    Raises:
        DataError: says what is given, and what the network takes.
    """
    here, before = list(x.shape), len(axes)
    takes = f"the network takes {wanted.shown(*axes)}"
    if tuple(here[before:]) != wanted.step or len(here) < before:
        hint = "samples come first, then time, then what a time step holds" if before > 1 else ""
        if before > 1 and tuple(here[1:]) == wanted.step:
            hint = "there is no axis of time: x[:, None] is one step, x[:, None].repeat(1, T, ...) shows it T times"
        elif before > 1 and len(here) > 2 and int(np.prod(here[2:])) == int(np.prod(wanted.step)):
            hint = f"give x.reshape(N, T, {', '.join(map(str, wanted.step))})"
        raise DataError(f"{what} has shape {here}, but {takes}", hint)
    if count is not None and here[0] != count:
        turned = len(here) > 1 and here[1] == count
        hint = "samples come first: give x.swapaxes(0, 1)" if turned else "give one class for each sample"
        raise DataError(f"{what} contains {here[0]} samples, and y {count}", hint)
    if 0 in here[:before]:
        raise DataError(f"{what} has shape {here}: it is empty")
    if wanted.longest is not None and here[before - 1] > wanted.longest:
        raise DataError(f"{what} has {here[before - 1]} time steps; the network has numbers for {wanted.longest}")
    if wanted.tokens:
        _check_whole(x, what, wanted.words, "words", "token")
    elif x.is_floating_point():
        check_finite(x, what, "sample" if before > 1 else "time step")


def check_finite(x: Tensor, what: str, each: str) -> None:
    """Refuse NaN and infinity, also where they come from rounding to float32, in which networks compute."""
    for begin in range(0, len(x), _AT_ONCE):
        part = x[begin : begin + _AT_ONCE]
        fine = torch.isfinite(part.to(torch.float32)).reshape(len(part), -1).all(1)
        if not bool(fine.all()):
            number = int((~fine).nonzero()[0, 0])
            large = bool(torch.isfinite(part[number]).all())
            held = "numbers that are too large for float32" if large else "NaN or infinity"
            hint = "scale them" if large else "numpy.isfinite tells where"
            raise DataError(f"{what} contains {held}, first in {each} {begin + number}", hint)


def check_target(y: Tensor, wanted: Wanted, what: str) -> Tensor:
    """Return classes as int64, or values [N, K] as float32, refused where the network has no such answers.

    Raises:
        DataError: says which value, and where.
    """
    if wanted.values:
        return _check_values(y, wanted.classes, what)
    axes = 2 if wanted.per_step else 1
    if y.ndim != axes:
        hint = ""
        if axes == 1 and y.ndim == 2 and y.shape[1] == 1:
            hint = "give y[:, 0]"
        elif axes == 1 and y.ndim == 2 and y.shape[1] == wanted.classes:
            hint = 'one-hot rows become classes by y.argmax(1); loss="regression" learns the values themselves'
        each = "step of each sample, [N, T]" if wanted.per_step else "sample, [N]"
        raise DataError(f"{what} has shape {list(y.shape)}: give one class for each {each}", hint)
    _check_whole(y, what, wanted.classes, "scores", "class")
    return y.to(torch.int64)


def _check_values(y: Tensor, outputs: int, what: str) -> Tensor:
    """Return the values of a regression, [N, K]; [N] where a sample has one."""
    if not y.is_floating_point():
        raise DataError(
            f"{what} contains {_type(y)}, but a regression learns floating-point numbers",
            'give y.astype("float32"), or y.float() of a tensor; loss="cross-entropy" learns classes',
        )
    found = as_values(y, what)
    if found.shape[1] != outputs:
        raise DataError(
            f"{what} has rows of {found.shape[1]}, one for each sample, but the network has {outputs} outputs",
            "the last layer with weights sets how many",
        )
    return found


def time_first(target: Tensor) -> Tensor:
    """Return the classes of each step, [B, T], as a batch holds them, [T, B]; a class or values of each sample stay."""
    return target.T if target.ndim > 1 and not target.is_floating_point() else target


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _check_whole(value: Tensor, what: str, count: int, of: str, each: str) -> None:
    if value.is_floating_point() or value.dtype == torch.bool:
        hint = "tokens are whole numbers"
        if each == "class":
            hint = 'give y.astype(int), or y.long() of a tensor; loss="regression" learns values'
        raise DataError(f"{what} contains {_type(value)}, not whole numbers", hint)
    wrong = (value < 0) | (value >= count)
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        found = brief(int(value[tuple(place)]))
        where = f" at {place[0] if len(place) == 1 else place}" if value.numel() > 1 else ""
        raise DataError(
            f"{what} contains {each} {found}{where}, but the network has {count} {of}, numbered 0 to {count - 1}",
            "number them from 0" if each == "token" else "number classes from 0, or give the last layer more outputs",
        )


def check_sample(item: Any, wanted: Wanted, what: str) -> tuple[Tensor, Tensor]:
    """Return one sample (x[T, ...], class), checked.

    Raises:
        DataError: it is no such pair, or of a wrong shape or type.
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        given = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"{what} is {given}, not a pair (x, y)", "x is [T, ...], y a class, or values of a regression")
    x, y = as_tensor(item[0], f"x of {what}"), as_tensor(item[1], f"y of {what}")
    check_x(x, wanted, f"x of {what}", ("T",))
    if not wanted.per_step and y.numel() == 1:
        y = y.reshape(())
    target = check_target(y[None], wanted, f"y of {what}")[0]
    if wanted.per_step and len(target) != len(x):
        raise DataError(f"{what} has {len(x)} time steps and {len(target)} classes", "give a class for each step")
    return x.to(torch.int64 if wanted.tokens else torch.float32), target
