"""A recipe for a user's own data: its `data` section, and a network that is fitted to the sizes found there.

The network of a recipe is fitted to sizes and classes when the data is inspected for the first time. Keys that the
user has set stay; what does not fit is refused, with a hint.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hstnn_deploy.data.own.config import OwnConfig
from hstnn_deploy.data.own.detect import detect
from hstnn_deploy.data.own.resolve import complete, look
from hstnn_deploy.data.registry import DataConfig, shape
from hstnn_deploy.data.splits import DataSizes
from hstnn_deploy.errors import HstnnError, RecipeError, UsageError
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.recipe.recipe import Recipe

Say = Callable[[str], None]
"""Receives each change that fits the network."""

_HYBRIDS: dict[str, Mapping[str, str]] = {
    "sequence": SequenceConfig.data_keys,
    "convolutional": ConvolutionalConfig.data_keys,
    "language": LanguageConfig.data_keys,
}
_CONFIG: TypeAdapter[Any] = TypeAdapter(OwnConfig)
_DATA: TypeAdapter[Any] = TypeAdapter(DataConfig)
_STEPS = 10
_OF_IMAGES = ("steps", "encoding", "crop", "flip", "seed")


def replaced(raw: dict[str, Any], path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Return a recipe with the user's own data instead of its own, and a name that shows it.

    Args:
        raw: the recipe as plain data.
        path: the folder, or a single file with all data.
        changes: `key=value` that will be set; if they set the kind, it is not detected.

    Raises:
        DataError: there is no data, or its kind is ambiguous.
    """
    said = {key.strip(): value.strip() for key, _, value in (change.partition("=") for change in changes)}
    kind = said.get("data.kind") or detect(path)
    given = raw.get("data")
    old: dict[str, Any] = given if isinstance(given, dict) else {}
    data: dict[str, Any] = {"name": "own", "kind": kind, "path": str(path)}
    match kind:
        case "images" if _takes_maps(raw):
            how = old.get("images") or {"steps": _STEPS, "encoding": "repeat"}
            data["images"] = {key: value for key, value in how.items() if key in _OF_IMAGES}
            if "mean" in how:
                # The recipe's values are for its own images.
                data["normalise"] = "auto"
        case "events":
            steps = _steps(old)
            if isinstance(old.get("frames"), dict):
                # `pick` is for the recipe's own sensor.
                data["frames"] = {key: value for key, value in old["frames"].items() if key != "pick"}
            elif steps is not None:
                data["frames"] = {"by": "bins", "bins": steps}
            data |= {key: old[key] for key in ("binary", "augment") if key in old}
        case "text":
            data |= {key: old[key] for key in ("bptt", "words") if key in old}
        case _:
            pass
    name = f"{raw.get('name', 'own')}-{slug(path)}"[:100]
    kept = {key: value for key, value in raw.items() if key not in ("experiment", "published")}
    return {**kept, "name": name, "about": f"{raw.get('name')} on your own data in {path}", "data": data}


