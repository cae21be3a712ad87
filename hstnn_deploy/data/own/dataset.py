"""Data of one's own as the registry knows data sets."""

from pathlib import Path
from typing import Any

from hstnn_deploy.data.dataset import Card, DataSet, Shape
from hstnn_deploy.data.own import events, resolve
from hstnn_deploy.data.own.config import OwnEvents, OwnText
from hstnn_deploy.data.own.files import place


def _shape(config: Any) -> Shape | None:
    return None if isinstance(config, OwnText) else config.found_shape()


def _missing(config: Any, folder: Path | None) -> list[str]:
    return [] if (where := place(config, folder)).exists() else [str(where)]


def own(config: Any) -> DataSet[Any]:
    """Return the data set of a configuration, whose card says what was found."""
    found = config.found
    classes = tuple(found.classes) if found else ()
    recordings = None
    if isinstance(config, OwnEvents):

        def recordings(given: OwnEvents, folder: Path | None) -> Any:
            return events.recordings(given, folder)

    task = f"classification, {len(classes)} classes" if classes else "as its files say"
    return DataSet(
        "own",
        type(config),
        Card(f"your own {config.kind} in {config.path}", task, "yours", "", "data.path says where it is", 0, classes),
        resolve.load,
        _shape,
        _missing,
        place=place,
        recordings=recordings,
    )
