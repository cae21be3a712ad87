"""One row for each network, its classes and its spikes: from what `hstnn evaluate --save` and records say, else n/a."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy import files
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.report import networks
from hstnn_deploy.report.aggregate import studies
from hstnn_deploy.report.collect import Collected, collect
from hstnn_deploy.report.page.document import page
from hstnn_deploy.report.sheets import Sheet
from hstnn_deploy.train.fitting.behaviour import FILE, Behaviour, Layer
from hstnn_deploy.train.stages import train
from tests.conftest import Hstnn
from tests.report.conftest import inference, recipe_for, records_of, study_of, write_run
from tests.report.views import View
from tests.train.stage_cases import tiny


def write(folder: Path, recipe: Recipe, value: float, confusion: list[list[int]] | None = None, **more: Any) -> Path:
    """Write a run whose network was evaluated; return the evaluation's file."""
    run = write_run(folder, recipe, value)
    run.best.write_bytes(b"a checkpoint")
    facts: dict[str, Any] = {"checkpoint_sha256": files.sha256(run.best), "split": "test", "samples": 6}
    facts |= {"metric": "accuracy", "value": value, "parameters": 1234, "steps": 4, "names": ["a", "b", "c"]}
    layer = Layer(layer=1, units=70, rate=0.125, per_sample=35.0, shown=64, raster=[(0, 1), (3, 63)])
    facts |= {"layers": [layer], "confusion": confusion or [[2, 0, 0], [1, 1, 0], [0, 0, 2]]}
    files.write_json(run.path / FILE, Behaviour(**{**facts, **more}).model_dump(mode="json"))
    return run.path / FILE


def row(sheet: Sheet | None, name: str) -> dict[str, str]:
    assert sheet is not None
    heads = [column.name for column in sheet.columns]
    (found,) = [row for row in sheet.rows if row[0].text == name]
    return dict(zip(heads, (entry.text for entry in found), strict=True))


def test_a_row_has_accuracy_beside_what_the_network_takes(tmp_path: Path) -> None:
    for seed, value in ((1, 80.0), (2, 84.0)):
        write(tmp_path, recipe_for("ffs", 0.5, seed, changes={"batch": 100}), value)
    write_run(tmp_path, recipe_for("rnn", changes={"batch": 100}), 70.0)
    timed = inference(0.5, kind="ffs")
    costs = [("macs", 5000.0, "MAC"), ("acs", 250.0, "AC"), ("energy", 2.5e-8, "J")]
    counted = [Measured(name, number, unit, "a test") for name, number, unit in costs]
    records_of(tmp_path / "records.jsonl", [replace(timed, values=[*timed.values, *counted])])
    sheet = networks.sheet(collect([tmp_path]))
    found = row(sheet, "ffs 0.5")
    assert found["seeds"] == "2"
    assert found["test accuracy"] == "82.00"
    assert (found["parameters"], found["spikes"]) == ("1234", "35")
    assert (found["MACs"], found["ACs"], found["energy, nJ"]) == ("5000", "250", "25")
    assert found["one call, ms"] != "n/a"
    bare = row(sheet, "rnn")
    assert [bare[name] for name in ("parameters", "MACs", "spikes", "one call, ms")] == ["n/a"] * 4
    assert sheet is not None
    said = " ".join(sheet.notes)
    assert "run hstnn evaluate --ckpt RUN/best.pt --save." in said
    assert "run hstnn profile --ckpt RUN/best.pt --phases work,infer." in said


def test_there_is_no_table_without_a_finished_run(tmp_path: Path) -> None:
    records_of(tmp_path / "records.jsonl", [inference()])
    assert networks.sheet(collect([tmp_path])) is None


def test_classes_are_those_of_all_seeds_together(tmp_path: Path) -> None:
    for seed in (1, 2):
        write(tmp_path, recipe_for("rnn", seed=seed), 80.0)
    (sheet,) = networks.classes(study_of(tmp_path))
    table = [[entry.text for entry in row] for row in sheet.rows]
    # Both seeds: 4 of 4; 2 of 4, 2 taken for a; 4 of 4. Answers a: 6, of which 4 are right.
    assert table == [
        ["a", "4", "100.0", "66.7", "80.0", "–"],
        ["b", "4", "50.0", "100.0", "66.7", "a (50.0 %)"],
        ["c", "4", "100.0", "100.0", "100.0", "–"],
    ]
    assert "2 seeds together" in sheet.notes[0]


def test_a_class_without_samples_has_no_recall(tmp_path: Path) -> None:
    write(tmp_path, recipe_for("rnn"), 80.0, [[3, 0, 0], [0, 0, 0], [1, 0, 2]])
    (sheet,) = networks.classes(study_of(tmp_path))
    assert [entry.text for entry in sheet.rows[1]] == ["b", "0", "n/a", "n/a", "n/a", "–"]


