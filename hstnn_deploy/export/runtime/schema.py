"""The shape of a manifest: which keys it has, and what may stand there. Anyone can write one and seal it.

Needs nothing beyond the standard library; see `contents`.
"""

import re
from collections.abc import Callable
from typing import Any

from hstnn_deploy.foreign import brief

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
            function of value and name that says what is wrong; or a tuple of shapes, one of which must fit.
        where: what the value is called.
    """
    match shape:
        case dict():
            if not isinstance(value, dict):
                return f"{where} is {brief(value)}, not an object"
            if missing := [key for key in shape if key not in value and key[-1] not in "?*"]:
                return f"{_inside(where, missing[0])} is missing"
            known = {key: "*" for key in value if "*" in shape}
            known |= {key.removesuffix("?"): key for key in shape if key.removesuffix("?") in value}
            return _first(misfit(value[key], shape[inner], _inside(where, key)) for key, inner in known.items())
        case list():
            if not isinstance(value, list):
                return f"{where} is {brief(value)}, not a list"
            return _first(misfit(each, shape[0], _inside(where, str(place))) for place, each in enumerate(value))
        case tuple():
            wrong = [misfit(value, each, where) for each in shape]
            return "" if "" in wrong else wrong[0]
        case set():
            fits = isinstance(value, str) and value in shape
            return "" if fits else f"{where} is {brief(value)}; it may be {', '.join(sorted(shape))}"
        case type():
            # By type, not isinstance: True is no number.
            return "" if type(value) is shape else f"{where} is {brief(value)}, not of type {shape.__name__}"
        case None:
            return "" if value is None else f"{where} is {brief(value)}, not null"
        case _:
            return str(shape(value, where))


def _first(found: Any) -> str:
    return next(filter(None, found), "")


def _inside(where: str, key: str) -> str:
    key = key if key.isascii() and key.isprintable() else ascii(key)
    return f"{where}.{key[:60]}" if where else key[:60]


def _that(fits: Callable[[Any], bool], what: str) -> Callable[[Any, str], str]:
    """Return the shape of values that fit, called what they are."""
    return lambda value, where: "" if fits(value) else f"{where} is {brief(value)}, not {what}"


_count = _that(lambda value: type(value) is int and 0 <= value < _MOST, "a count")
_number = _that(lambda value: type(value) in (int, float) and abs(value) < _MOST, "a number")
_size = _that(lambda value: type(value) is int and 0 < value < _MOST, "a count above 0")
_some_numbers = _that(
    lambda value: isinstance(value, list) and len(value) in (1, 3) and not any(_number(each, "") for each in value),
    "one number or three",
)
_some_sizes = _that(
    lambda value: not _some_numbers(value, "") and min(value) > 0,
    "one number or three, above 0",
)
_hash = _that(lambda value: isinstance(value, str) and bool(_HASH.fullmatch(value)), "a SHA-256")
_dimensions = _that(
    lambda value: isinstance(value, list) and not any(_count(each, "") for each in value if not isinstance(each, str)),
    "a shape",
)
_batch_of = _that(
    lambda value: isinstance(value, list) and value[:1] == ["B"] and not any(_count(each, "") for each in value[1:]),
    "the shape of a state",
)


def _by_name(shape: Any) -> Callable[[Any, str], str]:
    """Return the shape of an object of files by name: a name is no path, so that nothing outside is ever touched."""

    def wrong(value: Any, where: str) -> str:
        if isinstance(value, dict):
            for name in value:
                if not _NAME.fullmatch(name) or name.endswith(".") or name == "manifest.json":
                    return f"{where} has {brief(name)}, which is not the name of a file of a bundle"
        return misfit(value, {"*": shape}, where)

    return wrong


_STATE = {
    "name": str,
    "dtype?": {"float32", "int64"},
    "shape": _batch_of,
    "meaning": str,
    "reset": {"sequence", "window"},
}
_TENSOR = {"name": str, "dtype": {"float32", "int64", "uint8"}, "shape": _dimensions, "meaning": str}
_TENSORS = [(_TENSOR, {"name": str, "dict of": [_TENSOR]})]


def _tensors(value: Any, where: str) -> str:
    wrong = misfit(value, _TENSORS, where)
    begins = wrong or (value and value[0].get("shape"))
    return wrong if begins else f"{where} does not begin with a tensor that has a shape"


def _answers(value: Any, where: str) -> str:
    """Return what is wrong with outputs: the first is the logits, and their last axis is the classes, or values."""
    wrong = _tensors(value, where)
    known = wrong or type(value[0]["shape"][-1]) is int
    return wrong if known else f"{where} does not state how many classes the logits have"


_FILE = {
    "sha256": _hash,
    "bytes": _count,
    "form": str,
    "engine": {"ONNX", "TorchScript", "torch.export"},
    "steps?": _count,
    "states?": {"named", "inside"},
    "opset?": _count,
    "inputs": _tensors,
    "outputs": _answers,
}
_CARRIED = {"sha256": _hash, "bytes": _count, "meaning": str}
_CHECK = {"file": str, "name": str, "outcome": {"passed", "failed", "not run"}, "figure": str}
_SMALLER = {"file": str, "how": {"int8-dynamic", "int8-static", "fp16", "integers"}, "limit": _number}
_KEPT = {"pick?": (_count, None)}
_FRAMES = (
    {"by": {"time"}, "time": _count, "from": {"first-event"}, **_KEPT},
    {"by": {"bins"}, "bins": _count, **_KEPT},
    {"by": {"parts"}, "parts": _count, **_KEPT},
    {"by": {"number"}, "number": _count, **_KEPT},
    {"by": {"count"}, "count": _count, "keep_incomplete": bool, "steps": _count, **_KEPT},
)
_INPUT = (
    {"kind": {"values"}},
    {"kind": {"pixels"}, "height": _count, "width": _count, "colours": _count, "white": _count, "resize?": bool},
    {
        "kind": {"arrays"},
        "axes": str,
        "shape": [_size],
        "steps": _size,
        "mean": [_number],
        "std": [_number],
    },
    {
        "kind": {"images"},
        "height": _count,
        "width": _count,
        "colours": _count,
        "white": _size,
        "steps": _count,
        "encoding": {"poisson", "repeat"},
        "mean": _some_numbers,
        "std": _some_sizes,
        "seed": _count,
        "resize?": bool,
    },
    {
        "kind": {"frames"},
        "sensor": [_count],
        "transforms": [dict],
        "frame_time": _count,
        "steps": (_count, None),
        "binary": bool,
        "events?": str,
    },
    {
        "kind": {"frames"},
        "sensor": [_count],
        "transforms": [dict],
        "frames": _FRAMES,
        "binary": bool,
        "events?": str,
    },
    {"kind": {"words"}, "split": {"spaces", "punctuation"}, "lower": bool, "window": _count},
)

_NETWORK: dict[str, Any] = {
    "family": {"sequence", "language", "convolutional", "stack"},
    "kind": {"rnn", "lstm", "snn", "ffs", "hybrid", "plain"},
    "recurrent": {"rnn", "lstm"},
    "stage": {"train", "adapt", "restore"},
    "units": [{"layer": _count, "snn": _count, "rnn": _count}],
    "neuron": dict,
    "vocabulary": str,
    "classes?": [str],
    "window_steps": (_count, None),
    "states": [_STATE],
    "answer?": {"kind": {"values"}, "names": [str]},
}
_VERSION_2: dict[str, Any] = {
    "created": str,
    "checkpoint": {"file": str, "sha256": _hash},
    "network": _NETWORK,
    "input?": _INPUT,
    "files": _by_name(_FILE),
    "carried": _by_name(_CARRIED),
    "weights?": {"draw": (_count, None)},
    "exit?": {"rule": {"confidence", "scale"}, "threshold": _number},
    "recipe": dict,
    "selection": (dict, None),
    "metrics": {"test?": ({"*": _number}, None)},
    "trained_with": dict,
    "tools": {"*": str},
    "verification": {"result": {"passed", "failed", "not run"}, "checks": [_CHECK]},
    "smaller?": [_SMALLER],
    "form_choice?": dict,
}
_VERSION_3 = _VERSION_2 | {"graphs": {"builder": _count, "preprocess": bool}}
_LAYER = {"layer": _count, "kind": str, "parameters": _count, "output": _dimensions}
SHAPES: dict[int, Any] = {
    2: _VERSION_2,
    3: _VERSION_3,
    4: _VERSION_3 | {"network": _NETWORK | {"layers": [_LAYER], "taps": [str]}},
}
"""The shape of a manifest of each version, its `format`, `version` and `seal` aside."""


def _say_how_graphs_were_built(facts: dict[str, Any]) -> dict[str, Any]:
    """From version 2: all its graphs were of the first builder, and a front shows in what a graph takes."""
    graphs = {name: each for name, each in facts["files"].items() if each["engine"] == "ONNX"}
    raw = any(each["inputs"][0]["name"] != "x" for each in graphs.values())
    all_files = facts["files"] | {name: each | {"states": "named", "opset": 20} for name, each in graphs.items()}
    return facts | {"files": all_files, "graphs": {"builder": 1, "preprocess": raw}}


def _say_what_is_handed_out(facts: dict[str, Any]) -> dict[str, Any]:
    """From version 3: all networks were hybrid ones: spiking units hand out spikes, recurrent ones h."""
    taps = [
        f"layer{each['layer']}_{tap}"
        for each in facts["network"]["units"]
        for kind, tap in (("snn", "spikes"), ("rnn", "h"))
        if each[kind]
    ]
    return facts | {"network": facts["network"] | {"layers": [], "taps": taps}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    2: _say_how_graphs_were_built,
    3: _say_what_is_handed_out,
}
"""From a version to the next: what turns its manifest into the next version's."""
