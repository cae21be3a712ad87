"""Neurons and layers of a user's own that would compute something else than they say: each is refused by name."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hstnn_deploy as hd
from hstnn_deploy.models.activity import Activity
from tests.conftest import in_part
from tests.own_parts import Gated, Quadratic

C, L = hd.custom, hd.layers

pytestmark = pytest.mark.usefixtures("no_parts")


def neuron(step: Any, **more: Any) -> hd.Stack:
    """Return a stack of a neuron with a step."""
    body = {"states": {"v": "membrane"}, "step": step, "__module__": __name__, "__annotations__": {}, **more}
    C.neuron("odd")(type("Odd", (C.Neuron,), body))
    torch.manual_seed(0)
    return hd.Stack([L.linear(4), "odd", L.linear(2)], input=[3])


def layer(step: Any, carries: Any = None, after: Any = None, **held: Any) -> hd.Stack:
    """Return a stack of a layer with a step, and what its `__init__` sets."""

    def init(self: Any, options: Any, shape: tuple[int, ...]) -> None:
        C.Layer.__init__(self, options, shape)
        self.carries = {"h": (shape, "a sum")} if carries is None else carries
        for name, value in held.items():
            setattr(self, name, value() if isinstance(value, FunctionType) else value)

    def shape_after(self: Any, shape: tuple[int, ...]) -> Any:
        return shape if after is None else after

    body = {"__init__": init, "step": step, "shape_after": shape_after, "__module__": __name__}
    C.layer("odd-layer")(type("OddLayer", (C.Layer,), body))
    torch.manual_seed(0)
    return hd.Stack([L.linear(4), "odd-layer", L.linear(2)], input=[3])


def fired(o: Any, v: Any) -> tuple[Any, dict[str, Any]]:
    return o.spike(v, 1.0, C.Surrogate("arctan", 0.5)), {"v": v}


def good(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], 0.5), drive))


def adds(self: Any, o: Any, x: Any, state: Any) -> Any:
    h = o.add(state["h"], x)
    return h, {"h": h}


_COUNT = itertools.count()


def _in_place(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    state["v"].mul_(0.5)
    return fired(o, o.add(state["v"], drive))


def _into_input(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    drive += 1
    return fired(o, o.add(state["v"], drive))


def _another_number_each_time(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], 1 / (1 + next(_COUNT))), drive))


def _into_what_it_holds(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    own["count"].add_(1)
    return fired(o, o.add(state["v"], drive))


def _if(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, drive if state["v"].sum() > 0 else state["v"])


NEURONS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a state in place": (_in_place, {}, "the step of neuron odd writes into the state 'v'"),
    "the input in place": (_into_input, {}, "the step of neuron odd writes into what comes in"),
    "another number": (_another_number_each_time, {}, "the step of neuron odd computes something else each time"),
    "a buffer in place": (
        _into_what_it_holds,
        {"fresh": lambda self, shape: {"count": torch.zeros(shape)}},
        "the step of neuron odd changes self.count",
    ),
    "an if about values": (_if, {}, "the step of neuron odd raises"),
    "numbers of float64": (
        lambda self, o, drive, state, own: fired(o, o.mul(drive, o.parameter(own["gain"]))),
        {"fresh": lambda self, shape: {"gain": torch.ones(shape, dtype=torch.float64)}},
        "o.parameter is given numbers of type float64",
    ),
    "NaN": (lambda self, o, drive, state, own: fired(o, o.mul(drive, float("nan"))), {}, "o.mul is given nan"),
    "no surrogate": (
        lambda self, o, drive, state, own: (o.spike(drive, 1.0, "arctan"), dict(state)),
        {},
        "o.spike has the surrogate 'arctan'",
    ),
    "fresh gives a list": (good, {"fresh": lambda self, shape: [1]}, "fresh of neuron odd gives [1]"),
    "fresh gives numbers": (good, {"fresh": lambda self, shape: {"gain": 1.0}}, "give tensors by name"),
    "fresh takes a name": (
        good,
        {"fresh": lambda self, shape: {"tap": torch.ones(1)}},
        "a name that is already in use",
    ),
    "fresh has no name": (good, {"fresh": lambda self, shape: {3: torch.ones(1)}}, "give tensors by name"),
    "states as an option": (good, {"states": {}, "__annotations__": {"states": dict}}, "declares states as an option"),
}


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_that_does_more_than_its_step_says_is_refused(name: str) -> None:
    step, more, said = NEURONS[name]
    with pytest.raises(hd.HstnnError) as found:
        neuron(step, **more)
    assert said in f"{found.value.message} {found.value.hint}"
    assert "\n" not in found.value.message


class Noise(nn.Module):
    """A number that is drawn when it is made, and not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("drawn", torch.rand(4), persistent=False)


