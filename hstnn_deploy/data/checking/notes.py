"""What is odd in data of one's own, one line for each oddity: what training would refuse, and what it would not.

    refused: pets/cat/3.png is empty (and 2 more: cat/5.png, dog/1.png). What to do: copy or download it again, …
    note: the class newt is 12 times as frequent as the class cat. What to do: …

A million files with the same fault are one line: messages are alike where they differ in names and numbers alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import visible

_NAMED = 3
"""Files that a line names beside the first."""
_KEPT = 20
"""Files that are kept of each oddity."""
_KINDS = 200
"""Oddities that are told one by one."""
_NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*")


@dataclass
class Note:
    """An oddity, and where it is."""

    refused: bool
    """Whether training would be refused."""
    message: str
    """What is wrong with the first of them."""
    hint: str
    """What to do."""
    names: list[str] = field(default_factory=list)
    """The first files that have it."""
    count: int = 1
    """How many have it."""

    def line(self) -> str:
        """Return it in one line."""
        more = ""
        if self.count > 1:
            others = self.names[1 : 1 + _NAMED]
            rest = ", …" if self.count > 1 + len(others) and others else ""
            more = f" (and {self.count - 1} more{': ' if others else ''}{', '.join(others)}{rest})"
        end = "" if self.message.endswith(("?", ".")) and not more else "."
        do = f"{end} What to do: {self.hint}" if self.hint else ""
        return f"{'refused' if self.refused else 'note'}: {self.message}{more}{do}"

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "refused": self.refused,
            "message": self.message,
            "hint": self.hint,
            "files": self.names,
            "count": self.count,
        }


class Notes:
    """Collects oddities."""

    def __init__(self) -> None:
        """Begin without any."""
        self._found: dict[tuple[bool, str], Note] = {}

    def refuse(self, error: DataError, name: str = "") -> None:
        """Keep what training would refuse.

        Args:
            error: as training would raise it.
            name: the file or class that it is about; "" where it is about everything.
        """
        self._add(True, error.message, error.hint, name)

    def note(self, message: str, hint: str = "", names: Sequence[str] = ()) -> None:
        """Keep what training would not refuse.

        Args:
            message: what is odd.
            hint: what to do.
            names: the files that have it; none where it is about everything.
        """
        kept = [shown(name) for name in names[:_KEPT]]
        self._found[False, f"{len(self._found)}"] = Note(False, shown(message), shown(hint), kept, max(1, len(names)))

    def of_file(self, message: str, hint: str, name: str) -> None:
        """Keep what is odd in one file: those of many files are counted together."""
        self._add(False, message, hint, name)

    def _add(self, refused: bool, message: str, hint: str, name: str) -> None:
        kind = _NUMBER.sub("#", message.replace(name, "") if name else message)
        if (refused, kind) not in self._found and len(self._found) >= _KINDS:
            message, hint, kind = "other things are wrong", "fix the others first, then check again", "others"
        there = self._found.get((refused, kind))
        if there is None:
            names = [shown(name)] if name else []
            self._found[refused, kind] = Note(refused, shown(message), shown(hint), names)
            return
        there.count += 1
        if name and len(there.names) < _KEPT:
            there.names.append(shown(name))

    @property
    def found(self) -> list[Note]:
        """All of them, those first that training would refuse."""
        return sorted(self._found.values(), key=lambda note: not note.refused)

    @property
    def refused(self) -> list[Note]:
        """Those that training would refuse."""
        return [note for note in self.found if note.refused]


def some(count: int, noun: str, verb: str = "") -> str:
    """Return a number of things and what they do, such as "1 file is" and "2 files are"."""
    one = {"are": "is", "have": "has", "hold": "holds"}
    return (
        f"{count} {noun}{'' if count == 1 else 's'}{' ' if verb else ''}{one.get(verb, verb) if count == 1 else verb}"
    )


def shown(text: str) -> str:
    """Return text as a terminal and JSON can show it, in one line: bytes of names that are no UTF-8 as \\x.."""
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return " ".join(visible(whole).split())
