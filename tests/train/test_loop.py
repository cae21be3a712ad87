"""The epoch loop: which epoch is the best, what an epoch trains on, what one step and one evaluation do."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.sets.digits import DigitsConfig, load_digits
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.errors import RunError
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import loop
from hstnn_deploy.train.beginnings import stage_folder
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.train.stages import train
from tests.contents import comparable, contents
from tests.train.stage_cases import BASE, Listener, tiny

# The best epoch.


def scripted(monkeypatch: pytest.MonkeyPatch, results: list[tuple[float, float]]) -> None:
    """Make validation come out as told, epoch by epoch: (accuracy, loss)."""
    script = iter(results)

    def told(*arguments: Any) -> dict[str, Any]:
        accuracy, loss = next(script)
        return {**evaluate(*arguments), "accuracy": accuracy, "loss": loss}

    monkeypatch.setattr("hstnn_deploy.train.loop.evaluate", told)


def test_the_best_epoch_has_the_highest_metric_then_the_lowest_loss_then_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [(50, 1.0), (60, 1.0), (60, 0.9), (60, 0.9), (55, 0.1)])
    (run,) = train(tiny(kind="snn", adapt__epochs=5, batch=700), tmp_path)
    assert [row["best"] for row in run.metrics()] == [True, True, True, False, False]
    best = Checkpoint.load(run.best)
    assert best.epoch == run.status()["result"]["epoch"] == run.status()["best"]["epoch"] == 3
    assert best.metrics["valid"]["valid_accuracy"] == 60
    # Its parameters are those at the end of epoch 3.
    scripted(monkeypatch, [(1, 1)] * 3)
    (short,) = train(tiny(kind="snn", adapt__epochs=3, batch=700), tmp_path / "short")
    assert comparable(best.parameters) == comparable(Checkpoint.load(short.last).parameters)


def test_the_test_figures_are_the_best_epochs_own(whole: Path) -> None:
    for stage in ("adapt", "ratio-0.5"):
        run = RunFolder(whole / BASE / stage)
        splits = load_digits(DigitsConfig(), Source())
        network = Checkpoint.load(run.best).network()
        result = run.status()["result"]
        for split, figures in (("test", result["test"]), ("valid", None)):
            found = evaluate(network, Classification(), splits.split(split), 200, torch.device("cpu"))
            if figures is None:
                figures = {"loss": result["valid"]["valid_loss"], "accuracy": result["valid"]["valid_accuracy"]}
                del found["samples"]
            assert found == figures


@pytest.mark.parametrize("batch", [200, 2000], ids=["in training", "in validation"])
def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path, batch: int) -> None:
    # With one batch an epoch the loss of training is still that of the fresh network.
    recipe = tiny(kind="rnn", batch=batch, adapt__lr=1e38, adapt__clip="null")
    with pytest.raises(RunError, match=r"loss is (nan|inf)") as refused:
        train(recipe, tmp_path)
    assert "learning rate" in refused.value.hint
    status = RunFolder(tmp_path / "digits/rnn/seed1111").status()
    assert status["state"] == "failed"
    assert "loss is" in status["error"]


# One step, one evaluation.


def test_a_step_clips_the_norm_of_the_whole_gradient() -> None:
    torch.manual_seed(0)
    fresh = tiny().network.build([Sizes(4, 4)])
    batch = Batch(torch.rand(8, 5, 8), torch.tensor([0, 1, 2, 3, 4]))
    moved = {}
    for clip in (0.01, 1e9, None):
        network = copy.deepcopy(fresh)
        optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
        loss, right, _ = loop.train_step(network, Classification(), optimiser, clip, batch)
        assert not loss.requires_grad
        assert 0 <= right <= 5
        pairs = zip(network.parameters(), fresh.parameters(), strict=True)
        moved[clip] = torch.cat([(a - b).flatten() for a, b in pairs]).norm().item()
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)
    assert moved[1e9] == pytest.approx(moved[None])
    assert moved[None] > 0.02


def test_an_evaluation_does_not_hang_on_the_size_of_its_batches(whole: Path) -> None:
    network = Checkpoint.load(whole / BASE / "adapt" / "best.pt").network().double()
    test = load_digits(DigitsConfig(), Source()).test
    x, target, _ = test.batch(torch.arange(360), torch.device("cpu"))

    class Doubled:
        def __len__(self) -> int:
            return 360

        def batch(self, indices: torch.Tensor, device: torch.device) -> Any:
            part = test.batch(indices, device)
            return part._replace(x=part.x.double())

    results = [evaluate(network, Classification(), Doubled(), size, torch.device("cpu")) for size in (7, 360, 1000)]
    with torch.no_grad():
        logits, _ = network(x.double())
    expected = torch.nn.functional.cross_entropy(logits, target).item()
    for result in results:
        assert result["loss"] == pytest.approx(expected)
        assert result["accuracy"] == pytest.approx(100 * (logits.argmax(1) == target).double().mean().item())
        assert result["samples"] == 360


def test_an_epoch_of_drawn_batches_trains_on_so_many_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    recipe = tiny(kind="snn", adapt__batches=3, adapt__epochs=3, batch=50)
    listener = Listener()
    train(recipe, tmp_path / "whole", observer=listener)
    assert [facts[:4] for facts in listener.of("batch_done")[:3]] == [(1, n, 3, 50) for n in (1, 2, 3)]
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", observer=Listener(("epoch_done", 2)))
    train(recipe, tmp_path / "cut", resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_measuring_within_an_epoch_changes_nothing_else(tmp_path: Path) -> None:
    """One row for every so many batches but the last, on whose figures nothing depends; resuming writes none twice."""
    plain, looked = (tiny(kind="snn", adapt__epochs=3, adapt__evaluate_every=every) for every in ("null", 4))
    assert "evaluate_every" not in plain.yaml()
    listener = Listener()
    train(plain, tmp_path / "plain", observer=listener)
    count = listener.of("batch_done")[0][2]
    with pytest.raises(KeyboardInterrupt):
        train(looked, tmp_path / "looked", observer=Listener(("batch_done", 2 * count + 6)))
    train(looked, tmp_path / "looked", resume=True)
    runs = [stage_folder(recipe, tmp_path / name, "train") for recipe, name in ((plain, "plain"), (looked, "looked"))]
    ends = [[timeless(row) for row in run.metrics()] for run in runs]
    assert ends[0] == ends[1]
    weights = [Checkpoint.load(run.last).parameters for run in runs]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    rows = runs[1].steps()
    assert [(row["epoch"], row["batch"]) for row in rows] == [(e, b) for e in (1, 2, 3) for b in range(4, count, 4)]
    assert not runs[0].steps()
    assert rows[-1]["valid_loss"] != rows[0]["valid_loss"]


def test_a_loss_that_is_no_number_within_an_epoch_is_the_same_error(tmp_path: Path) -> None:
    recipe = tiny(kind="rnn", adapt__lr=1e38, adapt__clip="null", adapt__evaluate_every=2)
    with pytest.raises(RunError, match=r"loss is .* in epoch 1"):
        train(recipe, tmp_path)


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its times."""
    return {key: value for key, value in row.items() if not key.endswith("_seconds")}


def test_drawn_batches_hold_no_sample_twice_and_are_drawn_each_by_itself() -> None:
    order = loop._order(10, 8, 5, torch.Generator().manual_seed(0)).view(5, 8)
    assert all(len(set(batch.tolist())) == 8 for batch in order)
    assert len({tuple(batch.tolist()) for batch in order}) == 5
    assert sorted(loop._order(10, 8, None, torch.Generator()).tolist()) == list(range(10))


def test_drawn_batches_hold_all_samples_where_there_are_too_few(tmp_path: Path) -> None:
    listener = Listener()
    train(tiny(kind="snn", adapt__batches=2, adapt__epochs=1, batch=5000), tmp_path, observer=listener)
    assert [facts[1:] for facts in listener.of("batch_done")] == [(1, 2, 1293), (2, 2, 1293)]
