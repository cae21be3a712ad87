"""The proof of a regression: values that are off are found, however few they are, and a class is never looked for."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hstnn_deploy.data.splits import ArraySplit, Batch
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.comparisons import Subject, on_test_split, own_answers
from hstnn_deploy.metrics import ends, points, shown, titled, worse
from hstnn_deploy.models.exits import Exit
from hstnn_deploy.models.tasks import Regression
from hstnn_deploy.train.evaluation import unpadded
from tests.export.cases import Case


@pytest.fixture
def subject() -> Subject:
    network = Case("sequence", "ffs").network()
    network.values = True
    x = torch.rand(20, 4, 8, generator=torch.Generator().manual_seed(0))
    answers, _ = network(x.movedim(0, 1))
    return Subject(network, Path(), [], Regression(), ArraySplit(x, answers.detach() + 0.5), batch=6)


def test_the_same_values_are_equal(subject: Subject) -> None:
    check = on_test_split(Path("f"), subject, subject.eager)
    assert (check.outcome, check.figure) == ("passed", "20 of 20 equal; rmse 0.5 (checkpoint 0.5)")
    assert own_answers(subject, False).answered == 20


@pytest.mark.parametrize("wrong", [1e-3, float("nan"), float("inf")])
def test_one_value_that_is_off_is_found(subject: Subject, wrong: float) -> None:
    def engine(x: Tensor, _: object) -> Run:
        run = subject.eager(x)
        logits = run.logits.clone()
        # The largest of a sample stays the largest: who looks for a class sees nothing.
        logits[0, int(logits[0].argmin())] -= wrong
        return Run(logits, run.taps, run.state, run.exit)

    check = on_test_split(Path("f"), subject, engine)
    assert check.outcome == "failed"
    assert check.figure.startswith("16 of 20 equal")
    assert "4 differ without that reason" in check.figure


def test_what_goes_out_is_called_values_and_leaves_no_exit(subject: Subject) -> None:
    assert "a value for each output" in interface(subject.network).logits_meaning
    with pytest.raises(ExportError, match="an exit needs a network that answers with a class"):
        subject.network.leave_by(Exit("confidence", 0.9))
    subject.network.values = False
    assert "a score for each class" in interface(subject.network).logits_meaning


def test_padded_samples_keep_their_values() -> None:
    batch = Batch(torch.zeros(5, 3, 2), torch.arange(6.0).reshape(3, 2), torch.tensor([2, 5, 1]))
    found = list(unpadded([batch]))
    assert [each.x.shape[0] for each in found] == [2, 5, 1]
    assert [each.target.tolist() for each in found] == [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]


def test_figures_of_a_metric() -> None:
    assert [shown("rmse", 0.00012345), shown("accuracy", 97.2222), shown("rmse", 2.5, sign=True)] == [
        "0.0001234",
        "97.22",
        "+2.5",
    ]
    assert [ends(metric, [3.0, 1.0, 2.0]) for metric in ("rmse", "accuracy")] == [(1.0, 3.0), (3.0, 1.0)]
    assert ends("rmse", [1.0]) == (1.0, 1.0)
    assert [worse("accuracy", 90, 89), worse("perplexity", 10, 12), worse("rmse", 0.02, 0.03)] == [
        1,
        2,
        pytest.approx(50),
    ]
    assert [worse("rmse", 0.0, 0.0), worse("rmse", 0.0, 1.0)] == [0.0, float("inf")]
    assert [points("rmse"), points("accuracy"), titled("rmse"), titled("accuracy")] == [
        "%",
        "points",
        "RMSE",
        "Accuracy",
    ]
