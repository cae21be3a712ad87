"""The stages on real data: the same bits every time, interrupted or not; nothing done twice; nothing mixed up."""

import copy
import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.digits import DigitsConfig, load_digits
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.errors import CheckpointError, RunError, UsageError
from hstnn_deploy.models.shrink import shrink
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import loop, stages
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.train.observer import Observer
from hstnn_deploy.train.ranking import SelectionResult
from hstnn_deploy.train.recipe import Recipe, load_recipe
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.tasks import Classification
from tests.conftest import TINY, settings
from tests.contents import comparable, contents, raw

EVENTS = ("stage_started", "batch_done", "epoch_done", "stage_finished", "probes_started", "probe_done", "note")


def tiny(**changes: object) -> Recipe:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe("digits", settings({**TINY, **keys}))


class Listener(Observer):
    """Writes down what happens and, if asked to, presses Ctrl-C at the n-th event of a kind."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        for event in EVENTS:
            setattr(self, event, self._listener(event, stop))

    def _listener(self, event: str, stop: tuple[str, int] | None) -> Callable[..., None]:
        def listen(*facts: Any) -> None:
            self.events.append((event, facts))
            if stop == (event, len(self.of(event))):
                raise KeyboardInterrupt

        return listen

    def of(self, event: str) -> list[tuple[Any, ...]]:
        return [facts for name, facts in self.events if name == event]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders of an uninterrupted hybrid."""
    out = tmp_path_factory.mktemp("whole")
    train(tiny(), out)
    return out


BASE = "digits/hybrid/seed1111"


def test_an_uninterrupted_run_leaves_a_folder_per_stage_with_all_it_promises(whole: Path) -> None:
    assert sorted(contents(whole)) == sorted(
        [f"{BASE}/{stage}/{file}" for stage in ("adapt", "ratio-0.5") for file in (*_FILES, "best.pt", "last.pt")]
        + [f"{BASE}/ratio-0.5/selection.json"]
        + [f"{BASE}/traces/{file}" for file in ("recipe.yaml", "stage.yaml", "status.json", "traces.pt")]
    )
    for stage in ("adapt", "traces", "ratio-0.5"):
        run = RunFolder(whole / BASE / stage)
        assert run.finished
        environment = run.environment()
        assert environment["versions"]["torch"] == torch.__version__
        assert environment["threads"] == torch.get_num_threads()
        assert environment["device"] == "cpu"


_FILES = ("metrics.jsonl", "recipe.yaml", "stage.yaml", "status.json")


def test_the_recipe_in_a_run_folder_is_the_one_that_was_run(whole: Path) -> None:
    for stage in ("adapt", "traces", "ratio-0.5"):
        assert load_recipe(str(whole / BASE / stage / "recipe.yaml")) == tiny()


def test_every_epoch_has_a_row(whole: Path) -> None:
    for stage in ("adapt", "ratio-0.5"):
        rows = RunFolder(whole / BASE / stage).metrics()
        assert [row["epoch"] for row in rows] == [1, 2]
        assert {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "train_seconds"} < set(rows[0])
        assert all(0 <= row["valid_accuracy"] <= 100 for row in rows)


def test_checkpoints_say_what_they_are(whole: Path) -> None:
    adapted = Checkpoint.load(whole / BASE / "adapt" / "best.pt")
    restored = Checkpoint.load(whole / BASE / "ratio-0.5" / "best.pt")
    assert (adapted.stage, adapted.redundant, adapted.sizes) == ("adapt", True, [(6, 6), (5, 5)])
    assert (restored.stage, restored.redundant) == ("restore", False)
    assert restored.selection is not None
    assert restored.selection["counts"] == {"snn": 6, "rnn": 5}  # round(0.5 * 11) = 6 of 11
    assert [sum(size[n] for size in restored.sizes) for n in (0, 1)] == [6, 5]
    for checkpoint in (adapted, restored):
        assert checkpoint.metrics["protocol"] == "validation"
        assert checkpoint.metrics["test"]["samples"] == 360
        assert checkpoint.environment["versions"]["torch"] == torch.__version__
        assert checkpoint.resolved_recipe() == tiny()


