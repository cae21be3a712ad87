"""`hstnn data bench`: every strategy with its figures or the reason why not; one clear line for each mistake."""

import json
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.data import cache
from hstnn_deploy.profile.phases import loaders, loading
from hstnn_deploy.profile.phases.loading import Bench, Row, advise
from hstnn_deploy.profile.values import Measured, NotMeasured
from tests.conftest import Hstnn
from tests.event_files import make_dvs_gesture, make_nmnist

QUICK = ("--batch", "4", "--samples", "8", "--repeats", "2")


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    return make_nmnist(tmp_path / "data")


def by_name(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in facts["strategies"]}


def test_every_strategy_is_measured_and_the_last_line_says_which_to_take(hstnn: Hstnn, nmnist: Path) -> None:
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK)
    assert result.code == 0
    for name in loaders.ABOUT:
        assert (name in result.out) == (name != "as loaded")
    assert "8 of the 27 samples of the training split (set by --samples): 2 batches of 4 on cpu" in result.out
    assert "the page cache is warm" in result.out
    assert "load average" in result.out
    assert result.out.splitlines()[-1].startswith("use --cache ")


def test_the_json_holds_every_time_and_every_byte_or_the_reason(hstnn: Hstnn, nmnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK, "--json", "--out", out)
    assert result.code == 0
    facts = json.loads(result.out)
    assert json.loads(out.read_text()) == facts
    assert (facts["samples"], facts["samples_of"], facts["batches"], facts["rounds"]) == (8, 27, 2, 2)
    assert not facts["interrupted"]
    assert facts["take"] in {"none", "disk", "memory", "device"}
    found = by_name(facts)
    assert list(found) == [name for name in loaders.ABOUT if name != "as loaded"]
    for each in found.values():
        assert len(each["epoch_seconds"]) == 2
        assert each["batches_per_second"] > 0
        for held in each["bytes"].values():
            assert held["bytes"] is None or held["bytes"] > 0
            assert held["bytes"] or held["reason"]
    # 15 frames of 2 x 34 x 34 in 16 bits, and a class of 64.
    assert found["memory, dense"]["bytes"]["host"]["bytes"] == 8 * (15 * 2 * 34 * 34 * 2 + 8)
    assert found["naive"]["bytes"]["disk"]["bytes"] == facts["recordings"]["bytes"] > 0
    assert found["--cache disk, later epochs"]["bytes"]["disk"]["bytes"] > 0
    assert "page cache" in found["--cache disk, later epochs"]["bytes"]["host"]["reason"]
    assert found["--cache disk, first epoch"]["ready_seconds"] is None
    assert found["--cache disk, later epochs"]["ready_seconds"] > 0


def test_nobodys_cache_is_read_or_filled(
    hstnn: Hstnn, nmnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    assert hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK).code == 0
    assert not (tmp_path / "cache").exists()
    assert cache.folder() == tmp_path / "cache"


def test_a_training_pass_by_each_strategy_comes_to_the_same_loss(hstnn: Hstnn, nmnist: Path) -> None:
    words = ["data", "bench", "nmnist", "--data-dir", str(nmnist), *QUICK, "--train", "nmnist-small"]
    changes = ["--set", "network.units=[2,2,2]", "--set", "network.hidden=4", "--threads", "1"]
    facts = json.loads(hstnn(*words, *changes, "--json").out)
    found = by_name(facts).values()
    assert facts["train"] == "nmnist-small"
    assert all(len(each["train_seconds"]) == 2 for each in found)
    assert len({each["train_loss"] for each in found}) == 1
    shown = hstnn(*words, *changes, "--repeats", "1").out
    assert "training pass" in shown
    assert "for each" in shown
    assert "naive in training" in shown


def test_frames_that_are_kept_cannot_be_cropped_at_random(hstnn: Hstnn, tmp_path: Path) -> None:
    folder = make_dvs_gesture(tmp_path / "data")
    words = ["data", "bench", "dvs-gesture", "--data-dir", str(folder), *QUICK, "--set", "data.steps=3"]
    found = by_name(json.loads(hstnn(*words, "--json").out))
    absent = {name for name, each in found.items() if each["batches_per_second"] is None}
    tonics = {"tonic disk, first epoch", "tonic disk, later epochs"}
    assert absent == {"memory, dense", "device, dense", "device, sparse", *tonics}
    assert all("crops at a new time" in found[name]["reason"] for name in absent)
    assert "crops at a new time" in hstnn(*words).out


def test_what_memory_does_not_hold_is_not_made(hstnn: Hstnn, nmnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "free", lambda _device: 1_000_000)
    facts = json.loads(hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK, "--json").out)
    reason = by_name(facts)["memory, dense"]["reason"]
    assert reason == "it needs 0.000555 GB, more than half of the 0.001 GB free in host memory"
    assert by_name(facts)["--cache memory"]["batches_per_second"]


@pytest.mark.parametrize(("name", "why"), [("digits", "contains images"), ("pydoc-text", "pydoc-text is a text")])
def test_where_there_are_no_recordings_it_says_why_strategies_do_not_apply(hstnn: Hstnn, name: str, why: str) -> None:
    found = by_name(json.loads(hstnn("data", "bench", name, *QUICK, "--json").out))
    assert {each for each, facts in found.items() if facts["batches_per_second"]} == {"as loaded"}
    assert all(why in facts["reason"] for each, facts in found.items() if each != "as loaded")
    shown = hstnn("data", "bench", name, *QUICK)
    assert "not measured: naive; tonic disk, first epoch; tonic disk, later epochs; --cache none" in shown.out
    assert shown.out.splitlines()[-1].startswith("keep the default: there is one way to load")


