"""`hstnn compare --run`: two checkpoints measured in turns and compared; and what a user may get wrong."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.profile.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.run import launch
from tests.conftest import Hstnn
from tests.export.cases import Case
from tests.profile.conftest import measured

Measure = Callable[[Configuration, int], Record]


@pytest.fixture(scope="module")
def ckpts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of two tiny networks of one recipe: half of the units spike, and all of them do."""
    folder = tmp_path_factory.mktemp("ckpts")
    a, b = (Case("sequence", kind).checkpoint(folder / f"{kind}.pt") for kind in ("ffs", "snn"))
    return a, b


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], list[Configuration]]:
    """Put made up records in the place of measuring; return what was asked for, in order."""

    def put(measure: Measure) -> list[Configuration]:
        asked: list[Configuration] = []

        def run(some: Sequence[Configuration], observer: launch.Observer, _limit: float) -> Iterator[Record]:
            for number, each in enumerate(some, 1):
                asked.append(each)
                record = measure(each, number)
                observer.finished(record, number, len(some), 0.0)
                yield record

        monkeypatch.setattr(launch, "run", run)
        return asked

    return put


def steady(asked: Configuration, number: int) -> Record:
    """Return a process that is twice as slow where the network is an snn, and a little slower each time."""
    level = (0.002 if asked.kind == "snn" else 0.001) + number * 1e-6
    return measured(asked, latency_p50=level, latency_p99=1.1 * level)


def test_two_checkpoints_are_measured_in_turns_and_compared(
    hstnn: Hstnn, ckpts: tuple[Path, Path], tmp_path: Path
) -> None:
    words: list[str | Path] = [
        "--repeats",
        "2",
        "--seconds",
        "0.1",
        "--gpus",
        "none",
        "--threads",
        "1",
        "--out",
        tmp_path / "out",
    ]
    result = hstnn("compare", "--run", *ckpts, *words, "--json")
    assert result.code == 0, result.err
    rows = {row["metric"]: row for row in json.loads(result.out)["rows"]}
    assert set(rows) == {"p50_ms", "p99_ms", "throughput", "host_ram_peak_mb"}
    assert len(rows["p50_ms"]["a"]["values"]) == len(rows["p50_ms"]["b"]["values"]) == 2
    assert rows["p50_ms"]["p_least"] == pytest.approx(1 / 3)
    sides = [read(tmp_path / "out" / side / "records.jsonl") for side in "AB"]
    assert [[record.configuration.repeat for record in side] for side in sides] == [[1, 2], [1, 2]]
    assert [{record.configuration.kind for record in side} for side in sides] == [{"ffs"}, {"snn"}]
    # The path of each side once, and after that its letter.
    assert [line.split(":")[0] for line in result.err.splitlines()[:6]] == [
        "A",
        "1/4 A",
        "B",
        "2/4 B",
        "3/4 A",
        "4/4 B",
    ]
    assert [result.err.count(str(path)) for path in ckpts] == [1, 1]
    assert all("commit" in record.facts["project"] for side in sides for record in side)
    again = json.loads(hstnn("compare", tmp_path / "out" / "A", tmp_path / "out" / "B", "--json").out)
    assert again["rows"] == json.loads(result.out)["rows"]


def test_the_order_is_a_b_a_b(hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any) -> None:
    asked = made_up(steady)
    result = hstnn("compare", "--run", *ckpts, "--batch", "1,3", "--phases", "work,infer", "--gpus", "none")
    assert result.code == 0, result.err
    order = [(each.kind, each.phase, each.batch) for each in asked if each.phase == "infer"]
    assert order == 5 * [("ffs", "infer", 1), ("snn", "infer", 1), ("ffs", "infer", 3), ("snn", "infer", 3)]
    assert [each.kind for each in asked if each.phase == "work"] == ["ffs", "snn"]
    # Each is a configuration of its own, so that none of them run at the same time.
    assert len({each.together for each in asked}) == len(asked)
    assert "exact permutation test, 5 and 5 processes" in result.out


def test_a_checkpoint_with_itself_is_not_called_different(hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any) -> None:
    asked = made_up(steady)
    words = ["--gpus", "none", "--metric", "p50_ms", "--fail-if", "p99 > 0.01%"]
    result = hstnn("compare", "--run", ckpts[0], ckpts[0], *words)
    assert result.code == 0, result.err
    assert len(asked) == 10
    assert "not distinguishable from chance" in result.out


@pytest.mark.parametrize(("condition", "code"), [("p99 > 10%", 14), ("p99 > 0.5ms", 14), ("p99 > 5ms", 0)])
def test_a_slower_checkpoint_fails_the_condition(
    hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any, condition: str, code: int
) -> None:
    made_up(steady)
    result = hstnn("compare", "--run", *ckpts, "--gpus", "none", "--fail-if", condition)
    assert result.code == code, result.err