def test_a_selection_holds_a_figure_for_every_unit(whole: Path) -> None:
    path = whole / BASE / "ratio-0.5" / "selection.json"
    selection = SelectionResult.model_validate_json(path.read_text())
    assert (selection.ratio, selection.probes, selection.bootstraps, selection.seed) == (0.5, 4, 10, 1111)
    assert [(unit.layer, unit.kind, len(unit.importance)) for unit in selection.units] == [
        (1, "snn", 6),
        (1, "rnn", 6),
        (2, "snn", 5),
        (2, "rnn", 5),
    ]


# Determinism.


def test_the_same_seed_gives_the_same_bits(whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # whatever was drawn before
    train(tiny(), tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_another_seed_gives_another_network(whole: Path, tmp_path: Path) -> None:
    train(tiny(seed=2222, adapt__epochs=1), tmp_path, stage="adapt")
    here = Checkpoint.load(tmp_path / "digits/hybrid/seed2222/adapt/last.pt").parameters
    there = Checkpoint.load(whole / BASE / "adapt" / "last.pt").parameters
    assert all(not torch.equal(value, there[name]) for name, value in here.items())


# Interruption. 7 batches an epoch; both trainings have 2 epochs, with 4 probes between them.

POINTS = [
    ("note", 1),
    ("stage_started", 1),
    ("batch_done", 1),
    ("batch_done", 7),
    ("batch_done", 10),
    ("epoch_done", 1),
    ("epoch_done", 2),
    ("stage_finished", 1),
    ("probes_started", 1),
    ("probe_done", 2),
    ("probe_done", 4),
    ("stage_finished", 2),
    ("stage_started", 2),
    ("batch_done", 18),
    ("batch_done", 23),
    ("epoch_done", 3),
    ("epoch_done", 4),
    ("stage_finished", 3),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[0]}-{point[1]}")
def test_an_interrupted_run_resumes_to_the_same_bits(whole: Path, tmp_path: Path, point: tuple[str, int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=point))
    train(tiny(), tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)


def test_an_interrupted_lstm_hybrid_resumes_to_the_same_bits(tmp_path: Path) -> None:
    changes = {"network__recurrent": "lstm"}
    train(tiny(**changes), tmp_path / "whole")
    for point in (("epoch_done", 1), ("probe_done", 2), ("epoch_done", 1)):
        with pytest.raises(KeyboardInterrupt):
            train(tiny(**changes), tmp_path / "cut", resume=True, observer=Listener(stop=point))
    train(tiny(**changes), tmp_path / "cut", resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_the_points_above_are_all_the_sorts_of_points_there_are(tmp_path: Path) -> None:
    listener = Listener()
    train(tiny(), tmp_path, observer=listener)
    counts = {event: len(listener.of(event)) for event in EVENTS}
    assert counts == {
        "stage_started": 2,
        "batch_done": 4 * 7,
        "epoch_done": 4,
        "stage_finished": 3,
        "probes_started": 1,
        "probe_done": 4,
        "note": 2,
    }
    assert all(number <= counts[event] for event, number in POINTS)


def test_a_run_that_is_interrupted_again_and_again_ends_at_the_same_bits(whole: Path, tmp_path: Path) -> None:
    for _ in range(20):
        try:
            train(tiny(), tmp_path, resume=True, observer=Listener(stop=("epoch_done", 1)))
        except KeyboardInterrupt:
            continue
        break
    assert contents(tmp_path) == contents(whole)


class Killed(BaseException):
    """Ends the process there and then: no handler in the program knows it."""


def test_a_run_killed_before_any_of_its_writes_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(kind="snn", batch=700)
    train(recipe, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    atomic, add = files.atomic, RunFolder.add_metrics
    left = 0

    def strike() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    @contextmanager
    def deadly(path: Path) -> Any:
        with atomic(path) as temporary:
            yield temporary
            strike()

    def deadly_add(run: RunFolder, row: dict[str, Any]) -> None:
        strike()
        add(run, row)

    monkeypatch.setattr(files, "atomic", deadly)
    monkeypatch.setattr(RunFolder, "add_metrics", deadly_add)
    for survived in range(100):
        out = tmp_path / f"killed-{survived}"
        left = survived
        try:
            train(recipe, out)
        except Killed:
            left = 1000
            train(recipe, out, resume=True)
            assert contents(out) == expected, survived
        else:
            break
    # stage, environment, status, recipe, metrics, status; two epochs of best, metrics, last, status; best and status.
    assert survived == 16


def test_an_interrupted_run_says_so_and_is_not_continued_by_accident(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("batch_done", 10)))
    run = RunFolder(tmp_path / BASE / "adapt")
    assert run.status()["state"] == "interrupted"
    assert run.status()["epoch"] == 1
    with pytest.raises(RunError, match="not finished") as refused:
        train(tiny(), tmp_path)
    assert "--resume" in refused.value.hint


def test_resuming_says_how_much_is_done(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("batch_done", 10)))
    listener = Listener()
    train(tiny(), tmp_path, stage="adapt", resume=True, observer=listener)
    assert listener.of("stage_started") == [("adapt", 2, 1)]
    assert [row["epoch"] for (row,) in listener.of("epoch_done")] == [2]


def test_a_resumed_epoch_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    class Draws(Observer):
        """Notes what a layer with dropout would draw first in each epoch."""

        def __init__(self, stop: int) -> None:
            self.stop = stop
            self.drawn: dict[int, float] = {}

        def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
            if batch == 1:
                self.drawn[epoch] = torch.rand(1).item()
                if epoch == self.stop:
                    raise KeyboardInterrupt

    recipe = tiny(kind="snn", batch=700, adapt__epochs=3)
    whole, first, then = Draws(0), Draws(2), Draws(0)
    train(recipe, tmp_path / "whole", observer=whole)
    torch.manual_seed(7)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", observer=first)
    torch.manual_seed(8)
    train(recipe, tmp_path / "resumed", resume=True, observer=then)
    assert {**first.drawn, **then.drawn} == whole.drawn
    assert len(set(whole.drawn.values())) == 3


def test_interrupted_traces_go_on_where_they_were_saved(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_SAVE_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("probe_done", 3)))
    listener = Listener()
    train(tiny(), tmp_path, resume=True, observer=listener)
    assert listener.of("probes_started") == [("select", 4, 2)]
    assert contents(tmp_path) == contents(whole)


def test_a_half_written_row_of_metrics_does_not_stop_a_resumption(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("epoch_done", 1)))
    with (tmp_path / BASE / "adapt" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "train_lo')
    train(tiny(), tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threads", 64, "thread count was 64, is 1"),
        ("device", "cuda:0", "device was cuda:0, is cpu"),
        ("versions", {"torch": "2.0"}, "torch was 2.0"),
    ],
)
def test_resuming_elsewhere_warns_that_the_bits_will_differ(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("epoch_done", 1)))
    path = tmp_path / BASE / "adapt" / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    listener = Listener()
    train(tiny(), tmp_path, stage="adapt", resume=True, observer=listener)
    notes = [text for (text,) in listener.of("note") if "bits" in text]
    assert len(notes) == 1
    assert message in notes[0]


