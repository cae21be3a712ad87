"""The stages on real data: what each leaves behind; nothing done twice; nothing mixed up."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch

from hstnn_deploy import checkpoint
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import CheckpointError, RunError, UsageError
from hstnn_deploy.models.hybrid.network import as_hybrid
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import stages
from hstnn_deploy.train.ranking import SelectionResult
from hstnn_deploy.train.stages import train
from tests.contents import contents, raw
from tests.train.stage_cases import BASE, Listener, tiny


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
        assert environment["versions"]["torch"] == metadata.version("torch")
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
    for each in (adapted, restored):
        assert each.metrics["protocol"] == "validation"
        assert each.metrics["test"]["samples"] == 360
        assert each.environment["versions"]["torch"] == metadata.version("torch")
        assert each.resolved_recipe() == tiny()


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
    expected = shrink(as_hybrid(adapted), selection.kept()).state_dict()
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


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_a_damaged_selection_is_refused(tmp_path: Path, whole: Path, text: str) -> None:
    for path, content in raw(whole / BASE).items():
        target = tmp_path / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (tmp_path / BASE / "ratio-0.5" / "selection.json").write_text(text)
    with pytest.raises(RunError, match=r"selection\.json is damaged"):
        train(tiny(), tmp_path, stage="restore")


# What lies in a run folder may be anybody's.


@pytest.mark.parametrize(
    ("layer", "kept"),
    [(2 * 10**12, [0]), (3, [0]), (2, [2**63 - 1]), (2, [2**64]), (2, [-1]), (2, [1, 0]), (2, [0, 0])],
)
def test_a_selection_of_what_is_not_there_is_refused(whole: Path, tmp_path: Path, layer: int, kept: list[int]) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    run = RunFolder(out / BASE / "ratio-0.5")
    for name in ("best.pt", "last.pt", "status.json"):
        (run.path / name).unlink()
    selection = json.loads(run.selection.read_text())
    selection["units"][-1] |= {"layer": layer, "kept": kept}
    run.selection.write_text(json.dumps(selection))
    with pytest.raises(RunError, match="not a selection from this network"):
        train(tiny(), out, stage="restore", device="cpu")


@pytest.mark.parametrize(
    "samples",
    [
        torch.zeros(4, 21, dtype=torch.float64),
        torch.zeros(0, 22, dtype=torch.float64),
        torch.zeros(4, 22),
        torch.zeros(1, dtype=torch.float64).expand(10**9, 22),
        [[0.0] * 22],
    ],
    ids=["too few", "no probes", "another type", "a shape alone", "lists"],
)
def test_traces_that_are_not_this_networks_are_refused(whole: Path, tmp_path: Path, samples: object) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    shutil.rmtree(out / BASE / "ratio-0.5")
    path = out / BASE / "traces" / "traces.pt"
    data = checkpoint.load(path, "traces")
    checkpoint.save(path, "traces", {**data, "samples": samples})
    with pytest.raises(CheckpointError, match="not traces of this network"):
        train(tiny(), out, stage="select", device="cpu")
    checkpoint.save(path, "traces", {**data, "groups": data["groups"][:-1]})
    with pytest.raises(CheckpointError, match="its groups differ from those of the network"):
        train(tiny(), out, stage="select", device="cpu")
    checkpoint.save(path, "traces", data)
    train(tiny(), out, stage="select", device="cpu")
