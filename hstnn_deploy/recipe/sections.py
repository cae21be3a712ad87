"""The sections of a recipe: stages, selection, and the published results that it answers to."""

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
    """The network that training begins with: its architecture is the recipe's `network`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str = ""
    """The file that it was taken from."""
    parameters: str = Field(pattern=r"^[0-9a-f]{64}$")
    """What its numbers are known by; see `Checkpoint.fingerprint`."""


class Schedule(BaseModel):
    """How the learning rate falls: one of torch's schedulers, stepped after every epoch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Literal["step", "cosine", "plateau", "milestones"] = "step"
    """In steps, along half a cosine, whenever validation stops getting better, or at shares of the stage."""
    every: int | None = Field(None, gt=0)
    """Of step: epochs from one step to the next. Of plateau: epochs without a better metric before the next. Of cosine:
    epochs in which it falls (torch's T_max), after which it rises again for as many; null: the whole stage."""
    at: list[float] | None = None
    """Of milestones: shares of the stage's epochs, between 0 and 1, after which it falls."""
    late: bool = False
    """Of milestones: fall one epoch later, and never at a share that is no whole number of epochs, as BNTT's code."""
    factor: float = Field(ge=0, le=1)
    """What the learning rate is multiplied with at each step; of cosine, what is left of it at the end, perhaps 0."""

    @model_validator(mode="after")
    def _together(self) -> "Schedule":
        if self.name == "milestones":
            if self.every is not None or not self.at or sorted(set(self.at)) != self.at:
                raise ValueError(
                    "milestones needs the key 'at', ascending shares such as [0.5, 0.7, 0.9], and no 'every'"
                )
            if self.at[0] <= 0 or self.at[-1] >= 1:
                raise ValueError("at: every share lies between 0 and 1")
        elif self.at is not None or self.late:
            raise ValueError(f"at and late are for milestones, and this is {self.name}")
        elif self.name != "cosine" and self.every is None:
            raise ValueError(f"{self.name} needs the key 'every', in epochs")
        if self.name != "cosine" and self.factor == 0:
            raise ValueError(f"factor is 0, and {self.name} would end the training: only cosine may fall to 0")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys that there were not always, where they say nothing."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) not in (("at", None), ("late", False))}


class Stage(BaseModel):
    """One stage of training: adaptation (all that a pure or ffs network has) or restoration."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: int = Field(gt=0)
    """Passes over the training samples; the best one is kept."""
    batches: int | None = Field(None, gt=0)
    """Batches of an epoch, each drawn at random by itself (so the demo trains on DVS-Gesture, and tests every 20), or
    null where an epoch is a whole pass over the training samples."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Torch's Adam or SGD."""
    lr: float = Field(gt=0)
    """The learning rate at the beginning."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Of sgd; adam has none."""
    weight_decay: float = Field(0.0, ge=0)
    """What every parameter is pulled to zero with: times the parameter, it is added to the gradient."""
    clip: float | None = Field(None, gt=0)
    """The largest norm of the whole gradient, or null for no clipping."""
    schedule: Schedule | None = None
    """How the learning rate falls, or null where it stays."""
    evaluate_every: int | None = Field(None, gt=0)
    """Batches after which the validation split is measured within an epoch too, or null for its end alone. The figures
    go into steps.jsonl; the best epoch is chosen by the ends of epochs."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the key that there was not always, where it says nothing."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) not in _NEW}


_NEW = (("evaluate_every", None), ("weight_decay", 0.0))
"""Keys of a stage that there were not always, and what they meant then."""


class RateBounds(BaseModel):
    """How often a unit should spike: spikes per step, a mean over a batch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    low: float = Field(0.0, ge=0)
    """Below it, a unit is pushed to spike more often."""
    high: float = Field(1.0, gt=0)
    """Above it, a unit is pushed to spike less often."""
    weight: float = Field(1.0, gt=0)
    """What the squared distance from the bounds is multiplied with."""

    @model_validator(mode="after")
    def _in_order(self) -> "RateBounds":
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}, above high, which is {self.high:g}")
        return self


class Regularise(BaseModel):
    """What is added to the loss while training, for the spikes themselves; see `train.penalty`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    spikes: float = Field(0.0, ge=0)
    """The weight of the spikes per unit and step (L1: they are never negative)."""
    rate: RateBounds | None = None
    """Bounds on how often each unit spikes, or null."""


def levels_of(given: Any) -> Any:
    """Return what a training is disturbed by: names of disturbances and their strongest levels, as they are applied.

    Raises:
        RecipeError: an unknown name, a level out of its range, or something else than a number.
    """
    hint = "such as against: {gaussian: 0.2}"
    if not isinstance(given, dict | None):
        raise RecipeError(f"against is {brief(given)}, not names of disturbances and their levels", hint)
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
    """Rademacher probes of the Hutchinson estimate."""
    samples: int = Field(100, gt=0)
    """Training samples in the one batch on which the loss is taken; of a text, the first window of all columns."""
    bootstraps: int = Field(1000, ge=1)
    """Resamplings of the probes for the stability of the kept set."""


class Published(BaseModel):
    """Published results to compare a recipe's with: the metric on the test split, a mean over seeds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: str
    """Where the figures were published, and how they were obtained."""
    protocol: Protocol
    """Which split chose the epoch of these figures."""
    rnn: float | None = None
    """Of the pure rnn network."""
    lstm: float | None = None
    """Of the pure lstm network."""
    snn: float | None = None
    """Of the pure snn network."""
    ffs: dict[float, float] = {}
    """Of ffs networks, by ratio."""
    hybrid: dict[float, float] = {}
    """Of restored hybrid networks, by ratio."""
    plain: float | None = None
    """Of a stack."""

    def of(self, kind: Kind, ratio: float) -> float | None:
        """Return the figure of a kind, of ffs and hybrid at a ratio; None where nothing was published."""
        match kind:
            case "ffs" | "hybrid":
                found: dict[float, float] = getattr(self, kind)
                return found.get(ratio)
            case _:
                figure: float | None = getattr(self, kind)
                return figure
