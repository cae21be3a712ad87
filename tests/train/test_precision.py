"""Lower precision is asked for, bounded in what it does, named beside every figure, and leaves no trace behind."""

import json
from pathlib import Path

import pytest
import torch

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.train.loop import train_step
from tests.conftest import TINY, Hstnn, options

CPU = torch.device("cpu")
SIZES = [Sizes(9, 7), Sizes(8, 6)]


def cases() -> dict[str, tuple[HybridNetwork, Task, Batch]]:
    torch.manual_seed(0)
    labels = torch.arange(6) % 3
    sequence = SequenceConfig(inputs=5, classes=3, units=[8, 8])
    lstm = SequenceConfig(inputs=5, classes=3, units=[8, 8], recurrent="lstm")
    text = LanguageConfig(vocabulary=11, inputs=5, units=[8, 8], dropout=0)
    conv = {form: ConvolutionalConfig(form=form, classes=3, units=[8, 8], size=size) for form, size in SIZED}
    words = torch.randint(0, 11, (7, 6))
    return {
        "sequence": (sequence.build(SIZES), task_for(sequence), Batch(torch.rand(7, 6, 5), labels)),
        "lstm": (lstm.build(SIZES), task_for(lstm), Batch(torch.rand(7, 6, 5), labels)),
        "language": (text.build(SIZES), task_for(text), Batch(words, words.roll(1, 0))),
        **{
            form: (config.build(SIZES), task_for(config), Batch(torch.rand(7, 6, 2, config.size, config.size), labels))
            for form, config in conv.items()
        },
    }


SIZED = (("dvs", 8), ("nmnist", 10))


@pytest.mark.parametrize("case", ["sequence", "lstm", "language", "dvs", "nmnist"])
@pytest.mark.parametrize("precision", ["bf16", "medium"])
def test_a_step_keeps_parameters_and_state_single_and_stays_near_the_exact_one(case: str, precision: Precision) -> None:
    network, task, batch = cases()[case]
    exact = task.loss(network(batch.x)[0], batch.target).item()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loss, _, state = train_step(network, task, optimiser, None, batch, None, precision)
    # A spike that flips moves the loss by more than a rounding error: bfloat16 has 8 bits.
    assert float(loss) == pytest.approx(exact, rel=0.2)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    # The next window starts from that state.
    train_step(
        network, task, optimiser, None, batch, {name: value.detach() for name, value in state.items()}, precision
    )


def test_bf16_rounds_and_fp32_does_not() -> None:
    network, _, batch = cases()["sequence"]
    with forward("bf16", CPU):
        assert network(batch.x)[0].dtype == torch.bfloat16
    with forward("fp32", CPU):
        assert torch.equal(network(batch.x)[0], network(batch.x)[0])
        assert network(batch.x)[0].dtype == torch.float32


def test_the_recurrences_are_exact_given_their_input() -> None:
    from hstnn_deploy.models import kernels

    # bfloat16 holds these inputs and their product with the identity.
    x, h0, weight = torch.rand(5, 4, 6).bfloat16().float(), torch.rand(4, 6), torch.rand(6, 6)
    expected, _ = kernels.rnn(x, torch.eye(6), h0, weight)
    with forward("bf16", CPU):
        found, _ = kernels.rnn(x, torch.eye(6), h0, weight)
    assert torch.equal(found, expected)
    assert found.dtype == torch.float32


def test_the_precision_of_products_is_put_back() -> None:
    def settings() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = settings()

    def fail() -> None:
        with products("medium"):
            assert settings() == ("medium", True)
            with products("fp32"):
                assert settings() == ("highest", False)
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        fail()
    assert settings() == before


def test_every_figure_names_its_precision(hstnn: Hstnn, tmp_path: Path) -> None:
    words: list[str | Path] = ["--set", "precision=bf16", "--out", tmp_path, *options(TINY), "--kind", "ffs"]
    result = hstnn("train", "digits", *words)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("bf16") == 2
    (run,) = json.loads(hstnn("train", "digits", *words, "--json").out)["runs"]
    assert run["result"]["precision"] == "bf16"
    best = Path(run["folder"]) / "best.pt"
    assert "precision bf16" in hstnn("evaluate", "--ckpt", best).out
    found = json.loads(hstnn("evaluate", "--ckpt", best, "--json").out)
    assert found["precision"] == "bf16"
    assert found["accuracy"] == run["result"]["test"]["accuracy"]


def test_an_unknown_precision_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", "digits", "--set", "precision=fp8", "--out", tmp_path)
    assert result.code == 2
    assert "precision is 'fp8'" in result.error
