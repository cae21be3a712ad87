"""The data of a training, and of trained networks that are measured: loaded, and compared with the network."""

from collections.abc import Callable
from pathlib import Path

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Cache
from hstnn_deploy.data.registry import load, shape
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import DataError
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import count_batches
from hstnn_deploy.train.observer import Observer


def for_training(recipe: Recipe, folder: Path | None, cache: Cache, observer: Observer) -> Splits:
    """Return the data of a recipe that is to be trained, and tell how many samples there are.

    Args:
        recipe: with a network for the data.
        folder: the data folder; None: the usual one.
        cache: where prepared recordings are kept.
        observer: what is told how it goes.

    Raises:
        UsageError: the recipe's network does not fit the data.
        DataError: it is missing or damaged, or a text is too short for the batch.
    """
    if (known := shape(recipe.data)) is not None:
        # Before recordings are prepared, which may take minutes.
        recipe.check_data(known)
    there = load(recipe.data, recipe.protocol, folder, cache, observer.preparing)
    recipe.check_data(there)
    held = "" if recipe.protocol == "test" else f", {len(there.valid)} validation"
    trained = f"{len(there.train)} training{held} and {len(there.test)} test samples"
    if isinstance(there.train, TextSplit):
        trained = f"{len(there.train.tokens)} of them to train on"
        for split in (there.train, there.valid, there.test):
            # Checked now, so that a text too short for the batch is refused before training.
            count_batches(split, recipe.batch)
    observer.note(f"data: {there.origin}, {trained}")
    return there


class Loader:
    """Loads the data of one network after another; what several have in common is loaded once.

    Args:
        folder: the data folder; None: the usual one.
        cache: where prepared recordings are kept.
        preparing: see `Observer.preparing`.
    """

    def __init__(
        self, folder: Path | None, cache: Cache, preparing: Callable[[str, int, int], None] = lambda *_: None
    ) -> None:
        self._how = (folder, cache, preparing)
        self._known: dict[str, Splits] = {}

    def of(self, checkpoint: Checkpoint) -> Splits:
        """Return the data of a network's own recipe.

        Raises:
            CheckpointError: it has no recipe.
            DataError: the data is missing or damaged, or its vocabulary is another one now.
        """
        recipe = checkpoint.resolved_recipe()
        key = f"{recipe.protocol} {recipe.data.model_dump_json()}"
        if key not in self._known:
            self._known[key] = load(recipe.data, recipe.protocol, *self._how)
        check_vocabulary(checkpoint, self._known[key])
        return self._known[key]


def check_vocabulary(checkpoint: Checkpoint, splits: Splits) -> None:
    """Refuse data whose vocabulary differs from the one that a network was trained with.

    A network that came from elsewhere may not say what its words are; then the data's are taken.

    Raises:
        DataError: it differs.
    """
    if checkpoint.vocabulary != splits.vocabulary and not (checkpoint.origin and not checkpoint.vocabulary):
        raise DataError(
            f"{checkpoint.source} was trained with another vocabulary than {checkpoint.resolved_recipe().data_called} "
            "has now",
            "give the text it was trained on with --data-dir",
        )
