"""Normalisation of channels: one for all steps, statistics of each step, or one normalisation a step (BNTT)."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from hstnn_deploy.errors import RunError
from hstnn_deploy.models import kernels
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.eager import Eager, Fast
from hstnn_deploy.models.layers.base import Layer, Shape, stepped, watched
from hstnn_deploy.models.layers.units import Spiking


class NormOptions(BaseModel):
    """What normalises, and over what."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    over: Literal["all", "step"] = "all"
    """While training, the statistics are those of all steps of a window together, or of each step by itself."""
    steps: PositiveInt | None = Field(None, le=100_000)
    """For over: step. The number of steps with statistics, scale and shift of their own; null: all steps share them."""
    eps: float = Field(1e-5, gt=0)
    momentum: float = Field(0.1, gt=0, le=1)
    """The share of a batch's statistics in the running ones."""
    scale: bool = True
    shift: bool = True


class NormConfig(BaseModel):
    """`{norm: {over: all}}`: batch normalisation of each channel."""

    model_config = ConfigDict(extra="forbid")

    norm: NormOptions

    def build(self, shape: Shape) -> tuple["Norm", Shape]:
        """Return the layer for inputs of a shape, and the shape after it.

        Raises:
            ValueError: the inputs are tokens; or steps of their own are asked for with statistics over all.
        """
        if not shape:
            raise ValueError("a normalisation does not take tokens")
        if self.norm.steps is not None and self.norm.over == "all":
            raise ValueError("norm.steps gives each step its own normalisation: give over: step with it")
        return Norm(shape, self.norm), shape


class Norm(Layer):
    """(x - mean) / sqrt(variance + eps) * scale + shift of each channel: [C], or [S, C] where steps have their own.

    While training, mean and variance are those of the batch; the running ones, which evaluation takes, follow with
    torch's unbiased variance. Steps past a sample's length are in no statistics.
    """

    kind = "norm"
    over_time = False
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: Shape, options: NormOptions) -> None:
        super().__init__()
        self.options, self.eps, self.maps = options, options.eps, len(shape) - 1
        size = (shape[0],) if options.steps is None else (options.steps, shape[0])
        self.scale = nn.Parameter(torch.ones(size)) if options.scale else None
        self.shift = nn.Parameter(torch.zeros(size)) if options.shift else None
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        if options.steps is not None:
            self.carries = {"step": ((1,), "steps before, of which layer {layer} normalises each by itself")}

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        if self.options.steps is None:
            return (self._trained(o, x, 0) if self._trains(o) else o.normalise(x, self, None, "normalised")), {}
        after = {"step": o.add(state["step"], 1.0, "step")}
        if self._trains(o):
            return self._trained(o, x, self._first(state["step"])), after
        return o.normalise(x, self, state["step"], "normalised"), after

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Tensors only: no other reading takes maps over all of time."""
        return self._over(o, x, state)  # type: ignore[no-any-return]

    def _over(self, o: Any, x: Any, state: Mapping[str, Any]) -> Any:
        if self.options.steps is None and (self.options.over == "all" or not self.training):
            if self.training:
                return self._trained(o, x, 0, whole=True), {}
            return o.normalise(x.flatten(0, 1), self).unflatten(0, x.shape[:2]), {}
        return stepped(self, o, x, state)

    @override
    def with_next(
        self, o: Algebra[V], x: V, own: Mapping[str, V], following: Layer, theirs: Mapping[str, V]
    ) -> tuple[V, dict[str, V], dict[str, V]] | None:
        """While training, neurons that see what each step's own statistics make of x; at rest, those of all steps."""
        if isinstance(o, Fast) and not self.training and self.options.steps is None and isinstance(following, Spiking):
            return self._at_rest(o, x, following, theirs)  # type: ignore[no-any-return]
        if not (isinstance(o, Fast) and self._trains(o) and self.options.over == "step" and o.lengths is None):
            return None
        return self._with_neurons(x, own, following, theirs) if isinstance(following, Spiking) else None

    def _at_rest(self, o: Any, x: Any, neurons: Spiking, theirs: Mapping[str, Any]) -> Any:
        if watched(self, neurons):
            return None
        found = kernels.spiking_at_rest(x, theirs, neurons.neuron, self, o.lengths, neurons.own)
        return found and (found[0], {}, found[1])

    def _with_neurons(self, x: Any, own: Mapping[str, Any], neurons: Spiking, theirs: Mapping[str, Any]) -> Any:
        if not kernels.takes_normed(x, theirs):
            return None
        self._check_several(x[0])
        steps, after = len(x), {}
        if self.options.steps is None:
            scale, shift = (each if each is None else each.expand(steps, -1) for each in (self.scale, self.shift))
            means, variances = [self.mean] * steps, [self.variance] * steps
        else:
            after = {"step": own["step"] + steps}
            self._first(after["step"] - 1)
            part = slice(int(own["step"][0, 0]), int(after["step"][0, 0]))
            scale, shift = (each if each is None else each[part] for each in (self.scale, self.shift))
            means, variances = list(self.mean[part]), list(self.variance[part])
        norms = kernels.StepNorms(scale, shift, means, variances, self.options.momentum, self.eps)
        y, new = neurons(x, dict(theirs), None, norms)
        return y, after, new

    def _trains(self, o: Any) -> bool:
        return self.training and isinstance(o, Eager)

    def _first(self, step: Any) -> int:
        """Return which step it is, that of the first sample: while training, all are at the same."""
        number, known = int(step[0, 0]), self.options.steps or 0
        if number >= known:
            raise RunError(
                f"a sample has a step {number + 1}, but layer {self.number} normalises {known} steps",
                f"give norm.steps in network.layers at least {number + 1}",
            )
        return number

    def _trained(self, o: Any, x: Any, step: int, whole: bool = False) -> Any:
        """Return values normalised by the statistics of the batch, which the running ones follow."""
        flat = x.flatten(0, 1) if whole else x
        lengths = o.lengths
        mean, variance, scale, shift = (
            each if each is None or self.options.steps is None else each[step]
            for each in (self.mean, self.variance, self.scale, self.shift)
        )

        def of_batch(rows: Tensor) -> Tensor:
            self._check_several(rows)
            return functional.batch_norm(rows, mean, variance, scale, shift, True, self.options.momentum, self.eps)

        if lengths is None:
            y = of_batch(flat)
            return y.unflatten(0, x.shape[:2]) if whole else y
        steps = len(x) if whole else 1
        # At a single step, lengths are those of what is left.
        valid = (torch.arange(steps, device=x.device)[:, None] < lengths).flatten()
        y = torch.zeros_like(flat)
        if valid.any():
            y = y.index_put((valid.nonzero()[:, 0],), of_batch(flat[valid]))
        return y.unflatten(0, x.shape[:2]) if whole else y

    def _check_several(self, rows: Tensor) -> None:
        """Refuse rows [N, C, …] with a single value of each channel, which has no variance."""
        if rows.numel() == rows.shape[1]:
            raise RunError(
                f"layer {self.number} normalises over a batch with a single value of each channel",
                "choose a batch size that leaves no batch of one sample, or over: all",
            )
