"""`hd.fit`: every kind of data gives the same training; folders, resuming, Ctrl-C, the network left alone."""

import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

import hstnn_deploy as hd
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError, RunError, UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.report.collect import read_run
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import evaluation
from hstnn_deploy.train.fitting.fit import fit as run_fit
from tests.conftest import Hstnn
from tests.train.fitting.cases import COUNT, STEPS, Samples, Stop, X, Y, network, uneven

HOLD = (X[:40], Y[:40])


def fit(net: Network, train: Any, *data: Any, **options: Any) -> hd.History:
    """Train for an epoch or two, silently."""
    return run_fit(net, train, *data, **{"epochs": 2, "batch": 20, "lr": 0.02, "progress": False, **options})


def numbers(history: hd.History) -> list[torch.Tensor]:
    """Return the parameters of a history's network."""
    return list(history.network.state_dict().values())


def equal(one: hd.History, other: hd.History) -> bool:
    """Whether two trainings came to the same bits."""
    return all(torch.equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def test_it_learns_and_says_how() -> None:
    found = fit(network(), (X, Y), test=HOLD, epochs=6)
    assert found.test is not None
    assert found.test.score > 90
    assert found.test.count == 40
    assert found.best["valid_accuracy"] > 90
    assert found.curves["epoch"] == [1, 2, 3, 4, 5, 6]
    assert len(found.curves["train_loss"]) == 6
    assert found.curves["train_loss"][-1] < found.curves["train_loss"][0]
    assert found.best["valid_loss"] == found.curves["valid_loss"][found.best_epoch - 1]
    # The network is that of the best epoch: it gives the figures that were measured.
    again = hd.evaluate(found.network, HOLD)
    assert (again.score, again.count) == (found.test.score, 40)
    assert again.loss == pytest.approx(found.test.loss)
    assert not found.network.training
    assert found.folder is None


def test_the_network_that_is_given_stays_as_it_was_and_so_does_the_generator() -> None:
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(7)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    found = fit(net, (X, Y))
    assert torch.equal(torch.rand(3), drawn)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not torch.equal(found.network.state_dict()["layers.0.weight"], before["layers.0.weight"])


def test_training_begins_with_the_weights_that_are_given() -> None:
    first = fit(network(), (X, Y), epochs=5)
    more = fit(first.network, (X, Y), epochs=1)
    assert more.curves["train_loss"][0] < 0.7 * first.curves["train_loss"][0]


class Plain:
    """Samples by number, as tonic's Datasets are: no class of torch's. That it can cut batches changes nothing."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return X[number], int(Y[number])

    def batch(self, size: int) -> None:
        """Do something else than a split does."""
        raise NotImplementedError


KINDS: dict[str, Any] = {
    "tensors": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "float64, int32": lambda: (X.astype(np.float64), Y.astype(np.int32)),
    "reversed memory": lambda: (X[::-1][::-1], np.asfortranarray(Y)),
    "big-endian": lambda: (X.astype(">f4"), Y.astype(">i8")),
    "lists of classes": lambda: (X, Y.tolist()),
    "TensorDataset": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "Dataset": Samples,
    "Dataset of tensors": lambda: Samples(lambda n: (torch.from_numpy(X[n]), torch.tensor(Y[n]))),
    "a class of somebody else's": lambda: Plain(),
    "DataLoader": lambda: DataLoader(Samples(), batch_size=20, shuffle=True),
    "DataLoader with workers": lambda: DataLoader(Samples(), batch_size=20, num_workers=1),
    "list of samples": lambda: [(X[n], int(Y[n])) for n in range(COUNT)],
    "equal list": lambda: (list(X), Y),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_training(kind: str) -> None:
    wanted = fit(network(), (X, Y), HOLD)
    assert equal(fit(network(), KINDS[kind](), HOLD), wanted)


def test_samples_of_several_lengths_are_padded_and_end_where_they_end() -> None:
    parts = [uneven(n)[0] for n in range(COUNT)]
    as_list = fit(network("mean"), (parts, Y), HOLD)
    assert equal(fit(network("mean"), Samples(uneven), HOLD), as_list)

    def collate(items: list[Any]) -> Any:
        rows = [torch.from_numpy(each) for each, _ in items]
        lengths = torch.tensor([len(each) for each in rows])
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=9.0)
        return padded, torch.tensor([y for _, y in items]), lengths

    own = fit(network("mean"), DataLoader(Samples(uneven), batch_size=20, collate_fn=collate), HOLD)
    # What lies past the end counts for nothing, whatever it is.
    assert own.curves["train_loss"] == pytest.approx(as_list.curves["train_loss"], rel=1e-5)
    alone = [hd.evaluate(as_list.network, (part[None], Y[[n]])).loss for n, part in enumerate(parts)]
    together = hd.evaluate(as_list.network, (parts, Y)).loss
    assert np.mean(alone) == pytest.approx(together, rel=1e-5)


def test_a_part_of_a_dataset_is_that_part() -> None:
    whole = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    part, rest = random_split(whole, [80, 40], generator=torch.Generator().manual_seed(0))
    chosen = list(part.indices)
    assert equal(fit(network(), part, rest), fit(network(), (X[chosen], Y[chosen]), rest))


def test_tokens_and_answers_at_every_step() -> None:
    torch.manual_seed(0)
    layers = [hd.layers.embedding(8, words=6), hd.layers.lif(threshold=0.3), hd.layers.linear(6)]
    words = np.random.default_rng(0).integers(0, 6, (60, 7))
    every = hd.Stack(layers, input=[], readout="every")
    following = fit(every, (words[:, :-1], words[:, 1:]), (words[:10, :-1], words[:10, 1:]))
    assert following.metric == "perplexity"
    pieces = [row[: 3 + n % 4] for n, row in enumerate(words)]
    fit(every, ([row[:-1] for row in pieces], [row[1:] for row in pieces]), (words[:, :-1], words[:, 1:]))
    single = hd.Stack(layers, input=[], readout="sum")
    assert fit(single, (words, np.arange(60) % 6)).metric == "accuracy"


def test_arrays_that_are_mapped_from_a_file_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with torch.no_grad():
        assert equal(fit(network(), (mapped, Y)), fit(network(), (X, Y)))
    from hstnn_deploy.data.given.given import held_out, split_of
    from hstnn_deploy.train.fitting.given import wanted

    split = split_of((mapped, Y), wanted(network()), "train", lambda *_: None)
    rest, held = held_out(split, 1)
    assert split.x.data_ptr() == mapped.ctypes.data  # type: ignore[attr-defined]
    assert rest.whole is held.whole is split  # type: ignore[attr-defined]
    assert sorted([*rest.numbers.tolist(), *held.numbers.tolist()]) == list(range(COUNT))  # type: ignore[attr-defined]


def test_all_splits_of_a_data_set(tmp_path: Path) -> None:
    from hstnn_deploy.data.registry import load

    splits = load(hd.load_recipe("digits").data, "validation")
    assert isinstance(splits, Splits)
    torch.manual_seed(0)
    net = hd.Stack([hd.layers.linear(16), "lif", hd.layers.linear(10)], input=[8])
    found = fit(net, splits, epochs=1, batch=200)
    assert found.test is not None
    assert found.test.count == len(splits.test)
    assert splits.origin in found.notes[0]


# ------------------------------------------------------------------------------------------------- what is chosen on


def test_without_validation_data_a_tenth_is_held_out_by_the_seed_and_said() -> None:
    one, two = fit(network(), (X, Y), seed=1), fit(network(), (X, Y), seed=2)
    (said,) = [note for note in one.notes if "valid=" in note]
    assert "10 % of train is held out" in said
    assert "12 samples drawn by seed 1" in said
    samples = one.checkpoint.recipe["data"]["samples"]
    assert samples == {"train": COUNT - 12, "valid": 12}
    assert one.checkpoint.recipe["data"]["sha256"] != two.checkpoint.recipe["data"]["sha256"]
    assert equal(one, fit(network(), (X, Y), seed=1))


def test_the_epoch_is_chosen_on_test_data_only_where_told_and_says_so() -> None:
    both = (X[:40], Y[:40])
    found = fit(network(), (X, Y), both, both)
    assert "TEST" in found.protocol
    assert any("overstates" in note for note in found.notes)
    assert found.checkpoint.recipe["protocol"] == "test"
    assert "TEST" not in fit(network(), (X, Y), (X[:40], Y[:40]), (X[40:], Y[40:])).protocol


def test_too_few_samples_to_hold_any_out() -> None:
    with pytest.raises(DataError, match="cannot hold out 10 % of 6 samples with every class") as refused:
        fit(network(), (X[:6], Y[:6]))
    assert "valid=" in refused.value.hint
    fit(network(), (X[:6], Y[:6]), HOLD)


# ----------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_a_run_folder_like_any_other(tmp_path: Path, hstnn: Hstnn) -> None:
    out = tmp_path / "mine"
    found = fit(network(), (X, Y), test=HOLD, out=out, name="mine")
    run = read_run(RunFolder(out))
    assert run is not None
    assert run.recipe.name == "mine"
    assert found.test is not None
    assert run.value == found.test.score
    assert "mine" in hstnn("report", str(out)).out
    assert hstnn("runs", "list", str(tmp_path)).code == 0
    refused = hstnn("evaluate", "--ckpt", str(out / "best.pt"))
    assert "given in Python" in refused.error
    shown = hstnn("show", str(out / "best.pt"))
    assert shown.code == 0
    assert torch.equal(hd.load_network(out / "best.pt").state_dict()["layers.0.weight"], numbers(found)[0])
    assert "given in Python" in hstnn("train", str(out / "recipe.yaml"), "--out", str(tmp_path / "again")).error


def test_a_folder_without_test_data_is_reported_without_a_figure(tmp_path: Path, hstnn: Hstnn) -> None:
    fit(network(), (X, Y), out=tmp_path / "mine")
    run = read_run(RunFolder(tmp_path / "mine"))
    assert run is not None
    assert (run.value, run.standing) == (None, "finished, without test data")
    assert hstnn("report", str(tmp_path)).code == 0
    assert hstnn("runs", "show", str(tmp_path / "mine")).code == 0


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    out = tmp_path / "run"
    half = fit(network(), (X, Y), epochs=4, out=out, observer=Stop(3))
    assert half.interrupted
    assert len(half.rows) == 2
    assert "resume=True" in half.notes[-1]
    with pytest.raises(RunError, match="already contains a training"):
        fit(network(), (X, Y), epochs=4, out=out)
    # The weights that it goes on with are the folder's, whatever it is called with.
    whole = fit(network(seed=5), (X, Y), epochs=4, out=out, resume=True)
    assert not whole.interrupted
    assert equal(whole, fit(network(), (X, Y), epochs=4))
    assert equal(fit(network(), (X, Y), epochs=4, out=out, resume=True), whole)


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"lr": 0.5}, "train.lr"), ({"train": (2 * X, Y)}, "data.sha256.train"), ({"seed": 3}, "seed")],
)
def test_another_training_does_not_go_on_in_a_folder(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    fit(network(), (X, Y), out=tmp_path / "run")
    data = changed.pop("train", (X, Y))
    with pytest.raises(RunError, match=what):
        fit(network(), data, out=tmp_path / "run", resume=True, **changed)


def test_resume_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="needs a folder"):
        fit(network(), (X, Y), resume=True)


# ------------------------------------------------------------------------------------------------------------ Ctrl-C


def test_ctrl_c_gives_what_is_finished() -> None:
    found = fit(network(), (X, Y), epochs=5, test=HOLD, observer=Stop(3))
    assert found.interrupted
    assert len(found.rows) == 2
    assert found.test is None
    assert "interrupted after 2 epochs" in found.notes[-1]
    assert "2 of 5 epochs, interrupted" in repr(found)
    assert equal(found, fit(network(), (X, Y), epochs=2))


def test_ctrl_c_before_an_epoch_is_finished_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(network(), (X, Y), observer=Stop(1))


# ------------------------------------------------------------------------------------------------- networks, observers


def test_a_hybrid_network_is_trained_on_in_its_stage(tmp_path: Path) -> None:
    changes = ["network.units=[6,5]", "adapt.epochs=1", "restore.epochs=1", "selection.probes=2", "batch=200"]
    recipe = hd.load_recipe("digits", changes)
    adapted, _, restored = hd.train_recipe(recipe, tmp_path / "runs")
    data = (X.repeat(2, axis=2), Y)
    for run, stage in ((adapted, "adapt"), (restored, "restore")):
        net = hd.load_network(run.best)
        found = fit(net, data, epochs=1, out=tmp_path / stage)
        assert found.checkpoint.stage == stage
        assert found.network.sizes == net.sizes
        assert read_run(RunFolder(tmp_path / stage)) is not None
    for kind in ("snn", "lstm", "ffs"):
        (run,) = hd.train_recipe(hd.load_recipe("digits", [*changes, f"kind={kind}"]), tmp_path / "runs")
        found = fit(hd.load_network(run.best), data, epochs=1, out=tmp_path / kind)
        assert (found.checkpoint.recipe["kind"], found.checkpoint.stage) == (kind, "train")
        assert read_run(RunFolder(tmp_path / kind)).sizes == found.network.sizes  # type: ignore[union-attr]


def test_what_is_known_of_an_imported_network_stays() -> None:
    net = network()
    net.origin = {"source": "elsewhere"}
    assert fit(net, (X, Y), epochs=1).checkpoint.origin == {"source": "elsewhere"}
    assert Checkpoint.of_network(net).came_from == "elsewhere"


def test_several_observers_hear_of_every_epoch() -> None:
    class Heard(hd.Observer):
        def __init__(self) -> None:
            self.epochs: list[int] = []

        def epoch_done(self, row: dict[str, Any]) -> None:
            self.epochs.append(row["epoch"])

    one, two = Heard(), Heard()
    fit(network(), (X, Y), observer=[one, two])
    assert one.epochs == two.epochs == [1, 2]
    assert one.counts == "samples"


@pytest.mark.parametrize("loss", ["mse", "count", {"name": "count", "correct": 0.9, "incorrect": 0.1}])
def test_losses_by_name_and_with_their_options(loss: Any) -> None:
    assert fit(network(), (X, Y), loss=loss).checkpoint.recipe["loss"]["name"] in {"mse", "count"}


def test_options_reach_the_recipe() -> None:
    found = fit(
        network(),
        (X, Y),
        optimiser="sgd",
        momentum=0.9,
        weight_decay=1e-4,
        clip=1.0,
        schedule={"name": "cosine", "factor": 0.1},
    )
    stage = found.checkpoint.recipe["train"]
    assert (stage["optimiser"], stage["momentum"], stage["clip"]) == ("sgd", 0.9, 1.0)
    assert stage["schedule"]["name"] == "cosine"
    assert found.curves["lr"][1] < found.curves["lr"][0]
    loader = DataLoader(Samples(), batch_size=30)
    assert fit(network(), loader, HOLD, batch=None).checkpoint.recipe["batch"] == 30


# ------------------------------------------------------------------------------------------------------------- shown


def test_a_history_shows_itself_in_a_line_a_table_and_a_picture() -> None:
    found = fit(network(), (X, Y), test=HOLD, epochs=3)
    assert len(repr(found)) < 200
    assert "best epoch" in repr(found)
    page = found._repr_html_()
    assert page.count("<polyline") == 4
    assert "<table>" in page
    assert json.dumps(found.curves)
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found)
    text = console.export_text()
    assert "train loss" in text
    assert "best" in text
    one = fit(network(), (X, Y), epochs=1)
    assert "nan" not in one.svg().lower()
    assert repr(hd.evaluate(found.network, HOLD)).startswith("<Evaluation: accuracy")


def test_to_pandas_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(network(), (X, Y))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pandas is not installed") as refused:
        found.to_pandas()
    assert "curves" in refused.value.hint
    fake = ModuleType("pandas")
    fake.DataFrame = lambda columns: SimpleNamespace(columns=columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", fake)
    assert found.to_pandas().columns == found.curves


def test_evaluate_keeps_its_older_form() -> None:
    from hstnn_deploy.data.splits import ArraySplit
    from hstnn_deploy.models.tasks import Classification

    net, split = network(), ArraySplit(torch.from_numpy(X), torch.from_numpy(Y))
    cpu = torch.device("cpu")
    old = hd.evaluate(net, Classification(), split, 20, cpu)
    assert old == evaluation.evaluate(net, Classification(), split, 20, cpu)
    assert hd.evaluate(net, task=Classification(), split=split, size=20, device=cpu) == old
    new = hd.evaluate(network=net, data=split, batch=20)
    assert (new.loss, new.score, new.count) == (old["loss"], old["accuracy"], COUNT)
    assert STEPS == 5
