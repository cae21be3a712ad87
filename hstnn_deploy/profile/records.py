"""Read a file of records, each checked; docs/records.md describes the layout."""

from pathlib import Path
from typing import Any

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.foreign import json_value, read_bytes, reading
from hstnn_deploy.profile.older import current
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.schema import check_shape

_LARGEST = 2**30
"""Bytes of a file of records, at most."""
_WHAT_IT_IS = "give a records.jsonl that `hstnn profile` wrote: one JSON object a line"


def read(path: Path) -> list[Record]:
    """Read a file of JSON lines.

    Raises:
        ProfileError: the file cannot be read, or a line is not a record; the message gives the line's number.
    """
    return [record for record, _ in read_whole(path)]


def read_whole(path: Path) -> list[tuple[Record, dict[str, Any]]]:
    """Read a file of JSON lines; return each record, and its plain data in the layout of now.

    Raises:
        ProfileError: see `read`.
    """
    with reading(path, "text", ProfileError, _WHAT_IT_IS, says=False):
        text = read_bytes(path, _LARGEST).decode("utf-8")
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            plain = json_value(line)
        except ValueError as error:
            raise ProfileError(f"{path}, line {number}: not JSON", _WHAT_IT_IS) from error
        try:
            record = Record.from_plain(plain)
            plain = current(plain)
            check_shape(plain)
        except ProfileError as error:
            raise ProfileError(f"{path}, line {number}: {error.message}", error.hint) from error
        records.append((record, plain))
    return records
