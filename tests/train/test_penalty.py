"""What is added to the loss for spikes, and training in half precision with scaled gradients."""

from pathlib import Path

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import CheckpointError, RecipeError
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.sections import RateBounds, Regularise
from hstnn_deploy.train.doubts import RATE
from hstnn_deploy.train.penalty import Penalty
from hstnn_deploy.train.stages import train
from tests.models.stacks import example, stack

BRIEF = ["network.layers=[{linear: 16}, {lif: {}}, {linear: 10}]", "train.epochs=2", "batch=200"]


def test_the_penalty_is_its_formula() -> None:
    network = stack("neuron: lif").train()
    x = example(network, 7, 4)
    how = Regularise(spikes=0.5, rate=RateBounds(low=0.3, high=0.4, weight=2.0))
    penalty = Penalty(network, how)
    with penalty:
        network(x)
        spikes, _ = network.layers.layers[1](network.layers.layers[0](x), {"v": torch.zeros(4, 5)}, None)
    rate = spikes.mean((0, 1))
    off = (0.3 - rate).clamp(min=0) + (rate - 0.4).clamp(min=0)
    wanted = 0.5 * rate.mean() + 2 * off.square().mean()
    # Both passes were seen, and are the same: their mean is each one's.
    torch.testing.assert_close(penalty.value(), wanted)
    penalty.value().backward()
    assert all(value.grad is not None for value in network.layers.layers[0].parameters())


def test_steps_past_a_sample_s_length_do_not_count() -> None:
    network = stack("neuron: lif").train()
    x = example(network, 7, 2)
    lengths = torch.tensor([7, 3])
    whole, part = Penalty(network, Regularise(spikes=1.0)), Penalty(network, Regularise(spikes=1.0))
    with whole:
        network(x, None, lengths)
    noisy = x.clone()
    noisy[3:, 1] = 100.0
    with part:
        network(noisy, None, lengths)
    assert float(whole.value()) == float(part.value()) > 0


@pytest.mark.parametrize("recipe", ["digits", "digit-events"])
def test_hybrids_have_it_too(recipe: str) -> None:
    found = load_recipe(recipe, ["network.units=[4, 4]", "kind=ffs"])
    network = build(found.network, layer_sizes("ffs", found.network.units, 0.5))
    penalty = Penalty(network, Regularise(spikes=1.0))
    with penalty:
        network(torch.rand(12, 3, *network.input_shape) * 5)
    value = penalty.value()
    assert 0 < float(value) < 1
    value.backward()


def test_fewer_spikes_are_bought_with_a_weight(tmp_path: Path) -> None:
    rates = []
    for weight in (0.0, 5.0):
        changes = [*BRIEF, "train.epochs=6", f"regularise={{spikes: {weight}}}"]
        (run,) = train(load_recipe("stack-digits", changes), tmp_path / str(weight))
        rates.append(run.metrics()[-1][f"{RATE}2"])
    assert rates[1] < 0.7 * rates[0]


def test_bounds_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"low \(0\.6\) is above high \(0\.4\)"):
        load_recipe("stack-digits", ["regularise={rate: {low: 0.6, high: 0.4}}"])


def test_half_precision_keeps_its_scale_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    recipe = load_recipe("stack-digits", [*BRIEF, "precision=fp16"])
    (whole,) = train(recipe, tmp_path / "whole")
    scaler = Checkpoint.load(whole.last).training["scaler"]  # type: ignore[index]
    assert scaler["scale"] > 0
    (run,) = train(load_recipe("stack-digits", [*BRIEF, "precision=fp16", "train.epochs=1"]), tmp_path / "half")
    # As if it had been stopped after the first epoch of two.
    for name in ("stage.yaml", "recipe.yaml"):
        path = run.path / name
        path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))
    run.set_status("interrupted")
    (again,) = train(recipe, tmp_path / "half", resume=True)
    ours, theirs = Checkpoint.load(again.last), Checkpoint.load(whole.last)
    assert all(torch.equal(value, theirs.parameters[name]) for name, value in ours.parameters.items())
    assert ours.training["scaler"] == scaler  # type: ignore[index]


def test_a_last_checkpoint_without_its_scale_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("stack-digits", [*BRIEF, "precision=fp16"])
    (run,) = train(recipe, tmp_path)
    last = Checkpoint.load(run.last)
    assert last.training is not None
    del last.training["scaler"]
    last.save(run.last)
    run.set_status("interrupted")
    with pytest.raises(CheckpointError, match="does not fit this training"):
        train(recipe, tmp_path, resume=True)
