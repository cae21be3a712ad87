"""Exits: when an answer may be given, on numbers that are easy to check, and as evaluation measures it."""

import math

import pytest
import torch

from hstnn_deploy.data.images import Images, ImageSplit
from hstnn_deploy.data.sets.digits import digit_images
from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.export.proof.bounded import UNIT_ROUNDOFF, Bounded, Value, exact
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.exits import Exit, parse_exit
from hstnn_deploy.models.network import State
from hstnn_deploy.models.stack import Stack
from hstnn_deploy.train.early_exit import answers
from tests.export.whole_images import STEPS, network


class Nothing:
    """No unit claims anything here."""

    def spikes(self, *_: object) -> torch.Tensor:
        raise AssertionError

    values = spikes


BOUNDED = Bounded(Nothing())


def test_a_confident_answer_may_be_given() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [5.0, 0.0]])
    assert Eager().likeliest(logits).tolist() == pytest.approx([0.5, 0.75, 1 / (1 + math.exp(-5))])
    for threshold, expected in ((0.5, [1, 1, 1]), (0.6, [0, 1, 1]), (0.9, [0, 0, 1]), (1.0, [0, 0, 0])):
        assert Exit("confidence", threshold).reached(Eager(), logits, {}, {}).tolist() == expected
    nothing = torch.full((1, 3), torch.nan)
    assert Exit("confidence", 0.1).reached(Eager(), nothing, {}, {}).tolist() == [0]


def test_small_scales_let_an_answer_be_given() -> None:
    made = network()
    norms = made.step_norms()
    assert list(norms) == ["step2", "step6"]
    means = torch.stack([Eager().mean_scale(each, torch.arange(STEPS)[:, None]) for each in norms.values()])
    scale = norms["step2"].scale
    assert scale is not None
    assert torch.allclose(means[0], scale.abs().mean(1))
    worst = means.max(0).values
    between = float((worst[4] + worst[5]) / 2)
    made.leave_by(Exit("scale", between))
    for seen in range(1, STEPS + 1):
        after = {name: torch.full((2, 1), float(seen)) for name in norms}
        expected = [1.0 if worst[seen - 1] < between else 0.0] * 2
        assert made.may_leave(Eager(), torch.zeros(2, 3), after).tolist() == expected
    # One of the two is not enough.
    after = {"step2": torch.full((1, 1), 8.0), "step6": torch.full((1, 1), 1.0)}
    assert made.may_leave(Eager(), torch.zeros(1, 3), after).tolist() == [0]


def test_the_bound_of_a_probability_holds_what_float32_finds() -> None:
    generator = torch.Generator().manual_seed(2)
    for width in (2, 10, 1000):
        logits = 20 * torch.randn(300, width, generator=generator)
        found = BOUNDED.likeliest(exact(logits))
        error = (Eager().likeliest(logits).double() - found.v).abs()
        assert bool((error <= found.e).all())
        assert float(found.e.max()) < (width + 60) * UNIT_ROUNDOFF
        # Logits that are themselves off by as much as they may be.
        off = 1e-3
        moved = logits.double() + off * torch.randn(logits.shape, generator=generator).sign()
        loose = BOUNDED.likeliest(Value(logits.double(), torch.full_like(logits, off).double()))
        assert bool(((moved.softmax(-1).amax(-1) - loose.v).abs() <= loose.e).all())


def test_near_the_threshold_either_is_right() -> None:
    a = Value(torch.tensor([0.8, 0.9 - 1e-9, 0.9 + 1e-9, 1.0]).double(), torch.full((4,), 1e-8).double())
    found = BOUNDED.compared(a, "at least", 0.9)
    assert found.e.tolist() == [0, 1, 1, 0]
    assert found.v[[0, 3]].tolist() == [0, 1]
    assert BOUNDED.compared(a, "below", 0.9).v[[0, 3]].tolist() == [1, 0]


def test_evaluation_measures_the_same_rule() -> None:
    """`hstnn evaluate --early-exit` and an exit stop each sample after the same step."""
    made = network()
    images, target = digit_images()
    split = ImageSplit(images[:60, None], target[:60], 16, Images(steps=STEPS, mean=[0.3], std=[0.4]))
    measured = answers(made, split, 25, torch.device("cpu"), "fp32")
    assert measured.scales is not None
    x = split.batch(torch.arange(60), torch.device("cpu")).x
    middle = float(measured.scales.max(0).values[STEPS // 2])
    for exit in (Exit("confidence", 0.4), Exit("confidence", 0.8), Exit("scale", middle)):
        made.leave_by(exit)
        stopped = torch.full((60,), STEPS)
        for t, now in reversed(list(enumerate(_steps(made, x)))):
            stopped[now > 0] = t + 1
        expected = measured.confident if exit.rule == "confidence" else measured.scaled
        assert float(stopped.double().mean()) == expected(exit.threshold).mean_steps
        assert 1 < float(stopped.double().mean()) < STEPS


def _steps(made: Stack, x: torch.Tensor) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    state: State | None = None
    for now in x:
        logits, state = made(now[None], state)
        found.append(made.may_leave(Eager(), logits, state))
    return found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("confidence=0", "has the invalid threshold 0"),
        ("confidence=1.01", "has the invalid threshold 1.01"),
        ("confidence=nan", "has the invalid threshold nan"),
        ("scale=0", "has the invalid threshold 0"),
        ("scale=inf", "has the invalid threshold inf"),
        ("scale=-1", "has the invalid threshold -1"),
        ("entropy=0.5", "unknown exit rule 'entropy'"),
        ("confidence", "'confidence' is not an exit"),
        ("confidence=high", "'confidence=high' is not an exit"),
    ],
)
def test_what_is_no_exit_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_exit(text)
    assert said in refused.value.message
    assert "confidence=P" in (refused.value.hint or "")


def test_a_network_that_cannot_leave_so_refuses() -> None:
    assert parse_exit("confidence=0.9") == Exit("confidence", 0.9)
    with pytest.raises(ExportError, match="one answer per sample"):
        network(readout="every").leave_by(Exit("confidence", 0.9))
    bare = network(norm=False)
    with pytest.raises(ExportError, match="normalises each step by itself"):
        bare.leave_by(Exit("scale", 0.5))
    bare.leave_by(Exit("confidence", 0.5))
