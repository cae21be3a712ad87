"""Checkpoints: versioned files of tensors and plain data, never code.

A file is written by `torch.save` from one dict: `format`, `version`, `content` (the kind of content) and `data`. It is
always read with `weights_only=True`, so a pickle with code is refused, not run. A newer format is refused by its
number; an older one is converted by `recipe.older`.
"""

import hashlib
import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, PrivateAttr, TypeAdapter, ValidationError, model_validator

from hstnn_deploy import environment, files
from hstnn_deploy.data import registry
from hstnn_deploy.errors import CheckpointError, HstnnError, RecipeError
from hstnn_deploy.foreign import brief, check_plain, check_stored, one_line, reading, rule_broken
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.registry import NetworkConfig, build
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.stack import Stack, StackConfig
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.recipe import parts
from hstnn_deploy.recipe.adopted import bare, check_network, for_network
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.older import MIGRATIONS
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.recipe.sections import Init

FORMAT = "hstnn-deploy"
VERSION = 4

_RUN_FOLDER = "give a best.pt or last.pt from a run folder"
_TAKE_ANOTHER = "copy it again, or take last.pt or best.pt from the run folder"


def save(path: Path, content: str, data: dict[str, Any]) -> None:
    """Write `data` (tensors and plain data) atomically, and read it back before it takes its name.

    Raises:
        RunError: the file cannot be written.
        CheckpointError: `data` contains something that a safe load would refuse.
    """
    with files.atomic(path) as temporary:
        # A file object, not a path: then a full disk is the system's own error, which `atomic` explains.
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "version": VERSION, "content": content, "data": data}, file)
        read_archive(temporary, path)


def load(path: Path, content: str) -> dict[str, Any]:
    """Read the `data` of a checkpoint with the given `content`, on the CPU.

    Raises:
        CheckpointError: missing, truncated, from another program, unsafe, from a newer format, or of other content.
    """
    whole = read_archive(path, path)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by hstnn", _RUN_FOLDER)
    version = whole.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CheckpointError(
            f"{path} has format version {brief(version)}; this hstnn reads up to {VERSION}", "upgrade hstnn-deploy"
        )
    if whole.get("content") != content:
        raise CheckpointError(f"{path} contains {brief(whole.get('content'))}, not {content!r}", _RUN_FOLDER)
    data = whole.get("data")
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is incomplete: it contains no data", _TAKE_ANOTHER)
    for older in range(version, VERSION):
        data = MIGRATIONS[older](data)
    return data