# Sharing.


def test_a_finished_run_is_not_done_again(whole: Path) -> None:
    before = raw(whole)
    listener = Listener()
    for resume in (False, True):
        train(tiny(), whole, resume=resume, observer=listener)
    assert {name for name, _ in listener.events} == {"note"}
    assert raw(whole) == before


def test_another_ratio_shares_adaptation_and_traces_and_gets_what_it_would_get_alone(
    whole: Path, tmp_path: Path
) -> None:
    before = raw(whole)
    listener = Listener()
    runs = train(tiny(ratio=0.25), whole, observer=listener)
    assert [started[0] for started in listener.of("stage_started")] == ["restore"]
    assert not listener.of("probes_started")
    after = raw(whole)
    assert {path: after[path] for path in before} == before
    assert [run.path.name for run in runs] == ["adapt", "traces", "ratio-0.25"]
    train(tiny(ratio=0.25), tmp_path)
    alone, shared = (contents(out / BASE / "ratio-0.25") for out in (tmp_path, whole))
    assert shared == alone


def test_stages_can_be_run_one_by_one(whole: Path, tmp_path: Path) -> None:
    assert [run.path.name for run in train(tiny(), tmp_path, stage="adapt")] == ["adapt"]
    assert [run.path.name for run in train(tiny(), tmp_path, stage="select")] == ["traces", "ratio-0.5"]
    assert [run.path.name for run in train(tiny(), tmp_path, stage="restore")] == ["ratio-0.5"]
    expected = contents(whole)
    assert contents(tmp_path) == {name: expected[name] for name in expected if "ratio-0.25" not in name}


