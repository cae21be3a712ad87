"""Neurons and layers of a user's own: trained, exported with proof; a wrong definition is refused at once."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hstnn_deploy as hd
from hstnn_deploy.export.bundle.extras import NirOptions
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models import kernels
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.profile.phases.operations import count
from tests import own_parts

FORMS: tuple[kernels.Form, ...] = ("plain", "fused")
C, L = hd.custom, hd.layers

pytestmark = pytest.mark.usefixtures("no_parts")


@pytest.fixture(autouse=True)
def _registered(no_parts: None) -> None:
    own_parts.register()


def stack(*layers: Any, inputs: int = 3) -> hd.Stack:
    torch.manual_seed(0)
    return hd.Stack([L.linear(6), *layers], input=[inputs], readout="sum")


def test_a_quadratic_neuron_computes_its_equation() -> None:
    network = hd.Stack([{"quadratic": {"rate": 0.5, "critical": 0.25}}], input=[2], readout="sum").eval()
    x = torch.tensor([[[0.5, 0.9]], [[0.5, 0.9]], [[0.5, 0.0]]])
    answer, state = network(x)
    v, spikes = np.zeros(2), np.zeros(2)
    for drive in x[:, 0].double().numpy():
        m = v + 0.5 * v * (v - 0.25) + drive
        spikes += m > 1
        v = m * (m <= 1)
    assert answer[0].tolist() == spikes.tolist()
    assert np.allclose(state["v1"][0].detach(), v, atol=1e-6)
    assert spikes.tolist() == [1, 1]


def test_it_is_a_layer_like_any_other() -> None:
    network = stack("quadratic", {"low-pass": {"keep": 0.9}}, {"gated": {"units": 4}}, "mirrored")
    assert [each.kind for each in network.described()] == ["linear", "quadratic", "low-pass", "gated", "mirrored"]
    assert network.described()[1].parameters == 6
    assert network.outputs == 8
    assert network.config.layers[1] == {"quadratic": {"rate": 0.3, "critical": 0.2, "threshold": 1.0}}
    assert {"v2", "y3", "often3", "h4"} <= network.state_shapes().keys()
    assert network.meanings()["h4"] == "what layer 4 gave at the step before"
    assert [str(tap) for tap in network.taps] == [
        "layer2_spikes",
        "layer2_v",
        "layer3_out",
        "layer3_y",
        "layer3_often",
        "layer4_out",
        "layer4_h",
    ]
    assert network.membranes() == {"v2"}
    assert "quadratic" in str(network)
    again = hd.Stack(network.config.layers, input=[3], readout="sum")
    assert again.config == network.config
    copy.deepcopy(network).load_state_dict(network.state_dict())


def test_it_stands_in_blocks_and_repetitions_and_sees_maps() -> None:
    network = hd.Stack(
        [
            {"repeat": 2, "layers": [{"residual": [{"conv": 2, "padding": 1}, "quadratic"]}, "mirrored", {"conv": 2}]},
            "flatten",
            {"linear": 3},
        ],
        input=[2, 8, 8],
    )
    answer, _ = network(torch.rand(3, 2, 2, 8, 8))
    assert answer.shape == (2, 3)


@settings(deadline=None, max_examples=15)
@given(steps=st.integers(1, 6), cut=st.integers(1, 6), samples=st.integers(1, 3), seed=st.integers(0, 99))
def test_chunks_and_padded_samples_give_what_the_whole_gives(steps: int, cut: int, samples: int, seed: int) -> None:
    network = stack("quadratic", {"low-pass": {"keep": 0.7}}, "gated").eval()
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(steps, samples, 3, generator=generator)
    lengths = torch.randint(1, steps + 1, (samples,), generator=generator)
    whole, after = network(x, None, lengths)
    for n, length in enumerate(lengths.tolist()):
        alone, state = network(x[:length, [n]])
        assert torch.allclose(whole[n], alone[0], atol=1e-5)
        assert all(torch.allclose(after[name][n], state[name][0], atol=1e-5) for name in state)
    cut = min(cut, steps)
    parted, state = network(x[:cut])
    if cut < steps:
        parted, _ = network(x[cut:], state)
    assert torch.allclose(parted, network(x)[0], atol=1e-5)


def test_it_learns_and_is_exported_with_proof_in_every_format(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 200)
    x = np.eye(4, dtype=np.float32)[y][:, None, :] + 0.2 * draw.random((200, 5, 4), dtype=np.float32)
    network = stack(
        "quadratic", {"low-pass": {"keep": 0.5}}, {"gated": {"units": 4}}, "mirrored", L.linear(4), inputs=4
    )
    history = hd.fit(network, (x[:150], y[:150]), epochs=6, lr=0.02, batch=25, progress=False)
    assert hd.evaluate(history.network, (x[150:], y[150:])).score > 80
    before, after = (net.state_dict()["layers.1.gain"] for net in (network, history.network))
    assert not torch.equal(before, after)
    test = (x[150:], y[150:])
    bundle = hd.export_bundle(history, tmp_path / "b", ["onnx", "torchscript", "pt2"], test=test)
    assert not bundle.failed, bundle.failed
    assert not hd.verify_bundle(tmp_path / "b", test=test, trust=True).failed
    session = hd.Session(tmp_path / "b")
    ours = history.network(torch.from_numpy(x[:3].swapaxes(0, 1).copy()))[0]
    assert np.allclose(session.run(x[:3].swapaxes(0, 1)), ours.detach(), atol=1e-4)


def test_its_spikes_and_products_are_counted() -> None:
    network = stack("quadratic", L.linear(2)).eval()
    found = {each.name: each for each in count(network, 3 * torch.rand(5, 2, 3), events=False)}
    assert found["layer2.quadratic"].sites == 5 * 2 * 6
    assert found["layer2.quadratic"].spikes > 0
    assert found["layer3.linear"].acs == found["layer2.quadratic"].spikes * 2


def test_nir_refuses_it_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    with pytest.raises(hd.HstnnError, match="NIR has no node for layer 2, quadratic"):
        hd.export_bundle(stack("quadratic"), tmp_path / "b", nir=NirOptions())


@pytest.mark.parametrize("wrong", [0.999, 1.001])
def test_the_proof_finds_another_equation(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from hstnn_deploy.export.proof.engines import network_engine

    network = stack("quadratic").eval()
    x = torch.rand(8, 4, 3)
    run = network_engine(network, show=True)(x, network.initial_state(x))
    assert not replay(network, x, run).failed.any()
    step = own_parts.Quadratic.step

    def other(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
        return step(self, o, o.mul(drive, wrong), state, own)

    monkeypatch.setattr(own_parts.Quadratic, "step", other)
    assert replay(network, x, run).failed.any()


def defined(step: Any, states: Any = None, **more: Any) -> Any:
    """Register a neuron with a step, and return a stack of it."""
    body = {"states": {"v": "membrane"} if states is None else states, "step": step, **more}
    cls = type("Odd", (C.Neuron,), {"__module__": __name__, "__annotations__": {}, **body})
    plugins._parts.pop(("neurons", "odd"), None)
    C.neuron("odd")(cls)
    return hd.Stack([L.linear(4), "odd", L.linear(2)], input=[3])


def _good(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    s = o.spike(o.add(state["v"], drive), 1.0, C.Surrogate("arctan", 0.5))
    return s, {"v": o.mul(state["v"], o.sub(1.0, s))}


def _returning(make: Any) -> Any:
    def step(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
        return make(o, *_good(self, o, drive, state, own))

    return step


WRONG: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "another shape": (
        _returning(lambda o, s, after: (s, {"v": o.concat([s, s], 1)})),
        {},
        r"gives \[8\] of torch.float32 for the state 'v', which must have shape \[4\]",
        "",
    ),
    "another output": (_returning(lambda o, s, after: (o.flatten(o.vote(s, 2)), after)), {}, r"gives \[2\]", ""),
    "an undeclared state": (
        _returning(lambda o, s, after: (s, after | {"w": s})),
        {},
        "returns the state 'w', which it does not declare",
        "declared: v",
    ),
    "a lost state": (_returning(lambda o, s, after: (s, {})), {}, "does not return the state 'v'", "every state"),
    "no pair": (_returning(lambda o, s, after: s), {}, "returns 'Tensor', not a pair", "states by name"),
    "a number": (_returning(lambda o, s, after: (s, {"v": 1.0})), {}, "gives a float for the state 'v'", "operation"),
    "an unknown operation": (_returning(lambda o, s, after: o.sigmoidal(s)), {}, "no attribute 'sigmoidal'", ""),
    "an operation over time": (_returning(lambda o, s, after: o.total(s)), {}, "no operation 'total'", "mean"),
    "two spikes": (
        _returning(lambda o, s, after: (o.spike(s, 1.0, C.Surrogate("arctan", 0.5)), after)),
        {},
        "calls o.spike 2 times, not once",
        "spikes = False",
    ),
    "other than its spikes": (
        _returning(lambda o, s, after: (o.mul(s, 2.0), after)),
        {},
        "hands out other values than its spikes",
        "as it is",
    ),
    "spikes unsaid": (_good, {"spikes": False}, "calls o.spike, but it hands out no spikes", "spikes = True"),
    "it raises": (_returning(lambda o, s, after: after["u"]), {}, "the step of neuron odd raises: KeyError: 'u'", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_refused_when_a_network_is_made(name: str) -> None:
    step, more, said, hint = WRONG[name]
    with pytest.raises(hd.HstnnError, match=said) as found:
        defined(step, **more)
    assert hint in found.value.hint
    assert "\n" not in found.value.message
    assert defined(_good).outputs == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: C.neuron("lif")(own_parts.Quadratic), "lif is built in, so your own neuron needs another name"),
        (lambda: C.neuron("kernel")(own_parts.Quadratic), "kernel is built in"),
        (lambda: C.layer("linear")(own_parts.Gated), "linear is built in"),
        (lambda: C.layer("quadratic")(own_parts.Gated), "has registered a neuron quadratic"),
        (lambda: C.neuron("gated")(own_parts.Quadratic), "has registered a layer gated"),
        (lambda: C.neuron("Odd One")(own_parts.Quadratic), "'Odd One' is not a valid name for a neuron"),
        (lambda: C.neuron("odd")(own_parts.Gated), "derive"),  # type: ignore[type-var]
        (lambda: C.layer("odd")(own_parts.Quadratic), "derive"),  # type: ignore[type-var]
        (lambda: C.neuron("odd")(type("Odd", (C.Neuron,), {})), "neuron odd has no step"),
        (lambda: C.layer("odd")(type("Odd", (C.Layer,), {})), "layer odd has no step"),
        (lambda: defined(_good, states={"v2": "membrane"}), "has a state 'v2'"),
        (lambda: defined(_good, states={"spikes": "membrane"}), "has a state 'spikes'"),
        (lambda: defined(_good, states={"v": "of {unit}"}), "braces"),
        (lambda: defined(_good, states={}), "has no states"),
        (lambda: defined(_good, states=["v"]), "give names and meanings"),
    ],
)
def test_a_wrong_definition_is_refused_when_it_is_registered(make: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError) as found:
        make()
    assert said in f"{found.value.message} {found.value.hint}"


def test_the_same_definition_may_come_again() -> None:
    C.neuron("quadratic")(own_parts.Quadratic)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"quadratic": {"rat": 1}}, "unknown key 'layers.1.quadratic.rat'"),
        ({"quadratic": {"rate": "high"}}, "layers.1.quadratic.rate is 'high'"),
        ({"quadratic": 3}, "layers.1.quadratic is 3: it takes its options by name"),
        ({"quadratic": {}, "bias": True}, "is not a layer"),
        ("low-pass", "layers.1.low-pass.keep is missing"),
        ("quadratics", "'quadratics' is not a layer"),
        ({"gated": {"units": -3}}, "layer gated raises when it is made"),
    ],
)
def test_wrong_options_are_said_by_their_path(layer: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError) as found:
        stack(layer)
    assert said in found.value.message


def test_a_name_nearly_right_and_how_to_register_one() -> None:
    with pytest.raises(hd.HstnnError) as found:
        stack("quadratics")
    assert found.value.hint.startswith("did you mean 'quadratic'?")
    assert "--plugin MODULE" in found.value.hint


def test_a_layer_refuses_a_shape() -> None:
    with pytest.raises(hd.HstnnError, match=r"does not fit after the input.*it takes units"):
        hd.Stack(["gated"], input=[2, 4, 4])


def _sine(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
    s = o.spike(o.add(torch.sin(state["v"]), drive), 1.0, C.Surrogate("arctan", 0.5))
    return s, {"v": state["v"] * 0.5}


class Halved(C.Layer):
    """An operation that torch has, and ONNX graphs do not."""

    def __init__(self, options: C.Options, shape: tuple[int, ...]) -> None:
        super().__init__(options, shape)
        self.register_buffer("weight", torch.ones(3, 2, 3))

    def step(self, o: C.Algebra[C.V], x: C.V, state: C.Values[C.V]) -> C.Stepped[C.V]:
        """Run one step."""
        one, other = o.parts(o.product(x, self.get_buffer("weight")), 2)
        return o.add(one, other), {}


def test_what_a_reading_lacks_is_refused_by_name_at_export(tmp_path: Path) -> None:
    network = defined(_sine)
    assert network(torch.rand(3, 2, 3))[0].requires_grad
    with pytest.raises(hd.HstnnError, match=r"an ONNX graph cannot express the step of layer 2, odd: .*sin") as found:
        hd.export_bundle(network, tmp_path / "a")
    assert "operations of o: add, sub, mul" in found.value.hint
    with pytest.raises(hd.HstnnError, match="the proof cannot express the step of layer 2, odd"):
        replay(network, torch.rand(2, 1, 3), _run(network, torch.rand(2, 1, 3)))
    C.layer("halved")(Halved)
    halved = hd.Stack(["halved", "lif"], input=[3])
    assert halved(torch.rand(3, 2, 3))[0].shape == (2, 3)
    with pytest.raises(hd.HstnnError, match="an ONNX graph cannot express a product with several weights at once"):
        hd.export_bundle(halved, tmp_path / "b")


def _run(network: Any, x: Tensor) -> Any:
    from hstnn_deploy.export.proof.engines import network_engine

    return network_engine(network, show=True)(x, network.initial_state(x))


@pytest.mark.parametrize("kind", ["quadratic", {"low-pass": {"keep": 0.9}}])
def test_a_neuron_of_ones_own_has_a_kernel_too(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = hd.Stack([kind], input=[4], readout="sum")
    layer: Any = network.layers[0]
    x = torch.randn(5, 2, 4)
    results = []
    for form in FORMS:
        state = {name: torch.full((2, 4), 0.25) for name in layer.carries}
        given_ = x.clone().requires_grad_()
        with kernels.using(form):
            out, after = layer(given_, state, torch.tensor([5, 3]))
        learned = [each for each in layer.parameters() if each.requires_grad]
        out = out[torch.arange(5)[:, None] < torch.tensor([5, 3])]
        loss = (out * torch.linspace(0, 1, out.numel()).view(out.shape)).sum()
        gradients = torch.autograd.grad(loss, [given_, *learned])
        results.append([out, *after.values(), *gradients])
    assert "_as_read" in vars(layer)
    assert copy.deepcopy(layer)._as_read._layer is not layer
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(results[0][0], results[1][0])


def test_a_kernel_sees_what_a_step_reads_from_elsewhere() -> None:
    """Such as a width that a user makes smaller from epoch to epoch."""
    left = [0.25]

    def step(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
        m = o.add(o.mul(state["v"], left[0]), drive)
        s = o.spike(m, 1.0, C.Surrogate("arctan", left[0]))
        return s, {"v": o.mul(m, o.sub(1.0, s))}

    defined(step)
    layer: Any = hd.Stack(["odd"], input=[4], readout="sum").layers[0]
    for left[0] in (0.25, 0.75):
        results = []
        for form in FORMS:
            x = torch.linspace(-1, 1, 40).view(5, 2, 4).requires_grad_()
            with kernels.using(form):
                out, after = layer(x, {"v": torch.full((2, 4), 0.5)}, None)
            results.append([out, after["v"], *torch.autograd.grad(out.sum() + after["v"].sum(), x)])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_kernel_has_a_steps_constants_and_what_is_fixed() -> None:
    """Through a reset that is fixed no gradient goes; numbers alone make a number."""

    def step(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
        m = o.add(o.mul(state["v"], o.sub(1.0, 0.25)), drive)
        s = o.spike(m, o.add(0.25, 0.25), C.Surrogate("arctan", 0.5))
        return s, {"v": o.sub(m, o.fixed(a=o.mul(s, 0.5)))}

    defined(step)
    layer: Any = hd.Stack(["odd"], input=[4], readout="sum").layers[0]
    results = []
    for form in FORMS:
        x = torch.linspace(-1, 1, 40).view(5, 2, 4).requires_grad_()
        with kernels.using(form):
            out, after = layer(x, {"v": torch.full((2, 4), 0.5)}, None)
        results.append([out, after["v"], *torch.autograd.grad(out.sum() + after["v"].square().sum(), x)])
    assert "_as_read" in vars(layer)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_state_that_is_what_goes_out_fixed_is_exported_with_proof(tmp_path: Path) -> None:
    def step(self: Any, o: Any, drive: Any, state: Any, own: Any) -> Any:
        s = o.spike(o.sub(drive, o.mul(state["v"], o.sub(1.0, 0.5))), 0.25, C.Surrogate("arctan", 0.5))
        return s, {"v": o.fixed(s)}

    hd.export_bundle(defined(step), tmp_path / "bundle", ["onnx", "torchscript", "pt2"])


def test_in_double_precision_a_step_runs_as_it_stands() -> None:
    network = stack("quadratic")
    x = torch.randn(5, 2, 3)
    single, _ = network(x)
    double, _ = copy.deepcopy(network).double()(x.double())
    torch.testing.assert_close(single.double(), double)
