"""Where two runs may part: only at a membrane on its threshold, with all else certified, and no more than a handful."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.comparisons import Subject, on_test_split, same
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.export.proof.partings import differing, excused, handful, identical
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification
from tests.export.cases import CASES, TAPS, Case

PATH = Path("model.window.onnx")


def knife_edge() -> HybridNetwork:
    """Return one unit that an input of ones brings to its threshold, 6 * 0.1; its spike decides the answer."""
    made = SequenceConfig(inputs=6, classes=2, units=[1]).build([Sizes(1, 0)]).eval().requires_grad_(False)
    made.stack[0].groups["snn"].ranked()[0].fill_(0.1)
    made.readout.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    made.readout.bias.copy_(torch.tensor([-0.5, 0.5]))
    return made


def ran(made: HybridNetwork, x: Tensor, spikes: Tensor) -> Run:
    """Return the run of an engine that decided so, [1, B, 1], and was right in everything else."""
    m = (x[0] @ made.stack[0].groups["snn"].ranked()[0]).detach()
    state = {"v1": m * (1 - spikes[0]), "spike_sum": spikes[0], "steps": torch.ones(len(m), 1)}
    return Run(made.readout(spikes[0]), {Tap(1, "spikes"): spikes}, state)  # type: ignore[operator]


def tipped(made: HybridNetwork, x: Tensor, which: Tensor) -> Run:
    """Return the run in which some samples decided otherwise than the network."""
    spikes = network_engine(made, show=True)(x, None).taps[Tap(1, "spikes")]
    return ran(made, x, torch.where(which[None, :, None], 1 - spikes, spikes))


def test_a_sample_that_parts_on_its_threshold_is_excused_and_one_that_parts_elsewhere_is_not() -> None:
    made = knife_edge()
    x = torch.ones(1, 4, 6)
    x[:, 2:] *= 1.001  # a thousandth above: no engine may say otherwise
    which = torch.tensor([True, False, True, False])
    run, own = tipped(made, x, which), network_engine(made, show=True)(x, None)
    assert excused(made, x, None, run, own, which).tolist() == [True, False, False, False]


def test_a_borderline_spike_excuses_nothing_else_that_is_wrong() -> None:
    made, which = knife_edge(), torch.tensor([True])
    x = torch.ones(1, 1, 6)
    run, own = tipped(made, x, which), network_engine(made, show=True)(x, None)
    assert excused(made, x, None, run, own, which).all()
    for wrong in (
        run._replace(logits=run.logits + 0.01),
        run._replace(state={**run.state, "v1": run.state["v1"] + 0.01}),
        run._replace(taps={}),
    ):
        assert not excused(made, x, None, wrong, own, which).any()
    # Nor does it where the spikes are the same, and only the logits differ.
    assert not excused(made, x, None, own._replace(logits=own.logits + 0.01), own, which).any()


def test_what_shows_the_layers_must_be_the_same_to_the_bit() -> None:
    made, which = knife_edge(), torch.tensor([True])
    x = torch.ones(1, 1, 6)
    run, own = tipped(made, x, which), network_engine(made, show=True)(x, None)
    hidden = run._replace(taps={})
    assert excused(made, x, None, hidden, own, which, lambda *_: run).all()
    # A last bit, or the sign of a zero: another run.
    other = run._replace(logits=torch.nextafter(run.logits, torch.tensor(9.0)))
    negative = run._replace(state={**run.state, "v1": -torch.zeros(1, 1)})
    assert not identical(run._replace(state={**run.state, "v1": torch.zeros(1, 1)}), negative)
    assert not excused(made, x, None, hidden, own, which, lambda *_: other).any()


@pytest.mark.parametrize(("count", "outcome"), [(0, "passed"), (1, "passed"), (3, "passed"), (4, "failed")])
def test_more_than_a_handful_fails(count: int, outcome: str) -> None:
    made = knife_edge()
    x = torch.ones(1, 20, 6)
    subject = Subject(made, Path(), [x], Classification(), _OnTheEdge())

    def engine(x: Tensor, state: object) -> Run:
        return tipped(made, x, torch.arange(20) < count)

    check = same(PATH, "window = eager", subject, engine)
    assert check.outcome == outcome
    assert check.figure.startswith(f"{20 - count} of 20 samples equal")
    assert (f"{count} part at a borderline spike" in check.figure) == (count > 0)
    answers = on_test_split(PATH, subject, engine)
    assert answers.outcome == outcome
    assert answers.figure.startswith(f"{20 - count} of 20 equal")


class _OnTheEdge:
    def __len__(self) -> int:
        return 20

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return Batch(torch.ones(1, len(indices), 6), torch.zeros(len(indices), dtype=torch.long))


def test_a_handful_is_three_or_half_a_percent() -> None:
    assert [handful(samples) for samples in (1, 93, 600, 601, 10_000)] == [3, 3, 3, 4, 50]


def test_a_tie_of_two_logits_is_counted_and_excuses_only_logits_that_agree() -> None:
    made = knife_edge()
    made.readout.bias.zero_()  # type: ignore[union-attr, operator]
    made.readout.weight.zero_()  # type: ignore[union-attr, operator]
    subject = Subject(made, Path(), [], Classification(), _OnTheEdge())

    def leaning(by: float) -> object:
        return lambda x, state: subject.eager(x)._replace(logits=torch.tensor([[0.0, by]]).repeat(20, 1))

    check = on_test_split(PATH, subject, leaning(1e-6))  # type: ignore[arg-type]
    assert check.outcome == "passed"
    assert "0 of 20 equal" in check.figure
    assert "20 ties of two logits" in check.figure
    assert on_test_split(PATH, subject, leaning(1e-2)).outcome == "failed"  # type: ignore[arg-type]


def test_an_engine_that_answers_nan_differs() -> None:
    face = interface(knife_edge())
    differs, _ = differing(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]), torch.tensor([[0.0, 1.0]] * 2), face)
    assert differs.tolist() == [False, True]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_network_that_is_watched_computes_the_same_bits(case: Case) -> None:
    network = case.network()
    x = interface(network).example(11, 3)
    plain, watched = network_engine(network)(x, None), network_engine(network, show=True)(x, None)
    assert identical(plain, watched)
    assert not plain.taps
    assert {tap: tuple(values.shape[:3]) for tap, values in watched.taps.items()} == {
        Tap(number, TAPS[kind]): (11, 3, group.units)
        for number, layer in enumerate(network.stack, 1)
        for kind, group in layer.groups.items()
    }