def test_restoration_starts_from_the_kept_units_of_the_best_adapted_network(tmp_path: Path) -> None:
    train(tiny(restore__epochs=1, restore__lr=1e-30), tmp_path)
    adapted = Checkpoint.load(tmp_path / BASE / "adapt" / "best.pt").network()
    selection = SelectionResult.model_validate_json((tmp_path / BASE / "ratio-0.5" / "selection.json").read_text())
    expected = shrink(adapted, selection.kept()).state_dict()
    found = Checkpoint.load(tmp_path / BASE / "ratio-0.5" / "last.pt").parameters
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("kind", "folder", "sizes"),
    [
        ("rnn", "rnn", [(0, 6), (0, 5)]),
        ("lstm", "lstm", [(0, 6), (0, 5)]),
        ("snn", "snn", [(6, 0), (5, 0)]),
        ("ffs", "ffs-0.25", [(2, 4), (1, 4)]),
    ],
)
def test_other_kinds_are_trained_in_one_stage(
    tmp_path: Path, kind: str, folder: str, sizes: list[tuple[int, int]]
) -> None:
    (run,) = train(tiny(kind=kind, ratio=0.25, adapt__epochs=1), tmp_path)
    assert run.path == tmp_path / "digits" / folder / "seed1111"
    best = Checkpoint.load(run.best)
    assert (best.stage, best.sizes, best.redundant) == ("train", sizes, False)
    with pytest.raises(UsageError, match="no stage 'select'"):
        train(tiny(kind=kind), tmp_path, stage="select")


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


def test_the_demos_protocol_is_marked_wherever_a_figure_stands(tmp_path: Path) -> None:
    listener = Listener()
    (run,) = train(tiny(kind="snn", protocol="test", adapt__epochs=1), tmp_path, observer=listener)
    result = run.status()["result"]
    assert result["protocol"] == "test"
    assert result["valid"]["valid_accuracy"] == result["test"]["accuracy"]
    assert Checkpoint.load(run.best).metrics["protocol"] == "test"
    assert "TEST split" in listener.of("stage_finished")[0][0]


# Refusals.


def test_stages_out_of_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished adaptation") as refused:
        train(tiny(), tmp_path, stage="select")
    assert "--stage adapt" in refused.value.hint
    with pytest.raises(RunError, match=r"no selection for ratio 0\.5") as refused:
        train(tiny(), tmp_path, stage="restore")
    assert "--stage select" in refused.value.hint
    assert not list(tmp_path.rglob("*.pt"))


