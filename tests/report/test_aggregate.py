"""From run folders to studies: what belongs together does, what does not never, and nothing is averaged silently."""

import json
from pathlib import Path

import pytest
import yaml

from hstnn_deploy.errors import RunError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.report import sheets
from hstnn_deploy.report.aggregate import Cell, Study, studies
from hstnn_deploy.report.collect import collect
from tests.conftest import settings
from tests.report.conftest import PUBLISHED, recipe_for, study_of, write_run, write_sweep


def cell(study: Study, name: str) -> Cell:
    (found,) = [one for one in study.cells if str(one.network) == name and one.stage != "adapt"]
    return found


def column(sheet: sheets.Sheet, name: str) -> list[str]:
    """Return a column as text, by its heading or "group: heading"."""
    names = [f"{one.group}: {one.name}" if one.group else one.name for one in sheet.columns]
    return [row[names.index(name)].text for row in sheet.rows]


def test_rows_are_the_recurrent_network_each_ratio_and_the_spiking_one(sweep: Path) -> None:
    sheet = sheets.summary(study_of(sweep))
    assert column(sheet, "network") == ["rnn", "0.25", "0.5", "0.75", "snn"]
    assert column(sheet, "ffs: mean") == ["82.00", "84.50", "87.00", "89.50", "72.00"]
    assert column(sheet, "hybrid: mean") == ["82.00", "93.00", "94.00", "95.00", "72.00"]
    assert column(sheet, "ffs: sd") == ["1.00"] * 5
    assert column(sheet, "hybrid: ± 95 %") == ["2.48"] * 5
    assert "best epoch chosen on a validation split" in sheet.notes[0]
    assert not any("incomplete" in note for note in sheet.notes)


def test_every_seed_has_a_column_and_the_redundant_network_a_row(sweep: Path) -> None:
    sheet = sheets.by_seed(study_of(sweep))
    names = ["rnn", "ffs 0.25", "hybrid 0.25", "ffs 0.5", "hybrid 0.5", "ffs 0.75", "hybrid 0.75", "snn"]
    assert column(sheet, "network") == [*names, "hybrid redundant"]
    assert column(sheet, "seed: 2") == ["82.00", "84.50", "93.00", "87.00", "94.00", "89.50", "95.00", "72.00", "97.00"]


def test_published_figures_and_the_difference_stand_beside(tmp_path: Path) -> None:
    study = study_of(write_sweep(tmp_path, changes={"published": PUBLISHED}))
    sheet = sheets.summary(study)
    assert column(sheet, "ffs: published") == ["80.00", "81.00", "82.00", "", "70.00"]
    assert column(sheet, "ffs: difference") == ["+2.00", "+3.50", "+5.00", "", "+2.00"]
    assert column(sheet, "hybrid: published") == ["80.00", "91.00", "", "92.00", "70.00"]
    assert column(sheet, "hybrid: difference") == ["+2.00", "+2.00", "", "+3.00", "+2.00"]
    notes = " ".join(sheet.notes)
    assert "Published: a table." in notes
    assert "another protocol" not in notes
    assert "differ from the shipped recipe digits" in notes
    assert "network.units is [6, 5], not [128, 128]" in notes


def test_published_figures_of_another_protocol_are_said_to_be(tmp_path: Path) -> None:
    study = study_of(write_sweep(tmp_path, changes={"published": PUBLISHED.replace("validation", "test")}))
    assert any("from another protocol" in note for note in sheets.summary(study).notes)


def test_what_was_published_of_vanilla_units_does_not_stand_beside_lstm_units(tmp_path: Path) -> None:
    changes = {"published": PUBLISHED, "network.recurrent": "lstm"}
    write_run(tmp_path, recipe_for("ffs", 0.25, changes=changes), 50.0)
    assert cell(study_of(tmp_path), "ffs-lstm 0.25").published is None


