"""The sections of a recipe: stages, selection, and published results to compare with."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hstnn_deploy.data.dataset import Protocol
from hstnn_deploy.disturbances.training import checked
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.models.sizes import Kind


class Init(BaseModel):
    """The network that training starts from; its architecture is the recipe's `network`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str = ""
    """The file that it was read from."""
    parameters: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The fingerprint of its parameters; see `Checkpoint.fingerprint`."""


class Schedule(BaseModel):
    """How the learning rate falls: one of torch's schedulers, stepped after every epoch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Literal["step", "cosine", "plateau", "milestones"] = "step"
    """`step`: at regular intervals; `cosine`: along half a cosine; `plateau`: whenever validation stops improving;
    `milestones`: at given fractions of the stage."""
    every: int | None = Field(None, gt=0)
    """For step: epochs between steps. For plateau: epochs without a better metric before a step. For cosine: epochs of
    the fall (torch's T_max), after which the rate rises again for as many; null: the whole stage."""
    at: list[float] | None = None
    """For milestones: fractions of the stage's epochs, between 0 and 1, after which the rate falls."""
    late: bool = False
    """For milestones: fall one epoch later, and never at a fraction that is not a whole number of epochs, as in BNTT's
    code."""
    factor: float = Field(ge=0, le=1)
    """The factor by which the learning rate is multiplied at each step; for cosine, at the end (0 is possible)."""

    @model_validator(mode="after")
    def _together(self) -> "Schedule":
        if self.name == "milestones":
            if self.every is not None or not self.at or sorted(set(self.at)) != self.at:
                raise ValueError(
                    "milestones needs the key 'at', ascending fractions such as [0.5, 0.7, 0.9], and no 'every'"
                )
            if self.at[0] <= 0 or self.at[-1] >= 1:
                raise ValueError("every fraction in 'at' must be between 0 and 1")
        elif self.at is not None or self.late:
            raise ValueError(f"'at' and 'late' are only for milestones, not for {self.name}")
        elif self.name != "cosine" and self.every is None:
            raise ValueError(f"{self.name} needs the key 'every', in epochs")
        if self.name != "cosine" and self.factor == 0:
            raise ValueError(f"factor is 0, which would stop the training with {self.name}; only cosine may fall to 0")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys with their default value."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) not in (("at", None), ("late", False))}


class Stage(BaseModel):
    """One stage of training: adaptation (the only stage of a pure or ffs network) or restoration."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: int = Field(gt=0)
    """Passes over the training samples; the network of the best one is kept."""
    batches: int | None = Field(None, gt=0)
    """Batches per epoch, each drawn at random independently (the original demo trains on DVS-Gesture this way, and
    tests every 20); null: an epoch is a full pass over the training samples."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """The optimiser: torch's Adam or SGD."""
    lr: float = Field(gt=0)
    """The initial learning rate."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """The momentum of sgd; adam has none."""
    weight_decay: float = Field(0.0, ge=0)
    """The L2 penalty: this number times the parameter is added to the gradient."""
    clip: float | None = Field(None, gt=0)
    """The largest norm of the gradient of all parameters; null: no clipping."""
    schedule: Schedule | None = None
    """How the learning rate falls; null: it is constant."""
    evaluate_every: int | None = Field(None, gt=0)
    """Also measure the validation split each time after this number of batches; null: only at the end of an epoch.
    The results are in steps.jsonl; the best epoch is chosen by the ends of epochs."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys with their default value."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) not in _NEW}


_NEW = (("evaluate_every", None), ("weight_decay", 0.0))
"""Keys that older stages do not have, and their meaning there."""


class RateBounds(BaseModel):
    """Bounds on how often a unit spikes: spikes per step, as a mean over a batch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    low: float = Field(0.0, ge=0)
    """Below it, a unit is pushed to spike more often."""
    high: float = Field(1.0, gt=0)
    """Above it, a unit is pushed to spike less often."""
    weight: float = Field(1.0, gt=0)
    """The factor of the squared distance from the bounds."""

    @model_validator(mode="after")
    def _in_order(self) -> "RateBounds":
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self


class Regularise(BaseModel):
    """Penalties on spikes that are added to the loss during training; see `train.penalty`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    spikes: float = Field(0.0, ge=0)
    """The weight of the mean spikes per unit and step (an L1 penalty)."""
    rate: RateBounds | None = None
    """Bounds on how often each unit spikes; null: none."""


def levels_of(given: Any) -> Any:
    """Return the disturbances of a training: their names and strongest levels, as they are applied.

    Raises:
        RecipeError: a name is unknown, or a level is out of range or not a number.
    """
    hint = "for example against: {gaussian: 0.2}"
    if not isinstance(given, dict | None):
        raise RecipeError(f"against must be names of disturbances with levels (got {brief(given)})", hint)
    levels: dict[str, float] = {}
    for name, level in (given or {}).items():
        try:
            levels[str(name)] = float("" if isinstance(level, bool) else level)
        except (TypeError, ValueError):
            raise RecipeError(f"against.{one_line(str(name))} is {brief(level)}, not a number", hint) from None
    try:
        return checked(levels)
    except UsageError as error:
        raise RecipeError(error.message, error.hint) from error


Levels = Annotated[dict[str, float], BeforeValidator(levels_of)]
"""Disturbances and their strongest levels."""


class Selection(BaseModel):
    """How units are ranked (docs/mathematics.md, section 3)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    probes: int = Field(300, ge=2)
    """Number of Rademacher probes of the Hutchinson estimate."""
    samples: int = Field(100, gt=0)
    """Training samples in the batch on which the loss is computed; for a text, its first window in all columns is
    used instead."""
    bootstraps: int = Field(1000, ge=1)
    """Resamplings of the probes to measure the stability of the selection."""


class Published(BaseModel):
    """Published results to compare with: the metric on the test split, as a mean over seeds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: str
    """Where the figures were published, and how they were obtained."""
    protocol: Protocol
    """The split on which the best epoch was chosen."""
    rnn: float | None = None
    """The result of the pure rnn network."""
    lstm: float | None = None
    """The result of the pure lstm network."""
    snn: float | None = None
    """The result of the pure snn network."""
    ffs: dict[float, float] = {}
    """The results of ffs networks, by ratio."""
    hybrid: dict[float, float] = {}
    """The results of restored hybrid networks, by ratio."""
    plain: float | None = None
    """The result of a stack."""

    def of(self, kind: Kind, ratio: float) -> float | None:
        """Return the result of a kind, for ffs and hybrid at a ratio; None if nothing was published."""
        match kind:
            case "ffs" | "hybrid":
                found: dict[float, float] = getattr(self, kind)
                return found.get(ratio)
            case _:
                figure: float | None = getattr(self, kind)
                return figure
