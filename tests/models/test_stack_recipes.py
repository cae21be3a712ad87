"""A stack that cannot be is refused at once, in one line that says where, what and why."""

import time
from typing import Any

import pytest

from hstnn_deploy.errors import RecipeError
from hstnn_deploy.models.stack import StackConfig

UNITS, MAPS, TOKENS = [6], [2, 5, 5], list[int]()
END: list[Any] = [{"linear": 5}, "lif", {"linear": 3}]


def nested(depth: int, block: str) -> list[Any]:
    """Return neurons within so many blocks."""
    layers: list[Any] = ["lif"]
    for _ in range(depth):
        layers = [{"residual": layers}] if block == "residual" else [{"repeat": 2, "layers": layers}]
    return layers


def repeated(times: int, depth: int, layer: Any = "lif") -> list[Any]:
    """Return a layer so many times over, that so many times over, and so on."""
    layers = [layer]
    for _ in range(depth):
        layers = [{"repeat": times, "layers": layers}]
    return layers


def lif(**options: Any) -> list[Any]:
    """Return layers around neurons with options."""
    return [{"linear": 3}, {"lif": options}, {"linear": 3}]


WRONG: dict[str, tuple[list[int], list[Any], list[str]]] = {
    "unknown layer": (UNITS, [{"linaer": 3}], ["network.layers.0", "'linaer'", "did you mean 'linear'?"]),
    "unknown name": (UNITS, [*END, "liff"], ["network.layers.3", "did you mean 'lif'?"]),
    "no layer": (UNITS, [3], ["network.layers.0 is 3", "{linear: 100}"]),
    "two layers in one": (UNITS, [{"linear": 3, "conv": 3}], ["network.layers.0 names 2 layers: linear, conv"]),
    "layer alone": (UNITS, ["linear"], ["network.layers.0 is linear without a value", "{linear: …}"]),
    "unknown key": (UNITS, [{"linear": 3, "biass": False}], ["'network.layers.0.biass'", "did you mean 'bias'?"]),
    "unknown key of neurons": (UNITS, lif(treshold=1), ["'network.layers.1.lif.treshold'", "'threshold'"]),
    "unknown key in a block": (
        UNITS,
        [{"parallel": [["lif"], [{"repeat": 2, "layers": [{"norm": {"epz": 1}}]}]]}],
        ["'network.layers.0.parallel.1.0.layers.0.norm.epz'", "'eps'"],
    ),
    "options not by name": (UNITS, [{"lif": 3}], ["network.layers.0.lif is 3", "by name"]),
    "missing": (TOKENS, [{"embedding": 4}, *END], ["network.layers.0.words is missing"]),
    "wrong kind": (MAPS, [{"conv": 4, "kernel": "x"}], ["network.layers.0.kernel is 'x'", "integer"]),
    "negative": (UNITS, [{"linear": -3}], ["network.layers.0.linear is -3", "greater than 0"]),
    "not finite": (UNITS, [{"scale": float("nan")}, *END], ["network.layers.0.scale is nan", "finite"]),
    "maps into linear": (
        MAPS,
        [{"conv": 4}, "lif", {"linear": 3}],
        ["network.layers.2 (linear)", "network.layers.1 (lif)", "[4, 3, 3]", "put flatten before it"],
    ),
    "units into conv": (UNITS, [{"conv": 4}], ["network.layers.0 (conv)", "the input", "[6]", "6 units"]),
    "within a branch": (
        UNITS,
        [{"parallel": [[{"linear": 4}, {"conv": 3}], ["lif"]]}],
        ["network.layers.0.parallel.0.1 (conv)", "network.layers.0.parallel.0.0 (linear)", "[4]"],
    ),
    "maps into rnn": (MAPS, [{"rnn": 3}], ["network.layers.0 (rnn)", "[2, 5, 5]", "put flatten before"]),
    "maps into feedback": (MAPS, ["feedback"], ["network.layers.0 (feedback)", "[2, 5, 5]", "put flatten before"]),
    "vote": (
        UNITS,
        [{"linear": 10}, "lif", {"vote": 4}],
        ["network.layers.2 (vote)", "network.layers.1 (lif)", "10 units do not divide into groups of 4 voters"],
    ),
    "pool": (
        MAPS,
        [{"conv": 4}, {"pool": "max", "size": 4}],
        ["network.layers.1 (pool)", "a pool of 4 x 4 is larger than the map of 3 x 3"],
    ),
    "pool without size": (MAPS, [{"pool": "max"}], ["network.layers.0 (pool)", "takes size or to, and neither"]),
    "pool to what does not divide": (MAPS, [{"pool": "max", "to": 2}], ["network.layers.0 (pool)", "5 x 5", "2 equal"]),
    "kernel": (MAPS, [{"conv": 4, "kernel": 6}], ["network.layers.0 (conv)", "a kernel of 6", "2 x 5 x 5"]),
    "kernel of three axes": (
        MAPS,
        [{"conv": 4, "kernel": [3, 3, 3]}],
        ["[3, 3, 3]: give one number, or one for each axis (2 here)"],
    ),
    "groups": (MAPS, [{"conv": 4, "groups": 3}], ["network.layers.0 (conv)", "3 groups must divide the 2 input"]),
    "padding": (MAPS, [{"conv": 4, "padding": -1}], ["network.layers.0 (conv)", "padding is -1"]),
    "residual": (
        UNITS,
        [{"residual": [{"linear": 5}, "lif"]}],
        ["network.layers.0 (residual)", "its layers give [5]", "the input is [6]"],
    ),
    "shortcut": (
        UNITS,
        [{"residual": [{"linear": 5}, "lif"], "shortcut": [{"linear": 4}]}],
        ["network.layers.0 (residual)", "its layers give [5]", "its shortcut is [4]"],
    ),
    "parallel": (
        MAPS,
        [{"parallel": [[{"conv": 4}], [{"conv": 3, "kernel": 1}]]}],
        ["network.layers.0 (parallel)", "[4, 3, 3], [3, 5, 5], which differ in size"],
    ),
    "steps of a norm over all": (UNITS, [{"norm": {"steps": 3}}, *END], ["network.layers.0 (norm)", "over: step"]),
    "without neurons": (UNITS, [{"linear": 3}], ["network.layers: no layer carries", "{lif: {tau: 2}}"]),
    "a map for an answer": (MAPS, [{"conv": 4}, "lif"], ["network.layers give [4, 3, 3]", "put flatten"]),
    "tokens": (TOKENS, END, ["network.layers.0 (linear)", "tokens", "put an embedding first"]),
    "tokens, flattened": (TOKENS, ["flatten", *END], ["network.layers.0 (flatten)", "put an embedding first"]),
    "embedding of units": (
        UNITS,
        [{"embedding": 4, "words": 9}, *END],
        ["network.layers.0 (embedding)", "takes tokens (input: []), not 6 units"],
    ),
    "tau below 1": (UNITS, lif(tau=0.5), ["network.layers.1.lif", "tau is 0.5: it must be 1 step or more"]),
    "tau and decay": (UNITS, lif(tau=2.0, decay=0.5), ["network.layers.1.lif", "give one of them"]),
    "surrogate": (UNITS, lif(surrogate="arctn"), ["network.layers.1.lif.surrogate is 'arctn'", "'arctan'"]),
    "surrogate of a width": (UNITS, lif(surrogate={"arctn": 2.0}), ["network.layers.1.lif.surrogate", "'arctan'"]),
    "width of a surrogate": (UNITS, lif(surrogate={"arctan": 0}), ["network.layers.1.lif", "must be above 0"]),
    "several, to zero": (UNITS, lif(fires="several"), ["network.layers.1.lif", "reset 'subtract'"]),
    "delayed, to a value": (UNITS, lif(delayed_reset=True, reset_to=0.1), ["network.layers.1.lif", "reset_to"]),
    "delayed, bounded": (UNITS, lif(delayed_reset=True, lowest=-1.0), ["network.layers.1.lif", "lowest"]),
    "decay of 1 learned": (
        UNITS,
        lif(learn="decay", decay=1.0),
        ["network.layers.1.lif", "a learned decay must start between 0 and 1"],
    ),
    "input": ([0], END, ["network.input is [0]"]),
    "input too large": ([2**20, 2**20, 2**20], END, ["network.input is [", "values"]),
}
TOO_LARGE: dict[str, tuple[list[int], list[Any], list[str]]] = {
    "10 000 layers": (UNITS, [{"linear": 6}] * 10_000, ["network.layers has more than 1000 layers"]),
    "10 000, repeated": (UNITS, repeated(100, 2), ["more than 1000 layers"]),
    "a million": (UNITS, repeated(1000, 2, {"linear": 6}), ["more than 1000 layers"]),
    "10 to the 18": (UNITS, repeated(1000, 6), ["more than 1000 layers"]),
    "repeated in a block that is": (
        UNITS,
        [{"repeat": 900, "layers": [{"residual": repeated(900, 1)}]}],
        ["more than 1000 layers"],
    ),
    "many in each branch": (UNITS, [{"parallel": [[{"linear": 6}] * 999] * 999}], ["more than 1000 layers"]),
    "many branches": (UNITS, [{"parallel": [["lif"]] * 5000}], ["more than 1000 layers"]),
    "1001": (UNITS, [*repeated(999, 1), "lif", "lif"], ["more than 1000 layers"]),
    "50 deep": (UNITS, nested(50, "residual"), ["network.layers has blocks within blocks, more than 20 deep"]),
    "50 deep, repeated": (UNITS, nested(50, "repeat"), ["more than 20 deep"]),
    "100 000 deep": (UNITS, nested(100_000, "residual"), ["more than 20 deep"]),
    "wide": (UNITS, [{"linear": 10**9}, "lif"], ["network.layers.0.linear is 1000000000: at most"]),
    "past any integer": (UNITS, [{"linear": 10**30}, "lif"], ["network.layers.0.linear", "at most"]),
    "wide kernel": (MAPS, [{"conv": 2**20, "kernel": 2**20, "padding": 2**20}], ["network.layers.0 (conv)", "weights"]),
    "wide maps": (MAPS, [{"conv": 2, "kernel": 1, "padding": 2**25}], ["network.layers.0 (conv) gives", "more than"]),
    "many weights": ([2**20], [{"linear": 2**20}, "lif"], ["layer 1 (linear) of network.layers is too large"]),
    "much to carry": ([2**20], [{"delay": 1000}, "lif"], ["layer 1 (delay) of network.layers is too large"]),
}


