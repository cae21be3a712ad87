"""Where data of one's own lies, and whether it is still what a recipe was made for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hstnn_deploy.data.own.config import Found
from hstnn_deploy.data.own.parts import SPLITS
from hstnn_deploy.errors import DataError


def place(config: Any, given: Path | None) -> Path:
    """Return the folder or file of a configuration; see `at`."""
    return at(config.path, given)


def at(path: str, given: Path | None) -> Path:
    """Return the folder or file of a path as a recipe has it.

    Args:
        path: as the recipe says.
        given: where it has moved, as --data-dir says: the folder itself, or one that holds it; None: it has not.
    """
    if given is None:
        return Path(path)
    below = given / path
    return below if not Path(path).is_absolute() and below.exists() else given


def check_same(config: Any, found: Found, where: Path) -> None:
    """Refuse data that is not what the recipe was made for; nothing is refused where the recipe says nothing of it.

    Raises:
        DataError: names the class and split in which there are more or fewer samples, where they are.
    """
    told: Found | None = config.found
    if told is None or told.listing == found.listing:
        return
    raise DataError(
        f"{where} differs from the data that the recipe was made for: {_difference(told, found)}",
        f"restore it; or train again from the recipe that you wrote (`hstnn train RECIPE --data {where}`)",
    )


def _difference(told: Found, found: Found) -> str:
    if told.classes != found.classes:
        return f"its classes were {_some(told.classes)}, and now are {_some(found.classes)}"
    for split in SPLITS:
        before, now = getattr(told, split), getattr(found, split)
        for place_, (one, other) in enumerate(zip(before, now, strict=False)):
            if one != other:
                name = f" {told.classes[place_]}" if told.classes else ""
                return f"{split}{name} had {one} samples, and now has {other}"
    return "names, sizes or labels of files have changed"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
