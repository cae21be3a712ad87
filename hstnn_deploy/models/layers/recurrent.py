"""Layers of recurrent units: sigmoid, tanh or relu units, LSTM and GRU, with or without a bias."""

from collections.abc import Mapping
from functools import partial
from typing import Literal, Self, get_args

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.models import cells, kernels
from hstnn_deploy.models.algebra import Algebra, Strand, V
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.hybrid.groups import H_AND_C, H, fresh_recurrent
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.units import UnitLayer
from hstnn_deploy.models.network import State

Kind = Literal["rnn", "lstm", "gru"]
# One of each for good: kernels are known by the cell that they were written from.
_ACTIVATED = {each: partial(cells.rnn, activation=each) for each in get_args(cells.Activation)}


class RecurrentConfig(BaseModel):
    """`{rnn: 100}`, `{lstm: 100}`, `{gru: 100}`: recurrent units, and how many."""

    model_config = ConfigDict(extra="forbid")

    rnn: PositiveInt | None = None
    lstm: PositiveInt | None = None
    gru: PositiveInt | None = None
    bias: bool = False
    nonlinearity: cells.Activation = "sigmoid"
    """Of `rnn`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.nonlinearity != "sigmoid" and self.rnn is None:
            raise ValueError("nonlinearity is for rnn; lstm and gru have their own")
        return self

    @property
    def what(self) -> Kind:
        """Which units they are."""
        return "rnn" if self.rnn is not None else "lstm" if self.lstm is not None else "gru"

    def build(self, shape: Shape) -> tuple["Recurrent", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are maps.
        """
        if len(shape) != 1:
            raise ValueError(f"recurrent units take units, not the shape {list(shape)}: put flatten before them")
        units = self.rnn or self.lstm or self.gru
        if units is None:
            raise ValueError("give the number of units")
        return Recurrent(self, shape[0], units), (units,)


class Recurrent(UnitLayer):
    """Recurrent units; see `cells`. Weights (inputs, n) and (n, n), or (inputs, gates, n) and (n, gates, n)."""

    tap = "h"

    def __init__(self, config: RecurrentConfig, inputs: int, units: int) -> None:
        super().__init__()
        self._what, self._activation, self.units = config.what, config.nonlinearity, units
        if config.what == "gru":
            bound = units**-0.5
            self.weight_input = nn.Parameter(torch.empty(inputs, 3, units).uniform_(-bound, bound))
            self.weight_recurrent = nn.Parameter(torch.empty(units, 3, units).uniform_(-bound, bound))
        else:
            self.weight_input, self.weight_recurrent = fresh_recurrent(config.what, inputs, units).ranked()
        self.bias: nn.Parameter | None = None
        if config.bias:
            self.bias = nn.Parameter(torch.zeros(self.weight_input.shape[1:]))
            if config.what == "gru":
                self.bias_recurrent = nn.Parameter(torch.zeros(units))
        states = H_AND_C if config.what == "lstm" else H
        self.carries = {name: ((units,), meaning) for name, meaning in states.items()}

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What the units are."""
        return self._what

    @override
    def ranked(self) -> list[nn.Parameter]:
        return [self.weight_input, self.weight_recurrent]

    @override
    def biases(self) -> list[nn.Parameter]:
        if self.bias is None:
            return []
        return [self.bias, self.bias_recurrent] if self._what == "gru" else [self.bias]

    @override
    def drive(self, o: Algebra[V], x: V) -> V:
        if self.bias is None:
            return o.product(x, self.weight_input, "drive")
        return o.add(o.product(x, self.weight_input, "product"), o.parameter(self.bias), "drive")

    @override
    def cell(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        match self._what:
            case "rnn":
                return cells.rnn(o, drive, state, self.weight_recurrent, self._activation)
            case "lstm":
                return cells.lstm(o, drive, state, self.weight_recurrent)
            case "gru":
                return cells.gru(o, drive, state, self.weight_recurrent, self._own_bias)

    @property
    def _own_bias(self) -> Tensor | None:
        """What GRU units add to their own candidate."""
        return None if self.bias is None else self.bias_recurrent

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run a window x[T, B, I]: by the fast kernels where they have such units, else step by step."""
        if self._what == "gru" or self._activation != "sigmoid":
            o = Eager(lengths)
            drive = self.drive(o, x)
            cell, bias = (cells.gru, (self._own_bias,)) if self._what == "gru" else (_ACTIVATED[self._activation], ())
            if found := kernels.by_its_cell(cell, drive, state, self.weight_recurrent, *bias, lengths=lengths):
                return found
            strand = Strand("drive", drive, self.cell, self.state_names, self.tap, True)
            (rows,), after = o.loop([strand], state)
            assert rows is not None
            return rows, after
        weight = self.weight_input
        if self.bias is not None:
            # The kernels know no bias: it is the weight of one more input, which is always 1.
            x = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)
            weight = torch.cat([weight, self.bias[None]])  # type: ignore[assignment]
        if self._what == "rnn":
            h, last = kernels.rnn(x, weight, state["h"], self.weight_recurrent, lengths)
            return h, {"h": last}
        h, *after_h = kernels.lstm(x, weight, state["h"], state["c"], self.weight_recurrent, lengths)
        return h, dict(zip("hc", after_h, strict=True))
