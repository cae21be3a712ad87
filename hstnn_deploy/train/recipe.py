"""Recipes: what a training is, as a validated model; from a shipped name, a YAML file, and `--set key=value`.

Unknown keys, wrong types and impossible values fail with the path of the key, what was given and what is allowed.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hstnn_deploy import yaml_text
from hstnn_deploy.data.dataset import Protocol
from hstnn_deploy.data.registry import DataConfig
from hstnn_deploy.errors import RecipeError, UsageError, nearest
from hstnn_deploy.foreign import brief, one_line, reading
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.sizes import Kind
from hstnn_deploy.train.precision import Precision

_MOST_UNITS, _MOST_LAYERS = 2**20, 1000
"""Of a layer, and of a network: far more than any machine trains."""


class Schedule(BaseModel):
    """How the learning rate falls: one of torch's schedulers, stepped after every epoch."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Literal["step", "cosine", "plateau"] = "step"
    """In steps, along half a cosine over the whole stage, or whenever validation stops getting better."""
    every: int | None = Field(None, gt=0)
    """Of step: epochs from one step to the next. Of plateau: epochs without a better metric before the next."""
    factor: float = Field(gt=0, le=1)
    """What the learning rate is multiplied with at each step; of cosine, what is left of it at the end."""

    @model_validator(mode="after")
    def _every_belongs_to_steps(self) -> "Schedule":
        if self.name == "cosine" and self.every is not None:
            raise ValueError("cosine falls over the whole stage: it takes no key 'every'")
        if self.name != "cosine" and self.every is None:
            raise ValueError(f"{self.name} needs the key 'every', in epochs")
        return self


class Stage(BaseModel):
    """One stage of training: adaptation (all that a pure or ffs network has) or restoration."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: int = Field(gt=0)
    batches: int | None = Field(None, gt=0)
    """Batches of an epoch, each drawn at random by itself (so the demo trains on DVS-Gesture, and tests every 20), or
    null where an epoch is a whole pass over the training samples."""
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = Field(gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    """Of sgd; adam has none."""
    clip: float | None = Field(None, gt=0)
    """The largest norm of the whole gradient, or null for no clipping."""
    schedule: Schedule | None = None
    """How the learning rate falls, or null where it stays."""


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
    """The published results that a recipe answers to: the metric on the test split, a mean over seeds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: str
    """Where the figures stand, and how they were obtained."""
    protocol: Protocol
    """Where the epoch was chosen of which they are."""
    rnn: float | None = None
    lstm: float | None = None
    snn: float | None = None
    ffs: dict[float, float] = {}
    """By ratio."""
    hybrid: dict[float, float] = {}
    """By ratio, of the restored network."""

    def of(self, kind: Kind, ratio: float) -> float | None:
        """Return the figure of a kind, of ffs and hybrid at a ratio; None where nothing was published."""
        match kind:
            case "ffs" | "hybrid":
                found: dict[float, float] = getattr(self, kind)
                return found.get(ratio)
            case _:
                figure: float | None = getattr(self, kind)
                return figure


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
    """In which precision training and evaluation compute; see `train.precision`."""
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


def shipped() -> dict[str, Path]:
    """Return the shipped recipes: name to file, sorted."""
    folder = Path(str(resources.files("hstnn_deploy"))) / "train" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Return a recipe by shipped name or path, with `key.path=value` changes applied.

    Raises:
        RecipeError: no such recipe, not YAML, or not a recipe.
    """
    raw, source = _read(name)
    for change in changes if isinstance(raw, dict) else ():
        _apply(raw, change)
    return parse(raw, source)


def parse(raw: Any, source: str) -> Recipe:
    """Return the recipe that plain data describes; `source` is named in errors.

    Raises:
        RecipeError: with the path of the first wrong key.
    """
    if not isinstance(raw, dict):
        raise RecipeError(f"{source} is not a recipe: it holds {type(raw).__name__}, not keys and values")
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise explained(error, source) from error


def _read(name: str) -> tuple[Any, str]:
    known = shipped()
    if name in known:
        return yaml_text.read(known[name], RecipeError), f"recipe {name}"
    path = Path(name)
    with reading(brief(name), "a recipe", RecipeError, ""):
        return _read_file(path, name, known), name


def _read_file(path: Path, name: str, known: Mapping[str, Path]) -> Any:
    if path.is_dir():
        raise RecipeError(f"{name} is a folder, not a recipe", "give a YAML file or a shipped recipe's name")
    if not path.is_file():
        looks_like_path = path.suffix in {".yaml", ".yml"} or "/" in name
        if looks_like_path:
            raise RecipeError(f"recipe file {name} does not exist", f"shipped recipes: {', '.join(known)}")
        raise RecipeError(f"unknown recipe {name!r}", nearest(name, known))
    return yaml_text.read(path, RecipeError)


def _apply(raw: dict[str, Any], change: str) -> None:
    """Set one `key.path=value` in place; the value is read as YAML."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {brief(change)} is not key=value", "for example --set adapt.epochs=5")
    *parents, leaf = key.strip().split(".")
    place: Any = raw
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise RecipeError(f"--set {one_line(key)}: {one_line('.'.join(parents))} is a value, not a section")
    try:
        value = yaml_text.parse(text)
    except ValueError as error:
        raise RecipeError(f"--set {one_line(key)}: {brief(text)} is not a YAML value: {error}") from error
    # YAML 1.1 reads 1e-3 as text; a recipe means the number.
    place[leaf] = _number(value) if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def explained(error: ValidationError, source: str, model: type[BaseModel] = Recipe) -> RecipeError:
    """Turn the first thing pydantic found into one line and a hint."""
    first = error.errors(include_url=False)[0]
    keys, allowed, choice = _located(first["loc"], model)
    path, given = one_line(".".join(keys)), first["input"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    match first["type"]:
        case "extra_forbidden":
            return RecipeError(f"{source}: unknown key {path!r}{more}", nearest(keys[-1], allowed))
        case "missing":
            return RecipeError(f"{source}: key {path!r} is missing{more}")
        case "union_tag_not_found":
            key, values = choice["propertyName"], choice["mapping"]
            return RecipeError(f"{source}: key '{path}.{key}' is missing{more}", f"known: {', '.join(values)}")
        case "union_tag_invalid":
            key, values = choice["propertyName"], choice["mapping"]
            tag = brief(given[key])
            return RecipeError(f"{source}: {path}.{key} is {tag}{more}", nearest(tag.strip("'"), values))
        case _:
            return RecipeError(f"{source}: {path} is {brief(given)}: {_lower(first['msg'])}{more}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _located(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return where an error is: its keys, the keys that are allowed beside the last, and the choice it stands at.

    Pydantic's location also names the branch that was taken at a choice (a discriminated union); that is not a key.
    """
    schema = model.model_json_schema()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (
            schema.get("$defs", {}).get(node["$ref"].rsplit("/", 1)[-1], {}) if "$ref" in node else node
        )
        return found

    node, keys, allowed = schema, [], list[str]()
    for part in location:
        if "discriminator" in node:
            node = resolved({"$ref": node["discriminator"]["mapping"].get(part, "")})
        else:
            keys.append(str(part))
            allowed = list(node.get("properties", {}))
            inside = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
            node = resolved(inside)
    return keys, allowed, node.get("discriminator", {})