def read_archive(path: Path, name: Path) -> Any:
    """Return what `torch.save` wrote into a file, only tensors and plain data; errors use `name`."""
    if name.is_dir():
        inside = [str(file) for file in sorted(name.rglob("best.pt"))][:3]
        hint = f"did you mean {' or '.join(inside)}?" if inside else "give a file such as best.pt"
        raise CheckpointError(f"{name} is a folder, not a checkpoint", hint)
    if not path.exists():
        raise CheckpointError(f"{name} does not exist", "give a best.pt; `hstnn train` and `hstnn import` write them")
    with reading(name, "a whole file", CheckpointError, _TAKE_ANOTHER, says=False):
        _check_archive(path, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about foreign files: the error below says it in one line
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                if "unsupported" in str(error).lower():
                    raise _unsafe(name) from error
                raise


def _unsafe(name: Path) -> CheckpointError:
    what = f"{name} contains more than tensors and plain data; hstnn refused it and ran nothing in it"
    return CheckpointError(what, "give a checkpoint that hstnn wrote")


def _check_archive(path: Path, name: Path) -> None:
    """Refuse a file that is not exactly an archive of `torch.save`: torch itself ignores checksums.

    Raises:
        CheckpointError: it is another kind of file, or contains more than tensors and plain data.
        Exception: it is damaged.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start not in (b"PK", b""):
        raise CheckpointError(f"{name} is not a checkpoint", _RUN_FOLDER)
    with zipfile.ZipFile(path) as archive:
        names = {member.rpartition("/")[2]: member for member in archive.namelist()}
        if "constants.pkl" in names or "data.pkl" not in names:
            what = "a TorchScript file" if "constants.pkl" in names else "another kind of archive"
            raise CheckpointError(f"{name} is {what}, not a checkpoint", _RUN_FOLDER)
        check_stored(archive, path.stat().st_size)
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a checksum differs")
        # torch makes some objects of other modules, such as a bytearray of any length.
        for operation, argument, _ in pickletools.genops(archive.read(names["data.pkl"])):
            if operation.name == "GLOBAL" and not str(argument).startswith(_MODULES):
                raise _unsafe(name)


_MODULES = ("torch", "collections ")
"""Modules whose objects a checkpoint may contain; torch decides which objects."""


_NETWORK: TypeAdapter[Any] = TypeAdapter(NetworkConfig)


class Checkpoint(BaseModel):
    """A network, trained here or imported (`of_network`), with all that rebuilding and continuing it needs."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    recipe: dict[str, Any]
    """The resolved recipe; empty if the network was trained without one."""
    architecture: NetworkConfig
    """The network's family and its layers."""
    stage: Literal["train", "adapt", "restore"]
    sizes: list[Sizes]
    """Units of each layer and kind; empty for a stack."""
    parameters: dict[str, torch.Tensor]
    epoch: int
    """Epochs done when these parameters were taken."""
    metrics: dict[str, Any]
    """The figures measured with these parameters, and the protocol."""
    selection: dict[str, Any] | None = None
    """For a restored network: ratio, counts and kept indices (see selection.json)."""
    environment: dict[str, Any] = {}
    vocabulary: str = ""
    """For a language model: the SHA-256 of the words it was trained with, in the order of their tokens."""
    origin: dict[str, Any] | None = None
    """Of an imported network, and of what was trained from one: where it came from, by which library and versions, how
    it was proved. None of networks that are hstnn's own."""
    training: dict[str, Any] | None = None
    """In last.pt: the optimiser's state, to continue from."""
    _source: str = PrivateAttr("the checkpoint")

    def __repr__(self) -> str:
        """Return a summary in one line."""
        return f"<Checkpoint {self._source}: {self.architecture.family}, stage {self.stage}, epoch {self.epoch}>"

    __str__ = __repr__

    @property
    def redundant(self) -> bool:
        """Whether this is an adapted network from which units have not been selected yet."""
        return self.stage == "adapt"

    @classmethod
    def of_network(cls, network: Stack, origin: dict[str, Any] | None = None) -> "Checkpoint":
        """Return the checkpoint of a network that was not trained here. It has no recipe.

        Args:
            network: a stack with its weights.
            origin: plain data: where it came from, which versions, how it was proved; None: the network's own `origin`.

        Raises:
            CheckpointError: its configuration does not rebuild this network, or `origin` is not plain data.
        """
        if told := parts.redefined(network):
            raise CheckpointError(*told)
        architecture = StackConfig.model_validate(network.config.model_dump(mode="json"))
        origin = network.origin if origin is None else origin
        try:
            check_plain(origin, "origin")
        except ValueError as error:
            raise CheckpointError(f"the network's origin must be plain data: {error}") from error
        found = cls(
            recipe={},
            architecture=architecture,
            stage="train",
            sizes=[],
            parameters={name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
            epoch=0,
            metrics={},
            environment=environment.describe("cpu"),
            origin=origin,
        )
        found._source = "the network"
        if architecture != network.config or found.network().described() != network.described():
            raise CheckpointError("the network differs from the one that its configuration makes")
        return found

    @property
    def source(self) -> str:
        """The file that it was read from."""
        return self._source

    @property
    def came_from(self) -> str:
        """The origin of an imported network, in a few words; "" for a network of this package."""
        return one_line(str((self.origin or {}).get("source", "elsewhere" if self.origin else "")))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the parameters: their names, types, shapes and numbers."""
        digest = hashlib.sha256()
        for name, value in sorted(self.parameters.items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write to a file; see `save`."""
        data = self.model_dump(exclude={"parameters", "training"}, mode="json")
        save(path, "network", {**data, "parameters": self.parameters, "training": self.training})

    @model_validator(mode="after")
    def _records_its_parts(self) -> "Checkpoint":
        """Record the custom parts that it is made of, unless they are recorded already."""
        if parts.PARTS not in self.environment and (own := parts.recorded(self.recipe, self.architecture)):
            self.environment = {**self.environment, parts.PARTS: own}
        return self

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read from a file; see `load`.

        Raises:
            CheckpointError: see `load`; or a custom neuron or layer is missing, or has changed.
        """
        data = load(path, "network")
        told = data.get("environment")
        own = told.get(parts.PARTS) if isinstance(told, dict) else None
        if lacks := parts.missing(own, parts.OF_NETWORK, str(path)):
            raise CheckpointError(*lacks)
        try:
            found = cls.model_validate(data)
            for key in data.keys() - {"parameters", "training"}:
                check_plain(data[key], key)
            _check_training(found.training)
        except ValidationError as error:
            first = error.errors()[0]
            where = brief(".".join(map(str, first["loc"])))
            raise CheckpointError(f"{path} is incomplete: {where}: {rule_broken(first['msg'])}") from error
        except ValueError as error:
            raise CheckpointError(f"{path} is incomplete: {error}", _TAKE_ANOTHER) from error
        if changed := parts.altered(own, found.architecture, str(path)):
            raise CheckpointError(*changed)
        found._source = str(path)
        found._check_recipe()
        return found

    def _check_recipe(self) -> None:
        """Refuse a recipe for another network; reading it refuses one that is invalid or of another version.

        Raises:
            CheckpointError: the recipe is for another network.
        """
        try:
            told = _NETWORK.validate_python(self.recipe["network"])
        except (KeyError, HstnnError, ValidationError):
            return
        unit = self.recipe.get("kind")
        if unit in {"rnn", "lstm", "snn"} and "recurrent" in type(told).model_fields:
            # The pure kinds say themselves which recurrent unit they are made of.
            told = told.model_copy(update={"recurrent": "lstm" if unit == "lstm" else "rnn"})
        if told != self.architecture:
            raise CheckpointError(
                f"{self._source} is incomplete: its architecture differs from that of its recipe", _TAKE_ANOTHER
            )

    def resolved_recipe(self) -> Recipe:
        """Return the recipe as an object.

        Raises:
            CheckpointError: it has no recipe, or this version of hstnn cannot read it.
        """
        if not self.recipe:
            raise CheckpointError(
                f"{self._source} has no recipe, so hstnn does not know which data and loss its network needs",
                "evaluate, export and show take one with --recipe NAME; `hstnn train NAME --init FILE` continues it",
            )
        if lacks := parts.missing(self.environment.get(parts.PARTS), tuple(plugins.ONE), self._source):
            raise CheckpointError(*lacks)
        try:
            return parse(self.recipe, "its recipe")
        except RecipeError as error:
            raise CheckpointError(f"{self._source}: {error.message}", error.hint) from error

    def recipe_or_bare(self, steps: int | None = None) -> Recipe:
        """Return the recipe, or a bare one if there is none; see `adopted.bare`.

        Raises:
            CheckpointError: this version of hstnn cannot read it, or a network without a recipe is not a stack.
        """
        if self.recipe:
            return self.resolved_recipe()
        try:
            return bare(self.architecture, steps, self._source)
        except RecipeError as error:
            raise CheckpointError(error.message, error.hint) from error

    def under(self, recipe: Recipe) -> "Checkpoint":
        """Return the same network with the data, loss and training of another recipe.

        Raises:
            UsageError: its input or its answers do not fit the data.
        """
        changed = for_network(recipe, self.architecture, self.resolved_recipe() if self.recipe else None)
        if (known := registry.shape(changed.data)) is not None:
            check_network(changed, known.family, known.sizes, self._source)
        # Figures measured with another recipe are not results of this one.
        return self.model_copy(update={"recipe": changed.dump(), "metrics": {} if self.recipe else self.metrics})

    def begin(self, recipe: Recipe, path: Path) -> Recipe:
        """Return the recipe that continues the training of this network, read from `path`; see `under`."""
        begun = self.under(recipe).resolved_recipe()
        begun.init = Init(checkpoint=str(path), parameters=self.fingerprint)
        return begun

    def network(self) -> Network:
        """Return the network in evaluation mode, on the CPU.

        Raises:
            CheckpointError: the parameters do not fit the recipe and sizes.
        """
        config = self.architecture
        with reading(self._source, "a whole network", CheckpointError, _TAKE_ANOTHER):
            self._check_shapes(config)
            network = build(config, self.sizes)
            network.load_state_dict(self.parameters)
        network.values = self._asks_values()
        network.origin = self.origin
        network.trained_as = {key: self.recipe[key] for key in ("kind", "ratio") if key in self.recipe}
        return network.eval()

    def _asks_values(self) -> bool:
        """Whether the network's answers are values; known without loading a custom data set."""
        own = self.environment.get(parts.PARTS)
        if lost := plugins.missing(own, ("losses", "data", "metrics")):
            loss = self.recipe.get("loss")
            asks = lost.get("asks") if lost["group"] == "losses" else None
            # A list: the file may contain anything here, and not all of it is hashable.
            return (asks or (loss.get("name") if isinstance(loss, dict) else "")) in ["values", "regression"]
        return bool(self.recipe) and self.resolved_recipe().asks == "values"

    def deployed(self, draw: int | None = None) -> "Checkpoint":
        """Return the checkpoint of the network as it computes: with the effective values of weights on devices.

        Args:
            draw: the seed of one draw of the variation; None: without variation.
        """
        weights: Any = getattr(self.architecture, "weights", None)
        if weights is None:
            return self
        parameters = self.network().deployed(draw)
        plain = {key: value for key, value in self.recipe.get("network", {}).items() if key != "weights"}
        recipe = {key: value for key, value in self.recipe.items() if key != "finetune"} | {"network": plain}
        if weights.compensated and self.recipe.get("finetune") is not None:
            # Only its step says how it was trained.
            recipe["train"] = self.recipe["finetune"]
        changed = {
            "architecture": self.architecture.model_copy(update={"weights": None}),
            "recipe": recipe if self.recipe else {},
            "parameters": parameters,
            # Measured with other draws.
            "metrics": {key: value for key, value in self.metrics.items() if key != "test"},
        }
        return self.model_copy(update=changed)

    def _check_shapes(self, config: NetworkConfig) -> None:
        """Compare the parameters with those that recipe and sizes need, before making the network.

        Raises:
            CheckpointError: they differ, or a tensor has fewer numbers than its shape.
        """

        def refused(what: str) -> CheckpointError:
            return CheckpointError(f"{self._source}: the parameters do not fit the network: {what}", _TAKE_ANOTHER)

        if len(config.units) != len(self.sizes) or len(self.sizes) > len(self.parameters):
            what = f"{len(config.units)} layers in the recipe, {len(self.sizes)} sizes, {len(self.parameters)} tensors"
            raise refused(what)
        if any(size < 0 for sizes in self.sizes for size in sizes):
            raise refused("a layer has a negative number of units")
        # Shapes alone, on the device that holds no numbers.
        with torch.device("meta"):
            wanted = build(config, self.sizes).state_dict()
        if missing := sorted(wanted.keys() ^ self.parameters.keys()):
            raise refused(f"{brief(missing[0])} is {'missing' if missing[0] in wanted else 'not a parameter of it'}")
        for name, tensor in self.parameters.items():
            if tensor.shape != wanted[name].shape:
                raise refused(f"{name} has shape {brief(list(tensor.shape))}, not {list(wanted[name].shape)}")
            if tensor.dtype != wanted[name].dtype or tensor.layout != torch.strided or tensor.device.type != "cpu":
                raise refused(f"{name} has type {tensor.dtype}, {tensor.layout}")
            # A tensor may claim any shape at no cost: every number must be present.
            if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
                raise refused(f"{name} has fewer numbers than its shape")
            # A comparison with a threshold would hide them, and the answers would look normal.
            if tensor.is_floating_point() and (wrong := int((~torch.isfinite(tensor)).sum())):
                raise refused(f"{name} contains NaN or infinity ({wrong} of {tensor.numel()} numbers)")


def _check_training(training: dict[str, Any] | None) -> None:
    """Refuse a state that none of our optimisers can have saved; loading it checks whether it fits the network.

    Raises:
        ValueError: a tensor is not real, or has fewer numbers than its shape; or something is not plain data.
    """
    training = training or {}
    check_plain(training.get("best"), "training.best")
    optimiser = training.get("optimiser")
    if not isinstance(optimiser, dict):
        return
    check_plain(optimiser.get("param_groups"), "training.optimiser.param_groups")
    states = optimiser.get("state")
    for number, state in (states if isinstance(states, dict) else {}).items():
        for name, value in (state if isinstance(state, dict) else {}).items():
            place = f"training.optimiser.state.{brief(number)}.{brief(name)}"
            if not isinstance(value, torch.Tensor):
                check_plain(value, place)
            elif not value.dtype.is_floating_point or value.layout != torch.strided or value.device.type != "cpu":
                raise ValueError(f"{place} has type {value.dtype}, {value.layout}")
            elif value.untyped_storage().nbytes() < value.numel() * value.element_size():
                raise ValueError(f"{place} has fewer numbers than its shape")


def load_network(path: Path | str) -> Network:
    """Return the network of a checkpoint file, in evaluation mode, on the CPU."""
    return Checkpoint.load(Path(path)).network()
