"""What is replayed on a GPU: the same gradients as a plain step's, and a graph that is trusted only once seen right."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification, LanguageModelling, Task
from hstnn_deploy.train import capture
from hstnn_deploy.train.capture import Gradients, checked, replayed


def cases() -> list[tuple[HybridNetwork, Task, list[Batch]]]:
    torch.manual_seed(0)
    sizes = [Sizes(5, 4), Sizes(3, 6)]
    sequence = SequenceConfig(inputs=3, classes=4, units=[1, 1]).build(sizes)
    images = [Batch(torch.rand(6, 5, 3), torch.randint(4, (5,))) for _ in range(2)]
    language = LanguageConfig(vocabulary=7, inputs=4, units=[1, 1]).build(sizes)
    windows = [Batch(torch.randint(7, (6, 5)), torch.randint(7, (6, 5))) for _ in range(3)]
    return [(sequence, Classification(), images), (language, LanguageModelling(), windows)]


@pytest.mark.parametrize("number", [0, 1], ids=["sequence", "language"])
def test_gradients_are_those_of_a_plain_backward_pass(number: int) -> None:
    network, task, windows = cases()[number]
    gradients, state, expected_state = Gradients(network, task, "fp32", pytest.fail), None, None
    for batch in windows:
        torch.manual_seed(1)
        expected_state = task.carried(network, batch.x, expected_state)
        network.zero_grad()
        output, expected_state = network(batch.x, expected_state)
        loss = task.loss(output, batch.target)
        loss.backward()
        expected = [parameter.grad for parameter in network.parameters()]
        torch.manual_seed(1)
        state = task.carried(network, batch.x, state)
        assert gradients.fits(batch, state)
        found, right, state = gradients(batch, state)
        assert torch.equal(found, loss.detach())
        assert int(right) == int(task.correct(output, batch.target))
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            assert parameter.grad is not None
            assert gradient is not None
            assert torch.equal(parameter.grad, gradient)
        assert state.keys() == expected_state.keys()


def test_other_shapes_and_padded_batches_are_not_replayed() -> None:
    network, task, (batch, _) = cases()[0]
    gradients = Gradients(network, task, "fp32", pytest.fail)
    assert gradients.fits(batch, None)
    assert not gradients.fits(Batch(batch.x[:, :2], batch.target[:2]), None)
    assert not gradients.fits(Batch(batch.x, batch.target, torch.full((5,), 6)), None)
    assert gradients.fits(batch, None)


def test_a_graph_that_answers_otherwise_is_not_taken() -> None:
    dropout = nn.Dropout(0.5)
    x = torch.ones(100)

    def work(x: Tensor) -> Sequence[Tensor]:
        return [x.sum(), dropout(x)]

    before = torch.random.get_rng_state()
    assert checked(work, [x], work) is work
    assert torch.equal(torch.random.get_rng_state(), before)
    stale = work(x)
    with pytest.raises(RuntimeError, match="output 0 differs"):
        checked(work, [2 * x], lambda _: stale)
    with pytest.raises(RuntimeError, match="output 1 differs"):
        checked(work, [x], lambda x: [x.sum(), torch.full_like(x, torch.nan)])


def test_where_no_graph_can_be_recorded_the_work_is_done_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(Tensor):
        is_cuda = True

    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    def work(x: Tensor) -> Sequence[Tensor]:
        return [x + 1]

    monkeypatch.setattr(capture, "record", refuse)
    said: list[str] = []
    assert replayed(work, [torch.ones(2).as_subclass(OnGpu)], said.append) is work
    assert said == ["no CUDA graph, so slower: operation not permitted when stream is capturing"]
    assert replayed(work, [torch.ones(2)], pytest.fail) is work
