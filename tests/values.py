"""Data with values for targets, in the place of the digits: a linear function of what is seen over time, and noise."""

from dataclasses import replace

import pytest
import torch

from hstnn_deploy.data import registry
from hstnn_deploy.data.dataset import Shape, Source
from hstnn_deploy.data.sets.digits import DIGITS, DigitsConfig
from hstnn_deploy.data.splits import ArraySplit, Splits, as_values, with_validation

STEPS, INPUTS, VALUES = 8, 8, 2
NOISE = 0.1
SHAPE = Shape(train=400, test=100, steps=STEPS, inputs=INPUTS, classes=VALUES, targets="values")


def some_values(samples: int, seed: int) -> ArraySplit:
    """Return random samples of bytes 0 to 16, and of each two values with a mean of 3 and -1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 17, (samples, STEPS, INPUTS), generator=generator, dtype=torch.uint8)
    weights = torch.randn(INPUTS, VALUES, generator=torch.Generator().manual_seed(0))
    noise = NOISE * torch.randn(samples, VALUES, generator=generator)
    seen = (x.float() / 16 - 0.5).mean(1) @ weights
    return ArraySplit(x, as_values(5 * seen + torch.tensor([3.0, -1.0]) + noise, "y"), scale=1 / 16)


def load_values(config: DigitsConfig, source: Source) -> Splits:
    """Return the splits, as the digits' own function does; where images are asked for, each is shown at every step."""
    whole, test = some_values(SHAPE.train, 1), some_values(SHAPE.test, 2)
    if config.images is not None:
        whole, test = (replace(each, x=each.x[:, None, None].expand(-1, STEPS, 1, -1, -1)) for each in (whole, test))
    train, valid = with_validation(whole, source.protocol)
    shape = shape_of(config)
    return Splits(
        *(train, valid or test, test, shape.inputs, VALUES, "500 random samples", shape.family),
        size=shape.size,
        targets="values",
    )


def shape_of(config: DigitsConfig) -> Shape:
    """Return the size of the splits."""
    return SHAPE if config.images is None else SHAPE._replace(inputs=1, size=INPUTS)


def in_place_of_the_digits(patch: pytest.MonkeyPatch) -> None:
    """Let every recipe of the digits have these samples."""
    patch.setitem(registry.DATA_SETS, "digits", replace(DIGITS, load=load_values, shape=shape_of))


LINEAR = [
    "network.layers=[{integrator: {decay: 0.2}}, {linear: 2}]",
    "network.readout=last",
]
"""Changes of the recipe stack-digits: a network whose output is linear in the leaky sum of its input."""
SPIKING = ["network.layers=[{linear: 16}, {lif: {tau: 2, threshold: 0.5}}, {linear: 2}]", "network.readout=mean"]
"""The same: a network of spiking neurons."""