def refused(shape: list[int], layers: list[Any], words: list[str]) -> None:
    """Assert that a stack is refused in one short line that holds some words."""
    with pytest.raises(RecipeError) as found:
        StackConfig.model_validate({"input": shape, "layers": layers})
    line = f"{found.value.message} ({found.value.hint})"
    assert "\n" not in line
    assert len(line) < 400
    assert found.value.message.startswith(("network.", "unknown key 'network.", "layer "))
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    refused(*WRONG[name])


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_at_once(name: str) -> None:
    start = time.process_time()
    refused(*TOO_LARGE[name])
    assert time.process_time() - start < 1


def test_as_many_layers_and_blocks_as_may_be_are_taken() -> None:
    thousand = StackConfig.model_validate({"input": UNITS, "layers": repeated(1000, 1)})
    assert len(list(thousand.build([]).leaves())) == 1000
    deep = StackConfig.model_validate({"input": UNITS, "layers": nested(20, "residual")})
    assert len(list(deep.build([]).leaves())) == 21


def test_what_was_taken_reads_the_same_again() -> None:
    layers = [{"linear": 4}, {"lif": {"tau": 2.0, "surrogate": {"arctan": 2.0}}}, {"repeat": 2, "layers": ["lif"]}]
    once = StackConfig.model_validate({"input": UNITS, "layers": layers})
    assert StackConfig.model_validate(once.model_dump()) == once
    assert once.layers[0] == {"linear": 4}
    assert once.layers[1] == {"lif": {"decay": 0.5, "surrogate": "arctan"}}
    assert once.layers[2] == {"repeat": 2, "layers": [{"lif": {}}]}
