"""What a measured process works on: the recipe's data where it is at hand, else random data of the same size."""

from pathlib import Path

import torch

from hstnn_deploy.data import registry
from hstnn_deploy.data.splits import ArraySplit, Splits, with_validation
from hstnn_deploy.data.text import PtbConfig, TextSplit, WikiText2Config
from hstnn_deploy.models.language import LanguageConfig
from hstnn_deploy.train.recipe import Recipe


def splits(recipe: Recipe, folder: Path | None) -> tuple[Splits, str]:
    """Return the recipe's data and one line that says what it is: "real: …" or "synthetic: …".

    Nothing is downloaded: a measurement must not depend on the network.

    Raises:
        DataError: the data is there, but damaged; or the data folder is not there.
        UsageError: the network is not made for the data that is there.
    """
    if absent := registry.missing(recipe.data, folder):
        made = synthetic(recipe)
        return made, f"synthetic: {made.origin}; {recipe.data.name} is not at hand ({absent[0]} is missing)"
    loaded = registry.load(recipe.data, recipe.protocol, folder)
    recipe.check_fits(loaded.family, {"inputs": loaded.inputs, "classes": loaded.classes, "size": loaded.size})
    return loaded, f"real: {loaded.origin}"


_WORDS = {
    "ptb": {"train": 929_589, "valid": 73_760, "test": 82_430},
    "wikitext2": {"train": 2_088_628, "valid": 217_646, "test": 245_569},
}
"""The published texts' words, `<eos>` of every line among them."""


def synthetic(recipe: Recipe) -> Splits:
    """Return random bytes, or random words, as a data set of the recipe's size; the same on every call."""
    if isinstance(recipe.network, LanguageConfig):
        return _random_text(recipe, recipe.network.vocabulary)
    size = registry.shape(recipe.data)
    assert size is not None
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> ArraySplit:
        x = torch.randint(0, 256, (count, size.steps, *size.step), dtype=torch.uint8, generator=generator)
        target = torch.randint(0, size.classes, (count,), generator=generator)
        return ArraySplit(x, target, scale=1 / 255)

    test = part(size.test)
    train, valid = with_validation(part(size.train), recipe.protocol)
    what = "random samples of the same number and shape"
    return Splits(train, valid or test, test, size.inputs, size.classes, what, size.family, size=size.size)


def _random_text(recipe: Recipe, vocabulary: int) -> Splits:
    data = recipe.data
    assert isinstance(data, PtbConfig | WikiText2Config)
    generator = torch.Generator().manual_seed(0)
    parts = {
        name: TextSplit(torch.randint(0, vocabulary, (count,), generator=generator), data.bptt, f"random words: {name}")
        for name, count in _WORDS[data.name].items()
    }
    valid = parts["test" if recipe.protocol == "test" else "valid"]
    what = "as many random words"
    return Splits(parts["train"], valid, parts["test"], 1, vocabulary, what, family="language")
