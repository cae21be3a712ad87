"""A recipe: the validated description of a training."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from hstnn_deploy import yaml_text
from hstnn_deploy.data.dataset import Protocol, Shape
from hstnn_deploy.data.registry import DataConfig
from hstnn_deploy.data.splits import DataSizes, Splits, Targets
from hstnn_deploy.disturbances.hardware import WEIGHTS
from hstnn_deploy.errors import HstnnError, RecipeError, nearest
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.network import Asked
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.rram import Step
from hstnn_deploy.models.sizes import KINDS, Kind
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.models.tasks import LossConfig, task_for
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.recipe.explain import explained
from hstnn_deploy.recipe.fits import check_fits
from hstnn_deploy.recipe.sections import Init, Levels, Published, Regularise, Selection, Stage

Method = Literal["hybrid", "plain"]

ADDED: tuple[tuple[str, Any], ...] = (
    ("loss", None),
    ("regularise", None),
    ("against", {}),
    ("finetune", None),
    ("init", None),
    ("metrics", []),
)
"""Keys that older recipes do not have, and their meaning there."""

_FAMILIES = ("stack", "sequence", "convolutional", "language")

_OF_HYBRID = {"kind", "ratio", "adapt", "selection", "restore"}
"""Keys that belong to the method hybrid."""

_MOST_UNITS, _MOST_LAYERS = 2**20, 1000
"""Units of a layer, and layers of a network, at most: far more than any machine trains."""


class Recipe(BaseModel):
    """Everything that a result depends on, except the machine."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """The name of the training in run folders, tables and pictures."""
    about: str = ""
    """A sentence that describes the recipe."""
    experiment: str | None = None
    """The row of the paper's resource table that this recipe reproduces."""
    published: Published | None = None
    """Published results to compare with, or null."""
    data: DataConfig
    network: NetworkConfig
    kind: Kind = "hybrid"
    """The units of the layers; see `hstnn train --kind`. A stack has `plain`."""
    ratio: float = Field(0.5, gt=0, lt=1)
    """The share of spiking units in ffs and hybrid networks."""
    seed: int = Field(1111, ge=0, lt=2**63)
    """The seed of initial weights, the order of samples, and probes."""
    batch: int = Field(gt=0)
    """Samples per training step; for a text, the number of parts that are read in parallel."""
    precision: Precision = "fp32"
    """The precision of training and evaluation; see `models.precision`."""
    protocol: Protocol = "validation"
    """The split on which the best epoch is chosen: `validation` (held out of training) or `test` (as the demo does;
    overstates the result)."""
    loss: LossConfig | None = None
    """The loss; null: the usual one of the network's family, or regression if the data has values."""
    metrics: list[str] = Field([], max_length=100)
    """Your own metrics, measured on the test split in addition to the task's; see `hstnn_deploy.custom`."""
    regularise: Regularise | None = None
    """Penalties on spikes that are added to the loss; null: none."""
    against: Levels = {}
    """Disturbances during training, with their strongest levels; see docs/robustness.md."""
    method: Method = "hybrid"
    """`hybrid`: adaptation, selection and restoration (pure and ffs networks: only adaptation); `plain`: `train`."""
    adapt: Stage
    """The first stage: adaptation; the only stage of a pure, ffs or plain network."""
    selection: Selection = Selection()
    restore: Stage
    train: Stage | None = None
    """The only stage of method plain."""
    finetune: Stage | None = None
    """For weights on devices: how the steps recover and prune are trained; null: as in `train`."""
    init: Init | None = None
    """The network that training starts from; null: random weights."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_method_has_it(cls, given: Any) -> Any:
        """Refuse the keys of the other method, and set the kind of a plain network."""
        if not isinstance(given, dict):
            return given
        network = given.get("network")
        if "train" in given and (not isinstance(network, dict) or network.get("family") not in _FAMILIES):
            # The family is wrong: nothing else in the recipe can be checked without it.
            return {**given, "method": "plain", "kind": "plain", "adapt": given["train"], "restore": given["train"]}
        stacked = isinstance(network, dict) and network.get("family") == "stack"
        method = given.get("method", "plain" if stacked else "hybrid")
        if stacked and method != "plain":
            raise RecipeError(
                f"method is {brief(method)}, but a network of the family stack needs method plain", "leave method out"
            )
        if method == "plain":
            if not stacked:
                raise RecipeError("method plain is for networks of the family stack", "leave method out")
            if wrong := [key for key in ("ratio", "adapt", "selection", "restore") if key in given]:
                raise RecipeError(
                    f"key {wrong[0]!r} belongs to method hybrid, and this recipe's is plain", "its one stage is 'train'"
                )
            if given.get("kind", "plain") != "plain":
                raise RecipeError(
                    f"kind is {brief(given['kind'])}, but the layers of a stack define its units", "leave kind out"
                )
            if "train" not in given:
                raise RecipeError("key 'train' is missing", "a recipe of method plain has one stage, train")
            return {**given, "method": "plain", "kind": "plain", "adapt": given["train"], "restore": given["train"]}
        if given.get("kind") == "plain":
            raise RecipeError("kind is 'plain', which is for networks of the family stack", nearest("plain", KINDS))
        if "train" in given:
            what = "key 'train' belongs to method plain, and this recipe's is hybrid"
            raise RecipeError(what, "its stages are adapt and restore")
        return given

    @model_validator(mode="after")
    def _numbers_can_be(self) -> "Recipe":
        """Refuse numbers that are too large for any machine, before they are used."""
        for path, number in _whole_numbers(self.dump()):
            most = 2**63 if path == "seed" else _MOST_UNITS if path.startswith("network.") else 2**31 - 1
            if abs(number) > most:
                raise RecipeError(f"{path} must be at most {most} (got {brief(number)})")
        if len(self.network.units) > _MOST_LAYERS:
            raise RecipeError(f"network.units must have at most {_MOST_LAYERS} layers (got {len(self.network.units)})")
        return self

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "Recipe":
        """Refuse combinations of keys that do not work. The pure kinds determine the recurrent unit."""
        if self.kind == "lstm" and self.network.family == "convolutional":
            raise RecipeError("network.recurrent is 'lstm': the family convolutional has rnn units only", "--kind rnn")
        if self.network.family == "language" and (self.adapt.batches or self.restore.batches):
            key = "adapt.batches" if self.adapt.batches else "restore.batches"
            raise RecipeError(
                f"{key}: a text is read in order, so batches cannot be drawn at random", f"set {key}=null"
            )
        if self.kind in {"rnn", "lstm", "snn"} and not isinstance(self.network, StackConfig):
            self.network.recurrent = "lstm" if self.kind == "lstm" else "rnn"
        return self

    @model_validator(mode="after")
    def _one_output_is_a_value(self) -> "Recipe":
        """Refuse a network of one class with a loss for classes."""
        if getattr(self.network, "classes", None) == 1 and self.loss and self.loss.name != "regression":
            raise RecipeError(
                f"network.classes is 1, but loss {self.loss.name} needs two classes or more",
                "give more classes, or loss=regression",
            )
        return self

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            if plugins.find("metrics", name) is None:
                known = plugins.names("metrics")
                hint = f"{nearest(name, known)}; " if known else ""
                raise RecipeError(f"metrics: no metric is called {brief(name)}", f"{hint}{plugins.hint('metrics')}")
        if len(set(names)) < len(names):
            raise RecipeError("metrics contains a name twice", "name each metric once")
        return names

    @model_validator(mode="after")
    def _steps_fit_together(self) -> "Recipe":
        if self.finetune is not None and self.step is None:
            raise RecipeError("key 'finetune' is for weights on devices", "add network.weights, or leave finetune out")
        if self.step is not None and (wrong := [name for name in self.against if name in WEIGHTS]):
            raise RecipeError(
                f"against.{wrong[0]} is not for weights on devices", "network.weights.variation sets their variation"
            )
        return self

    def __repr__(self) -> str:
        """Return a summary in one line; `yaml` has everything."""
        return f"<Recipe {self.name}: {self.network.family}, {self.kind_name}, data {self.data.name}, seed {self.seed}>"

    __str__ = __repr__

    @property
    def disturbed(self) -> str:
        """The disturbances during training, in words; "" if there are none."""
        named = ", ".join(f"{name} {level:g}" for name, level in self.against.items())
        return f"against {named}" if named else ""

    @property
    def step(self) -> Step | None:
        """The step of training weights on devices; None for weights in memory."""
        weights = getattr(self.network, "weights", None)
        return None if weights is None else weights.step

    def on_devices(self) -> "Recipe":
        """Return the recipe with weights on devices: those of its `network.weights`, or the default.

        Raises:
            RecipeError: the network is not a stack, or has no convolutions.
        """
        if not isinstance(self.network, StackConfig):
            raise RecipeError(
                f"weights on devices need a stack, and this recipe's network is of family {self.network.family}"
            )
        if self.step is not None:
            return self
        return self._with_weights({})

    def at_step(self, step: Step) -> "Recipe":
        """Return the recipe of another step of training weights on devices.

        Raises:
            RecipeError: the step is impossible, such as variation at a number of bits without a known sigma.
        """
        return self._with_weights({**self.dump()["network"]["weights"], "step": step})

    def _with_weights(self, weights: dict[str, Any]) -> "Recipe":
        plain = self.dump()
        try:
            return Recipe.model_validate({**plain, "network": {**plain["network"], "weights": weights}})
        except ValidationError as error:
            raise explained(error, self.name, Recipe) from error

    def ignores(self, key: str) -> bool:
        """Whether the result of this step of weights on devices does not depend on a key."""
        parts = key.split(".")
        if self.step is None or (parts[0] != "finetune" and parts[:2] != ["network", "weights"]):
            return False
        if parts[0] == "finetune":
            return self.step not in _COMPENSATED
        return parts[2:3] == ["step"] or (len(parts) > 2 and parts[2] in _WITHOUT[self.step])

    @property
    def kind_name(self) -> str:
        """The kind with its variant, such as "hybrid-lstm" or "ffs-0.25"."""
        unit = "-lstm" if self.kind in {"ffs", "hybrid"} and self.network.recurrent == "lstm" else ""
        return f"{self.kind}{unit}" + (f"-{self.ratio:g}" if self.kind == "ffs" else "")

    @property
    def asks(self) -> Asked:
        """What the network predicts: classes, words or values."""
        return task_for(self.network, self.loss).asks

    def trained_on(self, targets: Targets) -> "Recipe":
        """Return the recipe for data with these targets: with loss regression if it names none and they are values."""
        if targets == "classes" or self.loss is not None:
            return self
        return self.model_copy(update={"loss": LossConfig(name="regression")})

    def check_data(self, there: Shape | Splits) -> None:
        """Refuse a network that does not fit some data; see `check_fits`."""
        self.check_fits(there.family, there.sizes)

    def check_fits(self, family: str, sizes: DataSizes) -> None:
        """Refuse a network that does not fit the data; see `fits.check_fits`."""
        check_fits(self.network, self.loss, self.data_called, family, sizes)

    @property
    def data_called(self) -> str:
        """The name of the data in a sentence."""
        return "your data" if self.data.name == "own" else self.data.name

    def stage(self, name: str) -> Stage:
        """Return the settings of a stage: train, adapt or restore; those of `finetune` for steps with an SRAM part."""
        if self.finetune is not None and self.step in _COMPENSATED:
            return self.finetune
        return self.restore if name == "restore" else self.adapt

    @model_serializer(mode="wrap")
    def _of_its_method(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of the other method, and newer keys with their default value."""
        without = _OF_HYBRID if self.method == "plain" else {"train", "method"}
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if key not in without and (key, value) not in ADDED}

    def dump(self) -> dict[str, Any]:
        """Return the recipe as plain data, without the keys of the other method."""
        return self.model_dump(mode="json")

    def yaml(self) -> str:
        """Return the recipe as YAML."""
        return yaml_text.dump(self.dump())

    def for_stage(self, stage: str) -> dict[str, Any]:
        """Return the part of the recipe that the result of a stage depends on.

        The rest may change without a new folder for the stage: all ratios of a seed share one adaptation and its
        traces.
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
        if self.data.name == "own":
            # The path does not matter: `found` identifies the data.
            part["data"] = {key: value for key, value in part["data"].items() if key != "path"}
        if self.init is not None:
            # The file's place does not matter; its contents do.
            part["init"] = {"parameters": self.init.parameters}
        finetune = part.pop("finetune", None)
        if finetune is not None and self.step in _COMPENSATED:
            part["train"] = finetune
        if self.step is not None:
            network = part["network"]
            part["network"] = {**network, "weights": _taking_part(network["weights"], self.step)}
        if stage == "traces":
            part["selection"] = {**part["selection"], "bootstraps": None}
        return {"stage": stage, **part}

    def upgraded(self, old: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a recipe that a stage depended on, from an older version, with today's keys.

        A key that did not exist then gets its default; what the stage does not depend on comes from this recipe. What
        cannot be read today stays as it is, and differs.
        """
        stage = old.get("stage")
        if stage not in {"train", "adapt", "traces", "restore"}:
            return old
        now = self.dump()
        # If `finetune` applies, it has replaced `train`.
        rest = {key: value for key, value in now.items() if key not in {*self.for_stage(stage), "finetune"}}
        given = {key: value for key, value in old.items() if key != "stage"}
        if stage == "traces" and isinstance(given.get("selection"), dict):
            given["selection"] = given["selection"] | {"bootstraps": self.selection.bootstraps}
        try:
            return Recipe.model_validate(rest | given).for_stage(stage)
        except (ValidationError, HstnnError):
            return old


_COMPENSATED: set[Step | None] = {"recover", "prune"}
"""Steps with an SRAM part, which `finetune` configures."""

_WITHOUT: dict[Step, set[str]] = {
    "baseline": {"variation", "sram", "prune"},
    "vat": {"sram", "prune"},
    "recover": {"prune"},
    "prune": set(),
}
"""Sections of `network.weights` that a step does not use."""


def _taking_part(weights: dict[str, Any], step: Step) -> dict[str, Any]:
    return {key: value for key, value in weights.items() if key not in _WITHOUT[step]}


def _whole_numbers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the integers in plain data with their paths."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(each, f"{path}.{key}" if path else str(key))
