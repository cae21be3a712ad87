"""Blocks of layers: beside a shortcut, side by side, or several times over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.layers.base import Layer


class Chain(nn.ModuleList):
    """Layers one after another."""

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [cast(Layer, layer) for layer in self]

    def leaves(self) -> Iterator[Layer]:
        """Yield the layers with numbers, in order."""
        for layer in self.layers:
            yield from layer.leaves()

    def run(self, o: Algebra[V], x: V, state: Mapping[str, V], window: bool) -> tuple[V, dict[str, V]]:
        """Run a step or a window in a reading; states are under the network's names, see `run_layer`."""
        after: dict[str, V] = {}
        layers = self.layers
        while layers:
            layer, *layers = layers
            if window and layers and (both := _run_both(layer, layers[0], o, x, state)):
                (x, new), layers = both, layers[1:]
            else:
                x, new = run_layer(layer, o, x, state, window)
            after |= new
        return x, after


def run_layer(layer: Layer, o: Algebra[V], x: V, state: Mapping[str, V], window: bool) -> tuple[V, dict[str, V]]:
    """Run a layer within a network, whose names for what it carries end with the layer's number."""
    if isinstance(layer, Block):
        return layer.run(o, x, state, window)
    y, after = (layer.window if window else layer.step)(o.at(layer.number), x, _own(layer, state))
    return y, _named(layer, after)


def _run_both(
    layer: Layer, following: Layer, o: Algebra[V], x: V, state: Mapping[str, V]
) -> tuple[V, dict[str, V]] | None:
    """Run two layers over a window at once, where there is a way; see `Layer.with_next`."""
    if isinstance(layer, Block) or isinstance(following, Block):
        return None
    both = layer.with_next(o.at(layer.number), x, _own(layer, state), following, _own(following, state))
    if both is None:
        return None
    y, first, second = both
    return y, _named(layer, first) | _named(following, second)


def _own(layer: Layer, state: Mapping[str, V]) -> dict[str, V]:
    return {name: state[f"{name}{layer.number}"] for name in layer.carries}


def _named(layer: Layer, after: Mapping[str, V]) -> dict[str, V]:
    return {f"{name}{layer.number}": value for name, value in after.items()}


class Block(Layer):
    """Layers that count as one. Its states and its number are theirs."""

    chains: Sequence[Chain]

    def leaves(self) -> Iterator[Layer]:
        """Yield the layers of each branch, and this one last: what puts the branches together has a number too."""
        for chain in self.chains:
            yield from chain.leaves()
        yield self

    def run(self, o: Algebra[V], x: V, state: Mapping[str, V], window: bool) -> tuple[V, dict[str, V]]:
        """Run a step or a window in a reading, states under the network's names."""
        outputs: list[V] = []
        after: dict[str, V] = {}
        for chain in self.chains:
            y, new = chain.run(o, x, state, window)
            outputs.append(y)
            after |= new
        return self.together(o.at(self.number), x, outputs, window), after

    def together(self, o: Algebra[V], x: V, outputs: list[V], window: bool) -> V:
        """Return what the branches' outputs come to."""
        raise NotImplementedError

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return self.run(o, x, state, False)

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        return self.run(o, x, state, True)


class ResidualConfig(BaseModel):
    """`{residual: [layers], shortcut: [layers]}`: what the layers give, plus the input (or what the shortcut gives)."""

    model_config = ConfigDict(extra="forbid")

    residual: list[Any] = Field(min_length=1)
    shortcut: list[Any] = []


class Residual(Block):
    """body(x) + x, or body(x) + shortcut(x)."""

    kind = "residual"

    def __init__(self, body: Chain, shortcut: Chain | None) -> None:
        super().__init__()
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut
        self.chains = [body] if shortcut is None else [body, shortcut]

    @override
    def together(self, o: Algebra[V], x: V, outputs: list[V], window: bool) -> V:
        return o.add(outputs[0], outputs[1] if len(outputs) > 1 else x, "sum")


class ParallelConfig(BaseModel):
    """`{parallel: [[layers], [layers]]}`: branches that see the same input, their outputs side by side."""

    model_config = ConfigDict(extra="forbid")

    parallel: list[list[Any]] = Field(min_length=2)


class Parallel(Block):
    """The branches' outputs, channel after channel."""

    kind = "parallel"

    def __init__(self, branches: Sequence[Chain], axes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.chains, self._axis = list(branches), -axes

    @override
    def together(self, o: Algebra[V], x: V, outputs: list[V], window: bool) -> V:
        return o.concat(outputs, self._axis, "joined")


class RepeatConfig(BaseModel):
    """`{repeat: 5, layers: [layers]}`: the layers repeated 5 times, each time with weights of their own."""

    model_config = ConfigDict(extra="forbid")

    repeat: int = Field(gt=0, le=1000)
    layers: list[Any] = Field(min_length=1)
