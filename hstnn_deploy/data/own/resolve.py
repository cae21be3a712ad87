"""From what a recipe says of one's own data to what was found there: the folder is looked at once, and then told.

    complete({"name": "own", "path": "gestures"})   ->   the same with `kind`, what was left out, and `found`

What has been found is not looked for again: a resolved recipe, and every checkpoint, is read without its files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hstnn_deploy.data.dataset import Cache, Card, DataSet, Protocol, Shape, Source
from hstnn_deploy.data.mistakes import mistake
from hstnn_deploy.data.own import arrays, events, images, text
from hstnn_deploy.data.own.config import BINS, CONFIGS, Found, Own, OwnArrays, OwnEvents, OwnImages, OwnText
from hstnn_deploy.data.own.detect import detect
from hstnn_deploy.data.own.files import at, place
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief


def complete(plain: dict[str, Any], folder: Path | None = None, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return a `data` section of the name `own` with its kind, and with what was found.

    Args:
        plain: as a recipe has it. One that says what was found is returned as it is; so is one that no configuration
            takes: whoever validates it says why.
        folder: where the data has moved; None: it is where `path` says.
        known: the names of classes that a network was trained on, in its order.

    Raises:
        DataError: the data is not there, or cannot be trained on.
    """
    if plain.get("found") is not None or not isinstance(plain.get("path"), str) or not plain["path"]:
        return plain
    plain = _begun(plain, folder)
    if plain["kind"] not in CONFIGS:
        return plain
    try:
        config: Own = CONFIGS[plain["kind"]].model_validate(plain)
    except ValidationError:
        return plain
    found = look(config, folder, known)
    config = config.model_copy(update={"found": found})
    if isinstance(config, OwnImages) and config.normalise and config.images is not None:
        mean, std = images.mean_and_std(config, Source(folder=folder))
        config.images = config.images.model_copy(update={"mean": mean, "std": std})
    return config.model_dump(mode="json")


def _begun(plain: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return a `data` section with its kind, and with frames if no way to cut recordings is given."""
    if plain.get("kind") is None:
        plain = {**plain, "kind": detect(at(plain["path"], folder))}
    if plain["kind"] == "events" and not any(plain.get(key) for key in ("frames", "frame_time", "steps")):
        plain = {**plain, "frames": {"by": "bins", "bins": BINS}}
    return plain


def configured(plain: dict[str, Any]) -> Own:
    """Return the configuration of a `data` section, before anything but its kind was looked for.

    Raises:
        DataError: there is no data, or it may be of several kinds; or a key is unknown.
    """
    plain = _begun(plain)
    if plain["kind"] not in CONFIGS:
        raise DataError(f"data.kind is {brief(plain['kind'])}", f"use one of {', '.join(CONFIGS)}")
    return _validated(plain)


def _validated(plain: dict[str, Any]) -> Own:
    config = CONFIGS[plain["kind"]]
    try:
        return config.model_validate(plain)
    except ValidationError as error:
        raise DataError(*mistake(error, config.model_fields.keys() - {"name", "found"})) from error


def look(config: Own, folder: Path | None = None, known: Sequence[str] = ()) -> Found:
    """Return what is found of a configuration's data; see `complete`."""
    match config:
        case OwnImages():
            return images.look(config, folder, known)
        case OwnArrays():
            return arrays.look(config, folder, known)
        case OwnEvents():
            return events.look(config, folder, known)
        case OwnText():
            return text.look(config, folder)


def load(config: Own, source: Source) -> Splits:
    """Return the splits of one's own data.

    Raises:
        DataError: it is not there, not what the recipe was made for, or damaged.
    """
    match config:
        case OwnImages():
            return images.load(config, source)
        case OwnArrays():
            return arrays.load(config, source)
        case OwnEvents():
            return events.load(config, source)
        case OwnText():
            return text.load(config, source)


def load_folder(
    path: Path | str, protocol: Protocol = "validation", cache: Cache = "disk", **options: Any
) -> tuple[Own, Splits]:
    """Return the configuration and the splits of a folder: what `data: {name: own, path: …}` gives a training.

    Args:
        path: the folder, or the file where one holds everything.
        protocol: whether a validation split is held out of training.
        cache: where decoded images and transformed recordings are kept.
        options: the keys of the `data` section, such as kind, split or images.

    Raises:
        DataError: the data does not exist or cannot be trained on; or an option is unknown.
    """
    config = _validated(complete({"name": "own", "path": str(path), **options}))
    return config, load(config, Source(protocol, cache=cache))


def _shape(config: Any) -> Shape | None:
    return None if isinstance(config, OwnText) else config.found_shape()


def _missing(config: Any, folder: Path | None) -> list[str]:
    return [] if (where := place(config, folder)).exists() else [str(where)]


def own(config: Any) -> DataSet[Any]:
    """Return the data set of a configuration, whose card says what was found."""
    found = config.found
    classes = tuple(found.classes) if found else ()
    task = f"classification, {len(classes)} classes" if classes else "as its files say"
    return DataSet(
        "own",
        type(config),
        Card(f"your own {config.kind} in {config.path}", task, "yours", "", "see data.path", 0, classes),
        load,
        _shape,
        _missing,
        place=place,
        recordings=events.recordings if isinstance(config, OwnEvents) else None,
    )
