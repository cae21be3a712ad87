"""A recipe: what a training is, as a validated model."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hstnn_deploy import yaml_text
from hstnn_deploy.data.dataset import Protocol
from hstnn_deploy.data.registry import DataConfig
from hstnn_deploy.errors import RecipeError, UsageError
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.sizes import Kind
from hstnn_deploy.recipe.sections import Published, Selection, Stage

_MOST_UNITS, _MOST_LAYERS = 2**20, 1000
"""Of a layer, and of a network: far more than any machine trains."""


class Recipe(BaseModel):
    """Everything a result depends on, but for the machine."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    about: str = ""
    experiment: str | None = None
    """The row of the paper's resource table that this recipe reproduces."""
    published: Published | None = None
    """The results that this recipe answers to, where there are any."""
    data: DataConfig
    network: NetworkConfig
    kind: Kind = "hybrid"
    ratio: float = Field(0.5, gt=0, lt=1)
    """The spiking share of the units, of ffs and hybrid networks."""
    seed: int = Field(1111, ge=0, lt=2**63)
    batch: int = Field(gt=0)
    precision: Precision = "fp32"
    """In which precision training and evaluation compute; see `models.precision`."""
    protocol: Protocol = "validation"
    """Where the best epoch is chosen: `validation` (held out of training) or `test` (the demo's; overstates)."""
    adapt: Stage
    selection: Selection = Selection()
    restore: Stage

    @model_validator(mode="after")
    def _numbers_can_be(self) -> "Recipe":
        """Refuse numbers that no machine can hold, before anything is made of them."""
        for path, number in _whole_numbers(self.dump()):
            most = 2**63 if path == "seed" else _MOST_UNITS if path.startswith("network.") else 2**31 - 1
            if abs(number) > most:
                raise RecipeError(f"{path} is {brief(number)}: there can be {most} at most")
        if len(self.network.units) > _MOST_LAYERS:
            raise RecipeError(f"network.units names {len(self.network.units)} layers, of {_MOST_LAYERS} at most")
        return self

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "Recipe":
        """Refuse what no single key shows. The pure kinds say themselves which recurrent unit they are made of."""
        if self.kind == "lstm" and self.network.family == "convolutional":
            raise RecipeError("network.recurrent is 'lstm': the family convolutional has rnn units only", "--kind rnn")
        if self.network.family == "language" and (self.adapt.batches or self.restore.batches):
            raise RecipeError(
                "batches cannot be drawn at random from a text, which is read in order", "set adapt.batches=null"
            )
        if self.kind in {"rnn", "lstm", "snn"}:
            self.network.recurrent = "lstm" if self.kind == "lstm" else "rnn"
        return self

    @property
    def kind_name(self) -> str:
        """The kind with what tells two of its networks apart, such as "hybrid-lstm" or "ffs-0.25"."""
        unit = "-lstm" if self.kind in {"ffs", "hybrid"} and self.network.recurrent == "lstm" else ""
        return f"{self.kind}{unit}" + (f"-{self.ratio:g}" if self.kind == "ffs" else "")

    def check_fits(self, family: str, sizes: Mapping[str, int | None]) -> None:
        """Refuse a network that is not made for the data.

        Args:
            family: which family of networks the data is for.
            sizes: of the data, by name: `inputs`, `classes`, and `size` of frames (None where there are none).

        Raises:
            UsageError: another family, or a key of the network that the data contradicts.
        """
        if self.network.family != family:
            raise UsageError(
                f"network.family is {self.network.family}, but {self.data.name} is for the family {family}",
                "`hstnn recipes` lists recipes to start from",
            )
        for key, name in self.network.data_keys.items():
            wanted, there = getattr(self.network, key), sizes[name]
            if wanted != there:
                raise UsageError(
                    f"network.{key} is {wanted}, but {self.data.name} has {there}", f"--set network.{key}={there}"
                )

    def dump(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return self.model_dump(mode="json")

    def yaml(self) -> str:
        """Return the recipe as YAML."""
        return yaml_text.dump(self.dump())

    def for_stage(self, stage: str) -> dict[str, Any]:
        """Return the part of the recipe that the result of a stage depends on.

        What is left out may change without making the stage's folder another run's: all ratios of a seed share one
        adaptation and its traces.
        """
        without = {
            "train": {"selection", "restore"} | (set() if self.kind == "ffs" else {"ratio"}),
            "adapt": {"selection", "restore", "ratio"},
            "traces": {"restore", "ratio"},
            "restore": set(),
        }[stage]
        part = {
            key: value
            for key, value in self.dump().items()
            if key not in {*without, "about", "experiment", "published"}
        }
        if stage == "traces":
            part["selection"] = {**part["selection"], "bootstraps": None}
        return {"stage": stage, **part}


def _whole_numbers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in plain data with their paths."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(each, f"{path}.{key}" if path else str(key))
