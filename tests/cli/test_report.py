"""`hstnn report` and `hstnn compare` as a user calls them, and all that can be wrong with what they are given."""

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from tests.conftest import TINY, Hstnn, options
from tests.report.conftest import inference, recipe_for, records_of, write_run, write_sweep


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "runs", seeds=[1, 2])


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return records_of(tmp_path / "records.jsonl", [inference(0.25), inference(0.5)])


def test_what_was_trained_and_profiled_is_reported(hstnn: Hstnn, tmp_path: Path) -> None:
    out, tiny = tmp_path / "runs", options(TINY)
    for kind in ("rnn", "hybrid"):
        for seed in ("1", "2"):
            assert hstnn("train", "digits", *tiny, "--kind", kind, "--seed", seed, "--out", out).code == 0
    ckpt = out / "digits/hybrid/seed1/ratio-0.5/best.pt"
    profiled = hstnn("profile", "--ckpt", ckpt, "--engines", "eager", "--batch", "1", "--phases", "infer",
                     "--seconds", "0.2", "--out", tmp_path / "costs")  # fmt: skip
    assert profiled.code == 0, profiled.err
    result = hstnn("report", out, tmp_path / "costs")
    assert result.code == 0, result.err
    for text in ("digits: test accuracy %, mean over seeds 1, 2", "hybrid 0.5", "hybrid redundant", "Protocol: best"):
        assert text in result.out
    assert "eager" in result.out
    written = hstnn("report", out, tmp_path / "costs", "--out", tmp_path / "report")
    assert written.code == 0, written.err
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.html", "report.md", "report.tex", "report.csv", "report.json", "costs.csv", "curves.png"}
    data = json.loads((tmp_path / "report/report.json").read_text())
    shown = {cell["network"]: cell["mean"] for cell in data["studies"][0]["cells"] if cell["stage"] != "adapt"}
    for name, folder in (("rnn", "rnn/seed{}"), ("hybrid 0.5", "hybrid/seed{}/ratio-0.5")):
        accuracies = []
        for number in (1, 2):
            checkpoint = out / "digits" / folder.format(number) / "best.pt"
            accuracies.append(json.loads(hstnn("evaluate", "--ckpt", checkpoint, "--json").out)["accuracy"])
        assert shown[name] == pytest.approx(sum(accuracies) / 2)
    assert "seed 1" in (tmp_path / "report/report.md").read_text()


def test_a_stack_is_listed_profiled_and_reported(hstnn: Hstnn, tmp_path: Path) -> None:
    runs, costs = tmp_path / "runs", tmp_path / "costs"
    assert hstnn("train", "stack-digits", "--set", "train.epochs=1", "--out", runs).code == 0
    listed = json.loads(hstnn("runs", "list", runs, "--json").out)
    assert "plain" in json.dumps(listed)
    ckpt = runs / "stack-digits/plain/seed1111/best.pt"
    words = ["--engines", "onnxruntime", "--batch", "1", "--phases", "work,train,infer", "--seconds", "0.2"]
    profiled = hstnn("profile", "--ckpt", ckpt, *words, "--out", costs)
    assert profiled.code == 0, profiled.err
    assert "layer2.lif" in profiled.out
    assert "infer, plain, onnxruntime" in profiled.err
    fresh = ["--recipe", "stack-digits", "--phases", "infer", "--engines", "onnxruntime", "--batch", "1"]
    assert hstnn("profile", *fresh, "--seconds", "0.1").code == 0
    result = hstnn("report", runs, costs)
    assert result.code == 0, result.err
    assert "plain" in result.out
    assert "onnxruntime" in result.out
    refused = hstnn("profile", "--recipe", "stack-digits", "--kinds", "snn")
    assert refused.code == 2
    assert refused.error.endswith("kind is 'snn', but the layers of a stack define its units")


def test_the_demo_s_layout(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    result = hstnn("report", runs / "digits/ffs-0.5", "--format", "csv", "--csv-layout", "demo")
    assert result.out == "type,1,2,avg,squ\n0.50,86.00,87.00,86.50,0.25\n"
    assert hstnn("report", runs, "--format", "csv", "--csv-layout", "demo", "--out", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"digits-ffs.csv", "digits-hybrid.csv"}


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [("html", "<!DOCTYPE html>"), ("tex", "% Compiles"), ("md", "### digits"), ("csv", "study,"), ("json", "{")],
)
def test_one_file_by_its_suffix(hstnn: Hstnn, runs: Path, tmp_path: Path, suffix: str, begins: str) -> None:
    assert hstnn("report", runs, "--out", tmp_path / f"one.{suffix}").code == 0
    assert (tmp_path / f"one.{suffix}").read_text(encoding="utf-8").startswith(begins)


