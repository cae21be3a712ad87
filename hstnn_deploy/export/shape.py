"""The shape of a manifest: which keys it has, and what may stand there. Anyone can write one and seal it.

Needs nothing beyond Python; see `contents`.
"""

import re
from collections.abc import Callable
from typing import Any

_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST = 2**40
"""No count or size in a manifest is larger."""


def misfit(value: Any, shape: Any, where: str = "") -> str:
    """Return where plain data is not of a shape, in words; an empty text where it is.

    Args:
        value: what JSON holds.
        shape: a type; a set of the texts there may be; None; a list of the shape of each item; a dict of shapes by key,
            where `key?` may be left out, `*` stands for every other key, and keys are free where there is no `*`; a
            function that says what is wrong with a value; or a tuple of shapes of which one must fit.
        where: what the value is called.
    """
    match shape:
        case dict():
            if not isinstance(value, dict):
                return f"{where} is {_shown(value)}, not an object"
            if missing := [key for key in shape if key not in value and key[-1] not in "?*"]:
                return f"{_inside(where, missing[0])} is missing"
            known = {key.removesuffix("?"): inner for key, inner in shape.items()}
            every = known.get("*", _free)
            return _first(misfit(value[key], known.get(key, every), _inside(where, key)) for key in value)
        case list():
            if not isinstance(value, list):
                return f"{where} is {_shown(value)}, not a list"
            return _first(misfit(each, shape[0], _inside(where, str(place))) for place, each in enumerate(value))
        case tuple():
            wrong = [misfit(value, each, where) for each in shape]
            return "" if "" in wrong else wrong[0]
        case set():
            fits = isinstance(value, str) and value in shape
            return "" if fits else f"{where} is {_shown(value)}; it may be {', '.join(sorted(shape))}"
        case type():
            # By type, not isinstance: True is no number.
            return "" if type(value) is shape else f"{where} is {_shown(value)}, not of type {shape.__name__}"
        case None:
            return "" if value is None else f"{where} is {_shown(value)}, not null"
        case _:
            wrong_here = shape(value)
            return f"{where} is {_shown(value)}{wrong_here}" if wrong_here else ""


def _first(found: Any) -> str:
    return next(filter(None, found), "")


def _inside(where: str, key: str) -> str:
    key = key if key.isascii() and key.isprintable() else ascii(key)
    return f"{where}.{key[:60]}" if where else key[:60]


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _free(_: Any) -> str:
    return ""


def _count(value: Any) -> str:
    return "" if type(value) is int and 0 <= value < _MOST else f", not a count from 0 to {_MOST:.0e}"


def _number(value: Any) -> str:
    return "" if type(value) in (int, float) and abs(value) < float(_MOST) else ", not a number"


def _hash(value: Any) -> str:
    return "" if isinstance(value, str) and _HASH.fullmatch(value) else ", not a SHA-256"


def _dimensions(value: Any) -> str:
    fits = isinstance(value, list) and all(isinstance(each, str) or not _count(each) for each in value)
    return "" if fits else ", not a shape"


def _by_name(shape: Any) -> Callable[[Any], str]:
    """Return the shape of an object of files by name: a name is no path, so that nothing outside is ever touched."""

    def wrong(value: Any) -> str:
        if isinstance(value, dict):
            for name in value:
                if not _NAME.fullmatch(name) or name.endswith(".") or name == "manifest.json":
                    return f": {_shown(name)} is not the name of a file of a bundle"
        return misfit(value, {"*": shape}, "")

    return wrong


def _batch_of(value: Any) -> str:
    fits = isinstance(value, list) and value[:1] == ["B"] and not any(map(_count, value[1:]))
    return "" if fits else ", not the shape of a state"


_STATE = {
    "name": str,
    "dtype?": {"float32", "int64"},
    "shape": _batch_of,
    "meaning": str,
    "reset": {"sequence", "window"},
}
_TENSOR = {"name": str, "dtype": {"float32", "int64", "uint8"}, "shape": _dimensions, "meaning": str}
_TENSORS = [(_TENSOR, {"name": str, "dict of": [_TENSOR]})]


def _tensors(value: Any) -> str:
    wrong = misfit(value, _TENSORS, "")
    if not wrong and not (value and value[0].get("shape")):
        wrong = "it does not begin with a tensor that has a shape"
    return wrong and f": {wrong}"


def _answers(value: Any) -> str:
    """Return what is wrong with outputs: the first is the logits, and their last axis is the classes."""
    wrong = _tensors(value)
    return wrong or ("" if type(value[0]["shape"][-1]) is int else ": the logits have no number of classes")


_FILE = {
    "sha256": _hash,
    "bytes": _count,
    "form": str,
    "engine": {"ONNX", "TorchScript", "torch.export"},
    "steps?": _count,
    "inputs": _tensors,
    "outputs": _answers,
}
_CARRIED = {"sha256": _hash, "bytes": _count, "meaning": str}
_CHECK = {"file": str, "name": str, "outcome": {"passed", "failed", "not run"}, "figure": str}
_SMALLER = {"file": str, "how": {"int8-dynamic", "int8-static", "fp16"}, "limit": _number}
_INPUT = (
    {"kind": {"values"}},
    {"kind": {"pixels"}, "height": _count, "width": _count, "colours": _count, "white": _count},
    {
        "kind": {"frames"},
        "sensor": [_count],
        "transforms": [dict],
        "frame_time": _count,
        "steps": (_count, None),
        "binary": bool,
    },
    {"kind": {"words"}, "split": {"spaces", "punctuation"}, "lower": bool, "window": _count},
)

_VERSION_2 = {
    "created": str,
    "checkpoint": {"file": str, "sha256": _hash},
    "network": {
        "family": {"sequence", "language", "convolutional"},
        "kind": {"rnn", "lstm", "snn", "ffs", "hybrid"},
        "recurrent": {"rnn", "lstm"},
        "stage": {"train", "adapt", "restore"},
        "units": [{"layer": _count, "snn": _count, "rnn": _count}],
        "neuron": dict,
        "vocabulary": str,
        "window_steps": (_count, None),
        "states": [_STATE],
    },
    "input?": _INPUT,
    "files": _by_name(_FILE),
    "carried": _by_name(_CARRIED),
    "recipe": dict,
    "selection": (dict, None),
    "metrics": dict,
    "trained_with": dict,
    "tools": {"*": str},
    "verification": {"result": {"passed", "failed", "not run"}, "checks": [_CHECK]},
    "smaller?": [_SMALLER],
    "form_choice?": dict,
}
SHAPES: dict[int, Any] = {
    2: _VERSION_2,
    3: _VERSION_2 | {"graphs": {"builder": _count, "preprocess": bool}},
}
"""The shape of a manifest of each version, its `format`, `version` and `seal` aside."""


def _say_how_graphs_were_built(facts: dict[str, Any]) -> dict[str, Any]:
    """From version 2: all its graphs were of the first builder, and a front shows in what a graph takes."""
    raw = any(each["engine"] == "ONNX" and each["inputs"][0]["name"] != "x" for each in facts["files"].values())
    return facts | {"graphs": {"builder": 1, "preprocess": raw}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _say_how_graphs_were_built}
"""From a version to the next: what turns its manifest into the next version's."""