def fitted(
    raw: dict[str, Any],
    source: str,
    kept: Collection[str] = (),
    say: Say = lambda _: None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Return a recipe whose own data is inspected, and whose network is fitted to it.

    Args:
        raw: the recipe as plain data; a recipe of other data, or of inspected data, is returned as it is.
        source: named in errors.
        kept: keys of the network that stay as they are, such as `network.classes`.
        say: receives each change.
        folder: the new place of the data, if it has moved; None: `path`.

    Raises:
        DataError: the data is missing, or cannot be used for training.
        UsageError: the network cannot be fitted to the data.
    """
    data = raw.get("data")
    if not isinstance(data, dict) or data.get("name") != "own" or data.get("found") is not None:
        return raw
    raw = {**raw, "data": complete(data, folder)}
    network = raw.get("network")
    if raw["data"].get("found") is None or not isinstance(network, dict):
        return raw
    if raw["data"].get("fit") is False:
        return raw
    config = _CONFIG.validate_python(raw["data"])
    known = shape(config)
    sizes = DataSizes(1, config.found.words) if known is None else known.sizes
    changed = _loss_fitted(raw, sizes, kept, say)
    try:
        changed["network"] = _network_fitted(network, sizes, kept, say)
    except ValidationError:
        # The network is invalid: validating the recipe reports why.
        return changed
    except HstnnError as error:
        raise UsageError(
            f"the network of {source} cannot take {_told(sizes, config)}: {error.message}",
            _would_work(network, config, sizes) or error.hint,
        ) from error
    return changed


def moved(recipe: Recipe, path: Path) -> Recipe:
    """Return a recipe of the user's own data with the data at `path` instead, to measure a trained network on.

    Classes are matched to those of the training by name, and the data is prepared in the same way. If neither folders
    nor a list define the splits, each split is all of the data.

    Raises:
        UsageError: the recipe's data is not the user's own.
        DataError: the data is missing, or has a class that was not in the training.
    """
    old: Any = recipe.data
    if old.name != "own":
        raise UsageError(
            f"--data is for networks trained on your own data, and this one was trained on {old.name}",
            "use --data-dir to give the folder of its data set",
        )
    plain = {key: value for key, value in old.model_dump(mode="json").items() if key != "found"}
    plain["path"] = str(path)
    if plain["kind"] == "arrays":
        mean, std = old.found.mean, old.found.std
        plain["normalise"] = {"mean": mean, "std": std} if mean else None
    if plain["kind"] == "images":
        plain["normalise"] = None
    config = _CONFIG.validate_python(plain).measuring()
    if plain["kind"] == "events":
        config.found = old.found  # sensor and times as in training
    config.found = look(config, None, old.found.classes)
    if plain["kind"] == "images":
        same = {key: getattr(old.found, key) for key in ("height", "width", "colours")}
        config.found = config.found.model_copy(update=same)
    changed = recipe.model_copy(update={"data": config})
    if (known := shape(config)) is not None:
        changed.check_data(known)
    return changed


def _loss_fitted(raw: dict[str, Any], sizes: DataSizes, kept: Collection[str], say: Say) -> dict[str, Any]:
    """Return the recipe with loss regression if its data has values and its loss is for classes."""
    loss = raw.get("loss")
    named = loss.get("name") if isinstance(loss, dict) else loss
    if sizes.targets == "classes" or named == "regression" or "loss" in kept:
        return dict(raw)
    say(f"loss: {named or 'default'} -> regression, because the targets are values")
    return {**raw, "loss": {"name": "regression"}}


def _network_fitted(network: dict[str, Any], sizes: DataSizes, kept: Collection[str], say: Say) -> dict[str, Any]:
    found = dict(network)

    def put(key: str, value: Any) -> None:
        if f"network.{key}" not in kept and found.get(key) != value:
            say(f"network.{key}: {found.get(key, 'left out')} -> {value}")
            found[key] = value

    keys = _HYBRIDS.get(str(network.get("family")))
    if keys is not None:
        for key, name in keys.items():
            if (value := getattr(sizes, name)) is not None:
                put(key, value)
        if "size" in keys and sizes.size is not None:
            ConvolutionalConfig.model_validate(_without_unknown(found))
        return found
    if network.get("family") != "stack" or not isinstance(network.get("layers"), list):
        return found
    put("input", list(sizes.step))
    if not any(key.startswith("network.layers") for key in kept):
        found["layers"] = _layers_fitted(network["layers"], found["input"], network, sizes, say)
    return found


def _without_unknown(network: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in network.items() if key in ConvolutionalConfig.model_fields}


def _layers_fitted(
    layers: list[Any], shape_in: list[int], network: dict[str, Any], sizes: DataSizes, say: Say
) -> list[Any]:
    """Return layers with the required number of outputs, and with norms for the required number of steps."""
    layers = [dict(each) if isinstance(each, dict) else each for each in layers]
    for number, layer in enumerate(layers):
        if isinstance(layer, dict) and "embedding" in layer and layer.get("words") != sizes.classes and not sizes.step:
            say(f"network.layers.{number}.words: {layer.get('words')} -> {sizes.classes}")
            layer["words"] = sizes.classes
    layers = _norms_fitted(layers, sizes.steps, say)
    linear = [number for number, layer in enumerate(layers) if isinstance(layer, dict) and "linear" in layer]
    made = StackConfig.model_validate({**network, "input": shape_in, "layers": layers})
    if not linear or made.outputs == sizes.classes:
        return layers
    last, now = linear[-1], layers[linear[-1]]["linear"]
    if now % made.outputs:
        raise RecipeError(
            f"its last linear layer has {now} outputs, from which later layers make {made.outputs}",
            "adapt the layers in a recipe of your own",
        )
    layers[last]["linear"] = now // made.outputs * sizes.classes
    say(f"network.layers.{last}.linear: {now} -> {layers[last]['linear']}")
    StackConfig.model_validate({**network, "input": shape_in, "layers": layers})
    return layers


def _norms_fitted(layers: list[Any], steps: int | None, say: Say) -> list[Any]:
    """Return layers in which norms with one set of statistics per step have as many as a sample has steps."""
    found, before = [], set()

    def of(layer: Any) -> Any:
        if not isinstance(layer, dict):
            return layer
        made = {
            key: [of(each) for each in value] if isinstance(value, list) and key in ("layers", "residual", "shortcut")
            else [[of(each) for each in branch] for branch in value] if key == "parallel" and isinstance(value, list)
            else value
            for key, value in layer.items()
        }  # fmt: skip
        norm = made.get("norm")
        if steps is not None and isinstance(norm, dict) and norm.get("steps") not in (None, steps):
            before.add(norm["steps"])
            made["norm"] = {**norm, "steps": steps}
        return made

    found = [of(layer) for layer in layers]
    for count in sorted(before):
        say(f"norm.steps in network.layers: {count} -> {steps}")
    return found


def _told(sizes: DataSizes, config: Any) -> str:
    what = sizes.targets if sizes.step else "words"
    return f"{config.kind} whose time step is {list(sizes.step)}, with {sizes.classes} {what}"


def _would_work(network: dict[str, Any], config: Any, sizes: DataSizes) -> str:
    """Return a hint for converting the data to the network's input; "" if there is none."""
    given = network.get("input")
    size = network.get("size") or (given[1] if isinstance(given, list) and len(given) == 3 else None)
    if config.kind == "images" and size:
        return f"--set data.resize={size} resizes them to the network's input size"
    if config.kind == "events" and size and len(sizes.step) == 3:
        _, height, width = sizes.step
        if min(height, width) < size:
            return f"they are smaller than its input of {size} x {size}: use fewer pooling layers"
        factor = max(1, -(-min(height, width) // size))
        first = f"{{name: center-crop, size: {min(height, width, size * factor)}}}"
        second = f", {{name: downsample, factor: {factor}}}" if factor > 1 else ""
        return f"--set 'data.transforms=[{first}{second}]' brings them to the network's input size"
    dimensions = 3 if size else 1
    if len(sizes.step) != dimensions:
        other = "stack-events or digit-events" if len(sizes.step) == 3 else "stack-digits or digits"
        return f"use a recipe for this kind of data, such as {other if sizes.step else 'pydoc-text'}"
    return ""


def _takes_maps(raw: dict[str, Any]) -> bool:
    network = raw.get("network")
    if not isinstance(network, dict):
        return False
    given = network.get("input")
    return network.get("family") == "convolutional" or (isinstance(given, list) and len(given) == 3)


def _steps(data: dict[str, Any]) -> int | None:
    """Return the number of steps of a `data` section's samples, if it is known without the files."""
    try:
        known = shape(_DATA.validate_python(data))
    except (ValidationError, HstnnError):
        return None
    return known.steps if known else None


def slug(path: Path) -> str:
    """Return the name of a folder or file, reduced to the characters of recipe names."""
    whole = path.resolve()
    name = whole.stem if whole.is_file() else whole.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "own"
