"""The reading of a network's equations that bounds what float32 arithmetic may make of them (see `models.algebra`).

A value is a number in float64 and how far an engine's float32 may be from it. The rules are derived in
docs/mathematics.md, section 4; u = 2^-24.

- One operation rounds its result: u |r|, on top of what its operands' errors come to. A product with 0 or 1, and a
  result of exact operands that float32 holds, is exact.
- A sum of n nonzero terms t_k, added up in an unknown order: `SPREAD` u sqrt((n + 1) (Q / 6 + S^2 / 3) + Q),
  with S the sum and Q the sum of the terms' squares.
- sigmoid, tanh: the slope's bound (1/4, 1) times the operand's error, and 4 ulp of the result for the engine's own.

What an engine claims (a spike, a recurrent output) is checked against its value and bound, and then taken for exact:
no mismatch can hide behind an earlier one, and only membranes and cells carry an error from step to step.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.models.algebra import Algebra, Comparison, Convolution, Fires, Normed, Pooling, Sizes, Strand
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.surrogates import Surrogate

UNIT_ROUNDOFF = 2.0**-24

SPREAD = 8.0
"""How many times its root mean square over all orders the error of a sum may be; see docs/mathematics.md, section 4."""


class Value(NamedTuple):
    """A number in float64, and how far an engine's may be from it."""

    v: Tensor
    e: Tensor


class Claims(Protocol):
    """What an engine says its units handed out, and who hears how that compares."""

    def spikes(self, layer: int, tap: str, step: int, membrane: Value, threshold: Value, fires: Fires) -> Tensor:
        """Check claimed spikes [B, n, …] of a step; return them."""

    def values(self, layer: int, tap: str, step: int, expected: Value) -> Tensor:
        """Check claimed values [B, n, …] of a step; return them."""


def exact(v: Tensor) -> Value:
    """Return numbers that an engine has as they are."""
    v = v.double()
    return Value(v, torch.zeros((), dtype=torch.float64))


def ulp(values: Tensor) -> Tensor:
    """Return the distance from each float32 value to the next larger one, in float64."""
    single = values.float().abs()
    return (torch.nextafter(single, torch.full_like(single, torch.inf)) - single).double()


