"""Isolation: fresh processes, their limits and their ends."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hstnn_deploy import processes
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run import launch
from hstnn_deploy.recipe.recipe import Recipe
from tests.conftest import PATIENCE
from tests.profile.conftest import configured


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every started process run some code instead."""
    monkeypatch.setattr(processes, "command", lambda *words: [sys.executable, "-c", code, *words])


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("pass", ""),
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import sys; print('why', file=sys.stderr); sys.exit(2)", "ended with exit code 2: why"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL (out of memory?)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import time; time.sleep(60)", "was stopped after 1 s (the time limit)"),
    ],
)
def test_how_a_process_ended_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, failure: str) -> None:
    instead(monkeypatch, code)
    limit = 1.0 if "sleep" in code else PATIENCE
    assert launch.run_alone("worker", [], "cpu", tmp_path / "output", limit) == failure


def test_a_process_without_a_result_is_a_failed_row(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    instead(monkeypatch, "pass")
    (record,) = launch.run([configured(tiny, "train")])
    assert record.status == "failed"
    assert "incomplete record" in record.reason


def test_a_failed_export_fails_what_stands_on_it(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    instead(monkeypatch, "raise SystemExit('no room')")
    (record,) = launch.run([configured(tiny, "infer")])
    assert record.reason == "the export before it ended with exit code 1: no room"


def test_a_row_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    instead(monkeypatch, "raise SystemExit('broken')")
    told: list[tuple[int, int]] = []

    class Listener(launch.Observer):
        def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
            told.append((number, total))

    records = list(launch.run([configured(tiny, "train"), configured(tiny, "train", threads=[1])], Listener()))
    assert [record.status for record in records] == ["failed", "failed"]
    assert told == [(1, 2), (2, 2)]
    assert all("measured_at" in record.facts for record in records)


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    code = "from hstnn_deploy.processes import end_with_starter\nimport time\nend_with_starter()\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.stdin is not None
    time.sleep(0.2)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(PATIENCE) == 1


def test_a_process_may_have_time_to_end_in_an_orderly_way() -> None:
    handled = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    rest = "from hstnn_deploy.processes import end_with_starter\nimport time\nend_with_starter(0.5)\ntime.sleep(600)"
    for first, code in ((handled, 7), (deaf, 1)):
        process = subprocess.Popen([sys.executable, "-c", first + rest], stdin=subprocess.PIPE)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == code


def test_leaving_early_leaves_nothing_behind(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    instead(monkeypatch, "pass")
    running = launch.run([configured(tiny, "train", threads=[number]) for number in (1, 2, 3)])
    next(running)
    assert list(tmp_path.iterdir())
    running.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "device", "seen"),
    [
        (None, "cuda:1", "1"),
        ("3,GPU-x", "cuda:0", "3"),
        ("3,GPU-x", "cuda:1", "GPU-x"),
        ("3", "cpu", ""),
        ("3", None, "3"),
    ],
)
def test_a_process_sees_its_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, given: str | None, device: str | None, seen: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert processes.environment(device)["CUDA_VISIBLE_DEVICES"] == seen


def test_a_file_where_the_user_stands_does_not_get_into_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configuration.json").write_text("{}")
    words = [str(tmp_path / "configuration.json"), str(tmp_path / "record.json"), str(tmp_path)]
    failure = launch.run_alone("worker", words, "cpu", tmp_path / "output", PATIENCE)
    assert "the wrong json" not in failure
    assert "incomplete" in failure


def instances(tiny: Recipe, count: int) -> list[Configuration]:
    return plan([tiny], phases=["train"], gpus=[None], instances=count, max_steps=1)


_MEETS = """
import json, os, sys, time
from pathlib import Path
own, meeting = Path(sys.argv[2]).parent, Path(sys.argv[5])
number = json.loads(Path(sys.argv[2]).read_text())["instance"]
if number == 3:
    raise SystemExit("no room")
time.sleep(0.2 * number)
(meeting / f"ready{os.getpid()}").touch()
while not (meeting / "go").exists():
    time.sleep(0.01)
others = len(list(meeting.glob("ready*")))
raise SystemExit(f"met {others}")
"""


def test_instances_wait_for_each_other_and_not_for_one_that_has_failed(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe
) -> None:
    instead(monkeypatch, _MEETS)
    records = list(launch.run(instances(tiny, 3)))
    assert [record.configuration.instance for record in records] == [1, 2, 3]
    assert [record.reason.rpartition(": ")[2] for record in records] == ["met 2", "met 2", "no room"]


def test_instances_that_are_never_ready_are_stopped(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    instead(monkeypatch, "import time; time.sleep(60)")
    records = list(launch.run(instances(tiny, 2), time_limit=1.0))
    assert [record.reason for record in records] == ["the process was stopped after 1 s (the time limit)"] * 2


def test_an_exported_graph_of_another_precision_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe, tmp_path: Path
) -> None:
    (asked,) = plan([tiny], phases=["infer"], engines=["onnxruntime"], batches=[1], gpus=[None], precisions=["bf16"])
    monkeypatch.setattr(launch, "_prepare", lambda *_: launch._Prepared(tmp_path))
    (record,) = launch.run([asked])
    assert (record.status, record.reason) == ("n/a", "exported graphs compute in fp32, not in bf16")


def test_what_is_measured_already_is_not_measured_again(tiny: Recipe) -> None:
    planned = [*plan([tiny], phases=["work"], gpus=[None]), *instances(tiny, 2)]
    old = [Record(planned[0], "measured"), Record(planned[1], "measured")]
    asked: list[Configuration] = []

    def measure(rest: Sequence[Configuration]) -> Iterator[Record]:
        asked.extend(rest)
        return (Record(each, "failed", reason="new") for each in rest)

    records = list(launch.resumed(planned, old, measure))
    # One of two instances is no measurement of two.
    assert asked == planned[1:]
    assert [record.configuration for record in records] == planned
    assert [record.reason for record in records] == ["", "new", "new"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may allocate: only Linux keeps to that")
def test_a_process_that_may_not_take_more_memory_is_a_row_that_says_so(tiny: Recipe) -> None:
    asked = replace(configured(tiny, "infer", engines=["onnxruntime"], batches=[4_000_000]), memory_limit=600_000_000)
    (record,) = launch.run([asked])
    # 4 million samples of 8 x 8 values are a gigabyte.
    assert (record.status, record.reason) == ("failed", "out of host memory")
    assert [span.name for span in record.spans] == ["open"]
