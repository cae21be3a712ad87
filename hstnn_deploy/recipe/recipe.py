"""A recipe: what a training is, as a validated model."""

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
"""Keys that recipes did not always have, and what they meant then."""

_FAMILIES = {"stack", "sequence", "convolutional", "language"}

_OF_HYBRID = {"kind", "ratio", "adapt", "selection", "restore"}
"""Keys that belong to the method hybrid."""

_MOST_UNITS, _MOST_LAYERS = 2**20, 1000
"""Of a layer, and of a network: far more than any machine trains."""


class Recipe(BaseModel):
    """Everything a result depends on, but for the machine."""

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
    """Which units the layers have; see `hstnn train --kind`. A stack has `plain`."""
    ratio: float = Field(0.5, gt=0, lt=1)
    """The spiking share of the units, of ffs and hybrid networks."""
    seed: int = Field(1111, ge=0, lt=2**63)
    """Of initial weights, of the order of samples, and of probes."""
    batch: int = Field(gt=0)
    """Samples of a training step; of a text, how many places of it are read side by side."""
    precision: Precision = "fp32"
    """The precision of training and evaluation; see `models.precision`."""
    protocol: Protocol = "validation"
    """Where the best epoch is chosen: `validation` (held out of training) or `test` (the demo's; overstates)."""
    loss: LossConfig | None = None
    """What is minimised; null: what the network's family is trained for, or regression where the data has values."""
    metrics: list[str] = Field([], max_length=100)
    """Metrics of a user's own that are measured on the test split beside the task's; see `hstnn_deploy.custom`."""
    regularise: Regularise | None = None
    """What is added to the loss for the spikes themselves; null: nothing."""
    against: Levels = {}
    """What training samples, weights and spikes are disturbed by, and the strongest levels; see docs/robustness.md."""
    method: Method = "hybrid"
    """`hybrid`: adaptation, selection and restoration (of pure and ffs networks the first alone); `plain`: `train`."""
    adapt: Stage
    """The first stage: adaptation, or all there is of a pure, ffs or plain network."""
    selection: Selection = Selection()
    restore: Stage
    train: Stage | None = None
    """Of method plain: its one stage."""
    finetune: Stage | None = None
    """Of weights on devices: how the steps recover and prune are trained; null: as `train` says."""
    init: Init | None = None
    """The network that training begins with; null: random weights."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_method_has_it(cls, given: Any) -> Any:
        """Refuse the keys of the other method, and say the kind of a plain network, which has no other."""
        if not isinstance(given, dict):
            return given
        network = given.get("network")
        if "train" in given and (not isinstance(network, dict) or network.get("family") not in _FAMILIES):
            # What is wrong is the family: whatever else the recipe says cannot be judged without it.
            return {**given, "method": "plain", "kind": "plain", "adapt": given["train"], "restore": given["train"]}
        stacked = isinstance(network, dict) and network.get("family") == "stack"
        method = given.get("method", "plain" if stacked else "hybrid")
        if stacked and method != "plain":
            raise RecipeError(
                f"method is {brief(method)}, but a network of the family stack is trained by method plain"
            )
        if method == "plain":
            if not stacked:
                raise RecipeError("method plain is for networks of the family stack", "leave method out")
            if wrong := [key for key in ("ratio", "adapt", "selection", "restore") if key in given]:
                raise RecipeError(
                    f"key {wrong[0]!r} belongs to method hybrid, and this recipe's is plain", "its one stage is 'train'"
                )
            if given.get("kind", "plain") != "plain":
                raise RecipeError(f"kind is {brief(given['kind'])}, but a stack says in its layers what its units are")
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
        if self.kind in {"rnn", "lstm", "snn"} and not isinstance(self.network, StackConfig):
            self.network.recurrent = "lstm" if self.kind == "lstm" else "rnn"
        return self

    @model_validator(mode="after")
    def _one_output_is_a_value(self) -> "Recipe":
        """Refuse a network of one class, where a loss is named that asks for classes."""
        if getattr(self.network, "classes", None) == 1 and self.loss and self.loss.name != "regression":
            raise RecipeError(
                f"network.classes is 1, and loss {self.loss.name} tells classes apart", "give two classes or more"
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
            raise RecipeError("metrics names one twice", "name each once")
        return names

    @model_validator(mode="after")
    def _steps_fit_together(self) -> "Recipe":
        if self.finetune is not None and self.step is None:
            raise RecipeError("key 'finetune' is for weights on devices", "network.weights says on which")
        if self.step is not None and (wrong := [name for name in self.against if name in WEIGHTS]):
            raise RecipeError(f"against.{wrong[0]}: weights on devices vary as network.weights.variation says")
        return self

    def __repr__(self) -> str:
        """Return in one line what is trained; `yaml` has all of it."""
        return f"<Recipe {self.name}: {self.network.family}, {self.kind_name}, data {self.data.name}, seed {self.seed}>"

    __str__ = __repr__

    @property
    def disturbed(self) -> str:
        """What training is disturbed by, in words; empty where it is not."""
        named = ", ".join(f"{name} {level:g}" for name, level in self.against.items())
        return f"against {named}" if named else ""

    @property
    def step(self) -> Step | None:
        """Which step of training weights on devices this is; None where they are numbers in memory."""
        weights = getattr(self.network, "weights", None)
        return None if weights is None else weights.step

    def on_devices(self) -> "Recipe":
        """Return the recipe with weights on devices, as its `network.weights` says or else by default.

        Raises:
            RecipeError: the network is no stack, or has no convolutions.
        """
        if not isinstance(self.network, StackConfig):
            raise RecipeError(f"the steps of weights on devices are for stacks, and this is a {self.network.family}")
        if self.step is not None:
            return self
        return self._with_weights({})

    def at_step(self, step: Step) -> "Recipe":
        """Return the recipe of a step of training weights on devices; of any step, that of any other one.

        Raises:
            RecipeError: this step is impossible, such as variation at bits of which no sigma is known.
        """
        return self._with_weights({**self.dump()["network"]["weights"], "step": step})

    def _with_weights(self, weights: dict[str, Any]) -> "Recipe":
        plain = self.dump()
        try:
            return Recipe.model_validate({**plain, "network": {**plain["network"], "weights": weights}})
        except ValidationError as error:
            raise explained(error, self.name, Recipe) from error

    def ignores(self, key: str) -> bool:
        """Whether this step of weights on devices has the same result whatever a key of the recipe is."""
        parts = key.split(".")
        if self.step is None or (parts[0] != "finetune" and parts[:2] != ["network", "weights"]):
            return False
        if parts[0] == "finetune":
            return self.step not in _COMPENSATED
        return parts[2:3] == ["step"] or (len(parts) > 2 and parts[2] in _WITHOUT[self.step])

    @property
    def kind_name(self) -> str:
        """The kind with what tells two of its networks apart, such as "hybrid-lstm" or "ffs-0.25"."""
        unit = "-lstm" if self.kind in {"ffs", "hybrid"} and self.network.recurrent == "lstm" else ""
        return f"{self.kind}{unit}" + (f"-{self.ratio:g}" if self.kind == "ffs" else "")

    @property
    def asks(self) -> Asked:
        """What is asked of the network: classes, words or values."""
        return task_for(self.network, self.loss).asks

    def trained_on(self, targets: Targets) -> "Recipe":
        """Return the recipe for data with such targets: where it names no loss and they are values, by regression."""
        if targets == "classes" or self.loss is not None:
            return self
        return self.model_copy(update={"loss": LossConfig(name="regression")})

    def check_data(self, there: Shape | Splits) -> None:
        """Refuse a network that is not made for some data; see `check_fits`."""
        self.check_fits(there.family, there.sizes)

    def check_fits(self, family: str, sizes: DataSizes) -> None:
        """Refuse a network that is not made for the data; see `fits.check_fits`."""
        check_fits(self.network, self.loss, self.data_called, family, sizes)

    @property
    def data_called(self) -> str:
        """What the data is called in a sentence."""
        return "your data" if self.data.name == "own" else self.data.name

    def stage(self, name: str) -> Stage:
        """Return how a stage is trained: train, adapt or restore; of steps with an SRAM part, as `finetune` says."""
        if self.finetune is not None and self.step in _COMPENSATED:
            return self.finetune
        return self.restore if name == "restore" else self.adapt

    @model_serializer(mode="wrap")
    def _of_its_method(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of the other method, and what recipes did not always have where it says nothing."""
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
        if self.data.name == "own":
            # So it is of data: `found` tells whether it is the same.
            part["data"] = {key: value for key, value in part["data"].items() if key != "path"}
        if self.init is not None:
            # Where the file lies changes nothing; what is in it does.
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
        """Return what a stage depended on, as an older version wrote it, with the keys that there are today.

        A key that did not exist then has its default; what the stage does not depend on is this recipe's. What cannot
        be read today stays as it is, and differs.
        """
        stage = old.get("stage")
        if stage not in {"train", "adapt", "traces", "restore"}:
            return old
        now = self.dump()
        # Where `finetune` counts, it stands in the place of `train`.
        rest = {key: value for key, value in now.items() if key not in {*self.for_stage(stage), "finetune"}}
        given = {key: value for key, value in old.items() if key != "stage"}
        if stage == "traces" and isinstance(given.get("selection"), dict):
            given["selection"] = given["selection"] | {"bootstraps": self.selection.bootstraps}
        try:
            return Recipe.model_validate(rest | given).for_stage(stage)
        except (ValidationError, HstnnError):
            return old


_COMPENSATED: set[Step | None] = {"recover", "prune"}
"""Steps with an SRAM part, which are trained as `finetune` says."""

_WITHOUT: dict[Step, set[str]] = {
    "baseline": {"variation", "sram", "prune"},
    "vat": {"sram", "prune"},
    "recover": {"prune"},
    "prune": set(),
}
"""Sections of `network.weights` that have no part in a step."""


def _taking_part(weights: dict[str, Any], step: Step) -> dict[str, Any]:
    return {key: value for key, value in weights.items() if key not in _WITHOUT[step]}


def _whole_numbers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in plain data with their paths."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(each, f"{path}.{key}" if path else str(key))
