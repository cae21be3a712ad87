"""`hstnn evaluate`: the figures of a checkpoint, or why there are none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    from hstnn_deploy.recipe.load import load_recipe

    recipe = load_recipe("digits", settings({**TINY, "kind": "ffs"}))
    (folder,) = train(recipe, tmp_path_factory.mktemp("runs"))
    return folder


def evaluated(hstnn: Hstnn, *words: str | Path) -> dict[str, Any]:
    result = hstnn("evaluate", *words, "--device", "cpu", "--json")
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


@pytest.mark.parametrize("split", ["test", "valid"])
def test_the_figures_are_those_of_the_training(hstnn: Hstnn, run: RunFolder, split: str) -> None:
    found = evaluated(hstnn, "--ckpt", run.best, "--split", split)
    result = run.status()["result"]
    expected = result["test"]["accuracy"] if split == "test" else result["valid"]["valid_accuracy"]
    assert found["accuracy"] == expected
    assert {key: found[key] for key in ("recipe", "kind", "stage", "split", "protocol", "device")} == {
        "recipe": "digits",
        "kind": "ffs",
        "stage": "train",
        "split": split,
        "protocol": "validation",
        "device": "cpu",
    }
    assert found["samples"] == {"test": 360, "valid": 144}[split]
    assert found["epoch"] == result["epoch"]


def test_the_test_split_is_the_default_and_the_batch_is_free(hstnn: Hstnn, run: RunFolder) -> None:
    found = evaluated(hstnn, "--ckpt", run.best, "--batch", "7")
    assert found["split"] == "test"
    assert found["loss"] == pytest.approx(run.status()["result"]["test"]["loss"], rel=1e-5)


def test_people_are_told_what_was_measured_and_by_which_protocol(hstnn: Hstnn, run: RunFolder) -> None:
    result = hstnn("evaluate", "--ckpt", run.best, "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    accuracy = run.status()["result"]["test"]["accuracy"]
    assert f"test split: accuracy {accuracy:.2f} %" in result.out
    assert "360 samples" in result.out
    assert "protocol: best epoch chosen on a validation split held out of training" in result.out
    assert "spiking+recurrent units 3+3, 2+3" in result.out


def test_last_can_be_evaluated_too(hstnn: Hstnn, run: RunFolder) -> None:
    assert evaluated(hstnn, "--ckpt", run.last)["epoch"] == 2


@pytest.mark.parametrize(
    ("damage", "message", "hint"),
    [
        ("missing", "does not exist", "hstnn train"),
        ("folder", "is a folder", "best.pt"),
        ("empty", "is damaged, or not a whole file", "run folder"),
        ("truncated", "is damaged, or not a whole file", "run folder"),
        ("random", "is not a checkpoint", "best.pt"),
        ("foreign", "was not written by hstnn", "best.pt"),
        ("code", "ran nothing in it", "hstnn wrote"),
        ("newer", "format version 99", "upgrade"),
        ("traces", "contains 'traces', not 'network'", "best.pt"),
        ("shape", "do not fit the network", ""),
    ],
)
def test_a_checkpoint_that_is_none_is_refused(
    hstnn: Hstnn, run: RunFolder, tmp_path: Path, damage: str, message: str, hint: str
) -> None:
    path, marker = tmp_path / "best.pt", tmp_path / "marker"
    good = run.best.read_bytes()
    whole = torch.load(run.best, weights_only=True)

    class Code:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(marker)!r}, 'w')",)

    match damage:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "truncated":
            path.write_bytes(good[: len(good) // 2])
        case "random":
            path.write_bytes(bytes(range(256)) * 10)
        case "foreign":
            torch.save({"state_dict": {}}, path)
        case "code":
            torch.save({**whole, "data": Code()}, path)
        case "newer":
            torch.save({**whole, "version": 99}, path)
        case "traces":
            torch.save({**whole, "content": "traces"}, path)
        case "shape":
            whole["data"]["parameters"]["readout.bias"] = torch.zeros(3)
            torch.save(whole, path)
        case _:
            pass
    result = hstnn("evaluate", "--ckpt", path)
    assert result.code == 4
    assert message in result.error
    assert str(path) in result.error
    assert hint in result.hint
    assert result.out == ""
    assert not marker.exists()


def test_a_device_that_is_not_there_or_not_known_is_refused(
    hstnn: Hstnn, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hstnn("evaluate", "--ckpt", run.best, "--device", "cuda").code == 6
    result = hstnn("evaluate", "--ckpt", run.best, "--device", "frob")
    assert result.code == 2
    assert "unknown device 'frob'" in result.error


def test_nothing_but_json_is_on_standard_output_after_an_error(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("evaluate", "--ckpt", tmp_path / "none", "--json")
    assert (result.code, result.out) == (4, "")