def test_curves_are_a_picture_of_runs_alone(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    assert hstnn("report", runs, "--out", tmp_path / "curves.png").code == 0
    assert matplotlib.image.imread(tmp_path / "curves.png").std() > 0.05
    on_screen = hstnn("report", runs, "--format", "png")
    assert (on_screen.code, on_screen.err.splitlines()[-1]) == (2, "hint: for example --out curves.png")
    for path in runs.rglob("metrics.jsonl"):
        path.write_text("")
    none = hstnn("report", runs, "--out", tmp_path / "none.png")
    assert none.code == 2
    assert "no learning curves" in none.err
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("steps.jsonl", '{"epoch": ["a"], "batch": 1, "batches": 2, "valid_loss": 1.0}'),
        ("steps.jsonl", '{"epoch": 1, "batch": ["a"], "batches": 2, "valid_loss": 1.0}'),
        ("steps.jsonl", '{"epoch": 1, "batch": 1, "batches": 2, "valid_loss": 1e308}'),
        ("metrics.jsonl", '{"train_loss": 1.0, "valid_loss": 1.0}'),
        ("metrics.jsonl", '{"epoch": ["b"], "train_loss": 1.0}'),
        ("metrics.jsonl", '{"epoch": 3, "train_loss": 1e308, "valid_loss": true, "valid_accuracy": -1e308}'),
    ],
)
def test_damaged_rows_of_curves_stop_no_report(hstnn: Hstnn, runs: Path, tmp_path: Path, name: str, row: str) -> None:
    for folder in {path.parent for path in runs.rglob("metrics.jsonl")}:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(f"{row}\n")
    assert hstnn("report", runs, "--out", tmp_path / "c.png").code == 0


@pytest.mark.parametrize("name", ["html", "latex", "markdown", "csv", "json"])
def test_a_format_on_standard_output(hstnn: Hstnn, runs: Path, name: str) -> None:
    result = hstnn("report", runs, "--format", name)
    assert result.code == 0
    assert "hybrid 0.5" in result.out or "hybrid" in result.out
    if name == "json":
        assert json.loads(result.out) == json.loads(hstnn("report", runs, "--json").out)


def test_unfinished_and_damaged_runs_are_marked_not_averaged(hstnn: Hstnn, runs: Path) -> None:
    write_run(runs, recipe_for("rnn", seed=3), None, state="failed", error="the loss is no number")
    (runs / "digits/snn/seed1/status.json").write_text("{")
    result = hstnn("report", runs)
    assert result.code == 0
    assert result.err == f"warning: left out: {runs}/digits/snn/seed1/status.json is damaged\n"
    assert "* rnn is incomplete, 2 of 3 seeds: seed 3 failed: the loss is no number." in result.out
    assert "* snn is incomplete, 1 of 3 seeds: seeds 1, 3 without a readable run." in result.out


def damaged_line(folder: Path) -> list[str | Path]:
    path = folder / "records.jsonl"
    path.write_text('{"schema": "hstnn-prof')
    return [path]


def other_version(folder: Path) -> list[str | Path]:
    path = records_of(folder / "records.jsonl", [inference()], version=99)
    return [path]


