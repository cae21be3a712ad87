"""Run folders: claimed by one process, bound to one recipe, never left in doubt."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hstnn_deploy import files
from hstnn_deploy.errors import RunError
from hstnn_deploy.runs import RunFolder, find_runs

RECIPE = {"stage": "adapt", "adapt": {"epochs": 2, "lr": 0.1}, "units": [3, 4]}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "one")


def begin(run: RunFolder, recipe: dict[str, Any] = RECIPE, resume: bool = False) -> None:
    with run.open(recipe, {"cpu": "any"}, resume):
        pass


def test_nothing_is_made_before_it_is_opened(run: RunFolder) -> None:
    assert run.status() == {}
    assert run.state == ""
    assert run.metrics() == []
    assert run.environment() == {}
    assert not run.finished
    assert not run.path.parent.exists()


def test_opening_writes_recipe_environment_and_status(run: RunFolder) -> None:
    with run.open(RECIPE, {"cpu": "any"}, resume=False):
        status = run.status()
        assert status["state"] == "running"
        assert status["started"] <= status["updated"]
        run.set_status("finished", result={"epoch": 3})
    assert run.finished
    assert run.status()["started"] == status["started"]
    assert run.environment() == {"cpu": "any"}
    run.check_recipe(RECIPE)


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_how_work_ended_is_recorded(run: RunFolder, error: type[BaseException], state: str) -> None:
    with pytest.raises(error), run.open(RECIPE, {}, resume=False):
        raise error("why")
    assert run.status()["state"] == state
    assert run.status().get("error") == (None if state == "interrupted" else "why")


def test_a_run_that_was_begun_needs_resume(run: RunFolder) -> None:
    begin(run)
    with pytest.raises(RunError, match="unfinished") as refused:
        begin(run)
    assert "--resume" in refused.value.hint
    begin(run, resume=True)


def test_resuming_forgets_the_error_but_not_the_start(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="why"), run.open(RECIPE, {}, resume=False):
        raise ValueError("why")
    started = run.status()["started"]
    begin(run, resume=True)
    assert run.status()["error"] is None
    assert run.status()["started"] == started


def state(run: RunFolder) -> str:
    return run.state


def test_running_is_dead_where_its_process_is_gone(run: RunFolder) -> None:
    begin(run)
    assert state(run) == "running"  # by this process
    run.set_status("running", updated="2020-01-01T00:00:00Z")
    assert state(run) == "dead"  # this process is younger: it was given the number again
    run.set_status("running", pid=2**22 + 1)
    assert state(run) == "dead"
    run.set_status("interrupted", pid=2**22 + 1)
    assert state(run) == "interrupted"


def test_of_another_machine_the_lock_tells_whether_it_runs(run: RunFolder) -> None:
    begin(run)
    run.set_status("running", host="another", pid=2**22 + 1)
    assert state(run) == "dead"
    with run.lock():
        assert state(run) == "running"
        with pytest.raises(RunError, match="in use"):
            run.record_failure(RECIPE, "no")
    run.record_failure(RECIPE, "because")
    assert (state(run), run.status()["error"]) == ("failed", "because")
    run.set_status("finished")
    run.record_failure(RECIPE, "too late")
    assert run.finished


def test_resuming_what_was_never_begun_begins_it(run: RunFolder) -> None:
    begin(run, resume=True)
    assert run.status()["state"] == "running"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapt": {"epochs": 3, "lr": 0.1}}, "adapt.epochs was 2, is 3"),
        ({"units": [3, 5]}, r"units was \[3, 4\], is \[3, 5\]"),
        ({"more": 1}, "more was None, is 1"),
        ({"adapt": {"epochs": 3, "lr": 0.2}}, "adapt.epochs was 2, is 3; adapt.lr was 0.1, is 0.2"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_another_recipe_is_refused_naming_the_keys(
    run: RunFolder, change: dict[str, object], message: str, resume: bool
) -> None:
    begin(run)
    with pytest.raises(RunError, match=message):
        begin(run, {**RECIPE, **change}, resume)
    run.check_recipe(RECIPE)


def test_a_folder_in_use_is_refused_and_free_again_afterwards(run: RunFolder) -> None:
    with run.open(RECIPE, {}, resume=False), pytest.raises(RunError, match="in use by another"):
        begin(run, resume=True)
    begin(run, resume=True)
    with pytest.raises(KeyboardInterrupt), run.open(RECIPE, {}, resume=True):
        raise KeyboardInterrupt
    with FileLock(run.path / ".lock", timeout=0):
        pass


def test_what_a_killed_process_left_half_written_is_cleared_away(run: RunFolder) -> None:
    begin(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr("os.fsync", lambda _: os.close(-1))
        with pytest.raises(RunError):
            files.write_text(run.best, "half")
    left = {path.name for path in run.path.iterdir()}
    begin(run, resume=True)
    gone = left - {path.name for path in run.path.iterdir()}
    assert len(gone) == 1
    assert gone.pop().startswith(".best.pt.")


def test_metrics_are_rows_in_order(run: RunFolder) -> None:
    begin(run)
    for epoch in (1, 2):
        run.add_metrics({"epoch": epoch, "loss": 0.1 * epoch})
    assert run.metrics() == [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 0.2}]


@pytest.mark.parametrize("tail", ['{"epoch": 3, "lo', "{", '{"epoch": 3}garbage', "\0\0\0", "\ufffd"])
def test_a_half_written_last_row_is_left_out_and_cleared_away(run: RunFolder, tail: str) -> None:
    begin(run)
    run.add_metrics({"epoch": 1})
    run.add_metrics({"epoch": 2})
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(tail)
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    run.keep_metrics(2)
    run.add_metrics({"epoch": 3})
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]


def test_a_last_row_cut_within_a_character_is_left_out(run: RunFolder) -> None:
    begin(run)
    run.add_metrics({"epoch": 1})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 2, "note": "\xc3')
    assert run.metrics() == [{"epoch": 1}]


def test_rows_of_unfinished_epochs_are_dropped(run: RunFolder) -> None:
    begin(run)
    for epoch in (1, 2, 3):
        run.add_metrics({"epoch": epoch})
    run.keep_metrics(1)
    assert run.metrics() == [{"epoch": 1}]


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "\udcff"])
@pytest.mark.parametrize("name", ["status.json", "stage.yaml"])
def test_a_damaged_file_is_named(run: RunFolder, name: str, text: str) -> None:
    begin(run)
    (run.path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=f"{name} is damaged") as refused:
        begin(run, resume=True)
    assert refused.value.hint


def test_a_folder_that_cannot_be_made_is_a_run_error(blocked: Path) -> None:
    with pytest.raises(RunError, match=f"cannot write {blocked}"):
        begin(RunFolder(blocked))


def test_status_is_plain_json(run: RunFolder) -> None:
    begin(run)
    run.set_status("finished", result={"test": {"accuracy": 50.0}})
    assert json.loads((run.path / "status.json").read_text())["result"] == {"test": {"accuracy": 50.0}}


def test_folders_of_runs_are_found_with_their_stage_and_recipe(tmp_path: Path) -> None:
    for name in ("b/adapt", "a"):
        begin(RunFolder(tmp_path / name))
    found = find_runs(tmp_path)
    assert [run.path for run in found] == [tmp_path / "a", tmp_path / "b" / "adapt"]
    assert [run.path for run in find_runs(tmp_path / "b" / "adapt")] == [tmp_path / "b" / "adapt"]
    assert found[0].stage == "adapt"
    assert found[0].recipe() == RECIPE
    (found[0].path / "recipe.yaml").write_text("name: whole\n")
    assert found[0].recipe() == {"name": "whole"}
    with pytest.raises(RunError, match="does not exist"):
        find_runs(tmp_path / "nowhere")


def test_a_row_with_warnings_is_read_and_kept(run: RunFolder) -> None:
    row = {"epoch": 1, "valid_loss": 0.5, "warnings": ["layer 1 never spikes"], "best": True}
    begin(run)
    run.add_metrics(row)
    result = {"epoch": 1, "valid": row, "test": {"loss": 0.5}, "protocol": "validation"}
    run.set_status("finished", best=row, result=result)
    run.keep_metrics(1)
    assert run.metrics() == [row]
    assert run.status()["best"] == row


WHOLE = {"epoch": 1, "valid": {"valid_accuracy": 50.0}, "test": {"accuracy": 50.0}, "protocol": "validation"}


@pytest.mark.parametrize(
    "result",
    [
        {"valid": 2},
        {"valid": None},
        {"test": [1.0]},
        {"epoch": "2"},
        {"epoch": 2.5},
        {"test": {"loss": {}}},
        3,
        {name: part for name, part in WHOLE.items() if name != "epoch"},
        {name: part for name, part in WHOLE.items() if name != "valid"},
        {name: part for name, part in WHOLE.items() if name != "protocol"},
        WHOLE | {"valid": {"valid_accuracy": None}},
        WHOLE | {"valid": {"valid_accuracy": ["50"]}},
        WHOLE | {"valid": {"valid_loss": 1.0}},
        WHOLE | {"test": {"accuracy": None}},
    ],
)
def test_a_result_that_is_none_is_refused(run: RunFolder, result: object) -> None:
    begin(run)
    run.set_status("finished")
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": result}))
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        run.status()
