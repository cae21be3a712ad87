"""Weights on devices: quantised, varied as RRAM varies them, helped by a part in SRAM, pruned.

Of the weights w of a convolution, with b bits, n = 2^b - 1 and k = 2^(b-1):

    uniform   q = 2 (round((w + 1) / 2 n) / n - 1/2),  Q = round(q k) / k      halves to even; no zero level, no clamp
    dorefa    2 round(n (tanh w / (2 max |tanh w|) + 1/2)) / n - 1             Zhou et al. 2016, arXiv 1606.06160
    ternary   s where w >= t, -s where w < -t, else 0, with t = 0.05 max |w|, s the mean |w| of |w| >= t
    varied    sign(w) min(|w| e^N(0, sigma), max w)                            one draw for each forward pass
    with SRAM (Q(R) varied + 2^shift Q(W)) / 2                                 R fixed, W trained
    pruned    Q(W) where |W| > threshold max |W|, else 0

Backward, each is the identity: the gradient of what is computed with goes to w as it is (of SRAM times 2^shift / 2);
that of ternary weights only where |w| < 1.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from hstnn_deploy.errors import RecipeError, UsageError

Step = Literal["baseline", "vat", "recover", "prune"]
"""Steps of training: quantised; with variation too; a trained SRAM part beside fixed RRAM weights; that part pruned."""

STEPS: tuple[Step, ...] = ("baseline", "vat", "recover", "prune")

Quantiser = Literal["uniform", "dorefa", "ternary"]

SIGMA = {1: 0.08164, 2: 0.12542, 3: 0.2062, 4: 0.34597, 8: 0.369039}
"""The deviation of log-normal variation by bits, as measured (the RRAM/SRAM code's table)."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Variation(_Section):
    """How RRAM weights deviate from the values written to them."""

    sigma: float | None = Field(None, gt=0)
    """The standard deviation of ln(w' / w); null: the measured one for the number of bits."""
    scale: float = Field(1.0, ge=0)
    """A factor of sigma; 0: no variation."""


class Sram(_Section):
    """A second part of each weight, in SRAM, which is trained while the RRAM part is fixed."""

    bits: int | None = Field(None, ge=1, le=8, strict=True)
    """Bits of the SRAM part; null: those of the RRAM part."""
    shift: int = Field(0, ge=-16, le=16)
    """The SRAM part is multiplied by 2^shift."""
    start: str = Field("rram", min_length=1, max_length=4096)
    """Initial SRAM weights: `rram` (the RRAM weights), `zeros`, `fresh`, or those of the checkpoint at this path."""
    half: bool = True
    """Whether the sum of both parts is divided by 2."""
    keep: Literal["all", "statistics"] = "all"
    """What else is copied from the RRAM network: everything, or only running statistics (as in the original code, so
    that scales and the classifier start anew)."""


class Prune(_Section):
    """How SRAM weights are pruned to zero."""

    threshold: float = Field(0.005, ge=0, lt=1)
    """Weights up to this fraction of the layer's largest are set to zero."""
    group: int = Field(16, gt=0)
    """Input channels in each group of the group lasso."""
    weight: float = Field(1e-4, ge=0)
    """The factor of the group lasso in the loss."""
    ratio: float = Field(1.0, ge=0)
    """A group counts with its norm, limited to this fraction of the layer's mean norm."""
    first: bool = False
    """Whether to prune the first layer too."""


class Weights(_Section):
    """The weights of all convolutions on devices, as set in a recipe."""

    step: Step = "baseline"
    """The step of training, which determines the sections below that apply."""
    quantiser: Quantiser = "uniform"
    bits: int = Field(4, ge=1, le=8, strict=True)
    """Bits of the RRAM part; ternary weights always have three levels."""
    variation: Variation = Variation()
    sram: Sram = Sram()
    prune: Prune = Prune()

    @model_validator(mode="after")
    def _has_a_sigma(self) -> "Weights":
        if self.step != "baseline" and self.variation.sigma is None and self.bits not in SIGMA and self.variation.scale:
            known = ", ".join(map(str, SIGMA))
            raise RecipeError(
                f"network.weights.bits is {self.bits}, but no variation was measured at {self.bits} bits",
                f"give network.weights.variation.sigma, or bits of {known}",
            )
        return self

    @property
    def sigma(self) -> float:
        """The deviation that takes part in this step; 0 of the baseline."""
        if self.step == "baseline":
            return 0.0
        sigma = SIGMA.get(self.bits, 0.0) if self.variation.sigma is None else self.variation.sigma
        return sigma * self.variation.scale

    def drawn(self) -> "Weights":
        """Return what a draw of the variation varies: of a baseline, which was trained without it, as in the next step.

        Raises:
            UsageError: no sigma is known for the bits.
        """
        found = self.model_copy(update={"step": "vat"}) if self.step == "baseline" else self
        if not found.sigma and self.variation.scale:
            raise UsageError(
                f"no variation was measured at {self.bits} bits, so hstnn cannot draw it",
                "train with network.weights.variation.sigma, or with other bits",
            )
        return found

    @property
    def compensated(self) -> bool:
        """Whether there is an SRAM part."""
        return self.step in {"recover", "prune"}

    def effective(
        self, weight: Tensor, fixed: Tensor | None, number: int, noise: Tensor | None = None, varied: bool = True
    ) -> Tensor:
        """Return what a convolution computes with.

        Args:
            weight: the trained weights: those of RRAM, or with an SRAM part those of SRAM.
            fixed: those of RRAM, where there is an SRAM part.
            number: which convolution it is, from 0.
            noise: the draws of N(0, 1), of the weights' shape; None: drawn here.
            varied: whether variation takes part.
        """
        rram = quantised(weight if fixed is None else fixed, self.quantiser, self.bits)
        if varied and self.sigma:
            drawn = torch.randn_like(rram) if noise is None else noise
            rram = straight(varied_by(rram.detach(), drawn * self.sigma), rram)
        if fixed is None:
            return rram
        sram = quantised(weight, self.quantiser, self.sram.bits or self.bits)
        if self.step == "prune" and (number or self.prune.first):
            sram = straight(sram.detach() * kept(weight, self.prune.threshold), sram)
        total = rram.detach() + sram * 2.0**self.sram.shift
        return total / 2 if self.sram.half else total

    def penalty(self, weights: list[Tensor]) -> Tensor | None:
        """Return the group lasso of all convolutions but the first, or None where this step has none."""
        if self.step != "prune" or not self.prune.weight or len(weights) < 2:
            return None
        how = self.prune
        losses = [group_lasso(weight, how.group, how.ratio) for weight in weights[1:]]
        return how.weight * torch.stack(losses).sum()

    def sparsity(self, weights: list[Tensor]) -> tuple[float, float]:
        """Return which shares of the SRAM weights that may be pruned, and of their groups, are zero."""
        zeros = [kept(weight.detach(), self.prune.threshold) == 0 for weight in weights[0 if self.prune.first else 1 :]]
        if not zeros:
            return 0.0, 0.0
        groups = [grouped(each.float(), self.prune.group).all(-1).flatten() for each in zeros]
        share = float(torch.cat([each.flatten() for each in zeros]).double().mean())
        return share, float(torch.cat(groups).double().mean())


def check_devices(weights: Weights, layers: Sequence[Any]) -> None:
    """Refuse settings that weights on devices cannot have.

    Args:
        weights: what a recipe says of them.
        layers: the convolutions of its network.

    Raises:
        RecipeError: there is no convolution, or the groups of a pruning do not divide the channels.
    """
    if not layers:
        raise RecipeError("network.weights is for convolutions, and network.layers have none", "leave weights out")
    for layer in layers[0 if weights.prune.first else 1 :]:
        inputs, group = layer.weight.shape[1], weights.prune.group
        if inputs % min(group, inputs):
            raise RecipeError(
                f"network.weights.prune.group is {group}, which does not divide the {inputs} input channels of layer "
                f"{layer.number}",
                "give a number that divides them",
            )


def straight(value: Tensor, through: Tensor) -> Tensor:
    """Return `value`, whose gradient goes to `through` as it is."""
    return value.detach() + (through - through.detach())


def quantised(w: Tensor, quantiser: Quantiser, bits: int) -> Tensor:
    """Return weights on the levels of a quantiser; backward, the identity (of ternary weights where |w| < 1)."""
    match quantiser:
        case "uniform":
            return _Through.apply(w, uniform(w.detach(), bits), None)  # type: ignore[no-any-return, no-untyped-call]
        case "dorefa":
            return _Through.apply(w, dorefa(w.detach(), bits), None)  # type: ignore[no-any-return, no-untyped-call]
        case "ternary":
            return _Through.apply(w, ternary(w.detach()), w.detach().abs() < 1)  # type: ignore[no-any-return, no-untyped-call]


class _Through(torch.autograd.Function):
    """A value in the place of another, exactly, and the gradient to that other."""

    @staticmethod
    def forward(ctx: Any, _w: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.mask = mask
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad if ctx.mask is None else grad * ctx.mask), None, None


def uniform(w: Tensor, bits: int) -> Tensor:
    """Return w on the levels of the uniform quantiser; see the module."""
    n, k = 2**bits - 1, 2 ** (bits - 1)
    q = 2 * (torch.round((w + 1) / 2 * n) / n - 0.5)
    levels: Tensor = torch.round(q * k) / k
    return levels


def dorefa(w: Tensor, bits: int) -> Tensor:
    """Return w on the 2^bits levels of DoReFa from -1 to 1."""
    n = 2**bits - 1
    squashed = torch.tanh(w)
    largest = squashed.abs().max().clamp(min=torch.finfo(w.dtype).tiny)
    levels: Tensor = 2 * torch.round(n * (squashed / (2 * largest) + 0.5)) / n - 1
    return levels


def ternary(w: Tensor) -> Tensor:
    """Return w on three levels."""
    t = 0.05 * w.abs().max()
    outer = w.abs() >= t
    scale = w.abs()[outer].mean()
    levels = torch.where(w >= t, scale, torch.where(w < -t, -scale, torch.zeros_like(w)))
    # What is no number stays none, as the comparisons would hide.
    return torch.where(t.isnan(), w + t, levels)


def varied_by(w: Tensor, exponents: Tensor) -> Tensor:
    """Return w times e^exponents, no larger than the largest weight (of negative ones alone: the largest size)."""
    limit = torch.where(w.max() > 0, w.max(), w.abs().max())
    return w.sign() * torch.minimum(w.abs() * exponents.exp(), limit)


def kept(w: Tensor, threshold: float) -> Tensor:
    """Return 1 where |w| > threshold max |w|, else 0."""
    return (w.abs() > threshold * w.abs().max()).to(w.dtype)


def group_lasso(w: Tensor, group: int, ratio: float) -> Tensor:
    """Return the sum of the groups' norms, each at most `ratio` times their mean (which has a gradient too)."""
    # Whose gradient is 0 where all of a group is.
    norms = torch.linalg.vector_norm(grouped(w, group), dim=-1)
    total: Tensor = torch.minimum(norms, ratio * norms.mean()).sum()
    return total


def grouped(w: Tensor, group: int) -> Tensor:
    """Return w (outputs, inputs, …) as (outputs, groups, values): a group is some input channels of one output."""
    grouped: Tensor = w.unflatten(1, (-1, min(group, w.shape[1]))).flatten(2)
    return grouped
