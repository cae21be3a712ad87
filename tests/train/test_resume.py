"""The same bits every time, interrupted or not: at any point, by any means, again and again."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import CheckpointError, RunError
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import stages
from hstnn_deploy.train.observer import Observer
from hstnn_deploy.train.stages import train
from tests.contents import contents
from tests.train.stage_cases import BASE, EVENTS, Listener, tiny

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
    with pytest.raises(RunError, match="unfinished run") as refused:
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
def test_resuming_elsewhere_warns_that_the_result_may_differ(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, observer=Listener(stop=("epoch_done", 1)))
    path = tmp_path / BASE / "adapt" / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    listener = Listener()
    train(tiny(), tmp_path, stage="adapt", resume=True, observer=listener)
    notes = [text for (text,) in listener.of("note") if "uninterrupted" in text]
    assert len(notes) == 1
    assert message in notes[0]


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


@pytest.mark.parametrize(
    "damage", ["parameters", "optimiser", "optimiser's groups", "optimiser's shapes", "best", "training"]
)
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
        case "optimiser's shapes":
            last.training["optimiser"]["state"][0]["exp_avg"] = torch.zeros(1)
        case "best":
            last.training["best"] = {"valid_loss": "low"}
        case _:
            last.training = {}
    last.save(run.last)
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(tiny(), tmp_path, resume=True)
