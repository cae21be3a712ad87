"""What a bundle holds: its manifest, with a seal over every word of it, and its files, each with its hash.

Needs nothing beyond Python: whoever only runs a bundle reads it through here.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hstnn_deploy.errors import BundleError
from hstnn_deploy.files import json_text, sha256

MANIFEST, VOCABULARY = "manifest.json", "vocabulary.json"
FORMAT = "hstnn-deploy bundle"
VERSION = 2

_EXPORT_AGAIN = "copy the bundle again, or export it again"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, if it is as it was written.

    Raises:
        BundleError: no bundle, or its manifest was changed, damaged, or is another version's.
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise BundleError(f"{folder} does not exist", "give the folder of a bundle; `hstnn export` writes them")
    if not folder.is_dir() or not path.is_file():
        what = "has no manifest.json" if folder.is_dir() else "is a file"
        inside = [str(found.parent) for found in sorted(folder.rglob(MANIFEST))][:3] if folder.is_dir() else []
        hint = f"did you mean {' or '.join(inside)}?" if inside else "give the folder that `hstnn export` wrote"
        raise BundleError(f"{folder} is not a bundle: it {what}", hint)
    try:
        text = path.read_text(encoding="utf-8")
        facts = json.loads(text)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: it is not JSON ({error})", _EXPORT_AGAIN) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BundleError(f"{path} is not the manifest of a bundle", "give the folder that `hstnn export` wrote")
    if facts.get("version") != VERSION:
        raise BundleError(
            f"{folder} is a bundle of version {facts.get('version')}; this hstnn reads version {VERSION}",
            "export its checkpoint again with this hstnn",
        )
    given = facts.pop("seal", None)
    if given != seal(facts) or text != json_text(facts | {"seal": given}):
        raise BundleError(f"{path} was changed since it was written: its seal does not fit", _EXPORT_AGAIN)
    return facts | {"seal": given}


def seal(facts: dict[str, Any]) -> str:
    """Return what tells whether a manifest was changed: the SHA-256 of its other words."""
    return hashlib.sha256(json_text(facts).encode()).hexdigest()


def check_files(folder: Path, facts: dict[str, Any], chosen: Collection[str] | None = None) -> None:
    """Compare a bundle's files, all of them or those chosen, with its manifest.

    Raises:
        BundleError: a file that is missing, another, changed, or not in the manifest.
    """
    listed: dict[str, Any] = facts["files"] | facts["carried"]
    names = {each["sha256"]: name for name, each in listed.items()}
    for name, each in listed.items():
        if chosen is not None and name not in chosen:
            continue
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; the manifest lists it", _EXPORT_AGAIN)
        found = sha256(path)
        if found == each["sha256"]:
            continue
        if found in names:
            raise BundleError(f"{path} holds what belongs in {names[found]}", _EXPORT_AGAIN)
        raise BundleError(
            f"{path} is not the file that was exported: SHA-256 {found[:12]}…, {path.stat().st_size} bytes; "
            f"the manifest says {each['sha256'][:12]}…, {each['bytes']} bytes",
            _EXPORT_AGAIN,
        )
    strange = sorted(path.name for path in folder.glob("model.*") if path.name not in listed)
    if strange and chosen is None:
        raise BundleError(f"{folder / strange[0]} is not in the manifest", "remove it, or export the bundle again")
