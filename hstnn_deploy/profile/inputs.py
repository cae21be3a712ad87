"""What a measured process works on: the recipe's data where it is at hand, else random data of the same size."""

from pathlib import Path

import torch

from hstnn_deploy.data import registry
from hstnn_deploy.data.splits import ArraySplit, Splits, with_validation
from hstnn_deploy.train.recipe import Recipe


def splits(recipe: Recipe, folder: Path | None) -> tuple[Splits, str]:
    """Return the recipe's data and one line that says what it is: "real: …" or "synthetic: …".

    Nothing is downloaded: a measurement must not depend on the network.

    Raises:
        DataError: the data is there, but damaged; or the data folder is not there.
    """
    if absent := registry.missing(recipe.data, folder):
        made = synthetic(recipe)
        return made, f"synthetic: {made.origin}; {recipe.data.name} is not at hand ({absent[0]} is missing)"
    loaded = registry.load(recipe.data, recipe.protocol, folder)
    return loaded, f"real: {loaded.origin}"


def synthetic(recipe: Recipe) -> Splits:
    """Return random bytes as a data set of the recipe's size; the same on every call."""
    size = registry.shape(recipe.data)
    assert size is not None, "a text is not profiled yet: the plan refuses it"
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> ArraySplit:
        x = torch.randint(0, 256, (count, size.steps, *size.step), dtype=torch.uint8, generator=generator)
        target = torch.randint(0, size.classes, (count,), generator=generator)
        return ArraySplit(x, target, scale=1 / 255)

    test = part(size.test)
    train, valid = with_validation(part(size.train), recipe.protocol)
    what = "random samples of the same number and shape"
    return Splits(train, valid or test, test, size.inputs, size.classes, what, size.family, size=size.size)
