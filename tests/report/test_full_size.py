"""scripts/full-size: its section says what stands in the run folders, whatever trains and however far."""

import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hstnn_deploy.errors import RunError
from hstnn_deploy.report.collect import collect
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.train.stage_cases import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def full_size() -> dict[str, object]:
    return runpy.run_path(str(ROOT / "scripts/full-size"))


def test_the_section_holds_the_figures_of_the_run_folders(full_size: dict[str, object], tmp_path: Path) -> None:
    runs = train(tiny(kind="snn"), tmp_path / "runs", test_curve=True)
    runs += train(tiny(), tmp_path / "runs", test_curve=True)
    full_size["EPOCHS"]["digits"] = 2  # type: ignore[index]
    found, bundles = collect([tmp_path / "runs"]).runs, tmp_path / "bundles"
    assert full_size["export"](found, bundles, None) == 0  # type: ignore[operator]
    text = full_size["section"](found, tmp_path, bundles)  # type: ignore[operator]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "epochs done" not in line]
    assert [re.split(r" *\| *", row)[1] for row in rows] == ["snn", "hybrid redundant (adapted)", "hybrid 0.5"]
    metrics = RunFolder(runs[0].path).metrics()
    best = max(metrics, key=lambda row: (row["valid_accuracy"], -row["valid_loss"]))
    highest = max(row["test_accuracy"] for row in metrics)
    assert f"| 2 of 2 | {best['test_accuracy']:.2f} (epoch {best['epoch']}) | {highest:.2f} " in rows[0]
    assert re.search(r"- Obtained with torch .*, \d+ threads? of ", text)
    assert re.search(r"- Commit at the last start of each training: .* \(snn, hybrid redundant", text)
    assert "Selection of hybrid 0.5: 4 probes; a kept unit is kept again in" in text
    assert re.search(
        r"Exported to ONNX, hybrid 0.5: (\d+) of \1 checks passed; replay in ONNX .*spikes identical", text
    )
    # What was exported before the training went further is not shown as its proof.
    shutil.copy(runs[0].best, runs[-1].best)
    text = full_size["section"](collect([tmp_path / "runs"]).runs, tmp_path, bundles)  # type: ignore[operator]
    assert text.count("Exported to ONNX") == 1
    assert (tmp_path / "full-size-digits.svg").read_text().startswith("<?xml")


def test_a_run_without_test_figures_says_that_they_were_not_measured(
    full_size: dict[str, object], tmp_path: Path
) -> None:
    train(tiny(kind="snn"), tmp_path / "runs")
    full_size["EPOCHS"]["digits"] = 2  # type: ignore[index]
    text = full_size["section"](collect([tmp_path / "runs"]).runs, tmp_path, tmp_path)  # type: ignore[operator]
    assert "| n/a | n/a: not measured |" in text


def test_what_was_trained_elsewhere_keeps_its_part(full_size: dict[str, object], tmp_path: Path) -> None:
    section: Any = full_size["section"]
    full_size["EPOCHS"]["digits"] = 2  # type: ignore[index]
    names: Any = full_size["NAMES"]
    now = f"\n### {names['smnist']}\n\nA table.\n\n### {names['ptb']}\n\nAnother.\n\n### digits\n\nOld.\n"
    assert section([], tmp_path, tmp_path, now) == now
    train(tiny(kind="snn"), tmp_path / "runs")
    text = section(collect([tmp_path / "runs"]).runs, tmp_path, tmp_path, now)
    assert text.startswith(now.partition("\n### digits")[0])
    assert "\n### digits, layers of 6 and 5 units\n" in text
    assert "Old." not in text


def test_what_one_table_cannot_show_is_refused(full_size: dict[str, object], tmp_path: Path) -> None:
    read: Any = full_size["read"]
    full_size["EPOCHS"]["digits"] = 2  # type: ignore[index]
    (first,) = train(tiny(kind="snn"), tmp_path / "runs")
    assert [run.path for run in read(tmp_path / "runs")] == [first.path]
    train(tiny(kind="snn", seed=7), tmp_path / "runs")
    with pytest.raises(RunError, match="the runs of digits have several seeds or sizes"):
        full_size["section"](read(tmp_path / "runs"), tmp_path, tmp_path)  # type: ignore[operator]
    del full_size["EPOCHS"]["digits"]  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="has no run of smnist, ptb, nmnist, digit-events"):
        read(tmp_path / "runs")
    (first.path / "recipe.yaml").write_text("name: [")
    with pytest.raises(RunError, match="recipe"):
        read(tmp_path / "runs")
    with pytest.raises(RunError, match="is not a folder"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("kind", "stage", "shown"),
    [("rnn", None, "98.64"), ("ffs", None, "98.67"), ("hybrid", "adapt", "none"), ("hybrid", "restore", "98.92")],
)
def test_a_network_stands_beside_its_published_figure(
    full_size: dict[str, object], kind: str, stage: str | None, shown: str
) -> None:
    from hstnn_deploy.recipe.load import load_recipe

    recipe = load_recipe("smnist", [f"kind={kind}", "ratio=0.5"])
    run = SimpleNamespace(recipe=recipe, stage=stage)
    assert full_size["_published"](run) == shown  # type: ignore[operator]


def test_every_job_is_a_command_that_hstnn_takes(full_size: dict[str, object]) -> None:
    from hstnn_deploy.recipe.load import load_recipe

    for job in full_size["JOBS"]:  # type: ignore[attr-defined]
        words = job.words(Path("runs"), None, 1)
        changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        kind = words[words.index("--kind") + 1]
        assert load_recipe(words[1], [*changes, f"kind={kind}"]).kind == kind