def _counts(self: Any, o: Any, x: Any, state: Any) -> Any:
    self.seen = self.seen + 1
    return adds(self, o, x, state)


def _remembers(self: Any, o: Any, x: Any, state: Any) -> Any:
    y = o.add(x, self.last) if self.last is not None else x
    self.last = x
    return y, {"h": y}


LAYERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a count of its own": (_counts, {"seen": 0}, "the step of layer odd-layer changes self.seen"),
    "a value of its own": (_remembers, {"last": None}, "the step of layer odd-layer changes self.last"),
    "a taken name": (adds, {"number": 3}, "defines 'number', a name that every layer already has"),
    "a taken module": (adds, {"shown": nn.Linear(2, 2)}, "defines 'shown'"),
    "no shape after": (adds, {"after": ()}, "gives the shape ()"),
    "no shape of a state": (adds, {"carries": {"h": (4, "a sum")}}, "carries (4, 'a sum')"),
    "an empty shape": (adds, {"carries": {"h": ((0,), "a sum")}}, "carries ((0,), 'a sum')"),
    "another one each time": (
        lambda self, o, x, state: adds(self, o, o.mul(x, self.gain), state),
        {"gain": lambda: float(next(_COUNT))},
        "differs each time it is made",
    ),
    "a buffer that is not kept": (adds, {"noise": lambda: Noise()}, "has the buffer noise.drawn, which no checkpoint"),
    "no mapping": (adds, {"carries": ["h"]}, "carries ['h']"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_keeps_more_than_it_declares_is_refused(name: str) -> None:
    step, more, said = LAYERS[name]
    with pytest.raises(hd.HstnnError) as found:
        layer(step, **more)
    assert said in found.value.message
    assert found.value.hint
    assert layer(adds).outputs == 2


def test_a_method_with_a_name_of_every_layer_is_refused_when_it_is_registered() -> None:
    with pytest.raises(hd.HstnnError, match="layer mine defines 'window'"):
        C.layer("mine")(type("Mine", (Gated,), {"window": lambda self: None, "__module__": __name__}))


def test_noise_while_training_is_no_other_equation() -> None:
    def step(self: Any, o: Any, x: Any, state: Any) -> Any:
        return adds(self, o, o.mul(x, 1 / (1 + next(_COUNT))) if self.training else x, state)

    assert layer(step).training


def _torch_function(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(torch.sin(state["v"]), drive))


def _operator(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, state["v"] * 0.5 + drive)


def _compared(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], 1.0 * (state["v"] != drive)), drive))


def _equal(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], state["v"] == drive), drive))


def _of_the_batch(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], 1 / len(drive)), drive))


def _numpy(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], np.float64(0.5)), drive))


def _constant_tensor(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], torch.tensor(0.5)), drive))


def _for_a_batch_of_one(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    same = state["v"] in [drive]
    return fired(o, o.add(o.mul(state["v"], float(same)), drive))


def _sorts(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], 0.5 if isinstance(drive, torch.Tensor) else 0.9), drive))


