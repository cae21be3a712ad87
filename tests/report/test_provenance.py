"""Where figures come from: every value that differs, n/a where nobody wrote it down, and the recipe in full."""

import json
from pathlib import Path

from hstnn_deploy import environment, yaml_text
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.report.aggregate import studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.page import provenance
from hstnn_deploy.report.page.document import page
from hstnn_deploy.report.sheets import Sheet
from hstnn_deploy.train.stages import train
from tests.report.conftest import inference, recipe_for, records_of, study_of, write_run
from tests.train.stage_cases import tiny

FACTS = {
    "versions": {"hstnn-deploy": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
    "platform": "Linux-6", "cpu": "A processor", "cores": 2, "threads": 1, "device": "cpu",
    "git": {"commit": "b20960cd140680f326116b6fb55bad82b58a4266", "changed": True},
    "command": ["hstnn", "train", "digits", "--set", "a key=1"],
}  # fmt: skip


def table(*paths: Path) -> Sheet:
    collected = collect(paths)
    found = provenance.sheet(provenance.sources(studies(collected.runs), collected))
    assert found is not None
    return found


def facts(sheet: Sheet) -> dict[str, list[str]]:
    return {row[0].text: [entry.text for entry in row[1:]] for row in sheet.rows}


def test_what_a_run_folder_says_stands_in_the_table(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = write_run(tmp_path, recipe_for("rnn", seed=seed), 80.0)
        run.set_status("finished", started=f"2026-01-0{seed}T00:00:00Z")
        (run.path / "environment.json").write_text(json.dumps({**FACTS, "threads": seed, "host": "my-secret-host"}))
    sheet = table(tmp_path)
    assert [column.name for column in sheet.columns] == ["", "digits: 2 runs"]
    found = facts(sheet)
    assert found["when"][0].startswith("2026-01-01T00:00:00Z to ")
    assert found["processor"] == ["A processor"]
    assert found["threads"] == ["1\n2"]
    assert found["commit"] == ["b20960cd1406 with changes"]
    assert found["command"] == ["hstnn train digits --set 'a key=1'"]
    assert found["other packages"] == ["numpy 2.4.6"]
    assert "GPU" not in found
    assert "my-secret-host" not in str(found)
    assert sheet.notes == []


def test_what_old_run_folders_do_not_say_is_not_available(tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe_for("rnn"), 80.0)
    (run.path / "environment.json").unlink()
    sheet = table(tmp_path)
    found = facts(sheet)
    assert found["processor"] == found["command"] == found["commit"] == ["n/a"]
    assert sheet.notes == ["n/a: older versions of hstnn-deploy did not record it."]


def test_foreign_facts_of_another_sort_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe_for("rnn"), 80.0)
    strange = {"versions": "?", "git": {"commit": 7}, "command": "rm -rf", "cpu": None}
    (run.path / "environment.json").write_text(json.dumps(strange))
    found = facts(table(tmp_path))
    assert found["torch"] == found["commit"] == found["command"] == found["processor"] == ["n/a"]


def test_many_commands_are_counted_and_records_have_a_column(tmp_path: Path) -> None:
    for seed in range(1, 8):
        run = write_run(tmp_path / "runs", recipe_for("rnn", seed=seed), 80.0)
        (run.path / "environment.json").write_text(json.dumps({**FACTS, "command": ["hstnn", "train", str(seed)]}))
    records_of(tmp_path / "records.jsonl", [inference()])
    sheet = table(tmp_path)
    assert [column.name for column in sheet.columns[1:]] == ["digits: 7 runs", "1 profile record"]
    assert facts(sheet)["command"] == ["hstnn train 1\n… and 6 more", "n/a"]
    collected = collect([tmp_path / "runs"])
    every = provenance.commands(provenance.sources(studies(collected.runs), collected))
    assert every.splitlines() == ["# digits: 7 runs", *(f"hstnn train {seed}" for seed in range(1, 8))]


def test_the_recipe_in_full_is_one_that_can_be_trained(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path, recipe_for("ffs", 0.25, seed), 80.0)
    text = provenance.recipe(study_of(tmp_path))
    assert "# seed: 1, 2\n" in text
    assert "# ratio: 0.25\n" in text
    again = parse(yaml_text.parse(text) | {"kind": "ffs", "ratio": 0.25, "seed": 1}, "the page")
    assert again == recipe_for("ffs", 0.25, 1)


def test_the_page_has_table_and_recipe(tmp_path: Path) -> None:
    write_run(tmp_path, recipe_for("rnn"), 80.0)
    collected = collect([tmp_path])
    text = page(studies(collected.runs), collected)
    assert '<section id="provenance">' in text
    assert "<summary>Recipe of digits</summary><pre># Varied" in text


def test_a_training_writes_down_its_command_but_not_into_the_checkpoint(tmp_path: Path) -> None:
    (run,) = train(tiny(kind="snn"), tmp_path)
    assert run.environment()["command"] == environment.command()
    from hstnn_deploy.checkpoint import Checkpoint

    assert "command" not in Checkpoint.load(run.best).environment
