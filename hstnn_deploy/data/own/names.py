"""Names of files and classes: in which order they come, and what they may be."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from hstnn_deploy.data.own.config import MOST_CLASSES
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief, one_line

_NUMBER = re.compile(r"([0-9]+)")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]*)?")
_LONGEST = 100


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return what names are sorted by so that class2 comes before class10."""
    parts = [part for part in _NUMBER.split(name) if part]
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part.casefold()) for part in parts], name


def class_names(found: Iterable[str], where: object, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of classes in their order.

    Args:
        found: the names that there are, each once or more.
        where: what holds them, for messages.
        known: those that a network was trained on, in its order; none: the names found make the order.

    Raises:
        DataError: one class only; too many; a name that no line can hold, or that the network does not know.
    """
    names = set(found)
    for name in names:
        if not name or len(name) > _LONGEST or one_line(name) != name or not _is_text(name):
            raise DataError(
                f"{where}: {brief(name)} cannot be the name of a class",
                f"use a name of 1 to {_LONGEST} printable characters",
            )
    _check_apart(names, where)
    if known:
        if strange := sorted(names - set(known), key=natural):
            raise DataError(
                f"{where} has the class {brief(strange[0])}, which the network was not trained on",
                f"it knows {', '.join(known[:8])}{', …' if len(known) > 8 else ''}",
            )
        return tuple(known)
    if len(names) == 1:
        raise DataError(f"{where} has only one class, {brief(min(names))}", "classification needs at least two classes")
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{where} has {len(names)} classes; hstnn takes at most {MOST_CLASSES}",
            "is a folder of the class missing above these?",
        )
    return tuple(sorted(names, key=natural))


def _is_text(name: str) -> bool:
    """Return whether a name is one: those of files may be bytes that are no letters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_apart(names: Iterable[str], where: object) -> None:
    """Refuse two names that say the same: as people see them, or as numbers.

    Raises:
        DataError: such as 1 and 1.0, or é as one sign and as two.
    """
    seen: dict[str | float, str] = {}
    for name in sorted(names, key=natural):
        same: str | float = unicodedata.normalize("NFC", name)
        if _DECIMAL.fullmatch(name):
            same = float(name)
        if (other := seen.setdefault(same, name)) != name:
            raise DataError(
                f"{where} has the classes {brief(other)} and {brief(name)}, which mean the same",
                "give both one name, or names that can be told apart",
            )
