"""What makes a training doubtful is said once, stays in metrics.jsonl, and is not said of one that learns."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.sets.digits import DigitsConfig, load_digits
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.tasks import Classification, LanguageModelling, OneHot
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.doubts import Doubts, constant_loss
from hstnn_deploy.train.stages import train
from tests.train.stage_cases import BASE, Listener, tiny


def row(epoch: int, loss: float, **rates: float) -> dict[str, Any]:
    found = {f"spike_rate.{name}": rate for name, rate in rates.items()}
    return {"epoch": epoch, "train_loss": loss, "valid_loss": loss, **found}


def warnings_of(listener: Listener) -> list[str]:
    return [str(facts[0]) for facts in listener.of("note") if str(facts[0]).startswith("warning: ")]


def test_a_silent_and_a_saturated_layer_are_said_once_with_what_would_help() -> None:
    doubts = Doubts(Lif(threshold=1000.0), 2.3)
    (silent, saturated) = doubts.look(first := row(1, 1.0, layer1=0.0, layer2=1.0, layer3=0.2))
    assert silent == (
        "warning: layer 1 did not spike once in the validation pass of epoch 1; a lower network.neuron.threshold "
        "(it is 1000), larger inputs or weights, or a wider surrogate (network.neuron.lens is 0.5) would help"
    )
    assert "every unit of layer 2 spiked at every step" in saturated
    assert len(first["warnings"]) == 2
    assert doubts.look(again := row(2, 1.0, layer1=0.0, layer2=0.5)) == []
    assert again["warnings"] == ["layer 1 did not spike once in the validation pass of epoch 2"]
    assert doubts.look(well := row(3, 1.0, layer1=0.1, layer2=0.5)) == []
    assert "warnings" not in well
    (late,) = doubts.look(row(4, 1.0, layer1=0.0, layer3=0.0))
    assert "layers 1 and 3 did not spike once in the validation pass of epoch 4" in late


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2.31, 2.305, 2.3026, 2.3026], "after epoch 3, and was never clearly below the 2.303 of a constant answer"),
        ([2.3, 1e31, 2.0, 1.0], "1e+31 after epoch 2"),
        ([2.0, 2.35, 2.4, 2.5], "grew for 3 epochs"),
        ([2.0, 1.0, 1.5, 2.0], ""),
        ([2.31, 2.2, 2.31, 2.31], ""),
    ],
)
def test_a_loss_that_says_nothing_is_said_once(losses: list[float], said: str) -> None:
    doubts = Doubts(Lif(), math.log(10))
    found = [line for epoch, loss in enumerate(losses, 1) for line in doubts.look(row(epoch, loss, layer1=0.1))]
    assert len(found) == (1 if said else 0)
    assert said in "".join(found)


def test_the_loss_of_a_constant_answer_is_that_of_the_best_one() -> None:
    answers = torch.tensor([1, 0, 1, 1])  # of three classes
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert Classification().constant(answers, 3) == pytest.approx(entropy)
    assert LanguageModelling().constant(answers, 3) == pytest.approx(entropy)
    assert OneHot().constant(answers, 3) == pytest.approx(2 * 0.25 * 0.75 / 3)
    splits = load_digits(DigitsConfig(), Source())
    assert math.log(10) - 1e-3 < constant_loss(Classification(), splits) < math.log(10)


def test_a_network_that_never_spikes_is_not_trained_without_a_word(tmp_path: Path) -> None:
    listener = Listener()
    recipe = tiny(kind="snn", adapt__epochs=4, batch=500, network__neuron__threshold=1000)
    (run,) = train(recipe, tmp_path, observer=listener)
    silent, loss = warnings_of(listener)
    assert "layers 1 and 2 did not spike once in the validation pass of epoch 1" in silent
    assert "was never clearly below" in loss
    rows = run.metrics()
    assert [(each["spike_rate.layer1"], each["spike_rate.layer2"]) for each in rows] == [(0, 0)] * 4
    assert len(rows[-1]["warnings"]) == 2


def test_a_training_that_learns_has_rates_and_no_warning(whole: Path) -> None:
    for stage in ("adapt", "ratio-0.5"):
        rows = RunFolder(whole / BASE / stage).metrics()
        assert all(0 < each["spike_rate.layer1"] < 1 for each in rows)
        assert not any("warnings" in each for each in rows)


def test_rows_of_an_older_run_without_rates_are_continued(tmp_path: Path) -> None:
    recipe = tiny(kind="snn", adapt__epochs=2, batch=700)
    (run,) = train(recipe, tmp_path)
    path = run.path / "metrics.jsonl"
    old = [{key: value for key, value in each.items() if "spike" not in key} for each in run.metrics()]
    path.write_text("".join(json.dumps(each) + "\n" for each in old))
    run.set_status("interrupted")
    (again,) = train(recipe, tmp_path, resume=True)
    assert again.finished
    assert again.metrics() == old
