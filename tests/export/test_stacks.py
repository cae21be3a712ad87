"""Stacks of every layer in every form and format: what engines make of them is replayed, and a wrong one is found."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from hstnn_deploy.errors import RunError
from hstnn_deploy.export.graph.forms import FORMS, Form, build
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.modules import program, script
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.engines import (
    Engine,
    network_engine,
    onnxruntime_session,
    opened_up,
    reference_session,
    step_engine,
    window_engine,
)
from hstnn_deploy.export.proof.modules import shown_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.layers.units import Feedback, Spiking
from hstnn_deploy.models.layers.weights import Linear
from hstnn_deploy.models.network import SPIKES
from hstnn_deploy.models.stack import Stack
from tests.models.stacks import STACKS, example, stack

T, B = 7, 4
FORMATS: dict[str, Callable[[Stack], object]] = {
    "torchscript": script,
    "pt2": lambda network: program(network, show=True),
}
FEW = (
    "neuron: plif",
    "neuron: several, bounded",
    "neuron: integrator, synaptic",
    "neuron: delayed, subtract",
    "neuron: reset again",
    "neuron: feedback",
    "maps: norm a step",
    "maps: shortcut",
    "readout: max",
    "tokens",
)
"""Stacks whose TorchScript and .pt2 are replayed in the ordinary run; see the marker `matrix`."""


def engine(network: Stack, form: Form, folder: Path, session: Callable[..., object] = onnxruntime_session) -> Engine:
    """Return the engine of a network's written graph that shows its layers."""
    path = folder / f"{form}.onnx"
    if not path.exists():
        onnx.save(build(network, form, {}, T), str(path))
        onnx.checker.check_model(str(path), full_check=True)
    opened = opened_up(path, form, network)
    made = step_engine if form == "step" else window_engine
    return made(session(opened.model), interface(network), opened.values)  # type: ignore[arg-type]


def same(found: Run, expected: Run) -> None:
    """Assert that two runs have the same spikes, and numbers that are close."""
    for tap, handed in expected.taps.items():
        if tap.name == SPIKES:
            assert torch.equal(found.taps[tap], handed), str(tap)
        else:
            torch.testing.assert_close(found.taps[tap], handed)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    for name, value in expected.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STACKS)
def test_every_form_computes_in_two_engines_what_the_network_computes(name: str, tmp_path: Path) -> None:
    network = stack(name)
    x = example(network, T, B)
    expected = network_engine(network, show=True)(x, None)
    assert any(handed.any() for handed in expected.taps.values())
    for form in FORMS:
        run = engine(network, form, tmp_path)(x, None)
        same(run, expected)
        certificate = replay(network, x, run)
        assert certificate.passed, (form, str(certificate))
        assert certificate.spikes == sum(h.numel() for tap, h in run.taps.items() if tap.name == SPIKES)
    run = engine(network, "window", tmp_path, reference_session)(x, None)
    same(run, expected)
    assert replay(network, x, run).passed
    # From a state, and with another T and B, which are free.
    start, x = expected.state, example(network, 3, B, seed=5)
    run = engine(network, "window", tmp_path)(x, start)
    same(run, network_engine(network, show=True)(x, start))
    assert replay(network, x, run, start).passed
    x = example(network, 1, 2, seed=6)
    same(engine(network, "window", tmp_path)(x, None), network_engine(network, show=True)(x, None))


def _in_format(name: str, format: str) -> None:
    network = stack(name)
    x = example(network, T, B)
    run = shown_engine(network, FORMATS[format](network), network.state_dict())(x, None)
    same(run, network_engine(network, show=True)(x, None))
    certificate = replay(network, x, run)
    assert certificate.passed, str(certificate)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", FEW)
def test_a_program_computes_what_the_network_computes(name: str, format: str) -> None:
    _in_format(name, format)


@pytest.mark.matrix
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", [name for name in STACKS if name not in FEW])
def test_every_program_computes_what_the_network_computes(name: str, format: str) -> None:
    _in_format(name, format)


# --------------------------------------------------------------------------------------------------- a wrong network


def thresholds(network: Stack) -> Iterator[Stack]:
    """Yield copies of a network, each with the threshold of one layer a quarter higher."""
    for place, layer in enumerate(network.leaves()):
        if isinstance(layer, Spiking | Feedback) and getattr(layer.neuron, "threshold", None) is not None:
            wrong = copy.deepcopy(network)
            other = list(wrong.leaves())[place]
            assert isinstance(other, Spiking | Feedback)
            if isinstance(learned := getattr(other, "threshold", None), Tensor):
                learned.data.mul_(1.25)
            else:
                higher = float(layer.neuron.threshold or 0) * 1.25
                other.neuron = other.neuron.model_copy(update={"threshold": higher})
            yield wrong


