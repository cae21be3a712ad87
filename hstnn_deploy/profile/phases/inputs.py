"""What a measured process works on: the recipe's data where it is at hand, else random data of the same size."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hstnn_deploy.data import registry
from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.splits import Batch, Split, Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.profile.phases.synthetic import nbytes, random_inputs, synthetic
from hstnn_deploy.profile.record import Configuration, Source
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.recipe.recipe import Recipe


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
    if why := no_data(recipe):
        if source == "real":
            raise DataError(f"{why}, so no real data is available", "leave out --data real")
        return random_inputs(recipe)
    absent = _absent(recipe, folder, source)
    if absent and source == "real":
        raise DataError(
            f"{recipe.data.name} is not available ({absent[0]} is missing)",
            "put its files into the data folder, or leave out --data real",
        )
    if absent or source == "synthetic":
        found = synthetic(recipe)
        why = (
            "as requested" if source == "synthetic" else f"{recipe.data.name} is not available ({absent[0]} is missing)"
        )
        what = f"synthetic: {found.origin}; {why}"
    else:
        found = registry.load(recipe.data, recipe.protocol, folder)
        recipe.check_data(found)
        what = f"real: {found.origin}"
    size = registry.shape(recipe.data)
    if steps is None or size is None or steps == size.steps:
        return found, what
    train, valid, test = (_Timed(found.split(name), steps) for name in ("train", "valid", "test"))
    found = replace(found, train=train, valid=valid, test=test)
    return found, f"{what}; {steps} steps per sample, cut or repeated from its own {size.steps}"


def _absent(recipe: Recipe, folder: Path | None, source: Source) -> list[str]:
    return [] if source == "synthetic" else registry.missing(recipe.data, folder)


def splits_of(configuration: Configuration, recipe: Recipe) -> tuple[Splits, str]:
    """Return the data of a configuration; see `splits`."""
    return splits(recipe, _folder(configuration), configuration.data, configuration.steps)


def held(configuration: Configuration, recipe: Recipe) -> int:
    """Return the bytes of main memory that a configuration's data takes at least; 0 where that is not known before.

    Real recordings are mapped from disk: processes share that memory, and it can be taken from them.

    Raises:
        DataError: the data folder is not there.
    """
    source = configuration.data
    real = source == "real" or not (source == "synthetic" or _absent(recipe, _folder(configuration), source))
    return 0 if real and isinstance(recipe.data, EventConfig) else nbytes(recipe)


def _folder(configuration: Configuration) -> Path | None:
    return Path(configuration.data_dir) if configuration.data_dir else None


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