class Bounded(Algebra[Value]):
    """Values with bounds.

    Args:
        claims: what an engine handed out.
    """

    reads = "the proof"

    def __init__(self, claims: Claims) -> None:
        self._claims, self._step, self._run = claims, 0, Eager()

    # ------------------------------------------------------------------------------------------------- arithmetic

    @override
    def add(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        a, b = _value(a), _value(b)
        return _rounded(a.v + b.v, a.e + b.e)

    @override
    def sub(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        a, b = _value(a), _value(b)
        return _rounded(a.v - b.v, a.e + b.e)

    @override
    def mul(self, a: Value | float, b: Value | float, name: str = "") -> Value:
        a, b = _value(a), _value(b)
        v, e = a.v * b.v, a.v.abs() * b.e + b.v.abs() * a.e + a.e * b.e
        rounding = UNIT_ROUNDOFF * v.abs()
        for each in (a, b):
            # A product with 0 or 1 is not rounded.
            rounding = torch.where((each.e == 0) & ((each.v == 0) | (each.v.abs() == 1)), 0.0, rounding)
        return Value(v, e + rounding)

    @override
    def share(self, total: Value, count: Value, name: str = "") -> Value:
        v = total.v / count.v
        return _rounded(v, (total.e + v.abs() * count.e) / count.v.abs())

    @override
    def sigmoid(self, a: Value, name: str = "") -> Value:
        """Its slope is at most 1/4."""
        v = torch.sigmoid(a.v)
        return Value(v, a.e / 4 + 4 * ulp(v))

    @override
    def tanh(self, a: Value, name: str = "") -> Value:
        """Its slope is at most 1."""
        v = torch.tanh(a.v)
        return Value(v, a.e + 4 * ulp(v))

    @override
    def relu(self, a: Value, name: str = "") -> Value:
        return Value(a.v.relu(), a.e)

    @override
    def clip(self, a: Value, low: float | None, high: float | None, name: str = "") -> Value:
        """It takes two numbers no further apart than they are, and a bound is what it is."""
        low, high = (None if each is None else float(_value(each).v) for each in (low, high))
        v = a.v.clamp(low, high)
        beyond = (a.v + a.e < v) | (a.v - a.e > v)
        return Value(v, torch.where(beyond, 0.0, a.e))

    @override
    def parameter(self, value: Tensor) -> Value:
        return exact(value.detach())

    # ------------------------------------------------------------------------------------------- what units hand out

    @override
    def spike(
        self,
        membrane: Value,
        threshold: Value | float,
        surrogate: Surrogate,
        name: str = "spikes",
        fires: Fires = "above",
    ) -> Value:
        """What the engine claims is checked, and taken."""
        return exact(self._claims.spikes(self.layer, name, self._step, membrane, _value(threshold), fires))

    @override
    def exceeds(self, a: Value, threshold: Value | float, name: str = "exceeds") -> Value:
        """Where the bound reaches the threshold, an engine may have either: the bound is 1."""
        threshold = _value(threshold)
        reach = a.e + threshold.e
        near = (reach > 0) & ((a.v - threshold.v).abs() <= reach)
        return Value((a.v > threshold.v).double(), near.double())

    @override
    def tap(self, a: Value, name: str) -> Value:
        """What the engine claims is checked, and taken; spikes have been."""
        if name == "spikes":
            return a
        return exact(self._claims.values(self.layer, name, self._step, a))

    # --------------------------------------------------------------------------------------------------------- weights

    @override
    def product(self, x: Value, weight: Tensor, name: str = "") -> Value:
        w = weight.detach().double().flatten(1)
        result = _sum(x, lambda values, form: values @ form(w), x.v.count_nonzero(-1)[..., None])
        return Value(*(part.unflatten(-1, weight.shape[1:]) for part in result)) if weight.ndim > 2 else result

    @override
    def linear(self, x: Value, layer: nn.Linear, name: str = "") -> Value:
        w = layer.weight.detach().double().T
        bias = None if layer.bias is None else layer.bias.detach().double()
        return _sum(x, lambda values, form: values @ form(w), x.v.count_nonzero(-1)[..., None], bias)

    @override
    def linear_at_each(self, x: Value, layer: nn.Linear, name: str = "") -> Value:
        return self.linear(x, layer)

    @override
    def convolve(self, x: Value, layer: Convolution, name: str = "") -> Value:
        if x.v.ndim > layer.weight.ndim:
            rows = self.convolve(Value(x.v.flatten(0, 1), x.e.flatten(0, 1) if x.e.ndim else x.e), layer)
            return Value(*(part.unflatten(0, x.v.shape[:2]) for part in rows))
        w = layer.weight.detach().double()

        def convolved(values: Tensor, weight: Tensor) -> Tensor:
            convolution: Any = functional.conv1d if layer.weight.ndim == 3 else functional.conv2d
            found: Tensor = convolution(values, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            return found

        terms = convolved((x.v != 0).double(), torch.ones_like(w[:: len(w) // layer.groups]))
        terms = terms.repeat_interleave(len(w) // layer.groups, dim=1)
        beside = (..., *[None] * (layer.weight.ndim - 2))
        bias = None if layer.bias is None else layer.bias.detach().double()[beside]
        return _sum(x, lambda values, form: convolved(values, form(w)), terms, bias)

    @override
    def normalise(self, x: Value, norm: Normed, step: Value | None = None, name: str = "") -> Value:
        """Engines may take it as (x - mean) * factor + shift, or as x * factor + what is left.

        The factor scale / sqrt(variance + eps) takes four roundings at most, each product and sum one more.
        """
        beside = (..., *[None] * (x.v.ndim - 2))

        def row(table: Tensor) -> Tensor:
            found = table.detach().double()
            return (found if step is None else found[step.v[:, 0].long()])[beside]

        mean, factor = row(norm.mean), (row(norm.variance) + norm.eps).rsqrt()
        if norm.scale is not None:
            factor = factor * row(norm.scale)
        shift = torch.zeros_like(mean) if norm.shift is None else row(norm.shift)
        v = (x.v - mean) * factor + shift
        size = (x.v * factor).abs() + (mean * factor).abs() + shift.abs()
        return Value(v, x.e * factor.abs() + 8 * UNIT_ROUNDOFF * size)

    @override
    def embed(self, tokens: Value, layer: nn.Embedding, name: str = "") -> Value:
        return exact(layer.weight.detach()[tokens.v.long()])

    # ---------------------------------------------------------------------------------------------------------- shapes

    @override
    def likeliest(self, logits: Value, name: str = "") -> Value:
        """With logits off by e at most, each probability is off by a factor e^(2 e) at most.

        An engine rounds each logit's distance d from the largest, takes 4 ulp for its exponential, adds up n of them in
        an unknown order, and divides: relative to a probability, (n + 8 + the mean distance) u.
        """
        chances = logits.v.softmax(-1)
        away = (chances * (logits.v.amax(-1, keepdim=True) - logits.v)).sum(-1)
        v, off = chances.amax(-1), logits.e.expand_as(logits.v).amax(-1)
        rounding = UNIT_ROUNDOFF * (logits.v.shape[-1] + 8 + away)
        return Value(v, v * (torch.expm1(2 * off) + rounding))

    @override
    def mean_scale(self, norm: Normed, step: Value, name: str = "") -> Value:
        """Of n terms, each is rounded n times at most, and the mean once more."""
        assert norm.scale is not None
        v = norm.scale.detach().double().abs().mean(1)[step.v[:, 0].long()]
        return Value(v, (norm.scale.shape[1] + 1) * UNIT_ROUNDOFF * v)

    @override
    def compared(self, a: Value, how: Comparison, threshold: float, name: str = "") -> Value:
        """Where the bound reaches the threshold, an engine may have either: the bound is 1."""
        border = _value(threshold).v
        near = (a.e > 0) & ((a.v - border).abs() <= a.e)
        return Value((a.v >= border if how == "at least" else a.v < border).double(), near.double())

    @override
    def parts(self, x: Value, count: int, name: str = "") -> list[Value]:
        return [Value(v, e) for v, e in zip(x.v.unbind(1), x.e.expand_as(x.v).unbind(1), strict=True)]

    @override
    def concat(self, values: Sequence[Value], axis: int, name: str = "") -> Value:
        return Value(
            torch.cat([each.v for each in values], dim=axis),
            torch.cat([each.e.expand_as(each.v) for each in values], dim=axis),
        )

    @override
    def pool(self, x: Value, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> Value:
        """Of n terms, each is rounded n times at most; the largest is not rounded."""
        v, e = (self._run.pool(part, how, size, stride, padding=padding) for part in (x.v, x.e.expand_as(x.v)))
        if how == "max":
            return Value(v, e)
        terms = prod(size)
        magnitude = self._run.pool(x.v.abs(), how, size, stride, padding=padding)
        total = v * terms if how == "mean" else v
        rounding = terms * UNIT_ROUNDOFF * magnitude
        return Value(v, e + torch.where((e == 0) & _single(total) & _single(v), 0.0, rounding))

    @override
    def vote(self, x: Value, voters: int, name: str = "") -> Value:
        v, e, magnitude = (self._run.vote(part, voters) for part in (x.v, x.e.expand_as(x.v), x.v.abs()))
        rounding = torch.where((e == 0) & _single(v * voters), UNIT_ROUNDOFF, (voters + 1) * UNIT_ROUNDOFF) * magnitude
        return Value(v, e + torch.where((e == 0) & _single(v * voters) & _single(v), 0.0, rounding))

    @override
    def flatten(self, x: Value, name: str = "") -> Value:
        return Value(x.v.flatten(1), x.e.expand_as(x.v).flatten(1))

    # ------------------------------------------------------------------------------------------------------------ time

    @override
    def total(self, x: Value, name: str = "") -> Value:
        result = Value(x.v[0], x.e.expand_as(x.v)[0])
        for v, e in zip(x.v[1:], x.e.expand_as(x.v)[1:], strict=True):
            result = self.add(result, Value(v, e))
        return result

    @override
    def length(self, x: Value, name: str = "") -> Value:
        return exact(torch.full((x.v.shape[1], 1), float(len(x.v))))

    @override
    def loop(
        self, strands: Sequence[Strand[Value]], state: Mapping[str, Value]
    ) -> tuple[list[Value | None], dict[str, Value]]:
        now = {name: state[name] for strand in strands for name in strand.states}
        rows: list[list[Value]] = [[] for _ in strands]
        for t in range(len(strands[0].over.v)):
            inside = self._with(_step=t)
            after: dict[str, Value] = {}
            for strand, row in zip(strands, rows, strict=True):
                over = strand.over
                handed, new = strand.step(inside, Value(over.v[t], over.e[t] if over.e.ndim else over.e), now)
                after |= new
                if strand.needed:
                    row.append(handed)
            now = after
        return [_stack(row) if row else None for row in rows], now


def _value(operand: Value | float) -> Value:
    """Return an operand. A constant is a float32 in every engine, and that float32 is what is meant."""
    if isinstance(operand, Value):
        return operand
    return exact(torch.tensor(operand, dtype=torch.float32))


def _single(v: Tensor) -> Tensor:
    """Return where float32 holds numbers as they are."""
    return v.float().double() == v


def _rounded(v: Tensor, e: Tensor) -> Value:
    """Return the result of one operation: rounded, unless exact operands gave what float32 holds."""
    return Value(v, torch.where((e == 0) & _single(v), 0.0, e + UNIT_ROUNDOFF * v.abs()))


def _sum(
    x: Value, product: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor], terms: Tensor, bias: Tensor | None = None
) -> Value:
    """Return a sum of products with weights.

    Args:
        x: one factor of each term.
        product: from such a factor, and what is to be made of the weights, to the sums.
        terms: how many of the terms are not zero.
        bias: one more term.
    """
    v, squares = product(x.v, lambda w: w), product(x.v.square(), torch.square)
    if bias is not None:
        v, squares, terms = v + bias, squares + bias.square(), terms + 1
    e = SPREAD * UNIT_ROUNDOFF * ((terms + 1) * (squares / 6 + v.square() / 3) + squares).sqrt()
    if x.e.ndim:
        e = e + product(x.e, torch.abs)
    return Value(v, e)


def _stack(rows: list[Value]) -> Value:
    v = torch.stack([row.v for row in rows])
    if not any(row.e.ndim for row in rows):
        return Value(v, rows[0].e)
    return Value(v, torch.stack([row.e.expand_as(row.v) for row in rows]))
