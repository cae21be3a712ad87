"""`hd.Stack` and `hd.layers`: they make what a recipe makes, take every option, and refuse with one line."""

import inspect
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from pydantic import BaseModel

import hstnn_deploy as hd
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.models.layers import LAYERS, checked, specs
from hstnn_deploy.models.layers.norm import NormOptions
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif
from hstnn_deploy.models.stack import StackConfig

L = hd.layers

WRITTEN: list[tuple[dict[str, object], str]] = [
    (L.linear(64), "{linear: 64}"),
    (L.linear(3, bias=False, init="xavier", gain=2.0), "{linear: 3, bias: false, init: xavier, gain: 2.0}"),
    (L.conv(16), "{conv: 16}"),
    (L.conv(4, [3, 5], stride=2, padding=[1, 2], groups=2),
     "{conv: 4, kernel: [3, 5], stride: 2, padding: [1, 2], groups: 2}"),
    (L.embedding(8, words=100), "{embedding: 8, words: 100}"),
    (L.norm(), "{norm: {over: all}}"),
    (L.norm("step", steps=4, shift=False), "{norm: {over: step, steps: 4, shift: false}}"),
    (L.pool("max", 2), "{pool: max, size: 2}"),
    (L.pool("mean", to=1), "{pool: mean, to: 1}"),
    (L.flatten(), "flatten"),
    (L.vote(10), "{vote: 10}"),
    (L.activation("relu"), "{activation: relu}"),
    (L.scale(0.5, each="unit"), "{scale: 0.5, each: unit}"),
    (L.delay(2), "{delay: 2}"),
    (L.dropout(0.5, shared_over_time=True), "{dropout: 0.5, shared_over_time: true}"),
    (L.lif(), "lif"),
    (L.lif(tau=2.0, surrogate={"arctan": 2.0}, learn="decay"),
     "{lif: {tau: 2.0, surrogate: {arctan: 2.0}, learn: decay}}"),
    (L.adaptive(growth=0.3), "{adaptive: {growth: 0.3}}"),
    (L.integrator(decay=0.8), "{integrator: {decay: 0.8}}"),
    (L.feedback(through="own", tau=2.0), "{feedback: {tau: 2.0}, through: own}"),
    (L.rnn(5, nonlinearity="tanh"), "{rnn: 5, nonlinearity: tanh}"),
    (L.lstm(5, bias=True), "{lstm: 5, bias: true}"),
    (L.gru(5), "{gru: 5}"),
    (L.residual([L.linear(8), "lif"], shortcut=[L.linear(8)]),
     "{residual: [{linear: 8}, lif], shortcut: [{linear: 8}]}"),
    (L.parallel([[L.linear(8)], ["lif"]]), "{parallel: [[{linear: 8}], [lif]]}"),
    (L.repeat(2, [L.linear(8), "lif"]), "{repeat: 2, layers: [{linear: 8}, lif]}"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_a_layer_written_in_python_is_that_of_a_recipe(written: dict[str, object], text: str) -> None:
    assert checked([written], "layers") == checked([yaml.safe_load(text)], "layers")


def test_every_layer_has_a_function_and_every_key_an_option() -> None:
    functions = {
        name: each
        for name, each in vars(specs).items()
        if inspect.isfunction(each) and each.__module__ == specs.__name__
    }
    assert functions.keys() == LAYERS.keys()
    assert {next(iter(written)) for written, _ in WRITTEN} == LAYERS.keys()
    neurons: dict[str, tuple[type[BaseModel], Any, set[str]]] = {
        "lif": (Lif, specs.NeuronOptions, {"tau"}),
        "feedback": (Lif, specs.NeuronOptions, {"tau"}),
        "adaptive": (AdaptiveLif, specs.AdaptiveOptions, set()),
        "integrator": (Integrator, specs.IntegratorOptions, set()),
    }
    for model, options, more in neurons.values():
        assert set(get_type_hints(options)) == set(model.model_fields) - {"type"} | more
    for name, function in functions.items():
        assert function.__doc__
        keys = set((NormOptions if name == "norm" else LAYERS[name]).model_fields) - {name}
        if name in {"rnn", "lstm", "gru"}:
            keys = {"bias", "nonlinearity"} if name == "rnn" else {"bias"}
        # The first one is the value of the key that says which layer it is.
        found = list(inspect.signature(function).parameters.values())
        first = found[0].name if found and name != "norm" and found[0].kind is found[0].POSITIONAL_OR_KEYWORD else None
        assert {each.name for each in found} - {first, "options"} == keys, name


def test_a_stack_in_python_is_that_of_its_configuration() -> None:
    layers = [L.linear(16), "lif", {"linear": 3}]
    torch.manual_seed(0)
    own = hd.Stack(layers, input=[4], readout="sum")
    torch.manual_seed(0)
    config = StackConfig(input=[4], layers=layers, readout="sum")
    other = config.build([])
    assert own.config == config
    x = torch.rand(5, 2, 4)
    assert torch.equal(own(x)[0], other(x)[0])
    assert own.config.model_dump() == other.config.model_dump()
    assert hd.Stack(layers, input=(4,)).readout == "mean"
    assert hd.Stack([L.embedding(4, words=5), "lif", L.linear(3)], input=[]).tokens


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"layers": [L.linear(3)]}, "layers: no layer carries anything over time"),
    ({"layers": [L.linear(3), {"lif": {"taus": 2}}]}, "unknown key 'layers.1.lif.taus'"),
    ({"layers": [L.linear(3), L.lif(tau=0.5)]}, "layers.1.lif"),
    ({"layers": [L.conv(3), "lif"]}, "layers.0"),
    ({"layers": ["lfi"]}, "layers.0: 'lfi' is not a layer"),
    ({"layers": [3]}, "layers.0 is 3, not a layer"),
    ({"layers": "lif"}, "layers is 'lif', not a list of layers"),
    ({"layers": L.lif()}, "not a list of layers"),
    ({"layers": []}, "layers is"),
    ({"layers": ["lif"], "input": 8}, "input is 8"),
    ({"layers": ["lif"], "input": [0]}, "input is"),
    ({"layers": ["lif"], "readout": "first"}, "readout is 'first'"),
    ({"layers": ["lif"], "mode": "fast"}, "mode is 'fast'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_stack_that_cannot_be_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        hd.Stack(**({"input": [4]} | given))
    assert message in refused.value.message
    assert "network." not in refused.value.message
    assert "\n" not in refused.value.message


def test_a_network_shows_itself_in_some_lines() -> None:
    net = hd.Stack([L.linear(16), "lif", L.linear(3)], input=[4])
    lines = repr(net).splitlines()
    assert len(lines) == 6
    assert lines[0] == "Stack: [4] a step, 3 scores, 131 parameters, 20 values carried from step to step"
    assert "tensor" not in repr(net)
    deep = hd.Stack([L.repeat(50, [L.linear(4), "lif"])], input=[4])
    assert len(repr(deep).splitlines()) < 16
    assert "more" in repr(deep)
    assert deep._repr_html_().count("<tr>") == 102
    assert "<script>" not in hd.Stack(["lif"], input=[4])._repr_html_()