def test_traces_are_not_taken_of_a_half_adapted_network(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("epoch_done", 1)))
    with pytest.raises(RunError, match="no finished adaptation"):
        train(tiny(), tmp_path, stage="select", resume=True)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("adapt", {"adapt__lr": 0.5}, r"adapt\.lr was 0\.001, is 0\.5"),
        ("select", {"selection__probes": 5}, r"selection\.probes was 4, is 5"),
        ("select", {"selection__bootstraps": 5}, r"selection\.bootstraps was 10, is 5"),
        ("restore", {"restore__epochs": 5}, r"restore\.epochs was 2, is 5"),
    ],
)
def test_a_folder_of_another_recipe_is_refused_naming_the_key(
    whole: Path, stage: stages.StageName, changes: dict[str, object], message: str
) -> None:
    before = raw(whole)
    for resume in (False, True):
        with pytest.raises(RunError, match=message):
            train(tiny(**changes), whole, stage=stage, resume=resume)
    assert raw(whole) == before


def test_a_selection_belongs_to_its_recipe_before_anything_is_restored(tmp_path: Path) -> None:
    train(tiny(), tmp_path, stage="adapt")
    train(tiny(), tmp_path, stage="select")
    for stage in ("select", "restore"):
        with pytest.raises(RunError, match=r"selection\.bootstraps was 10, is 5"):
            train(tiny(selection__bootstraps=5), tmp_path, stage=stage)


def test_two_ratios_that_share_a_folders_name_are_not_mixed_up(whole: Path) -> None:
    with pytest.raises(RunError, match=r"ratio was 0\.5, is 0\.5000001"):
        train(tiny(ratio=0.5000001), whole)


@pytest.mark.parametrize("key", ["inputs", "classes"])
def test_a_network_that_does_not_fit_the_data_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match=f"network.{key} is 9, but digits has"):
        train(tiny(**{f"network__{key}": 9}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_ratio_that_leaves_too_few_units_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves 1 spiking units for 2 layers"):
        train(tiny(ratio=0.1), tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def interrupted(out: Path) -> RunFolder:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), out, observer=Listener(stop=("epoch_done", 1)))
    return RunFolder(out / BASE / "adapt")


def test_a_damaged_last_checkpoint_is_refused(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.last.write_bytes(run.last.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        train(tiny(), tmp_path, resume=True)


def test_a_last_checkpoint_that_cannot_be_continued_is_refused(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.last.write_bytes(run.best.read_bytes())
    with pytest.raises(CheckpointError, match="no optimiser state"):
        train(tiny(), tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["parameters", "optimiser", "optimiser's groups", "training"])
def test_a_last_checkpoint_of_another_network_is_refused(tmp_path: Path, damage: str) -> None:
    run = interrupted(tmp_path)
    last = Checkpoint.load(run.last)
    assert last.training is not None
    match damage:
        case "parameters":
            last.parameters = {"other": torch.zeros(1)}
        case "optimiser":
            last.training["optimiser"] = {}
        case "optimiser's groups":
            last.training["optimiser"]["param_groups"] = []
        case _:
            last.training = {}
    last.save(run.last)
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(tiny(), tmp_path, resume=True)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_a_damaged_selection_is_refused(tmp_path: Path, whole: Path, text: str) -> None:
    for path, content in raw(whole / BASE).items():
        target = tmp_path / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (tmp_path / BASE / "ratio-0.5" / "selection.json").write_text(text)
    with pytest.raises(RunError, match=r"selection\.json is damaged"):
        train(tiny(), tmp_path, stage="restore")


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


def test_drawn_batches_hold_no_sample_twice_and_are_drawn_each_by_itself() -> None:
    order = loop._order(10, 8, 5, torch.Generator().manual_seed(0)).view(5, 8)
    assert all(len(set(batch.tolist())) == 8 for batch in order)
    assert len({tuple(batch.tolist()) for batch in order}) == 5
    assert sorted(loop._order(10, 8, None, torch.Generator()).tolist()) == list(range(10))


def test_drawn_batches_hold_all_samples_where_there_are_too_few(tmp_path: Path) -> None:
    listener = Listener()
    train(tiny(kind="snn", adapt__batches=2, adapt__epochs=1, batch=5000), tmp_path, observer=listener)
    assert [facts[1:] for facts in listener.of("batch_done")] == [(1, 2, 1293), (2, 2, 1293)]
