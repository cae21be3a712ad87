"""What a measured process works on: the recipe's data where it is at hand, else random data of the same size."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hstnn_deploy.data import registry
from hstnn_deploy.data.splits import ArraySplit, Batch, Split, Splits, with_validation
from hstnn_deploy.data.text import TextConfig, TextSplit
from hstnn_deploy.errors import DataError
from hstnn_deploy.models.language import LanguageConfig
from hstnn_deploy.profile.records import Configuration, Source
from hstnn_deploy.train.recipe import Recipe


def splits(
    recipe: Recipe, folder: Path | None, source: Source = "auto", steps: int | None = None
) -> tuple[Splits, str]:
    """Return the recipe's data and one line that says what it is: "real: …" or "synthetic: …".

    Nothing is downloaded: a measurement must not depend on the network.

    Args:
        recipe: whose data.
        folder: the data folder, or None for the usual one.
        source: `real`, `synthetic`, or `auto`: real where it is at hand.
        steps: time steps of a sample, where they are to be others than the data's own: cut off, or repeated.

    Raises:
        DataError: the data is there, but damaged; or the data folder is not there; or `real` data is not.
        UsageError: the network is not made for the data that is there.
    """
    absent = [] if source == "synthetic" else registry.missing(recipe.data, folder)
    if absent and source == "real":
        raise DataError(
            f"{recipe.data.name} is not at hand ({absent[0]} is missing)",
            "put its files into the data folder, or leave --data real out",
        )
    if absent or source == "synthetic":
        found = synthetic(recipe)
        why = "as asked" if source == "synthetic" else f"{recipe.data.name} is not at hand ({absent[0]} is missing)"
        what = f"synthetic: {found.origin}; {why}"
    else:
        found = registry.load(recipe.data, recipe.protocol, folder)
        recipe.check_fits(found.family, {"inputs": found.inputs, "classes": found.classes, "size": found.size})
        what = f"real: {found.origin}"
    size = registry.shape(recipe.data)
    if steps is None or size is None or steps == size.steps:
        return found, what
    train, valid, test = (_Timed(found.split(name), steps) for name in ("train", "valid", "test"))
    found = replace(found, train=train, valid=valid, test=test)
    return found, f"{what}; {steps} steps of each sample, its own {size.steps} cut off or repeated"


def splits_of(configuration: Configuration, recipe: Recipe) -> tuple[Splits, str]:
    """Return the data of a configuration; see `splits`."""
    folder = Path(configuration.data_dir) if configuration.data_dir else None
    return splits(recipe, folder, configuration.data, configuration.steps)


@dataclass(frozen=True)
class _Timed:
    """A split whose samples have another number of time steps."""

    whole: Split
    steps: int

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        x, target, lengths = self.whole.batch(indices, device)
        turns = -(-self.steps // len(x))
        x = x.repeat(turns, *[1] * (x.ndim - 1))[: self.steps] if turns > 1 else x[: self.steps]
        return Batch(x.contiguous(), target, None if lengths is None else lengths.clamp(max=self.steps))


_WORDS = {
    "ptb": {"train": 929_589, "valid": 73_760, "test": 82_430},
    "wikitext2": {"train": 2_088_628, "valid": 217_646, "test": 245_569},
}
"""The published texts' words, `<eos>` of every line among them."""


_DENSITY = {
    "mnist": (0.191, "MNIST's own"),
    "digits": (0.512, "the digits' own"),
    "digit-events": (0.134, "the events' own"),
    "nmnist": (0.02, "assumed"),
    "dvs-gesture": (0.1, "assumed"),
}
"""The share of inputs that are not zero, by data set, and where that was found; else half of them are."""


def synthetic(recipe: Recipe) -> Splits:
    """Return random bytes, or random words, as a data set of the recipe's size; the same on every call.

    As many of the inputs are zero as of the real ones, so that what depends on it (synaptic operations, spikes) is of
    the same order; frames of events hold counts of 1 to 3.
    """
    if isinstance(recipe.network, LanguageConfig):
        return _random_text(recipe, recipe.network.vocabulary)
    size = registry.shape(recipe.data)
    assert size is not None
    generator = torch.Generator().manual_seed(0)
    density, whose = _DENSITY.get(recipe.data.name, (0.5, "assumed"))
    events = size.size is not None

    def part(count: int) -> ArraySplit:
        x = torch.empty(count, size.steps, *size.step, dtype=torch.uint8)
        # Sample by sample: the random numbers behind them take eight times the room.
        for some in x.split(256):
            kept = torch.rand(some.shape, generator=generator) < density
            torch.randint(1, 4 if events else 256, some.shape, dtype=torch.uint8, generator=generator, out=some)
            some.mul_(kept)
        target = torch.randint(0, size.classes, (count,), generator=generator)
        return ArraySplit(x, target, scale=1.0 if events else 1 / 255)

    test = part(size.test)
    train, valid = with_validation(part(size.train), recipe.protocol)
    what = f"random samples of the same number and shape, {100 * density:g} % of the inputs not zero ({whose})"
    return Splits(train, valid or test, test, size.inputs, size.classes, what, size.family, size=size.size)


def _random_text(recipe: Recipe, vocabulary: int) -> Splits:
    data = recipe.data
    assert isinstance(data, TextConfig)
    lengths = _WORDS.get(data.name)
    if lengths is None:
        # It ships with Python: as long as it is.
        own = registry.load(data, recipe.protocol)
        lengths = {name: len(cast(TextSplit, own.split(name)).tokens) for name in ("train", "valid", "test")}
    generator = torch.Generator().manual_seed(0)
    parts = {
        name: TextSplit(torch.randint(0, vocabulary, (count,), generator=generator), data.bptt, f"random words: {name}")
        for name, count in lengths.items()
    }
    valid = parts["test" if recipe.protocol == "test" else "valid"]
    what = "as many random words"
    return Splits(parts["train"], valid, parts["test"], 1, vocabulary, what, family="language")
