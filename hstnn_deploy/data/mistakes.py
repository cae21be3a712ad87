"""The mistake in a `data` section as one line and a hint."""

from collections.abc import Iterable

from pydantic import ValidationError

from hstnn_deploy.errors import nearest
from hstnn_deploy.foreign import brief, one_line


def mistake(error: ValidationError, keys: Iterable[str]) -> tuple[str, str]:
    """Return the first mistake that pydantic found, and a hint where one is known.

    Args:
        error: of a `data` section alone.
        keys: those that the section may have.
    """
    first = error.errors(include_url=False)[0]
    place = one_line(".".join(["data", *map(str, first["loc"])]))
    match first["type"]:
        case "extra_forbidden":
            key, *deeper = first["loc"]
            return f"unknown key '{place}'", "" if deeper else nearest(str(key), keys)
        case "missing":
            return f"key '{place}' is missing", ""
        case _:
            said = first["msg"].removeprefix("Value error, ")
            return f"{place} is {brief(first['input'])}: {said[:1].lower()}{said[1:]}", ""