def test_a_busy_machine_refuses_to_judge_unless_despite(hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any) -> None:
    def busy(asked: Configuration, number: int) -> Record:
        record = steady(asked, number)
        crowd = measured(asked, cpu_cores=1.0, cpu_cores_others=1.0)
        values = [crowd.value(v.name) if v.name.startswith("cpu_cores") else v for v in record.values]
        return replace(record, values=values)

    made_up(busy)
    words: list[str | Path] = ["compare", "--run", *ckpts, "--gpus", "none", "--fail-if", "p99 > 10%"]
    result = hstnn(*words)
    assert result.code == 13
    assert "A: busy machine in 5 of 5 processes; B: busy machine in 5 of 5 processes" in result.err
    assert "add --despite to judge anyway" in result.err
    assert "Doubtful times: A: busy machine" in result.out
    assert hstnn(*words, "--despite").code == 14
    shown = hstnn(*words[:-2])
    assert shown.code == 0
    assert "Doubtful times: A: busy machine" in shown.out


def test_a_condition_that_does_not_fit_is_refused_after_one_round(
    hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any
) -> None:
    asked = made_up(steady)
    result = hstnn("compare", "--run", *ckpts, "--gpus", "none", "--fail-if", "p99 > 10")
    assert result.code == 2
    assert "'p99 > 10' has no unit: p99 is in s" in result.err
    assert "write 'p99 > 10s'; for a change relative to A, p99 > 10%" in result.err
    assert len(asked) == 2


def test_a_process_that_fails_ends_it(hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any, tmp_path: Path) -> None:
    def failing(asked: Configuration, number: int) -> Record:
        return Record(asked, "failed", reason="it was killed") if number == 4 else steady(asked, number)

    made_up(failing)
    result = hstnn("compare", "--run", *ckpts, "--gpus", "none", "--out", tmp_path / "out")
    assert result.code == 9
    assert "B could not be measured: it was killed" in result.err
    assert len(read(tmp_path / "out" / "A" / "records.jsonl")) == 2


def test_ctrl_c_keeps_what_is_measured(hstnn: Hstnn, ckpts: tuple[Path, Path], made_up: Any, tmp_path: Path) -> None:
    def stopped(asked: Configuration, number: int) -> Record:
        if number == 4:
            raise KeyboardInterrupt
        return steady(asked, number)

    made_up(stopped)
    result = hstnn("compare", "--run", *ckpts, "--gpus", "none", "--out", tmp_path / "out")
    assert result.code == 130
    assert "interrupted after 3 of 10 processes" in result.err
    assert [len(read(tmp_path / "out" / side / "records.jsonl")) for side in "AB"] == [2, 1]


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["--repeats", "0", "--run"], 2, "--repeats must be at least 1 (got 0)", "--repeats 5"),
        (["--repeats", "5"], 2, "--repeats has no effect without --run", "add --run"),
        (["--out", "x"], 2, "--out has no effect without --run", "add --run"),
        (["--run", "--batch", "one"], 2, "--batch 'one' is not a whole number", ""),
        (["--run", "--engines", "tensorrt"], 2, "tensorrt", ""),
        (["--run", "--seconds", "-1"], 2, "--seconds -1 is not a positive number", ""),
        (["--run", "--fail-if", "p99 10"], 2, "does not have the form METRIC < NUMBER with a unit", "'p99 > 10ms'"),
    ],
)
def test_what_cannot_be_measured_in_turns_is_one_line(
    hstnn: Hstnn, ckpts: tuple[Path, Path], words: list[str], code: int, message: str, hint: str
) -> None:
    result = hstnn("compare", *ckpts, *words)
    assert message in result.error
    assert hint in result.hint
    assert result.code == code


def test_several_gpus_are_refused(hstnn: Hstnn, ckpts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan.plan

    def on_two(**options: Any) -> list[Configuration]:
        assert options.pop("gpus") == [0, 1]
        found = whole(gpus=[None], **options)
        return [
            *found,
            *(replace(found[0], device=name, at_once=["cuda:0", "cuda:1"]) for name in ("cuda:0", "cuda:1")),
        ]

    monkeypatch.setattr(plan, "plan", on_two)
    result = hstnn("compare", "--run", *ckpts, "--gpus", "0,1")
    assert result.code == 2
    assert "--gpus 0,1: networks are compared on a single device" in result.error


def test_what_is_no_checkpoint_is_refused_before_anything_is_measured(hstnn: Hstnn, tmp_path: Path) -> None:
    (tmp_path / "no.pt").write_text("no")
    result = hstnn("compare", "--run", tmp_path / "no.pt", tmp_path / "no.pt")
    assert result.code == 4
    assert "no.pt" in result.error
