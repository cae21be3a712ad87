"""A small network of whole digits, encoded in spikes, with norms of each step's own: for tests of exits and images."""

from pathlib import Path
from typing import Any

import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.models.stack import Stack
from hstnn_deploy.recipe.load import load_recipe, parse
from hstnn_deploy.recipe.recipe import Recipe

STEPS = 8


def recipe(readout: str = "sum", norm: bool = True, encoding: str = "poisson") -> Recipe:
    """Return its recipe."""
    plain = load_recipe("rram-digits").dump()
    plain = {key: value for key, value in plain.items() if key != "finetune"}
    norms: list[Any] = [{"norm": {"over": "step", "steps": STEPS, "shift": False}}] if norm else []
    layers = [{"conv": 4, "kernel": 3, "stride": 2, "bias": False}, *norms, "lif", "flatten", {"linear": 12}, *norms]
    network = {
        "family": "stack",
        "input": [1, 8, 8],
        "layers": [*layers, "lif", {"linear": 10}],
        "readout": readout,
    }
    data = {**plain["data"], "images": {**plain["data"]["images"], "encoding": encoding}}
    return parse({**plain, "network": network, "data": data}, "a recipe of tests")


def network(**options: Any) -> Stack:
    """Return it, freshly initialised, strong enough to spike; the scales of its norms fall from step to step."""
    torch.manual_seed(3)
    made = recipe(**options).network.build([])
    assert isinstance(made, Stack)
    with torch.no_grad():
        for norm in made.step_norms().values():
            assert norm.scale is not None
            norm.scale.copy_(torch.linspace(1.5, 0.8, STEPS)[:, None] * torch.rand(norm.scale.shape).add(0.5))
        first, *_, last, _ = made.parameters()
        first.mul_(3)
        last.mul_(4)
    return made.eval().requires_grad_(False)


def checkpoint(path: Path, **options: Any) -> Path:
    """Write its checkpoint, as if it had been trained."""
    made = recipe(**options)
    Checkpoint(
        recipe=made.dump(),
        architecture=made.network,
        stage="train",
        sizes=[],
        parameters=network(**options).state_dict(),
        epoch=1,
        metrics={"protocol": "validation"},
    ).save(path)
    return path
