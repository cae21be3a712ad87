"""manifest.json: what a bundle says of itself, with a seal over every word of it."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from hstnn_deploy import environment, files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import BundleError
from hstnn_deploy.export.comparisons import Check
from hstnn_deploy.export.forms import Form, time_axis
from hstnn_deploy.export.graphs import ONNX_FILES, PT2, TORCHSCRIPT
from hstnn_deploy.export.interface import Interface, State, interface, state_after
from hstnn_deploy.export.smaller import parse_name
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.train.evaluation import PROTOCOLS
from hstnn_deploy.train.recipe import Recipe, parse

MANIFEST = "manifest.json"
FORMAT = "hstnn-deploy bundle"
VERSION = 2

_EXPORT_AGAIN = "copy the bundle again, or export it again"

_RESETS = {
    "sequence": "zeros at the start of each sequence; carried from step to step within it",
    "window": "zeros at the start of each window of {steps} words, as in training; carried within it",
}


def manifest(ckpt: Path, checkpoint: Checkpoint, checks: list[Check], verified: bool) -> dict[str, Any]:
    """Return the manifest of the bundle of a checkpoint file, its files still to be added."""
    recipe = checkpoint.resolved_recipe()
    network = checkpoint.network()
    failed = any(check.outcome == "failed" for check in checks)
    window = getattr(recipe.data, "bptt", None)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "checkpoint": {"file": str(ckpt), "sha256": files.sha256(ckpt)},
        "network": {
            "family": recipe.network.family,
            "kind": recipe.kind,
            "recurrent": recipe.network.recurrent,
            "stage": checkpoint.stage,
            "units": [{"layer": n, "snn": size.snn, "rnn": size.rnn} for n, size in enumerate(checkpoint.sizes, 1)],
            "neuron": recipe.network.neuron.model_dump(),
            "vocabulary": checkpoint.vocabulary,
            "window_steps": window,
            "states": [_state(state, window) for state in interface(network).states],
        },
        "files": {},
        "recipe": checkpoint.recipe,
        "selection": checkpoint.selection,
        "metrics": {**checkpoint.metrics, "epoch": checkpoint.epoch, "protocol_meaning": PROTOCOLS[recipe.protocol]},
        "trained_with": checkpoint.environment,
        "tools": environment.versions(),
        "verification": {
            "result": ("failed" if failed else "passed") if verified else "not run",
            "checks": [check.plain() for check in checks],
        },
    }


def _state(state: State, window: int | None) -> dict[str, Any]:
    return {
        "name": state.name,
        "shape": ["B", *state.shape],
        "meaning": state.meaning,
        "reset": state.reset,
        "reset_meaning": _RESETS[state.reset].format(steps=window),
    }


def describe_file(path: Path, network: HybridNetwork, steps: int | None = None) -> dict[str, Any]:
    """Return hash, size, and inputs and outputs of one written file; `steps` is T of an unrolled graph."""
    facts = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
    return facts | _interface(path.name, interface(network), steps)


def _interface(name: str, face: Interface, steps: int | None) -> dict[str, Any]:
    reduced = parse_name(name)
    name = reduced[0] if reduced else name
    form: Form = next((form for form, file in ONNX_FILES.items() if file == name), "window")
    time = time_axis(form, steps)
    x = _tensor("x", [*time, "B", *face.step], face.x_meaning, "int64" if face.tokens else "float32")
    logits = _tensor("logits", [*(time if face.every_step else []), "B", face.classes], face.logits_meaning)
    before = [_tensor(state.name, ["B", *state.shape], state.meaning) for state in face.states]
    after = [_tensor(state_after(state.name), ["B", *state.shape], state.meaning) for state in face.states]
    if name in {TORCHSCRIPT, PT2}:
        what = "a window, a chunk or, with T = 1, a step"
        zero = "; a state that is not given is zero" if name == TORCHSCRIPT else "; all states are given"
        return {
            "form": f"logits, state = module(x, state): {what}{zero}",
            "engine": "TorchScript" if name == TORCHSCRIPT else "torch.export",
            "inputs": [x, {"name": "state", "dict of": before}],
            "outputs": [logits, {"name": "state", "dict of": before}],
        }
    return {"form": form, "engine": "ONNX", "inputs": [x, *before], "outputs": [logits, *after]}


def _tensor(name: str, shape: list[str | int], meaning: str, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "meaning": meaning}


def write_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest into a folder, sealed; return it as written."""
    sealed = facts | {"seal": _seal(facts)}
    files.write_json(folder / MANIFEST, sealed)
    return sealed


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
    seal = facts.pop("seal", None)
    if seal != _seal(facts) or text != files.json_text(facts | {"seal": seal}):
        raise BundleError(f"{path} was changed since it was written: its seal does not fit", _EXPORT_AGAIN)
    return facts | {"seal": seal}


def _seal(facts: dict[str, Any]) -> str:
    return hashlib.sha256(files.json_text(facts).encode()).hexdigest()


def check_files(folder: Path, facts: dict[str, Any]) -> None:
    """Compare a bundle's files with its manifest.

    Raises:
        BundleError: a file that is missing, another, changed, or not in the manifest.
    """
    listed: dict[str, Any] = facts["files"]
    names = {each["sha256"]: name for name, each in listed.items()}
    for name, each in listed.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; the manifest lists it", _EXPORT_AGAIN)
        found = files.sha256(path)
        if found == each["sha256"]:
            continue
        if found in names:
            raise BundleError(f"{path} holds what belongs in {names[found]}", _EXPORT_AGAIN)
        raise BundleError(
            f"{path} is not the file that was exported: SHA-256 {found[:12]}…, {path.stat().st_size} bytes; "
            f"the manifest says {each['sha256'][:12]}…, {each['bytes']} bytes",
            _EXPORT_AGAIN,
        )
    if strange := sorted(path.name for path in folder.glob("model.*") if path.name not in listed):
        raise BundleError(f"{folder / strange[0]} is not in the manifest", "remove it, or export the bundle again")


def recipe_of(folder: Path, facts: dict[str, Any]) -> Recipe:
    """Return the recipe of a bundle.

    Raises:
        RecipeError: this version of hstnn cannot read it.
    """
    return parse(facts["recipe"], f"{folder / MANIFEST}: recipe")
