"""A bundle's content: its manifest, with a seal over every word of it, and its files, each with its hash.

Needs nothing beyond Python: whoever only runs a bundle reads it through here. The seal is a plain hash, which tells
damage; it does not tell who wrote the bundle. So nothing in a manifest is used before it is known to be of the shape
that `shape` has, and the names of its files are names, never paths.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hstnn_deploy.errors import BundleError
from hstnn_deploy.export.runtime.schema import MIGRATIONS, SHAPES, misfit
from hstnn_deploy.files import json_text, sha256
from hstnn_deploy.folders import restore

MANIFEST, VOCABULARY = "manifest.json", "vocabulary.json"
FORMAT = "hstnn-deploy bundle"
VERSION, OLDEST = 4, 2

LARGEST = 16 * 2**20
"""Bytes of a manifest: one of a large network takes some 100 kB."""
_EXPORT_AGAIN = "copy the bundle again, or export it again"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, if it is as it was written; one of an older version as this one would say it.

    Raises:
        BundleError: no bundle, or its manifest was changed, damaged, is too large, of another shape, or too new.
    """
    path = folder / MANIFEST
    restore(folder)
    if not folder.exists():
        raise BundleError(f"{folder} does not exist", "give the folder of a bundle; `hstnn export` writes them")
    if not folder.is_dir() or not path.is_file():
        what = "has no manifest.json" if folder.is_dir() else "is a file"
        inside = [str(found.parent) for found in sorted(folder.rglob(MANIFEST))][:3] if folder.is_dir() else []
        hint = f"did you mean {' or '.join(inside)}?" if inside else "give the folder that `hstnn export` wrote"
        raise BundleError(f"{folder} is not a bundle: it {what}", hint)
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise BundleError(f"{path} has {size} bytes; a manifest has at most {LARGEST}", _EXPORT_AGAIN)
        text = path.read_text(encoding="utf-8")
        facts: dict[str, Any] = json.loads(text)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: it is not JSON ({error})", _EXPORT_AGAIN) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BundleError(f"{path} is not the manifest of a bundle", "give the folder that `hstnn export` wrote")
    version = facts.get("version")
    if type(version) is not int or not OLDEST <= version <= VERSION:
        newer = type(version) is int and version > VERSION
        raise BundleError(
            f"{folder} is a bundle of version {str(version)[:20]}; this hstnn reads versions {OLDEST} to {VERSION}",
            "upgrade hstnn-deploy" if newer else "export its checkpoint again with this hstnn",
        )
    given = facts.pop("seal", None)
    try:
        sealed = given == seal(facts) and text == json_text(facts | {"seal": given})
    except (ValueError, RecursionError):  # NaN, half a character, or too many brackets
        sealed = False
    if not sealed:
        raise BundleError(f"{path} has changed since it was written: its seal does not match", _EXPORT_AGAIN)
    if wrong := misfit(facts, SHAPES[version]):
        raise BundleError(f"{path} is not as hstnn writes it: {wrong}", _EXPORT_AGAIN)
    for older in range(version, VERSION):
        facts = MIGRATIONS[older](facts)
    facts["version"] = VERSION
    return facts | {"seal": seal(facts)}


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
        try:
            found = sha256(path)
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}") from error
        if found == each["sha256"]:
            continue
        if found in names:
            raise BundleError(f"{path} has the content of {names[found]}", _EXPORT_AGAIN)
        raise BundleError(
            f"{path} is not the file that was exported: SHA-256 {found[:12]}…, {path.stat().st_size} bytes; "
            f"the manifest says {each['sha256'][:12]}…, {each['bytes']} bytes",
            _EXPORT_AGAIN,
        )
    strange = sorted(path.name for path in folder.glob("model.*") if path.name not in listed)
    if strange and chosen is None:
        raise BundleError(f"{folder / strange[0]} is not in the manifest", "remove it, or export the bundle again")