def test_lstm_units_have_columns_and_a_row_of_their_own(tmp_path: Path) -> None:
    write_sweep(tmp_path, seeds=[1])
    write_run(tmp_path, recipe_for("lstm", changes={"network.recurrent": "lstm"}), 60.0)
    write_run(tmp_path, recipe_for("ffs", 0.5, changes={"network.recurrent": "lstm"}), 61.0)
    study = study_of(tmp_path)
    assert study.rows == ["rnn", "lstm", "0.25", "0.5", "0.75", "snn"]
    assert study.families == ["ffs", "hybrid", "ffs-lstm"]
    assert column(sheets.summary(study), "ffs-lstm: mean")[3] == "61.00"


def test_a_cell_that_lacks_a_seed_is_marked_and_says_why(sweep: Path) -> None:
    write_run(sweep, recipe_for("rnn", seed=4), 84.0)
    write_run(sweep, recipe_for("snn", seed=4), None, state="running")
    write_run(sweep, recipe_for("ffs", 0.25, seed=4), None, state="failed", error="out of\nmemory")
    write_run(sweep, recipe_for("ffs", 0.5, seed=4), None, state="interrupted")
    killed = write_run(sweep, recipe_for("ffs", 0.75, seed=4), None)
    status = json.loads((killed.path / "status.json").read_text())
    (killed.path / "status.json").write_text(json.dumps(status | {"pid": 2**30}))
    study = study_of(sweep)
    summary, by_seed = sheets.summary(study), sheets.by_seed(study)
    assert column(summary, "ffs: mean") == ["82.50", "84.50 *", "87.00 *", "89.50 *", "72.00 *"]
    assert column(by_seed, "seed: 4")[:4] == ["84.00", "failed", "–", "interrupted"]
    assert column(by_seed, "seed: 4")[7] == "running"
    for note in (
        "* snn is incomplete, 3 of 4 seeds: seed 4 running, 1 of 2 epochs done.",
        "* ffs 0.25 is incomplete, 3 of 4 seeds: seed 4 failed: out of memory.",
        "* ffs 0.5 is incomplete, 3 of 4 seeds: seed 4 interrupted, 1 of 2 epochs done.",
        "* ffs 0.75 is incomplete, 3 of 4 seeds: seed 4 killed, 1 of 2 epochs done.",
        "* hybrid 0.75 is incomplete, 3 of 4 seeds: seed 4 without a readable run.",
    ):
        assert note in summary.notes


def test_a_selection_that_waits_for_its_restoration_is_not_begun(sweep: Path) -> None:
    run = write_run(sweep, recipe_for("hybrid", 0.25, seed=2), 1.0)
    for name in ("status.json", "recipe.yaml", "metrics.jsonl", "environment.json"):
        (run.path / name).unlink()
    assert cell(study_of(sweep), "hybrid 0.25").missing == {2: "not begun"}


def test_a_job_that_failed_before_it_wrote_a_recipe_counts_as_missing(sweep: Path) -> None:
    run = write_run(sweep, recipe_for("rnn", seed=2), None, state="failed", error="killed")
    (run.path / "recipe.yaml").unlink()
    study = study_of(sweep)
    assert cell(study, "rnn").missing == {2: "failed: killed"}


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    sheet = sheets.summary(study_of(write_sweep(tmp_path, seeds=[7])))
    assert column(sheet, "ffs: sd") == ["n/a"] * 5
    assert column(sheet, "hybrid: ± 95 %") == ["n/a"] * 5
    assert any("one seed only" in note for note in sheet.notes)


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"protocol": "test"}, "protocol test"),
        ({"adapt.epochs": 3}, "adapt.epochs 3"),
        ({"network.units": [6, 6]}, "network.units [6, 6]"),
        ({"restore.lr": 0.5}, "restore.lr 0.5"),
        ({"selection.probes": 5}, "selection.probes 5"),
    ],
)
def test_runs_of_other_recipes_are_never_mixed(tmp_path: Path, change: dict[str, object], telling: str) -> None:
    write_sweep(tmp_path / "a", seeds=[1])
    write_run(tmp_path / "b", recipe_for("hybrid", 0.5, seed=2, changes=change), 10.0)
    found = studies(collect([tmp_path]).runs)
    assert len(found) == 2
    assert telling in found[1].title
    assert cell(found[0], "hybrid 0.5").values == {1: 93.0}
    assert cell(found[1], "hybrid 0.5").values == {2: 10.0}


