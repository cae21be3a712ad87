"""Training a language model: what is carried from window to window, what counts as better, and resuming."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.splits import PADDING, Batch
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.models.hybrid.groups import RecurrentUnit
from hstnn_deploy.models.hybrid.language import LanguageConfig, LanguageModel
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification, LanguageModelling, task_for
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import batches, count_batches, evaluate
from hstnn_deploy.train.observer import Observer
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.traces import probe_products, rademacher, ranked_groups
from tests.conftest import TINY_TEXT, settings
from tests.contents import contents

CPU = torch.device("cpu")


def model(recurrent: RecurrentUnit = "rnn", spiking: int = 3) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageConfig(vocabulary=9, inputs=4, units=[3, 3], recurrent=recurrent)
    network = config.build([Sizes(spiking, 3)] * 2).double()
    # Strong inputs, so that spikes there are.
    with torch.no_grad():
        network.embedding.weight.mul_(20)
    return network.eval()


def text(count: int = 50) -> TextSplit:
    return TextSplit(torch.randint(0, 9, (count,), generator=torch.Generator().manual_seed(1)), 5, "a text")


@pytest.mark.parametrize("recurrent", ["rnn", "lstm"])
def test_an_evaluation_carries_the_recurrent_state_and_resets_the_membrane(recurrent: RecurrentUnit) -> None:
    network, split = model(recurrent), text()
    losses = []
    state = network.initial_state(torch.zeros(1, 3))
    with torch.no_grad():
        for x, target, _ in split.windows(3, CPU):
            state = {name: torch.zeros_like(value) if name[0] == "v" else value for name, value in state.items()}
            logits, state = network(x, state)
            assert all(value.any() for name, value in state.items() if name[0] == "v")
            losses.append(functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none"))
    mean = torch.cat(losses).mean().item()
    found = evaluate(network, LanguageModelling(), split, 3, CPU)
    assert found["loss"] == pytest.approx(mean)
    assert found["perplexity"] == pytest.approx(math.exp(mean))
    assert found["words"] == (50 // 3 - 1) * 3


def test_what_is_carried_is_cut_off_from_the_gradient() -> None:
    network, task = model(), LanguageModelling()
    x = torch.zeros(5, 3, dtype=torch.long)
    assert task.carried(network, x, None) is None
    carried = task.carried(network, x, network(x)[1])
    assert carried is not None
    assert set(carried) == {"v1", "h1", "v2", "h2"}
    assert not any(value.requires_grad for value in carried.values())
    assert not carried["v1"].any()
    assert carried["h1"].any()


def test_a_text_is_walked_through_in_its_own_order() -> None:
    split = text()
    walked = list(batches(split, 3, torch.randperm(len(split)), CPU))
    assert count_batches(split, 3) == len(walked) == 3
    assert all(torch.equal(a.x, b.x) for a, b in zip(walked, split.windows(3, CPU), strict=True))


def test_the_tasks_say_which_way_is_better_and_by_which_name() -> None:
    assert task_for(load_recipe("digits").network).metric == Classification().metric == "accuracy"
    task = task_for(load_recipe("ptb").network)
    assert (task.metric, task.unit, task.higher_is_better, task.counts) == ("perplexity", "", False, "words")
    assert task.score(1e6, 0, 1) < math.inf


@pytest.mark.parametrize("recurrent", ["rnn", "lstm"])
def test_the_traces_of_a_language_model_are_those_of_its_gradients_slope(recurrent: RecurrentUnit) -> None:
    # Without spiking units, whose surrogate gradient is not the slope of what they emit.
    network, task = model(recurrent, spiking=0), LanguageModelling()
    window = next(text().windows(3, CPU))
    groups = ranked_groups(network)
    probe = rademacher(groups, 0, 0)
    sums: list[torch.Tensor] = []
    probe_products(network, groups, task, window, [probe], sums.append)
    # v * (H v) by central differences of the gradient along v.
    weights = [weight for group in groups for weight in group.weights]
    flat = [vector for vectors in probe for vector in vectors]

    def gradients(step: float) -> list[torch.Tensor]:
        with torch.no_grad():
            for weight, vector in zip(weights, flat, strict=True):
                weight.add_(vector, alpha=step)
        found = torch.autograd.grad(task.loss(network(window.x)[0], window.target), weights)
        with torch.no_grad():
            for weight, vector in zip(weights, flat, strict=True):
                weight.sub_(vector, alpha=step)
        return list(found)

    products = [(a - b) / 2e-6 for a, b in zip(gradients(1e-6), gradients(-1e-6), strict=True)]
    parts = iter(vector * product for vector, product in zip(flat, products, strict=True))
    expected = torch.cat([group.per_unit([next(parts) for _ in group.weights]) for group in groups])
    torch.testing.assert_close(sums[0], expected, rtol=1e-4, atol=1e-6)


def tiny(**changes: object) -> Recipe:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe("ptb", settings({**TINY_TEXT, **keys}))


class Stop(Observer):
    """Presses Ctrl-C at the n-th epoch that is done."""

    def __init__(self, at: int) -> None:
        self.left = at

    def epoch_done(self, row: dict[str, object]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("recurrent", ["rnn", "lstm"])
def test_all_stages_run_and_an_interrupted_training_resumes_to_the_same_bits(
    ptb: Path, tmp_path: Path, recurrent: RecurrentUnit
) -> None:
    recipe = tiny(network__recurrent=recurrent, adapt__epochs=4)
    runs = train(recipe, tmp_path / "whole", data_folder=ptb)
    assert [run.path.name for run in runs] == ["adapt", "traces", "ratio-0.5"]
    for at in (1, 2, 2):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut", data_folder=ptb, resume=True, observer=Stop(at))
    train(recipe, tmp_path / "cut", data_folder=ptb, resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    adapted, _, restored = runs
    rows = adapted.metrics()
    assert [row["lr"] for row in rows] == [0.1, 0.1, 0.05, 0.05]
    best = min(rows, key=lambda row: row["valid_perplexity"])
    assert adapted.status()["result"]["epoch"] == best["epoch"]
    assert {"train_perplexity", "valid_perplexity"} <= rows[0].keys()
    assert restored.status()["result"]["test"].keys() == {"loss", "perplexity", "words"}
    assert sum(sum(size) for size in Checkpoint.load(restored.best).sizes) == 11


def test_the_epoch_of_the_lowest_perplexity_is_kept_even_where_it_is_not_the_last(ptb: Path, tmp_path: Path) -> None:
    # A rate this high makes some epochs worse than those before them.
    (run,) = train(tiny(kind="rnn", adapt__lr=60, adapt__epochs=6), tmp_path, data_folder=ptb)
    rows = run.metrics()
    figures = [row["valid_perplexity"] for row in rows]
    assert figures != sorted(figures, reverse=True)
    assert run.status()["result"]["epoch"] == figures.index(min(figures)) + 1
    assert [row["best"] for row in rows] == [figure == min(figures[: n + 1]) for n, figure in enumerate(figures)]


def test_perplexity_falls(ptb: Path, tmp_path: Path) -> None:
    (run,) = train(tiny(kind="rnn", adapt__epochs=10, adapt__lr=1), tmp_path, data_folder=ptb)
    first, *_, last = run.metrics()
    assert last["train_perplexity"] < 0.8 * first["train_perplexity"]


def test_selection_takes_the_first_window_of_all_columns(
    ptb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []

    def watched(*arguments: object) -> None:
        assert isinstance(arguments[3], Batch)
        seen.append(arguments[3])
        probe_products(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("hstnn_deploy.train.stages.probe_products", watched)
    train(tiny(), tmp_path, data_folder=ptb)
    assert [(each.x.shape, each.target.shape) for each in seen] == [((5, 4), (5, 4))]


def test_a_vocabulary_that_changed_is_refused_on_resuming_and_between_stages(ptb: Path, tmp_path: Path) -> None:
    recipe = tiny(adapt__epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "runs", data_folder=ptb, observer=Stop(1))
    path = ptb / "ptb.train.txt"
    whole = path.read_text()
    path.write_text("w3 w2 " + whole)
    with pytest.raises(RunError, match=r"last\.pt was trained with another vocabulary than ptb has now"):
        train(recipe, tmp_path / "runs", data_folder=ptb, resume=True)
    path.write_text(whole)
    train(recipe, tmp_path / "runs", data_folder=ptb, resume=True, stage="adapt")
    path.write_text("w3 w2 " + whole)
    with pytest.raises(RunError, match=r"best\.pt was trained with another vocabulary"):
        train(recipe, tmp_path / "runs", data_folder=ptb, stage="select")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network__vocabulary": 11}, "network.vocabulary is 11, but ptb has 13"),
        ({"data": "{name: digits}"}, "network.family is language, but digits is for the family sequence"),
    ],
)
def test_a_model_that_does_not_fit_the_text_is_refused(
    ptb: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(tiny(**changes), tmp_path, data_folder=ptb)


def test_a_padded_text_counts_as_its_valid_words_alone() -> None:
    network, task = model(), LanguageModelling()
    lengths = torch.tensor([5, 2, 3])
    x = torch.randint(0, 9, (5, 3), generator=torch.Generator().manual_seed(2))
    target = x.roll(1, 0).masked_fill(torch.arange(5)[:, None] >= lengths, PADDING)
    padded = Batch(x, target, lengths)
    weights = list(network.parameters())
    loss = task.loss(network(x, None, lengths)[0], target)
    gradients = torch.autograd.grad(loss, weights)
    assert task.answers(padded) == 10
    alone = [task.loss(network(x[:n, [b]])[0], x.roll(1, 0)[:n, [b]]) * n for b, n in enumerate(lengths.tolist())]
    whole = torch.stack(alone).sum() / 10
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(gradients, torch.autograd.grad(whole, weights))