@pytest.mark.parametrize(
    ("given", "code", "message", "hint"),
    [
        (lambda t: [t / "no"], 5, "no does not exist", "give a folder of runs"),
        (lambda t: [(t / "empty").mkdir() or t / "empty"], 5, "contains neither runs nor profile", "hstnn train"),
        (damaged_line, 9, "records.jsonl, line 1: not JSON", "a records.jsonl that"),
        (other_version, 9, "schema version 99", "measure again"),
        (lambda t: [t / "runs", "--format", "pdf"], 2, "unknown format 'pdf'", "known: console, csv"),
        (lambda t: [t / "runs", "--format", "htlm"], 2, "unknown format 'htlm'", "did you mean 'html'?"),
        (lambda t: [t / "runs", "--format", "csv,html"], 2, "standard output takes only one format", "--out DIR"),
        (lambda t: [t / "runs", "--format", "csv", "--json"], 2, "are mutually exclusive", "--out DIR"),
        (lambda t: [t / "runs", "--out", "a.pdf"], 2, "unsupported file format", ".html"),
        (lambda t: [t / "runs", "--out", "a.html", "--format", "csv"], 2, "this file format is html", "give a folder"),
        (lambda t: [t / "runs", "--format", "console", "--out", t], 2, "cannot be written to files", ""),
        (lambda t: [t / "runs", "--format", "csv", "--csv-layout", "demo"], 2, "2 files to write", "--out DIR"),
        (lambda t: [t / "records.jsonl", "--format", "csv", "--csv-layout", "demo"], 2, "only profile records", ""),
        (lambda t: [t / "runs", "--out", t / "records.jsonl" / "below"], 5, "cannot write", "--out"),
        (lambda t: [t / "runs/digits/rnn/seed1/recipe.yaml"], 9, "recipe.yaml, line 1: not JSON", "a records.jsonl"),
    ],
)  # fmt: skip
def test_what_report_cannot_do_is_one_line(
    hstnn: Hstnn, tmp_path: Path, given: Callable[[Path], list[str | Path]], code: int, message: str, hint: str
) -> None:
    write_sweep(tmp_path / "runs", seeds=[1])
    records_of(tmp_path / "records.jsonl", [inference()])
    result = hstnn("report", *given(tmp_path))
    assert message in result.error
    assert hint in result.hint
    assert result.code == code


def test_compare_shows_differences_and_which_test_it_was(hstnn: Hstnn, runs: Path) -> None:
    result = hstnn("compare", runs / "digits/rnn", runs / "digits/snn")
    assert result.code == 0, result.err
    assert "rnn : snn" in result.out
    assert "-10" in result.out
    data = json.loads(hstnn("compare", runs / "digits/ffs-0.5", runs / "digits/hybrid", "--json").out)
    (row,) = data["rows"]
    assert (row["difference"], row["a"]["values"], row["b"]["mean"]) == (7.0, {"1": 86.0, "2": 87.0}, 93.5)
    assert row["p"] is None
    assert row["test"] == "no test: the difference does not vary"


@pytest.mark.parametrize(
    ("condition", "code"),
    [("accuracy < -9.5", 14), ("accuracy < -10", 0), ("accuracy < 0.9x", 14), ("accuracy < -13%", 0), ("loss > 0", 0)],
)
def test_the_exit_code_is_that_of_the_condition(hstnn: Hstnn, runs: Path, condition: str, code: int) -> None:
    result = hstnn("compare", runs / "digits/rnn", runs / "digits/snn", "--fail-if", condition)
    assert result.code == code, result.err
    if code:
        assert condition in result.error
        assert "rnn : snn: accuracy changed by" in result.error
    else:
        assert "not fulfilled" in result.out
        assert result.err == ""


def test_a_failed_condition_is_in_the_json_too(hstnn: Hstnn, tmp_path: Path) -> None:
    same = records_of(tmp_path / "records.jsonl", [*[inference(0.25)] * 5, *[inference(0.5)] * 5])
    slow = [inference(ratio, latency_p99=0.02) for ratio in (0.25, 0.5) for _ in range(5)]
    result = hstnn("compare", same, records_of(tmp_path / "slow.jsonl", slow), "--fail-if", "p99_ms > 0.9x", "--json")
    assert result.code == 14
    data = json.loads(result.out)
    assert [verdict["failed"] for verdict in data["conditions"]] == [True, True]
    assert "(and 1 more)" in result.error


def test_one_process_a_side_is_shown_but_not_judged(hstnn: Hstnn, tmp_path: Path) -> None:
    a = records_of(tmp_path / "a.jsonl", [inference(latency_p50=0.001)])
    b = records_of(tmp_path / "b.jsonl", [inference(latency_p50=0.002)])
    result = hstnn("compare", a, b, "--metric", "p50_ms", "--fail-if", "p50_ms > 1.1x")
    assert result.code == 13
    assert "--fail-if 'p50_ms > 1.1x' cannot be evaluated" in result.error
    assert "one process each; measure more with --repeats 5" in result.error
    assert "measure several processes of each side: hstnn profile --repeats 5" in result.hint
    assert "+1" in result.out
    assert "n/a" in result.out
    assert "fail if p50_ms > 1.1x: cannot be evaluated" in result.out
    data = json.loads(hstnn("compare", a, b, "--fail-if", "p50_ms > 1.1x", "--json").out)
    (verdict,) = data["conditions"]
    assert verdict["failed"] is None
    assert verdict["unjudged"] == "only one process each; measure more with --repeats 5"
    shown = hstnn("compare", a, b, "--metric", "p50_ms")
    assert shown.code == 0
    assert "n/a: only one process each; measure more with --repeats 5" in " ".join(shown.out.split())


