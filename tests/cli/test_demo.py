"""`hstnn demo`: the whole main path of each task, with networks and data of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from hstnn_deploy.cli import demo
from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.recipe import load as recipes
from hstnn_deploy.recipe.recipe import Recipe
from tests.conftest import TINY, Hstnn, settings

KINDS = ["rnn", "snn", "ffs", "hybrid"]
BRIEF: dict[str, object] = {**TINY, "adapt.epochs": 1, "restore.epochs": 1}
SMALL: dict[str, dict[str, object]] = {
    "digits": BRIEF,
    "pydoc-text": BRIEF | {"data.words": 60, "network.vocabulary": 60, "network.inputs": 4, "batch": 600},
    "digit-events": BRIEF | {"network.units": [2, 2, 3], "network.hidden": 8},
    "rram-digits": {"train.epochs": 1, "finetune.epochs": 1},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, few epochs, one format to export and one measured configuration."""
    from hstnn_deploy.profile.plan import plan

    really_load: Callable[..., Recipe] = recipes.load_recipe
    really_plan: Callable[..., Any] = plan.plan

    def load(name: str, changes: Any = ()) -> Recipe:
        return really_load(name, [*settings(SMALL[name]), *changes])

    def few(**options: Any) -> Any:
        return really_plan(**options | {"phases": ("infer",), "engines": ("eager",), "batches": (1,)})

    monkeypatch.setattr(recipes, "load_recipe", load)
    monkeypatch.setattr(plan, "plan", few)
    monkeypatch.setattr("hstnn_deploy.export.graph.write.Format", Literal["torchscript"])
    monkeypatch.setattr(demo, "_SECONDS", 0.05)


def refused(error: BaseException) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    return refuse


@pytest.mark.matrix
def test_weights_on_devices_are_trained_in_four_steps_and_measured_under_variation(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_DRAWS", 2)
    result = hstnn("demo", "--task", "rram", "--out", tmp_path)
    assert result.code == 0, result.err
    assert "Test accuracy under variation" in result.out
    for step in ("baseline", "vat", "recover", "prune"):
        assert result.out.count(f"│ {step} ") == 2


def test_the_digits_are_trained_exported_with_proof_and_profiled_and_nothing_is_done_twice(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = hstnn("demo", "--out", tmp_path)
    assert result.code == 0
    assert "1797 real handwritten digits, 8 steps of 8 pixels" in result.out
    assert "fixed test split of 360 digits" in result.out
    for name in ("rnn", "snn", "ffs, ratio 0.5", "hybrid adapted, redundant", "hybrid restored, ratio 0.5"):
        assert f"│ {name} " in result.out
    assert "Verification of model.ts" in result.out
    assert "failed" not in result.out
    assert (tmp_path / "profile/records.jsonl").is_file()
    for other in ("--task lm", "--task events"):
        assert f"hstnn demo {other}" in result.out
    again = hstnn("demo", "--out", tmp_path, "--json")
    assert again.code == 0
    assert "The bundle of this checkpoint already exists" in again.err
    facts = json.loads(again.out)
    assert list(facts["results"]) == KINDS
    assert facts["bundle"]["verification"]["result"] == "passed"
    assert (facts["task"], facts["not_exported"], facts["not_profiled"]) == ("digits", "", "")
    assert len(facts["profile"]) == 1


@pytest.mark.parametrize(
    ("task", "title", "counted", "metric"),
    [
        ("lm", "Python's own help topics", " words.", "perplexity"),
        ("events", "as an event camera sees them", "test split of 360 recordings.", "accuracy"),
    ],
)
def test_the_other_families_go_the_same_way_as_far_as_there_is_one(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, title: str, counted: str, metric: str
) -> None:
    # Refused here whatever the families can do, so that what is said then is tested.
    monkeypatch.setattr("hstnn_deploy.export.bundle.export.export_bundle", refused(ExportError("No form yet", "wait")))
    monkeypatch.setattr("hstnn_deploy.profile.plan.plan.plan", refused(UsageError("cannot be profiled yet", "wait")))
    result = hstnn("demo", "--task", task, "--out", tmp_path, "--json")
    assert result.code == 0
    assert title in result.err
    assert counted in result.err
    assert "Not exported: No form yet." in result.err
    assert "Not profiled: cannot be profiled yet." in result.err
    assert "bundle " not in result.err
    facts = json.loads(result.out)
    assert list(facts["results"]) == KINDS
    assert all(each["test"][metric] > 0 for each in facts["results"].values())
    assert facts | {"bundle": None, "not_exported": "No form yet", "profile": []} == facts


def test_a_check_that_fails_is_the_demos_exit_code(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hstnn_deploy.export.bundle.export import Bundle
    from hstnn_deploy.export.proof.comparisons import Check

    facts = {"files": {}, "carried": {}, "verification": {"result": "failed"}}

    def export(_ckpt: Path, folder: Path, *_: Any, **__: Any) -> Bundle:
        return Bundle(folder, [Check("model.ts", "a check", "failed", "by half")], facts)

    monkeypatch.setattr("hstnn_deploy.export.bundle.export.export_bundle", export)
    monkeypatch.setattr("hstnn_deploy.profile.plan.plan.plan", refused(UsageError("cannot be profiled", "wait")))
    result = hstnn("demo", "--out", tmp_path)
    assert result.code == 8
    assert "by half" in result.out
    assert "the export failed 1 check" in result.error


def test_ctrl_c_says_what_is_kept(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hstnn_deploy.export.bundle.export.export_bundle", refused(KeyboardInterrupt()))
    result = hstnn("demo", "--out", tmp_path)
    assert result.code == 130
    assert "all finished epochs and stages are kept" in result.error
    assert (tmp_path / "runs/digits/hybrid/seed1111/ratio-0.5/best.pt").is_file()


def test_an_unknown_task_is_refused_with_those_there_are(hstnn: Hstnn) -> None:
    result = hstnn("demo", "--task", "images")
    assert result.code == 2
    assert "'images' is not one of 'digits', 'lm', 'events'" in result.error