def test_the_steps_of_weights_on_devices_are_rows_of_one_table_in_order(tmp_path: Path) -> None:
    for place, step in enumerate(("prune", "recover", "vat", "baseline")):
        for seed in (1, 2):
            changes = settings({"network.weights.step": step, "seed": seed, "train.epochs": 1})
            write_run(tmp_path, load_recipe("rram-digits", changes), 80.0 + place + seed, stage="train")
    (study,) = studies(collect([tmp_path]).runs)
    assert study.title == "rram-digits"
    assert study.rows == ["baseline", "vat", "recover", "prune"]
    assert cell(study, "recover").values == {1: 82.0, 2: 83.0}
    table = sheets.summary(study)
    assert [row[0].text for row in table.rows] == study.rows
    assert any("had a new draw of the weights' variation" in note for note in table.notes)
    (clean,) = studies(collect([tmp_path / "rram-digits/plain/seed1/baseline"]).runs)
    assert not any("variation" in note for note in sheets.summary(clean).notes)


def test_pure_networks_stand_beside_every_way_of_restoring(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", seeds=[1])
    write_run(tmp_path / "b", recipe_for("hybrid", 0.5, changes={"restore.lr": 0.5}), 10.0)
    for study in studies(collect([tmp_path]).runs):
        assert cell(study, "rnn").values == {1: 81.0}
    # What a pure network does not depend on makes no other study of it.
    write_run(tmp_path / "c", recipe_for("snn", seed=2, changes={"restore.lr": 0.9, "selection.probes": 9}), 10.0)
    assert len(studies(collect([tmp_path]).runs)) == 2


def test_a_seed_that_is_there_twice_counts_once(sweep: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "zz", recipe_for("rnn", seed=1), 12.0)
    study = study_of(tmp_path)
    assert cell(study, "rnn").values == {1: 81.0, 2: 82.0, 3: 83.0}
    assert any("rnn, seed 1, exists twice" in note for note in study.notes)
    # The same folder reached by two paths is one run.
    assert study_of(sweep, sweep / "digits").notes == []


def test_a_damaged_folder_is_a_problem_and_hides_no_other(sweep: Path) -> None:
    (sweep / "digits/rnn/seed1/status.json").write_text('{"sta')
    (sweep / "digits/snn/seed1/stage.yaml").write_text("[")
    (sweep / "digits/ffs-0.5/seed1/status.json").write_text('{"state": "finished"}')
    (sweep / "digits/ffs-0.25/seed1/status.json").write_text('{"state": "running", "epoch": "x"}')
    (sweep / "digits/hybrid/seed1/ratio-0.5/selection.json").write_text("{}")
    collected = collect([sweep])
    assert [problem.split(" is damaged")[0].rpartition("/digits/")[2] for problem in collected.problems] == [
        "ffs-0.25/seed1/status.json",
        "ffs-0.5/seed1/status.json",
        "hybrid/seed1/ratio-0.5/selection.json",
        "rnn/seed1/status.json",
        "snn/seed1/stage.yaml",
    ]
    (study,) = studies(collected.runs)
    assert set(cell(study, "rnn").missing) == {1}
    assert cell(study, "hybrid 0.75").whole


def test_a_run_of_a_newer_version_is_said_to_be(sweep: Path) -> None:
    path = sweep / "digits/rnn/seed1"
    recipe = yaml.safe_load((path / "recipe.yaml").read_text())
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"novelty": 1}))
    (path / "environment.json").write_text(json.dumps({"versions": {"hstnn-deploy": "9.1"}}))
    (problem,) = collect([sweep]).problems
    assert "unknown key 'novelty'" in problem
    assert "written by hstnn-deploy 9.1; this is 0.1.0" in problem


def test_only_damaged_folders_are_an_error(tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe_for("rnn"), 1.0)
    (run.path / "status.json").write_text("{")
    with pytest.raises(RunError, match="nothing to report in") as refused:
        collect([tmp_path])
    assert "status.json is damaged" in refused.value.hint