def _shapes(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    keep = 0.5 if getattr(drive, "shape", (1,))[0] == 1 else 0.9
    return fired(o, o.add(o.mul(state["v"], keep), drive))


def _foreign(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    return fired(o, o.add(o.mul(state["v"], o.parameter(torch.full((4,), 0.5))), drive))


STEPS = [
    *(_torch_function, _operator, _compared, _equal, _of_the_batch),
    *(_numpy, _constant_tensor, _sorts, _shapes, _foreign),
]


@pytest.mark.parametrize(
    ("step", "form"), in_part([(step, form) for step in STEPS for form in ("onnx", "torchscript", "pt2")], 2)
)
def test_every_form_refuses_a_step_of_other_operations(step: Any, form: Any, tmp_path: Path) -> None:
    network = neuron(step)
    assert network(torch.rand(3, 2, 3))[0].requires_grad  # it can be trained
    with pytest.raises(hd.HstnnError, match="cannot express the step of layer 2, odd") as found:
        hd.export_bundle(network, tmp_path / "b", [form])
    assert "operations of o: add, sub, mul" in found.value.hint
    assert not (tmp_path / "b").exists()


class Doubled(nn.Linear):
    """A linear layer that does more than one."""

    def forward(self, x: Any) -> Any:
        """Run it."""
        return 2 * super().forward(x)


def _hooked() -> nn.Linear:
    found = nn.Linear(4, 4)
    found.register_forward_hook(lambda module, given, y: 2 * y)
    return found


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a class of one's own": (lambda: Doubled(4, 4), "not Doubled"),
    "a hook": (_hooked, "its inner has a hook"),
    "weights of a norm": (
        lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "not ParametrizedLinear",
    ),
    "several": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "not Sequential"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_does_more_than_its_weights_is_refused(name: str, tmp_path: Path) -> None:
    make, said = MODULES[name]

    def step(self: Any, o: Any, x: Any, state: Any) -> Any:
        return adds(self, o, o.linear(x, self.inner), state)

    network = layer(step, inner=make).eval()
    with pytest.raises(hd.HstnnError, match=said):
        hd.export_bundle(network, tmp_path / "b")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "zero padding, given as numbers"),
        (lambda: nn.Conv2d(2, 2, 3, padding="same"), "zero padding, given as numbers"),
        (lambda: nn.ConvTranspose2d(2, 2, 3, padding=1), "not ConvTranspose2d"),
    ],
)
def test_a_convolution_of_another_kind_is_refused(make: Any, said: str, tmp_path: Path) -> None:
    class Odd(C.Layer):
        def __init__(self, options: C.Options, shape: tuple[int, ...]) -> None:
            super().__init__(options, shape)
            self.inner = make()

        def step(self, o: C.Algebra[C.V], x: C.V, state: C.Values[C.V]) -> C.Stepped[C.V]:
            return o.convolve(x, self.inner), {}

    C.layer("odd-layer")(Odd)
    network = hd.Stack(["odd-layer", "flatten", L.linear(3), "lif"], input=[2, 6, 6]).eval()
    with pytest.raises(hd.HstnnError, match=said):
        hd.export_bundle(network, tmp_path / "b")


@pytest.mark.parametrize(
    ("form", "bounds"),
    in_part(
        itertools.product(["onnx", "torchscript", "pt2"], [(-0.5, 0.5), (0.5, -0.5), (None, 0.5), (-0.5, None)]), 3
    ),
)
def test_a_clipped_state_is_exported_in_every_form(form: Any, bounds: Any, tmp_path: Path) -> None:
    network = neuron(lambda self, o, drive, state, own: fired(o, o.clip(o.add(state["v"], drive), *bounds)))
    assert not hd.export_bundle(network.eval(), tmp_path / "b", [form]).failed


def test_a_value_is_neither_true_nor_in_a_list() -> None:
    with pytest.raises(hd.HstnnError, match="step of neuron odd raises"):
        neuron(_for_a_batch_of_one)


def test_a_definition_that_comes_anew_does_not_change_a_network_that_is_there(tmp_path: Path) -> None:
    """As when a cell of a notebook is changed and run again."""
    x, y = np.ones((8, 4, 3), np.float32), np.arange(8) % 2
    network = neuron(good)
    neuron(good)
    assert not hd.export_bundle(network.eval(), tmp_path / "a").failed  # the same once more
    neuron(lambda self, o, drive, state, own: fired(o, o.add(o.mul(state["v"], 0.25), drive)))
    for use in (
        lambda: hd.export_bundle(network, tmp_path / "b"),
        lambda: hd.Checkpoint.of_network(network),
        lambda: hd.fit(network, (x, y), (x, y), epochs=1, progress=False),
    ):
        with pytest.raises(hd.HstnnError, match="the neuron odd was redefined after the network was made"):
            use()


def test_one_class_may_have_two_names() -> None:
    C.neuron("quadratic")(Quadratic)
    C.neuron("other")(Quadratic)
    network = hd.Stack([L.linear(4), "quadratic", "other"], input=[3])
    assert [each.kind for each in network.leaves()] == ["linear", "quadratic", "other"]
    assert list(map(next, map(iter, network.config.layers))) == ["linear", "quadratic", "other"]


def test_a_network_without_parameters_is_measured_and_disturbed() -> None:
    neuron(good)
    network = hd.Stack(["odd"], input=[3], readout="sum").eval()
    assert network.device == torch.device("cpu")
    with torch.no_grad(), Activity(network) as activity:
        network(2 * torch.ones(4, 2, 3))
    assert activity.rates() == {1: 1.0}
    with pytest.raises(hd.HstnnError, match="the network has no parameters to train"):
        hd.fit(network, (np.ones((8, 4, 3), np.float32), np.zeros(8, np.int64)), progress=False)
