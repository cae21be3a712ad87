"""Check a user's data before training: what is there, what is odd, and what a training would refuse.

Files are listed, divided and read by the functions that a training reads them with; where a training stops at the first
fault, a check notes it and continues. Many files are not all read: see `sample`.
"""

from pathlib import Path
from typing import Any

from hstnn_deploy.data.checking import arrays, events, images, text
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.data.checking.listed import Asked
from hstnn_deploy.data.own.config import OwnArrays, OwnEvents, OwnImages
from hstnn_deploy.data.own.detect import detect_why
from hstnn_deploy.data.own.resolve import configured


def check(data: dict[str, Any], asked: Asked) -> Checked:
    """Return what is found of a recipe's `data` section of the name `own`.

    Args:
        data: as a recipe has it: name and path, and perhaps more.
        asked: how much is read, and who is told.

    Raises:
        DataError: nothing is there, it is of no kind or of several, or no sample could be listed.
    """
    if data.get("kind") is None:
        kind, why = detect_why(Path(data["path"]))
        data = {**data, "kind": kind}
    else:
        why = "as data.kind says"
    config = configured(data)
    found = Checked(data["path"], config.kind, why, config)
    match config:
        case OwnImages():
            images.check(found, config, asked)
        case OwnArrays():
            arrays.check(found, config, asked)
        case OwnEvents():
            events.check(found, config, asked)
        case _:
            text.check(found, config, asked)
    return found