def test_kept_units_and_their_stability(sweep: Path) -> None:
    sheet = sheets.kept(study_of(sweep))
    assert sheet is not None
    assert len(sheet.rows) == 9
    # 11 units, ratio 0.25: 3 spiking and 8 recurrent ones; `selected` keeps as many as it can in layer 1.
    assert [entry.text for entry in sheet.rows[0]] == ["hybrid 0.25", "1", "2", "6", "1", "2", "100.0"]
    assert sheets.kept(study_of(sweep / "digits/rnn")) is None


def test_every_run_is_listed(sweep: Path) -> None:
    write_run(sweep, recipe_for("snn", seed=9), None)
    sheet = sheets.every_run(study_of(sweep))
    assert len(sheet.rows) == 28
    assert column(sheet, "state").count("finished") == 27
    assert column(sheet, "training: s/epoch").count("0.5") == 27


def test_what_was_doubtful_of_the_best_epoch_stands_beside_its_network(tmp_path: Path) -> None:
    for seed, at in ((1, 2), (2, 1)):
        run = write_run(tmp_path, recipe_for("snn", seed=seed), 10.0)
        rows = [row | ({"warnings": ["layer 1 is dumb"]} if row["epoch"] == at else {}) for row in run.metrics()]
        (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = study_of(tmp_path)
    # Epoch 2 is the best; what was doubtful of epoch 1 is no longer.
    assert [note for note in study.notes if "dumb" in note] == ["snn, seed 1: layer 1 is dumb."]
    assert "snn, seed 1: layer 1 is dumb." in sheets.summary(study).notes


@pytest.mark.parametrize("said", [None, 7, "text", [3]])
def test_a_row_with_odd_warnings_is_read(said: object, tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe_for("snn"), 10.0)
    rows = [row | {"warnings": said} for row in run.metrics()]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert study_of(tmp_path).runs[0].warnings == []


def test_folders_that_are_named_beside_each_other_are_kept_apart(tmp_path: Path) -> None:
    for folder, value in (("before/runs", 81.0), ("after/runs", 91.0)):
        write_run(tmp_path / folder, recipe_for("rnn", seed=1), value)
    first, second = studies(collect([tmp_path / "before/runs", tmp_path / "after/runs"]).runs)
    assert [cell(study, "rnn").values for study in (first, second)] == [{1: 81.0}, {1: 91.0}]
    # Both are called runs: their paths tell them apart.
    assert [study.title for study in (first, second)] == [
        f"digits, {tmp_path / folder}" for folder in ("before/runs", "after/runs")
    ]
    assert first.notes == second.notes == []
    (tmp_path / "before/runs").rename(tmp_path / "before/old")
    titles = [study.title for study in studies(collect([tmp_path / "before/old", tmp_path / "after/runs"]).runs)]
    assert titles == ["digits, old", "digits, runs"]


def test_folders_of_other_seeds_are_one_study(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / str(seed), recipe_for("rnn", seed=seed), 80.0 + seed)
    (study,) = studies(collect([tmp_path / "1", tmp_path / "2"]).runs)
    assert study.title == "digits"
    assert cell(study, "rnn").values == {1: 81.0, 2: 82.0}


@pytest.mark.parametrize(
    ("change", "left_out"),
    [("network.units=[8, 8]", True), ("adapt.epochs=2", True), ("adapt.lr=0.5", False), ("batch=7", False)],
)
def test_published_figures_are_left_out_where_size_or_epochs_are_others(
    tmp_path: Path, change: str, left_out: bool
) -> None:
    write_run(tmp_path, load_recipe("smnist", ["kind=rnn", "seed=1", change]), 90.0)
    study = study_of(tmp_path)
    assert (study.published is None) == left_out
    assert (cell(study, "rnn").published is None) == left_out
    said = " ".join(sheets.summary(study).notes)
    assert f"differ from the shipped recipe smnist: {change.partition('=')[0]} is" in said
    assert ("The published figures belong to that recipe, so they are left out." in said) == left_out
    assert ("Published:" in said) != left_out


def test_published_figures_stand_beside_the_recipe_itself(tmp_path: Path) -> None:
    write_run(tmp_path, load_recipe("smnist", ["kind=rnn", "seed=1"]), 90.0)
    assert cell(study_of(tmp_path), "rnn").published is not None