def test_rates_come_from_the_run_s_own_metrics(tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe_for("snn"), 80.0)
    assert networks.rates(study_of(tmp_path)) is None
    rows = [json.loads(line) | {"spike_rate.layer1": 0.25} for line in (run.path / "metrics.jsonl").open()]
    files.write_text(run.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_run(tmp_path, recipe_for("rnn"), 80.0)
    sheet = networks.rates(study_of(tmp_path))
    assert sheet is not None
    assert {row[0].text: row[1].text for row in sheet.rows} == {"rnn": "n/a", "snn": "25"}


def test_an_old_run_folder_says_what_would_make_it(tmp_path: Path) -> None:
    write_run(tmp_path, recipe_for("rnn"), 80.0)
    collected = collect([tmp_path])
    text = page(studies(collected.runs), collected)
    assert "Confusion matrix and spike raster: n/a; run hstnn evaluate --ckpt RUN/best.pt --save." in text


DAMAGED = {
    "is not an evaluation": "{}",
    "is of version 2": '{"format": "hstnn-evaluation", "version": 2}',
    "is damaged": '{"format": "hstnn-evaluation", "version": 1, "confusion": [[1], [2]]}',
    "cannot be read": "{",
}


@pytest.mark.parametrize("said", DAMAGED)
def test_a_damaged_file_is_a_problem_and_hides_no_run(tmp_path: Path, said: str) -> None:
    write(tmp_path, recipe_for("rnn"), 80.0).write_text(DAMAGED[said])
    collected = collect([tmp_path])
    assert [run.behaviour for run in collected.runs] == [None]
    (problem,) = collected.problems
    assert said in problem or said == "cannot be read"
    assert FILE in problem


def test_a_confusion_matrix_that_is_not_square_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, recipe_for("rnn"), 80.0)
    plain = json.loads(path.read_text())
    for wrong in ([[1, 2, 3]], [[1, -1], [0, 1]]):
        path.write_text(json.dumps(plain | {"confusion": wrong, "names": []}))
        assert "is damaged" in collect([tmp_path]).problems[0]


def test_an_evaluation_of_another_checkpoint_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, recipe_for("rnn"), 80.0)
    (path.parent / "best.pt").write_bytes(b"trained again")
    collected = collect([tmp_path])
    assert collected.runs[0].behaviour is None
    assert "belongs to another checkpoint" in collected.problems[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (run,) = train(tiny(kind="snn"), tmp_path_factory.mktemp("trained"))
    return run.path


def test_evaluate_writes_what_the_report_reads(trained: Path, hstnn: Hstnn) -> None:
    result = hstnn("evaluate", "--ckpt", trained / "best.pt", "--save", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    measured = json.loads(result.out)
    (run,) = collect([trained]).runs
    seen = run.behaviour
    assert seen is not None
    assert seen.value == measured["accuracy"] == run.value
    right = sum(row[place] for place, row in enumerate(seen.confusion))
    assert sum(map(sum, seen.confusion)) == seen.samples == measured["samples"]
    assert 100 * right / seen.samples == pytest.approx(seen.value)
    for layer in seen.layers:
        assert layer.per_sample == pytest.approx(layer.rate * layer.units * 8)
        assert all(0 <= step < seen.steps and 0 <= unit < layer.shown for step, unit in layer.raster)
    assert [layer.layer for layer in seen.layers] == [1, 2]


@pytest.mark.parametrize("words", [["--early-exit"], ["--recipe", "digits"]])
def test_save_is_for_one_pass_on_the_recipe_s_own_data(trained: Path, hstnn: Hstnn, words: list[str]) -> None:
    result = hstnn("evaluate", "--ckpt", trained / "best.pt", "--save", *words)
    assert result.code == 2
    assert "--save needs a single pass" in result.err


def test_the_page_draws_matrix_and_raster(browser: Any, tmp_path: Path) -> None:
    write(tmp_path, recipe_for("snn"), 80.0)
    collected: Collected = collect([tmp_path])
    path = tmp_path / "report.html"
    path.write_text(page(studies(collected.runs), collected), encoding="utf-8")
    shown = View(browser, path, viewport={"width": 1200, "height": 900})
    assert shown.figure("confusion").locator("svg[role=img] rect").count() == 9
    assert "the first 64 of 70 spiking units" in shown.figure("raster").inner_text()
    raster = shown.figure("raster").locator("svg[role=img]").first
    raster.focus()
    said = set()
    for _ in range(2):
        shown.page.keyboard.press("ArrowRight")
        said.add(shown.figure("raster").locator(".tip").inner_text().splitlines()[-1])
    assert said == {"step 0, unit 1", "step 3, unit 63"}
    with shown.page.expect_download() as waiting:
        shown.figure("confusion").get_by_role("button", name="Download Confusion matrix as CSV").click()
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[0] == "class,answer,samples"
    assert "b,a,1" in lines
    assert shown.trouble == []
    shown.page.close()