def seen(network: Stack, x: Tensor) -> Tensor:
    """Return all that a network answers and carries on, in a row."""
    answer, state = network(x)
    return torch.cat([value.flatten() for value in (answer, *state.values())])


@torch.no_grad()
def weight_off(network: Stack, x: Tensor) -> Stack:
    """Return a copy with one weight off by a hundredth: the first of the last layer of weights that has a part in x."""
    place, last = [(n, layer) for n, layer in enumerate(network.leaves()) if isinstance(layer, Linear)][-1]
    right = seen(network, x)
    for unit in range(last.in_features):
        wrong = copy.deepcopy(network)
        layer = list(wrong.leaves())[place]
        assert isinstance(layer, Linear)
        # The largest of its column: of tokens or voters not all outputs see it.
        layer.weight[last.weight[:, unit].abs().argmax(), unit] *= 1.01
        if (seen(wrong, x) - right).abs().max() > 1e-4:
            return wrong
    raise AssertionError("no weight has a part")


@pytest.mark.parametrize("name", STACKS)
def test_a_wrong_network_does_not_pass(name: str, tmp_path: Path) -> None:
    network = stack(name)
    x = example(network, T, B)
    run = engine(network, "window", tmp_path)(x, None)
    right = replay(network, x, run)
    assert right.passed
    for wrong in thresholds(network):
        found = replay(wrong, x, run)
        assert not found.passed
        what = found.divergences[0].what
        # A membrane that is reset, without spikes, is handed out as m.
        assert SPIKES in what or what.startswith("state") or (what == "m" and "integrator" in name)
    assert not replay(weight_off(network, x), x, run).passed
    # No membrane of these runs is borderline: whichever spike is claimed wrongly, it is found where it is.
    assert right.borderline == 0
    for tap, handed in run.taps.items():
        for step, sample in ((0, 0), (3, 2), (T - 1, B - 1)):
            claimed = handed.clone()
            first = claimed[step, sample].view(-1)
            at = 4 % first.numel()
            first[at] = (1 - first[at]).clamp(min=0) if tap.name == SPIKES else first[at] + 1e-2
            found = replay(network, x, run._replace(taps=run.taps | {tap: claimed}))
            assert not found.passed
            assert (tap.layer, tap.name, step) in [(each.layer, each.what, each.step) for each in found.divergences]
            assert bool(found.failed[sample])
            assert int(found.failed.sum()) == 1
    # Nor does a claim that is no spike at all, a wrong answer, or a wrong state.
    tap = next(iter(run.taps))
    for value in (0.5, float("nan"), -1.0):
        claimed = run.taps[tap].clone()
        claimed[2, 1].view(-1)[0] = value
        assert not replay(network, x, run._replace(taps=run.taps | {tap: claimed})).passed
    assert not replay(network, x, run._replace(logits=run.logits * 1.01)).passed
    for state, after in run.state.items():
        assert not replay(network, x, run._replace(state=run.state | {state: after + 1e-2})).passed, state


# ------------------------------------------------------------------------------------- more steps than it has norms


def test_a_window_longer_than_its_norms_is_refused_by_every_engine(tmp_path: Path) -> None:
    network = stack("maps: norm a step")
    x = example(network, 21, 2)
    shown = {
        "eager": network_engine(network, show=True),
        "ONNX Runtime": engine(network, "window", tmp_path),
        "ONNX Runtime, single steps": engine(network, "step", tmp_path),
        "reference": engine(network, "window", tmp_path, reference_session),
        **{name: shown_engine(network, made(network), network.state_dict()) for name, made in FORMATS.items()},
    }
    expected = shown["eager"](x[:20], None)
    for name, run in shown.items():
        same(run(x[:20], None), expected)
        with pytest.raises(Exception, match=r"(?i)index|indices|bounds|Gather"):
            run(x, None)
        # Nor after a chunk that used them up.
        with pytest.raises(Exception, match=r"(?i)index|indices|bounds|Gather"):
            run(x[20:], expected.state)
        assert name
    with pytest.raises(RunError, match="a sample has a step 21, but layer 2 normalises 20 steps"):
        network.train()(x)
