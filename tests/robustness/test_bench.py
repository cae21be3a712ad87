"""Disturbances of whole images, recordings and texts on networks that see such data."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.errors import RunError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.robustness.measure import Bench
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, TINY_TEXT, settings

FEW: dict[str, object] = {"epochs": 1, "batches": 2}


def _bench(recipe: Any, out: Path, folder: Path | None = None) -> Bench:
    run = train(recipe, out, data_folder=folder)[-1]
    splits = load(recipe.data, recipe.protocol, folder)
    return Bench(Checkpoint.load(run.best), splits, "test", recipe.batch, torch.device("cpu"), folder)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    changes = {**TINY, "network.units": [4, 4], "adapt.epochs": 1, "batch": 30}
    recipe = load_recipe("digit-events", settings({**changes, "kind": "snn"}))
    return _bench(recipe, tmp_path_factory.mktemp("events"))


def test_recordings_without_a_disturbance_are_what_training_sees(events: Bench) -> None:
    """A level so low that no event is touched gives the very frames of the split."""
    from hstnn_deploy.data.preprocessing import Frames, preprocessing
    from hstnn_deploy.disturbances.inputs import DisturbedEvents

    how = preprocessing(events.recipe.data)
    assert isinstance(how, Frames)
    numbers = torch.tensor([0, 3, 11])
    plain = events.split.batch(numbers, torch.device("cpu"))
    for name in ("event-drop", "background", "hot-pixels", "dead-pixels", "polarity-flip"):
        made = DisturbedEvents(events.recordings, how, name, 1e-12, 0, {}).batch(numbers, torch.device("cpu"))
        assert torch.equal(made.x, plain.x), name
        assert torch.equal(made.target, plain.target)
        strong = DisturbedEvents(events.recordings, how, name, 0.9, 0, {}).batch(numbers, torch.device("cpu"))
        assert not torch.equal(strong.x, plain.x), name


def test_events_and_frames_are_disturbed_of_recordings(events: Bench) -> None:
    fitting = [name for name, each in DISTURBANCES.items() if not events.why_not(each)]
    assert {"event-drop", "sensor-shift", "gaussian", "pgd", "leak-mismatch"} <= set(fitting)
    assert "word-drop" not in fitting
    found = events.curve(DISTURBANCES["event-drop"], [1.0], 1).values[0][0]
    # Without an event, there is nothing but one class to say.
    counts = torch.bincount(events.recordings.target)
    assert any(found == pytest.approx(100 * count.item() / counts.sum().item()) for count in counts)


def test_a_text_is_read_with_other_words_and_the_same_are_predicted(ptb: Path, tmp_path: Path) -> None:
    bench = _bench(load_recipe("ptb", settings({**TINY_TEXT, "kind": "rnn"})), tmp_path, ptb)
    assert [name for name, each in DISTURBANCES.items() if each.where == "words" and not bench.why_not(each)] == [
        "word-replace",
        "word-drop",
    ]
    assert bench.why_not(DISTURBANCES["gaussian"]).startswith("it acts on values")
    assert bench.why_not(DISTURBANCES["pgd"]).startswith("it acts on values")
    for name in ("word-replace", "word-drop"):
        assert bench.value(DISTURBANCES[name], 1e-12, 0) == bench.clean
        assert bench.value(DISTURBANCES[name], 0.9, 0) != bench.clean


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    few = {f"{section}.{key}": value for section in ("train", "finetune") for key, value in FEW.items()}
    return _bench(load_recipe("rram-digits", settings(few)), tmp_path_factory.mktemp("pictures"))


def test_a_picture_is_disturbed_before_it_becomes_spikes(pictures: Bench) -> None:
    bench = pictures
    assert "no gradient" in bench.why_not(DISTURBANCES["pgd"])
    assert bench.value(DISTURBANCES["gaussian"], 1e-12, 0) == bench.clean
    from hstnn_deploy.disturbances.inputs import disturbed_images

    split: Any = bench.split
    covered = disturbed_images(split, {"occlusion": 1.0}, 0).batch(torch.arange(2), torch.device("cpu")).x
    # All black: the normalised value of 0 is the same everywhere, and so is the sign of its spikes.
    assert set(covered.unique().tolist()) <= {-1.0, 0.0}


def test_what_is_usual_makes_no_more_steps_than_a_network_takes_and_a_loss_is_a_number(
    pictures: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with norms of each step is as long as they are many: it is measured under all else."""
    bench = pictures
    assert bench.network.longest is not None
    usual = [each.name for each in bench.usual()]
    assert "stretch" not in usual
    assert {"compress", "gaussian", "weight-bits"} <= set(usual)
    monkeypatch.setattr("hstnn_deploy.robustness.measure.evaluate", lambda *_: {"loss": float("nan"), "accuracy": 10.0})
    with pytest.raises(RunError, match=r"^rram-digits under weight-gaussian of 5: its loss is nan"):
        bench.value(DISTURBANCES["weight-gaussian"], 5.0, 0)