def two_recipes(folder: Path) -> list[str | Path]:
    write_run(folder / "runs/more", recipe_for("rnn", changes={"adapt.epochs": 3}), 1.0)
    return [folder / "runs", folder / "runs"]


def damaged_run(folder: Path) -> list[str | Path]:
    (folder / "runs/digits/rnn/seed1/status.json").write_text("{")
    return [folder / "runs", folder / "runs"]


def other(folder: Path, changes: dict[str, object]) -> list[str | Path]:
    write_run(folder / "other", recipe_for("rnn", changes=changes), 1.0)
    return [folder / "runs/digits/rnn", folder / "other"]


def both_records(folder: Path) -> list[str | Path]:
    """What `hstnn sweep --then` leaves of a network."""
    there = folder / "then"
    there.mkdir()
    (folder / "records.jsonl").rename(there / "records.jsonl")
    curve = {"name": "pgd", "unit": "", "where": "adversary", "levels": [1.0], "axis": [1.0], "values": [[1.0]]}
    facts: dict[str, object] = {"source": "", "recipe": "digits", "data": "digits", "kind": "snn", "ratio": None}
    facts |= {
        "stage": "train",
        "seed": 1,
        "metric": "accuracy",
        "unit": " %",
        "higher_is_better": True,
        "split": "test",
        "batch": 1,
    }
    found = {"format": "hstnn-robustness", "version": 1, "networks": [{**facts, "clean": 2.0, "curves": [curve]}]}
    (there / "robustness.json").write_text(json.dumps(found))
    return [there, folder / "runs"]


def unfinished(folder: Path) -> list[str | Path]:
    write_run(folder / "other", recipe_for("rnn"), None)
    return [folder / "other", folder / "other"]


@pytest.mark.parametrize(
    ("given", "code", "message", "hint"),
    [
        (lambda t: [t / "no", t / "runs"], 5, "no does not exist", "give a folder"),
        (lambda t: [t / "runs", t / "records.jsonl"], 13, "runs contains runs, but", "records with records"),
        (both_records, 13, "contains profile records and robustness records", "name a file"),
        (two_recipes, 5, "has runs of 2 recipes: digits (adapt.epochs 2); digits (adapt.epochs 3)", "one recipe"),
        (damaged_run, 5, "status.json is damaged", "repair or remove it"),
        (lambda t: other(t, {"protocol": "test"}), 13, "under the protocol test", "cannot be compared"),
        (unfinished, 13, "no finished network", ""),
        (lambda t: [t / "runs/digits/hybrid", t / "runs/digits/rnn"], 13, "has a counterpart in", "B has rnn"),
        (lambda t: [t / "runs", t / "runs", "--metric", "acuracy"], 2, "unknown metric 'acuracy'", "'accuracy'"),
        (lambda t: [t / "records.jsonl", t / "records.jsonl", "--metric", "p98_ms"], 2, "unknown metric 'p98_ms'", ""),
        (lambda t: [t / "runs", t / "runs", "--fail-if", "perplexity < 1"], 2, "unknown metric 'perplexity'", ""),
        (lambda t: [t / "runs", t / "runs", "--fail-if", "accuracy = 1"], 2, "not have the form METRIC", "for example"),
        (lambda t: [*[t / "records.jsonl"] * 2, "--fail-if", "cuda_process > 1x"], 13, "cannot be evaluated", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(
    hstnn: Hstnn, tmp_path: Path, given: Callable[[Path], list[str | Path]], code: int, message: str, hint: str
) -> None:
    write_sweep(tmp_path / "runs", seeds=[1])
    records_of(tmp_path / "records.jsonl", [inference()])
    result = hstnn("compare", *given(tmp_path))
    assert message in result.error
    assert hint in result.hint
    assert result.code == code
