"""Answering early: what each rule comes to on answers that are easy to check, and on a network step by step."""

import pytest
import torch

from hstnn_deploy.data.images import Images, ImageSplit
from hstnn_deploy.data.sets.digits import digit_images
from hstnn_deploy.data.splits import ArraySplit
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.train.early_exit import Answers, answers

CPU = torch.device("cpu")


def known(scales: torch.Tensor | None = None) -> Answers:
    """Three samples of four steps."""
    right = torch.tensor([[0, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    confidence = torch.tensor([[0.2, 0.9, 0.1], [0.6, 0.9, 0.2], [0.8, 0.9, 0.3], [0.9, 0.9, 0.4]])
    return Answers(right, confidence, scales)


def test_each_rule_stops_where_it_says() -> None:
    found = known()
    assert found.after(1)[2:] == pytest.approx((1, 100 / 3))
    assert found.after(4)[2:] == pytest.approx((4, 100))
    # The first reaches 0.7 at step 3, the second at 1, the third never.
    assert found.confident(0.7)[2:] == pytest.approx((8 / 3, 100))
    assert found.confident(0.15)[2:] == pytest.approx((4 / 3, 100 / 3))
    with pytest.raises(UsageError, match="no layer normalises each step"):
        found.scaled(0.5)
    falling = known(torch.tensor([[1.0, 0.4, 0.3, 0.2], [1.0, 0.8, 0.4, 0.1]]))
    assert falling.scaled(0.5)[2:] == pytest.approx((3, 100 / 3))
    assert falling.scaled(0.01).mean_steps == 4


def test_answers_after_the_last_step_are_those_of_the_whole_window() -> None:
    norm = {"norm": {"over": "step", "steps": 6, "shift": False}}
    layers = [{"conv": 3, "bias": False}, norm, "lif", "flatten", {"linear": 10}]
    torch.manual_seed(1)
    network = StackConfig.model_validate({"input": [1, 8, 8], "layers": layers}).build([]).eval()
    images, target = digit_images()
    split = ImageSplit(images[:50, None], target[:50], 16, Images(steps=6))
    found = answers(network, split, 20, CPU, "fp32")
    x = split.batch(torch.arange(50), CPU).x
    with torch.no_grad():
        for steps in (1, 3, 6):
            output, _ = network(x[:steps])
            assert torch.equal(output.argmax(1) == target[:50], found.right[steps - 1])
            assert torch.allclose(output.softmax(1).amax(1), found.confidence[steps - 1], atol=1e-5)
    assert found.scales is not None
    assert found.scales.tolist() == [[1.0] * 6]


def test_what_has_no_single_answer_is_refused() -> None:
    layers = [{"linear": 4}, "lif", {"linear": 3}]
    network = StackConfig.model_validate({"input": [2], "layers": layers, "readout": "every"}).build([])
    split = ArraySplit(torch.zeros(3, 4, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(UsageError, match="one answer per sample"):
        answers(network, split, 2, CPU, "fp32")
