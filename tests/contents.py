"""What run folders hold, in a form in which == means equal to the bit."""

import json
from pathlib import Path
from typing import Any

import torch

from hstnn_deploy.checkpoint import load
from hstnn_deploy.runs import RunFolder

_VOLATILE = {"train_seconds", "valid_seconds", "started", "updated", "pid", "host", "usage", "environment"}


def untimed(value: Any) -> Any:
    """Return plain data without what differs from run to run: times, process, environment."""
    if isinstance(value, dict):
        return {key: untimed(each) for key, each in value.items() if key not in _VOLATILE}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def comparable(value: Any) -> Any:
    """Return data with every tensor as its bytes."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return [comparable(each) for each in value] if isinstance(value, list) else value


def contents(out: Path) -> dict[str, Any]:
    """Return all that the run folders under `out` hold, but for times; nothing else may lie there."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        match path.suffix:
            case ".pt":
                content = "traces" if path.name == "traces.pt" else "network"
                found[name] = comparable(untimed(load(path, content)))
            case ".json" if path.name != "environment.json":
                found[name] = untimed(json.loads(path.read_text()))
            case ".jsonl":
                found[name] = untimed(RunFolder(path.parent).metrics())
            case ".yaml":
                found[name] = path.read_text()
            case _:
                assert path.name in {"environment.json", ".lock", "log.txt"}, f"{name} was left behind"
    return found


def raw(out: Path) -> dict[Path, bytes]:
    """Return every file under `out` as it is."""
    return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
