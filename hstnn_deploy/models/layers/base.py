"""What every layer of a stack is: its equations for any reading, its states, and how it is numbered."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import nn
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.network import Tap

Shape = tuple[int, ...]
"""Of one time step of one sample: (n,) of units, (C, H, W) of maps, (C, L) of rows."""


class Layer(nn.Module, ABC):
    """A layer. Shapes: T time, B batch; x is [B, …] at a step and [T, B, …] over a window."""

    kind: ClassVar[str]
    """What a recipe calls it."""
    number: int = 0
    """Its place in the stack, from 1, blocks counted through."""
    output: Shape = ()
    """The shape of what it gives."""
    over_time: bool = True
    """Whether every reading can take it over a window at once; else the stack goes step by step."""
    carries: Mapping[str, tuple[Shape, str]] = {}
    """What it carries from step to step: shape and meaning by name."""

    @abstractmethod
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step x[B, …] in a reading; return the output, and what is carried, by the layer's own names."""

    @abstractmethod
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run a window x[T, B, …] in a reading; see `step`."""

    def with_next(
        self, o: Algebra[V], x: V, own: Mapping[str, V], following: "Layer", theirs: Mapping[str, V]
    ) -> tuple[V, dict[str, V], dict[str, V]] | None:
        """Run a window through this layer and the one after it at once, where there is a faster way for both.

        A way that calls no module is not taken where one is `watched`: its hooks would not run.

        Returns:
            The output of the second, what this one carries, and what the second does; or None.
        """
        return None

    def leaves(self) -> "Iterator[Layer]":
        """Yield the layers that this one is made of, in the order of their numbers: itself, where it is no block."""
        yield self

    def taps(self) -> dict[Tap, nn.Module]:
        """Return what it hands out at every step, and the module that does; see `Network.taps`."""
        return {}

    def membranes(self) -> set[str]:
        """Return which of what it carries are membranes and the like."""
        return set()

    def check_reading(self, reads: str) -> None:
        """Refuse a step that would be written as something else than torch computes: none of the package's own.

        Args:
            reads: what is written, for the error.

        Raises:
            Unreadable: see `custom.steps.check_reading`.
        """


class Stateless(Layer):
    """A layer that carries nothing: what it does to a step, it does to every step of a window."""

    @abstractmethod
    def apply_to(self, o: Algebra[V], x: V, window: bool) -> V:
        """Return the output of x, of a step or of a window."""

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return self.apply_to(o, x, False), {}

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return self.apply_to(o, x, True), {}


class Steps(Protocol):
    """What has a step."""

    def step(self, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
        """Run one step; see `Layer.step`."""


def stepped(layer: Steps, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
    """Run a layer over a window of tensors by its own step; see `Layer.window`."""
    rows, now = [], dict(state)
    for t, each in enumerate(x.unbind(0)):
        # The step sees which samples have not ended.
        y, after = layer.step(o.from_step(t), each, now)
        now |= {name: o.valid(t, value, now[name]) for name, value in after.items()}
        rows.append(y)
    return torch.stack(rows), now


def watched(*layers: nn.Module) -> bool:
    """Whether a hook looks at a layer, or changes what it hands out."""
    return any(each._forward_hooks or each._forward_pre_hooks for each in layers)


def several(value: Any, count: int) -> tuple[int, ...]:
    """Return a number once for each axis, or the list that was given for them.

    Raises:
        ValueError: it is a list for another number of axes.
    """
    if isinstance(value, int):
        return (value,) * count
    if len(value) != count:
        raise ValueError(f"{list(value)}: give one number, or one for each axis ({count} here)")
    return tuple(value)
