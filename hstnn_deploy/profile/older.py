"""Records of older versions: what turns the plain data of one version into that of the next; see `record`.

Standard library only, as `record` uses it.
"""

from collections.abc import Callable
from typing import Any

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.foreign import brief

VERSION = 3
"""Of the layout that is written now. It changes whenever a reader of the one before would be wrong."""

NOT_SAID = "the record has version 2, which does not state it"


def current(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a record's plain data in the layout of now.

    Args:
        plain: as it was written, of any version that is known. It stays as it is.

    Raises:
        ProfileError: the version is not known.
    """
    version = plain.get("version")
    if version == VERSION and not isinstance(version, bool):
        return plain
    if isinstance(version, bool) or not isinstance(version, int) or version not in _STEPS:
        raise ProfileError(
            f"a record has schema version {brief(version)}; this hstnn reads versions {min(_STEPS)} to {VERSION}",
            "measure again, or use the hstnn version that wrote it",
        )
    while version != VERSION:
        plain, version = _STEPS[version](plain), version + 1
    return {**plain, "version": VERSION}


def _from_2(plain: dict[str, Any]) -> dict[str, Any]:
    """Version 3 numbers the processes of a configuration, and names the commit of the user's project."""
    configuration, facts = plain.get("configuration"), plain.get("facts")
    # What is damaged is left to be refused as it is.
    if isinstance(configuration, dict):
        configuration = {"repeat": 1, **configuration}
    if isinstance(facts, dict):
        facts = {"project": {"commit": None, "reason": NOT_SAID}, **facts}
    return {**plain, "configuration": configuration, "facts": facts}


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _from_2}
"""By the version that it takes: what returns the next one."""