def test_a_recipe_brings_its_data_section(hstnn: Hstnn, nmnist: Path) -> None:
    words = ["data", "bench", "nmnist", "--data-dir", str(nmnist), *QUICK, "--recipe", "nmnist-small", "--json"]
    facts = json.loads(hstnn(*words, "--set", "data.steps=2", "--set", "protocol=test").out)
    assert facts["samples_of"] == 30
    assert by_name(facts)["memory, dense"]["bytes"]["host"]["bytes"] == 8 * (2 * 2 * 34 * 34 * 2 + 8)
    assert facts["train"] is None


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["nmnst"], 2, "unknown data set 'nmnst'", "did you mean 'nmnist'?"),
        (["nmnist", "--batch", "28"], 2, "--batch 28 is more than the 27 samples of the training split", "at most 27"),
        (["nmnist"], 2, "--batch 32 is more than the 27 samples of the training split", "at most 27"),
        (
            ["nmnist", "--samples", "3", "--batch", "4"],
            2,
            "--samples is 3, not between the batch size (4) and",
            "give 4 to 27",
        ),
        (["nmnist", "--batch", "0"], 2, "--batch", ""),
        (["nmnist", "--repeats", "0"], 2, "--repeats", ""),
        (["nmnist", "--device", "tpu"], 2, "unknown device 'tpu'", "choose auto"),
        (["nmnist", "--recipe", "digits"], 2, "--recipe digits is for digits, not for nmnist", "data bench digits"),
        (["nmnist", "--train", "nmnst"], 2, "unknown recipe 'nmnst'", "nmnist"),
        (["nmnist", "--recipe", "nmnist", "--train", "nmnist-small"], 2, "are two recipes", "it sets the data too"),
        (["nmnist", "--set", "data.framez=1"], 2, "unknown key 'data.framez'", ""),
        (["nmnist", "--set", "network.size=32", "--train", "nmnist", "--batch", "4"], 2, "network.size is 32", ""),
        (["nmnist", "--out", "/tmp"], 2, "--out /tmp is a folder", "bench.json"),
        (["shd"], 3, "shd is not at", "hstnn data prepare shd"),
        (["ptb"], 3, "ptb is not at", "ptb.train.txt"),
        (["digits", "--batch", "5000"], 2, "--batch 5000 is more than the 1293 samples", "at most 1293"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    hstnn: Hstnn, nmnist: Path, words: list[str], code: int, message: str, hint: str
) -> None:
    result = hstnn("data", "bench", *words, "--data-dir", nmnist)
    assert result.code == code
    assert message in result.error
    assert hint in result.hint


def test_a_gpu_that_is_not_there_is_one_clear_line(hstnn: Hstnn, nmnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, "--device", "cuda")
    assert result.code == 6
    assert "device 'cuda' is not available" in result.error


def test_a_damaged_recording_is_named(hstnn: Hstnn, nmnist: Path) -> None:
    for path in (nmnist / "Train" / "1").iterdir():
        path.write_bytes(b"1234")
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, "--batch", "4")
    assert result.code == 3
    assert "is truncated: 4 bytes are not whole events of 5" in result.err


def test_ctrl_c_shows_what_has_been_measured(
    hstnn: Hstnn, nmnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, calls = Bench._timed, 0

    def stopped(self: Bench, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        # In the second round that counts.
        if calls == 2 * 11 + 4:
            raise KeyboardInterrupt
        return timed(self, *given)

    monkeypatch.setattr(Bench, "_timed", stopped)
    out = tmp_path / "bench.json"
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK, "--out", out)
    assert result.code == 130
    assert "error: interrupted after 1 of 2 rounds, which are shown above" in result.err
    assert "--cache disk, later epochs" in result.out
    facts = json.loads(out.read_text())
    assert facts["interrupted"]
    assert sorted({len(each["epoch_seconds"]) for each in facts["strategies"]}) == [1, 2]


def test_ctrl_c_before_a_round_leaves_nothing(
    hstnn: Hstnn, nmnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_self: Bench) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(loading.Bench, "prepare", stopped)
    result = hstnn("data", "bench", "nmnist", "--data-dir", nmnist, *QUICK)
    assert (result.code, result.out) == (130, "")
    assert "interrupted before the first round" in result.err
    assert not list(tmp_path.glob("hstnn-bench-*"))


def row(name: str, seconds: float, host: int | None = None) -> Row:
    held = NotMeasured("host", "nothing") if host is None else Measured("host", host, "B", "")
    return Row(name, loaders.Strategy(name, lambda: [], lambda _: {}), epochs=[seconds], sizes={"host": held})  # type: ignore[arg-type,return-value]


def test_the_advice_weighs_speed_against_memory() -> None:
    slow = [row("naive", 5.2), row("--cache none", 5.0), row("--cache disk, later epochs", 1.0)]
    there = {"host": 10_000_000_000, "device": 10_000_000_000}
    near = advise([*slow, row("--cache memory", 0.9, 130_000_000)], 10, False, there, 900)
    assert near == (
        "disk",
        "use --cache disk: 5.2 times naive; --cache memory would need 1.3 GB of memory for all 900 samples, "
        "for 1.1 times its speed",
    )
    far = advise([*slow, row("--cache memory", 0.1, 130_000_000)], 10, False, there, 900)
    assert far == ("memory", "use --cache memory: 52 times naive; no other one is faster")
    # It would be as fast, but does not fit.
    much = advise([*slow, row("--cache memory", 0.1, 1_300_000_000)], 10, False, there, 900)
    assert much.take == "disk"
    assert "13 GB" in much.line
    assert advise([row("naive", 1.0)], 1, False, there, 9).take is None
