"""Training against disturbances: to the same bits, interrupted or not, and undisturbed where it is measured."""

from pathlib import Path
from typing import Any

import pytest
import torch

import hstnn_deploy
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.errors import RecipeError, RunError, UsageError
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.train.stages import train
from tests.conftest import Hstnn
from tests.contents import contents
from tests.train.stage_cases import BASE, Listener, tiny

ALL = "{gaussian: 0.3, frame-loss: 0.3, pgd: 0.05, weight-gaussian: 0.1, weight-bits: 4, spike-loss: 0.2}"
CPU = torch.device("cpu")


def test_a_hybrid_is_trained_against_it_in_all_stages_to_the_same_bits_interrupted_or_not(tmp_path: Path) -> None:
    recipe = tiny(against=ALL)
    listener = Listener()
    train(recipe, tmp_path / "whole", observer=listener)
    said = "trained against gaussian 0.3, frame-loss 0.3, pgd 0.05, weight-gaussian 0.1, weight-bits 4, spike-loss 0.2"
    assert [text for (text,) in listener.of("note")].count(said) == 2
    for point in (("epoch_done", 1), ("batch_done", 5), ("stage_started", 2), ("epoch_done", 1)):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut", resume=True, observer=Listener(stop=point))
        torch.manual_seed(5)
    train(recipe, tmp_path / "cut", resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    train(tiny(), tmp_path / "plain")
    for stage in ("adapt", "ratio-0.5"):
        ours, theirs = (
            Checkpoint.load(tmp_path / out / BASE / stage / "last.pt").parameters for out in ("whole", "plain")
        )
        assert all(not torch.equal(value, theirs[name]) for name, value in ours.items() if value.ndim > 1)


def test_validation_and_test_are_undisturbed_and_weights_are_kept_clean(tmp_path: Path) -> None:
    recipe = tiny(against=ALL, kind="snn")
    (run,) = train(recipe, tmp_path, test_curve=True)
    splits, task = load(recipe.data, recipe.protocol), task_for(recipe.network, recipe.loss)
    best = Checkpoint.load(run.best)
    row = best.metrics["valid"]
    for name in ("valid", "test"):
        found = evaluate(best.network(), task, splits.split(name), recipe.batch, CPU)
        assert found["loss"] == row[f"{name}_loss"]
        assert found["accuracy"] == row[f"{name}_accuracy"]
    # Weights of 4 bits would have at most 15 values in each tensor.
    assert all(len(value.unique()) > 15 for value in best.parameters.values() if value.numel() > 30)


def test_each_disturbance_alone_changes_what_is_learnt(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    levels = {"gaussian": 0.3, "stretch": 0.5, "fgsm": 0.1, "float16": 1, "weight-stuck": 0.3, "spike-delay": 2}
    for name, level in {"": 0, **levels}.items():
        recipe = tiny(kind="snn", adapt__epochs=1, against=f"{{{name}: {level}}}" if name else "{}")
        (run,) = train(recipe, tmp_path / f"of {name}")
        found[name] = comparable = torch.cat([each.flatten() for each in Checkpoint.load(run.last).parameters.values()])
        assert torch.isfinite(comparable).all()
    names = list(found)
    assert not any(torch.equal(found[a], found[b]) for a in names for b in names if a < b)


def test_a_recipe_without_it_is_what_it_was() -> None:
    recipe = tiny()
    assert "against" not in recipe.dump()
    assert all("against" not in recipe.for_stage(stage) for stage in ("train", "adapt", "traces", "restore"))
    assert tiny(against="{}").dump() == tiny(against="null").dump() == recipe.dump()
    ours = tiny(against="{weight-bits: 4, gaussian: 1e-1}")
    assert ours.dump()["against"] == {"gaussian": 0.1, "weight-bits": 4.0}
    assert ours.dump() == tiny(against="{gaussian: 0.1, weight-bits: 4}").dump()
    assert Recipe.model_validate(ours.dump()) == ours
    for stage in ("train", "adapt", "traces", "restore"):
        assert ours.for_stage(stage) != recipe.for_stage(stage)
        assert ours.upgraded(recipe.for_stage(stage)) == recipe.for_stage(stage)


def test_a_training_does_not_go_on_against_something_else(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(kind="snn"), tmp_path, observer=Listener(stop=("epoch_done", 1)))
    with pytest.raises(RunError):
        train(tiny(kind="snn", against="{gaussian: 0.1}"), tmp_path, resume=True)


def test_from_python(tmp_path: Path) -> None:
    x, y = torch.rand(60, 6, 5), torch.arange(60) % 3
    network = hstnn_deploy.Stack([{"linear": 8}, {"lif": {"threshold": 0.3}}, {"linear": 3}], input=(5,))
    found = [
        hstnn_deploy.fit(network, (x, y), epochs=2, batch=20, progress=False, against=against)
        for against in (None, {}, {"gaussian": 0.5, "weight-bits": 3}, {"weight-bits": 3, "gaussian": 0.5})
    ]
    losses = [[row["train_loss"] for row in each.rows] for each in found]
    assert losses[0] == losses[1] != losses[2] == losses[3]
    with pytest.raises(RecipeError, match=r"against\.gaussiam"):
        hstnn_deploy.fit(network, (x, y), progress=False, against={"gaussiam": 0.5})
    with pytest.raises(UsageError, match=r"against\.event-drop does not fit"):
        hstnn_deploy.fit(network, (x, y), progress=False, against={"event-drop": 0.5})
    with pytest.raises(RecipeError, match=r"against must be names of disturbances with levels \(got 'gaussian'\)"):
        hstnn_deploy.fit(network, (x, y), progress=False, against="gaussian")  # type: ignore[arg-type]


# The command line.

SMALL = ["--kind", "rnn", "--set", "network.units=[6]", "--set", "adapt.epochs=2", "--set", "batch=200"]
AGAINST = ["--set", "against={gaussian: 0.2, weight-gaussian: 0.1}"]


def test_two_processes_train_against_the_same(hstnn: Hstnn, tmp_path: Path) -> None:
    assert hstnn("train", "digits", *SMALL, *AGAINST, "--out", tmp_path / "one").code == 0
    result = hstnn("train", "digits", *SMALL, *AGAINST, "--out", tmp_path / "two", "--nproc", "2")
    assert (result.code, result.err) == (0, "")
    rows = [RunFolder(tmp_path / out / "digits/rnn/seed1111").metrics() for out in ("one", "two")]
    assert len(rows[0]) == 2
    for one, two in zip(*rows, strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["valid_loss"] == pytest.approx(one["valid_loss"], rel=1e-5)


def test_the_command_says_what_was_trained_against_and_reports_tell_runs_apart(hstnn: Hstnn, tmp_path: Path) -> None:
    plain = hstnn("train", "digits", *SMALL, "--out", tmp_path)
    assert "trained against" not in plain.out
    named = hstnn("train", "digits", *SMALL, *AGAINST, "--set", "name=digits-noise", "--out", tmp_path)
    assert named.code == 0
    assert named.out.count("trained against gaussian 0.2, weight-gaussian 0.1") == 2
    assert (tmp_path / "digits-noise/rnn/seed1111/best.pt").exists()
    # Of one name, in another folder: the report tells them apart all the same.
    hstnn("train", "digits", *SMALL, *AGAINST, "--out", tmp_path / "more")
    report = hstnn("report", tmp_path)
    assert report.code == 0
    titles = [line.partition(":")[0] for line in report.out.splitlines() if "mean over seeds" in line]
    assert titles == ["digits", "digits-noise", "digits (against.gaussian 0.2, against.weight-gaussian 0.1)"]
    assert report.out.count("Trained against gaussian 0.2, weight-gaussian 0.1.") == 2
    other = hstnn("train", "digits", *SMALL, *AGAINST, "--out", tmp_path)
    assert other.code != 0
    assert "against" in other.error + other.hint


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("{gaussiam: 0.2}", "against.gaussiam: unknown disturbance 'gaussiam'", "did you mean 'gaussian'?"),
        ("{frame-loss: 2}", "against.frame-loss: level 2 must be from 0 to 1 (share of the time steps)", ""),
        ("{gaussian: yes}", "against.gaussian is True, not a number", "for example against: {gaussian: 0.2}"),
        ("{gaussian: .nan}", "against.gaussian: level nan must be 0 or more", ""),
        ("[gaussian]", "against must be names of disturbances with levels (got ['gaussian'])", "for example"),
        (
            "{threshold-mismatch: 0.1}",
            "against.threshold-mismatch: a training does not disturb neurons",
            "train against",
        ),
        ("{event-drop: 0.1}", "against.event-drop does not fit this training: it acts on raw events", "leave it out"),
        ("{word-drop: 0.1}", "against.word-drop does not fit this training: it acts on words", "leave it out"),
        ("{spike-loss: 0.1}", "against.spike-loss does not fit this training: this network has no spikes", "leave"),
    ],
)
def test_what_is_wrong_is_one_line(hstnn: Hstnn, tmp_path: Path, given: str, message: str, hint: str) -> None:
    result = hstnn("train", "digits", *SMALL, "--set", f"against={given}", "--out", tmp_path / "out")
    assert result.code == 2
    assert result.error.startswith(message)
    assert result.hint.startswith(hint)
    assert not (tmp_path / "out").exists()


def test_weights_on_devices_vary_as_they_say_themselves() -> None:
    with pytest.raises(RecipeError, match="is not for weights on devices"):
        load_recipe("rram-digits", ["against={weight-gaussian: 0.1}"])
    assert load_recipe("rram-digits", ["against={gaussian: 0.1}"]).against == {"gaussian": 0.1}
