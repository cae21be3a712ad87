"""A matrix of configurations in YAML: the axes of `hstnn profile` by the names of its options, a value or a list each.

recipe: [smnist, ptb]
kinds: [rnn, hybrid]
batch: [1, 32]
threads: [1, 2]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import yaml_text
from hstnn_deploy.errors import UsageError, nearest
from hstnn_deploy.foreign import brief


class _Key(NamedTuple):
    name: str
    """What `plan` calls it."""
    kind: type
    many: bool = True


_KEYS = {
    "recipe": _Key("recipes", str),
    "experiments": _Key("experiments", str),
    "phases": _Key("phases", str),
    "engines": _Key("engines", str),
    "kinds": _Key("kinds", str),
    "ratios": _Key("ratios", float),
    "precision": _Key("precisions", str),
    "batch": _Key("batches", int),
    "train-batch": _Key("train_batches", int),
    "steps": _Key("steps", int),
    "modes": _Key("modes", str),
    "threads": _Key("threads", int),
    "gpus": _Key("gpus", int),
    "ckpt": _Key("ckpt", str, many=False),
    "instances": _Key("instances", int, many=False),
    "repeats": _Key("repeats", int, many=False),
    "data": _Key("data", str, many=False),
    "data-dir": _Key("data_dir", str, many=False),
    "seconds": _Key("seconds", float, many=False),
    "max-steps": _Key("max_steps", int, many=False),
    "rram-read": _Key("rram_read", float, many=False),
    "sram-read": _Key("sram_read", float, many=False),
}

_CONVERTED: dict[str, Callable[[Any], Any]] = {"ckpt": Path, "data_dir": Path}


def read(path: Path) -> dict[str, Any]:
    """Return the options in a file, as `plan.plan` takes them.

    Raises:
        UsageError: it cannot be read, is not YAML, or has an unknown key or a wrong value.
    """
    plain = yaml_text.read(path, UsageError, "give a YAML file with --matrix")
    if not isinstance(plain, dict):
        raise UsageError(f"{path} is not a mapping of keys to values", "for example batch: [1, 32]")
    return dict(_option(path, key, value) for key, value in plain.items())


def _option(path: Path, name: Any, value: Any) -> tuple[str, Any]:
    if name not in _KEYS:
        raise UsageError(f"{path}: unknown key {brief(name)}", nearest(brief(name).strip("'"), _KEYS))
    key = _KEYS[name]
    if isinstance(value, list) and not key.many:
        raise UsageError(f"{path}: {name} is a list", "give one value")
    values = [_value(path, name, each) for each in (value if isinstance(value, list) else [value])]
    if key.many:
        return key.name, values
    return key.name, _CONVERTED.get(key.name, lambda one: one)(values[0])


def _value(path: Path, name: str, value: Any) -> Any:
    kind = _KEYS[name].kind
    if name == "gpus" and value in ("none", None):
        return None
    whole = kind is float and isinstance(value, int)
    if isinstance(value, bool) or not (isinstance(value, kind) or whole):
        what = {str: "text", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"{path}: {name} is {brief(value)}, not {what}")
    return value
